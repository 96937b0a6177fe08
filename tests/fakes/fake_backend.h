// A Backend without weights: the next token is a function of the history, and the history is read back through the
// block tables, so a wrong block, position or order changes what comes out. For tests of the engine. Not thread-safe,
// as the real ones; FakeSwitches is shared with the test and atomic.
#pragma once

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "base/error.h"
#include "engine/model_config.h"
#include "fakes/fake_clock.h"
#include "model/model.h"

namespace cortex {

inline constexpr int kFakeVocabulary = 1000;
inline constexpr int kFakeContext = 512;
inline constexpr TokenId kFakeNan = 13;    // a row of this token is not finite
inline constexpr TokenId kFakeThrow = 14;  // a step with this token throws Error weights_io_error
inline constexpr std::size_t kFakeBlockBytes = kBlockTokens * sizeof(TokenId);
inline constexpr int kFakeLayers = 10;
inline constexpr std::uint64_t kFakeFixedBytes = 1000;
inline constexpr std::uint64_t kFakeLayerBytes = 100;
inline constexpr std::uint64_t kFakeRowBytes = 2;

// What the fake model says after `history`, never one of the special tokens above.
inline TokenId fake_next(std::span<const TokenId> history) {
  std::uint32_t hash = 17;
  for (const TokenId token : history) hash = hash * 31 + static_cast<std::uint32_t>(token);
  return static_cast<TokenId>(100 + hash % 800);
}

// The first `count` tokens that the fake model says after a prompt.
inline std::vector<TokenId> fake_reply(std::vector<TokenId> history, int count) {
  std::vector<TokenId> reply;
  for (int i = 0; i < count; ++i) {
    reply.push_back(fake_next(history));
    history.push_back(reply.back());
  }
  return reply;
}

// log-softmax has no meaning here: a token's score is minus its distance from what the model would say.
inline float fake_score(std::span<const TokenId> history, TokenId token) {
  return -static_cast<float>(std::abs(fake_next(history) - token)) / kFakeVocabulary;
}

struct FakeSwitches {
  std::atomic<int> step_ms = 0;
  std::atomic<int> load_ms = 0;
  std::atomic<bool> fail_load = false;
  std::atomic<bool> break_decoders = false;  // their next step throws Error model_failed, and so do all after it
  std::atomic<int> resident_layers = 0;      // as the last decoder was to be held
  std::atomic<int> loaded = 0;               // decoders and encoders alive
  std::atomic<int> trims = 0;                // of decoders
  std::atomic<std::size_t> device_bytes = 0;
  std::atomic<std::size_t> grown_bytes = 0;  // that a decoder has more than was planned
  std::atomic<bool> fail_reads = false;      // of blocks, on their way to disk
  std::atomic<bool> fail_writes = false;     // of blocks that come from there
  std::atomic<FakeClock*> clock = nullptr;   // steps take their time on it, and none in truth
};

inline void take_step_time(const FakeSwitches& switches) {
  const std::chrono::milliseconds time(switches.step_ms);
  if (FakeClock* clock = switches.clock) return clock->advance(time);
  std::this_thread::sleep_for(time);
}

// The state after a token is how many have come and the first of them.
class FakeDecoder : public DecoderBackend {
 public:
  explicit FakeDecoder(FakeSwitches* switches) : switches_(switches) { ++switches_->loaded; }
  ~FakeDecoder() override { --switches_->loaded; }
  KvGeometry kv_geometry() const override { return {kFakeBlockBytes, "fake", "fake"}; }
  void reserve_kv(int blocks) override { pool_.assign(static_cast<std::size_t>(blocks) * kBlockTokens, -1); }

  void submit(const StepPlan& plan) override {
    take_step_time(*switches_);
    broken_ = broken_ || switches_->break_decoders;
    if (broken_) throw Error(ErrorCode::model_failed, "the fake device failed");
    result_ = {};
    for (const TokenId token : plan.tokens) {
      if (token == kFakeThrow) throw Error(ErrorCode::weights_io_error, "the fake disk is gone");
    }
    std::size_t next = 0;
    for (const SequenceSlice& slice : plan.slices) {
      for (int i = 0; i < slice.rows; ++i) {
        const int row = slice.first_row + i;
        at(slice, slice.start + i) = plan.tokens[static_cast<std::size_t>(row)];
        if (next == plan.wanted.size() || plan.wanted[next].row != row) continue;
        result_.rows.push_back(compute(slice, slice.start + i, plan.wanted[next++]));
      }
    }
  }
  void collect(StepResult* result) override { *result = std::move(result_); }
  void read_blocks(std::span<const BlockId> blocks, std::span<std::byte> out) override {
    if (switches_->fail_reads) throw std::runtime_error("the fake device can't be read");
    CORTEX_CHECK(out.size() == blocks.size() * kFakeBlockBytes);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      std::memcpy(out.data() + i * kFakeBlockBytes, block(blocks[i]), kFakeBlockBytes);
    }
  }
  void write_blocks(std::span<const BlockId> blocks, std::span<const std::byte> bytes) override {
    if (switches_->fail_writes) throw std::runtime_error("the fake device can't be written");
    CORTEX_CHECK(bytes.size() == blocks.size() * kFakeBlockBytes);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      std::memcpy(block(blocks[i]), bytes.data() + i * kFakeBlockBytes, kFakeBlockBytes);
    }
  }
  void discard(std::span<const BlockId>) override {}
  void prepare(std::span<const BlockId> blocks) override {
    prepared_.insert(prepared_.end(), blocks.begin(), blocks.end());
  }
  const std::vector<BlockId>& prepared() const { return prepared_; }
  std::size_t memory_bytes() const override { return pool_.size() * sizeof(TokenId) + switches_->grown_bytes; }
  std::size_t device_bytes() const override { return switches_->device_bytes; }
  void trim() override { ++switches_->trims; }

 private:
  TokenId* block(BlockId id) { return &pool_.at(static_cast<std::size_t>(id) * kBlockTokens); }
  TokenId& at(const SequenceSlice& slice, int position) {
    return block(slice.blocks[static_cast<std::size_t>(position / kBlockTokens)])[position % kBlockTokens];
  }

  RowResult compute(const SequenceSlice& slice, int position, const WantedRow& wanted) {
    std::vector<TokenId> history;
    for (int i = 0; i <= position; ++i) history.push_back(at(slice, i));
    RowResult row;
    row.finite = history.back() != kFakeNan;
    if (wanted.hidden) row.hidden = {static_cast<float>(history.size()), static_cast<float>(history.front())};
    for (const TokenId token : wanted.scores) row.scores.push_back(fake_score(history, token));
    if (!wanted.token) return row;
    CORTEX_CHECK(wanted.sampling.position == position + 1);
    row.token = fake_next(history);
    row.logprob = -0.5f;
    for (int i = 0; i < wanted.top_logprobs; ++i)
      row.top_logprobs.push_back({row.token + i, -0.5f - static_cast<float>(i)});
    return row;
  }

  FakeSwitches* const switches_;
  bool broken_ = false;
  std::vector<TokenId> pool_;
  std::vector<BlockId> prepared_;
  StepResult result_;
};

