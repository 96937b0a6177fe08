#include "worker/wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <msgpack.hpp>
#include <random>

namespace cortex {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

GenerateRequest generate_request() {
  GenerateRequest request;
  request.id = std::numeric_limits<RequestId>::max();
  request.model = "tiny";
  request.prompt = {1, -2, 300000, std::numeric_limits<TokenId>::min()};
  request.max_tokens = 17;
  request.max_tokens_may_shrink = true;
  request.stop_ids = {2, 7};
  request.sampling = {0.7f, 0.9f, 0.05f, 40, -0.5f, 1.5f, 1.1f, std::numeric_limits<std::uint64_t>::max()};
  request.logit_bias = {{5, -100.0f}, {6, std::numeric_limits<float>::infinity()}};
  request.grammar = Grammar{GrammarSyntax::lark, "start: /a+/", nullptr};
  request.prediction = {4, 5, 6};
  request.logprobs = true;
  request.top_logprobs = 3;
  request.prompt_logprobs = true;
  request.explain = true;
  request.priority = -10;
  request.salt = "tenant";
  request.timeout = 1500ms;
  request.trace = "req-1";
  return request;
}

EncodeRequest encode_request() {
  EncodeRequest request;
  request.id = 3;
  request.model = "bert";
  request.texts = {{1, 2, 3}, {4}, {}};
  request.types = {{0, 0, 1}, {0}, {}};
  request.scores = {484, 485};
  request.priority = 4;
  return request;
}

GenerateEvent generate_event() {
  GenerateEvent event;
  event.prompt_logprobs = {-0.5f, -1.25f};
  event.prompt_top_logprobs = {{{9, -0.25f}, {4, -0.5f}}, {}};
  event.tokens = {{5, -0.1f, {{5, -0.1f}, {6, -2.0f}}}, {7, -3.0f, {}}};
  event.finish = FinishReason::stop;
  event.timings = GenerateTimings{1.5, 2.5, 3.5, 10, 8, 4, 2, 1, CacheExplanation{CacheMiss::diverged, 17, 300}};
  return event;
}

EngineStatus engine_status() {
  EngineStatus status;
  status.state = EngineState::failing;
  status.backend = "cpu";
  status.device = "cpu";
  status.last_tick = std::chrono::steady_clock::now();
  status.last_step = status.last_tick - 3s;
  status.steps = 12345678901;
  status.consecutive_failures = 3;
  status.running = 2;
  status.waiting = 5;
  status.running_encodings = 1;
  status.waiting_encodings = 4;
  status.kv_blocks = 100;
  status.kv_blocks_used = 42;
  status.memory_bytes = std::uint64_t{5} << 32;
  status.own_process = true;
  status.models = {{"m", ModelState::loading, 0.25, 7, "cpu", "cpu", ""},
                   {"n", ModelState::failed, 0.0, 0, "", "", "no such file"}};
  status.models[0].on_demand = status.models[1].pinned = true;
  status.models[0].idle_s = 1.5;
  status.models[0].plan = "8-bit KV of 7 blocks";
  status.device_bytes = 31;
  status.budget_bytes = std::uint64_t{1} << 42;
  status.level = 3;
  status.step_drift = 1.25;
  status.guard_preempted = 32;
  status.guard_cancelled = 33;
  status.models[0].kv = {100, 40, 30, 2, 5, std::uint64_t{1} << 40, 11, 12, 13};
  status.models[0].speculation = {20, 10, 9, 2.5};
  status.models[0].grammars = {1, 2, 3, 4, 0.75};
  status.step_counts.observe(StepKind::mixed, 0.25, 300);
  status.step_counts.observe(StepKind::encode, 100.0, 1 << 20);
  status.step_counts.kinds[1].tokens = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, std::uint64_t{1} << 63},
                                        1e300};
  status.kv_disk = {
      "error", "the disk is gone", true, 21, 22, 23, 24, std::uint64_t{1} << 41, {{"checksum", 3}, {"", 0}}};
  return status;
}

