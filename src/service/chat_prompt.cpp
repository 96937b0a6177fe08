#include "service/chat_prompt.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "base/identifier.h"
#include "base/json_writer.h"
#include "service/json_call.h"

namespace cortex {
namespace {

constexpr EncodeOptions kAsPlainText{.add_special_tokens = false, .parse_special = false};

// What some templates insist on: 9 letters and digits. The same id for the same call.
std::string short_id(const std::string& id) {
  constexpr std::size_t kSize = 9;
  constexpr std::string_view kDigits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const bool is_plain = id.find_first_not_of(kDigits) == std::string::npos;
  if (is_plain && id.size() == kSize) return id;
  std::uint64_t hash = 14695981039346656037U;  // FNV-1a
  for (const char c : id) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
  std::string text;
  for (; text.size() < kSize; hash /= kDigits.size()) text += kDigits[hash % kDigits.size()];
  return text;
}

// Messages as transformers gives them to templates.
class TemplateMessages {
 public:
  explicit TemplateMessages(const ReplyStyle& style) : style_(style) { json_.begin_array(); }

  void add(const Message& message) {
    json_.begin_object().key("role").string(message.role).key("content").string(message.content);
    if (!message.reasoning.empty()) json_.key("reasoning_content").string(message.reasoning);
    // Some templates ask whether the key is there.
    if (!message.tool_calls.empty()) add_calls(message.tool_calls);
    if (message.role == "tool") {
      const auto name = names_.find(message.tool_call_id);
      if (name != names_.end()) json_.key("name").string(name->second);
      json_.key("tool_call_id").string(id_of(message.tool_call_id));
    }
    json_.end_object();
  }

  std::string take() { return json_.end_array().take(); }

 private:
  std::string id_of(const std::string& id) const { return style_.short_call_ids ? short_id(id) : id; }

  void add_calls(const std::vector<ToolCall>& calls) {
    json_.key("tool_calls").begin_array();
    for (const auto& call : calls) {
      names_[call.id] = call.name;
      json_.begin_object().key("id").string(id_of(call.id)).key("type").string("function");
      json_.key("function").begin_object().key("name").string(call.name).key("arguments");
      // Most templates write them by tojson, which makes a string of a string.
      const bool is_text = style_.text_arguments || !is_json_object(call.arguments);
      is_text ? json_.string(call.arguments) : json_.raw(call.arguments);
      json_.end_object().end_object();
    }
    json_.end_array();
  }

  const ReplyStyle& style_;
  JsonWriter json_;
  std::map<std::string, std::string> names_;  // of the calls so far
};

std::string messages_json(const ServedModel& model, const std::vector<Message>& history,
                          const std::vector<Message>& added) {
  TemplateMessages messages(model.reply_style);
  for (const auto* part : {&history, &added}) {
    for (const auto& message : *part) messages.add(message);
  }
  return messages.take();
}

Error cannot_continue(std::string_view why) {
  return Error(ErrorCode::invalid_value, fmt::format("continue_final_message: {}", why), "continue_final_message");
}

std::string_view without_trailing_space(std::string_view text) {
  const auto last = text.find_last_not_of(" \t\r\n");
  return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

// What the template writes after the last message's text, found by a text that stands nowhere else.
std::string end_of_turn(const ServedModel& model, std::vector<Message> messages, const ChatTemplateOptions& options) {
  const std::string mark = make_identifier("mark");
  messages.back().content = mark;
  const std::string text = model.chat_template->render(messages_json(model, {}, messages), options);
  const auto found = text.rfind(mark);
  if (found == std::string::npos) throw cannot_continue("the model's template does not show the last message");
  return text.substr(found + mark.size());
}

// Takes the last `bytes` bytes off the prompt. A token that reaches beyond them is replaced by the rest of its text.
void remove_end(const Tokenizer& tokenizer, std::size_t bytes, std::vector<TokenId>* ids) {
  const auto is_inside_a_character = [](const std::string& text) {
    return !text.empty() && (static_cast<unsigned char>(text.front()) & 0xC0) == 0x80;
  };
  std::string rest;
  while (!ids->empty() && (bytes > 0 || is_inside_a_character(rest))) {
    const std::string_view text = tokenizer.token_bytes(ids->back());
    ids->pop_back();
    const std::size_t removed = std::min(bytes, text.size());
    bytes -= removed;
    rest.insert(0, text.substr(0, text.size() - removed));
  }
  const std::vector<TokenId> kept = tokenizer.encode(rest, kAsPlainText);
  ids->insert(ids->end(), kept.begin(), kept.end());
}

}  // namespace

ChatPrompt chat_prompt(const ServedModel& model, const std::vector<Message>& history, const std::vector<Message>& added,
                       const ChatTemplateOptions& options) {
  std::vector<SampledText> sampled;
  for (const auto* part : {&history, &added}) {
    for (const auto& message : *part) {
      if (message.sampled) sampled.push_back(*message.sampled);
    }
  }
  return encode_chat_prompt(*model.tokenizer, *model.chat_template, messages_json(model, history, added), options,
                            sampled);
}

PromptText unfinished_chat_prompt(const ServedModel& model, const std::vector<Message>& messages,
                                  ChatTemplateOptions options) {
  const Message& last = messages.back();
  if (last.role != "assistant") throw cannot_continue("the last message must be an assistant's");
  if (without_trailing_space(last.content).empty()) throw cannot_continue("the last message is empty");
  options.add_generation_prompt = false;
  const std::string end = end_of_turn(model, messages, options);
  ChatPrompt prompt = chat_prompt(model, {}, messages, options);
  const std::string_view text = prompt.text;
  const std::string_view kept = text.substr(0, text.size() - std::min(end.size(), text.size()));
  // Many templates trim what they show.
  if (!text.ends_with(end) || !(kept.ends_with(last.content) || kept.ends_with(without_trailing_space(last.content)))) {
    throw cannot_continue("the model's template changes the last message");
  }
  remove_end(*model.tokenizer, end.size(), &prompt.ids);
  return {std::string(kept), std::move(prompt.ids), 0};
}

}  // namespace cortex
