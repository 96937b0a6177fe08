// What an engine tells a sink, gathered so that a test can wait for its end. Outlives the request; any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <vector>

#include "engine/engine.h"

namespace cortex {

class CollectedEvents {
 public:
  GenerateSink sink() {
    return [this](GenerateEvent event) {
      std::lock_guard lock(mutex_);
      if (over_) ++after_the_last_;
      over_ = over_ || event.last();
      events_.push_back(std::move(event));
      changed_.notify_all();
    };
  }

  // Until the last event; throws when it does not come in time.
  void wait(std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, timeout, [&] { return over_; })) throw std::runtime_error("no last event in time");
  }

  // Until that many tokens have come, or the last event.
  void wait_for_tokens(std::size_t count, std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
    std::unique_lock lock(mutex_);
    const auto enough = [&] { return over_ || count_tokens() >= count; };
    if (!changed_.wait_for(lock, timeout, enough)) throw std::runtime_error("too few tokens in time");
  }

  std::vector<GenerateEvent> events() const {
    std::lock_guard lock(mutex_);
    return events_;
  }
  bool over() const {
    std::lock_guard lock(mutex_);
    return over_;
  }
  int after_the_last() const {
    std::lock_guard lock(mutex_);
    return after_the_last_;
  }

  std::vector<TokenId> tokens() const {
    std::vector<TokenId> tokens;
    for (const GenerateEvent& event : events()) {
      for (const SampledToken& sampled : event.tokens) tokens.push_back(sampled.token);
    }
    return tokens;
  }
  std::vector<float> prompt_logprobs() const {
    std::vector<float> logprobs;
    for (const GenerateEvent& event : events()) {
      logprobs.insert(logprobs.end(), event.prompt_logprobs.begin(), event.prompt_logprobs.end());
    }
    return logprobs;
  }
  std::optional<FinishReason> finish() const {
    const auto all = events();
    return all.empty() ? std::nullopt : all.back().finish;
  }
  std::optional<Error> error() const {
    const auto all = events();
    return all.empty() ? std::nullopt : all.back().error;
  }
  std::optional<ErrorCode> error_code() const {
    const auto failure = error();
    return failure ? std::optional(failure->code()) : std::nullopt;
  }

 private:
  std::size_t count_tokens() const {
    std::size_t count = 0;
    for (const GenerateEvent& event : events_) count += event.tokens.size();
    return count;
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<GenerateEvent> events_;
  bool over_ = false;
  int after_the_last_ = 0;
};

class CollectedReply {
 public:
  EncodeSink sink() {
    return [this](EncodeReply reply) {
      std::lock_guard lock(mutex_);
      reply_ = std::move(reply);
      changed_.notify_all();
    };
  }

  EncodeReply wait(std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, timeout, [&] { return reply_.has_value(); })) throw std::runtime_error("no reply");
    return *reply_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<EncodeReply> reply_;
};

}  // namespace cortex
