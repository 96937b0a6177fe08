// Finds a request's stop strings in the content among a reply's pieces: in reasoning and in calls they mean nothing,
// and a match does not go on across them. One for each text; one thread at a time.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "service/reply_piece.h"
#include "service/stop_strings.h"

namespace cortex {

class ContentStops {
 public:
  explicit ContentStops(std::vector<std::string> stops) : has_stops_(!stops.empty()), stops_(std::move(stops)) {}

  // What of the pieces may be shown now, with what was held back before them. Nothing behind a match.
  ReplyPieces push(const ReplyPieces& pieces);
  // The end of the text: what was held back.
  ReplyPieces finish();

  bool has_stops() const { return has_stops_; }
  bool matched() const { return stops_.matched(); }
  // Content that has come and is not shown: what may become a match, or stands from one on.
  std::size_t held_bytes() const { return held_bytes_; }
  std::size_t held_characters() const { return held_characters_; }

 private:
  void show(const std::string& text, ReplyPieces* shown);

  bool has_stops_;
  StopStrings stops_;
  std::size_t held_bytes_ = 0;
  std::size_t held_characters_ = 0;
};

}  // namespace cortex
