// The texts of one call while the engine makes them: for each of its prompts one or more, every one a request of its
// own to the engine. Turns the engine's events into pieces of text, counts, and ends the call when all texts have ended
// or one has failed. A service makes the call on a text thread and starts it; the engine's sinks keep it alive.
//
// The sink gets pieces on the engine's thread, one at a time, and the end on a text thread, after all of them.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/thread_pool.h"
#include "engine/engine.h"
#include "service/admission.h"
#include "service/choice_text.h"
#include "service/content_stops.h"
#include "service/generation_options.h"
#include "service/models.h"
#include "service/reply_parser.h"
#include "service/running_calls.h"
#include "service/tool_call.h"

namespace cortex {

struct GenerationUsage {
  int prompt_tokens = 0;      // each prompt once, however many texts it gets
  int completion_tokens = 0;  // sampled, those that ended a text included
  int cached_tokens = 0;
  int reasoning_tokens = 0;  // of the sampled ones, the marks around them included
  int accepted_draft_tokens = 0;
  int rejected_draft_tokens = 0;
};

// What the KV cache had of a prompt.
struct CacheReport {
  int hit_tokens = 0;
  int disk_tokens = 0;  // of these
  CacheExplanation explanation;
  std::string diverged_text;  // of the token where it diverged; may be a part of a character
};

struct GenerationTimings {
  GenerateTimings engine;            // of the text that ended last
  std::optional<CacheReport> cache;  // of the first prompt, when it is asked for
  double ttft_ms = 0.0;
  double total_ms = 0.0;
};

// What one text has come to.
struct ChoiceEnd {
  std::string text;       // the content, where the call tells it apart
  std::string reasoning;  // what is said before it
  std::vector<ToolCall> tool_calls;
  std::string written;  // all as the model wrote it, where the call tells its parts apart and keeps ids
  std::vector<TokenText> tokens;
  std::vector<TokenId> ids;  // sampled, without what ended a turn; past a stop string they go on to its last token
  FinishReason reason = FinishReason::stop;
};

// Some of a call of a tool: the first of it has the id and the name.
struct ToolCallPiece {
  int index = 0;  // among its text's calls
  std::string id;
  std::string name;
  std::string arguments;
};

struct GenerationEnd {
  std::vector<ChoiceEnd> choices;  // those of the first prompt first
  GenerationUsage usage;
  GenerationTimings timings;
};

// A piece of a text, or its end; then the end of all, or what went wrong. The last two come once and last.
struct GenerationEvent {
  int choice = 0;
  std::string text;
  std::string reasoning;
  std::vector<ToolCallPiece> tool_calls;
  std::vector<TokenText> tokens;       // of this piece, when logprobs were asked for
  std::optional<FinishReason> finish;  // this text has ended
  bool called_tools = false;           // and it has called tools
  GenerationUsage usage;               // of the call so far
  // Tokens of this text since its piece before, and how far apart on average they came; its first is not among them.
  int next_tokens = 0;
  double token_gap_s = 0.0;
  std::optional<GenerationEnd> end;
  std::optional<Error> error;
};
using GenerationSink = std::function<void(GenerationEvent)>;

struct PlannedChoice {
  GenerateRequest request;
  std::shared_ptr<const PromptText> prompt;  // the text goes on where this ends; null: it stands for itself
};

// A call that is ready to run.
struct GenerationCall {
  std::string id;  // also what cancels it
  std::int64_t created_s = 0;
  std::string model;

