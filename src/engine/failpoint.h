// Where tests have an engine fail: called where a fault would matter, with the phase and the tokens that it is about.
// What it throws is thrown there. The phases and their threads:
//
//   loading                 the loader's, as a model's weights come
//   grammar                 a compile's, before it
//   prompt, decode, encode  the engine's, as if a step's first instruction; the step's tokens. decode: rows that decode
//                           alone; prompt: any other step of a decoder; encode: an encoder's batch
//   draft                   the engine's, before a sequence is drafted for; the sequence's tokens
//   verify                  the engine's, before it is seen which drafts were right; what was sampled
//   write                   the disk store's, before a file of KV blocks
#pragma once

#include <functional>
#include <span>
#include <string_view>

#include "backend/step_plan.h"

namespace cortex {

using Failpoint = std::function<void(std::string_view phase, std::span<const TokenId> tokens)>;

}  // namespace cortex
