// Whether and how a model would fit into this server's memory, without loading it: what POST /estimate asks and is
// told. Plain values; the front is given the function.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace cortex {

struct MemoryQuestion {
  std::string model;                  // configured, known by name, or a path below the folders where models are kept
  std::optional<int> context_tokens;  // of each sequence; absent: the model's
  std::optional<int> sequences;       // at a time; absent: one
};

struct MemoryEstimate {
  bool fits = false;
  // Where it does not fit, of the smallest plan there is.
  std::uint64_t weight_bytes = 0;
  std::uint64_t kv_bytes = 0;
  std::uint64_t activation_bytes = 0;  // a step's scratch
  std::uint64_t grammar_bytes = 0;     // of what chats' grammars need, once there is one
  std::uint64_t cache_bytes = 0;       // that embeddings and scores may have in the front, beside the budget
  std::uint64_t budget_bytes = 0;      // of all models; without one, what this machine or its cgroup allows
  std::string weights;                 // "as_given", "q8", "q4": at most so many bits
  std::string kv;                      // "bf16", "q8"
  int blocks = 0;                      // of KV
  bool streaming = false;              // some layers are read from disk in every step
  std::vector<std::string> advice;     // settings that would make it fit, or fit better

  // That the budget is for.
  std::uint64_t engine_bytes() const { return weight_bytes + kv_bytes + activation_bytes + grammar_bytes; }
  std::uint64_t total_bytes() const { return engine_bytes() + cache_bytes; }
};

// Throws Error model_not_found, model_failed, or invalid_value for a path elsewhere or a context that it has not. Any
// thread.
using EstimateMemory = std::function<MemoryEstimate(const MemoryQuestion&)>;

}  // namespace cortex