StepBudget budget() {
  StepBudget budget;
  budget.level = 4;
  budget.cause = ErrorCode::thermal_throttled;
  budget.time_share = 0.25;
  budget.sequence_share = 0.5;
  budget.drafts = budget.background = false;
  budget.evicts = budget.preempts = budget.cancels = true;
  budget.pause = 25ms;
  return budget;
}

std::vector<Frame> all_frames() {
  GenerateEvent failed;
  failed.error = Error(ErrorCode::numerical_error, "NaN", "prompt");
  EncodeReply encoded;
  encoded.dimensions = 2;
  encoded.vectors = {1.0f, -2.0f, 0.5f, 3.0f};
  encoded.queue_ms = 0.25;
  encoded.compute_ms = 4.0;
  EncodeReply encode_failed;
  encode_failed.error = Error(ErrorCode::deadline_exceeded, "late");
  EngineOptions options;
  options.models = {{"a", "/models/a"}, {"b", "/models/b.gguf", ModelKind::rerank}};
  options.backend = "cpu";
  options.threads = 3;
  options.exact = true;
  options.kv_bytes = std::uint64_t{1} << 40;
  options.kv_dir = "/state/kv";
  options.idle_turn_ms = 25;
  return {HelloFrame{kWireVersion, options},
          HelloFrame{},
          GenerateFrame{generate_request()},
          GenerateFrame{},
          EncodeFrame{encode_request()},
          EncodeFrame{},
          CancelFrame{99},
          ShutdownFrame{},
          GenerateEventFrame{1, generate_event()},
          GenerateEventFrame{2, failed},
          GenerateEventFrame{3, {}},
          EncodeReplyFrame{4, encoded},
          EncodeReplyFrame{5, encode_failed},
          HeartbeatFrame{engine_status()},
          HeartbeatFrame{},
          BudgetFrame{budget()},
          BudgetFrame{},
          LoadModelFrame{std::numeric_limits<std::uint64_t>::max(), "m"},
          UnloadModelFrame{7, "n"},
          ModelDoneFrame{8, std::nullopt},
          ModelDoneFrame{9, Error(ErrorCode::model_failed, "gone", "model")},
          VocabularyFrame{"m", {{0, 1, 3}, {'a', 'b', '\0'}, {0, 1}, {1}}}};
}

std::span<const char> payload_of(const std::string& bytes) { return std::span(bytes).subspan(4); }

template <typename T>
T round_trip(const T& frame) {
  return std::get<T>(decode_frame(payload_of(encode_frame(frame))));
}

std::vector<char> packed(const std::function<void(msgpack::packer<msgpack::sbuffer>&)>& write) {
  msgpack::sbuffer buffer;
  msgpack::packer<msgpack::sbuffer> packer(&buffer);
  write(packer);
  return {buffer.data(), buffer.data() + buffer.size()};
}

std::string refusal(const std::vector<char>& payload) {
  try {
    decode_frame(payload);
  } catch (const Error& error) {
    return error.message();
  }
  return "none";
}

TEST(Wire, EveryFrameSurvivesTheTrip) {
  for (const Frame& frame : all_frames()) {
    const std::string bytes = encode_frame(frame);
    const Frame back = decode_frame(payload_of(bytes));
    EXPECT_EQ(back.index(), frame.index());
    EXPECT_EQ(encode_frame(back), bytes);
  }
}

