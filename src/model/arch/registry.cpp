#include "model/arch/registry.h"

#include <fmt/core.h>

#include <array>
#include <string>

#include "model/arch/architectures.h"

namespace cortex {
namespace {

constexpr std::array kArchitectures = {
    Architecture{"bert", bert_from_huggingface, nullptr},
    Architecture{"llama", llama_from_huggingface, llama_from_gguf},
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
