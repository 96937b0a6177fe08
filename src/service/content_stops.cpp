#include "service/content_stops.h"

#include "service/choice_text.h"

namespace cortex {

ReplyPieces ContentStops::push(const ReplyPieces& pieces) {
  ReplyPieces shown;
  for (const auto& piece : pieces) {
    if (piece.kind == PieceKind::content) {
      held_bytes_ += piece.text.size();
      held_characters_ += count_characters(piece.text);
      show(stops_.push(piece.text), &shown);
      continue;
    }
    show(stops_.pass({}), &shown);
    if (!matched()) add_piece(&shown, piece.kind, piece.text);
  }
  return shown;
}

ReplyPieces ContentStops::finish() {
  ReplyPieces shown;
  show(stops_.finish(), &shown);
  return shown;
}

void ContentStops::show(const std::string& text, ReplyPieces* shown) {
  held_bytes_ -= text.size();
  held_characters_ -= count_characters(text);
  add_piece(shown, PieceKind::content, text);
}

}  // namespace cortex
