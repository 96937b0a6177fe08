#include "cli/text_batches.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

using testing::ElementsAre;

class TextBatchesTest : public testing::Test {
 protected:
  std::vector<std::size_t> sizes(const std::string& content) const {
    folder_.write("texts", content);
    TextBatches batches(TextSource({(folder_.path() / "texts").string()}, TextForm::lines));
    std::vector<std::size_t> out;
    std::size_t seen = 0;
    for (TextBatch batch = batches.next(); !batch.texts.empty(); batch = batches.next()) {
      for (const std::size_t index : batch.indices) EXPECT_EQ(index, seen++);
      out.push_back(batch.texts.size());
    }
    return out;
  }

  TemporaryFolder folder_;
};

TEST_F(TextBatchesTest, HoldSoManyTexts) {
  std::string lines;
  for (int i = 0; i < 70; ++i) lines += "x\n";
  EXPECT_THAT(sizes(lines), ElementsAre(32, 32, 6));
  EXPECT_THAT(sizes(""), ElementsAre());
}

TEST_F(TextBatchesTest, HoldSoManyBytes) {
  const std::string half(kMostBytesPerCall / 2, 'x');
  EXPECT_THAT(sizes(half + "\n" + half + "\n" + half + "\n"), ElementsAre(2, 1));
  EXPECT_THAT(sizes("a\n" + half + half + half + "\nb\n"), ElementsAre(1, 1, 1));
}

}  // namespace
}  // namespace cortex