TEST(Wire, NoFieldIsLostOrSwapped) {
  const auto request = round_trip(GenerateFrame{generate_request()}).request;
  const auto sent = generate_request();
  EXPECT_EQ(request.id, sent.id);
  EXPECT_EQ(request.model, "tiny");
  EXPECT_EQ(request.prompt, sent.prompt);
  EXPECT_EQ(request.max_tokens, 17);
  EXPECT_TRUE(request.max_tokens_may_shrink);
  EXPECT_EQ(request.stop_ids, sent.stop_ids);
  EXPECT_EQ(request.sampling.temperature, 0.7f);
  EXPECT_EQ(request.sampling.top_k, 40);
  EXPECT_EQ(request.sampling.seed, sent.sampling.seed);
  EXPECT_EQ(request.logit_bias, sent.logit_bias);
  ASSERT_TRUE(request.grammar);
  EXPECT_EQ(request.grammar->syntax, GrammarSyntax::lark);
  EXPECT_EQ(request.grammar->text, "start: /a+/");
  EXPECT_EQ(request.prediction, (std::vector<TokenId>{4, 5, 6}));
  EXPECT_TRUE(request.logprobs && request.prompt_logprobs);
  EXPECT_EQ(request.top_logprobs, 3);
  EXPECT_TRUE(request.explain);
  EXPECT_EQ(request.priority, -10);
  EXPECT_EQ(request.salt, "tenant");
  EXPECT_EQ(request.timeout, 1500ms);
  EXPECT_EQ(request.trace, "req-1");

  const auto event = round_trip(GenerateEventFrame{8, generate_event()}).event;
  EXPECT_EQ(event.prompt_logprobs, generate_event().prompt_logprobs);
  ASSERT_EQ(event.prompt_top_logprobs.size(), 2u);
  ASSERT_EQ(event.prompt_top_logprobs[0].size(), 2u);
  EXPECT_EQ(event.prompt_top_logprobs[0][1].token, 4);
  EXPECT_EQ(event.prompt_top_logprobs[0][1].logprob, -0.5f);
  ASSERT_EQ(event.tokens.size(), 2u);
  EXPECT_EQ(event.tokens[0].top_logprobs[1].token, 6);
  EXPECT_EQ(event.tokens[1].logprob, -3.0f);
  EXPECT_EQ(event.finish, FinishReason::stop);
  EXPECT_EQ(event.timings->decode_ms, 3.5);
  EXPECT_EQ(event.timings->draft_accepted, 1);
  EXPECT_FALSE(event.error);

  const auto status = round_trip(HeartbeatFrame{engine_status()}).status;
  EXPECT_EQ(status.state, EngineState::failing);
  EXPECT_EQ(status.last_tick - *status.last_step, 3s);
  EXPECT_EQ(status.steps, 12345678901u);
  EXPECT_EQ(status.kv_blocks_used, 42);
  EXPECT_TRUE(status.own_process);
  EXPECT_EQ(status.models[1].failure, "no such file");
  EXPECT_EQ(status.models[0].speculation.accepted, 9u);
  EXPECT_EQ(status.models[0].speculation.saved_ms, 2.5);
  EXPECT_EQ(status.models[0].grammars.refused, 3u);
  EXPECT_EQ(status.models[0].grammars.masks_ms, 0.75);
  EXPECT_EQ(status.models[0].progress, 0.25);

  EncodeReply failed;
  failed.error = Error(ErrorCode::deadline_exceeded, "late", "timeout_s");
  const auto error = round_trip(EncodeReplyFrame{1, failed}).reply.error;
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::deadline_exceeded);
  EXPECT_EQ(error->message(), "late");
  EXPECT_EQ(error->param(), "timeout_s");

  HelloFrame hello;
  hello.options.idle_turn_ms = 25;
  hello.options.encode_batch_tokens = 17;
  EXPECT_EQ(round_trip(hello).options.idle_turn_ms, 25);
  EXPECT_EQ(round_trip(hello).options.encode_batch_tokens, 17);
  hello.options.models = {{"a", "/a"}, {"b", "/b", ModelKind::rerank}};
  EXPECT_FALSE(round_trip(hello).options.models.at(0).kind);
  EXPECT_EQ(round_trip(hello).options.models.at(1).kind, ModelKind::rerank);

  const VocabularyFrame told = round_trip(VocabularyFrame{"m", {{0, 1, 3}, {'a', 'b', '\0'}, {0, 1}, {1}}});
  EXPECT_EQ(told.model, "m");
  EXPECT_EQ(told.texts.offsets, (std::vector<std::uint32_t>{0, 1, 3}));
  EXPECT_EQ(told.texts.bytes, (std::vector<char>{'a', 'b', '\0'}));
  EXPECT_EQ(told.texts.special, (std::vector<std::uint8_t>{0, 1}));
  EXPECT_EQ(told.texts.ends, (std::vector<TokenId>{1}));

  const auto encode = round_trip(EncodeFrame{encode_request()}).request;
  EXPECT_EQ(encode.texts, encode_request().texts);
  EXPECT_EQ(encode.types, encode_request().types);
  EXPECT_EQ(encode.scores, encode_request().scores);
  EXPECT_FALSE(encode.timeout);
}

