// Chats: renders a conversation into a prompt, has the engine answer it, and commits the turn of its conversation.
// Owned by the front.
//
// A prompt begins with the ids of the turn before and of its reply, as far as its template writes their text: what the
// model sampled is stored with the turn of a conversation, and remembered for clients that send the history themselves.
//
// prepare() is called on a text thread; run() once for each prepared call, whose sink is called as Generation says: the
// commit to disk lies between the last piece and the end.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/thread_pool.h"
#include "service/admission.h"
#include "service/conversations.h"
#include "service/generation.h"
#include "service/models.h"
#include "service/output_format.h"
#include "service/reply_grammar.h"
#include "service/reply_tokens.h"
#include "service/tool_call.h"

namespace cortex {

struct ChatRequest : GenerationOptions {
  std::string id_prefix = "chat-";
  std::optional<std::string> model;
  std::optional<std::string> conversation_id;
  std::vector<Message> messages;          // with a conversation_id only the new ones
  bool store = true;                      // needs n = 1
  std::string template_arguments = "{}";  // chat_template_kwargs, a JSON object
  bool add_generation_prompt = true;
  bool continue_final_message = false;  // the reply goes on where the last message ends
  bool may_think = true;                // also before a reply that a grammar demands
  std::vector<Tool> tools;
  ToolChoice tool_choice;
  bool parallel_tool_calls = true;  // else at most one call
  std::optional<OutputFormat> format;
};

// A call that is ready to run.
struct ChatCall : GenerationCall {
  std::optional<std::string> conversation_id;

  // The rest is ChatService's.
  std::unique_ptr<Conversations::Turn> turn;
  std::vector<Message> messages;
  DialogueKey dialogue;                       // up to the message that the reply is or goes on with
  std::string begun;                          // the text of the latter
  SampledText sampled;                        // the ids that the reply's are to be put to
  std::map<int, std::string> grammar_params;  // of a ReplyGrammar
};

class ChatService {
 public:
  ChatService(const Models& models, Admission& admission, Conversations& conversations, ThreadPool& text_threads,
              const Clock& clock)
      : models_(models), admission_(admission), conversations_(conversations), place_{running_, text_threads, clock} {}

  // Throws Error for whatever is wrong with the request.
  ChatCall prepare(ChatRequest request);
  void run(ChatCall call, GenerationSink sink);

  // Ends a running call with `cancelled`. False when no such call of this owner runs.
  bool cancel(const std::string& id, const std::string& owner) { return running_.cancel(id, owner); }

 private:
  void recall(ChatRequest* request, DialogueKey* dialogue);
  std::string write_prompt(const ServedModel& model, const std::vector<Message>& history, const ChatRequest& request,
                           ChatCall* call);

  const Models& models_;
  Admission& admission_;
  Conversations& conversations_;
  RunningCalls running_;
  ReplyTokens reply_tokens_;
  GenerationPlace place_;
};

}  // namespace cortex
