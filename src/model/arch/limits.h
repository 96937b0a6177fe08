// The largest sizes a configuration may name. Far above any model's, and small enough that no product of two of them
// overflows; checked before anything is allocated by them.
#pragma once

namespace cortex {

inline constexpr int kMaxVocabulary = 1 << 22;
inline constexpr int kMaxHidden = 1 << 16;
inline constexpr int kMaxIntermediate = 1 << 20;
inline constexpr int kMaxLayers = 1024;
inline constexpr int kMaxHeads = 1024;
inline constexpr int kMaxHeadDim = 1024;
inline constexpr int kMaxContext = 1 << 24;
inline constexpr int kMaxTokenTypes = 1024;
inline constexpr int kMaxExperts = 4096;          // of a layer
inline constexpr int kMaxModelExperts = 1 << 16;  // of all layers: each is there as three weights
inline constexpr int kMaxLabels = 4096;
inline constexpr double kLeastPositive = 1e-30;  // of what must be above 0
inline constexpr double kMaxTheta = 1e12;

}  // namespace cortex
