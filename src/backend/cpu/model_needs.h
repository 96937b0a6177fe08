// What models take on the processor, by arithmetic: weights are laid out as loading lays them out, in an arena that
// only measures, and scratch is counted as steps make it. Pure.
#pragma once

#include "backend/cpu/packing.h"
#include "backend/cpu/projection.h"
#include "backend/holding.h"
#include "model/spec.h"

namespace cortex {

// What matrices of floats become.
FloatPacking floats_in_layers(WeightPrecision precision, Arithmetic arithmetic);
FloatPacking floats_outside_layers(WeightPrecision precision, Arithmetic arithmetic);

// Wanted rows that pass the head together, in steps of at most so many rows: enough to share its weights, few enough
// for the logits to stay small.
int head_rows(int rows_per_step);

// Rows that pass all layers of an encoder together: what they are computed in stays in cache. A longer text passes
// alone.
inline constexpr int kEncoderRows = 512;

// `threads` of the team.
DecoderNeeds decoder_needs(const DecoderSpec& spec, const DecoderWeights& weights, const DecoderHolding& holding,
                           Arithmetic arithmetic, int threads);
EncoderNeeds encoder_needs(const EncoderSpec& spec, const EncoderWeights& weights, WeightPrecision precision,
                           Arithmetic arithmetic);

}  // namespace cortex
