#include "model/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/faulty_file_system.h"
#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

Model open(const std::filesystem::path& path) { return open_model(real_file_system(), path); }

TEST(Model, KnowsItsKindAndSizes) {
  const Model llama = open(test_data("models/llama"));
  EXPECT_TRUE(llama.is_decoder());
  EXPECT_EQ(llama.architecture, "llama");
  EXPECT_EQ(llama.context_tokens(), 512);
  EXPECT_EQ(llama.vocabulary(), 484);
  EXPECT_EQ(llama.weight_bytes, 765'696u);
  const Model bert = open(test_data("models/bert-mean"));
  EXPECT_FALSE(bert.is_decoder());
  EXPECT_EQ(bert.architecture, "bert");
  EXPECT_EQ(bert.context_tokens(), 320);
  EXPECT_EQ(bert.vocabulary(), 257);
  EXPECT_TRUE(bert.stop_ids.empty());
}

TEST(Model, AFileThatVanishesIsAbsent) {
  const TemporaryFolder folder;
  for (const char* name : {"m.gguf", "model.pth", "notes.txt"}) {
    folder.write(name, "x");
    FaultyFileSystem disk(real_file_system());
    disk.hide(folder.path() / name);
    expect_error(ErrorCode::invalid_path, {std::string(name) + ": no such file"},
                 [&] { open_model(disk, folder.path() / name); });
  }
}

TEST(Model, RefusesWhatIsNotAModel) {
  const TemporaryFolder folder;
  const auto code = ErrorCode::invalid_path;
  expect_error(code, {"nowhere", "no such file"}, [&] { open(folder.path() / "nowhere"); });
  expect_error(code, {"nowhere.gguf", "no such file"}, [&] { open(folder.path() / "nowhere.gguf"); });
  folder.write("notes.txt", "x");
  expect_error(code, {"notes.txt", "a directory or a .gguf file"}, [&] { open(folder.path() / "notes.txt"); });
  folder.write("model.pth", "x");
  expect_error(code, {"model.pth", "pickle weights are never loaded"}, [&] { open(folder.path() / "model.pth"); });
}

}  // namespace
}  // namespace cortex
