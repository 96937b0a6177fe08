// What foreign files can do to the Rust side: it ends in an error, in time, and never takes the process along.
#include "text/rust.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <functional>

#include "text/chat_template.h"
#include "text/tokenizers.h"

namespace cortex {
namespace {

using std::chrono::steady_clock;
using ::testing::HasSubstr;

constexpr const char* kModel = R"({"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]})";

std::string repeat(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

std::string failure_of(const std::string& json) {
  const auto begin = steady_clock::now();
  std::string message = "no error";
  try {
    Tokenizer::from_json(json);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_tokenizer);
    message = error.message();
  }
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(5));
  return message;
}

TEST(Rust, TheModelOfTheseTestsIsGood) { EXPECT_EQ(failure_of(tokenizer_json(kModel)), "no error"); }

TEST(Rust, RefusesEveryTruncationOfATokenizer) {
  const std::string json = read_data("models/bert-mean/tokenizer.json");
  for (std::size_t size = 0; size + 2 < json.size(); size += 97) {
    EXPECT_NE(failure_of(json.substr(0, size)), "no error") << size;
  }
}

TEST(Rust, RefusesDeepNesting) {
  const int depth = 1000000;
  EXPECT_NE(failure_of(std::string(depth, '[')), "no error");
  EXPECT_NE(failure_of(tokenizer_json(kModel, "[]", std::string(depth, '['))), "no error");
  EXPECT_NE(failure_of(tokenizer_json(kModel, repeat(R"({"a":)", depth))), "no error");
  // Nested as the format allows it, down to something wrong.
  const std::string open = R"({"type":"Sequence","pretokenizers":[)";
  for (const int levels : {20, 60, depth / 10}) {
    const std::string nested = repeat(open, levels) + "7" + repeat("]}", levels);
    EXPECT_NE(failure_of(tokenizer_json(kModel, "[]", "null", nested)), "no error") << levels;
  }
}

TEST(Rust, RefusesWhatIsNoTokenizer) {
  for (const char* json :
       {"", "null", "[]", "{}", "7", R"("text")", R"({"version":"2.0"})", "\xFF", "{\"model\":null}"}) {
    EXPECT_NE(failure_of(json), "no error") << json;
  }
}

TEST(Rust, RefusesMergesOfUnknownTokens) {
  EXPECT_THAT(failure_of(tokenizer_json(R"({"type":"BPE","vocab":{"a":0,"b":1},"merges":[["a","c"]]})")),
              HasSubstr("`c`"));
  EXPECT_NE(failure_of(tokenizer_json(R"({"type":"BPE","vocab":{"a":0,"b":1},"merges":[["a","b"]]})")), "no error");
}

TEST(Rust, RefusesTokensThatWouldTakeMuchMemory) {
  for (const std::size_t size : {std::size_t{1024}, std::size_t{1025}, std::size_t{1} << 20}) {
    const std::string text(size, 'c');
    const std::string unigram = R"({"type":"Unigram","unk_id":0,"vocab":[["a",0],["b",0],[")" + text + R"(",0]]})";
    const std::string added = failure_of(tokenizer_json(kModel, "[" + added_token(3, text) + "]"));
    const std::string piece = failure_of(tokenizer_json(unigram));
    const bool is_too_long = size > 1024;
    const std::string reason = fmt::format("a token of {} bytes is over the limit of 1024", size);
    EXPECT_EQ(added, is_too_long ? "added_tokens: " + reason : "no error");
    EXPECT_EQ(piece, is_too_long ? "model.vocab: " + reason : "no error");
  }
}

