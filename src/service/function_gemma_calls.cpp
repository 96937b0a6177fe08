#include "service/function_gemma_calls.h"

#include <algorithm>

#include "base/json_writer.h"

namespace cortex {
namespace {

constexpr std::string_view kClosing = "<end_function_call>";
constexpr std::string_view kCall = "call:";
constexpr std::string_view kEscape = "<escape>";
constexpr std::string_view kBlanks = " \t\r\n";
constexpr int kMostDepth = 32;

// Reads a value and what it is made of from the front of a text.
class GemmaValues {
 public:
  explicit GemmaValues(std::string_view text) : rest_(text) {}

  bool read_value(int depth) {
    if (depth > kMostDepth) return false;
    skip_blanks();
    if (take(kEscape)) return read_text();
    if (take("{")) return read_items('}', depth);
    if (take("[")) return read_items(']', depth);
    const auto end = std::min(rest_.find_first_of(",}]"), rest_.size());
    std::string_view word = rest_.substr(0, end);
    word = word.substr(0, word.find_last_not_of(kBlanks) + 1);
    rest_.remove_prefix(end);
    json_.raw(word);
    return is_json(word);
  }
  bool at_end() const { return rest_.empty(); }
  std::string take_json() { return json_.take(); }

 private:
  bool take(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }

  void skip_blanks() { rest_.remove_prefix(std::min(rest_.find_first_not_of(kBlanks), rest_.size())); }

  bool read_text() {
    const auto end = rest_.find(kEscape);
    if (end == std::string_view::npos) return false;
    json_.string(rest_.substr(0, end));
    rest_.remove_prefix(end + kEscape.size());
    return true;
  }

  bool read_items(char closing, int depth) {
    const std::string_view end(&closing, 1);
    closing == '}' ? json_.begin_object() : json_.begin_array();
    skip_blanks();
    for (bool first = true; !take(end); first = false) {
      if (!first && !take(",")) return false;
      if (closing == '}' && !read_key()) return false;
      if (!read_value(depth + 1)) return false;
      skip_blanks();
    }
    closing == '}' ? json_.end_object() : json_.end_array();
    return true;
  }

  bool read_key() {
    skip_blanks();
    const auto end = rest_.find(':');
    if (end == std::string_view::npos || end == 0) return false;
    const std::string_view key = rest_.substr(0, end);
    json_.key(key.substr(0, key.find_last_not_of(kBlanks) + 1));
    rest_.remove_prefix(end + 1);
    return true;
  }

  std::string_view rest_;
  JsonWriter json_;
};

}  // namespace

void FunctionGemmaCalls::open(std::string_view) { text_.clear(); }

Progress FunctionGemmaCalls::read(char c, ReplyPieces* pieces) {
  text_ += c;
  if (!text_.ends_with(kClosing)) return Progress::more;
  const std::string_view call(text_.data(), text_.size() - kClosing.size());
  return tell(call, pieces);
}

bool FunctionGemmaCalls::may_end(ReplyPieces* pieces) { return tell(text_, pieces) == Progress::done; }

Progress FunctionGemmaCalls::tell(std::string_view call, ReplyPieces* pieces) const {
  const auto brace = call.find('{');
  if (!call.starts_with(kCall) || brace == std::string_view::npos) return Progress::failed;
  const std::string_view name = call.substr(kCall.size(), brace - kCall.size());
  if (std::find(names().begin(), names().end(), name) == names().end()) return Progress::failed;
  const auto arguments = json_of_gemma_arguments(call.substr(brace));
  if (!arguments) return Progress::failed;
  add_piece(pieces, PieceKind::call, name);
  add_piece(pieces, PieceKind::arguments, *arguments);
  add_piece(pieces, PieceKind::call_end, "");
  return Progress::done;
}

std::optional<std::string> json_of_gemma_arguments(std::string_view text) {
  if (is_json_object(text)) return std::string(text);
  GemmaValues values(text);
  if (!text.starts_with('{') || !values.read_value(0) || !values.at_end()) return std::nullopt;
  std::string json = values.take_json();
  return is_json_object(json) ? std::optional(std::move(json)) : std::nullopt;
}

}  // namespace cortex
