#include "cli/text_source.h"

#include <fmt/core.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "cli/characters.h"
#include "cli/interrupt.h"
#include "model/json_file.h"

namespace cortex {
namespace {

[[noreturn]] void fail_to_read(const std::string& name, int error) {
  throw Error(ErrorCode::invalid_path,
              fmt::format("{}: can't be read: {}", name, std::generic_category().message(error)));
}

std::string text_of(const std::string& line, const std::string& where) {
  const Value value = parse_json(line, where, ErrorCode::invalid_value);
  if (const auto* text = value.as<std::string>()) return *text;
  if (const auto* object = value.as<Value::Object>()) return (*object)->text("text");
  throw Error(
      ErrorCode::invalid_value,
      fmt::format("{}: {}; a JSON string or an object with a string \"text\" is wanted", where, describe(value)));
}

}  // namespace

TextSource::TextSource(std::vector<std::string> paths, TextForm form) : paths_(std::move(paths)), form_(form) {
  if (paths_.empty()) paths_.emplace_back("-");
}

std::string TextSource::where() const { return form_ == TextForm::files ? name_ : fmt::format("{}:{}", name_, line_); }

bool TextSource::open_next() {
  if (opened_ == paths_.size()) return false;
  const std::string& path = paths_[opened_++];
  line_ = 0;
  if (path == "-") {
    name_ = "standard input";
    stream_ = &std::cin;
    return true;
  }
  name_ = path;
  std::error_code ignored;
  const bool folder = std::filesystem::is_directory(path, ignored);
  file_ = std::make_unique<std::ifstream>(path, std::ios::binary);
  if (folder || !*file_) {
    if (!folder) fail_to_read(path, errno);
    throw Error(ErrorCode::invalid_path, path + ": is a folder");
  }
  stream_ = file_.get();
  return true;
}

// The next line, or all that is left; nothing where a line would begin at the end. One that is too long is left unread.
std::optional<std::string> TextSource::read_text() {
  constexpr int kEnd = std::char_traits<char>::eof();
  const bool whole = form_ == TextForm::files;
  std::string text;
  int c = kEnd;
  try {
    while (text.size() <= kLongestTextBytes && (c = stream_->rdbuf()->sbumpc()) != kEnd) {
      if (c == '\n' && !whole) break;
      text += static_cast<char>(c);
    }
  } catch (const std::ios_base::failure&) {  // a file's; standard input's failures are in its FILE
    fail_to_read(name_, errno);
  }
  InterruptWatch::check();
  if (stream_ == &std::cin && std::ferror(stdin) != 0) fail_to_read(name_, errno);
  if (whole) {
    stream_ = nullptr;
    return text;
  }
  ++line_;
  if (c == kEnd && text.empty()) return std::nullopt;
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

std::optional<SourceText> TextSource::next() {
  for (;;) {
    if (!stream_ && !open_next()) return std::nullopt;
    std::optional<std::string> text = read_text();
    if (!text) {
      stream_ = nullptr;
      continue;
    }
    const std::size_t index = seen_++;
    if (text->empty() && form_ != TextForm::files) continue;
    if (text->size() > kLongestTextBytes) {
      throw Error(ErrorCode::invalid_value, fmt::format("{}: more than {} bytes", where(), kLongestTextBytes));
    }
    if (const auto bad = first_bad_byte(*text)) {
      throw Error(ErrorCode::invalid_utf8, fmt::format("{}: not UTF-8 at byte {}", where(), *bad));
    }
    if (form_ == TextForm::jsonl) text = text_of(*text, where());
    if (text->empty()) throw Error(ErrorCode::invalid_value, where() + ": is empty; a text is wanted");
    return SourceText{index, *std::move(text)};
  }
}

}  // namespace cortex
