#include "engine/grammar_compiler.h"

#include <fmt/core.h>
#ifdef __linux__
#include <sys/resource.h>
#include <unistd.h>
#else
#include <pthread.h>
#endif

#include <algorithm>
#include <utility>

#include "base/resident_memory.h"
#include "engine/failure.h"

namespace cortex {
namespace {

// The device's threads go first.
void yield_to_others() {
#ifdef __linux__
  constexpr int kNice = 10;
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);
#else
  pthread_set_qos_class_self_np(QOS_CLASS_UTILITY, 0);
#endif
}

std::size_t bytes_of(const GrammarCompiler::Outcome& outcome) {
  if (const auto* grammar = std::get_if<CompiledGrammar>(&outcome)) return grammar->bytes();
  return std::get<Error>(outcome).message().size();
}

ErrorCode code_of(GrammarSyntax syntax) {
  return syntax == GrammarSyntax::json_schema ? ErrorCode::unsupported_schema : ErrorCode::invalid_grammar;
}

}  // namespace

GrammarCompiler::GrammarCompiler(const Clock* clock, GrammarCompilerOptions options)
    : clock_(*clock), options_(std::move(options)) {}

GrammarCompiler::~GrammarCompiler() {
  for (Job& job : jobs_) {
    if (job.thread.joinable()) job.thread.join();
  }
}

void GrammarCompiler::compile(RequestId id, std::size_t model, const Grammar& grammar) {
  CORTEX_CHECK(grammar.vocabulary);
  ModelGrammars& grammars = models_[model];
  if (grammars.vocabulary && grammars.vocabulary->texts != grammar.vocabulary) drop(model);
  if (!grammars.vocabulary) {
    grammars.vocabulary = std::make_shared<Vocabulary>();
    grammars.vocabulary->texts = grammar.vocabulary;
  }
  Key key{model, grammar.syntax, grammar.text};
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    cache_.splice(cache_.begin(), cache_, found->second);
    const Outcome& outcome = found->second->outcome;
    ++(std::holds_alternative<Error>(outcome) ? grammars.counts.refused : grammars.counts.reused);
    ready_.push_back({id, outcome});
    trim();
    return;
  }
  const auto same = std::ranges::find_if(jobs_, [&](const Job& job) { return !job.dropped && job.key == key; });
  if (same != jobs_.end()) {
    same->waiting.push_back(id);
    if (!same->late) ++grammars.counts.reused;
    return;  // one that is late is answered when it is next looked at
  }
  Job& job = jobs_.emplace_back();
  job.key = std::move(key);
  job.vocabulary = grammars.vocabulary;
  job.waiting = {id};
  job.queued = clock_.steady_now();
  begin_queued();
}

void GrammarCompiler::forget(RequestId id) {
  for (Job& job : jobs_) std::erase(job.waiting, id);
  std::erase_if(ready_, [&](const Ready& ready) { return ready.id == id; });
}

void GrammarCompiler::drop(std::size_t model) {
  for (Job& job : jobs_) job.dropped = job.dropped || job.key.model == model;
  for (auto cached = cache_.begin(); cached != cache_.end();) {
    const auto next = std::next(cached);
    if (cached->key.model == model) {
      by_key_.erase(cached->key);
      cache_.erase(cached);
    }
    cached = next;
  }
  if (const auto found = models_.find(model); found != models_.end()) found->second = {};
  trim();
}

void GrammarCompiler::limit_cache(std::size_t model, std::size_t bytes) {
  limits_[model] = bytes;
  trim();
}

std::vector<GrammarCompiler::Ready> GrammarCompiler::take_ready() {
  const TimePoint now = clock_.steady_now();
  for (auto job = jobs_.begin(); job != jobs_.end();) {
    const bool over = job->over.load(std::memory_order_acquire);
    if (over) {
      if (job->thread.joinable()) job->thread.join();  // a finish() that threw comes again
      finish(&*job);
    } else {
      end_late(&*job, now);
    }
    const bool unwanted = !job->thread.joinable() && job->waiting.empty();
    job = over || unwanted ? jobs_.erase(job) : std::next(job);
  }
  begin_queued();
  return std::exchange(ready_, {});
}

std::optional<GrammarCompiler::TimePoint> GrammarCompiler::due() const {
  std::optional<TimePoint> due;
  if (!ready_.empty()) due = TimePoint();
  for (const Job& job : jobs_) {
    if (job.late && job.waiting.empty()) continue;
    const TimePoint until = deadline(job).value_or(clock_.steady_now() + options_.deadline);
    due = std::min(due.value_or(until), until);
  }
  return due;
}

GrammarStatus GrammarCompiler::status(std::size_t model) const {
  const auto found = models_.find(model);
  if (found == models_.end()) return {};
  GrammarStatus status = found->second.counts;
  status.masks = found->second.costs->masks;
  status.masks_ms = found->second.costs->ms;
  return status;
}

std::size_t GrammarCompiler::bytes(std::size_t model) const {
  std::size_t bytes = 0;
  for (const Cached& cached : cache_) bytes += cached.key.model == model ? cached.bytes : 0;
  const auto found = models_.find(model);
  const bool has_vocabulary = found != models_.end() && found->second.vocabulary;
  return bytes + (has_vocabulary ? found->second.vocabulary->bytes.load() : 0);
}

