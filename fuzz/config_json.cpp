// The input is the text of a folder model's config.json; after it may come those of tokenizer_config.json,
// generation_config.json, modules.json and the pooling's configuration. A folder of tests/data with the same
// model_type, chosen by the input's size, is opened with them in place of its own: so each architecture meets weights
// that fit it.
#include <string>
#include <vector>

#include "input.h"
#include "memory_files.h"
#include "model/json_file.h"
#include "model/model.h"
#include "model_folders.h"

namespace cortex {
namespace {

constexpr std::array kNames = {"config.json", "tokenizer_config.json", "generation_config.json", "modules.json",
                               "1_Pooling/config.json"};

// Empty where it names none, or is no configuration at all.
std::string model_type_of(std::string_view config) {
  try {
    return parse_json_object(config, "config.json", ErrorCode::invalid_config).text("model_type");
  } catch (const Error& error) {
    check_refusal(error);
    return {};
  }
}

void open_with(const FolderModel& model, std::span<const std::string_view> parts) {
  const std::filesystem::path folder = "/model";
  MemoryFiles files;
  for (const auto& [name, bytes] : model.files) files.add(folder / name, bytes);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i == 0 || !parts[i].empty()) files.add(folder / kNames[i], parts[i]);
  }
  try {
    const Model opened = open_model(files, folder);
    CORTEX_CHECK(opened.vocabulary() > 0 && opened.context_tokens() > 0);
  } catch (const Error& error) {
    check_refusal(error);
  }
}

}  // namespace
}  // namespace cortex

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cortex;
  const auto parts = parts_of<kNames.size()>(text_of(data, size));
  const std::string model_type = model_type_of(parts[0]);
  std::vector<const FolderModel*> fitting;
  for (const FolderModel& model : folder_models()) {
    if (model.model_type == model_type) fitting.push_back(&model);
  }
  open_with(fitting.empty() ? folder_models().front() : *fitting[size % fitting.size()], parts);
  return 0;
}