TEST(Wire, WhatTheCacheTellsTravels) {
  const auto timings = round_trip(GenerateEventFrame{8, generate_event()}).event.timings;
  ASSERT_TRUE(timings && timings->cache);
  EXPECT_EQ(timings->cached_tokens, 8);
  EXPECT_EQ(timings->cached_disk_tokens, 4);
  EXPECT_EQ(timings->cache->miss, CacheMiss::diverged);
  EXPECT_EQ(timings->cache->diverged_at, 17);
  EXPECT_EQ(timings->cache->diverged_to, 300);
  for (const CacheMiss miss : {CacheMiss::first_use, CacheMiss::evicted, CacheMiss::other_salt,
                               CacheMiss::not_yet_written, CacheMiss::cheaper_to_compute}) {
    GenerateEvent event;
    event.timings.emplace().cache.emplace().miss = miss;
    const auto back = round_trip(GenerateEventFrame{8, event}).event.timings;
    ASSERT_TRUE(back && back->cache);
    EXPECT_EQ(back->cache->miss, miss);
    EXPECT_FALSE(back->cache->diverged_at || back->cache->diverged_to);
  }
  GenerateEvent plain;
  plain.timings.emplace();
  EXPECT_FALSE(round_trip(GenerateEventFrame{8, plain}).event.timings->cache);

  const auto status = round_trip(HeartbeatFrame{engine_status()}).status;
  const KvStatus& kv = status.models[0].kv;
  EXPECT_EQ(kv.blocks, 100);
  EXPECT_EQ(kv.blocks_used, 40);
  EXPECT_EQ(kv.blocks_cached, 30);
  EXPECT_EQ(kv.running, 2);
  EXPECT_EQ(kv.waiting, 5);
  EXPECT_EQ(kv.query_tokens, std::uint64_t{1} << 40);
  EXPECT_EQ(kv.memory_hit_tokens, 11u);
  EXPECT_EQ(kv.disk_hit_tokens, 12u);
  EXPECT_EQ(kv.preemptions, 13u);
  EXPECT_EQ(status.models[1].kv.blocks, 0);
  EXPECT_EQ(status.kv_disk.state, "error");
  EXPECT_EQ(status.kv_disk.message, "the disk is gone");
  EXPECT_TRUE(status.kv_disk.scanning);
  EXPECT_EQ(status.kv_disk.bytes, 21u);
  EXPECT_EQ(status.kv_disk.limit_bytes, 22u);
  EXPECT_EQ(status.kv_disk.files, 23u);
  EXPECT_EQ(status.kv_disk.written_bytes, 24u);
  EXPECT_EQ(status.kv_disk.read_bytes, std::uint64_t{1} << 41);
  EXPECT_EQ(status.kv_disk.rejected, engine_status().kv_disk.rejected);

  HelloFrame hello;
  hello.options.kv_dir = "/state/kv";
  hello.options.kv_disk_bytes = 1;
  hello.options.kv_write_bytes_per_day = 2;
  hello.options.kv_disk_free_bytes = 3;
  const EngineOptions options = round_trip(hello).options;
  EXPECT_EQ(options.kv_dir, "/state/kv");
  EXPECT_EQ(options.kv_disk_bytes, 1u);
  EXPECT_EQ(options.kv_write_bytes_per_day, 2u);
  EXPECT_EQ(options.kv_disk_free_bytes, 3u);
}

