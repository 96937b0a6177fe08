#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/safetensors.h"
#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

using testing::ElementsAre;
constexpr auto kCode = ErrorCode::invalid_config;

const DecoderModel& decoder(const Model& model) { return std::get<DecoderModel>(model.network); }

TEST(Qwen3Moe, ReadsItsExperts) {
  for (const char* name : {"qwen3-moe", "qwen3-moe-old"}) {
    const Model model = TemporaryModel(name).open();
    const DecoderSpec& spec = decoder(model).spec;
    ASSERT_TRUE(spec.experts.has_value());
    EXPECT_EQ(spec.experts->count, 8);
    EXPECT_EQ(spec.experts->per_token, 2);
    EXPECT_EQ(spec.experts->intermediate, 48);
    EXPECT_TRUE(spec.experts->normalised);
    EXPECT_TRUE(spec.layers[0].experts);
    EXPECT_EQ(spec.query_key_norm, QueryKeyNorm::per_head);
    EXPECT_EQ(spec.rope.theta, 1e6f);
  }
}

TEST(Qwen3Moe, HasABoundForAllItsExperts) {
  const TemporaryModel folder("qwen3-moe");
  folder.replace("config.json", "\"num_local_experts\": 8", "\"num_local_experts\": 4096");
  folder.replace("config.json", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 17");
  expect_error(kCode, {"num_local_experts", "4096 experts in each of 17 layers are more than 65536 in all"},
               [&] { folder.open(); });
}

TEST(Qwen3Moe, PutsExpertsInTheirSlots) {
  const Model model = TemporaryModel("qwen3-moe").open();
  const DecoderLayerWeights& layer = decoder(model).weights.layers[1];
  EXPECT_EQ(layer.router->tensor.name, "model.layers.1.mlp.gate.weight");
  EXPECT_THAT(layer.router->tensor.shape, ElementsAre(8, 64));
  ASSERT_EQ(layer.experts.size(), 8u);
  EXPECT_EQ(layer.experts[7].up.tensor.name, "model.layers.1.mlp.experts.7.up_proj.weight");
  EXPECT_THAT(layer.experts[0].down.tensor.shape, ElementsAre(64, 48));
  EXPECT_FALSE(layer.gate.has_value());
}

TEST(Qwen3Moe, SomeLayersMayHaveNone) {
  const auto expects_dense = [](const char* from, const char* to, const char* tensor) {
    const TemporaryModel folder("qwen3-moe");
    folder.replace("config.json", from, to);
    expect_error(ErrorCode::invalid_weights, {tensor, "is missing"}, [&] { folder.open(); });
  };
  expects_dense("\"decoder_sparse_step\": 1", "\"decoder_sparse_step\": 2", "\"model.layers.0.mlp.gate_proj.weight\"");
  expects_dense("\"mlp_only_layers\": []", "\"mlp_only_layers\": [1]", "\"model.layers.1.mlp.gate_proj.weight\"");
}

// The experts of every layer, rewritten as one tensor a kind.
class StackedModel : public TemporaryModel {
 public:
  StackedModel() : TemporaryModel("qwen3-moe") {
    const std::string bytes = read("model.safetensors");
    for (const TensorView& tensor : read_safetensors(memory_file(bytes))) {
      tensors_[tensor.name] = {to_string(tensor.shape), bytes.substr(tensor.offset, tensor.bytes)};
    }
  }
  std::string take(const std::string& name) { return tensors_.extract(name).mapped().second; }
  void put(const std::string& name, const std::string& shape, const std::string& data) {
    tensors_[name] = {shape, data};
  }
  Model open() const {
    std::string header, data;
    for (const auto& [name, tensor] : tensors_) {
      header += (header.empty() ? "{\"" : ",\"") + name + R"(":{"dtype":"F32","shape":)" + tensor.first +
                R"(,"data_offsets":[)" + std::to_string(data.size()) + "," +
                std::to_string(data.size() + tensor.second.size()) + "]}";
      data += tensor.second;
    }
    write("model.safetensors", safetensors_bytes(header + "}", data));
    return TemporaryModel::open();
  }
  template <typename Stack>
  void stack(Stack stack_layer) {
    for (int layer = 0; layer < 3; ++layer) stack_layer("model.layers." + std::to_string(layer) + ".mlp.");
  }

 private:
  std::map<std::string, std::pair<std::string, std::string>> tensors_;  // shape and bytes
};

void expect_experts_as_they_were(const Model& stacked) {
  const Model apart = TemporaryModel("qwen3-moe").open();
  for (std::size_t layer = 0; layer < 3; ++layer) {
    const auto& actual = decoder(stacked).weights.layers[layer].experts;
    const auto& expected = decoder(apart).weights.layers[layer].experts;
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) {
      EXPECT_EQ(read_weight(actual[i].gate), read_weight(expected[i].gate));
      EXPECT_EQ(read_weight(actual[i].up), read_weight(expected[i].up));
      EXPECT_EQ(read_weight(actual[i].down), read_weight(expected[i].down));
      EXPECT_THAT(actual[i].down.shape(), ElementsAre(64, 48));
    }
  }
}

TEST(Qwen3Moe, ExpertsMayBeStackedWithGateAndUpFused) {
  StackedModel folder;
  folder.stack([&](const std::string& at) {
    std::string gate_up, down;
    for (int expert = 0; expert < 8; ++expert) {
      const std::string name = at + "experts." + std::to_string(expert);
      gate_up += folder.take(name + ".gate_proj.weight");
      gate_up += folder.take(name + ".up_proj.weight");
      down += folder.take(name + ".down_proj.weight");
    }
    folder.put(at + "experts.gate_up_proj", "[8, 96, 64]", gate_up);
    folder.put(at + "experts.down_proj", "[8, 64, 48]", down);
  });
  expect_experts_as_they_were(folder.open());
}

TEST(Qwen3Moe, ExpertsMayBeStackedAsMlxDoes) {
  StackedModel folder;
  folder.stack([&](const std::string& at) {
    for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
      std::string all;
      for (int expert = 0; expert < 8; ++expert) {
        all += folder.take(at + "experts." + std::to_string(expert) + "." + part + ".weight");
      }
      const bool down = std::string(part) == "down_proj";
      folder.put(at + "switch_mlp." + part + ".weight", down ? "[8, 64, 48]" : "[8, 48, 64]", all);
    }
  });
  expect_experts_as_they_were(folder.open());
}

TEST(Qwen3Moe, RefusesConfigurationsItCannotRun) {
  const auto refused = [](const char* from, const char* to, const std::vector<std::string>& message) {
    const TemporaryModel folder("qwen3-moe");
    folder.replace("config.json", from, to);
    expect_error(kCode, message, [&] { folder.open(); });
  };
  refused("\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 9", {"num_experts_per_tok: 9", "the 8 experts"});
  refused("\"num_local_experts\": 8", "\"num_local_experts\": 1000000", {"num_local_experts: 1000000", "4096"});
  refused("\"num_local_experts\": 8", "\"experts\": 8", {"num_experts: is missing"});
  refused("\"mlp_only_layers\": []", "\"mlp_only_layers\": [3]", {"mlp_only_layers: 3 is not a layer from 0 to 2"});
  refused("\"decoder_sparse_step\": 1", "\"decoder_sparse_step\": 0", {"decoder_sparse_step: 0"});
}

}  // namespace
}  // namespace cortex
