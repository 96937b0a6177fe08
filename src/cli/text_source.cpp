#include "cli/text_source.h"

#include <fmt/core.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "cli/interrupt.h"
#include "model/json_file.h"

namespace cortex {
namespace {

constexpr std::size_t kChunkBytes = 64 << 10;

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
    const std::string reason = folder ? "is a folder" : "can't be read: " + std::generic_category().message(errno);
    throw Error(ErrorCode::invalid_path, fmt::format("{}: {}", path, reason));
  }
  stream_ = file_.get();
  return true;
}

std::optional<std::string> TextSource::read_line() {
  std::string line;
  if (!std::getline(*stream_, line)) return std::nullopt;
  ++line_;
  if (line.ends_with('\r')) line.pop_back();
  return line;
}

std::optional<std::string> TextSource::read_rest() {
  std::string text;
  std::array<char, kChunkBytes> chunk{};
  while (text.size() <= kLongestTextBytes && (stream_->read(chunk.data(), chunk.size()) || stream_->gcount() > 0)) {
    text.append(chunk.data(), static_cast<std::size_t>(stream_->gcount()));
  }
  stream_ = nullptr;
  return text;
}

std::optional<SourceText> TextSource::next() {
  for (;;) {
    if (!stream_ && !open_next()) return std::nullopt;
    std::optional<std::string> text = form_ == TextForm::files ? read_rest() : read_line();
    InterruptWatch::check();
    if (!text) {
      stream_ = nullptr;
      continue;
    }
    const std::size_t index = seen_++;
    if (text->empty() && form_ != TextForm::files) continue;
    if (text->size() > kLongestTextBytes) {
      throw Error(ErrorCode::invalid_value, fmt::format("{}: more than {} bytes", where(), kLongestTextBytes));
    }
    if (form_ == TextForm::jsonl) text = text_of(*text, where());
    if (text->empty()) throw Error(ErrorCode::invalid_value, where() + ": is empty; a text is wanted");
    return SourceText{index, *std::move(text)};
  }
}

}  // namespace cortex