TEST(Wire, WhatTheGovernorAndTheModelsNeedTravels) {
  const StepBudget back = round_trip(BudgetFrame{budget()}).budget;
  EXPECT_EQ(back.level, 4);
  EXPECT_EQ(back.cause, ErrorCode::thermal_throttled);
  EXPECT_EQ(back.time_share, 0.25);
  EXPECT_EQ(back.sequence_share, 0.5);
  EXPECT_FALSE(back.drafts || back.background);
  EXPECT_TRUE(back.evicts && back.preempts && back.cancels);
  EXPECT_EQ(back.pause, 25ms);
  const StepBudget plain = round_trip(BudgetFrame{}).budget;
  EXPECT_TRUE(plain.drafts && plain.background);
  EXPECT_FALSE(plain.evicts || plain.preempts || plain.cancels);

  EXPECT_EQ(round_trip(LoadModelFrame{5, "m"}).model, "m");
  EXPECT_EQ(round_trip(UnloadModelFrame{5, "n"}).id, 5u);
  EXPECT_FALSE(round_trip(ModelDoneFrame{6, std::nullopt}).error);
  EXPECT_EQ(round_trip(ModelDoneFrame{6, Error(ErrorCode::model_failed, "gone")}).error->message(), "gone");

  HelloFrame hello;
  hello.options.models = {{"a", "/a", {}, false, true}};
  hello.options.memory_bytes = 17;
  hello.options.stream_dir = "/packed";
  hello.options.idle_unload_s = 60;
  const EngineOptions options = round_trip(hello).options;
  EXPECT_FALSE(options.models.at(0).load_at_start);
  EXPECT_TRUE(options.models.at(0).pinned);
  EXPECT_EQ(options.memory_bytes, 17u);
  EXPECT_EQ(options.stream_dir, "/packed");
  EXPECT_EQ(options.idle_unload_s, 60);
  EXPECT_FALSE(round_trip(HelloFrame{}).options.memory_bytes);

  const EngineStatus status = round_trip(HeartbeatFrame{engine_status()}).status;
  EXPECT_EQ(status.device_bytes, 31u);
  EXPECT_EQ(status.running_encodings, 1);
  EXPECT_EQ(status.waiting_encodings, 4);
  EXPECT_EQ(status.budget_bytes, std::uint64_t{1} << 42);
  EXPECT_EQ(status.level, 3);
  EXPECT_EQ(status.step_drift, 1.25);
  EXPECT_EQ(status.guard_preempted, 32u);
  EXPECT_EQ(status.guard_cancelled, 33u);
  EXPECT_TRUE(status.models.at(0).on_demand && !status.models.at(0).pinned);
  EXPECT_TRUE(status.models.at(1).pinned && !status.models.at(1).on_demand);
  EXPECT_EQ(status.models.at(0).idle_s, 1.5);
  EXPECT_EQ(status.models.at(0).plan, "8-bit KV of 7 blocks");
}

TEST(Wire, WhatStepsTookTravels) {
  const StepCounts sent = engine_status().step_counts;
  const StepCounts back = round_trip(HeartbeatFrame{engine_status()}).status.step_counts;
  EXPECT_EQ(back.of(StepKind::decode).tokens.buckets.back(), std::uint64_t{1} << 63);
  for (const StepKind kind : {StepKind::prompt, StepKind::decode, StepKind::mixed, StepKind::encode}) {
    EXPECT_EQ(back.of(kind).seconds.buckets, sent.of(kind).seconds.buckets);
    EXPECT_EQ(back.of(kind).tokens.buckets, sent.of(kind).tokens.buckets);
    EXPECT_EQ(back.of(kind).seconds.sum, sent.of(kind).seconds.sum);
    EXPECT_EQ(back.of(kind).tokens.sum, sent.of(kind).tokens.sum);
  }
}

