#include "cli/bench.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include "base/error.h"
#include "base/json_writer.h"
#include "cli/characters.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/fetch/progress.h"
#include "cli/interrupt.h"
#include "cli/machine.h"
#include "cli/model_path.h"
#include "model/model.h"

namespace cortex {
namespace {

double milliseconds_of(const Clock& clock, const std::function<void()>& work) {
  const auto begin = clock.steady_now();
  work();
  return milliseconds_between(begin, clock.steady_now());
}

// The token that follows `position`, greedily, as the answer to `row`.
WantedRow greedy_token(int row, int position) {
  WantedRow wanted;
  wanted.row = row;
  wanted.token = true;
  wanted.sampling.params.temperature = 0;
  wanted.sampling.position = position + 1;
  return wanted;
}

}  // namespace

std::vector<TokenId> fixed_tokens(int count, int vocabulary, std::uint32_t seed) {
  std::mt19937 random(seed);  // the standard says what it gives; it does not for distributions
  std::vector<TokenId> tokens(static_cast<std::size_t>(count));
  for (TokenId& token : tokens) token = static_cast<TokenId>(random() % static_cast<std::uint32_t>(vocabulary));
  return tokens;
}

double median(std::vector<double> values) {
  CORTEX_CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

DecoderBench::DecoderBench(DecoderBackend& decoder, int vocabulary, const Size& size, const Clock& clock)
    : decoder_(decoder), size_(size), clock_(clock) {
  const int blocks = (size.prompt_tokens + size.steps + kBlockTokens - 1) / kBlockTokens;
  for (int i = 0; i < size.sequences; ++i) {
    Sequence sequence;
    sequence.prompt = fixed_tokens(size.prompt_tokens + 1, vocabulary, static_cast<std::uint32_t>(i));
    for (int block = 0; block < blocks; ++block) sequence.blocks.push_back(i * blocks + block);
    sequences_.push_back(std::move(sequence));
  }
  decoder_.reserve_kv(size.sequences * blocks);
}

double DecoderBench::prefill() {
  return milliseconds_of(clock_, [&] {
    for (Sequence& sequence : sequences_) compute_prompt(sequence);
  });
}

double DecoderBench::decode() {
  for (Sequence& sequence : sequences_) compute_prompt(sequence);
  return milliseconds_of(clock_, [&] {
    for (int step = 0; step < size_.steps; ++step) advance_all(size_.prompt_tokens + step);
  });
}

void DecoderBench::compute_prompt(Sequence& sequence) {
  sequence.next = sequence.prompt.back();
  for (int start = 0; start < size_.prompt_tokens; start += kRowsPerPrefillStep) {
    const int rows = std::min(kRowsPerPrefillStep, size_.prompt_tokens - start);
    const bool last = start + rows == size_.prompt_tokens;
    StepPlan plan;
    plan.tokens.assign(sequence.prompt.begin() + start, sequence.prompt.begin() + start + rows);
    plan.slices.push_back({0, rows, start, sequence.blocks});
    if (last) plan.wanted.push_back(greedy_token(rows - 1, start + rows - 1));
    run(plan);
    if (last) sequence.next = result_.rows[0].token;
  }
}

void DecoderBench::advance_all(int position) {
  StepPlan plan;
  for (int row = 0; row < size_.sequences; ++row) {
    const Sequence& sequence = sequences_[static_cast<std::size_t>(row)];
    plan.tokens.push_back(sequence.next);
    plan.slices.push_back({row, 1, position, sequence.blocks});
    plan.wanted.push_back(greedy_token(row, position));
  }
  run(plan);
  for (std::size_t i = 0; i < sequences_.size(); ++i) sequences_[i].next = result_.rows[i].token;
}

void DecoderBench::run(const StepPlan& plan) {
  InterruptWatch::check();
  decoder_.submit(plan);
  decoder_.collect(&result_);
  for (const RowResult& row : result_.rows) {
    if (!row.finite) throw Error(ErrorCode::numerical_error, "the model gave a number that is not finite");
  }
}

EncoderBench::EncoderBench(EncoderBackend& encoder, int vocabulary, int texts, int tokens_per_text, const Clock& clock)
    : encoder_(encoder), clock_(clock) {
  texts_.tokens = fixed_tokens(texts * tokens_per_text, vocabulary, 0);
  for (int i = 0; i <= texts; ++i) texts_.starts.push_back(i * tokens_per_text);
}

double EncoderBench::encode() {
  InterruptWatch::check();
  EncodeResult result;
  return milliseconds_of(clock_, [&] { encoder_.encode(texts_, &result); });
}

// The command ---------------------------------------------------------------------------------------------------------

namespace {

constexpr std::int64_t kMostTokens = 1 << 24;  // of all sequences or texts together

struct BenchFlags {
  explicit BenchFlags(CLI::App& app) : log(app, LogLevel::warning) {
    app.add_option("workload", workload, "What is timed: a prompt, single tokens after one another, or texts")
        ->required()
        ->check(CLI::IsMember({"prefill", "decode", "encode"}));
    app.add_option("--model", model, "The model, as serve takes it")
        ->type_name("MODEL")
        ->required()
        ->envname("CORTEX_MODEL");
    app.add_option("--tokens", tokens,
                   "Of the prompt, of each sequence's continuation or of each text; default: 512, 128 and 128")
        ->check(CLI::Range(1, 1 << 20));
    app.add_option("--batch", batch, "Sequences that are continued, or texts, at the same time; default: 1 and 32")
        ->check(CLI::Range(1, 4096));
    app.add_option("--prompt", prompt_tokens, "Tokens of each sequence before those of decode, not timed")
        ->check(CLI::Range(0, 1 << 20))
        ->capture_default_str();
    app.add_option("--repeat", repeat, "Runs that are timed, after one that is not")
        ->check(CLI::Range(1, 100000))
        ->capture_default_str();
    app.add_option("--backend", backend, "What executes the model: cpu, mlx, or auto: mlx where it has a GPU, else cpu")
        ->envname("CORTEX_BACKEND")
        ->check(CLI::IsMember({"auto", "cpu", "mlx"}))
        ->capture_default_str();
    app.add_option("--threads", options.threads, "Threads that compute; 0 is one per core")
        ->envname("CORTEX_THREADS")
        ->check(CLI::Range(0, 1024))
        ->capture_default_str();
    app.add_flag("--exact", options.exact, "Float32 products, where the backend would take narrower ones");
    app.add_flag("--json", json, "Print {\"tokens_per_second\":..,\"ms\":..,\"runs\":[..],..}, times in milliseconds");
  }

  LogFlags log;
  std::string workload, model;
  std::optional<int> tokens, batch;
  int prompt_tokens = 0;
  int repeat = 5;
  std::string backend = "auto";
  BackendOptions options;
  bool json = false;
};

struct Workload {
  bool encodes = false;  // else a decoder is timed
  bool decodes = false;  // else its prefill
  int tokens = 0;
  int batch = 0;
  int prompt_tokens = 0;

  std::int64_t timed_tokens() const { return static_cast<std::int64_t>(tokens) * batch; }
  DecoderBench::Size decoder_size() const {
    return decodes ? DecoderBench::Size{batch, prompt_tokens, tokens} : DecoderBench::Size{batch, tokens, 0};
  }
};

// Throws Error unsupported_parameter or invalid_value.
Workload workload_of(const BenchFlags& flags) {
  Workload workload;
  workload.encodes = flags.workload == "encode";
  workload.decodes = flags.workload == "decode";
  workload.tokens = flags.tokens.value_or(workload.encodes || workload.decodes ? 128 : 512);
  workload.batch = flags.batch.value_or(workload.encodes ? 32 : 1);
  workload.prompt_tokens = flags.prompt_tokens;
  if (workload.prompt_tokens > 0 && !workload.decodes) {
    throw Error(ErrorCode::unsupported_parameter, fmt::format("--prompt: {} has none; decode has", flags.workload));
  }
  if (flags.workload == "prefill" && workload.batch > 1) {
    throw Error(ErrorCode::unsupported_parameter,
                fmt::format("--batch {}: prefill computes one prompt; decode and encode take several", workload.batch));
  }
  const std::int64_t all = static_cast<std::int64_t>(workload.tokens + workload.prompt_tokens) * workload.batch;
  if (all > kMostTokens) {
    throw Error(ErrorCode::invalid_value,
                fmt::format("--batch {}: {} tokens in all; at most {}", workload.batch, all, kMostTokens));
  }
  return workload;
}

// Throws Error model_not_capable or context_length_exceeded.
void check_fits(const Workload& workload, const Model& model, const std::string& name) {
  if (workload.encodes && model.is_decoder()) {
    throw Error(ErrorCode::model_not_capable,
                fmt::format("{} is a decoder; prefill and decode time it, encode does not", name));
  }
  if (!workload.encodes && !model.is_decoder()) {
    throw Error(ErrorCode::model_not_capable,
                fmt::format("{} is an encoder; encode times it, nothing else does", name));
  }
  const int tokens = workload.tokens + workload.prompt_tokens;
  if (tokens > model.context_tokens()) {
    throw Error(ErrorCode::context_length_exceeded,
                fmt::format("--tokens{}: {} tokens; {} takes at most {}", workload.decodes ? " and --prompt" : "",
                            tokens, name, model.context_tokens()));
  }
}

// A line on a terminal's standard error that gives way to the next; elsewhere nothing.
class StatusLine {
 public:
  StatusLine() : shown_(::isatty(STDERR_FILENO) == 1) {}
  ~StatusLine() { show(""); }
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  void show(const std::string& text) const {
    if (shown_) fmt::print(stderr, "\r{}\x1b[K", printable(text));
    if (shown_) std::fflush(stderr);
  }

 private:
  bool shown_;
};

// A model on a backend, of which it has one of the two.
struct Subject {
  std::string name;
  Model model;
  std::unique_ptr<Backend> backend;  // outlives what it loaded
  std::unique_ptr<DecoderBackend> decoder;
  std::unique_ptr<EncoderBackend> encoder;
  double load_ms = 0;

  std::size_t memory_bytes() const { return decoder ? decoder->memory_bytes() : encoder->memory_bytes(); }
};

template <typename Network>
auto load_network(Backend& backend, const Network& network, const LoadProgress& progress) {
  if (const auto missing = backend.lacks(network.spec)) {
    throw Error(ErrorCode::model_failed,
                fmt::format("backend {} lacks {}; --backend chooses", backend.name(), *missing));
  }
  return backend.load(network.spec, network.weights, progress);
}

void load(Subject& subject, const StatusLine& line) {
  const LoadProgress progress = [&](double fraction) {
    InterruptWatch::check();
    line.show(fmt::format("loading {}: {:.0f}%", subject.name, 100 * fraction));
  };
  subject.load_ms = milliseconds_of(system_clock(), [&] {
    if (const auto* decoder = std::get_if<DecoderModel>(&subject.model.network)) {
      subject.decoder = load_network(*subject.backend, *decoder, progress);
    } else {
      subject.encoder = load_network(*subject.backend, std::get<EncoderModel>(subject.model.network), progress);
    }
  });
}

// [repeat] milliseconds of `run`, after a run that counts for nothing.
std::vector<double> timed_runs(const std::function<double()>& run, int repeat, const StatusLine& line) {
  line.show("warming up");
  run();
  std::vector<double> runs;
  while (static_cast<int>(runs.size()) < repeat) {
    line.show(fmt::format("run {} of {}{}", runs.size() + 1, repeat,
                          runs.empty() ? "" : fmt::format(", the last took {:.1f} ms", runs.back())));
    runs.push_back(run());
  }
  return runs;
}

std::vector<double> time_workload(const Workload& workload, const Subject& subject, int repeat,
                                  const StatusLine& line) {
  const int vocabulary = subject.model.vocabulary();
  if (workload.encodes) {
    EncoderBench bench(*subject.encoder, vocabulary, workload.batch, workload.tokens, system_clock());
    return timed_runs([&] { return bench.encode(); }, repeat, line);
  }
  DecoderBench bench(*subject.decoder, vocabulary, workload.decoder_size(), system_clock());
  return timed_runs([&] { return workload.decodes ? bench.decode() : bench.prefill(); }, repeat, line);
}

double rounded(double value) { return std::round(value * 1000) / 1000; }

double tokens_per_second(const Workload& workload, double ms) {
  return static_cast<double>(workload.timed_tokens()) * 1000 / ms;
}

std::string as_json(const BenchFlags& flags, const Workload& workload, const Subject& subject,
                    const std::vector<double>& runs) {
  const double ms = median(runs);
  JsonWriter json;
  json.begin_object().key("workload").string(flags.workload).key("tokens").integer(workload.tokens);
  json.key("batch").integer(workload.batch).key("prompt_tokens").integer(workload.prompt_tokens);
  json.key("model").string(subject.name).key("architecture").string(subject.model.architecture);
  json.key("format").string(subject.model.format).key("weight_bytes").unsigned_integer(subject.model.weight_bytes);
  json.key("backend").string(subject.backend->name()).key("device").string(subject.backend->device());
  json.key("threads").integer(flags.options.threads).key("exact").boolean(flags.options.exact);
  if (subject.decoder) json.key("numeric_class").string(subject.decoder->kv_geometry().numeric_class);
  json.key("memory_bytes").unsigned_integer(subject.memory_bytes()).key("load_ms").number(rounded(subject.load_ms));
  json.key("tokens_per_second").number(rounded(tokens_per_second(workload, ms))).key("ms").number(rounded(ms));
  json.key("runs").begin_array();
  for (const double run : runs) json.number(rounded(run));
  return json.end_array().end_object().take();
}

std::string as_text(const BenchFlags& flags, const Workload& workload, const Subject& subject,
                    const std::vector<double>& runs) {
  const auto [fastest, slowest] = std::minmax_element(runs.begin(), runs.end());
  const Model& model = subject.model;
  std::string what = fmt::format("{} tokens", workload.tokens);
  if (!workload.encodes && workload.prompt_tokens > 0) what += fmt::format(" after {}", workload.prompt_tokens);
  if (workload.batch > 1) what += fmt::format(" x {}", workload.batch);
  std::string out =
      fmt::format("{}, {}, {} of {}, {}: loaded in {:.0f} ms\n", subject.name, model.architecture,
                  format_bytes(model.weight_bytes), model.format, subject.backend->device(), subject.load_ms);
  return printable(out) +
         fmt::format("{}, {}, {} threads: {:.1f} tokens/s, median of {}: {:.1f} ms ({:.1f} to {:.1f})\n",
                     flags.workload, what, flags.options.threads, tokens_per_second(workload, median(runs)),
                     runs.size(), median(runs), *fastest, *slowest);
}

int bench(BenchFlags flags) {
  const InterruptWatch watch;
  const Workload workload = workload_of(flags);
  const ModelConfig config = parse_model(real_file_system(), model_places(std::getenv), flags.model);
  Subject subject;
  subject.name = config.name;
  subject.model = open_model(real_file_system(), config.path);
  check_fits(workload, subject.model, subject.name);
  if (flags.options.threads == 0) flags.options.threads = std::max(1, read_machine().usable_cores);
  subject.backend = open_backend(flags.backend, flags.options);
  std::vector<double> runs;
  {
    const StatusLine line;
    load(subject, line);
    runs = time_workload(workload, subject, flags.repeat, line);
  }
  print_out(flags.json ? as_json(flags, workload, subject, runs) + "\n" : as_text(flags, workload, subject, runs));
  return kExitOk;
}

}  // namespace

RunCommand bench_command(CLI::App& app) {
  app.description(
      "Times a model on its backend, without engine and server. Token ids are random but always the same. prefill: one "
      "prompt from an empty cache. decode: greedy steps of one token of each sequence. encode: texts of equal length. "
      "Says the median.");
  const auto flags = std::make_shared<BenchFlags>(app);
  return [flags] {
    start_log(flags->log.least(), "bench");
    return run_tool("bench", [&] { return bench(*flags); });
  };
}

}  // namespace cortex