void GrammarCompiler::run(Job* job) const noexcept {
  try {
    yield_to_others();
    Vocabulary& vocabulary = *job->vocabulary;
    std::call_once(vocabulary.made, [&] { make(&vocabulary); });
    job->began = clock_.steady_now().time_since_epoch().count();
    if (options_.before_build) options_.before_build();
    job->outcome = build(*vocabulary.trie, job->key);
  } catch (...) {
    job->outcome = caught_error();
  }
  try {
    job->over.store(true, std::memory_order_release);
    if (options_.wake) options_.wake();
  } catch (...) {
    log_failure("a compiled grammar's message", caught_error());
  }
}

void GrammarCompiler::make(Vocabulary* vocabulary) {
  const TokenTexts& texts = *vocabulary->texts;
  vocabulary->trie.emplace(texts.offsets, std::string_view(texts.bytes.data(), texts.bytes.size()), texts.special,
                           texts.ends);
  vocabulary->bytes = vocabulary->trie->bytes() + texts.bytes.size() + texts.special.size() +
                      texts.offsets.size() * sizeof(std::uint32_t);
  give_back_free_memory();  // in the making it takes several times as much
}

GrammarCompiler::Outcome GrammarCompiler::build(const TokenTrie& trie, const Key& key) {
  switch (key.syntax) {
    case GrammarSyntax::json_schema:
      return CompiledGrammar::of_json_schema(trie, key.text);
    case GrammarSyntax::regex:
      return CompiledGrammar::of_regex(trie, key.text);
    case GrammarSyntax::lark:
      break;
  }
  return CompiledGrammar::of_lark(trie, key.text);
}

void GrammarCompiler::begin_queued() {
  const auto has_thread = [](const Job& job) { return job.thread.joinable(); };
  for (Job& job : jobs_) {
    if (has_thread(job) || job.waiting.empty()) continue;
    const auto threads = static_cast<std::size_t>(std::ranges::count_if(jobs_, has_thread));
    const auto in_time = static_cast<std::size_t>(
        std::ranges::count_if(jobs_, [&](const Job& other) { return has_thread(other) && !other.late; }));
    if (threads >= options_.most_threads || in_time >= options_.most_at_once) return;
    try {
      job.thread = std::thread([this, begun = &job] { run(begun); });
    } catch (const std::exception& error) {
      answer(&job, Error(ErrorCode::engine_unavailable,
                         fmt::format("the grammar: the machine can't start a thread for it: {}", error.what())));
    }
  }
}

std::optional<GrammarCompiler::TimePoint> GrammarCompiler::deadline(const Job& job) const {
  if (!job.thread.joinable()) return job.queued + options_.patience;
  const auto began = job.began.load();
  if (began == 0) return std::nullopt;
  return TimePoint(TimePoint::duration(began)) + options_.deadline;
}

void GrammarCompiler::finish(Job* job) {
  const Outcome& outcome = *job->outcome;
  answer(job, outcome);
  if (job->dropped) return;
  const bool refused = std::holds_alternative<Error>(outcome);
  GrammarStatus& counts = models_[job->key.model].counts;
  if (!refused) ++counts.compiled;
  if (refused && !job->late) ++counts.refused;
  // A machine that was short of something may have it the next time.
  const auto passes = [](ErrorCode code) {
    return code == ErrorCode::engine_unavailable || code == ErrorCode::internal_error;
  };
  if (refused && passes(std::get<Error>(outcome).code())) return;
  keep(job->key, outcome);
}

void GrammarCompiler::end_late(Job* job, TimePoint now) {
  const auto until = deadline(*job);
  if (!until || now < *until) return;
  if (!job->thread.joinable()) {
    return answer(job, Error(ErrorCode::queue_full, "too many grammars are compiled at the moment"));
  }
  const bool tells = !job->waiting.empty() && !job->dropped;
  if (!std::exchange(job->late, true) && tells) ++models_[job->key.model].counts.refused;
  answer(job, Error(code_of(job->key.syntax),
                    fmt::format("compiling it takes more than {} ms; make it smaller", options_.deadline.count())));
}

void GrammarCompiler::answer(Job* job, const Outcome& outcome) {
  while (!job->waiting.empty()) {
    ready_.push_back({job->waiting.front(), outcome});
    job->waiting.erase(job->waiting.begin());
  }
}

void GrammarCompiler::keep(const Key& key, Outcome outcome) {
  if (by_key_.contains(key)) return;
  cache_.push_front({.key = key, .outcome = std::move(outcome)});
  by_key_.emplace(key, cache_.begin());
  trim();
}

// Grammars grow while they are used: all are measured anew. A model's last used one stays, or one that is too large
// would be compiled for every request.
void GrammarCompiler::trim() {
  struct Kept {
    std::size_t count = 0, bytes = 0;
  };
  std::map<std::size_t, Kept> of_models;
  cached_bytes_ = 0;
  for (Cached& cached : cache_) {
    cached.bytes = sizeof(Cached) + 2 * cached.key.text.size() + bytes_of(cached.outcome);
    cached_bytes_ += cached.bytes;
    Kept& kept = of_models[cached.key.model];
    ++kept.count;
    kept.bytes += cached.bytes;
  }
  for (auto cached = cache_.end(); cached != cache_.begin();) {
    --cached;
    Kept& kept = of_models[cached->key.model];
    const auto limit = limits_.find(cached->key.model);
    const bool over = limit != limits_.end() && kept.bytes > limit->second;
    if (kept.count == 1 || (!over && cached_bytes_ <= options_.cache_bytes)) continue;
    cached_bytes_ -= cached->bytes;
    --kept.count;
    kept.bytes -= cached->bytes;
    by_key_.erase(cached->key);
    cached = cache_.erase(cached);
  }
}

}  // namespace cortex
