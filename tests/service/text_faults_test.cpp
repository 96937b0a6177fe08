// A chat whose text side fails at any stage ends with an error, gives back what it held, and changes nothing for the
// chats beside it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <future>

#include "fakes/echo_engine.h"
#include "fakes/fake_clock.h"
#include "fakes/temporary_folder.h"
#include "fakes/test_paths.h"
#include "service/chat.h"
#include "service/served_models.h"

namespace cortex {
namespace {

constexpr TokenId kEndOfTurn = 2;
constexpr const char* kTemplate =
    "{% for m in messages %}{% if m.content == 'fail' %}{{ raise_exception('no such message') }}{% endif %}"
    "{{ m.content }}{% endfor %}";

struct Told {
  std::string text;
  std::optional<GenerationEnd> end;
  std::optional<Error> error;
};

class TextFaultsTest : public testing::Test {
 protected:
  Models models_with_template() const {
    const std::filesystem::path folder = folder_.path() / "llama";
    std::filesystem::copy(test_data("models/llama"), folder, std::filesystem::copy_options::recursive);
    folder_.write("llama/chat_template.jinja", kTemplate);
    return {real_file_system(), {{"chat", folder.string()}}};
  }

  static ChatRequest ask(const std::string& text) {
    ChatRequest request;
    request.messages = {{"user", text}};
    request.store = true;
    return request;
  }

  std::future<Told> start(const std::string& text) {
    auto told = std::make_shared<Told>();
    auto over = std::make_shared<std::promise<Told>>();
    auto future = over->get_future();
    chat_.run(chat_.prepare(ask(text)), [told, over](GenerationEvent event) {
      told->text += event.text;
      told->end = std::move(event.end);
      told->error = std::move(event.error);
      if (told->end || told->error) over->set_value(*told);
    });
    return future;
  }

  // All that such a call held is free: the admission has one place beside the chat that goes on.
  void expect_only_it_fails(const std::string& text) {
    std::future<Told> beside = start("hi");
    for (int times = 0; times < 3; ++times) EXPECT_THROW(chat_.prepare(ask(text)), Error) << text;
    EXPECT_EQ(start("hi").get().text, reply_);
    const Told told = beside.get();
    EXPECT_EQ(told.text, reply_);
    EXPECT_TRUE(told.end);
    EXPECT_EQ(conversations_.count(), 2);
  }

  TemporaryFolder folder_;
  const std::string reply_ = "the scheduler";
  const Models models_ = models_with_template();
  const ServedModel& model_ = models_.find("chat", Task::chat);
  FakeClock clock_;
  EchoEngine engine_{{.models = {"chat"},
                      .token_delay = std::chrono::milliseconds(2),
                      .reply = [this](const GenerateRequest& request) {
                        std::vector<TokenId> ids = model_.tokenizer->encode(reply_, {.add_special_tokens = false});
                        const auto spoilt = model_.tokenizer->encode("spoilt", {.add_special_tokens = false});
                        if (request.prompt.size() >= spoilt.size() &&
                            std::equal(spoilt.rbegin(), spoilt.rend(), request.prompt.rbegin())) {
                          ids.insert(ids.begin() + 1, model_.vocabulary + 5);
                        }
                        ids.push_back(kEndOfTurn);
                        return ids;
                      }}};
  Admission admission_{engine_, 2};
  Conversations conversations_{":memory:", {}, clock_};
  ThreadPool text_threads_{2};
  ChatService chat_{models_, admission_, conversations_, text_threads_, clock_};
};

TEST_F(TextFaultsTest, ATemplateThatFails) { expect_only_it_fails("fail"); }

TEST_F(TextFaultsTest, ATextThatIsFoundTooLongOnceItIsTokenized) {
  std::string longer;
  for (int i = 0; i < model_.context_tokens; ++i) longer += "hi ";
  expect_only_it_fails(longer);
}

TEST_F(TextFaultsTest, AnIdThatIsNoTokenAddsNothing) {
  std::future<Told> beside = start("hi");
  EXPECT_EQ(start("spoilt").get().text, reply_);
  EXPECT_EQ(beside.get().text, reply_);
}

// Whoever takes the text of one chat throws.
TEST_F(TextFaultsTest, ATextThatCanNotBePassedOn) {
  std::future<Told> beside = start("hi");
  std::promise<Error> error;
  chat_.run(chat_.prepare(ask("hi")), [&](const GenerationEvent& event) {
    if (!event.error) throw std::runtime_error("no room");
    error.set_value(*event.error);
  });
  EXPECT_EQ(error.get_future().get().code(), ErrorCode::internal_error);
  EXPECT_EQ(start("hi").get().text, reply_);
  EXPECT_EQ(beside.get().text, reply_);
  EXPECT_EQ(conversations_.count(), 2);
}

}  // namespace
}  // namespace cortex
