#include "model/hub_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/error.h"
#include "fakes/faulty_file_system.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string kCommit(40, 'a');
const std::string kOtherCommit(40, 'b');

Environment environment_of(std::map<std::string, std::string> values) {
  return [values = std::move(values)](const char* name) -> const char* {
    const auto found = values.find(name);
    return found == values.end() ? nullptr : found->second.c_str();
  };
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_path);
    return error.message();
  }
  return "nothing was thrown";
}

// A cache with one snapshot of acme/tiny.
class HubCacheTest : public testing::Test {
 protected:
  void add(const std::string& file, const std::string& commit = kCommit) {
    folder_.write(fs::path("models--acme--tiny/snapshots") / commit / file, "x");
  }
  void point(const std::string& ref, const std::string& text) {
    folder_.write(fs::path("models--acme--tiny/refs") / ref, text);
  }
  std::optional<fs::path> find(const std::string& text) const { return cache_.find_model(*parse_hub_name(text)); }
  fs::path in_snapshot(const std::string& file) const {
    return folder_.path() / "models--acme--tiny/snapshots" / kCommit / file;
  }

  TemporaryFolder folder_;
  HubCache cache_{real_file_system(), folder_.path()};
};

TEST(HubName, IsRead) {
  const auto plain = parse_hub_name("Qwen/Qwen3-0.6B");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->repository, "Qwen/Qwen3-0.6B");
  EXPECT_EQ(plain->revision, "main");
  EXPECT_EQ(plain->file, "");
  const auto full = parse_hub_name("acme/tiny@refs/pr/1:sub/x-Q4_K_M.gguf");
  ASSERT_TRUE(full);
  EXPECT_EQ(full->repository, "acme/tiny");
  EXPECT_EQ(full->revision, "refs/pr/1");
  EXPECT_EQ(full->file, "sub/x-Q4_K_M.gguf");
  EXPECT_EQ(full->text(), "acme/tiny@refs/pr/1:sub/x-Q4_K_M.gguf");
}

TEST(HubName, RefusesWhatIsNone) {
  for (const char* text : {"",
                           "tiny",
                           "/tiny",
                           "acme/",
                           "acme/tiny/more",
                           "../tiny",
                           "acme/..",
                           "./tiny",
                           "acme/ti ny",
                           "acme/ti--ny",
                           "acme/tiny@",
                           "acme/tiny@../x",
                           "acme/tiny@/x",
                           "acme/tiny@a b",
                           "acme/tiny:",
                           "acme/tiny:../x",
                           "acme/tiny:/x",
                           "acme/tiny:a//b",
                           "acme/tiny:a\\b",
                           "acme/tiny:a\nb",
                           "acme/tiny:./a",
                           "~/tiny",
                           "-acme/tiny"}) {
    EXPECT_FALSE(parse_hub_name(text)) << text;
  }
  EXPECT_FALSE(parse_hub_name("acme/" + std::string(100, 'x')));
}

TEST(HubCacheRoot, FollowsTheEnvironment) {
  EXPECT_EQ(hub_cache_root(environment_of({{"HOME", "/h"}})), "/h/.cache/huggingface/hub");
  EXPECT_EQ(hub_cache_root(environment_of({{"HOME", "/h"}, {"XDG_CACHE_HOME", "/x"}})), "/x/huggingface/hub");
  EXPECT_EQ(hub_cache_root(environment_of({{"XDG_CACHE_HOME", "/x"}, {"HF_HOME", "/f"}})), "/f/hub");
  EXPECT_EQ(hub_cache_root(environment_of({{"HF_HOME", "/f"}, {"HUGGINGFACE_HUB_CACHE", "/old"}})), "/old");
  EXPECT_EQ(hub_cache_root(environment_of({{"HUGGINGFACE_HUB_CACHE", "/old"}, {"HF_HUB_CACHE", "/new"}})), "/new");
  EXPECT_EQ(hub_cache_root(environment_of({{"HOME", "/h"}, {"HF_HOME", ""}})), "/h/.cache/huggingface/hub");
  EXPECT_EQ(hub_cache_root(environment_of({})), "");
}

TEST(HubOffline, IsSaidInSeveralWays) {
  for (const char* value : {"1", "true", "YES", "On"}) {
    EXPECT_TRUE(hub_is_offline(environment_of({{"HF_HUB_OFFLINE", value}}))) << value;
  }
  for (const char* value : {"", "0", "false"}) {
    EXPECT_FALSE(hub_is_offline(environment_of({{"HF_HUB_OFFLINE", value}}))) << value;
  }
  EXPECT_FALSE(hub_is_offline(environment_of({})));
}

TEST(Quantisation, EndsAName) {
  EXPECT_TRUE(has_quantisation("tiny-Q4_K_M.gguf", "Q4_K_M"));
  EXPECT_TRUE(has_quantisation("tiny.q8_0.gguf", "Q8_0"));
  EXPECT_TRUE(has_quantisation("BF16/tiny-BF16.gguf", "bf16"));
  EXPECT_FALSE(has_quantisation("tiny-Q4_K_M.gguf", "K_M.gguf"));
  EXPECT_FALSE(has_quantisation("tinyQ4_K_M.gguf", "Q4_K_M"));
  EXPECT_FALSE(has_quantisation("tiny-BF16.gguf", "F16"));
  EXPECT_FALSE(has_quantisation("Q8_0.gguf", "Q8_0"));
  EXPECT_FALSE(has_quantisation("tiny-Q8_0.bin", "Q8_0"));
}

