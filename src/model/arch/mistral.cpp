// Mistral 7B and its kin: Llama's layers, all with a sliding window where the configuration has one.
#include <string_view>
#include <utility>

#include "model/arch/architectures.h"
#include "model/arch/decoder_parts.h"
#include "model/arch/decoder_tensors.h"
#include "model/arch/limits.h"
#include "model/arch/rope_fields.h"

namespace cortex {
namespace {

// Of configurations that do not mention one; null says that there is none.
constexpr int kDefaultWindow = 4096;

int read_window(const Fields& config) {
  constexpr std::string_view kField = "sliding_window";
  return config.is_null(kField) ? 0 : config.find_integer(kField, 1, kMaxContext).value_or(kDefaultWindow);
}

}  // namespace

Network mistral_from_huggingface(const Fields& config, TensorMap* tensors) {
  DecoderSpec spec = read_decoder_config(config);
  spec.rope = read_rope(config, spec.head_dim);
  const int window = read_window(config);
  read_windows(config, window, [&](int) { return window > 0; }, &spec);
  return take_huggingface_decoder(config, std::move(spec), huggingface_decoder_names(*tensors), tensors);
}

}  // namespace cortex
