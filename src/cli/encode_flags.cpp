#include "cli/encode_flags.h"

#include <fmt/core.h>

#include "cli/api_keys.h"
#include "cli/fetch/http_client.h"

namespace cortex {
namespace {

constexpr const char* kDefaultServer = "http://127.0.0.1:8080";

}  // namespace

EncodeFlags::EncodeFlags(CLI::App& app)
    : engine_(app, EngineFlags::Wants::maybe_models), log_(app, LogLevel::warning), server_(kDefaultServer) {
  app.add_option("files", files_, "Files of texts; - or none is standard input")->type_name("FILE");
  app.add_option("--server", server_, "The server that is asked when no --model is given")
      ->type_name("URL")
      ->envname("CORTEX_SERVER")
      ->capture_default_str();
  app.add_option("--api-key-file", api_key_file_, "A file whose first line is the server's API key; none by default")
      ->type_name("FILE")
      ->envname("CORTEX_API_KEY_FILE");
  app.add_option("--served-model", served_model_, "The model's name; default: the first that can do it");
  auto* jsonl = app.add_flag("--jsonl", jsonl_, "Each line is a JSON string, or an object with a string \"text\"");
  app.add_flag("--whole-files", whole_files_, "Each file is one text; default: each line is")->excludes(jsonl);
  app.add_flag("--truncate", truncate_, "Cut texts that are too long for the model; default: they are errors");
}

TextBatches EncodeFlags::texts() const {
  return TextBatches(TextSource(files_, whole_files_ ? TextForm::files : jsonl_ ? TextForm::jsonl : TextForm::lines));
}

std::unique_ptr<TextEncoder> EncodeFlags::encoder(bool normalize) const {
  EncodeChoices choices;
  if (!served_model_.empty()) choices.model = served_model_;
  choices.truncate = truncate_;
  choices.normalize = normalize;
  if (engine_.has_models()) return make_local_encoder(engine_.options(), std::move(choices));
  return make_server_encoder(parse_url(server_),
                             api_key_file_.empty() ? std::string() : read_api_keys(api_key_file_).front(),
                             std::move(choices));
}

int EncodeFlags::run(const std::function<int()>& work) const {
  try {
    return work();
  } catch (const NetworkFailure& failure) {
    throw NetworkFailure(
        fmt::format("{}; `cortex serve` starts a server, --server says where one is, and --model needs "
                    "none",
                    failure.what()));
  }
}

}  // namespace cortex