TEST_F(HubCacheTest, FollowsARefToItsSnapshot) {
  add("config.json");
  point("main", kCommit);
  EXPECT_EQ(find("acme/tiny"), in_snapshot("").parent_path());
  EXPECT_EQ(find("acme/tiny@" + kCommit), in_snapshot("").parent_path());
  EXPECT_EQ(find("acme/tiny@" + kOtherCommit), std::nullopt);
  EXPECT_EQ(find("acme/tiny@v2"), std::nullopt);
  EXPECT_EQ(find("acme/huge"), std::nullopt);
}

TEST_F(HubCacheTest, TakesRefsWithSlashesAndNewLines) {
  add("config.json");
  point("refs/pr/1", kCommit + "\n");
  EXPECT_EQ(find("acme/tiny@refs/pr/1"), in_snapshot("").parent_path());
}

TEST_F(HubCacheTest, ARefThatIsNoCommitLeadsNowhere) {
  add("config.json");
  for (const std::string text : {"", "../../..", "main", "AAAA"}) {
    point("main", text);
    EXPECT_EQ(find("acme/tiny"), std::nullopt) << text;
  }
}

TEST_F(HubCacheTest, TheOnlyGgufIsMeant) {
  add("README.md");
  add("config.json");
  add("mmproj-tiny-F16.gguf");
  add("tiny-Q4_K_M.gguf");
  point("main", kCommit);
  EXPECT_EQ(find("acme/tiny"), in_snapshot("tiny-Q4_K_M.gguf"));
  EXPECT_EQ(find("acme/tiny:Q4_K_M"), in_snapshot("tiny-Q4_K_M.gguf"));
  EXPECT_EQ(find("acme/tiny:tiny-Q4_K_M.gguf"), in_snapshot("tiny-Q4_K_M.gguf"));
}

TEST_F(HubCacheTest, SafetensorsComeBeforeGguf) {
  add("config.json");
  add("model.safetensors");
  add("tiny-Q4_K_M.gguf");
  point("main", kCommit);
  EXPECT_EQ(find("acme/tiny"), in_snapshot("").parent_path());
}

TEST_F(HubCacheTest, OfSeveralGgufOneIsNamed) {
  add("tiny-Q4_K_M.gguf");
  add("big/tiny-Q8_0.gguf");
  point("main", kCommit);
  EXPECT_THAT(message_of([&] { find("acme/tiny"); }), HasSubstr("big/tiny-Q8_0.gguf, tiny-Q4_K_M.gguf"));
  EXPECT_EQ(find("acme/tiny:Q8_0"), in_snapshot("big/tiny-Q8_0.gguf"));
}

TEST_F(HubCacheTest, AFolderThatCanNotBeListedIsAnError) {
  add("config.json");
  add("tiny-Q4_K_M.gguf");
  for (const int call : {1, 2}) {
    FaultyFileSystem disk(real_file_system());
    disk.fail(FaultyFileSystem::Call::list, call, EACCES);
    EXPECT_THAT(message_of([&] { model_in_folder(disk, in_snapshot("").parent_path()); }),
                HasSubstr("Permission denied"));
  }
}

TEST_F(HubCacheTest, AFileThatIsNotThereSaysHowToFetchIt) {
  add("tiny-Q4_K_M.gguf");
  point("main", kCommit);
  EXPECT_THAT(message_of([&] { find("acme/tiny:Q8_0"); }),
              testing::AllOf(HasSubstr("tiny-Q4_K_M.gguf"), HasSubstr("cortex pull acme/tiny:Q8_0")));
}

TEST_F(HubCacheTest, ListsWhatIsThere) {
  add("config.json");
  add("config.json", kOtherCommit);
  add("config.json", "not-a-commit");
  point("main", kOtherCommit);
  folder_.write("models--broken/snapshots/x", "");
  folder_.write("datasets--acme--tiny/refs/main", kCommit);
  const auto all = cache_.snapshots();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].repository, "acme/tiny");
  EXPECT_EQ(all[0].commit, kCommit);
  EXPECT_TRUE(all[0].refs.empty());
  EXPECT_EQ(all[1].commit, kOtherCommit);
  EXPECT_THAT(all[1].refs, ElementsAre("main"));
}

TEST(HubCacheWithoutAFolder, IsEmpty) {
  EXPECT_TRUE(HubCache(real_file_system(), "/nonexistent").snapshots().empty());
  EXPECT_TRUE(HubCache(real_file_system(), "").snapshots().empty());
  EXPECT_EQ(HubCache(real_file_system(), "").find_model({"acme/tiny", "main", ""}), std::nullopt);
}

}  // namespace
}  // namespace cortex
