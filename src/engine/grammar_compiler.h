// Compiles requests' grammars beside the engine, so that no step waits for it. Owned by the engine, whose thread makes
// all calls; each compile runs on a thread of its own, which yields to those that compute.
//
// One compile serves all requests that ask for the same text while it runs, and later ones find its outcome in a cache
// bounded in bytes, of all models together and of each, the longest unused leaving first. What a model used last stays,
// however large it is. A compile that takes longer than the deadline fails its requests; its thread goes on, as it
// can't be stopped, and what it comes to is kept for the next. Such threads hold up the others only when there are as
// many of them as there may be threads at all.
#pragma once

#include <atomic>
#include <chrono>
#include <compare>
#include <cstddef>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "engine/engine.h"
#include "engine/grammar_guide.h"
#include "engine/memory_plan.h"
#include "text/grammar.h"

namespace cortex {

struct GrammarCompilerOptions {
  std::chrono::milliseconds deadline{1500};                       // of one compile
  std::chrono::milliseconds patience = std::chrono::seconds(10);  // until it begins
  std::size_t cache_bytes = kMostGrammarCacheBytes;
  std::size_t most_at_once = 2;        // within their deadline
  std::size_t most_threads = 6;        // those beyond it included
  std::function<void()> wake;          // a compile is over: take_ready() is due; on its thread
  std::function<void()> before_build;  // tests: on the compile's thread
};

class GrammarCompiler {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Outcome = std::variant<CompiledGrammar, Error>;
  struct Ready {
    RequestId id = 0;
    Outcome outcome;
  };

  // The clock outlives it, and may be read by any thread.
  GrammarCompiler(const Clock* clock, GrammarCompilerOptions options);
  // Waits for what still compiles; limits bound that to seconds.
  ~GrammarCompiler();

  // The outcome comes by take_ready(), maybe at once. `model` is the caller's number for it. A grammar without a
  // vocabulary is a bug.
  void compile(RequestId id, std::size_t model, const Grammar& grammar);
  // Its outcome is not wanted any more; nothing happens when there is no such request.
  void forget(RequestId id);
  // The model is gone, and with it what was compiled for it. Its requests are over.
  void drop(std::size_t model);

  // What is kept of a model's grammars takes no more than that from now on, the last used one apart. Without a limit of
  // its own a model may have all of the cache.
  void limit_cache(std::size_t model, std::size_t bytes);

  // The outcomes since this was last called: a grammar; Error invalid_schema, unsupported_schema or invalid_grammar,
  // also when it took too long; queue_full when too many compile; engine_unavailable when no thread can be had.
  std::vector<Ready> take_ready();
  // When take_ready() is due at the latest; nothing while none compiles.
  std::optional<TimePoint> due() const;

  GrammarStatus status(std::size_t model) const;
  std::shared_ptr<MaskCosts> mask_costs(std::size_t model) { return models_[model].costs; }
  std::size_t cached_bytes() const { return cached_bytes_; }
  std::size_t bytes(std::size_t model) const;  // its grammars in the cache, and the vocabulary for them

 private:
  // Made on the first compile's thread.
  struct Vocabulary {
    std::shared_ptr<const TokenTexts> texts;
    std::once_flag made;
    std::optional<TokenTrie> trie;
    std::atomic<std::size_t> bytes = 0;  // of both, once it is made
  };
  struct ModelGrammars {
    std::shared_ptr<Vocabulary> vocabulary;
    GrammarStatus counts;
    std::shared_ptr<MaskCosts> costs = std::make_shared<MaskCosts>();
  };
  struct Key {
    std::size_t model;
    GrammarSyntax syntax;
    std::string text;
    auto operator<=>(const Key&) const = default;
  };
  struct Job {
    Key key;
    std::shared_ptr<Vocabulary> vocabulary;
    std::vector<RequestId> waiting;
    TimePoint queued;
    bool late = false, dropped = false;
    std::thread thread;  // not joinable before it has begun
    // Of the thread, until `over`.
    std::atomic<std::chrono::steady_clock::rep> began = 0;  // its deadline's clock; 0: the vocabulary comes first
    std::optional<Outcome> outcome;
    std::atomic<bool> over = false;
  };
  struct Cached {
    Key key;
    Outcome outcome;
    std::size_t bytes = 0;  // when it was last measured
  };

  void run(Job* job) const noexcept;
  static void make(Vocabulary* vocabulary);
  static Outcome build(const TokenTrie& trie, const Key& key);
  void begin_queued();
  std::optional<TimePoint> deadline(const Job& job) const;
  void finish(Job* job);
  void end_late(Job* job, TimePoint now);
  void answer(Job* job, const Outcome& outcome);
  void keep(const Key& key, Outcome outcome);
  void trim();

  const Clock& clock_;
  const GrammarCompilerOptions options_;
  std::map<std::size_t, ModelGrammars> models_;
  std::list<Job> jobs_;      // in the order they came
  std::list<Cached> cache_;  // the last used first
  std::map<Key, std::list<Cached>::iterator> by_key_;
  std::map<std::size_t, std::size_t> limits_;  // of a model's part of it, in bytes
  std::size_t cached_bytes_ = 0;
  std::vector<Ready> ready_;
};

}  // namespace cortex
