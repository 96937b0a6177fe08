#include "cli/completion_script.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "cli/commands.h"

namespace cortex {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const CompletedCommand& find(const std::vector<CompletedCommand>& all, const std::string& name) {
  return *std::find_if(all.begin(), all.end(), [&](const auto& command) { return command.name == name; });
}

const CompletedOption& find_option(const CompletedCommand& command, const std::string& name) {
  return *std::find_if(command.options.begin(), command.options.end(), [&](const auto& option) {
    return std::find(option.names.begin(), option.names.end(), name) != option.names.end();
  });
}

TEST(Choices, AreReadFromAType) {
  EXPECT_THAT(choices_in("TEXT:{auto,cpu,mlx}"), ElementsAre("auto", "cpu", "mlx"));
  EXPECT_THAT(choices_in("TEXT:{one}"), ElementsAre("one"));
  EXPECT_THAT(choices_in("INT:INT in [0 - 65535]"), IsEmpty());
  EXPECT_THAT(choices_in(""), IsEmpty());
}

TEST(DescribeCommands, KnowsAllOfThem) {
  const auto all = describe_commands();
  ASSERT_EQ(all.size(), commands().size());
  const CompletedCommand& serve = find(all, "serve");
  EXPECT_THAT(find_option(serve, "--backend").choices, ElementsAre("auto", "cpu", "mlx"));
  EXPECT_EQ(find_option(serve, "--model").value, CompletedOption::Value::model);
  EXPECT_EQ(find_option(serve, "--port").value, CompletedOption::Value::free);
  EXPECT_EQ(find_option(serve, "--in-process").value, CompletedOption::Value::none);
  EXPECT_EQ(find_option(serve, "--api-key-file").value, CompletedOption::Value::file);
  EXPECT_EQ(find_option(find(all, "models"), "--models-dir").value, CompletedOption::Value::folder);
  EXPECT_THAT(find_option(serve, "-h").names, Contains("--help"));
  ASSERT_EQ(find(all, "pull").positionals.size(), 1u);
  EXPECT_THAT(find(all, "pull").positionals[0].choices, Contains("smollm2"));
}

TEST(Scripts, HoldEveryOptionOfEveryCommand) {
  const auto all = describe_commands();
  const std::string bash = bash_script(all), zsh = zsh_script(all), fish = fish_script(all);
  for (const auto& command : all) {
    for (const auto& script : {bash, zsh, fish}) EXPECT_THAT(script, HasSubstr(command.name));
    for (const auto& option : command.options) {
      for (const auto& name : option.names) {
        EXPECT_THAT(bash, HasSubstr(name));
        EXPECT_THAT(zsh, HasSubstr("*" + name + "["));
        EXPECT_THAT(fish, HasSubstr(name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1)));
      }
    }
  }
}

TEST(Scripts, QuoteWhatShellsWouldRead) {
  const std::vector<CompletedCommand> commands = {
      {"odd", "it's `x` $y", {{{"--o"}, "don't [a:b] `z` $w", CompletedOption::Value::none, {}}}, {}}};
  EXPECT_THAT(fish_script(commands), HasSubstr("'don'\\''t [a:b] `z` $w'"));
  EXPECT_THAT(zsh_script(commands), HasSubstr("'*--o[don'\\''t \\[a\\:b\\] `z` $w]'"));
}

}  // namespace
}  // namespace cortex
