// The Jinja template that turns a conversation into a prompt, and the prompt's encoding. A template is foreign code: it
// gets no files, 128 KiB of source, 100 levels of calls and 200,000 steps (one is an instruction, 64 bytes of text or
// an item of a list that is made from others), which take milliseconds, some tens of them at most. Lists can't be
// repeated by *. Immutable and cheap to copy; any thread, several at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

struct cortex_template;  // rust/text

namespace cortex {

struct ChatTemplateOptions {
  bool add_generation_prompt = true;
  // An array of tools; empty: none. A template that reads no `tools` gets them as a section of the system message, or
  // of the first user message where it has no use for a system message, with calls as <tool_call> and results as
  // <tool_response> blocks (Hermes' form).
  std::string tools_json;
  std::string arguments_json = "{}";  // an object of further variables; never messages, tools or a special token
};

class ChatTemplate {
 public:
  // `special_tokens` are variables of the template: "bos_token" -> "<s>". Throws Error invalid_config when the source
  // is no template, engine_unavailable when the machine can't start a thread for it.
  ChatTemplate(std::string_view source, const std::map<std::string, std::string>& special_tokens);

  // For a model that has none: "role: text" in lines, and "assistant:" for the reply. It knows no turn tokens, so
  // somebody has to stop the reply at the next "user:".
  static ChatTemplate plain();

  // `messages_json` is an array of messages as transformers takes them. Throws Error invalid_value when the template
  // refuses (with its own words, from raise_exception) or can't render, or what it is given is not what it should be;
  // engine_unavailable when the machine can't start a thread for it.
  std::string render(std::string_view messages_json, const ChatTemplateOptions& options = {}) const;

 private:
  friend class ChatEncoder;
  std::shared_ptr<const cortex_template> template_;
};

struct ChatPrompt {
  std::vector<std::int32_t> ids;
  std::string text;  // what the ids encode: as rendered
};

// Ids that a model has sampled after a prompt of `begin` bytes.
struct SampledText {
  std::size_t begin = 0;
  std::vector<std::int32_t> ids;
  bool operator==(const SampledText&) const = default;
};

// Renders and encodes. Reserved tokens come from the template alone: the same text in a message, a tool or an argument
// is encoded as text, also if a normalizer makes it one. Reserved are all special tokens and, since many a vocabulary
// does not flag its turn tokens, every other added token that stands in the template's text, in its strings or in
// `special_tokens`, or that it can put around a name ('<|' + role + '|>'). Without such text the ids are the
// tokenizer's own for the rendered text with parse_special, except that reserved tokens are looked for before a
// normalizer changes the text, whatever their "normalized" says. Nothing is added around the prompt, as templates write
// BOS themselves. Throws as render() does.
//
// The template sees the input with stand-ins for the characters that reserved tokens begin or end with, one for one,
// and its text is the plain one wherever that has the same reserved tokens. What remains:
// - it does not find a reserved token that it looks for in the input ('</think>' in content) when others of the input
//   would be left in the prompt; if it raises an exception for that, the request fails;
// - a token that it writes only where the input lacks it may be the input's;
// - it can make tokens of what is none, by upper() or replace(), or from more than a name and two literals.
ChatPrompt encode_chat_prompt(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                              std::string_view messages_json, const ChatTemplateOptions& options = {});

// Where a prompt goes on from an earlier one, many ids may spell what the model said in between. What was `sampled`, in
// order, keeps its ids, so that the prompt's ids begin with the earlier prompt's and the reply's; all else is encoded
// as if the text were cut there. That holds as far as the ids spell the prompt's text from their byte on, in whole
// characters, with no reserved token in it or among them: the prompt is the same text with and without `sampled`. A
// tokenizer that begins every piece of a text with a space of its own keeps those alone that a reserved token follows.
ChatPrompt encode_chat_prompt(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                              std::string_view messages_json, const ChatTemplateOptions& options,
                              std::span<const SampledText> sampled);

// Its ids alone.
std::vector<std::int32_t> encode_chat(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                                      std::string_view messages_json, const ChatTemplateOptions& options = {});

}  // namespace cortex
