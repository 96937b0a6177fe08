// How a model lies in memory, and what that takes: what a plan of memory chooses and what it chooses by. Plain values;
// any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace cortex {

// At most how many bits a matrix's values take. What the file has in fewer stays as it is, and so do norms and biases;
// with four bits, what is looked up or makes logits has eight.
enum class WeightPrecision : std::uint8_t { as_given, bits_8, bits_4 };
std::string_view name_of(WeightPrecision precision);  // "as given", "8-bit", "4-bit"

inline constexpr int kAllLayers = std::numeric_limits<int>::max();

struct DecoderHolding {
  WeightPrecision weights = WeightPrecision::as_given;
  bool kv_8_bits = false;            // keys and values take 8 bits each
  int resident_layers = kAllLayers;  // the others are read from disk in every step
  int rows_per_step = 512;           // at most: what scratch is planned for
  // Where layers that don't stay lie packed, and what the model's files are known by; needed for these only.
  std::filesystem::path stream_folder{};
  std::string fingerprint{};
};

// Layers in memory at a time of those that don't stay: one computes, the next is read.
inline constexpr int kStreamedAtOnce = 2;

// Whether a layer is one of those that don't stay: they are spread evenly, so that each is read while others compute.
bool is_streamed(int layer, int layers, int resident_layers);

struct DecoderNeeds {
  std::uint64_t fixed_bytes = 0;  // what always stays: embedding, head, last norm
  std::vector<std::uint64_t> layer_bytes;
  std::uint64_t kv_kept_bytes = 0;   // of a KV block: KvGeometry's
  std::uint64_t kv_block_bytes = 0;  // of memory for it, with what it takes besides to compute on it
  std::uint64_t step_bytes = 0;      // scratch of a step of rows_per_step rows, with logits

  int layers() const { return static_cast<int>(layer_bytes.size()); }
  // Of all weights in memory at a time.
  std::uint64_t weight_bytes(int resident_layers) const;
};

struct EncoderNeeds {
  std::uint64_t weight_bytes = 0;
  std::uint64_t step_bytes = 0;  // scratch, of a text as long as the model takes
};

}  // namespace cortex