// A text's vector is its length and its first token; a text that starts with kFakeNan has no finite one.
class FakeEncoder : public EncoderBackend {
 public:
  explicit FakeEncoder(FakeSwitches* switches) : switches_(switches) { ++switches_->loaded; }
  ~FakeEncoder() override { --switches_->loaded; }
  void encode(const PackedTexts& texts, EncodeResult* result) override {
    take_step_time(*switches_);
    result->dimensions = 2;
    for (std::size_t i = 0; i + 1 < texts.starts.size(); ++i) {
      const TokenId first = texts.tokens[static_cast<std::size_t>(texts.starts[i])];
      if (first == kFakeThrow) throw std::runtime_error("the fake device is gone");
      result->pooled.push_back(static_cast<float>(texts.starts[i + 1] - texts.starts[i]));
      result->pooled.push_back(first == kFakeNan ? std::numeric_limits<float>::infinity() : static_cast<float>(first));
    }
  }
  std::size_t memory_bytes() const override { return 1; }

 private:
  FakeSwitches* const switches_;
};

class FakeBackend : public Backend {
 public:
  // Lacks what `lacks` names, if it names anything.
  FakeBackend(std::string name, FakeSwitches* switches, std::optional<std::string> lacks = {})
      : name_(std::move(name)), switches_(switches), lacks_(std::move(lacks)) {}
  std::string_view name() const override { return name_; }
  std::string_view device() const override { return "fake"; }
  std::optional<std::string> lacks(const DecoderSpec&) const override { return lacks_; }
  std::optional<std::string> lacks(const EncoderSpec&) const override { return lacks_; }
  std::optional<std::string> lacks(const DecoderHolding&) const override { return std::nullopt; }
  // Weights halve with any lower precision.
  DecoderNeeds needs(const DecoderSpec&, const DecoderWeights&, const DecoderHolding& holding) const override {
    const int divisor = holding.weights == WeightPrecision::as_given ? 1 : 2;
    return {.fixed_bytes = kFakeFixedBytes / divisor,
            .layer_bytes = std::vector<std::uint64_t>(kFakeLayers, kFakeLayerBytes / divisor),
            .kv_kept_bytes = kFakeBlockBytes,
            .kv_block_bytes = kFakeBlockBytes,
            .step_bytes = static_cast<std::uint64_t>(holding.rows_per_step) * kFakeRowBytes};
  }
  EncoderNeeds needs(const EncoderSpec&, const EncoderWeights&, WeightPrecision precision) const override {
    return {.weight_bytes = precision == WeightPrecision::as_given ? kFakeFixedBytes : kFakeFixedBytes / 2,
            .step_bytes = kFakeRowBytes};
  }
  std::unique_ptr<DecoderBackend> load(const DecoderSpec&, const DecoderWeights&, const DecoderHolding& holding,
                                       const LoadProgress& progress) override {
    wait(progress);
    switches_->resident_layers = holding.resident_layers;
    return std::make_unique<FakeDecoder>(switches_);
  }
  std::unique_ptr<EncoderBackend> load(const EncoderSpec&, const EncoderWeights&, WeightPrecision,
                                       const LoadProgress& progress) override {
    wait(progress);
    return std::make_unique<FakeEncoder>(switches_);
  }

 private:
  void wait(const LoadProgress& progress) const {
    for (int waited = 0; waited < switches_->load_ms; ++waited) {
      progress(static_cast<double>(waited) / switches_->load_ms);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    if (switches_->fail_load) throw Error(ErrorCode::weights_io_error, "fake.safetensors ends early");
  }

  const std::string name_;
  FakeSwitches* const switches_;
  const std::optional<std::string> lacks_;
};

// A model in memory: an encoder where `path` is "encoder", else a decoder that chats.
inline Model open_fake_model(const ModelConfig& config) {
  Model model;
  if (config.path == "encoder") {
    EncoderModel encoder;
    encoder.spec.vocabulary = kFakeVocabulary;
    encoder.spec.token_types = 2;
    encoder.spec.context_tokens = kFakeContext;
    model.network = std::move(encoder);
  } else {
    DecoderModel decoder;
    decoder.spec.vocabulary = kFakeVocabulary;
    decoder.spec.context_tokens = kFakeContext;
    model.network = std::move(decoder);
    model.chat_template = "{{ messages }}";
  }
  return model;
}

}  // namespace cortex
