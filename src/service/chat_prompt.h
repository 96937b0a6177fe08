// The messages of a chat as a model's prompt. Pure functions; any thread.
#pragma once

#include <vector>

#include "service/choice_text.h"
#include "service/conversations.h"
#include "service/models.h"
#include "text/chat_template.h"

namespace cortex {

// `history`, then `added`, as the model's template writes them; replies keep the ids that were sampled for them. Throws
// Error invalid_value when the template refuses.
ChatPrompt chat_prompt(const ServedModel& model, const std::vector<Message>& history, const std::vector<Message>& added,
                       const ChatTemplateOptions& options);

// The same up to the end of the last message's text, so that what is sampled goes on with it. Throws Error
// invalid_value also when that message is no assistant's or empty, or the template changes its text.
PromptText unfinished_chat_prompt(const ServedModel& model, const std::vector<Message>& messages,
                                  ChatTemplateOptions options);

}  // namespace cortex
