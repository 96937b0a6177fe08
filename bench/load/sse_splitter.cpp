#include "bench/load/sse_splitter.h"

#include <algorithm>

namespace cortex {

void SseSplitter::feed(std::string_view bytes, FunctionRef<std::string_view> event) {
  for (std::size_t end = bytes.find('\n'); end != std::string_view::npos; end = bytes.find('\n')) {
    if (line_.empty()) {
      end_line(bytes.substr(0, end), event);
    } else {
      line_ += bytes.substr(0, end);
      end_line(line_, event);
      line_.clear();
    }
    bytes.remove_prefix(end + 1);
  }
  line_ += bytes;
}

void SseSplitter::end_line(std::string_view line, FunctionRef<std::string_view> event) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.empty()) {
    if (has_data_) event(data_);
    data_.clear();
    has_data_ = false;
    return;
  }
  const std::string_view name = line.substr(0, line.find(':'));
  if (name != "data") return;
  line.remove_prefix(std::min(line.size(), name.size() + 1));
  if (line.starts_with(' ')) line.remove_prefix(1);
  if (has_data_) data_ += '\n';
  data_ += line;
  has_data_ = true;
}

}  // namespace cortex
