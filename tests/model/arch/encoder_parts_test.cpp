#include "model/arch/encoder_parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/json_file.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

using testing::ElementsAre;
constexpr auto kCode = ErrorCode::invalid_config;

Fields config_of(const std::string& text) { return parse_json_object(text, "config.json", kCode); }

TEST(EncoderParts, ClassifiersAreKnownByTheirArchitecture) {
  EXPECT_TRUE(is_classifier(config_of(R"({"architectures": ["BertForSequenceClassification"]})")));
  EXPECT_FALSE(is_classifier(config_of(R"({"architectures": ["BertForTokenClassification"]})")));
  EXPECT_FALSE(is_classifier(config_of(R"({"architectures": [7]})")));
  EXPECT_FALSE(is_classifier(config_of("{}")));
}

TEST(EncoderParts, LabelsAreInTheOrderOfLogits) {
  EXPECT_THAT(read_labels(config_of(R"({"id2label": {"10": "k", "0": "a", "1": "b", "2": "c", "3": "d", "4": "e",
                                        "5": "f", "6": "g", "7": "h", "8": "i", "9": "j"}})")),
              ElementsAre("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"));
  EXPECT_THAT(read_labels(config_of(R"({"num_labels": 3})")), ElementsAre("LABEL_0", "LABEL_1", "LABEL_2"));
  EXPECT_THAT(read_labels(config_of("{}")), ElementsAre("LABEL_0", "LABEL_1"));
}

TEST(EncoderParts, RefusesLabelsThatAreNotNumbered) {
  const auto refused = [](const char* config, const std::vector<std::string>& message) {
    expect_error(kCode, message, [&] { read_labels(config_of(config)); });
  };
  refused(R"({"id2label": {"0": "a", "2": "b"}})", {"id2label.2", "a number from 0 to 1"});
  refused(R"({"id2label": {"0": "a", "01": "b"}})", {"id2label.01"});
  refused(R"({"id2label": {"a": "0"}})", {"id2label.a"});
  refused(R"({"id2label": {}})", {"0 labels; 1 to 4096"});
  refused(R"({"id2label": {"0": 1}})", {"id2label.0: 1 is not a string"});
  refused(R"({"num_labels": 0})", {"num_labels: 0"});
}

}  // namespace
}  // namespace cortex
