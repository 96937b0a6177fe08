#include "service/generation.h"

#include <fmt/core.h>

#include <algorithm>
#include <exception>
#include <iterator>
#include <utility>

#include "base/error.h"
#include "base/identifier.h"
#include "base/log.h"
#include "service/request_ids.h"

namespace cortex {

GenerationCall begin_call(const std::string& id_prefix, const GenerationOptions& options, const Clock& clock) {
  GenerationCall call;
  call.begun = clock.steady_now();
  call.id = make_identifier(id_prefix);
  call.created_s = std::chrono::duration_cast<std::chrono::seconds>(clock.wall_now().time_since_epoch()).count();
  call.choices_per_prompt = options.n;
  call.stop = options.stop;
  call.owner = options.owner;
  return call;
}

void admit(GenerationCall* call, Admission& admission, const ServedModel& model, std::size_t texts) {
  call->served = &model;
  call->model = model.name;
  for (std::size_t i = 0; i < texts; ++i) call->tickets.push_back(admission.enter(model.name));
}

void add_choices(GenerationCall* call, const GenerationOptions& options, std::vector<TokenId> prompt,
                 const std::shared_ptr<const PromptText>& text, std::string_view param) {
  const GenerateRequest first = make_generate_request(*call->served, options, std::move(prompt), param);
  // After what would be wrong with it at any time.
  call->tickets.front().require_short(first.prompt.size());
  for (int i = 0; i < options.n; ++i) {
    PlannedChoice choice{first, text};
    choice.request.id = next_request_id();
    choice.request.sampling.seed += static_cast<std::uint64_t>(i);
    call->choices.push_back(std::move(choice));
  }
}

Generation::Generation(const GenerationPlace& place, GenerationCall call, GenerationSink sink)
    : place_(place),
      id_(std::move(call.id)),
      owner_(std::move(call.owner)),
      begun_(call.begun),
      served_(call.served),
      wants_logprobs_(call.choices.front().request.logprobs),
      keeps_tokens_(call.keeps_tokens),
      keeps_ids_(call.keeps_ids),
      sink_(std::move(sink)),
      engine_(&call.tickets.front().engine()),
      tickets_(std::move(call.tickets)),
      under_way_(call.choices.size()) {
  const auto per_prompt = static_cast<std::size_t>(call.choices_per_prompt);
  using Strings = std::vector<std::string>;
  const Strings text_stops = call.reply ? Strings() : call.stop;
  const Strings content_stops = call.reply && !call.reply->only_calls ? call.stop : Strings();
  choices_.reserve(call.choices.size());
  for (std::size_t i = 0; i < call.choices.size(); ++i) {
    PlannedChoice& planned = call.choices[i];
    const std::vector<TokenId> shown =
        call.reply ? served_->reply_style.shown(call.reply->calls.has_value()) : std::vector<TokenId>();
    Choice choice{.request = planned.request.id,
                  .text = {served_->tokenizer, text_stops, wants_logprobs_, shown},
                  .stops = ContentStops(content_stops)};
    if (call.reply) choice.parser.emplace(served_->reply_style, *call.reply);
    if (planned.prompt) {
      choice.characters = count_characters(planned.prompt->text);
      choice.text.continue_after(planned.request.prompt, choice.characters);
      if (call.echo) choice.echo = std::move(planned.prompt);
    }
    choice.counts_prompt = i % per_prompt == 0;
    if (choice.counts_prompt) usage_.prompt_tokens += static_cast<int>(planned.request.prompt.size());
    choices_.push_back(std::move(choice));
    request_ids_.push_back(planned.request.id);
    requests_.push_back(std::move(planned.request));
  }
}

void Generation::start() {
  place_.running.add(id_, owner_, [self = shared_from_this()] { self->cancel(); });
  std::vector<GenerateRequest> requests = std::move(requests_);
  for (std::size_t i = 0; i < requests.size() && !over_; ++i) {
    engine_->generate(std::move(requests[i]),
                      [self = shared_from_this(), i](GenerateEvent event) { self->take(i, std::move(event)); });
  }
  // What ended the call before all of it was under way did not know of the rest.
  if (over_) cancel_the_rest();
}

void Generation::take(std::size_t index, GenerateEvent event) {
  try {
    follow(index, std::move(event));
  } catch (const std::exception& error) {
    log_error(fmt::format("a reply came to an end: {}", error.what()));
    if (told_last_) return;
    fail(Error(ErrorCode::internal_error, "the reply could not be finished"));
    cancel();
  }
}

void Generation::follow(std::size_t index, GenerateEvent event) {
  Choice& choice = choices_[index];
  // A stop string or another text's failure ended it; the engine has not heard yet.
  if (over_ || choice.ended) return;
  if (event.error) return fail(std::move(*event.error));
  if (event.timings) take_timings(&choice, *event.timings);
  choice.prompt_logprobs.insert(choice.prompt_logprobs.end(), event.prompt_logprobs.begin(),
                                event.prompt_logprobs.end());
  choice.prompt_top.insert(choice.prompt_top.end(), event.prompt_top_logprobs.begin(), event.prompt_top_logprobs.end());
  if (!event.tokens.empty() || event.finish) tell_echo(&choice);
  take_tokens(&choice, event);
  if (event.finish && !choice.ended) end_choice(&choice, *event.finish);
  if (under_way_ == 0) end();
}

// They come with the first token and, unless a stop string ends the text, with the last.
void Generation::take_timings(Choice* choice, const GenerateTimings& timings) {
  timings_.engine = timings;
  const int drafted = timings.draft_tokens - std::exchange(choice->draft_tokens, timings.draft_tokens);
  const int accepted = timings.draft_accepted - std::exchange(choice->draft_accepted, timings.draft_accepted);
  usage_.accepted_draft_tokens += accepted;
  usage_.rejected_draft_tokens += drafted - accepted;
  if (!choice->counts_prompt) return;
  usage_.cached_tokens += timings.cached_tokens - std::exchange(choice->cached_tokens, timings.cached_tokens);
  if (choice != choices_.data() || !timings.cache) return;
  CacheReport report{timings.cached_tokens, timings.cached_disk_tokens, *timings.cache, {}};
  if (const auto token = report.explanation.diverged_to) report.diverged_text = served_->tokenizer->token_bytes(*token);
  timings_.cache = std::move(report);
}

void Generation::take_tokens(Choice* choice, const GenerateEvent& event) {
  for (const auto& token : event.tokens) {
    const bool is_end = event.finish == FinishReason::stop && &token == &event.tokens.back();
    ++usage_.completion_tokens;
    ++choice->tokens;
    if (usage_.completion_tokens == 1) {
      first_token_ = place_.clock.steady_now();
      timings_.ttft_ms = milliseconds_between(begun_, first_token_);
    }
    if (is_end) return;  // the token that ends a turn is no text
    if (keeps_ids_) choice->end.ids.push_back(token.token);
    tell_text(choice, token);
    if (!choice->met_stop_string() && !(choice->parser && choice->parser->is_over())) continue;
    // The engine would have told with its end, which nobody waits for.
    timings_.engine.decode_ms = milliseconds_between(first_token_, place_.clock.steady_now());
    engine_->cancel(choice->request);
    return end_choice(choice, FinishReason::stop);
  }
}

void Generation::tell_text(Choice* choice, const SampledToken& token) {
  if (!choice->parser) return tell(choice, choice->text.push(token));
  ReplyParser& parser = *choice->parser;
  const bool was_reasoning = parser.is_reasoning();
  tell(choice, choice->text.push(token));
  if (parser.is_undecided()) {
    ++choice->undecided_tokens;
    return;
  }
  const int undecided = std::exchange(choice->undecided_tokens, 0);
  if (was_reasoning || parser.is_reasoning()) usage_.reasoning_tokens += undecided + 1;
}

void Generation::tell_echo(Choice* choice) {
  const auto prompt = std::exchange(choice->echo, nullptr);
  if (!prompt) return;
  TextPiece piece{prompt->text, {}};
  if (wants_logprobs_) {
    piece.tokens = prompt_tokens(served_->tokenizer, *prompt, std::exchange(choice->prompt_logprobs, {}),
                                 std::exchange(choice->prompt_top, {}));
  }
  tell(choice, std::move(piece));
}

void Generation::tell(Choice* choice, TextPiece piece, bool at_the_end) {
  const ReplyPieces pieces = parse(choice, &piece, at_the_end);
  GenerationEvent parts;
  add_parts(choice, pieces, &parts);
  // The end of a call alone says nothing.
  if (parts.text.empty() && parts.reasoning.empty() && parts.tool_calls.empty() && piece.tokens.empty()) return;
  if (keeps_tokens_) choice->end.tokens.insert(choice->end.tokens.end(), piece.tokens.begin(), piece.tokens.end());
  parts.tokens = std::move(piece.tokens);
  sink_(event_of(choice, std::move(parts)));
}

// The piece's tokens become those that may be told now.
ReplyPieces Generation::parse(Choice* choice, TextPiece* piece, bool at_the_end) const {
  ReplyPieces pieces;
  if (!choice->parser) {
    add_piece(&pieces, PieceKind::content, piece->text);
    return pieces;
  }
  if (keeps_ids_) choice->end.written += piece->text;
  choice->characters += count_characters(piece->text);
  const auto add = [&](const ReplyPieces& more) {
    for (const auto& part : more) add_piece(&pieces, part.kind, part.text);
  };
  add(choice->stops.push(choice->parser->push(piece->text)));
  if (at_the_end) {
    add(choice->stops.push(choice->parser->finish()));
    add(choice->stops.finish());
  }
  if (choice->stops.has_stops()) hold_tokens(choice, &piece->tokens, at_the_end);
  return pieces;
}

// Past a stop string no token is told.
void Generation::hold_tokens(Choice* choice, std::vector<TokenText>* tokens, bool at_the_end) {
  auto& waiting = choice->waiting;
  std::move(tokens->begin(), tokens->end(), std::back_inserter(waiting));
  const auto held = choice->parser->held_characters() + choice->stops.held_characters();
  const auto certain = choice->characters - std::min(choice->characters, held);
  const bool is_all = at_the_end && !choice->stops.matched();
  const auto waits = [&](const TokenText& token) { return !is_all && token.begin_characters >= certain; };
  const auto rest = std::find_if(waiting.begin(), waiting.end(), waits);
  tokens->assign(std::make_move_iterator(waiting.begin()), std::make_move_iterator(rest));
  waiting.erase(waiting.begin(), rest);
}

// To what the text has come to, and to the event.
void Generation::add_parts(Choice* choice, const ReplyPieces& pieces, GenerationEvent* event) const {
  ChoiceEnd& end = choice->end;
  for (const auto& piece : pieces) {
    const int last_call = static_cast<int>(end.tool_calls.size()) - 1;
    switch (piece.kind) {
      case PieceKind::content:
        end.text += piece.text;
        event->text += piece.text;
        break;
      case PieceKind::reasoning:
        end.reasoning += piece.text;
        event->reasoning += piece.text;
        break;
      case PieceKind::call:
        end.tool_calls.push_back({make_identifier("call_"), piece.text, {}});
        event->tool_calls.push_back({last_call + 1, end.tool_calls.back().id, piece.text, {}});
        break;
      case PieceKind::arguments:
        end.tool_calls.back().arguments += piece.text;
        event->tool_calls.push_back({last_call, {}, {}, piece.text});
        break;
      case PieceKind::call_end:
        break;
    }
  }
}

GenerationEvent Generation::event_of(Choice* choice, GenerationEvent parts) {
  GenerationEvent event = std::move(parts);
  event.choice = static_cast<int>(choice - choices_.data());
  event.usage = usage_;
  const int told = std::exchange(choice->told_tokens, choice->tokens);
  if (choice->tokens == told) return event;
  const auto now = place_.clock.steady_now();
  const auto before = std::exchange(choice->told, now);
  if (told == 0) return event;
  event.next_tokens = choice->tokens - told;
  event.token_gap_s = milliseconds_between(before, now) / 1000 / event.next_tokens;
  return event;
}

void Generation::end_choice(Choice* choice, FinishReason reason) {
  tell(choice, choice->text.finish(), true);
  if (keeps_ids_ && choice->stops.matched()) {
    std::string& written = choice->end.written;
    written.resize(written.size() - std::min(written.size(), choice->stops.held_bytes()));
  }
  choice->ended = true;
  choice->end.reason = choice->met_stop_string() ? FinishReason::stop : reason;
  --under_way_;
  GenerationEvent event = event_of(choice);
  event.finish = choice->end.reason;
  event.called_tools = !choice->end.tool_calls.empty();
  sink_(std::move(event));
}

void Generation::end() {
  over_ = true;
  place_.running.remove(id_);
  GenerationEnd end{{}, usage_, timings_};
  for (auto& choice : choices_) end.choices.push_back(std::move(choice.end));
  const bool accepted = place_.text_threads.submit(
      [self = shared_from_this(), end = std::move(end)]() mutable { self->tell_end(std::move(end)); });
  told_last_ = accepted;
  if (!accepted) fail(Error(ErrorCode::draining, "the server is shutting down"));
}

void Generation::tell_end(GenerationEnd end) {
  end.timings.total_ms = milliseconds_between(begun_, place_.clock.steady_now());
  tickets_.front().computed_for((end.timings.total_ms - end.timings.engine.queue_ms) / 1000);
  tickets_.clear();
  GenerationEvent last;
  last.end = std::move(end);
  sink_(std::move(last));
}

void Generation::fail(Error error) {
  over_ = told_last_ = true;
  place_.running.remove(id_);
  cancel_the_rest();
  tickets_.clear();
  GenerationEvent last;
  last.error = std::move(error);
  sink_(std::move(last));
}

void Generation::cancel_the_rest() {
  if (request_ids_.size() > 1) cancel();
}

void Generation::cancel() {
  for (const RequestId id : request_ids_) engine_->cancel(id);
}

}  // namespace cortex
