#include <memory>

#include "base/json_writer.h"
#include "cli/commands.h"
#include "cli/encode_flags.h"
#include "cli/interrupt.h"

namespace cortex {
namespace {

struct EmbedFlags {
  explicit EmbedFlags(CLI::App& app) : encode(app) {
    app.add_flag("--no-normalize", raw, "Embeddings as the model makes them; default: of length 1");
  }

  EncodeFlags encode;
  bool raw = false;
};

int embed(const EmbedFlags& flags) {
  const InterruptWatch watch;
  TextBatches batches = flags.encode.texts();
  TextBatch batch = batches.next();
  if (batch.texts.empty()) return kExitOk;
  const std::unique_ptr<TextEncoder> encoder = flags.encode.encoder(!flags.raw);
  for (; !batch.texts.empty(); batch = batches.next()) {
    const std::vector<std::vector<float>> vectors = encoder->embed(batch.texts);
    for (std::size_t i = 0; i < vectors.size(); ++i) {
      JsonWriter json;
      json.begin_object().key("index").unsigned_integer(batch.indices[i]);
      json.key("embedding").numbers(vectors[i]).end_object();
      print_out(json.take() + "\n");
    }
  }
  return kExitOk;
}

}  // namespace

RunCommand embed_command(CLI::App& app) {
  app.description(
      "Embeds texts: each line of the files, or of standard input, becomes a line {\"index\":0,\"embedding\":[..]}. A "
      "running server does it, or with --model this process.");
  const auto flags = std::make_shared<EmbedFlags>(app);
  return [flags] {
    start_log(flags->encode.log().least(), "embed");
    return run_tool("embed", [&] { return flags->encode.run([&] { return embed(*flags); }); });
  };
}

}  // namespace cortex
