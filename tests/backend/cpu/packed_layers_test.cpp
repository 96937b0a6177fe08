#include "backend/cpu/packed_layers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "fakes/faulty_file_system.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

using Bytes = std::vector<std::byte>;

class PackedLayersTest : public testing::Test {
 protected:
  PackedLayersTest() {
    std::mt19937 random(7);
    for (const std::size_t size : {1, 4096, 10'000}) {
      Bytes& layer = layers_.emplace_back(size);
      for (std::byte& byte : layer) byte = static_cast<std::byte>(random());
    }
  }

  PackedLayers packed(const std::string& content = "a model") {
    return {real_file_system(), folder_.path() / "packed", content, {1, 4096, 10'000}};
  }
  void write() { write(packed()); }
  void write(const PackedLayers& packed) {
    PackedLayersWriter writer(packed);
    for (const Bytes& layer : layers_) writer.add(layer);
    writer.finish();
  }
  // Why the layer can't be read; empty when it is what was written.
  std::string failure(PackedLayers packed, int layer) {
    Bytes read(layers_[static_cast<std::size_t>(layer)].size());
    try {
      packed.read(layer, read);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::weights_io_error);
      return error.message();
    }
    return read == layers_[static_cast<std::size_t>(layer)] ? "" : "other bytes";
  }
  std::string name() { return "packed/" + packed().path().filename().string(); }

  TemporaryFolder folder_;
  std::vector<Bytes> layers_;
};

TEST_F(PackedLayersTest, WhatIsReadIsWhatWasWritten) {
  write();
  for (const int layer : {2, 0, 1, 2}) EXPECT_EQ(failure(packed(), layer), "");
  const auto entries = std::filesystem::directory_iterator(folder_.path() / "packed");
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1);
}

TEST_F(PackedLayersTest, AnotherModelHasAnotherFile) {
  write();
  EXPECT_NE(packed("another").path(), packed().path());
  EXPECT_NE(failure(packed("another"), 0), "");
}

TEST_F(PackedLayersTest, OtherSizesAreRefused) {
  write();
  PackedLayers other(real_file_system(), folder_.path() / "packed", "a model", {1, 4095, 10'001});
  Bytes read(1);
  EXPECT_THROW(other.read(0, read), Error);
}

TEST_F(PackedLayersTest, ABitThatFlipsAnywhereIsFound) {
  write();
  const std::string good = folder_.read(name());
  for (std::size_t at = 0; at < good.size(); at += 97) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 4);
    folder_.write(name(), bad);
    const bool found = !failure(packed(), 0).empty() || !failure(packed(), 1).empty() || !failure(packed(), 2).empty();
    const bool padding = at < 4096 ? at >= 1 : at >= 8192 + 10'000 && at < 8192 + 12'288;
    EXPECT_EQ(found, !padding) << at;
  }
  for (const std::size_t from_end : {1, 8, 9, 30, 60}) {
    std::string bad = good;
    bad[good.size() - from_end] = static_cast<char>(bad[good.size() - from_end] ^ 1);
    folder_.write(name(), bad);
    EXPECT_NE(failure(packed(), 0), "") << from_end;
  }
}

TEST_F(PackedLayersTest, ACutOrLongerOrEmptyFileIsRefused) {
  write();
  const std::string good = folder_.read(name());
  for (const std::size_t size : {std::size_t{0}, std::size_t{4096}, good.size() - 1}) {
    folder_.write(name(), good.substr(0, size));
    EXPECT_THAT(failure(packed(), 0), testing::HasSubstr("bytes"));
  }
  folder_.write(name(), good + "x");
  EXPECT_NE(failure(packed(), 0), "");
}

TEST_F(PackedLayersTest, AFileThatGoesAwayIsOpenedAnewAfterClose) {
  write();
  PackedLayers reader = packed();
  Bytes read(1);
  reader.read(0, read);
  std::filesystem::remove(folder_.path() / name());
  reader.read(0, read);  // the open file is still there
  reader.close();
  EXPECT_THROW(reader.read(0, read), Error);
  write();
  reader.read(0, read);
  EXPECT_EQ(read, layers_[0]);
}

TEST_F(PackedLayersTest, WhatIsNotFinishedLeavesNothing) {
  const PackedLayers unfinished = packed();
  {
    PackedLayersWriter writer(unfinished);
    writer.add(layers_[0]);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path() / "packed"));
}

TEST_F(PackedLayersTest, OldPartsOfACrashAreRemoved) {
  const std::string old_part = name() + ".1.part", young_part = name() + ".2.part";
  folder_.write(old_part, "x");
  folder_.write(young_part, "x");
  const auto before = std::filesystem::file_time_type::clock::now() - std::chrono::hours(2);
  std::filesystem::last_write_time(folder_.path() / old_part, before);
  write();
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / old_part));
  EXPECT_TRUE(std::filesystem::exists(folder_.path() / young_part));
  EXPECT_EQ(failure(packed(), 1), "");
}

TEST_F(PackedLayersTest, AFolderThatCanNotBeMadeIsAnError) {
  folder_.write("packed", "a file");
  try {
    write();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::weights_io_error);
  }
}

TEST_F(PackedLayersTest, ADiskThatFailsAtAnyCallLeavesNoFileOrAWholeOne) {
  using Call = FaultyFileSystem::Call;
  for (const Call call : {Call::create_directories, Call::list, Call::create, Call::write, Call::sync, Call::rename,
                          Call::sync_directory}) {
    for (int nth = 1; nth < 8; ++nth) {
      FaultyFileSystem disk(real_file_system());
      disk.fail(call, nth, ENOSPC);
      try {
        write({disk, folder_.path() / "packed", "a model", {1, 4096, 10'000}});
        break;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::weights_io_error);
      }
      EXPECT_EQ(failure(packed(), 1).empty(), call == Call::sync_directory);
      std::filesystem::remove_all(folder_.path() / "packed");
    }
    std::filesystem::remove_all(folder_.path() / "packed");
  }
}

}  // namespace
}  // namespace cortex
