#include "cli/inventory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "fakes/faulty_file_system.h"
#include "fakes/temporary_folder.h"
#include "fakes/test_paths.h"

namespace cortex {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string kCommit(40, 'a');

class InventoryTest : public testing::Test {
 protected:
  std::vector<InventoryEntry> take(const std::vector<std::string>& folders = {}) const {
    return take_inventory(real_file_system(), places_, folders);
  }
  static std::vector<std::string> names(const std::vector<InventoryEntry>& entries) {
    std::vector<std::string> out;
    for (const auto& entry : entries) out.push_back(entry.name);
    return out;
  }
  void copy_model(const std::string& model, const std::string& to) const {
    fs::create_directories((folder_.path() / to).parent_path());
    fs::copy(test_data("models/" + model), folder_.path() / to, fs::copy_options::recursive);
  }

  TemporaryFolder folder_;
  ModelPlaces places_{folder_.path() / "hub", folder_.path() / "packaged"};
};

TEST_F(InventoryTest, IsEmptyWhereNothingIs) { EXPECT_TRUE(take().empty()); }

TEST_F(InventoryTest, SaysWhatAModelIs) {
  copy_model("llama", "packaged/llama");
  const auto entries = take();
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0].problem, "");
  EXPECT_EQ(entries[0].source, "packaged");
  EXPECT_EQ(entries[0].name, (folder_.path() / "packaged/llama").string());
  EXPECT_EQ(entries[0].kind, ModelKind::chat);
  EXPECT_EQ(entries[0].architecture, "llama");
  EXPECT_GT(entries[0].weight_bytes, 0u);
  EXPECT_GT(entries[0].context_tokens, 0);
}

TEST_F(InventoryTest, APackagedModelHasItsName) {
  copy_model("bert-mean", "packaged/all-MiniLM-L6-v2");
  EXPECT_THAT(names(take()), ElementsAre("minilm"));
}

TEST_F(InventoryTest, NamesOfTheHubAreThoseThatModelTakes) {
  copy_model("llama", "hub/models--acme--tiny/snapshots/" + kCommit);
  folder_.write("hub/models--acme--tiny/refs/main", kCommit);
  folder_.write("hub/models--acme--quants/snapshots/" + kCommit + "/q-Q4_0.gguf", "x");
  folder_.write("hub/models--acme--quants/snapshots/" + kCommit + "/q-Q8_0.gguf", "x");
  folder_.write("hub/models--acme--quants/refs/v1", kCommit);
  const auto entries = take();
  EXPECT_THAT(names(entries), ElementsAre("acme/quants@v1:q-Q4_0.gguf", "acme/quants@v1:q-Q8_0.gguf", "acme/tiny"));
  for (const auto& entry : entries) EXPECT_EQ(find_model(real_file_system(), places_, entry.name), entry.path);
}

TEST_F(InventoryTest, WhatDoesNotLoadSaysWhy) {
  folder_.write("mine/broken.gguf", "not a model");
  folder_.write("mine/notes.txt", "x");
  folder_.write("mine/half/config.json", "{}");
  const auto entries = take({(folder_.path() / "mine").string()});
  ASSERT_EQ(entries.size(), 2u);
  for (const auto& entry : entries) {
    EXPECT_NE(entry.problem, "");
    EXPECT_EQ(entry.problem.find('\n'), std::string::npos);
  }
  EXPECT_THROW(take({"/nonexistent"}), Error);
}

TEST_F(InventoryTest, AFolderThatCantBeListedKeepsNoOtherFromTheList) {
  copy_model("llama", "mine/a");
  copy_model("llama", "mine/b");
  FaultyFileSystem files(real_file_system());
  files.fail(FaultyFileSystem::Call::list, 2, EACCES);  // the first is that of "mine" itself
  const auto entries = take_inventory(files, places_, {(folder_.path() / "mine").string()});
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_THAT(entries[0].problem, HasSubstr("Permission denied"));
  EXPECT_EQ(entries[1].problem, "");
}

TEST_F(InventoryTest, AnUnreadableHomeOfModelsIsAnEntry) {
  copy_model("llama", "packaged/a");
  FaultyFileSystem files(real_file_system());
  files.fail(FaultyFileSystem::Call::list, 1, EACCES);
  const auto entries = take_inventory(files, places_, {});
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_THAT(entries[0].problem, HasSubstr("Permission denied"));
}

TEST_F(InventoryTest, AModelInSeveralPartsIsOneEntry) {
  folder_.write("mine/big/big-00001-of-00002.gguf", "x");
  folder_.write("mine/big/big-00002-of-00002.gguf", "x");
  folder_.write("mine/flat-00001-of-00002.gguf", "x");
  folder_.write("mine/flat-00002-of-00002.gguf", "x");
  const auto entries = take({(folder_.path() / "mine").string()});
  ASSERT_EQ(entries.size(), 2u);
  for (const auto& entry : entries) EXPECT_THAT(entry.problem, HasSubstr("in several parts"));
}

TEST_F(InventoryTest, AnOptionIsExamined) {
  const std::string path = test_data("models/bert-mean").string();
  const InventoryEntry entry = examine_option(real_file_system(), places_, "e=" + path + ",kind=rerank");
  EXPECT_EQ(entry.name, "e");
  EXPECT_EQ(entry.problem, "");
  EXPECT_EQ(entry.kind, ModelKind::rerank);
  EXPECT_THAT(examine_option(real_file_system(), places_, "acme/none").problem, HasSubstr("cortex pull acme/none"));
}

}  // namespace
}  // namespace cortex
