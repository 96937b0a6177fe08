// The texts a command is to work on, one after another, from files and pipes. One owner; one thread.
#pragma once

#include <cstddef>
#include <istream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cortex {

inline constexpr std::size_t kLongestTextBytes = 64 << 20;

enum class TextForm {
  lines,  // each line is a text
  jsonl,  // each line is a JSON string, or an object with a string "text"
  files,  // each file is a text
};

struct SourceText {
  std::size_t index = 0;  // among all lines, or files, of the source; empty lines count and are passed over
  std::string text;
};

class TextSource {
 public:
  // Of `paths`, "-" is standard input, which is also read when there are none.
  TextSource(std::vector<std::string> paths, TextForm form);

  // Nothing at the end. Throws Error invalid_path for a file that can't be read, and with file and line invalid_utf8,
  // or invalid_value for an empty file or a text that is too long or not in its form; Interrupted.
  std::optional<SourceText> next();

 private:
  bool open_next();
  std::optional<std::string> read_text();
  std::string where() const;

  std::vector<std::string> paths_;
  TextForm form_;
  std::size_t opened_ = 0;  // of paths_
  std::string name_;        // of the open one
  std::size_t line_ = 0;
  std::size_t seen_ = 0;  // lines, or files, so far
  std::unique_ptr<std::istream> file_;
  std::istream* stream_ = nullptr;  // file_ or standard input; nullptr before the first and after each
};

}  // namespace cortex