TEST(Rust, AReasonIsOneShortLine) {
  const auto reason_for = [](const std::string& token) {
    return failure_of(tokenizer_json(R"({"type":"BPE","vocab":{"a":0},"merges":[["a",")" + token + "\"]]}"));
  };
  EXPECT_THAT(reason_for("x\\n\\u007fy"), HasSubstr("`x  y`"));
  const std::string reason = reason_for(repeat("\u6771", 100'000));
  EXPECT_THAT(reason, HasSubstr("\u6771..."));
  EXPECT_LT(reason.size(), 1010u);
}

TEST(Rust, APanicIsAnError) {
  // The prefix is longer than the token that it should be cut off.
  const std::string model =
      R"({"type":"BPE","continuing_subword_prefix":"######","vocab":{"a":0,"b":1},"merges":[["a","b"]]})";
  EXPECT_THAT(failure_of(tokenizer_json(model)), HasSubstr("panicked"));
}

TEST(Rust, RefusesIdsOutsideTheVocabulary) {
  EXPECT_THAT(failure_of(tokenizer_json(kModel, "[" + added_token(99, "<s>") + "]")), HasSubstr("\"<s>\" says id 99"));
  EXPECT_THAT(failure_of(tokenizer_json(R"({"type":"BPE","vocab":{"a":4294967295},"merges":[]})")),
              HasSubstr("far outside a vocabulary of 1 tokens"));
  EXPECT_THAT(failure_of(tokenizer_json(R"({"type":"BPE","vocab":{"a":0,"b":0},"merges":[]})")),
              HasSubstr("id 0 is both"));
  EXPECT_NE(failure_of(tokenizer_json(R"({"type":"BPE","vocab":{"a":-1},"merges":[]})")), "no error");
  const std::string frame = R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"a","type_id":0}},)"
                            R"({"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},)"
                            R"({"Sequence":{"id":"B","type_id":0}}],)"
                            R"("special_tokens":{"a":{"id":"a","ids":[3],"tokens":["a"]}}})";
  EXPECT_THAT(failure_of(tokenizer_json(kModel, "[]", "null", "null", frame)),
              HasSubstr("post_processor: id 3 is outside the vocabulary of 3"));
}

TEST(Rust, RefusesRegularExpressionsThatExplode) {
  const auto split = [](const std::string& regex) {
    return tokenizer_json(
        kModel, "[]", "null",
        R"({"type":"Split","pattern":{"Regex":")" + regex + R"("},"behavior":"Isolated","invert":false})");
  };
  EXPECT_NE(failure_of(split("(((a{1000}){1000}){1000}){1000}")), "no error");
  EXPECT_NE(failure_of(split(repeat("(", 1000000))), "no error");
  EXPECT_NE(failure_of(split(repeat("(", 100000) + "a" + repeat(")", 100000))), "no error");
  EXPECT_NE(failure_of(split("(")), "no error");
}

TEST(Rust, AnExpressionThatBacktracksEndsInTime) {
  const Tokenizer tokenizer = Tokenizer::from_json(tokenizer_json(
      kModel, "[]", "null",
      R"({"type":"Split","pattern":{"Regex":"(?=(a+)+c)(a|a)*\\1c"},"behavior":"Isolated","invert":false})"));
  const auto begin = steady_clock::now();
  tokenizer.encode(std::string(200, 'a'));
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(5));
}

bool is_unavailable(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code() == ErrorCode::engine_unavailable &&
           error.message().starts_with("chat template: the machine can't start a thread for it: ");
  }
  return false;
}

// Leaves this process less address space than the stack of a thread for templates takes.
void forbid_deep_stacks() {
  std::ifstream statm("/proc/self/statm");
  rlim_t pages = 0;
  statm >> pages;
  const rlim_t bytes = pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + (100u << 20);
  const rlimit limit{bytes, bytes};
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
}

TEST(Rust, AThreadThatCannotStartIsNotTheClientsFault) {
  const auto are_unavailable = [] {
    const Tokenizer tokenizer = Tokenizer::from_json(tokenizer_json(kModel));
    const ChatTemplate chat_template("a", {});
    forbid_deep_stacks();
    return is_unavailable([&] { chat_template.render("[]"); }) &&
           is_unavailable([&] { encode_chat(tokenizer, chat_template, "[]"); }) &&
           is_unavailable([&] { ChatTemplate("b", {}); });
  };
  EXPECT_EXIT(_exit(are_unavailable() ? 0 : 1), testing::ExitedWithCode(0), "");
}

TEST(Rust, RefusesDecodersItCannotTakeApart) {
  const std::string decoder = R"({"type":"CTC","pad_token":"a","word_delimiter_token":"b","cleanup":true})";
  EXPECT_THAT(failure_of(tokenizer_json(kModel, "[]", decoder)), HasSubstr("decoder: "));
}

}  // namespace
}  // namespace cortex
