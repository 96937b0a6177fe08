// What executes a spec on a device. A Backend is a library and the device it drives; it loads models into
// DecoderBackends and EncoderBackends. Owned by the worker's engine. load_* is called on a loader thread, everything
// else by the engine thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/holding.h"
#include "backend/step_plan.h"
#include "model/spec.h"

namespace cortex {

struct KvGeometry {
  std::size_t block_bytes = 0;  // K and V of all layers for kBlockTokens tokens
  std::string layout;           // how a block's bytes are ordered: part of its key
  std::string numeric_class;    // which arithmetic made them: equal class, equal bytes
};

// One decoder on one device.
//
// Invariants that callers keep: a position's K and V are written before a later row of the same sequence reads them
// (slices of one sequence come in order); block ids are below what was reserved; tokens are below the vocabulary.
// A breach throws CheckFailure or Error invalid_token_id before anything is computed.
class DecoderBackend {
 public:
  virtual ~DecoderBackend() = default;
  virtual KvGeometry kv_geometry() const = 0;
  // Makes a pool of `blocks` blocks; drops what an earlier pool held.
  virtual void reserve_kv(int blocks) = 0;
  virtual void submit(const StepPlan& plan) = 0;
  // Waits for the submitted step. Throws what the step threw, and CheckFailure when none was submitted.
  virtual void collect(StepResult* result) = 0;
  // Bytes of whole blocks, [blocks.size() * block_bytes], out of the pool and back into it.
  virtual void read_blocks(std::span<const BlockId> blocks, std::span<std::byte> out) = 0;
  virtual void write_blocks(std::span<const BlockId> blocks, std::span<const std::byte> bytes) = 0;
  // Their content is not needed any more: gives memory back where the device can.
  virtual void discard(std::span<const BlockId> blocks) = 0;
  // Lets the system find memory for these blocks now, so that nobody waits for it at their first use: that may take
  // longer than to fill them. What they hold stays.
  virtual void prepare(std::span<const BlockId> blocks) = 0;
  // Bytes that weights, pool and scratch hold now.
  virtual std::size_t memory_bytes() const = 0;
  // Bytes that the device's own allocator has for all models of the process, with what it keeps for the next step; 0
  // where there is no such.
  virtual std::size_t device_bytes() const { return 0; }
  // Gives back what that keeps.
  virtual void trim() {}
};

// Texts one after another, without padding.
struct PackedTexts {
  std::vector<TokenId> tokens;       // [T]
  std::vector<std::int32_t> types;   // [T] token types (segment of a pair), or empty: all 0
  std::vector<std::int32_t> starts;  // [N + 1]; text i is tokens [starts[i], starts[i + 1]), never empty
  bool hidden = false;               // per-token states too
};

struct EncodeResult {
  int dimensions = 0;
  std::vector<float> pooled;  // [N, dimensions], not normalised
  std::vector<float> hidden;  // [T, dimensions] when wanted
};

class EncoderBackend {
 public:
  virtual ~EncoderBackend() = default;
  virtual void encode(const PackedTexts& texts, EncodeResult* result) = 0;
  virtual std::size_t memory_bytes() const = 0;
  // As a decoder's.
  virtual std::size_t device_bytes() const { return 0; }
  virtual void trim() {}
};

using LoadProgress = std::function<void(double fraction)>;  // 0..1, on the loading thread

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;    // "cpu", "mlx"
  virtual std::string_view device() const = 0;  // "cpu", "metal", "cuda"
  // The first feature of the spec that this backend can't execute, or nothing.
  virtual std::optional<std::string> lacks(const DecoderSpec& spec) const = 0;
  virtual std::optional<std::string> lacks(const EncoderSpec& spec) const = 0;
  // The first thing that a holding asks for and this backend can't do, or nothing.
  virtual std::optional<std::string> lacks(const DecoderHolding& holding) const = 0;
  // What a model takes when it is held so: arithmetic over shapes and formats; reads no weights.
  virtual DecoderNeeds needs(const DecoderSpec& spec, const DecoderWeights& weights,
                             const DecoderHolding& holding) const = 0;
  virtual EncoderNeeds needs(const EncoderSpec& spec, const EncoderWeights& weights,
                             WeightPrecision precision) const = 0;
  // Reads, converts and evaluates the weights. Throws Error weights_io_error, memory_pressure or model_failed, and
  // not_supported for what it lacks.
  virtual std::unique_ptr<DecoderBackend> load(const DecoderSpec& spec, const DecoderWeights& weights,
                                               const DecoderHolding& holding, const LoadProgress& progress) = 0;
  virtual std::unique_ptr<EncoderBackend> load(const EncoderSpec& spec, const EncoderWeights& weights,
                                               WeightPrecision precision, const LoadProgress& progress) = 0;

  // All in memory, as the files have it.
  std::unique_ptr<DecoderBackend> load(const DecoderSpec& spec, const DecoderWeights& weights,
                                       const LoadProgress& progress) {
    return load(spec, weights, DecoderHolding{}, progress);
  }
  std::unique_ptr<EncoderBackend> load(const EncoderSpec& spec, const EncoderWeights& weights,
                                       const LoadProgress& progress) {
    return load(spec, weights, WeightPrecision::as_given, progress);
  }
};

struct BackendOptions {
  int threads = 0;     // 0: one per core this process may use
  bool exact = false;  // float32 products
};

// "cpu", "mlx" or "auto" (mlx where it has a GPU, else cpu). Throws Error invalid_option for another name, or when
// the named one can't run here, with the reason.
std::unique_ptr<Backend> open_backend(std::string_view name, const BackendOptions& options);

}  // namespace cortex
