// Loads a server that speaks OpenAI's chat completions, Cortex or another, and says how fast it answered: when the
// first token of each chat came, how long the next ones took, how many came in all. docs/benchmarks.md says more.
//
//   http_load --url http://127.0.0.1:8080 --chats 32 --prompt-tokens 200 --output-tokens 64
//
// Ends with 1 if a request failed, 64 for a bad option.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <exception>
#include <fstream>

#include "base/error.h"
#include "bench/load/load_report.h"

namespace cortex {
namespace {

struct Flags {
  std::string url = "http://127.0.0.1:8080";
  std::string api_key_file;
  LoadOptions load;
  ServiceGoal goal;
  bool sequential = false;
  int process = 0;
  double timeout_s = 600.0;
  bool json = false;
};

constexpr int kMostTokens = 1 << 20;

void add_chat_options(CLI::App& app, LoadOptions* load, bool* sequential) {
  app.add_option("--model", load->chat_model, "The chat model's name; by default the server chooses");
  app.add_option("--chats", load->chats, "How many; 0 for none")->check(CLI::Range(0, 65536))->capture_default_str();
  app.add_option("--prompt-tokens", load->prompt_tokens,
                 "About as many in each chat's prompt, of words made from the seed; the chat template adds its own")
      ->check(CLI::Range(1, kMostTokens))
      ->capture_default_str();
  app.add_option("--prefix-tokens", load->prefix_tokens, "Of these, what all chats begin with")
      ->check(CLI::Range(0, kMostTokens))
      ->capture_default_str();
  app.add_option("--output-tokens", load->output_tokens, "At most as many of each reply")
      ->check(CLI::Range(1, kMostTokens))
      ->capture_default_str();
  app.add_flag("--ignore-eos", load->ignore_eos, "Asks for no early end, of servers that know the field");
  app.add_option("--ban-token", load->banned_tokens,
                 "The id of a token that is never chosen, such as one that ends a turn; repeatable");
  app.add_option("--seed", load->seed, "Another one gives other prompts")->capture_default_str();
  CLI::Option* rate =
      app.add_option("--rate", load->chats_per_second, "So many chats a second, at random; by default all come at once")
          ->check(CLI::PositiveNumber);
  app.add_flag("--sequential", *sequential, "Each chat begins when the one before has ended")->excludes(rate);
  app.add_option("--long-tokens", load->long_tokens, "One more chat with so long a prompt; its figures are apart")
      ->check(CLI::Range(0, kMostTokens))
      ->capture_default_str();
  app.add_option("--long-after-ms", load->long_after_ms, "When it comes")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

void add_embed_options(CLI::App& app, LoadOptions* load) {
  app.add_option("--embed-calls", load->embed_calls, "Calls of /embed beside the chats, one after another")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_option("--embed-model", load->embed_model, "The embedding model's name; by default the server chooses");
  app.add_option("--embed-texts", load->embed_texts, "In each call")->check(CLI::Range(1, 4096))->capture_default_str();
  app.add_option("--embed-tokens", load->embed_tokens, "About as many in each text")
      ->check(CLI::Range(1, kMostTokens))
      ->capture_default_str();
  app.add_flag("--embed-same-texts", load->embed_same_texts, "Each call has the texts of the first");
}

void add_options(CLI::App& app, Flags* flags) {
  app.add_option("--url", flags->url, "The server: http://HOST:PORT")->capture_default_str();
  app.add_option("--api-key-file", flags->api_key_file, "A file whose first line is the key")->check(CLI::ExistingFile);
  add_chat_options(app, &flags->load, &flags->sequential);
  add_embed_options(app, &flags->load);
  app.add_option("--goal-first-token-ms", flags->goal.first_token_ms,
                 "A chat is good if its first token comes within this and the others within --goal-token-ms")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--goal-token-ms", flags->goal.token_ms, "The mean time of a good chat's tokens after the first")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--pid", flags->process, "Watches the memory of this process and of all it has started (Linux)")
      ->check(CLI::PositiveNumber);
  app.add_option("--timeout-s", flags->timeout_s, "For all of it; what is not complete then has failed")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--json", flags->json, "Prints one JSON object, with every chat");
}

std::string first_line_of(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

int load(Flags& flags) {
  LoadTarget target = LoadTarget::of_url(flags.url);
  target.process = flags.process;
  if (!flags.api_key_file.empty()) target.api_key = first_line_of(flags.api_key_file);
  if (flags.sequential) flags.load.arrival = Arrival::one_after_another;
  if (flags.load.chats_per_second > 0) flags.load.arrival = Arrival::poisson;
  const LoadResult result = run_load(target, plan_load(flags.load), flags.timeout_s * 1000.0);
  fmt::print("{}", flags.json ? report_json(flags.load, result, flags.goal) + "\n"
                              : report_text(flags.load, result, flags.goal));
  if (result.client_cpu_share > kMostClientCpuShare) {
    fmt::print(stderr, "http_load: took {:.0f} % of a core itself, more than {:.0f} %: the server may have lacked it\n",
               100.0 * result.client_cpu_share, 100.0 * kMostClientCpuShare);
  }
  const int failures = failures_in(result);
  if (failures > 0) fmt::print(stderr, "http_load: {} requests failed\n", failures);
  return failures > 0 ? 1 : 0;
}

int main_of(int argc, char** argv) {
  CLI::App app("Loads a server that speaks OpenAI's chat completions and says how fast it answered.", "http_load");
  Flags flags;
  add_options(app, &flags);
  try {
    app.parse(argc, argv);
    return load(flags);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 64;
  } catch (const Error& error) {
    fmt::print(stderr, "http_load: {}\n", error.message());
    return error.code() == ErrorCode::invalid_option ? 64 : 1;
  }
}

}  // namespace
}  // namespace cortex

int main(int argc, char** argv) {
  try {
    return cortex::main_of(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "http_load: {}\n", error.what());
    return 1;
  }
}