// The counts of a heartbeat are arrays in arrays: a wrong length of any of them is refused.
TEST(Wire, RefusesHistogramsOfAnotherShape) {
  EngineStatus status;
  status.step_counts.kinds[3].tokens.sum = 0.5;  // the last histogram's, which is found by it
  const std::string bytes = encode_frame(HeartbeatFrame{status});
  const std::string sum = "\xcb\x3f\xe0" + std::string(6, '\0');
  const std::string buckets = "\xdc" + std::string(1, '\0') + "\x10" + std::string(16, '\0');
  const auto at = bytes.find(buckets + sum);
  ASSERT_NE(at, std::string::npos);
  const auto with = [&](const std::string& other) {
    std::string changed = bytes;
    changed.replace(at, buckets.size(), other);
    return refusal({changed.begin() + 4, changed.end()});
  };
  EXPECT_EQ(with(buckets), "none");
  EXPECT_THAT(with("\x9f" + std::string(15, '\0')), HasSubstr("15 items in place of 16"));
  EXPECT_THAT(with("\xdc" + std::string(1, '\0') + "\x11" + std::string(17, '\0')),
              HasSubstr("17 items in place of 16"));
  EXPECT_THAT(with("\x90"), HasSubstr("0 items in place of 16"));
  EXPECT_THAT(with(std::string(1, '\0')), HasSubstr("not an array"));
  EXPECT_THAT(with("\xc0"), HasSubstr("not an array"));
  EXPECT_THAT(with("\xdc" + std::string(1, '\0') + "\x10" + std::string(15, '\0') + '\xff'), HasSubstr("integer"));
  EXPECT_THAT(with("\xdd\xff\xff\xff\xff" + std::string(16, '\0')), HasSubstr("array size"));
}

TEST(Wire, AFrameCutAnywhereIsRefused) {
  for (const Frame& frame : all_frames()) {
    const std::string bytes = encode_frame(frame);
    const auto payload = payload_of(bytes);
    for (std::size_t length = 0; length < payload.size(); ++length) {
      // A copy of its own, so that a read past the end is seen.
      const std::vector<char> cut(payload.begin(), payload.begin() + static_cast<std::ptrdiff_t>(length));
      EXPECT_THROW(decode_frame(cut), Error) << frame.index() << " at " << length;
    }
    std::string longer = bytes + '\0';
    EXPECT_THROW(decode_frame(payload_of(longer)), Error);
  }
}

