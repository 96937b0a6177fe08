#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

using testing::ElementsAre;
constexpr auto kCode = ErrorCode::invalid_config;

const EncoderModel& encoder(const Model& model) { return std::get<EncoderModel>(model.network); }

TEST(XlmRoberta, PositionsBeginAfterThePaddingToken) {
  const Model model = TemporaryModel("xlm-roberta-cls").open();
  const EncoderSpec& spec = encoder(model).spec;
  EXPECT_EQ(model.kind, ModelKind::embed);
  EXPECT_EQ(spec.positions, 318);
  EXPECT_EQ(model.context_tokens(), 318);
  EXPECT_EQ(spec.token_types, 1);
  EXPECT_EQ(spec.pooling, Pooling::cls);
  EXPECT_FALSE(spec.pre_norm);
  const Weight& positions = *encoder(model).weights.position_embedding;
  EXPECT_THAT(positions.tensor.shape, ElementsAre(318, 64));
  const TensorView& type = encoder(model).weights.type_embedding->tensor;
  EXPECT_EQ(positions.tensor.bytes, 318u * 64 * sizeof(float));
  EXPECT_EQ(positions.tensor.offset + positions.tensor.bytes, type.offset);  // to the table's very end
}

TEST(XlmRoberta, AClassifierHasItsOwnDenseLayer) {
  const Model model = TemporaryModel("xlm-roberta-reranker").open();
  EXPECT_EQ(model.kind, ModelKind::rerank);
  const EncoderHeadWeights& head = *encoder(model).weights.head;
  EXPECT_EQ(head.dense->weight.tensor.name, "classifier.dense.weight");
  EXPECT_EQ(head.out.weight.tensor.name, "classifier.out_proj.weight");
  EXPECT_EQ(encoder(model).weights.token_embedding.tensor.name, "roberta.embeddings.word_embeddings.weight");
}

TEST(XlmRoberta, ItsKinAreTheSame) {
  for (const char* name : {"roberta", "camembert"}) {
    const TemporaryModel folder("xlm-roberta-cls");
    folder.replace("config.json", "\"xlm-roberta\"", "\"" + std::string(name) + "\"");
    const Model model = folder.open();
    EXPECT_EQ(encoder(model).spec.architecture, name);
    EXPECT_EQ(encoder(model).spec.positions, 318);
  }
}

TEST(XlmRoberta, RefusesATableWithoutUsableRows) {
  const TemporaryModel folder("xlm-roberta-cls");
  folder.replace("config.json", "\"pad_token_id\": 1", "\"pad_token_id\": 319");
  expect_error(kCode, {"max_position_embeddings: 320 rows", "first 320 are not used"}, [&] { folder.open(); });
}

}  // namespace
}  // namespace cortex
