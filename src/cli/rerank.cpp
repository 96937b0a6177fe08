#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>

#include "base/json_writer.h"
#include "cli/commands.h"
#include "cli/encode_flags.h"
#include "cli/interrupt.h"

namespace cortex {
namespace {

struct RerankFlags {
  explicit RerankFlags(CLI::App& app) : encode(app) {
    app.add_option("--query", query, "What the texts are to answer")->required();
    app.add_option("--top-n", top_n, "Print the best so many; default: all")->check(CLI::PositiveNumber);
  }

  EncodeFlags encode;
  std::string query;
  std::optional<std::size_t> top_n;
};

// Best first; equal scores in the order of their texts.
std::vector<std::size_t> by_score(const std::vector<float>& scores) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  return order;
}

int rerank(const RerankFlags& flags) {
  const InterruptWatch watch;
  TextBatches batches = flags.encode.texts();
  TextBatch batch = batches.next();
  if (batch.texts.empty()) return kExitOk;
  const std::unique_ptr<TextEncoder> encoder = flags.encode.encoder(true);
  TextBatch all;
  std::vector<float> scores;
  for (; !batch.texts.empty(); batch = batches.next()) {
    const std::vector<float> found = encoder->score(flags.query, batch.texts);
    scores.insert(scores.end(), found.begin(), found.end());
    all.indices.insert(all.indices.end(), batch.indices.begin(), batch.indices.end());
    all.texts.insert(all.texts.end(), std::make_move_iterator(batch.texts.begin()),
                     std::make_move_iterator(batch.texts.end()));
  }
  std::vector<std::size_t> order = by_score(scores);
  order.resize(std::min(order.size(), flags.top_n.value_or(order.size())));
  for (const std::size_t i : order) {
    JsonWriter json;
    json.begin_object().key("index").unsigned_integer(all.indices[i]).key("score").number(scores[i]);
    json.key("text").string(all.texts[i]).end_object();
    print_out(json.take() + "\n");
  }
  return kExitOk;
}

}  // namespace

RunCommand rerank_command(CLI::App& app) {
  app.description(
      "Orders texts by how well they answer a query: each line of the files, or of standard input, becomes a line "
      "{\"index\":0,\"score\":0.5,\"text\":\"..\"}, best first. A running server does it, or with --model this "
      "process.");
  const auto flags = std::make_shared<RerankFlags>(app);
  return [flags] {
    start_log(flags->encode.log().least(), "rerank");
    return run_tool("rerank", [&] { return flags->encode.run([&] { return rerank(*flags); }); });
  };
}

}  // namespace cortex
