#include "backend/cpu/layer_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/resident_memory.h"
#include "fakes/faulty_file_system.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

constexpr std::size_t kLayerBytes = std::size_t{1} << 20;
constexpr int kLayers = 8;

// Layer i is full of i + 1.
class LayerStreamTest : public testing::Test {
 protected:
  void SetUp() override {
    write();
    for (int layer = 0; layer < kLayers; ++layer) {
      ranges_.push_back(WeightArena::range_of(kLayerBytes));
      ranges_.back().allocate(kLayerBytes);
    }
  }

  PackedLayers packed() {
    return {real_file_system(), folder_.path(), "layers", std::vector<std::uint64_t>(kLayers, kLayerBytes)};
  }
  void write() {
    const PackedLayers file = packed();
    PackedLayersWriter writer(file);
    for (int layer = 0; layer < kLayers; ++layer) {
      writer.add(std::vector<std::byte>(kLayerBytes, static_cast<std::byte>(layer + 1)));
    }
    writer.finish();
  }
  // Of these layers.
  std::unique_ptr<LayerStream> stream(const std::vector<int>& layers) {
    std::vector<StreamedLayer> streamed;
    for (const int layer : layers) streamed.push_back({layer, &ranges_[static_cast<std::size_t>(layer)]});
    return std::make_unique<LayerStream>(packed(), streamed);
  }
  bool is_whole(int layer) const {
    return std::ranges::all_of(ranges_[static_cast<std::size_t>(layer)].content(),
                               [&](std::byte byte) { return byte == static_cast<std::byte>(layer + 1); });
  }
  void step(LayerStream& stream, const std::vector<int>& layers) {
    stream.begin_step();
    for (const int layer : layers) {
      stream.enter(layer);
      EXPECT_TRUE(is_whole(layer)) << layer;
      EXPECT_LE(stream.in_memory(), 2);
      stream.leave(layer);
    }
  }
  void damage() {
    std::fstream file(packed().path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(3 * kLayerBytes + 17);
    file.put(99);
  }

  TemporaryFolder folder_;
  std::vector<WeightArena> ranges_;
};

TEST_F(LayerStreamTest, EveryLayerIsThereInItsTurnStepAfterStep) {
  for (const std::vector<int>& layers : {std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7}, {1, 4, 6}, {2, 3}, {5}}) {
    const auto streamed = stream(layers);
    for (int times = 0; times < 5; ++times) step(*streamed, layers);
  }
}

TEST_F(LayerStreamTest, IsReadAheadBeforeAStepAsks) {
  const auto streamed = stream({0, 1, 2});
  while (streamed->in_memory() < 2) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_TRUE(is_whole(0) && is_whole(1));
  EXPECT_FALSE(is_whole(2));
  EXPECT_EQ(streamed->in_memory(), 2);
}

TEST_F(LayerStreamTest, PagesGoBack) {
  const std::vector<int> layers = {0, 1, 2, 3, 4, 5, 6, 7};
  const auto streamed = stream(layers);
  step(*streamed, layers);
  const std::uint64_t before = resident_bytes();
  std::uint64_t most = 0;
  for (int times = 0; times < 3; ++times) {
    streamed->begin_step();
    for (const int layer : layers) {
      streamed->enter(layer);
      most = std::max(most, resident_bytes());
      streamed->leave(layer);
    }
  }
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LE(most, before + 3 * kLayerBytes);  // of 8
#endif
}

TEST_F(LayerStreamTest, AStepThatBreaksOffIsFollowedByAWholeOne) {
  const std::vector<int> layers = {0, 2, 4, 6};
  const auto streamed = stream(layers);
  for (const std::size_t entered : {1, 2, 3, 4}) {
    streamed->begin_step();
    for (std::size_t i = 0; i < entered; ++i) {
      streamed->enter(layers[i]);
      if (i + 1 < entered) streamed->leave(layers[i]);
    }
    step(*streamed, layers);
  }
}

TEST_F(LayerStreamTest, WhateverTheReaderThrowsFailsItsStep) {
  WeightArena narrow = WeightArena::range_of(kLayerBytes / 2);
  narrow.allocate(kLayerBytes / 2);
  LayerStream streamed(packed(), {{0, ranges_.data()}, {1, &narrow}});
  for (int times = 0; times < 3; ++times) {
    streamed.begin_step();
    streamed.enter(0);
    EXPECT_TRUE(is_whole(0));
    streamed.leave(0);
    EXPECT_THROW(streamed.enter(1), CheckFailure);
  }
}

TEST_F(LayerStreamTest, ALayerThatCanNotBeReadFailsItsStepAndNoOther) {
  const std::vector<int> layers = {0, 1, 2, 3, 4};
  const auto streamed = stream(layers);
  step(*streamed, layers);
  damage();  // of layer 3
  for (int times = 0; times < 2; ++times) {
    streamed->begin_step();
    for (const int layer : {0, 1, 2}) {
      streamed->enter(layer);
      streamed->leave(layer);
    }
    try {
      streamed->enter(3);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::weights_io_error);
    }
  }
  write();
  step(*streamed, layers);
  step(*streamed, layers);
}

TEST_F(LayerStreamTest, AFileThatIsCutFailsTheStepUntilItIsThereAgain) {
  const std::vector<int> layers = {0, 1, 2};
  const auto streamed = stream(layers);
  step(*streamed, layers);
  std::filesystem::resize_file(packed().path(), 10);
  const auto failing_step = [&] {
    streamed->begin_step();
    for (const int layer : layers) {
      streamed->enter(layer);
      streamed->leave(layer);
    }
  };
  EXPECT_THROW(failing_step(), Error);
  EXPECT_THROW(failing_step(), Error);
  std::filesystem::remove(packed().path());
  EXPECT_THROW(failing_step(), Error);
  write();
  step(*streamed, layers);
}

// Every read takes a while.
class SlowFile : public RandomAccessFile {
 public:
  explicit SlowFile(std::shared_ptr<const RandomAccessFile> file) : file_(std::move(file)) {}
  const std::filesystem::path& path() const override { return file_->path(); }
  std::uint64_t size_bytes() const override { return file_->size_bytes(); }
  void read(std::uint64_t offset, std::span<std::byte> out) const override {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    file_->read(offset, out);
  }

 private:
  std::shared_ptr<const RandomAccessFile> file_;
};

class SlowFileSystem : public FaultyFileSystem {
 public:
  SlowFileSystem() : FaultyFileSystem(real_file_system()) {}
  std::shared_ptr<const RandomAccessFile> open(const std::filesystem::path& path) const override {
    return std::make_shared<SlowFile>(FaultyFileSystem::open(path));
  }
};

TEST_F(LayerStreamTest, ASlowDiskIsWaitedForAndCanBeLeft) {
  SlowFileSystem disk;
  std::vector<StreamedLayer> layers;
  for (int layer = 0; layer < 4; ++layer) layers.push_back({layer, &ranges_[static_cast<std::size_t>(layer)]});
  LayerStream slow({disk, folder_.path(), "layers", std::vector<std::uint64_t>(kLayers, kLayerBytes)}, layers);
  step(slow, {0, 1, 2, 3});
  slow.begin_step();
  slow.enter(0);
  slow.begin_step();  // while layer 1 is read
  step(slow, {0, 1, 2, 3});
}

}  // namespace
}  // namespace cortex
