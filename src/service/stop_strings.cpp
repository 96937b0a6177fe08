#include "service/stop_strings.h"

#include <algorithm>

namespace cortex {
namespace {

// Bytes at the end of `text` that begin `stop` but do not complete it.
std::size_t beginning_at_the_end(std::string_view text, std::string_view stop) {
  for (std::size_t size = std::min(text.size(), stop.size() - 1); size > 0; --size) {
    if (text.ends_with(stop.substr(0, size))) return size;
  }
  return 0;
}

}  // namespace

std::string StopStrings::show(std::size_t bytes) {
  std::string shown = held_.substr(0, bytes);
  held_.erase(0, bytes);
  shown_bytes_ += shown.size();
  return shown;
}

std::string StopStrings::push(std::string_view text) {
  if (matched_) return {};
  held_.append(text);
  std::size_t first_end = std::string::npos;
  std::size_t match = std::string::npos;
  std::size_t hold = 0;
  for (const auto& stop : stops_) {
    hold = std::max(hold, beginning_at_the_end(held_, stop));
    const std::size_t begin = held_.find(stop);
    if (begin == std::string::npos) continue;
    const std::size_t end = begin + stop.size();
    if (end < first_end || (end == first_end && begin < match)) {
      first_end = end;
      match = begin;
    }
  }
  if (match == std::string::npos) return show(held_.size() - hold);
  matched_ = true;
  std::string shown = show(match);
  held_.clear();
  return shown;
}

std::string StopStrings::pass(std::string_view text) {
  if (matched_) return {};
  held_.append(text);
  return show(held_.size());
}

std::string StopStrings::finish() { return matched_ ? std::string() : show(held_.size()); }

}  // namespace cortex
