#include "text/chat_template.h"

#include "base/json_writer.h"
#include "text/rust.h"

namespace cortex {

// Reaches the Rust side of both.
class ChatEncoder {
 public:
  static ChatPrompt encode(const Tokenizer& tokenizer, const ChatTemplate& chat_template, const cortex_chat& chat,
                           std::span<const SampledText> sampled) {
    std::vector<cortex_sampled> raw;
    raw.reserve(sampled.size());
    for (const auto& text : sampled) raw.push_back({text.begin, text.ids.data(), text.ids.size()});
    cortex_ids ids{};
    cortex_bytes text{};
    cortex_bytes error{};
    rust::check(cortex_template_encode(chat_template.template_.get(), tokenizer.tokenizer_.get(), &chat, raw.data(),
                                       raw.size(), &ids, &text, &error),
                error, ErrorCode::invalid_value);
    return {rust::take(ids), rust::take(text)};
  }
};

namespace {

// Content is a text or a list of parts.
constexpr std::string_view kPlain = R"({%- for message in messages %}
{{- message.role }}: {% if message.content is string %}
{{- message.content }}
{%- else %}
{%- for part in message.content or [] if part.text is defined %}
{{- part.text }}
{%- endfor %}
{%- endif %}{{ '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- 'assistant:' }}
{%- endif %})";

cortex_chat chat_of(std::string_view messages_json, const ChatTemplateOptions& options) {
  return {.messages = rust::span(messages_json),
          .tools = rust::span(options.tools_json),
          .arguments = rust::span(options.arguments_json),
          .add_generation_prompt = options.add_generation_prompt};
}

}  // namespace

ChatTemplate::ChatTemplate(std::string_view source, const std::map<std::string, std::string>& special_tokens) {
  JsonWriter tokens;
  tokens.begin_object();
  for (const auto& [name, text] : special_tokens) tokens.key(name).string(text);
  tokens.end_object();
  cortex_template* made = nullptr;
  cortex_bytes error{};
  rust::check(cortex_template_new(rust::span(source), rust::span(tokens.text()), &made, &error), error,
              ErrorCode::invalid_config);
  template_ = {made, cortex_template_free};
}

ChatTemplate ChatTemplate::plain() { return ChatTemplate(kPlain, {}); }

std::string ChatTemplate::render(std::string_view messages_json, const ChatTemplateOptions& options) const {
  const cortex_chat chat = chat_of(messages_json, options);
  cortex_bytes text{};
  cortex_bytes error{};
  rust::check(cortex_template_render(template_.get(), &chat, &text, &error), error, ErrorCode::invalid_value);
  return rust::take(text);
}

ChatPrompt encode_chat_prompt(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                              std::string_view messages_json, const ChatTemplateOptions& options) {
  return encode_chat_prompt(tokenizer, chat_template, messages_json, options, {});
}

ChatPrompt encode_chat_prompt(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                              std::string_view messages_json, const ChatTemplateOptions& options,
                              std::span<const SampledText> sampled) {
  return ChatEncoder::encode(tokenizer, chat_template, chat_of(messages_json, options), sampled);
}

std::vector<std::int32_t> encode_chat(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                                      std::string_view messages_json, const ChatTemplateOptions& options) {
  return encode_chat_prompt(tokenizer, chat_template, messages_json, options).ids;
}

}  // namespace cortex
