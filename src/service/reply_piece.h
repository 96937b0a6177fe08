// What a model's text is made of, in its order. Plain values.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cortex {

enum class PieceKind {
  content,
  reasoning,
  call,       // begins one; `text` is the tool's name
  arguments,  // of the call that began last, JSON
  call_end
};

struct ReplyPiece {
  PieceKind kind = PieceKind::content;
  std::string text;

  bool operator==(const ReplyPiece&) const = default;
};

using ReplyPieces = std::vector<ReplyPiece>;

// At the end of the pieces; joined with what is there of its kind.
void add_piece(ReplyPieces* pieces, PieceKind kind, std::string_view text);

}  // namespace cortex
