// An Engine without a model: it says a prompt's own tokens back, one a turn, and packs texts into bags of tokens. For
// tests of every layer above the engine. Owns one thread, on which all sinks are called; its calls may come from any
// thread.
//
//   generate: the reply is what EchoOptions::reply says, else the prompt over and over. A stop id in it ends it
//             (finish = stop, the stop id is the last token), and so does its end where the request has stop ids (the
//             first of them is the last token); max_tokens ends it with finish = length.
//   encode:   vector[token % dimensions] counts the text's tokens, so that equal bags are equal vectors; where scores
//             are asked for, a token's is -1 / (1 + how often the text has it). EchoOptions::vector says otherwise.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "base/channel.h"
#include "engine/engine.h"

namespace cortex {

struct EchoOptions {
  std::vector<std::string> models;  // others are model_not_found; empty: any name will do
  std::chrono::milliseconds token_delay{0};
  std::chrono::milliseconds encode_delay{0};
  int dimensions = 8;
  // Scripts the reply in place of the prompt.
  std::function<std::vector<TokenId>(const GenerateRequest&)> reply;
  // Scripts what the timings say beside their times, with the first token and at the end.
  std::function<void(const GenerateRequest&, GenerateTimings*)> timings;
  // Scripts the vector of texts[text].
  std::function<std::vector<float>(const EncodeRequest&, std::size_t text)> vector;
  // An error here is the request's only event.
  std::function<std::optional<Error>(const GenerateRequest&)> fail_generate;
  std::function<std::optional<Error>(const EncodeRequest&)> fail_encode;
};

class EchoEngine : public Engine {
 public:
  explicit EchoEngine(EchoOptions options = {});
  ~EchoEngine() override;  // what is in flight gets engine_unavailable

  void generate(GenerateRequest request, GenerateSink sink) override;
  void encode(EncodeRequest request, EncodeSink sink) override;
  void cancel(RequestId id) override;
  EngineStatus status() const override;
  void set_budget(const StepBudget& budget) override;
  // A model's state in status() becomes `ready` or `unloaded` at once.
  void load_model(const std::string& model, ModelSink sink) override;
  void unload_model(const std::string& model, ModelSink sink) override;

  // Replaces what status() says, for tests of health and of models that load or fail.
  void set_status(EngineStatus status);
  // What came, in order of arrival.
  std::vector<GenerateRequest> generate_requests() const;
  std::vector<EncodeRequest> encode_requests() const;
  std::vector<StepBudget> budgets() const;

 private:
  using TimePoint = std::chrono::steady_clock::time_point;

  struct Generation {
    GenerateRequest request;
    GenerateSink sink;
    TimePoint submitted;
    TimePoint next_token;
    std::optional<TimePoint> deadline;
    std::vector<TokenId> reply;
    int produced = 0;
  };
  struct Encoding {
    EncodeRequest request;
    EncodeSink sink;
    TimePoint submitted;
    TimePoint ready;
    std::optional<TimePoint> deadline;
  };
  struct Cancel {
    RequestId id;
  };
  struct Change {
    std::string model;
    ModelState state;
    ModelSink sink;
  };
  using Command = std::variant<Generation, Encoding, Cancel, Change>;

  void run();
  void accept(Command command);
  void change(const Change& wanted);
  void turn();
  // The next token of a generation; true when it was the last event.
  bool step(Generation& generation, TimePoint now);
  EncodeReply pack(const Encoding& encoding) const;
  std::vector<float> bag(const EncodeRequest& request, std::size_t text) const;
  std::chrono::nanoseconds until_next_event() const;
  std::optional<Error> refusal(const std::string& model) const;

  const EchoOptions options_;
  Channel<Command> inbox_;
  std::map<RequestId, Generation> generations_;  // the thread's own
  std::map<RequestId, Encoding> encodings_;      // the thread's own
  mutable std::mutex mutex_;
  EngineStatus status_;
  std::vector<GenerateRequest> generate_requests_;
  std::vector<EncodeRequest> encode_requests_;
  std::vector<StepBudget> budgets_;
  std::thread thread_;
};

}  // namespace cortex
