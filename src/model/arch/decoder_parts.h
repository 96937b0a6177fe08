// What the configurations of decoder architectures share: dimensions, windows, activations, as config.json and GGUF
// metadata write them. Stateless; any thread.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/fields.h"
#include "model/spec.h"
#include "model/tensor_map.h"

namespace cortex {

// What an architecture's configurations may leave out, and how they call their activation.
struct DecoderDefaults {
  int head_dim = 0;  // 0: the heads share the hidden size
  bool tied_head = false;
  float norm_epsilon = 1e-6f;
  std::string_view activation_field = "hidden_act";
  Activation activation = Activation::silu;
};

// Dimensions, norm, activation and tied head of config.json; rope is not read, and biases and windows stay off. Throws
// Error invalid_config.
DecoderSpec read_decoder_config(const Fields& config, const DecoderDefaults& defaults = {});

// The same of GGUF metadata, whose keys begin with `architecture` and a dot, with rope, and a window as that of all
// layers. The vocabulary is the embedding's rows, the head is tied when its tensor is absent.
DecoderSpec read_decoder_metadata(const Fields& metadata, std::string_view architecture, const TensorMap& tensors);

// The kind of attention of every layer: as layer_types lists them, or where a file has no such list as `slides` says of
// a layer's index. Layers that slide see `window_tokens`; 0: the file has no window. Throws Error invalid_config.
void read_windows(const Fields& config, int window_tokens, const std::function<bool(int)>& slides, DecoderSpec* spec);

// Qwen's windows: none without use_sliding_window, else of the layers from max_window_layers on.
void read_late_windows(const Fields& config, DecoderSpec* spec);

// layer_types as it stands, one for each of `layers`; nothing where the file has none.
std::optional<std::vector<AttentionKind>> read_layer_types(const Fields& config, std::size_t layers);

// Throws Error invalid_config when the embedding has another number of rows than vocab_size says.
void check_vocabulary(const Fields& config, int vocabulary, const std::string& embedding, const TensorMap& tensors);

// "silu", "gelu", ... at `field`. Throws Error invalid_config with those known.
Activation read_activation(const Fields& config, std::string_view field, Activation fallback);

}  // namespace cortex
