// What a model is for. Plain values; any thread.
#pragma once

#include <optional>
#include <string_view>

namespace cortex {

enum class ModelKind { chat, embed, rerank, classify };
std::string_view name_of(ModelKind kind);
// "chat", "embed", "rerank" or "classify"; nothing for another name.
std::optional<ModelKind> model_kind_of(std::string_view name);

}  // namespace cortex
