#include "http/dialect/generation_reply.h"

#include <utility>

#include "http/dialect/fields.h"
#include "http/dialect/generation_json.h"
#include "http/sse.h"

namespace cortex {
namespace {

void count(Metrics& metrics, const std::string& model, const GenerationEvent& event) {
  const char* finished = "Generations that are over.";
  for (int i = 0; i < event.next_tokens; ++i) {
    metrics.observe("inter_token_seconds", "From a token of a generation to its next.", {{"model", model}},
                    event.token_gap_s);
  }
  if (event.error) {
    const bool cancelled = event.error->code() == ErrorCode::cancelled;
    metrics.add("finished", finished, {{"model", model}, {"reason", cancelled ? "cancelled" : "error"}});
  }
  if (!event.end) return;
  const GenerationEnd& end = *event.end;
  for (const auto& choice : end.choices) {
    metrics.add("finished", finished,
                {{"model", model}, {"reason", std::string(name_of(choice.reason, !choice.tool_calls.empty()))}});
  }
  const MetricLabels labels = {{"model", model}};
  metrics.add("prompt_tokens", "Tokens of prompts.", labels, end.usage.prompt_tokens);
  metrics.add("generation_tokens", "Tokens that were sampled.", labels, end.usage.completion_tokens);
  const double seconds = end.timings.total_ms / 1000;
  metrics.observe("generation_seconds", "From a request to the end of what it generates.", labels, seconds);
  metrics.observe("queue_seconds", "From a request to its first step.", {{"lane", "interactive"}},
                  end.timings.engine.queue_ms / 1000);
  if (end.usage.completion_tokens == 0) return;
  metrics.observe("ttft_seconds", "From a request to its first token.", labels, end.timings.ttft_ms / 1000);
}

// Writes a stream's events. The generation calls it one event at a time.
class GenerationStream {
 public:
  GenerationStream(GenerationReply to, GenerationWords words) : to_(std::move(to)), words_(std::move(words)) {}

  void take(const GenerationEvent& event) {
    if (event.error) return fail(*event.error);
    const std::vector<std::string> chunks = words_.chunks(event);
    if (chunks.empty() && !event.end) return;
    std::string bytes;
    if (!std::exchange(begun_, true)) {
      for (const auto& chunk : words_.opening) bytes += sse_event(chunk);
    }
    for (const auto& chunk : chunks) bytes += sse_event(chunk);
    if (event.end) bytes += sse_done();
    to_.reply->write(std::move(bytes));
    if (event.end) to_.reply->end();
  }

 private:
  // Before anything has left, an error is a plain answer.
  void fail(const Error& error) {
    if (!begun_ && respond_error_unless_begun(*to_.reply, error, to_.dialect, to_.request_id)) return;
    to_.reply->note_error(error.code());
    to_.reply->write(sse_event(error_body(error, to_.dialect, to_.request_id)));
    to_.reply->end(StreamEnd::failed);
  }

  GenerationReply to_;
  GenerationWords words_;
  bool begun_ = false;
};

}  // namespace

GenerationSink answer_generation(const GenerationReply& to, GenerationWords words, const std::string& model,
                                 Metrics& metrics) {
  to.reply->note_model(model);
  if (to.stream) {
    to.reply->start_stream(200, sse_headers());
    auto stream = std::make_shared<GenerationStream>(to, std::move(words));
    return [stream, model, &metrics](const GenerationEvent& event) {
      count(metrics, model, event);
      stream->take(event);
    };
  }
  return [to, reply = std::move(words.reply), model, &metrics](const GenerationEvent& event) {
    count(metrics, model, event);
    if (event.error) respond_error(*to.reply, *event.error, to.dialect, to.request_id);
    if (event.end) respond_json(*to.reply, 200, reply(*event.end));
  };
}

}  // namespace cortex
