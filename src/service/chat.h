// One chat call from messages to text: renders the prompt, follows the engine's tokens, detokenizes, stops at stop
// strings, counts, and commits the turn of its conversation. Owned by the front.
//
// prepare() is called on a text thread; run() once for each prepared call. Sinks get text on the engine's thread and
// the end on a text thread (the commit to disk lies between), in order.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/thread_pool.h"
#include "engine/engine.h"
#include "service/admission.h"
#include "service/conversations.h"
#include "service/models.h"

namespace cortex {

// What a request may say of sampling; what it leaves open is the model's choice, then the built-in one.
struct SamplingChoice {
  std::optional<float> temperature, top_p, min_p, presence_penalty, frequency_penalty, repetition_penalty;
  std::optional<int> top_k;
  std::optional<std::int64_t> seed;
};

struct ChatRequest {
  std::optional<std::string> model;
  std::optional<std::string> conversation_id;
  std::vector<Message> messages;  // with a conversation_id only the new ones
  bool store = true;
  SamplingChoice sampling;
  std::optional<int> max_tokens;
  std::vector<std::string> stop;
  std::vector<std::pair<std::int64_t, float>> logit_bias;
  bool logprobs = false;
  int top_logprobs = 0;
  int priority = 0;
  std::optional<std::chrono::milliseconds> timeout;
  std::string template_arguments = "{}";  // chat_template_kwargs, a JSON object
  std::string salt;
  std::string owner;  // whose key asks: conversations and cancels are theirs
  std::string trace;
};

// A sampled token as text; bytes may be a part of a character.
struct TokenText {
  std::string bytes;
  float logprob = 0.0f;
  std::vector<std::pair<std::string, float>> top;  // bytes and logprob, likeliest first
};

struct ChatUsage {
  int prompt_tokens = 0;
  int completion_tokens = 0;  // sampled, the one that ended the turn included
  int cached_tokens = 0;
};

struct ChatTimings {
  GenerateTimings engine;
  double ttft_ms = 0.0;
  double total_ms = 0.0;
};

struct ChatEnd {
  std::string text;  // the whole reply
  std::vector<TokenText> tokens;
  FinishReason reason = FinishReason::stop;
  ChatUsage usage;
  ChatTimings timings;
};

// A piece of the reply, or the end, or what went wrong. The last two come once and last.
struct ChatEvent {
  std::string text;
  std::vector<TokenText> tokens;  // of this piece, when logprobs were asked for
  std::optional<ChatEnd> end;
  std::optional<Error> error;
};
using ChatSink = std::function<void(ChatEvent)>;

// A call that is ready to run.
struct ChatCall {
  std::string id;  // "chat-...": also what cancels it
  std::int64_t created_s = 0;
  std::string model;
  std::optional<std::string> conversation_id;

  // The rest is ChatService's.
  const ServedModel* served = nullptr;
  std::optional<Admission::Ticket> ticket;
  std::unique_ptr<Conversations::Turn> turn;
  std::vector<Message> messages;
  std::vector<std::string> stop;
  GenerateRequest generate;
  std::string owner;
  std::chrono::steady_clock::time_point begun;
};

class ChatService {
 public:
  ChatService(const Models& models, Admission& admission, Conversations& conversations, ThreadPool& text_threads,
              const Clock& clock);

  // Throws Error for whatever is wrong with the request.
  ChatCall prepare(ChatRequest request);
  void run(ChatCall call, ChatSink sink);

  // Ends a running call with `cancelled`. False when no such call of this owner runs.
  bool cancel(const std::string& id, const std::string& owner);

 private:
  friend class ChatRun;
  void forget(const std::string& id);

  const Models& models_;
  Admission& admission_;
  Conversations& conversations_;
  ThreadPool& text_threads_;
  const Clock& clock_;

  struct Running {
    Engine* engine = nullptr;
    RequestId request = 0;
    std::string owner;
  };
  std::mutex mutex_;
  std::unordered_map<std::string, Running> running_;  // by chat id
};

}  // namespace cortex
