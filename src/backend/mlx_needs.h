// What models take in MLX: weights and KV are float32 whatever the files have; scratch is an estimate, since MLX lays
// out each step itself. No MLX is needed to know it. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "backend/holding.h"
#include "model/spec.h"

namespace cortex {

// Freed buffers that MLX keeps for the next step: without a limit every new shape of a step adds some.
inline constexpr std::size_t kCacheBytes = std::size_t{64} << 20;
// Logits that are in memory at once.
inline constexpr std::size_t kLogitBytes = std::size_t{64} << 20;

// Backend::lacks().
std::optional<std::string> mlx_lacks(const DecoderHolding& holding);

DecoderNeeds mlx_needs(const DecoderSpec& spec, const DecoderWeights& weights, const DecoderHolding& holding);
EncoderNeeds mlx_needs(const EncoderSpec& spec, const EncoderWeights& weights);

}  // namespace cortex
