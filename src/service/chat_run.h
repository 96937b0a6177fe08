// A chat that is being answered: turns the engine's events into text. Private to ChatService. Events come one at a time
// on the engine's thread; the end is finished on a text thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "service/chat.h"
#include "service/stop_strings.h"
#include "text/detokenizer.h"

namespace cortex {

class ChatRun : public std::enable_shared_from_this<ChatRun> {
 public:
  ChatRun(ChatService& service, ChatCall call, ChatSink sink);

  void start();

 private:
  // A token whose text is not wholly shown yet, with the byte of the reply where it begins.
  struct Told {
    std::size_t begin = 0;
    TokenText token;
  };

  void take(GenerateEvent event);
  void take_token(const SampledToken& token);
  TokenText text_of(const SampledToken& token) const;
  void show(std::string text, bool at_the_end);
  void end(FinishReason reason);
  void fail(Error error);
  void finish_on_text_thread(ChatEnd end);

  ChatService& service_;
  ChatCall call_;
  ChatSink sink_;
  RequestId request_;
  std::string trace_;
  bool wants_logprobs_;
  Detokenizer detokenizer_;
  StopStrings stops_;
  std::string text_;               // shown so far
  std::size_t decoded_bytes_ = 0;  // of whole characters so far, shown or not
  std::vector<Told> told_;         // tokens whose logprobs wait for their text
  std::vector<TokenText> tokens_;  // told so far
  ChatUsage usage_;
  ChatTimings timings_;
  std::chrono::steady_clock::time_point first_token_;
  bool over_ = false;
};

}  // namespace cortex
