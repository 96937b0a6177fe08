#include "engine/model_slot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>
#include <vector>

#include "fakes/fake_backend.h"

namespace cortex {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

class ModelSlotTest : public testing::Test {
 protected:
  LoadedModel decoder(int blocks = 64) {
    LoadedModel loaded{"fake", "none", {kFakeVocabulary, kFakeContext, 0, true}, {}, {}};
    loaded.plan = {.kv_blocks = blocks, .rows_per_step = 512};
    loaded.decoder = std::make_unique<FakeDecoder>(&switches_);
    return loaded;
  }
  LoadedModel encoder() {
    LoadedModel loaded{"fake", "none", {kFakeVocabulary, kFakeContext, 2, false}, {}, {}};
    loaded.encoder = std::make_unique<FakeEncoder>(&switches_);
    return loaded;
  }
  static GenerateRequest generation(RequestId id) {
    GenerateRequest request;
    request.id = id;
    request.prompt = {1, 2, 3};
    request.max_tokens = 4;
    return request;
  }
  static EncodeRequest texts(RequestId id) {
    EncodeRequest request;
    request.id = id;
    request.texts = {{1, 2}, {3}};
    return request;
  }

  FakeSwitches switches_;
  ModelSlot slot_{.status = {.name = "m", .state = ModelState::loading}};
};

TEST_F(ModelSlotTest, ADecoderGetsBlocksASchedulerAndTexts) {
  slot_.install(decoder(), {});
  EXPECT_NO_THROW(slot_.require_ready());
  EXPECT_EQ(slot_.status.backend, "fake");
  EXPECT_GT(slot_.pool->total_blocks(), 0);
  slot_.scheduler->add(generation(1));
  slot_.texts->add(texts(2));
  EXPECT_FALSE(slot_.in_step());
  slot_.scheduler->plan();
  EXPECT_TRUE(slot_.in_step());
  EXPECT_EQ(slot_.entered(), 2);
  EXPECT_THAT(slot_.fail_step(), UnorderedElementsAre(1, 2, 2));
  EXPECT_FALSE(slot_.in_step());
  slot_.cancel(2);
  EXPECT_EQ(slot_.entered(), 0);
  EXPECT_EQ(slot_.pool->used_blocks(), 0);
}

TEST_F(ModelSlotTest, PreparesWhatThePoolGrowsIntoButNotAllOfIt) {
  slot_.install(decoder(1000), {});
  const auto* fake = static_cast<const FakeDecoder*>(slot_.loaded.decoder.get());
  const auto prepare = [&] {
    while (slot_.prepare_blocks()) {
    }
    return static_cast<int>(fake->prepared().size());
  };
  EXPECT_EQ(prepare(), 250);
  const auto taken = slot_.pool->allocate(100);
  ASSERT_TRUE(taken);
  EXPECT_EQ(prepare(), 350);
  slot_.pool->release(*taken);
  EXPECT_EQ(prepare(), 350);
  ASSERT_TRUE(slot_.pool->allocate(900));
  EXPECT_EQ(prepare(), 450);  // what was used needs it no more
  std::vector<BlockId> expected(450);
  std::iota(expected.begin(), expected.begin() + 350, 0);
  std::iota(expected.begin() + 350, expected.end(), 900);
  EXPECT_EQ(fake->prepared(), expected);
}

class DiscardingDecoder : public FakeDecoder {
 public:
  using FakeDecoder::FakeDecoder;
  void discard(std::span<const BlockId> blocks) override { discarded.insert(blocks.begin(), blocks.end()); }
  std::set<BlockId> discarded;
};

TEST_F(ModelSlotTest, BlocksThatNobodyUsesLeaveThePoolAndItsMemory) {
  LoadedModel loaded = decoder(40);
  loaded.decoder = std::make_unique<DiscardingDecoder>(&switches_);
  const auto& discarded = static_cast<const DiscardingDecoder&>(*loaded.decoder).discarded;
  slot_.install(std::move(loaded), {});
  const auto taken = slot_.pool->allocate(6);
  ASSERT_TRUE(taken);
  for (const BlockId block : {0, 1, 2}) {
    PrefixIndex::Link link{};
    link.key.bytes.fill(static_cast<std::uint8_t>(block + 1));
    ASSERT_TRUE(slot_.pool->index().add(block, link));
  }
  while (slot_.prepare_blocks()) {
  }
  slot_.pool->release(std::vector<BlockId>{0, 1, 2, 3});
  EXPECT_TRUE(slot_.evict_blocks(2));
  std::set<BlockId> expected{1, 2, 3};
  for (BlockId prepared = 6; prepared < 16; ++prepared) expected.insert(prepared);
  EXPECT_EQ(discarded, expected);
  EXPECT_TRUE(slot_.evict_blocks(2));
  expected.insert(0);
  EXPECT_EQ(discarded, expected);
  EXPECT_FALSE(slot_.evict_blocks(2));
  EXPECT_TRUE(slot_.prepare_blocks());  // they are prepared anew
}

TEST_F(ModelSlotTest, AModelThatIsUnloadedCanComeBack) {
  slot_.install(decoder(), {});
  slot_.unload();
  EXPECT_EQ(switches_.loaded, 0);
  EXPECT_EQ(slot_.status.state, ModelState::unloaded);
  EXPECT_FALSE(slot_.has_work());
  slot_.install(encoder(), {});
  EXPECT_NO_THROW(slot_.require_ready());
  EXPECT_TRUE(slot_.queue && !slot_.pool && !slot_.scheduler);
}

TEST_F(ModelSlotTest, AnEncoderGetsAQueue) {
  slot_.install(encoder(), {});
  EXPECT_FALSE(slot_.pool);
  slot_.queue->add(texts(1));
  slot_.queue->add(texts(2));
  slot_.cancel(1);
  EXPECT_EQ(slot_.entered(), 1);
  slot_.queue->plan();
  EXPECT_TRUE(slot_.in_step());
  EXPECT_THAT(slot_.fail_step(), ElementsAre(2));
  EXPECT_EQ(slot_.entered(), 0);
}

TEST_F(ModelSlotTest, AModelThatFailsGivesAllBackAndSaysWhy) {
  slot_.install(decoder(), {});
  slot_.scheduler->add(generation(1));
  slot_.fail("the disk is gone");
  EXPECT_EQ(switches_.loaded, 0);
  EXPECT_EQ(slot_.entered(), 0);
  EXPECT_FALSE(slot_.in_step());
  try {
    slot_.require_ready();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::model_failed);
    EXPECT_THAT(error.message(), HasSubstr("model m failed: the disk is gone"));
  }
}

