// What an engine is started with. Plain values: they cross to the worker process.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/model_config.h"

namespace cortex {

struct EngineOptions {
  std::vector<ModelConfig> models;
  std::string backend = "auto";               // "auto", "cpu" or "mlx"
  int threads = 0;                            // 0: one per core this process may use
  bool exact = false;                         // float32 products, where a backend would round to multiply faster
  std::optional<std::uint64_t> kv_bytes;      // of each decoder's pool; without it as memory_plan.h says
  std::optional<std::uint64_t> memory_bytes;  // of weights, KV and scratch of all models; without it no limit
  std::string stream_dir;  // where weights that don't fit are kept packed, to be read a layer at a time
  int idle_unload_s = 0;   // a model that nobody has asked for so long is unloaded; 0: never
  std::string kv_dir;      // of the disk tier; empty: there is none
  std::uint64_t kv_disk_bytes = std::uint64_t{4} << 30;  // at most, of all models' blocks
  std::uint64_t kv_write_bytes_per_day = std::uint64_t{64} << 30;
  std::uint64_t kv_disk_free_bytes = std::uint64_t{1} << 30;  // that the tier leaves free on its file system
  bool speculation = true;                                    // tokens are drafted where that saves time
  int max_sequences = 64;                                     // running at a time, of each decoder
  int rows_per_step = 512;
  int encode_batch_tokens = 4096;
  int idle_turn_ms = 1000;  // the loop turns at least so often while it has nothing to do; at least 1
};

}  // namespace cortex
