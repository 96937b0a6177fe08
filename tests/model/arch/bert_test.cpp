#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/safetensors.h"
#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

using testing::ElementsAre;
constexpr auto kCode = ErrorCode::invalid_config;

const EncoderModel& encoder(const Model& model) { return std::get<EncoderModel>(model.network); }

TEST(Bert, ReadsItsSpec) {
  const Model model = TemporaryModel("bert-mean").open();
  const EncoderSpec& spec = encoder(model).spec;
  EXPECT_EQ(spec.architecture, "bert");
  EXPECT_EQ(spec.vocabulary, 257);
  EXPECT_EQ(spec.positions, 320);
  EXPECT_EQ(spec.token_types, 2);
  EXPECT_EQ(spec.layers.size(), 3u);
  EXPECT_EQ(spec.heads, 4);
  EXPECT_EQ(spec.head_dim, 16);
  EXPECT_EQ(spec.intermediate, 128);
  EXPECT_EQ(spec.activation, Activation::gelu);
  EXPECT_EQ(spec.norm_epsilon, 1e-12f);
}

TEST(Bert, PutsTensorsInTheirSlots) {
  const Model model = TemporaryModel("bert-mean").open();
  const EncoderWeights& weights = encoder(model).weights;
  EXPECT_EQ(weights.token_embedding.tensor.name, "embeddings.word_embeddings.weight");
  EXPECT_THAT(weights.type_embedding->tensor.shape, ElementsAre(2, 64));
  ASSERT_EQ(weights.layers.size(), 3u);
  const EncoderLayerWeights& layer = weights.layers[2];
  EXPECT_EQ(layer.query.weight.tensor.name, "encoder.layer.2.attention.self.query.weight");
  EXPECT_EQ(layer.output.bias->tensor.name, "encoder.layer.2.attention.output.dense.bias");
  EXPECT_EQ(layer.attention_norm->weight.tensor.name, "encoder.layer.2.attention.output.LayerNorm.weight");
  EXPECT_EQ(layer.up.weight.tensor.name, "encoder.layer.2.intermediate.dense.weight");
  EXPECT_EQ(layer.down.weight.tensor.name, "encoder.layer.2.output.dense.weight");
  EXPECT_EQ(layer.mlp_norm.bias->tensor.name, "encoder.layer.2.output.LayerNorm.bias");
}

// Rewrites every tensor's name, and adds four-byte tensors of these names.
void rename(const TemporaryModel& folder, const std::string& prefix, const std::vector<std::string>& added) {
  const std::string bytes = folder.read("model.safetensors");
  std::string header, data;
  const auto add = [&](const std::string& name, const std::string& shape, const std::string& content) {
    header += (header.empty() ? "{\"" : ",\"") + name + R"(":{"dtype":"F32","shape":)" + shape +
              R"(,"data_offsets":[)" + std::to_string(data.size()) + "," +
              std::to_string(data.size() + content.size()) + "]}";
    data += content;
  };
  for (const TensorView& tensor : read_safetensors(memory_file(bytes))) {
    add(prefix + tensor.name, to_string(tensor.shape), bytes.substr(tensor.offset, tensor.bytes));
  }
  for (const auto& name : added) add(name, "[1]", "1234");
  folder.write("model.safetensors", safetensors_bytes(header + "}", data));
}

TEST(Bert, KnowsAndIgnoresWhatAnEmbeddingDoesNotNeed) {
  const TemporaryModel folder("bert-mean");
  rename(folder, "", {"pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids"});
  EXPECT_EQ(encoder(folder.open()).weights.layers.size(), 3u);
}

TEST(Bert, MayHaveAPrefix) {
  const TemporaryModel folder("bert-mean");
  rename(folder, "bert.", {"bert.pooler.dense.bias", "bert.embeddings.position_ids", "cls.predictions.bias"});
  EXPECT_EQ(encoder(folder.open()).weights.token_embedding.tensor.name, "bert.embeddings.word_embeddings.weight");
}

TEST(Bert, AClassifiersPoolerIsItsDenseLayer) {
  const Model model = TemporaryModel("bert-reranker").open();
  EXPECT_EQ(model.kind, ModelKind::rerank);
  EXPECT_THAT(model.labels, ElementsAre("LABEL_0"));
  const EncoderSpec& spec = encoder(model).spec;
  EXPECT_EQ(spec.head->labels, 1);
  EXPECT_EQ(spec.head->pooling, Pooling::cls);
  EXPECT_EQ(spec.head->activation, Activation::tanh);
  const EncoderHeadWeights& head = *encoder(model).weights.head;
  EXPECT_EQ(head.dense->weight.tensor.name, "bert.pooler.dense.weight");
  EXPECT_EQ(head.out.bias->tensor.name, "classifier.bias");
  EXPECT_FALSE(head.norm.has_value());
  EXPECT_FALSE(encoder(TemporaryModel("bert-mean").open()).weights.head.has_value());
}

TEST(Bert, LabelsAreHeldAgainstTheClassifier) {
  const TemporaryModel folder("bert-reranker");
  folder.replace("config.json", "\"id2label\"", "\"unused\"");
  expect_error(ErrorCode::invalid_weights, {"\"classifier.weight\"", "shape [1, 64], expected [2, 64]"},
               [&] { folder.open(); });
}

TEST(Bert, RefusesAHeadItDoesNotKnow) {
  const TemporaryModel folder("bert-mean");
  rename(folder, "bert.", {"classifier.weight"});
  expect_error(ErrorCode::invalid_weights, {"\"classifier.weight\"", "not a part"}, [&] { folder.open(); });
  const TemporaryModel longer("bert-mean");
  rename(longer, "", {"embeddings.position_ids_scale"});
  expect_error(ErrorCode::invalid_weights, {"\"embeddings.position_ids_scale\"", "not a part"}, [&] { longer.open(); });
}

TEST(Bert, RefusesConfigurationsItCannotRun) {
  const auto refused = [](const char* from, const char* to, const std::vector<std::string>& message) {
    const TemporaryModel folder("bert-mean");
    folder.replace("config.json", from, to);
    expect_error(kCode, message, [&] { folder.open(); });
  };
  refused("\"gelu\"", "\"relu\"", {"hidden_act: \"relu\"", "gelu"});
  refused("\"num_attention_heads\": 4", "\"num_attention_heads\": 5", {"num_attention_heads", "5", "64"});
  refused("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 1000000000", {"num_hidden_layers: 1000000000", "1024"});
  refused("\"hidden_size\": 64", "\"hidden_size\": 0", {"hidden_size: 0"});
  refused("\"vocab_size\": 257", "\"vocab_size\": 256", {"vocab_size: 256", "has 257 rows"});
  refused("\"is_decoder\": false", "\"is_decoder\": true", {"is_decoder"});
  refused("{", "{\"position_embedding_type\": \"relative_key\",", {"position_embedding_type: \"relative_key\""});
}

TEST(Bert, NamesTensorsThatAreMisshapen) {
  const TemporaryModel folder("bert-mean");
  folder.replace("config.json", "\"max_position_embeddings\": 320", "\"max_position_embeddings\": 321");
  expect_error(ErrorCode::invalid_weights,
               {"\"embeddings.position_embeddings.weight\"", "shape [320, 64], expected [321, 64]"},
               [&] { folder.open(); });
}

}  // namespace
}  // namespace cortex
