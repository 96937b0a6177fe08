#include "model/model_folder.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "fakes/faulty_file_system.h"
#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

namespace fs = std::filesystem;
constexpr auto kCode = ErrorCode::invalid_path;

std::optional<std::string> text_of(const TemporaryFolder& folder, const std::string& name) {
  return ModelFolder(real_file_system(), folder.path()).find_text(name, 100, ErrorCode::invalid_config);
}

TEST(ModelFolder, ReadsWhatIsThere) {
  const TemporaryFolder folder;
  folder.write("a.json", "{}");
  folder.write("sub/b.json", "[]");
  EXPECT_EQ(text_of(folder, "a.json"), "{}");
  EXPECT_EQ(text_of(folder, "sub/b.json"), "[]");
  EXPECT_EQ(text_of(folder, "c.json"), std::nullopt);
}

TEST(ModelFolder, BoundsTexts) {
  const TemporaryFolder folder;
  folder.write("a.json", std::string(101, ' '));
  expect_error(ErrorCode::invalid_config, {"a.json: 101 bytes exceed the limit of 100"},
               [&] { text_of(folder, "a.json"); });
}

TEST(ModelFolder, RefusesLinksThatLeadOut) {
  const TemporaryFolder folder, outside;
  outside.write("secret", "x");
  fs::create_symlink(outside.path() / "secret", folder.path() / "absolute");
  fs::create_symlink("../" + outside.path().filename().string() + "/secret", folder.path() / "relative");
  fs::create_directory_symlink(outside.path(), folder.path() / "sub");
  for (const char* name : {"absolute", "relative", "sub/secret"}) {
    expect_error(kCode, {name, "out of the model's folder"}, [&] { text_of(folder, name); });
  }
  expect_error(kCode, {"out of the model's folder"},
               [&] { text_of(folder, "../" + outside.path().filename().string() + "/secret"); });
}

TEST(ModelFolder, FollowsLinksInside) {
  const TemporaryFolder folder, link;
  folder.write("a", "x");
  fs::create_symlink("a", folder.path() / "b");
  EXPECT_EQ(text_of(folder, "b"), "x");
  fs::create_directory_symlink(folder.path(), link.path() / "model");
  const ModelFolder through_link(real_file_system(), link.path() / "model");
  EXPECT_EQ(through_link.find_text("b", 100, kCode), "x");
}

TEST(ModelFolder, FollowsAHubCacheToItsBlobs) {
  const TemporaryFolder cache;
  cache.write("models--org--one/blobs/abc", "mine");
  cache.write("models--org--two/blobs/abc", "other");
  cache.write("models--org--one/snapshots/rev/.keep", "");
  const fs::path snapshot = cache.path() / "models--org--one/snapshots/rev";
  fs::create_symlink("../../blobs/abc", snapshot / "config.json");
  fs::create_symlink("../../../models--org--two/blobs/abc", snapshot / "stolen.json");
  const ModelFolder folder(real_file_system(), snapshot);
  EXPECT_EQ(folder.find_text("config.json", 100, kCode), "mine");
  expect_error(kCode, {"stolen.json", "out of"}, [&] { folder.find_text("stolen.json", 100, kCode); });
}

TEST(ModelFolder, RefusesWhatIsNotARegularFile) {
  const TemporaryFolder folder;
  fs::create_directory(folder.path() / "directory");
  ASSERT_EQ(::mkfifo((folder.path() / "fifo").c_str(), 0600), 0);
  fs::create_symlink("nowhere", folder.path() / "dangling");
  expect_error(kCode, {"directory", "not a regular file"}, [&] { text_of(folder, "directory"); });
  expect_error(kCode, {"fifo", "not a regular file"}, [&] { text_of(folder, "fifo"); });
  expect_error(kCode, {"dangling"}, [&] { text_of(folder, "dangling"); });
}

TEST(ModelFolder, UnreadableFilesAreErrors) {
  const TemporaryFolder folder;
  folder.write("a", "x");
  FaultyFileSystem disk(real_file_system());
  const ModelFolder model(disk, folder.path());
  disk.fail(FaultyFileSystem::Call::open, 1, EACCES);
  expect_error(kCode, {"/a", "Permission denied"}, [&] { model.find_text("a", 100, ErrorCode::invalid_config); });
  disk.fail(FaultyFileSystem::Call::read, 1);
  expect_error(ErrorCode::invalid_config, {"/a"}, [&] { model.find_text("a", 100, ErrorCode::invalid_config); });
  disk.fail(FaultyFileSystem::Call::list, 1, EACCES);
  expect_error(kCode, {"Permission denied"}, [&] { model.find_pickle(); });
}

TEST(ModelFolder, AsksNobodyButItsFileSystem) {
  const TemporaryFolder folder;
  folder.write("a", "x");
  FaultyFileSystem disk(real_file_system());
  const ModelFolder model(disk, folder.path());
  EXPECT_TRUE(model.has("a"));
  disk.hide(folder.path() / "a");
  EXPECT_FALSE(model.has("a"));
  EXPECT_EQ(model.find_text("a", 100, kCode), std::nullopt);
  expect_error(kCode, {"/a", "No such file"}, [&] { model.open("a"); });
  expect_error(kCode, {"/a: no such file"}, [&] { open_model_file(disk, folder.path() / "a"); });
  disk.hide(folder.path());
  expect_error(kCode, {folder.path().string()}, [&] { ModelFolder(disk, folder.path()); });
}

TEST(ModelFolder, KnowsPickles) {
  const TemporaryFolder folder;
  folder.write("model.safetensors", "");
  const ModelFolder model(real_file_system(), folder.path());
  EXPECT_EQ(model.find_pickle(), std::nullopt);
  folder.write("pytorch_model-00001-of-00002.bin", "");
  EXPECT_EQ(model.find_pickle(), "pytorch_model-00001-of-00002.bin");
  folder.write("colbert_linear.pt", "");
  EXPECT_EQ(model.find_pickle(), "pytorch_model-00001-of-00002.bin");
}

}  // namespace
}  // namespace cortex