TEST(Wire, DamagedFramesAreRefusedOrReadButNeverHarm) {
  std::mt19937 random(3);
  int refused = 0;
  for (const Frame& frame : all_frames()) {
    const std::string bytes = encode_frame(frame);
    for (int round = 0; round < 2000; ++round) {
      std::vector<char> damaged(payload_of(bytes).begin(), payload_of(bytes).end());
      for (unsigned flips = 1 + random() % 3; flips > 0; --flips) {
        damaged[random() % damaged.size()] ^= static_cast<char>(1u << random() % 8);
      }
      try {
        decode_frame(damaged);
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 1000);
}

TEST(Wire, RefusesUnknownKindsVersionsAndShapes) {
  EXPECT_THAT(refusal(packed([](auto& p) { p.pack_array(2).pack(42).pack_array(0); })), HasSubstr("unknown kind 42"));
  EXPECT_THAT(refusal(packed([](auto& p) { p.pack_array(2).pack(-1).pack_array(0); })), HasSubstr("unknown kind -1"));
  EXPECT_THAT(refusal(packed([](auto& p) { p.pack_array(2).pack(0).pack_array(1).pack(1); })), HasSubstr("version 1"));
  EXPECT_THAT(refusal(packed([](auto& p) { p.pack_array(3).pack(4).pack_array(0).pack(0); })), HasSubstr("3 parts"));
  EXPECT_THAT(refusal(packed([](auto& p) { p.pack_array(2).pack(3).pack_array(1).pack(-5); })), HasSubstr("integer"));
  EXPECT_THAT(refusal(packed([](auto& p) { p.pack_array(2).pack(3).pack_array(1).pack("x"); })), HasSubstr("integer"));
  EXPECT_THAT(refusal(packed([](auto& p) { p.pack(1); })), HasSubstr("not an array"));
  EXPECT_THAT(refusal(packed([](auto& p) { p.pack_map(1).pack(1).pack(1); })), HasSubstr("worker frame"));
}

TEST(Wire, RefusesValuesThatNoEnumerationHas) {
  GenerateEvent event;
  event.timings.emplace().cache.emplace();
  for (const int miss : {-1, 6, 99}) {
    event.timings->cache->miss = static_cast<CacheMiss>(miss);
    const std::string bytes = encode_frame(GenerateEventFrame{1, event});
    EXPECT_THAT(refusal({bytes.begin() + 4, bytes.end()}), HasSubstr("no value of its enumeration")) << miss;
  }
  event = {};
  event.finish = static_cast<FinishReason>(2);
  const std::string bytes = encode_frame(GenerateEventFrame{1, event});
  EXPECT_THAT(refusal({bytes.begin() + 4, bytes.end()}), HasSubstr("no value of its enumeration"));
}

TEST(Wire, RefusesDeepAndHugeClaims) {
  EXPECT_THAT(refusal(packed([](auto& p) {
                for (int i = 0; i < 1000; ++i) p.pack_array(1);
                p.pack(1);
              })),
              HasSubstr("depth"));
  EXPECT_THAT(refusal({'\xdd', '\xff', '\xff', '\xff', '\xff'}), HasSubstr("array size"));
  EXPECT_THAT(refusal({'\xdb', '\xff', '\xff', '\xff', '\xff'}), HasSubstr("insufficient bytes"));
}

TEST(Wire, RefusesToWriteWhatIsTooLarge) {
  EncodeReply reply;
  reply.vectors.assign(kMaxFrameBytes / sizeof(float) - 100, 1.0f);
  EXPECT_EQ(round_trip(EncodeReplyFrame{1, reply}).reply.vectors.size(), reply.vectors.size());
  reply.vectors.resize(kMaxFrameBytes / sizeof(float));
  try {
    encode_frame(EncodeReplyFrame{1, reply});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::request_too_large);
  }
}

TEST(FrameBuffer, CutsFramesOutOfAnyPieces) {
  std::string stream;
  for (const Frame& frame : all_frames()) stream += encode_frame(frame);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{3}, std::size_t{64}, stream.size()}) {
    FrameBuffer buffer;
    std::vector<std::size_t> kinds;
    for (std::size_t at = 0; at < stream.size(); at += piece) {
      buffer.append(std::span(stream).subspan(at, std::min(piece, stream.size() - at)));
      while (auto frame = buffer.next()) kinds.push_back(frame->index());
    }
    ASSERT_EQ(kinds.size(), all_frames().size());
    for (std::size_t i = 0; i < kinds.size(); ++i) EXPECT_EQ(kinds[i], all_frames()[i].index());
  }
}

TEST(FrameBuffer, RefusesALengthOverTheLimitAtOnce) {
  FrameBuffer buffer;
  const std::uint32_t length = kMaxFrameBytes + 1;
  buffer.append({reinterpret_cast<const char*>(&length), sizeof(length)});
  EXPECT_THROW(buffer.next(), Error);
}

}  // namespace
}  // namespace cortex
