// What a model is, as data: architectures fill these structs from their files, backends execute them. No architecture's
// name means anything to a backend. Plain values; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/tensor_view.h"

namespace cortex {

enum class AttentionKind { full, sliding_window };
enum class Activation { silu, gelu, gelu_tanh };

// Rotary embedding. The pair (i, i + dims/2) of a head turns by position * inverse_frequency(i).
// Sources: Su et al. 2021 (RoFormer); the llama3 scaling of Llama 3.1 as in transformers' modeling_rope_utils.
struct RopeSpec {
  enum class Scaling { none, linear, llama3 };
  float theta = 10000.0f;
  int dims = 0;  // leading elements of a head that turn; even
  Scaling scaling = Scaling::none;
  float factor = 1.0f;
  float low_frequency_factor = 1.0f;
  float high_frequency_factor = 4.0f;
  int original_context = 0;  // tokens
};

// [dims / 2], computed in double and rounded once.
std::vector<float> inverse_frequencies(const RopeSpec& rope);

struct DecoderLayerSpec {
  AttentionKind attention = AttentionKind::full;
  int window_tokens = 0;  // sliding_window only: a token sees itself and window_tokens - 1 before it
};

struct DecoderSpec {
  std::string architecture;  // for messages only
  int vocabulary = 0;
  int hidden = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int intermediate = 0;
  int context_tokens = 0;
  float norm_epsilon = 1e-5f;
  Activation activation = Activation::silu;  // gate's; the feed-forward is down(activation(gate) * up)
  RopeSpec rope;
  bool qkv_bias = false;
  bool output_bias = false;
  bool mlp_bias = false;
  bool tied_head = false;
  std::vector<DecoderLayerSpec> layers;
};

enum class Pooling { cls, mean, last_token };

// BERT's family: bidirectional attention, post-norm, learned positions.
struct EncoderSpec {
  std::string architecture;  // for messages only
  int vocabulary = 0;
  int token_types = 0;
  int positions = 0;  // rows of the position table
  int hidden = 0;
  int layers = 0;
  int heads = 0;
  int head_dim = 0;
  int intermediate = 0;
  int context_tokens = 0;  // what a text may have, special tokens included
  float norm_epsilon = 1e-12f;
  Activation activation = Activation::gelu;
  Pooling pooling = Pooling::mean;
  bool normalise = false;  // the model's own pipeline ends in a normalisation
};

// A matrix [out, in] or a vector [n] as its file holds it.
struct Weight {
  TensorView tensor;
  // > 0: the rows of each head lie in the order of interleaved rope (GGUF's llama): row 2i and 2i+1 are what halves put
  // at i and i + head_dim/2. Readers undo it by moving whole rows, which is exact.
  int interleaved_heads = 0;
};

// The whole weight as float32, rows in the spec's order, into `out` [rows, columns]; takes little memory besides.
// Throws Error weights_io_error.
void read_weight(const Weight& weight, std::span<float> out);
std::vector<float> read_weight(const Weight& weight);

struct DecoderLayerWeights {
  Weight attention_norm, mlp_norm;   // [hidden]
  Weight query, key, value, output;  // [heads * head_dim, hidden], ..., [hidden, heads * head_dim]
  Weight gate, up, down;             // [intermediate, hidden] twice, [hidden, intermediate]
  std::optional<Weight> query_bias, key_bias, value_bias, output_bias;  // qkv_bias, output_bias
  std::optional<Weight> gate_bias, up_bias, down_bias;                  // mlp_bias
};

struct DecoderWeights {
  Weight embedding;  // [vocabulary, hidden]
  std::vector<DecoderLayerWeights> layers;
  Weight final_norm;           // [hidden]
  std::optional<Weight> head;  // [vocabulary, hidden]; absent when tied
};

struct Linear {
  Weight weight;  // [out, in]
  Weight bias;    // [out]
};
struct LayerNorm {
  Weight weight, bias;  // [hidden]
};

struct EncoderLayerWeights {
  Linear query, key, value, output;
  LayerNorm attention_norm;
  Linear up, down;
  LayerNorm mlp_norm;
};

struct EncoderWeights {
  Weight token_embedding;     // [vocabulary, hidden]
  Weight position_embedding;  // [positions, hidden]
  Weight type_embedding;      // [token_types, hidden]
  LayerNorm embedding_norm;
  std::vector<EncoderLayerWeights> layers;
};

}  // namespace cortex
