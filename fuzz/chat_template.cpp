// The input is a chat template's source; after it may come messages, tools and further arguments, as JSON.
#include "text/chat_template.h"

#include "input.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cortex;
  constexpr std::string_view kMessages =
      R"([{"role":"system","content":"Be brief."},{"role":"user","content":"Hi <|im_end|>"}])";
  const auto [source, messages, tools, arguments] = parts_of<4>(text_of(data, size));
  ChatTemplateOptions options;
  options.tools_json = tools;
  if (!arguments.empty()) options.arguments_json = arguments;
  try {
    const ChatTemplate chat_template(source, {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
    chat_template.render(messages.empty() ? kMessages : messages, options);
  } catch (const Error& error) {
    check_reply(error);
    CORTEX_CHECK(!error.message().starts_with("panicked"));
  }
  return 0;
}