TEST_F(ModelSlotTest, WhatThePlanCutsDownIsCutDown) {
  LoadedModel loaded = decoder(3);
  loaded.plan.rows_per_step = 20;  // a block of prompt, and four that decode
  slot_.install(std::move(loaded), {.max_sequences = 64, .rows_per_step = 512});
  EXPECT_EQ(slot_.status.plan, to_text(slot_.loaded.plan));
  EXPECT_EQ(slot_.pool->total_blocks(), 3);
  for (RequestId id = 1; id <= 6; ++id) {
    GenerateRequest one = generation(id);
    one.prompt = {static_cast<TokenId>(id)};
    slot_.scheduler->add(one);
  }
  slot_.scheduler->plan();
  EXPECT_LE(slot_.scheduler->running(), 4);
  EXPECT_LE(slot_.scheduler->planned_step().tokens.size(), 20u);
  slot_.fail_step();
}

TEST_F(ModelSlotTest, WithALimitOnMemoryABatchIsNoLongerThanALongText) {
  slot_.install(encoder(), {.memory_bytes = 1 << 20, .encode_batch_tokens = 4096});
  EXPECT_EQ(slot_.queue->batch_tokens(), kFakeContext);
  slot_.unload();
  slot_.install(encoder(), {.encode_batch_tokens = 4096});
  EXPECT_EQ(slot_.queue->batch_tokens(), 4096);
}

}  // namespace
}  // namespace cortex
