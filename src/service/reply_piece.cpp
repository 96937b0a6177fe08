#include "service/reply_piece.h"

namespace cortex {

void add_piece(ReplyPieces* pieces, PieceKind kind, std::string_view text) {
  const bool is_text = kind == PieceKind::content || kind == PieceKind::reasoning || kind == PieceKind::arguments;
  if (is_text && text.empty()) return;
  if (is_text && !pieces->empty() && pieces->back().kind == kind) {
    pieces->back().text += text;
  } else {
    pieces->push_back({kind, std::string(text)});
  }
}

}  // namespace cortex
