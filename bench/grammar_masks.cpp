// What grammars cost: the time to compile schemas, and the processor's time for a mask at each token of documents that
// keep to them and of walks at random through them. One line a grammar, then all together.
//
//   grammar_masks MODEL      a GGUF file or model folder of a decoder, whose vocabulary it is
#include <fmt/core.h>

#include <algorithm>
#include <ctime>
#include <exception>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "service/models.h"
#include "text/grammar.h"

namespace cortex {
namespace {

constexpr int kRepeats = 20, kWalks = 20, kWalkTokens = 100;

struct Case {
  const char* name;
  bool is_lark;
  std::string grammar, document;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"person", false,
       R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":150},)"
       R"("email":{"type":"string","format":"email"},"tags":{"type":"array","items":{"type":"string"}}},)"
       R"("required":["name","age","email","tags"],"additionalProperties":false})",
       "{\n  \"name\": \"Ada Lovelace\",\n  \"age\": 36,\n  \"email\": \"ada@example.org\",\n  \"tags\": "
       "[\"mathematics\", \"first programs\", \"notes on an engine\"]\n}"},
      {"any object", false, R"({"type":"object"})",
       R"({"title": "A report of the week", "items": [1, 2.5, true, null, {"a": "b"}], "done": false, "text": )"
       R"("It was a bright cold day in April, and the clocks were striking thirteen."})"},
      {"optional", false,
       R"({"type":"object","properties":{"id":{"type":"string","format":"uuid"},"when":{"type":"string",)"
       R"("format":"date-time"},"level":{"enum":["debug","info","warning","error"]},"message":{"type":"string",)"
       R"("maxLength":200},"code":{"type":"integer"},"host":{"type":"string"},"user":{"type":["string","null"]}}})",
       R"({"id":"123e4567-e89b-12d3-a456-426614174000","when":"2026-03-04T05:06:07Z","level":"warning","message":)"
       R"("the disk of this machine is nearly full","code":17,"host":"db-3","user":null})"},
      {"tree", false,
       R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"name":{"type":"string"},)"
       R"("children":{"type":"array","items":{"$ref":"#/$defs/node"}}},"required":["name","children"],)"
       R"("additionalProperties":false}}})",
       R"({"name":"root","children":[{"name":"left leaf","children":[]},{"name":"right","children":[{"name":"deep",)"
       R"("children":[]}]}]})"},
      {"patterns", false,
       R"({"type":"object","properties":{"plate":{"type":"string","pattern":"^[A-Z]{1,3}-[A-Z]{1,2} [0-9]{1,4}$"},)"
       R"("phone":{"type":"string","pattern":"^\\+?[0-9 ()-]{7,20}$"},"slug":{"type":"string","pattern":)"
       R"("^[a-z0-9]+(-[a-z0-9]+)*$"}},"required":["plate","phone","slug"],"additionalProperties":false})",
       R"({"plate":"B-XY 1234","phone":"+49 30 1234567","slug":"what-a-fine-day-it-is"})"},
      {"tool call", true,
       "start: text call\ntext: /[^<]*/\ncall: \"<tool_call>\\n\" %json {\"type\":\"object\",\"properties\":{\"name\":"
       "{\"const\":\"get_weather\"},\"arguments\":{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"},"
       "\"unit\":{\"enum\":[\"celsius\",\"fahrenheit\"]}},\"required\":[\"city\"],\"additionalProperties\":false}},"
       "\"required\":[\"name\",\"arguments\"],\"additionalProperties\":false} \"\\n</tool_call>\"\n",
       "I will look it up for you.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"New York\", "
       "\"unit\": \"celsius\"}}\n</tool_call>"},
      {"thought and answer", true,
       "start: \"<think>\" thought answer\nthought[suffix=\"</think>\"]: /(.|\\n)*/\nanswer: %json "
       "{\"type\":\"object\",\"properties\":{\"sum\":{\"type\":\"integer\"}},\"required\":[\"sum\"]}\n",
       "<think>\nLet me see: the first of them has 3 apples, the second has \"twice as many\", so {6}.\n\nAltogether "
       "that "
       "is 3 + 6 = 9.\n</think>{\"sum\": 9}"},
      {"text or call", true,
       "start: TEXT | lead call\nTEXT: /(.|\\n)*/ & ~/(.|\\n)*<tool_call>(.|\\n)*/\nlead[suffix=\"<tool_call>\"]: "
       "/(.|\\n)*/\ncall: \"\\n\" %json {\"type\":\"object\"} \"\\n</tool_call>\"\n",
       "A list of what I know:\n\n- It was a \"bright\" cold day in April.\n- The clocks were striking "
       "<b>thirteen</b>.\n\n"
       "```python\nfor i in range(10):\n    print({\"i\": i})\n```\n"}};
  return all;
}