  // The rest is for the Generation.
  const ServedModel* served = nullptr;
  std::vector<Admission::Ticket> tickets;  // one for each choice
  std::vector<PlannedChoice> choices;
  int choices_per_prompt = 1;
  bool echo = false;         // the prompt is the beginning of each text
  bool keeps_tokens = true;  // the end has all tokens again; where pieces are told as they come, nobody looks there
  bool keeps_ids = false;    // the end has all ids
  std::optional<ReplyRules> reply;  // tells the parts of a text apart; absent: all is content
  std::vector<std::string> stop;
  std::string owner;
  std::chrono::steady_clock::time_point begun;
};

// A call is made in three steps. Its id is `id_prefix` and what nobody can guess.
GenerationCall begin_call(const std::string& id_prefix, const GenerationOptions& options, const Clock& clock);
// It gets its model and room for all its texts. Throws Error as Admission does.
void admit(GenerationCall* call, Admission& admission, const ServedModel& model, std::size_t texts);
// The options' n texts for one prompt; the seed of the i-th is the first one's + i. Throws Error as
// make_generate_request does.
void add_choices(GenerationCall* call, const GenerationOptions& options, std::vector<TokenId> prompt,
                 const std::shared_ptr<const PromptText>& text, std::string_view param);

// What a service lends to its calls; outlives them.
struct GenerationPlace {
  RunningCalls& running;
  ThreadPool& text_threads;
  const Clock& clock;
};

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  Generation(const GenerationPlace& place, GenerationCall call, GenerationSink sink);

  void start();

 private:
  struct Choice {
    RequestId request = 0;
    ChoiceText text;
    std::optional<ReplyParser> parser;
    // Where there is a parser: stop strings count in content alone, and tokens wait until it is sure that none cuts
    // them.
    ContentStops stops;
    std::size_t characters = 0;  // of the text that the parser has seen, and of what stands before it
    std::vector<TokenText> waiting;
    std::shared_ptr<const PromptText> echo;  // until it has been told
    std::vector<float> prompt_logprobs;      // [prompt - 1] when they are wanted
    std::vector<std::vector<TokenLogprob>> prompt_top;
    bool counts_prompt = false;  // the first of its prompt
    ChoiceEnd end;
    bool ended = false;
    int cached_tokens = 0;  // as the engine last told
    int draft_tokens = 0, draft_accepted = 0;
    int undecided_tokens = 0;  // that may begin reasoning
    int tokens = 0;            // sampled
    int told_tokens = 0;       // of these, with the last piece
    std::chrono::steady_clock::time_point told = {};

    bool met_stop_string() const { return text.met_stop_string() || stops.matched(); }
  };

  // Whatever goes wrong with an event is the call's end.
  void take(std::size_t index, GenerateEvent event);
  void follow(std::size_t index, GenerateEvent event);
  void take_timings(Choice* choice, const GenerateTimings& timings);
  void take_tokens(Choice* choice, const GenerateEvent& event);
  void tell_text(Choice* choice, const SampledToken& token);
  void tell_echo(Choice* choice);
  void tell(Choice* choice, TextPiece piece, bool at_the_end = false);
  ReplyPieces parse(Choice* choice, TextPiece* piece, bool at_the_end) const;
  static void hold_tokens(Choice* choice, std::vector<TokenText>* tokens, bool at_the_end);
  void add_parts(Choice* choice, const ReplyPieces& pieces, GenerationEvent* event) const;
  // One with these parts, at this point of the text.
  GenerationEvent event_of(Choice* choice, GenerationEvent parts = {});
  void end_choice(Choice* choice, FinishReason reason);
  void end();
  void tell_end(GenerationEnd end);
  void fail(Error error);
  void cancel_the_rest();  // of a call that is over
  void cancel();

  GenerationPlace place_;
  std::string id_;
  std::string owner_;
  std::chrono::steady_clock::time_point begun_;
  const ServedModel* served_;
  bool wants_logprobs_;
  bool keeps_tokens_;
  bool keeps_ids_;
  GenerationSink sink_;
  std::vector<GenerateRequest> requests_;  // until start()
  std::vector<RequestId> request_ids_;
  Engine* engine_;
  std::vector<Admission::Ticket> tickets_;
  std::vector<Choice> choices_;
  std::size_t under_way_;  // choices that have not ended
  GenerationUsage usage_;
  GenerationTimings timings_;
  std::chrono::steady_clock::time_point first_token_;
  std::atomic<bool> over_ = false;  // ended or failed: nothing more is asked of the engine
  bool told_last_ = false;          // or a text thread will
};

}  // namespace cortex
