// What a model is, as data: architectures fill these structs from their files, backends execute them. No architecture's
// name means anything to a backend. Plain values; any thread.
#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "model/weight.h"

namespace cortex {

enum class AttentionKind { full, sliding_window };
enum class Activation { silu, gelu, gelu_tanh, tanh };
enum class Pooling { cls, mean, last_token };

// Rotary embedding. The pair (i, i + dims/2) of a head turns by position * inverse_frequency(i).
// Sources: Su et al. 2021 (RoFormer); Peng et al. 2023 (YaRN); the llama3 scaling of Llama 3.1 as in transformers'
// modeling_rope_utils.
struct RopeSpec {
  enum class Scaling { none, linear, llama3, yarn };
  float theta = 10000.0f;
  int dims = 0;  // leading elements of a head that turn; even
  Scaling scaling = Scaling::none;
  float factor = 1.0f;
  float low_frequency_factor = 1.0f;
  float high_frequency_factor = 4.0f;
  int original_context = 0;          // tokens
  float beta_fast = 32.0f;           // yarn: turns in the original context above which a frequency is left alone,
  float beta_slow = 1.0f;            // and below which it is stretched by the whole factor
  bool truncate = true;              // yarn: the bounds of that range are whole pairs
  float magnitude = 1.0f;            // cosines and sines are multiplied by it (yarn's attention factor)
  std::vector<float> divisors = {};  // [dims / 2], or empty: each frequency is divided by its own (GGUF's rope_freqs)

  bool operator==(const RopeSpec&) const = default;
};

// [dims / 2], computed in double and rounded once.
std::vector<float> inverse_frequencies(const RopeSpec& rope);

struct DecoderLayerSpec {
  AttentionKind attention = AttentionKind::full;
  int window_tokens = 0;  // sliding_window only: a token sees itself and window_tokens - 1 before it
  bool experts = false;   // a mixture of experts in place of the feed-forward
};

// A mixture of experts: softmax over all experts, the best `per_token` of them (ties: the lower index), whose
// probabilities, made to sum to 1 when `normalised`, weigh their outputs. Source: Shazeer et al. 2017; Qwen3-MoE.
struct ExpertsSpec {
  int count = 0;
  int per_token = 0;
  int intermediate = 0;  // of each expert
  bool normalised = true;
};

// RMS norm of queries and keys before rope: none, over each head [head_dim], or over all heads at once
// [heads * head_dim].
enum class QueryKeyNorm { none, per_head, whole };

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
  std::optional<RopeSpec> window_rope;  // of sliding-window layers, where it is another
  float attention_scale = 0.0f;         // as a file states it, or 0: 1 / sqrt(head_dim)
  float embedding_scale = 1.0f;         // multiplies the embedding's rows
  QueryKeyNorm query_key_norm = QueryKeyNorm::none;
  bool pre_norm = true;    // x + f(norm(x)), for attention and feed-forward
  bool post_norm = false;  // x + norm(f(x)); with both, x + norm(f(norm(x)))
  std::optional<ExpertsSpec> experts;
  bool qkv_bias = false;
  bool output_bias = false;
  bool mlp_bias = false;
  bool tied_head = false;
  std::vector<DecoderLayerSpec> layers;

  // What query . key is multiplied by.
  float score_scale() const {
    return attention_scale != 0.0f ? attention_scale : 1.0f / std::sqrt(static_cast<float>(head_dim));
  }
};

struct EncoderLayerSpec {
  AttentionKind attention = AttentionKind::full;
  int reach_tokens = 0;  // sliding_window only: a token sees itself and so many to either side
};

// What a classifier makes of the last states: pooled, then dense and activation, norm, and one logit a label.
struct EncoderHeadSpec {
  Pooling pooling = Pooling::cls;
  Activation activation = Activation::tanh;  // of dense
  int labels = 1;
};

// Bidirectional attention: BERT's family (post-norm, learned positions) and ModernBERT's (pre-norm, rope, gated).
struct EncoderSpec {
  std::string architecture;  // for messages only
  int vocabulary = 0;
  int token_types = 0;  // 0: no token types
  int positions = 0;    // rows of the position table; 0: rope
  int hidden = 0;
  std::vector<EncoderLayerSpec> layers;
  int heads = 0;
  int head_dim = 0;
  int intermediate = 0;
  int context_tokens = 0;  // what a text may have, special tokens included
  float norm_epsilon = 1e-12f;
  Activation activation = Activation::gelu;
  bool pre_norm = false;  // x + f(norm(x)) and a final norm; otherwise norm(x + f(x))
  bool gated = false;     // the feed-forward is down(activation(gate) * up), otherwise down(activation(up))
  RopeSpec rope;          // where there are no positions
  std::optional<RopeSpec> window_rope;  // of sliding-window layers, where it is another
  Pooling pooling = Pooling::mean;      // of an embedder
  std::optional<EncoderHeadSpec> head;  // a classifier gives logits in place of a pooled state
};

// A layer has what its spec calls for.
struct ExpertWeights {
  Weight gate, up, down;  // [experts.intermediate, hidden] twice, [hidden, experts.intermediate]
};

struct DecoderLayerWeights {
  std::optional<Weight> attention_norm, mlp_norm;            // [hidden], pre_norm
  std::optional<Weight> attention_post_norm, mlp_post_norm;  // [hidden], post_norm
  Weight query, key, value, output;            // [heads * head_dim, hidden], ..., [hidden, heads * head_dim]
  std::optional<Weight> query_norm, key_norm;  // [head_dim], or [heads * head_dim] and [kv_heads * head_dim]
  std::optional<Weight> gate, up, down;        // [intermediate, hidden] twice, [hidden, intermediate]; without experts
  std::optional<Weight> router;                // [experts.count, hidden], with experts
  std::vector<ExpertWeights> experts;          // [experts.count], with experts
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
  Weight weight;               // [out, in]
  std::optional<Weight> bias;  // [out]
};
struct LayerNorm {
  Weight weight;               // [hidden]
  std::optional<Weight> bias;  // [hidden]
};

struct EncoderLayerWeights {
  std::optional<LayerNorm> attention_norm;  // ModernBERT's first layer has none
  Linear query, key, value, output;
  LayerNorm mlp_norm;
  std::optional<Linear> gate;  // gated
  Linear up, down;
};

struct EncoderHeadWeights {
  std::optional<Linear> dense;    // [hidden, hidden]
  std::optional<LayerNorm> norm;  // after the activation
  Linear out;                     // [labels, hidden]
};

struct EncoderWeights {
  Weight token_embedding;                    // [vocabulary, hidden]
  std::optional<Weight> position_embedding;  // [positions, hidden]
  std::optional<Weight> type_embedding;      // [token_types, hidden]
  LayerNorm embedding_norm;
  std::vector<EncoderLayerWeights> layers;
  std::optional<LayerNorm> final_norm;  // pre_norm
  std::optional<EncoderHeadWeights> head;
};

}  // namespace cortex
