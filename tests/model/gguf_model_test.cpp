#include "model/gguf_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <ctime>
#include <numeric>

#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

using testing::ElementsAre;

// Hidden 8, two heads of 4 over one of keys, one layer, five tokens. Values count up within each tensor.
class SmallGguf {
 public:
  GgufBytes keys = GgufBytes()
                       .string("general.architecture", "llama")
                       .integer("llama.block_count", 1)
                       .integer("llama.context_length", 64)
                       .integer("llama.embedding_length", 8)
                       .integer("llama.feed_forward_length", 6)
                       .integer("llama.attention.head_count", 2)
                       .integer("llama.attention.head_count_kv", 1)
                       .number("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  bool tied = true;
  bool biased = false;

  static std::string count(std::uint64_t elements) {
    std::vector<float> values(elements);
    std::iota(values.begin(), values.end(), 0.0f);
    return packed_floats(values);
  }
  static void add(GgufBytes* file, const char* name, const std::vector<std::uint64_t>& dimensions) {
    std::uint64_t elements = 1;
    for (const auto dimension : dimensions) elements *= dimension;
    file->tensor(name, dimensions, 0, count(elements));
  }
  SmallGguf& vocabulary() {
    keys.string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", "smollm")
        .strings("tokenizer.ggml.tokens", {"<|endoftext|>", "a", "b", "<|im_end|>", "<end_of_turns>"})
        .integers("tokenizer.ggml.token_type", {3, 1, 1, 4, 1})
        .strings("tokenizer.ggml.merges", {"a b"});
    return *this;
  }
  std::string bytes() const {
    GgufBytes file = keys;
    add(&file, "token_embd.weight", {8, 5});
    add(&file, "output_norm.weight", {8});
    if (!tied) add(&file, "output.weight", {8, 5});
    add(&file, "blk.0.attn_norm.weight", {8});
    add(&file, "blk.0.ffn_norm.weight", {8});
    add(&file, "blk.0.attn_q.weight", {8, 8});
    add(&file, "blk.0.attn_k.weight", {8, 4});
    add(&file, "blk.0.attn_v.weight", {8, 4});
    add(&file, "blk.0.attn_output.weight", {8, 8});
    add(&file, "blk.0.ffn_gate.weight", {8, 6});
    add(&file, "blk.0.ffn_up.weight", {8, 6});
    add(&file, "blk.0.ffn_down.weight", {6, 8});
    if (biased) {
      add(&file, "blk.0.attn_q.bias", {8});
      add(&file, "blk.0.attn_k.bias", {4});
      add(&file, "blk.0.attn_v.bias", {4});
    }
    return file.bytes();
  }
  Model open() const {
    const TemporaryFolder folder;
    folder.write("m.gguf", bytes());
    return open_model(real_file_system(), folder.path() / "m.gguf");
  }
};

const DecoderModel& decoder(const Model& model) { return std::get<DecoderModel>(model.network); }

TEST(GgufModel, ReadsSpecVocabularyAndStops) {
  SmallGguf file;
  file.vocabulary().keys.integer("tokenizer.ggml.bos_token_id", 0).integer("tokenizer.ggml.eos_token_id", 2);
  file.keys.string("tokenizer.chat_template", "{{ x }}").number("general.sampling.temp", 0.5f);
  const Model model = file.open();
  EXPECT_EQ(model.architecture, "llama");
  EXPECT_EQ(model.vocabulary(), 5);
  EXPECT_EQ(model.context_tokens(), 64);
  EXPECT_TRUE(decoder(model).spec.tied_head);
  EXPECT_EQ(decoder(model).spec.head_dim, 4);
  EXPECT_EQ(decoder(model).spec.rope.dims, 4);
  EXPECT_EQ(model.chat_template, "{{ x }}");
  EXPECT_EQ(model.generation.temperature, 0.5f);
  EXPECT_EQ(model.special_tokens.at("bos_token"), "<|endoftext|>");
  EXPECT_EQ(model.special_tokens.at("eos_token"), "b");
  const auto& vocabulary = std::get<GgufVocabulary>(model.tokenizer);
  EXPECT_EQ(vocabulary.pre, "smollm");
  EXPECT_THAT(vocabulary.merges, ElementsAre("a b"));
  EXPECT_FALSE(vocabulary.add_bos);
  // The end of the text and of the turn by name; "<end_of_turns>" is an ordinary token.
  EXPECT_THAT(model.stop_ids, ElementsAre(0, 2, 3));
}

TEST(GgufModel, QueriesAndKeysAreInterleaved) {
  const Model model = SmallGguf().vocabulary().open();
  const DecoderLayerWeights& layer = decoder(model).weights.layers[0];
  EXPECT_EQ(layer.query.interleaved_heads, 2);
  EXPECT_EQ(layer.key.interleaved_heads, 1);
  EXPECT_EQ(layer.value.interleaved_heads, 0);
  const std::vector<float> query = read_weight(layer.query);
  std::vector<float> first_column;
  for (std::size_t row = 0; row < 8; ++row) first_column.push_back(query[row * 8] / 8);
  EXPECT_THAT(first_column, ElementsAre(0, 2, 1, 3, 4, 6, 5, 7));
}

TEST(GgufModel, AHeadOfItsOwnAndBiases) {
  SmallGguf file;
  file.tied = false;
  file.biased = true;
  const Model model = file.vocabulary().open();
  EXPECT_FALSE(decoder(model).spec.tied_head);
  EXPECT_TRUE(decoder(model).weights.head.has_value());
  EXPECT_TRUE(decoder(model).spec.qkv_bias);
  EXPECT_THAT(read_weight(*decoder(model).weights.layers[0].key_bias), ElementsAre(0, 2, 1, 3));
  EXPECT_FALSE(decoder(model).spec.output_bias);
}

void expect_refused(ErrorCode code, const std::vector<std::string>& message, const SmallGguf& file) {
  expect_error(code, message, [&] { file.open(); });
}

TEST(GgufModel, RefusesABadVocabulary) {
  const auto code = ErrorCode::invalid_tokenizer;
  expect_refused(code, {"m.gguf: tokenizer.ggml.tokens: is missing"}, {});
  SmallGguf many;
  many.keys.string("tokenizer.ggml.model", "gpt2").strings("tokenizer.ggml.tokens", {"a", "b", "c", "d", "e", "f"});
  expect_refused(code, {"tokenizer.ggml.tokens: 6 tokens for an embedding of 5 rows, and token 5, \"f\""}, many);
  SmallGguf types;
  types.keys.string("tokenizer.ggml.model", "gpt2").strings("tokenizer.ggml.tokens", {"a"});
  types.keys.integers("tokenizer.ggml.token_type", {1, 1});
  expect_refused(code, {"token_type: 2 types for 1 tokens"}, types);
  SmallGguf type;
  type.keys.string("tokenizer.ggml.model", "gpt2").strings("tokenizer.ggml.tokens", {"a"});
  type.keys.integers("tokenizer.ggml.token_type", {7});
  expect_refused(code, {"token_type: 7 is not a type from 1 to 6"}, type);
  SmallGguf eos;
  eos.vocabulary().keys.integer("tokenizer.ggml.eos_token_id", 5);
  expect_refused(ErrorCode::invalid_config, {"eos_token_id: 5", "0 to 4"}, eos);
}

TEST(GgufModel, MarksOfTurnsAreNoOrdinaryTokens) {
  SmallGguf file;
  file.keys.string("tokenizer.ggml.model", "llama")
      .strings("tokenizer.ggml.tokens", {"<s>", "<start_of_turn>", "<end_of_turn>", "<|end_of_text|>", "a"})
      .integers("tokenizer.ggml.token_type", {3, 1, 1, 4, 1});
  const Model model = file.open();
  EXPECT_THAT(std::get<GgufVocabulary>(model.tokenizer).token_types, ElementsAre(3, 3, 3, 4, 1));
  EXPECT_THAT(model.stop_ids, ElementsAre(2, 3));
}

TEST(GgufModel, Llama3BeginsTextsWhereTheFileDoesNotSay) {
  const auto vocabulary = [](const SmallGguf& file) { return std::get<GgufVocabulary>(file.open().tokenizer); };
  SmallGguf file;
  file.keys.string("tokenizer.ggml.model", "gpt2")
      .string("tokenizer.ggml.pre", "llama-bpe")
      .strings("tokenizer.ggml.tokens", {"<|begin_of_text|>", "a"});
  EXPECT_FALSE(vocabulary(file).add_bos);  // it names no first token
  file.keys.integer("tokenizer.ggml.bos_token_id", 0);
  EXPECT_TRUE(vocabulary(file).add_bos);
  file.keys.boolean("tokenizer.ggml.add_bos_token", false);
  EXPECT_FALSE(vocabulary(file).add_bos);
}

TEST(GgufModel, RefusesAPartOfAModel) {
  SmallGguf whole;
  whole.vocabulary().keys.integer("split.count", 1);
  EXPECT_EQ(whole.open().architecture, "llama");
  SmallGguf part;
  part.keys = GgufBytes().integer("split.no", 1).integer("split.count", 3);  // no more than that in later parts
  expect_refused(ErrorCode::invalid_config, {"m.gguf: split.count: a model of 3 files"}, part);
}

TEST(GgufModel, TokensWithoutARowMayGoWhereNoTextMakesThem) {
  SmallGguf file;
  file.keys.string("tokenizer.ggml.model", "llama")
      .strings("tokenizer.ggml.tokens", {"<s>", "a", "b", "c", "d", "<image>", "[unused]"})
      .integers("tokenizer.ggml.token_type", {3, 1, 1, 1, 1, 3, 5})
      .floats("tokenizer.ggml.scores", {0.0f, -1.0f, -2.0f, -3.0f, -4.0f, -5.0f, -6.0f})
      .integer("tokenizer.ggml.eos_token_id", 4);
  const Model model = file.open();
  const auto& vocabulary = std::get<GgufVocabulary>(model.tokenizer);
  EXPECT_THAT(vocabulary.tokens, ElementsAre("<s>", "a", "b", "c", "d"));
  EXPECT_THAT(vocabulary.token_types, ElementsAre(3, 1, 1, 1, 1));
  EXPECT_THAT(vocabulary.scores, ElementsAre(0.0f, -1.0f, -2.0f, -3.0f, -4.0f));
  EXPECT_TRUE(vocabulary.add_bos);
  EXPECT_FALSE(vocabulary.marks_take_blanks);
  EXPECT_TRUE(vocabulary.add_space_prefix);
  file.keys.integer("tokenizer.ggml.padding_token_id", 5);
  expect_refused(ErrorCode::invalid_config, {"padding_token_id: 5", "0 to 4"}, file);
}

TEST(GgufModel, RefusesBadScores) {
  SmallGguf few;
  few.vocabulary().keys.floats("tokenizer.ggml.scores", {1.0f});
  expect_refused(ErrorCode::invalid_tokenizer, {"tokenizer.ggml.scores: 1 scores for 5 tokens"}, few);
  SmallGguf infinite;
  infinite.vocabulary().keys.floats("tokenizer.ggml.scores", {1.0f, 2.0f, INFINITY, 4.0f, 5.0f});
  expect_refused(ErrorCode::invalid_tokenizer, {"tokenizer.ggml.scores: inf", "not a number"}, infinite);
}

TEST(GgufModel, LlamaMayDivideItsFrequencies) {
  SmallGguf file;
  file.vocabulary().keys.tensor("rope_freqs.weight", {2}, 0, packed_floats({1.0f, 8.0f}));
  EXPECT_THAT(decoder(file.open()).spec.rope.divisors, ElementsAre(1.0f, 8.0f));
  SmallGguf zero;
  zero.vocabulary().keys.tensor("rope_freqs.weight", {2}, 0, packed_floats({1.0f, 0.0f}));
  expect_refused(ErrorCode::invalid_weights, {"\"rope_freqs.weight\": 0 is not a number from"}, zero);
  SmallGguf longer;
  longer.vocabulary().keys.tensor("rope_freqs.weight", {3}, 0, packed_floats({1.0f, 1.0f, 1.0f}));
  expect_refused(ErrorCode::invalid_weights, {"\"rope_freqs.weight\": shape [3], expected [2]"}, longer);
}

TEST(GgufModel, RefusesExpertsAndHeadsOfTwoSizes) {
  SmallGguf mixtral;
  mixtral.vocabulary().keys.integer("llama.expert_count", 8);
  expect_refused(ErrorCode::invalid_config, {"llama.expert_count: 8 experts"}, mixtral);
  SmallGguf none;
  none.vocabulary().keys.integer("llama.expert_count", 0);
  EXPECT_EQ(none.open().format, "GGUF F32");
  SmallGguf values;
  values.vocabulary().keys.integer("llama.attention.value_length", 8);
  expect_refused(ErrorCode::invalid_config, {"llama.attention.value_length: 8", "heads of one size"}, values);
}

TEST(GgufModel, YarnAsLlamaCppComputesIt) {
  SmallGguf file;
  file.vocabulary().keys.string("llama.rope.scaling.type", "yarn").number("llama.rope.scaling.factor", 4.0f);
  RopeSpec rope = decoder(file.open()).spec.rope;
  EXPECT_EQ(rope.scaling, RopeSpec::Scaling::yarn);
  EXPECT_EQ(rope.factor, 4.0f);
  EXPECT_EQ(rope.original_context, 64);
  EXPECT_FLOAT_EQ(rope.magnitude, 1.1386294f);
  file.keys.integer("llama.rope.scaling.original_context_length", 32)
      .number("llama.rope.scaling.attn_factor", 2.0f)
      .number("llama.rope.scaling.yarn_beta_fast", 16.0f);
  rope = decoder(file.open()).spec.rope;
  EXPECT_EQ(rope.original_context, 32);
  EXPECT_EQ(rope.beta_fast, 16.0f);
  EXPECT_FLOAT_EQ(rope.magnitude, 2.2772589f);
  file.keys.number("llama.rope.scaling.yarn_beta_slow", 16.0f);
  expect_refused(ErrorCode::invalid_config, {"yarn_beta_fast: 16 is not above yarn_beta_slow, 16"}, file);
}

TEST(GgufModel, RefusesOtherYarns) {
  const auto yarn = [] {
    SmallGguf file;
    file.vocabulary().keys.string("llama.rope.scaling.type", "yarn").number("llama.rope.scaling.factor", 4.0f);
    return file;
  };
  SmallGguf multiplied = yarn();
  multiplied.keys.number("llama.rope.scaling.yarn_log_multiplier", 0.1f);
  expect_refused(ErrorCode::invalid_config, {"yarn_log_multiplier: 0.1", "only 0"}, multiplied);
  SmallGguf mixed = yarn();
  mixed.keys.number("llama.rope.scaling.yarn_ext_factor", 0.5f);
  expect_refused(ErrorCode::invalid_config, {"yarn_ext_factor: 0.5", "only 1"}, mixed);
  SmallGguf flat = yarn();
  flat.keys.number("llama.rope.freq_base", 1.0f);
  expect_refused(ErrorCode::invalid_config, {"rope.scaling.type: yarn needs a rope.freq_base above 1"}, flat);
  SmallGguf longrope;
  longrope.vocabulary().keys.string("llama.rope.scaling.type", "longrope");
  expect_refused(ErrorCode::invalid_config, {"\"longrope\"", "none, linear, yarn"}, longrope);
}

TEST(GgufModel, RefusesOtherArchitecturesAndEncoders) {
  const auto open = [](const GgufBytes& file) {
    const TemporaryFolder folder;
    folder.write("m.gguf", file.bytes());
    return open_model(real_file_system(), folder.path() / "m.gguf");
  };
  const auto code = ErrorCode::invalid_config;
  expect_error(code, {"m.gguf: general.architecture", "\"mamba\"", "gemma3, llama"},
               [&] { open(GgufBytes().string("general.architecture", "mamba")); });
  expect_error(code, {"\"bert\"", "of GGUF, which is for decoders only"},
               [&] { open(GgufBytes().string("general.architecture", "bert")); });
  expect_error(code, {"general.architecture: is missing"}, [&] { open(GgufBytes()); });
  expect_error(ErrorCode::invalid_weights, {"\"token_embd.weight\": is missing"},
               [&] { open(GgufBytes().string("general.architecture", "llama")); });
}

// Interleaving moves the rows of whole heads, so a part of a head could not be told apart again.
TEST(GgufModel, RefusesRopeOverAPartOfAHead) {
  SmallGguf partial;
  partial.vocabulary().keys.integer("llama.rope.dimension_count", 2);
  expect_refused(ErrorCode::invalid_config, {"m.gguf: llama.rope.dimension_count: 2", "heads of 4 elements"}, partial);
  SmallGguf odd;
  odd.vocabulary().keys.integer("llama.attention.key_length", 5).integer("llama.rope.dimension_count", 4);
  expect_refused(ErrorCode::invalid_config, {"llama.rope.dimension_count: 4", "heads of 5 elements"}, odd);
  SmallGguf odd_alone;
  odd_alone.vocabulary().keys.integer("llama.attention.key_length", 5);
  expect_refused(ErrorCode::invalid_config, {"llama.attention.key_length: rope turns 5", "even"}, odd_alone);
}

TEST(GgufModel, RopeScalesAreKnownOrRefused) {
  SmallGguf one;
  one.vocabulary().keys.number("llama.rope.scale_linear", 1.0f).number("llama.rope.scaling.factor", 1.0f);
  EXPECT_EQ(decoder(one.open()).spec.rope.scaling, RopeSpec::Scaling::none);
  SmallGguf legacy;
  legacy.vocabulary().keys.number("llama.rope.scale_linear", 4.0f);
  expect_refused(ErrorCode::invalid_config, {"m.gguf: llama.rope.scale_linear: 4", "only 1"}, legacy);
  SmallGguf untyped;
  untyped.vocabulary().keys.number("llama.rope.scaling.factor", 4.0f);
  expect_refused(ErrorCode::invalid_config, {"m.gguf: llama.rope.scaling.factor: 4", "without llama.rope.scaling.type"},
                 untyped);
  SmallGguf typed;
  typed.vocabulary().keys.string("llama.rope.scaling.type", "linear").number("llama.rope.scaling.factor", 4.0f);
  EXPECT_EQ(decoder(typed.open()).spec.rope.factor, 4.0f);
}

TEST(GgufModel, RefusesUnknownTensors) {
  SmallGguf file;
  file.vocabulary();
  SmallGguf::add(&file.keys, "blk.0.attn_rot_embd.weight", {2});
  expect_refused(ErrorCode::invalid_weights, {"m.gguf", "\"blk.0.attn_rot_embd.weight\""}, file);
}

TEST(GgufModel, RefusesATruncatedFile) {
  const TemporaryFolder folder;
  const std::string whole = SmallGguf().vocabulary().bytes();
  for (const std::size_t kept : {whole.size() - 33, whole.size() / 2, std::size_t{10}, std::size_t{0}}) {
    folder.write("m.gguf", whole.substr(0, kept));
    expect_error(ErrorCode::invalid_weights, {"m.gguf"},
                 [&] { open_model(real_file_system(), folder.path() / "m.gguf"); });
  }
}

TEST(GgufModel, OpensTheDefaultDecoderQuickly) {
  const auto path = default_model("SmolLM2-135M-Instruct.Q4_1.gguf");
  const std::clock_t start = std::clock();
  const Model model = open_model(real_file_system(), path);
  const auto milliseconds = (std::clock() - start) * 1000 / CLOCKS_PER_SEC;  // of processor: others may be busy
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  EXPECT_LT(milliseconds, 3000);
#else
  EXPECT_LT(milliseconds, 100);
#endif
  const DecoderSpec& spec = decoder(model).spec;
  EXPECT_EQ(spec.layers.size(), 30u);
  EXPECT_EQ(spec.vocabulary, 49152);
  EXPECT_EQ(spec.kv_heads, 3);
  EXPECT_EQ(spec.head_dim, 64);
  EXPECT_EQ(spec.rope.theta, 100000.0f);
  EXPECT_TRUE(spec.tied_head);
  EXPECT_EQ(decoder(model).weights.embedding.tensor.dtype, DType::q8_0);
  EXPECT_EQ(decoder(model).weights.layers[29].down->tensor.dtype, DType::q4_1);
  EXPECT_THAT(decoder(model).weights.layers[0].key.tensor.shape, ElementsAre(192, 576));
  EXPECT_EQ(decoder(model).weights.layers[0].key.interleaved_heads, 3);
  EXPECT_THAT(model.stop_ids, ElementsAre(0, 2));
  EXPECT_EQ(model.special_tokens.at("bos_token"), "<|im_start|>");
  EXPECT_TRUE(model.chat_template.has_value());
  const auto& vocabulary = std::get<GgufVocabulary>(model.tokenizer);
  EXPECT_EQ(vocabulary.tokens.size(), 49152u);
  EXPECT_EQ(vocabulary.merges.front(), "Ġ t");
}

}  // namespace
}  // namespace cortex
