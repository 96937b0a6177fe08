#include "fakes/echo_engine.h"

#include <algorithm>

#include "base/clock.h"

namespace cortex {
namespace {

using std::chrono::steady_clock;

constexpr float kLogprob = -0.5f;

std::vector<TokenLogprob> alternatives(TokenId token, int count) {
  std::vector<TokenLogprob> top;
  for (int i = 0; i < count; ++i) top.push_back({token + i, kLogprob - static_cast<float>(i)});
  return top;
}

GenerateEvent failed(Error error) {
  GenerateEvent event;
  event.error = std::move(error);
  return event;
}

EncodeReply encode_failed(Error error) {
  EncodeReply reply;
  reply.error = std::move(error);
  return reply;
}

const Error& cancelled() {
  static const Error error(ErrorCode::cancelled, "the request was cancelled");
  return error;
}

const Error& late() {
  static const Error error(ErrorCode::deadline_exceeded, "the request's deadline has passed");
  return error;
}

const Error& gone() {
  static const Error error(ErrorCode::engine_unavailable, "the engine is shutting down");
  return error;
}

}  // namespace

EchoEngine::EchoEngine(EchoOptions options) : options_(std::move(options)) {
  status_.backend = "echo";
  status_.device = "none";
  status_.last_tick = steady_clock::now();
  for (const std::string& name : options_.models) {
    ModelStatus model;
    model.name = name;
    model.state = ModelState::ready;
    model.progress = 1.0;
    model.backend = "echo";
    model.device = "none";
    status_.models.push_back(std::move(model));
  }
  thread_ = std::thread([this] { run(); });
}

EchoEngine::~EchoEngine() {
  inbox_.close();
  thread_.join();
}

void EchoEngine::generate(GenerateRequest request, GenerateSink sink) {
  {
    std::lock_guard lock(mutex_);
    generate_requests_.push_back(request);
  }
  Generation generation;
  generation.submitted = steady_clock::now();
  generation.next_token = generation.submitted + options_.token_delay;
  if (request.timeout) generation.deadline = generation.submitted + *request.timeout;
  generation.reply = options_.reply ? options_.reply(request) : request.prompt;
  generation.request = std::move(request);
  generation.sink = std::move(sink);
  inbox_.send(std::move(generation));
}

void EchoEngine::encode(EncodeRequest request, EncodeSink sink) {
  {
    std::lock_guard lock(mutex_);
    encode_requests_.push_back(request);
  }
  Encoding encoding;
  encoding.submitted = steady_clock::now();
  encoding.ready = encoding.submitted + options_.encode_delay;
  if (request.timeout) encoding.deadline = encoding.submitted + *request.timeout;
  encoding.request = std::move(request);
  encoding.sink = std::move(sink);
  inbox_.send(std::move(encoding));
}

void EchoEngine::cancel(RequestId id) { inbox_.send(Cancel{id}); }

EngineStatus EchoEngine::status() const {
  std::lock_guard lock(mutex_);
  return status_;
}

void EchoEngine::set_budget(const StepBudget& budget) {
  std::lock_guard lock(mutex_);
  budgets_.push_back(budget);
  status_.level = budget.level;
}

void EchoEngine::load_model(const std::string& model, ModelSink sink) {
  inbox_.send(Change{model, ModelState::ready, std::move(sink)});
}

void EchoEngine::unload_model(const std::string& model, ModelSink sink) {
  inbox_.send(Change{model, ModelState::unloaded, std::move(sink)});
}

void EchoEngine::set_status(EngineStatus status) {
  std::lock_guard lock(mutex_);
  status_ = std::move(status);
}

std::vector<GenerateRequest> EchoEngine::generate_requests() const {
  std::lock_guard lock(mutex_);
  return generate_requests_;
}

std::vector<EncodeRequest> EchoEngine::encode_requests() const {
  std::lock_guard lock(mutex_);
  return encode_requests_;
}

std::vector<StepBudget> EchoEngine::budgets() const {
  std::lock_guard lock(mutex_);
  return budgets_;
}

void EchoEngine::run() {
  while (!inbox_.closed()) {
    if (auto command = inbox_.receive_for(until_next_event())) accept(std::move(*command));
    while (auto command = inbox_.try_receive()) accept(std::move(*command));
    turn();
  }
  while (auto command = inbox_.try_receive()) accept(std::move(*command));
  for (auto& [id, generation] : generations_) generation.sink(failed(gone()));
  for (auto& [id, encoding] : encodings_) encoding.sink(encode_failed(gone()));
}

void EchoEngine::accept(Command command) {
  if (auto* generation = std::get_if<Generation>(&command)) {
    auto error = refusal(generation->request.model);
    if (!error && options_.fail_generate) error = options_.fail_generate(generation->request);
    if (error) return generation->sink(failed(*error));
    generations_.emplace(generation->request.id, std::move(*generation));
  } else if (auto* encoding = std::get_if<Encoding>(&command)) {
    auto error = refusal(encoding->request.model);
    if (!error && options_.fail_encode) error = options_.fail_encode(encoding->request);
    if (error) return encoding->sink(encode_failed(*error));
    encodings_.emplace(encoding->request.id, std::move(*encoding));
  } else if (const auto* wanted = std::get_if<Change>(&command)) {
    change(*wanted);
  } else {
    const RequestId id = std::get<Cancel>(command).id;
    if (auto node = generations_.extract(id)) node.mapped().sink(failed(cancelled()));
    if (auto node = encodings_.extract(id)) node.mapped().sink(encode_failed(cancelled()));
  }
}

void EchoEngine::change(const Change& wanted) {
  {
    std::lock_guard lock(mutex_);
    for (ModelStatus& model : status_.models) {
      if (model.name == wanted.model) model.state = wanted.state;
    }
  }
  wanted.sink(refusal(wanted.model));
}

void EchoEngine::turn() {
  const TimePoint now = steady_clock::now();
  for (auto it = generations_.begin(); it != generations_.end();) {
    Generation& generation = it->second;
    bool over = false;
    if (generation.deadline && now >= *generation.deadline) {
      generation.sink(failed(late()));
      over = true;
    } else if (now >= generation.next_token) {
      over = step(generation, now);
    }
    it = over ? generations_.erase(it) : std::next(it);
  }
  for (auto it = encodings_.begin(); it != encodings_.end();) {
    Encoding& encoding = it->second;
    const bool expired = encoding.deadline && now >= *encoding.deadline;
    if (!expired && now < encoding.ready) {
      ++it;
      continue;
    }
    encoding.sink(expired ? encode_failed(late()) : pack(encoding));
    it = encodings_.erase(it);
  }
  std::lock_guard lock(mutex_);
  status_.last_tick = now;
  status_.running = static_cast<int>(generations_.size() + encodings_.size());
  ++status_.steps;
}

bool EchoEngine::step(Generation& generation, TimePoint now) {
  const GenerateRequest& request = generation.request;
  GenerateEvent event;
  if (generation.produced == 0 && request.prompt_logprobs) {
    event.prompt_logprobs.assign(request.prompt.empty() ? 0 : request.prompt.size() - 1, kLogprob);
    for (std::size_t i = 1; request.logprobs && request.top_logprobs > 0 && i < request.prompt.size(); ++i) {
      event.prompt_top_logprobs.push_back(alternatives(request.prompt[i], request.top_logprobs));
    }
  }
  if (request.max_tokens == 0) {
    event.finish = FinishReason::length;
  } else {
    const auto length = generation.reply.size();
    const auto index = static_cast<std::size_t>(generation.produced);
    SampledToken sampled;
    if (index >= length && (length == 0 || !request.stop_ids.empty())) {
      sampled.token = request.stop_ids.empty() ? 0 : request.stop_ids.front();
      event.finish = FinishReason::stop;
    } else {
      sampled.token = generation.reply[index % length];
    }
    sampled.logprob = kLogprob;
    if (request.logprobs) sampled.top_logprobs = alternatives(sampled.token, request.top_logprobs);
    ++generation.produced;
    if (std::ranges::find(request.stop_ids, sampled.token) != request.stop_ids.end()) {
      event.finish = FinishReason::stop;
    } else if (generation.produced >= request.max_tokens) {
      event.finish = FinishReason::length;
    }
    event.tokens.push_back(std::move(sampled));
  }
  if (event.finish || generation.produced == 1) {
    GenerateTimings timings;
    timings.decode_ms = milliseconds_between(generation.submitted, now);
    timings.prompt_tokens = static_cast<int>(request.prompt.size());
    if (options_.timings) options_.timings(request, &timings);
    event.timings = timings;
  }
  generation.next_token = now + options_.token_delay;
  const bool last = event.last();
  generation.sink(std::move(event));
  return last;
}

EncodeReply EchoEngine::pack(const Encoding& encoding) const {
  EncodeReply reply;
  for (std::size_t i = 0; i < encoding.request.texts.size(); ++i) {
    const auto vector = options_.vector ? options_.vector(encoding.request, i) : bag(encoding.request, i);
    reply.dimensions = static_cast<int>(vector.size());
    reply.vectors.insert(reply.vectors.end(), vector.begin(), vector.end());
  }
  reply.compute_ms = milliseconds_between(encoding.submitted, steady_clock::now());
  return reply;
}

std::vector<float> EchoEngine::bag(const EncodeRequest& request, std::size_t text) const {
  const auto& tokens = request.texts[text];
  std::vector<float> vector;
  for (const TokenId token : request.scores) {
    vector.push_back(-1.0f / (1.0f + static_cast<float>(std::ranges::count(tokens, token))));
  }
  if (!vector.empty()) return vector;
  const auto dimensions = static_cast<std::size_t>(options_.dimensions);
  vector.resize(dimensions);
  for (const TokenId token : tokens) vector[static_cast<std::size_t>(token) % dimensions] += 1.0f;
  return vector;
}

std::chrono::nanoseconds EchoEngine::until_next_event() const {
  const TimePoint now = steady_clock::now();
  TimePoint next = now + std::chrono::seconds(1);
  for (const auto& [id, generation] : generations_) {
    next = std::min(next, generation.next_token);
    if (generation.deadline) next = std::min(next, *generation.deadline);
  }
  for (const auto& [id, encoding] : encodings_) {
    next = std::min(next, encoding.ready);
    if (encoding.deadline) next = std::min(next, *encoding.deadline);
  }
  return std::max(next - now, std::chrono::nanoseconds(0));
}

std::optional<Error> EchoEngine::refusal(const std::string& model) const {
  if (options_.models.empty() || std::ranges::find(options_.models, model) != options_.models.end())
    return std::nullopt;
  return Error(ErrorCode::model_not_found, "model: \"" + model + "\" is not one of the loaded models", "model");
}

}  // namespace cortex
