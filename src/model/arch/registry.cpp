#include "model/arch/registry.h"

#include <fmt/core.h>

#include <array>
#include <string>

#include "model/arch/architectures.h"

namespace cortex {
namespace {

constexpr std::array kArchitectures = {
    Architecture{"bert", bert_from_huggingface, nullptr},
    Architecture{"camembert", xlm_roberta_from_huggingface, nullptr},
    Architecture{"gemma3_text", gemma3_from_huggingface, nullptr},
    Architecture{"llama", llama_from_huggingface, llama_from_gguf},
    Architecture{"mistral", mistral_from_huggingface, nullptr},
    Architecture{"modernbert", modernbert_from_huggingface, nullptr},
    Architecture{"phi3", phi3_from_huggingface, nullptr},
    Architecture{"qwen2", qwen2_from_huggingface, nullptr},
    Architecture{"qwen3", qwen3_from_huggingface, nullptr},
    Architecture{"qwen3_moe", qwen3_moe_from_huggingface, nullptr},
    Architecture{"roberta", xlm_roberta_from_huggingface, nullptr},
    Architecture{"xlm-roberta", xlm_roberta_from_huggingface, nullptr},
};

}  // namespace

const Architecture& architecture_of(const Fields& fields, std::string_view field) {
  const std::string& name = fields.text(field);
  std::string known;
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) return architecture;
    known.append(known.empty() ? "" : ", ").append(architecture.name);
  }
  fields.fail(field, fmt::format("{} is not a supported architecture; one of {}", quote(name), known));
}

}  // namespace cortex
