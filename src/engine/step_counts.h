// How many steps took about so long and computed about so many tokens, by what they carried: histograms that only grow.
// Plain values, about a kilobyte: the engine's thread counts, EngineStatus carries a copy.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <tuple>

namespace cortex {

// What a step computes.
enum class StepKind {
  prompt,  // parts of prompts, or of what is computed again of sequences that made room
  decode,  // each sequence's latest token, and the drafts behind it
  mixed,   // more than one of the others
  encode   // texts, of which nothing is sampled: an encoder's batch, or a decoder's
};
inline constexpr std::size_t kStepKinds = 4;
std::string_view name_of(StepKind kind);

// Upper bounds of a histogram's buckets, rising; above the last there is one bucket more.
using StepBounds = std::array<double, 15>;
inline constexpr StepBounds kStepSecondsBounds = {0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05,
                                                  0.1,    0.2,    0.5,   1.0,   2.0,   5.0,  10.0};
inline constexpr StepBounds kStepTokensBounds = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};

struct StepHistogram {
  // Values above the bound before and up to the bucket's own.
  std::array<std::uint64_t, std::tuple_size_v<StepBounds> + 1> buckets = {};
  double sum = 0.0;

  void observe(const StepBounds& bounds, double value);
  // Whether it may be the same histogram at an earlier time.
  bool is_part_of(const StepHistogram& later) const;
};

struct StepCount {
  StepHistogram seconds;  // that the device took
  StepHistogram tokens;   // that it computed, drafts among them
};

// By kind.
struct StepCounts {
  std::array<StepCount, kStepKinds> kinds;

  void observe(StepKind kind, double seconds, int tokens);
  const StepCount& of(StepKind kind) const { return kinds[static_cast<std::size_t>(kind)]; }
};

}  // namespace cortex