// The processor's: what runs beside does not count.
double clock_us(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

double worked_us() { return clock_us(CLOCK_THREAD_CPUTIME_ID); }
double process_us() { return clock_us(CLOCK_PROCESS_CPUTIME_ID); }  // compiling has a thread of its own

double percentile(const std::vector<double>& sorted, double part) {
  return sorted[std::min(sorted.size() - 1, static_cast<std::size_t>(part * static_cast<double>(sorted.size())))];
}

void print(std::string_view name, double compile_ms, std::vector<double> us) {
  std::ranges::sort(us);
  const double mean = std::accumulate(us.begin(), us.end(), 0.0) / static_cast<double>(us.size());
  fmt::print("{:<22} {:>10.1f} {:>8} {:>9.1f} {:>8.1f} {:>8.1f} {:>8.1f}\n", name, compile_ms, us.size(), mean,
             percentile(us, 0.5), percentile(us, 0.99), us.back());
}

class Bench {
 public:
  Bench(const Tokenizer& tokenizer, const TokenTexts& texts, int rows)
      : tokenizer_(tokenizer),
        trie_(texts.offsets, {texts.bytes.data(), texts.bytes.size()}, texts.special, texts.ends),
        mask_(static_cast<std::size_t>(rows + 31) / 32) {}

  std::size_t trie_bytes() const { return trie_.bytes(); }

  void run() {
    fmt::print("{:<22} {:>10} {:>8} {:>9} {:>8} {:>8} {:>8}\n", "", "compile ms", "masks", "mean us", "p50", "p99",
               "max");
    for (const Case& one : cases()) run(one);
    print("all documents", 0.0, documents_);
    print("all walks", 0.0, walks_);
  }

 private:
  void run(const Case& one) {
    const double begin = process_us();
    const CompiledGrammar grammar = one.is_lark ? CompiledGrammar::of_lark(trie_, one.grammar)
                                                : CompiledGrammar::of_json_schema(trie_, one.grammar);
    const double compile_ms = (process_us() - begin) / 1e3;
    const auto ids = tokenizer_.encode(one.document, {.add_special_tokens = false});
    std::vector<double> document, walk;
    for (int i = 0; i < kRepeats; ++i) follow(grammar, ids, &document);
    std::mt19937 random(5);
    for (int i = 0; i < kWalks; ++i) wander(grammar, random, &walk);
    print(one.name, compile_ms, document);
    print(fmt::format("  at random"), 0.0, walk);
    documents_.insert(documents_.end(), document.begin(), document.end());
    walks_.insert(walks_.end(), walk.begin(), walk.end());
  }

  void follow(const CompiledGrammar& grammar, std::span<const std::int32_t> ids, std::vector<double>* us) {
    GrammarMatcher matcher(grammar);
    for (const std::int32_t id : ids) {
      take_mask(&matcher, us);
      if (!matcher.push(id)) throw std::runtime_error("the document does not keep to its grammar");
    }
    take_mask(&matcher, us);
    if (!matcher.may_end()) throw std::runtime_error("the document's end does not keep to its grammar");
  }

  void wander(const CompiledGrammar& grammar, std::mt19937& random, std::vector<double>* us) {
    GrammarMatcher matcher(grammar);
    for (int i = 0; i < kWalkTokens; ++i) {
      take_mask(&matcher, us);
      std::vector<std::int32_t> allowed;
      for (std::int32_t id = 0; id < static_cast<std::int32_t>(mask_.size() * 32); ++id) {
        if ((mask_[static_cast<std::size_t>(id) / 32] >> (id % 32) & 1) != 0) allowed.push_back(id);
      }
      if (allowed.empty() || !matcher.push(allowed[random() % allowed.size()])) return;
    }
  }

  void take_mask(GrammarMatcher* matcher, std::vector<double>* us) {
    const double begin = worked_us();
    matcher->allow(mask_);
    us->push_back(worked_us() - begin);
  }

  const Tokenizer& tokenizer_;
  const TokenTrie trie_;
  std::vector<std::uint32_t> mask_;
  std::vector<double> documents_, walks_;
};

void run(const std::string& path) {
  const Models models(real_file_system(), {{.name = "m", .path = path}});
  const ServedModel& model = models.find(std::nullopt, Task::complete);
  const auto texts = model.grammar_vocabulary->texts();
  const double begin = process_us();
  Bench bench(*model.tokenizer, *texts, model.vocabulary);
  const double trie_ms = (process_us() - begin) / 1e3;
  fmt::print("{} tokens; their trie takes {:.0f} ms and {:.1f} MB\n", texts->special.size(), trie_ms,
             static_cast<double>(bench.trie_bytes()) / 1e6);
  bench.run();
}

}  // namespace
}  // namespace cortex

int main(int count, char** arguments) {
  if (count != 2) {
    fmt::print(stderr, "usage: grammar_masks MODEL\n");
    return 64;
  }
  try {
    cortex::run(arguments[1]);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
