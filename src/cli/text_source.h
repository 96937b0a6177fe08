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

class TextSource {
 public:
  // Of `paths`, "-" is standard input, which is also read when there are none.
  TextSource(std::vector<std::string> paths, TextForm form);

  // Nothing at the end. Throws Error invalid_path for a file that can't be read, invalid_value, with file and line, for
  // a text that is empty, too long or not in its form; Interrupted.
  std::optional<std::string> next();

 private:
  bool open_next();
  std::optional<std::string> read_line();
  std::optional<std::string> read_rest();
  std::string where() const;

  std::vector<std::string> paths_;
  TextForm form_;
  std::size_t opened_ = 0;  // of paths_
  std::string name_;        // of the open one
  std::size_t line_ = 0;
  std::unique_ptr<std::istream> file_;
  std::istream* stream_ = nullptr;  // file_ or standard input; nullptr before the first and after each
};

}  // namespace cortex
