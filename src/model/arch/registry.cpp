#include "model/arch/registry.h"

#include <fmt/core.h>

#include <array>
#include <string>

#include "model/arch/architectures.h"

namespace cortex {
namespace {

constexpr std::array kArchitectures = {
    Architecture{"bert", bert_from_huggingface, "", nullptr},
    Architecture{"camembert", xlm_roberta_from_huggingface, "", nullptr},
    Architecture{"gemma3_text", gemma3_from_huggingface, "gemma3", gemma3_from_gguf},
    Architecture{"llama", llama_from_huggingface, "llama", llama_from_gguf},
    Architecture{"mistral", mistral_from_huggingface, "", nullptr},  // as GGUF, "llama"
    Architecture{"modernbert", modernbert_from_huggingface, "", nullptr},
    Architecture{"olmo2", olmo2_from_huggingface, "", nullptr},
    Architecture{"phi3", phi3_from_huggingface, "phi3", phi3_from_gguf},
    Architecture{"qwen2", qwen2_from_huggingface, "qwen2", qwen2_from_gguf},
    Architecture{"qwen3", qwen3_from_huggingface, "qwen3", qwen3_from_gguf},
    Architecture{"qwen3_moe", qwen3_moe_from_huggingface, "qwen3moe", qwen3_moe_from_gguf},
    Architecture{"roberta", xlm_roberta_from_huggingface, "", nullptr},
    Architecture{"xlm-roberta", xlm_roberta_from_huggingface, "", nullptr},
};

const Architecture& find(const Fields& fields, std::string_view field, std::string_view Architecture::* name,
                         std::string_view what) {
  const std::string& wanted = fields.text(field);
  std::string known;
  for (const Architecture& architecture : kArchitectures) {
    const std::string_view candidate = architecture.*name;
    if (candidate.empty()) continue;
    if (candidate == wanted) return architecture;
    known.append(known.empty() ? "" : ", ").append(candidate);
  }
  fields.fail(field, fmt::format("{} is not a supported architecture{}; one of {}", quote(wanted), what, known));
}

}  // namespace

const Architecture& huggingface_architecture(const Fields& config) {
  return find(config, "model_type", &Architecture::model_type, "");
}

const Architecture& gguf_architecture(const Fields& metadata) {
  return find(metadata, "general.architecture", &Architecture::gguf_name, " of GGUF, which is for decoders only");
}

}  // namespace cortex
