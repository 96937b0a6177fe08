#include "model/sentence_transformers.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "model/json_file.h"

namespace cortex {
namespace {

constexpr std::uint64_t kMaxBytes = 1 << 20;

struct Module {
  std::string type;  // the class's name, without what leads to it
  std::string path;
};

std::vector<Module> read_modules(const std::string& text) {
  const std::string source = "modules.json";
  const Value root = parse_json(text, source, ErrorCode::invalid_config);
  const auto* list = root.as<Value::Array>();
  if (!list) throw Error(ErrorCode::invalid_config, source + ": " + describe(root) + " at the top, not an array");
  std::vector<Module> modules;
  for (const Value& entry : *list) {
    const auto* object = entry.as<Value::Object>();
    if (!object) throw Error(ErrorCode::invalid_config, source + ": " + describe(entry) + " is not an object");
    const std::string& type = (*object)->text("type");
    Module module{type.substr(type.rfind('.') + 1), (*object)->text("path")};
    constexpr std::array<std::string_view, 3> kSupported = {"Transformer", "Pooling", "Normalize"};
    if (modules.size() >= kSupported.size() || module.type != kSupported[modules.size()]) {
      (*object)->fail("type", fmt::format("{} in place {}; only Transformer, Pooling and, if wanted, Normalize are "
                                          "supported, in this order",
                                          quote(module.type), modules.size()));
    }
    modules.push_back(std::move(module));
  }
  return modules;
}

// The modes that are on, as "cls", "mean", ...: one flag each, or in newer files one name.
std::vector<std::string> pooling_modes(const Fields& fields) {
  constexpr std::string_view kPrefix = "pooling_mode_";
  if (const std::string* mode = fields.find_text("pooling_mode")) return {*mode};
  std::vector<std::string> modes;
  for (const auto& [name, value] : fields.entries()) {
    if (name.starts_with(kPrefix) && fields.find_boolean(name).value_or(false)) {
      modes.push_back(name.substr(kPrefix.size()));
    }
  }
  return modes;
}

Pooling read_pooling(const ModelFolder& folder, const std::string& module_path, int hidden) {
  const std::string source = module_path + "/config.json";
  const auto text = folder.find_text(source, kMaxBytes, ErrorCode::invalid_config);
  if (!text) throw Error(ErrorCode::invalid_config, source + ": is missing, though modules.json names it");
  const Fields fields = parse_json_object(*text, source, ErrorCode::invalid_config);
  const auto width = fields.find_integer("word_embedding_dimension", 1, std::numeric_limits<int>::max());
  if (width.value_or(hidden) != hidden) {
    fields.fail("word_embedding_dimension", fmt::format("{}, but the hidden size is {}", *width, hidden));
  }
  const std::vector<std::string> modes = pooling_modes(fields);
  if (modes.size() != 1) {
    fields.fail("pooling_mode",
                fmt::format("{} modes are on; only one is supported: cls, mean or lasttoken", modes.size()));
  }
  if (modes[0] == "cls_token" || modes[0] == "cls") return Pooling::cls;
  if (modes[0] == "mean_tokens" || modes[0] == "mean") return Pooling::mean;
  if (modes[0] == "lasttoken") return Pooling::last_token;
  fields.fail("pooling_mode", fmt::format("{} is not supported; one of cls, mean, lasttoken", quote(modes[0])));
}

}  // namespace

void read_sentence_transformers(const ModelFolder& folder, EncoderSpec* spec, EmbeddingUse* use) {
  const auto modules_text = folder.find_text("modules.json", kMaxBytes, ErrorCode::invalid_config);
  if (modules_text) {
    const std::vector<Module> modules = read_modules(*modules_text);
    if (modules.size() < 2) throw Error(ErrorCode::invalid_config, "modules.json: has no Pooling module");
    spec->pooling = read_pooling(folder, modules[1].path, spec->hidden);
    use->normalise = modules.size() == 3;
    use->pooling = spec->pooling;
  }
  const auto text = folder.find_text("sentence_bert_config.json", kMaxBytes, ErrorCode::invalid_config);
  if (!text) return;
  const Fields fields = parse_json_object(*text, "sentence_bert_config.json", ErrorCode::invalid_config);
  const auto limit = fields.find_integer("max_seq_length", 1, std::numeric_limits<int>::max());
  spec->context_tokens = std::min(spec->context_tokens, limit.value_or(spec->context_tokens));
}

}  // namespace cortex
