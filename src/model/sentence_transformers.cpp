#include "model/sentence_transformers.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "model/json_file.h"

namespace cortex {
namespace {

constexpr std::uint64_t kMaxBytes = 1 << 20;

struct Module {
  std::string type;  // the class's name, without what leads to it
  std::string path;
};

// A Transformer, and what may follow it: Pooling and Normalize for vectors, LogitScore for a decoder's yes or no.
void check_module(const Fields& entry, const std::vector<Module>& before, const std::string& type, bool decoder) {
  const std::size_t place = before.size();
  const bool fits = (place == 0 && type == "Transformer") || (place == 1 && type == "Pooling") ||
                    (place == 1 && type == "LogitScore" && decoder) ||
                    (place == 2 && type == "Normalize" && before[1].type == "Pooling");
  if (fits) return;
  entry.fail("type",
             fmt::format("{} in place {}; only Transformer, Pooling and, if wanted, Normalize are supported, in "
                         "this order{}",
                         quote(type), place, decoder ? ", or Transformer and LogitScore" : ""));
}

std::vector<Module> read_modules(const std::string& text, bool decoder) {
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
    check_module(**object, modules, module.type, decoder);
    modules.push_back(std::move(module));
  }
  if (modules.size() < 2) throw Error(ErrorCode::invalid_config, source + ": has no Pooling module");
  return modules;
}

Fields read_module_config(const ModelFolder& folder, const Module& module) {
  const std::string source = module.path + "/config.json";
  const auto text = folder.find_text(source, kMaxBytes, ErrorCode::invalid_config);
  if (!text) throw Error(ErrorCode::invalid_config, source + ": is missing, though modules.json names it");
  return parse_json_object(*text, source, ErrorCode::invalid_config);
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

Pooling read_pooling(const Fields& fields, int hidden) {
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

// A decoder's token sees only what stands before it, so that only the last one has seen the whole text.
Pooling read_decoder_pooling(const Fields& fields, int hidden) {
  const Pooling pooling = read_pooling(fields, hidden);
  if (pooling != Pooling::last_token) {
    fields.fail("pooling_mode",
                fmt::format("{} is not supported for a decoder; only lasttoken", quote(pooling_modes(fields).front())));
  }
  return pooling;
}

void check_prompts_are_pooled(const Fields& fields) {
  if (fields.find_boolean("include_prompt").value_or(true)) return;
  fields.fail("include_prompt", "false is not supported; only true, where a prompt's tokens are pooled too");
}

AnswerIds read_answers(const Fields& fields, int vocabulary) {
  AnswerIds answers;
  answers.yes = fields.integer("true_token_id", 0, vocabulary - 1);
  answers.no = fields.integer("false_token_id", 0, vocabulary - 1);
  return answers;
}

void read_pipeline(const ModelFolder& folder, Model* model) {
  const auto text = folder.find_text("modules.json", kMaxBytes, ErrorCode::invalid_config);
  if (!text) {
    if (model->is_decoder()) model->embedding.pooling = Pooling::last_token;
    return;
  }
  const std::vector<Module> modules = read_modules(*text, model->is_decoder());
  const Fields fields = read_module_config(folder, modules[1]);
  if (modules[1].type == "LogitScore") {
    model->kind = ModelKind::rerank;
    model->answers = read_answers(fields, model->vocabulary());
    return;
  }
  model->kind = ModelKind::embed;
  check_prompts_are_pooled(fields);
  EmbeddingUse& use = model->embedding;
  use.normalise = modules.size() == 3;
  if (auto* encoder = std::get_if<EncoderModel>(&model->network)) {
    use.pooling = encoder->spec.pooling = read_pooling(fields, encoder->spec.hidden);
  } else {
    use.pooling = read_decoder_pooling(fields, std::get<DecoderModel>(model->network).spec.hidden);
  }
}

void read_prompts(const ModelFolder& folder, EmbeddingUse* use) {
  const std::string source = "config_sentence_transformers.json";
  const auto text = folder.find_text(source, kMaxBytes, ErrorCode::invalid_config);
  if (!text) return;
  const Fields fields = parse_json_object(*text, source, ErrorCode::invalid_config);
  if (const Fields* prompts = fields.find_object("prompts")) {
    for (const auto& [name, value] : prompts->entries()) {
      if (!value.is_null()) use->prompts.emplace(name, prompts->text(name));
    }
  }
  const std::string* standard = fields.find_text("default_prompt_name");
  if (!standard) return;
  if (!use->prompts.contains(*standard)) {
    fields.fail("default_prompt_name", quote(*standard) + " is not one of the prompts");
  }
  use->default_prompt = *standard;
}

// The file is named after the model's family; the first that is there counts.
std::optional<int> find_length_limit(const ModelFolder& folder) {
  for (const char* family : {"bert", "roberta", "camembert", "xlm-roberta"}) {
    const std::string source = fmt::format("sentence_{}_config.json", family);
    const auto text = folder.find_text(source, kMaxBytes, ErrorCode::invalid_config);
    if (!text) continue;
    const Fields fields = parse_json_object(*text, source, ErrorCode::invalid_config);
    return fields.find_integer("max_seq_length", 1, std::numeric_limits<int>::max());
  }
  return std::nullopt;
}

}  // namespace

void read_sentence_transformers(const ModelFolder& folder, Model* model) {
  const auto* encoder = std::get_if<EncoderModel>(&model->network);
  const bool has_head = encoder && encoder->spec.head;
  if (!has_head) read_pipeline(folder, model);
  if (model->kind == ModelKind::embed) read_prompts(folder, &model->embedding);
  if (model->kind == ModelKind::chat) return;
  if (const auto limit = find_length_limit(folder)) {
    std::visit([&](auto& network) { network.spec.context_tokens = std::min(network.spec.context_tokens, *limit); },
               model->network);
  }
}

}  // namespace cortex
