// encode_chat_prompt with what a model has sampled: the prompt of a turn begins with the ids of the one before and of
// its reply, whatever ids those are, and reads as it would without.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/json_writer.h"
#include "text/chat_template.h"
#include "text/goldens.h"
#include "text/random_texts.h"
#include "text/tokenizers.h"

namespace cortex {
namespace {

using Ids = std::vector<std::int32_t>;
using Chat = std::vector<std::pair<std::string, std::string>>;  // roles and contents

// A tokenizer and a template that its model could have, with the text that begins a reply.
struct Family {
  std::string name;
  Tokenizer tokenizer;
  ChatTemplate chat_template;
};

std::string chat_ml(const std::string& start, const std::string& end) {
  return "{% for m in messages %}" + start + "{{ m.role }}\n{{ m.content }}" + end +
         "\n{% endfor %}{% if add_generation_prompt %}" + start + "assistant\n{% endif %}";
}

// Every tokenizer of tests/data that has special tokens, under a template that writes two of them around a turn.
std::vector<std::string> tokenizer_files() {
  std::vector<std::string> files;
  for (const auto& folder : std::filesystem::directory_iterator(test_data("models"))) {
    if (std::filesystem::exists(folder.path() / "tokenizer.json")) {
      files.push_back("models/" + folder.path().filename().string() + "/tokenizer.json");
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

Family family_of(const std::string& name, Tokenizer tokenizer) {
  std::vector<std::string> marks;
  for (int id = 0; id < tokenizer.vocabulary_size() && marks.size() < 2; ++id) {
    if (tokenizer.is_special(id)) marks.emplace_back(tokenizer.token_bytes(id));
  }
  const ChatTemplate chat_template(chat_ml(marks.front(), marks.back()), {});
  return {name, std::move(tokenizer), chat_template};
}

std::vector<Family> read_families() {
  std::vector<Family> all;
  for (const auto& file : tokenizer_files()) all.push_back(family_of(file, tokenizer_of(file)));
  for (const char* file : {"SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m-q4_k_m.gguf"}) {
    all.push_back(family_of(file, Tokenizer::from_vocabulary(read_vocabulary(default_model(file)))));
  }
  for (const char* name : {"gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2"}) {
    all.push_back(family_of(name, Tokenizer::from_vocabulary(read_vocabulary(ggml_vocabulary(name)))));
  }
  return all;
}

const std::vector<Family>& families() {
  static const std::vector<Family> all = read_families();
  return all;
}

// BERT's and XLM-RoBERTa's drop what they don't know; nobody chats with them.
bool writes_every_text(const Tokenizer& tokenizer) {
  const std::string text = "Größe, 東京タワー 🙂 Привет \t\n";
  return tokenizer.decode(tokenizer.encode(text, {.add_special_tokens = false}), false) == text;
}

std::string json_of(const Chat& chat) {
  JsonWriter json;
  json.begin_array();
  for (const auto& [role, content] : chat) {
    json.begin_object().key("role").string(role).key("content").string(content).end_object();
  }
  return json.end_array().take();
}

Ids joined(Ids ids, const Ids& more) {
  ids.insert(ids.end(), more.begin(), more.end());
  return ids;
}

bool begins_with(const Ids& ids, const Ids& begin) {
  return ids.size() >= begin.size() && std::equal(begin.begin(), begin.end(), ids.begin());
}

std::string spelled(const Tokenizer& tokenizer, const Ids& ids) {
  std::string text;
  for (const auto id : ids) text += tokenizer.token_bytes(id);
  return text;
}

// Ids of no special token, which a model could say: any, or a text in more pieces than it takes.
Ids random_reply(RandomTexts& random, const Tokenizer& tokenizer) {
  Ids ids;
  if (random.below(2) == 0) {
    const std::string text = golden_prompts()[random.below(3)];
    for (std::size_t begin = 0, size = 0; begin < text.size(); begin += size) {
      size = 1 + random.below(3);
      const Ids piece = tokenizer.encode(text.substr(begin, size), {.add_special_tokens = false});
      ids.insert(ids.end(), piece.begin(), piece.end());
    }
    return ids;
  }
  const auto size = static_cast<std::uint32_t>(tokenizer.vocabulary_size());
  for (std::uint32_t left = 1 + random.below(30); left > 0; --left) {
    const auto id = static_cast<std::int32_t>(random.below(size));
    if (!tokenizer.is_special(id) && !tokenizer.token_bytes(id).empty()) ids.push_back(id);
  }
  return ids;
}

ChatPrompt encode(const Family& family, const Chat& chat, const std::vector<SampledText>& sampled = {}) {
  return encode_chat_prompt(family.tokenizer, family.chat_template, json_of(chat), {}, sampled);
}

// A reply may hold marks that the template writes too, around a call say.
TEST(SampledText, GoesOnBehindTheTemplatesOwnMarks) {
  const auto tokenizer = llama_tokenizer();
  const std::int32_t mark = *tokenizer->token_id("<|endoftext|>");
  const ChatTemplate chat_template(
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% if m.call %}<|endoftext|>{{ m.call }}"
      "<|endoftext|>{% endif %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n{% if true %}{% endif %}",
      {});
  const std::string question = R"({"role":"user","content":"hi"})";
  const auto encode = [&](const std::string& messages, const std::vector<SampledText>& sampled) {
    return encode_chat_prompt(*tokenizer, chat_template, "[" + messages + "]", {}, sampled);
  };
  const auto letters = [&](const std::string& text) {
    Ids ids;
    for (const char letter : text) ids = joined(ids, tokenizer->encode({&letter, 1}, {.add_special_tokens = false}));
    return ids;
  };
  const ChatPrompt before = encode(question, {});
  const Ids reply = joined(joined(letters("I look."), {mark}), joined(letters("the weather"), {mark}));
  const std::string answer = R"(,{"role":"assistant","content":"I look.","call":"the weather"},)";
  const SampledText sampled{before.text.size(), reply};
  const ChatPrompt after = encode(question + answer + question, {sampled});
  EXPECT_TRUE(begins_with(after.ids, joined(before.ids, reply)));
  EXPECT_EQ(after.text, encode(question + answer + question, {}).text);
  EXPECT_NE(after.ids, encode(question + answer + question, {}).ids);
  // Where the template does not write it, it ends what is kept; text that looks like it is none.
  const std::string plain = R"(,{"role":"assistant","content":"I look.<|endoftext|>the weather"},)";
  const ChatPrompt other = encode(question + plain + question, {sampled});
  EXPECT_TRUE(begins_with(other.ids, joined(before.ids, letters("I look."))));
  EXPECT_EQ(std::count(other.ids.begin(), other.ids.end(), mark), 0);
}

TEST(SampledText, NoIdIsMadeAcrossASpecialToken) {
  RandomTexts random(7);
  for (const Family& family : families()) {
    const auto is_special = [&](std::int32_t id) { return family.tokenizer.is_special(id); };
    for (int round = 0; round < 20; ++round) {
      const Chat chat = {{"user", random.next()}, {"assistant", random.next()}, {"user", random.next()}};
      const Ids ids = encode(family, chat).ids;
      // Up to its last special token a prompt's ids do not depend on what follows, be it a long text or none.
      const Chat first(chat.begin(), chat.begin() + 1);
      const Ids begin = encode(family, first).ids;
      const auto last = std::find_if(begin.rbegin(), begin.rend(), is_special).base();
      ASSERT_TRUE(begins_with(ids, Ids(begin.begin(), last))) << family.name;
    }
  }
}

TEST(SampledText, OfTheTokenizersOwnIdsChangesNothing) {
  RandomTexts random(8);
  for (const Family& family : families()) {
    for (int round = 0; round < 20; ++round) {
      const Chat chat = {{"user", random.next()}, {"assistant", random.next()}, {"user", "and then?"}};
      const ChatPrompt plain = encode(family, chat);
      const std::size_t begin = plain.text.find("assistant\n") + 10;
      // The ids from a token's beginning on.
      const Ids tail = family.tokenizer.encode("assistant\n", {.add_special_tokens = false});
      const Ids whole = family.tokenizer.encode("assistant\n" + chat[1].second, {.add_special_tokens = false});
      if (!begins_with(whole, tail)) continue;
      const SampledText sampled{begin, Ids(whole.begin() + static_cast<std::ptrdiff_t>(tail.size()), whole.end())};
      ASSERT_EQ(encode(family, chat, {sampled}).ids, plain.ids) << family.name << "\n" << plain.text;
    }
  }
}

TEST(SampledText, ATurnBeginsWithTheOneBeforeAndItsReply) {
  int chatty = 0;
  RandomTexts random(9);
  for (const Family& family : families()) {
    if (!writes_every_text(family.tokenizer)) continue;
    ++chatty;
    int others = 0;
    int kept = 0;
    for (int round = 0; round < 40; ++round) {
      Chat chat = {{"system", random.next()}, {"user", random.next()}};
      std::vector<SampledText> sampled;
      for (int turn = 0; turn < 3; ++turn) {
        const ChatPrompt before = encode(family, chat, sampled);
        const Ids reply = random_reply(random, family.tokenizer);
        const std::string text = spelled(family.tokenizer, reply);
        // Not what a Detokenizer would show as U+FFFD.
        std::string shown = family.tokenizer.decode(reply, false);
        if (text.ends_with(shown)) shown = text;
        sampled.push_back({before.text.size(), reply});
        chat.insert(chat.end(), {{"assistant", shown}, {"user", random.next()}});
        const ChatPrompt plain = encode(family, chat);
        const ChatPrompt after = encode(family, chat, sampled);
        ASSERT_EQ(after.text, plain.text);
        ASSERT_EQ(spelled(family.tokenizer, after.ids), spelled(family.tokenizer, plain.ids)) << family.name;
        ASSERT_TRUE(begins_with(after.ids, before.ids)) << family.name;
        if (shown != text) continue;
        ASSERT_TRUE(begins_with(after.ids, joined(before.ids, reply))) << family.name << "\n" << after.text;
        ++kept;
        others += after.ids != plain.ids;
      }
    }
    EXPECT_GT(kept, 5) << family.name;
    EXPECT_GT(others, 0) << family.name;
  }
  EXPECT_GE(chatty, 20);
}

}  // namespace
}  // namespace cortex
