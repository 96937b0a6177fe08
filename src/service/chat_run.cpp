#include "service/chat_run.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace cortex {

ChatRun::ChatRun(ChatService& service, ChatCall call, ChatSink sink)
    : service_(service),
      call_(std::move(call)),
      sink_(std::move(sink)),
      request_(call_.generate.id),
      trace_(call_.generate.trace),
      wants_logprobs_(call_.generate.logprobs),
      detokenizer_(call_.served->tokenizer),
      stops_(std::move(call_.stop)) {
  usage_.prompt_tokens = static_cast<int>(call_.generate.prompt.size());
}

void ChatRun::start() {
  call_.ticket->engine().generate(std::move(call_.generate),
                                  [self = shared_from_this()](GenerateEvent event) { self->take(std::move(event)); });
}

void ChatRun::take(GenerateEvent event) {
  if (over_) return;  // a stop string ended it; the engine has not heard yet
  if (event.error) return fail(std::move(*event.error));
  if (event.timings) timings_.engine = *event.timings;
  for (const auto& token : event.tokens) {
    const bool is_end = event.finish == FinishReason::stop && &token == &event.tokens.back();
    ++usage_.completion_tokens;
    if (usage_.completion_tokens == 1) {
      first_token_ = service_.clock_.steady_now();
      timings_.ttft_ms = milliseconds_between(call_.begun, first_token_);
    }
    if (is_end) break;  // the token that ends the turn is no text
    take_token(token);
    if (stops_.matched()) {
      // The engine would have told with its end, which nobody waits for.
      timings_.engine.decode_ms = milliseconds_between(first_token_, service_.clock_.steady_now());
      call_.ticket->engine().cancel(request_);
      return end(FinishReason::stop);
    }
  }
  if (event.finish) end(*event.finish);
}

TokenText ChatRun::text_of(const SampledToken& token) const {
  const Tokenizer& tokenizer = *call_.served->tokenizer;
  TokenText text{std::string(tokenizer.token_bytes(token.token)), token.logprob, {}};
  for (const auto& other : token.top_logprobs) {
    text.top.emplace_back(tokenizer.token_bytes(other.token), other.logprob);
  }
  return text;
}

void ChatRun::take_token(const SampledToken& token) {
  if (wants_logprobs_) told_.push_back({decoded_bytes_, text_of(token)});
  const std::string text = detokenizer_.push(token.token);
  decoded_bytes_ += text.size();
  show(stops_.push(text), false);
}

void ChatRun::show(std::string text, bool at_the_end) {
  text_ += text;
  ChatEvent event;
  event.text = std::move(text);
  // A token is told with the piece in which its text begins; past a stop string none is.
  const auto shown = [&](const Told& told) { return told.begin < text_.size() || (at_the_end && !stops_.matched()); };
  const auto rest = std::find_if_not(told_.begin(), told_.end(), shown);
  for (auto told = told_.begin(); told != rest; ++told) {
    tokens_.push_back(told->token);
    event.tokens.push_back(std::move(told->token));
  }
  told_.erase(told_.begin(), rest);
  if (!event.text.empty() || !event.tokens.empty()) sink_(std::move(event));
}

void ChatRun::end(FinishReason reason) {
  over_ = true;
  std::string rest = stops_.push(detokenizer_.finish());
  rest += stops_.finish();
  show(std::move(rest), true);
  usage_.cached_tokens = timings_.engine.cached_tokens;
  ChatEnd end{text_, std::move(tokens_), stops_.matched() ? FinishReason::stop : reason, usage_, timings_};
  service_.forget(call_.id);
  const bool accepted = service_.text_threads_.submit(
      [self = shared_from_this(), end = std::move(end)]() mutable { self->finish_on_text_thread(std::move(end)); });
  if (!accepted) fail(Error(ErrorCode::draining, "the server is shutting down"));
}

void ChatRun::finish_on_text_thread(ChatEnd end) {
  ChatEvent last;
  try {
    if (call_.turn) {
      call_.messages.push_back({"assistant", end.text});
      call_.turn->commit(call_.messages);
    }
    end.timings.total_ms = milliseconds_between(call_.begun, service_.clock_.steady_now());
    last.end = std::move(end);
  } catch (const Error& error) {
    last.error = error;
  } catch (const std::exception& error) {
    log_error(error.what(), trace_);
    last.error = Error(ErrorCode::internal_error, "the reply could not be finished");
  }
  // The client may take the next turn as soon as it hears of the end.
  call_.turn.reset();
  call_.ticket.reset();
  sink_(std::move(last));
}

void ChatRun::fail(Error error) {
  over_ = true;
  service_.forget(call_.id);
  call_.turn.reset();
  call_.ticket.reset();
  ChatEvent last;
  last.error = std::move(error);
  sink_(std::move(last));
}

}  // namespace cortex
