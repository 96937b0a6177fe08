#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <thread>

#include "base/error.h"
#include "text/tokenizers.h"

namespace cortex {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

constexpr const char* kHello = R"([{"role":"user","content":"hi"}])";

std::string render(const std::string& source, const std::string& messages = kHello,
                   const ChatTemplateOptions& options = {}) {
  return ChatTemplate(source, {{"bos_token", "<s>"}}).render(messages, options);
}

std::string failure_of(const std::string& source, const std::string& messages = kHello,
                       const ChatTemplateOptions& options = {}) {
  try {
    render(source, messages, options);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_value);
    return error.message();
  }
  return "no error";
}

TEST(ChatTemplate, RendersAConversation) {
  const std::string source = read_data("models/llama/chat_template.jinja");
  EXPECT_EQ(render(source), "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(render(source, kHello, {.add_generation_prompt = false}), "<|im_start|>user\nhi<|im_end|>\n");
}

TEST(ChatTemplate, TrimsBlocksAsTransformersDoes) {
  // One line end after a block goes, and blanks before one; what stands around an expression stays.
  EXPECT_EQ(render("{% if true %}\na\n    {% endif %}\n\n  {{ 'b' }}\n"), "a\n\n  b");
  EXPECT_EQ(render("  {%- if true -%}  a  {%- endif %}"), "a");
}

TEST(ChatTemplate, KnowsSpecialTokensToolsAndArguments) {
  ChatTemplateOptions options;
  options.tools_json = R"([{"name":"f"}])";
  options.arguments_json = R"({"enable_thinking":false})";
  EXPECT_EQ(render("{{ bos_token }}{{ tools[0].name }}{{ enable_thinking }}", kHello, options), "<s>fFalse");
  EXPECT_EQ(render("{{ tools is none }}{{ enable_thinking is defined }}{{ missing }}"), "TrueFalse");
}

TEST(ChatTemplate, ArgumentsCannotTakeThePlaceOfItsOwn) {
  for (const char* name : {"messages", "tools", "documents", "add_generation_prompt", "bos_token"}) {
    ChatTemplateOptions options;
    options.arguments_json = std::string(R"({")") + name + R"(":[]})";
    EXPECT_THAT(failure_of("a", kHello, options), HasSubstr(std::string(name) + ": is not for the request to set"));
  }
}

TEST(ChatTemplate, WritesJsonAsPythonDoes) {
  const auto json = [](const std::string& filter, const std::string& content) {
    return render("{{ messages[0].content | " + filter + " }}", R"([{"content":)" + content + "}]");
  };
  EXPECT_EQ(json("tojson", R"({"b":[1,2.5,true,null],"a":"<é>&'\"\n"})"),
            R"({"b": [1, 2.5, true, null], "a": "<é>&'\"\n"})");
  EXPECT_EQ(json("tojson(indent=2)", R"({"a":[1,{}],"b":[]})"), "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}");
  EXPECT_EQ(json("tojson(ensure_ascii=true)", R"("é🙂")"), R"("\u00e9\ud83d\ude42")");
  EXPECT_EQ(json("tojson(separators=(',', ':'))", R"({"a":[1,2]})"), R"({"a":[1,2]})");
  EXPECT_EQ(json("tojson(sort_keys=true)", R"({"b":1,"a":{"d":2,"c":3}})"), R"({"a": {"c": 3, "d": 2}, "b": 1})");
}

TEST(ChatTemplate, HasPythonsMethods) {
  EXPECT_EQ(
      render("{{ ' a '.strip() }}{{ 'a,b'.split(',')[1] }}{{ 'abc'.startswith('ab') }}{{ 'aXa'.replace('X', '-') }}"
             "{% for key, value in {'k': 1}.items() %}{{ key }}{{ value }}{% endfor %}"),
      "abTruea-ak1");
}

TEST(ChatTemplate, HasLoopControlsAndNamespaces) {
  EXPECT_EQ(render("{% set ns = namespace(n=0) %}{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}"
                   "{% if i == 4 %}{% break %}{% endif %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}"),
            "5");
}

TEST(ChatTemplate, LoopsKnowTheirNeighbours) {
  EXPECT_EQ(render("{% for i in [1, 2, 3] %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }}{{ ',' if not loop.last }}"
                   "{% endfor %}{{ [1, 2, 3][1:] }}{{ [1, 2, 3][::-1] }}{{ 'abc'[:-1] }}"),
            "<1>2,1<2>3,2<3>[2, 3][3, 2, 1]ab");
}

TEST(ChatTemplate, TestsAsPythonDoes) {
  EXPECT_EQ(
      render("{{ none is iterable }}{{ 'a' is iterable }}{{ [] is iterable }}{{ {} is iterable }}{{ 1 is iterable }}"
             "{{ missing is iterable }}{{ tools is iterable and tools|length > 0 }}"),
      "FalseTrueTrueTrueFalseTrueFalse");
}

TEST(ChatTemplate, PlainIsRolesAndTexts) {
  const std::string messages =
      R"([{"role":"system","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"h"},)"
      R"({"type":"image"},{"type":"text","text":"i"}]},{"role":"assistant","content":" hello\n"},)"
      R"({"role":"assistant","content":null}])";
  EXPECT_EQ(ChatTemplate::plain().render(messages),
            "system: Be brief.\nuser: hi\nassistant:  hello\n\nassistant: \nassistant:");
  EXPECT_EQ(ChatTemplate::plain().render(kHello, {.add_generation_prompt = false}), "user: hi\n");
}

TEST(ChatTemplate, DropsGenerationTags) {
  EXPECT_EQ(render("a\n  {% generation %}\nb\n  {%- endgeneration -%}\n  c"), "a\nbc");
}

TEST(ChatTemplate, TellsTheTime) {
  EXPECT_THAT(render("{{ strftime_now('%Y-%m-%d') }}"), MatchesRegex("20[0-9][0-9]-[01][0-9]-[0-3][0-9]"));
  EXPECT_THAT(failure_of("{{ strftime_now('%Y' * 1000) }}"),
              HasSubstr("strftime_now: the result is empty or over 511"));
}

TEST(ChatTemplate, ItsExceptionIsTheError) {
  EXPECT_EQ(failure_of("{{ raise_exception('roles must alternate') }}"), "chat template: roles must alternate");
  EXPECT_EQ(failure_of("{% macro m() %}{{ raise_exception('no') }}{% endmacro %}{{ m() }}"), "chat template: no");
}

TEST(ChatTemplate, SaysWhereItFails) {
  EXPECT_THAT(failure_of("\n\n{{ missing.name }}"), HasSubstr("chat template:3"));
  EXPECT_THAT(failure_of("{{ 1 / 0 }}"), HasSubstr("chat template: "));
}

TEST(ChatTemplate, RefusesWhatIsNoTemplate) {
  for (const char* source :
       {"{% if %}", "{{", "{% for x in y %}", "{% include 'a' %}", "{% set ns.a =", "{% set ns.a = 1", "\xFF"}) {
    try {
      const ChatTemplate made(source, {});
      ADD_FAILURE() << source;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_config) << source;
      EXPECT_THAT(error.message(), Not(HasSubstr("panic"))) << source;
    }
  }
}

TEST(ChatTemplate, RefusesInputThatIsNotWhatItShouldBe) {
  EXPECT_THAT(failure_of("a", "{}"), HasSubstr("messages: is not an array"));
  EXPECT_THAT(failure_of("a", "[1"), HasSubstr("messages: "));
  EXPECT_THAT(failure_of("a", std::string(1000000, '[')), HasSubstr("messages: recursion limit"));
  ChatTemplateOptions options;
  options.tools_json = "[";
  EXPECT_THAT(failure_of("a", kHello, options), HasSubstr("tools: "));
  options = {};
  options.arguments_json = "[]";
  EXPECT_THAT(failure_of("a", kHello, options), HasSubstr("arguments: "));
}

TEST(ChatTemplate, IsSharedByThreads) {
  const ChatTemplate shared(read_data("models/llama/chat_template.jinja"), {});
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (auto& count : wrong) {
    threads.emplace_back([&] {
      for (int round = 0; round < 100; ++round) {
        count += shared.render(kHello) != "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n";
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

// Seconds of this process's CPU: another process's load does not count.
double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

// Templates that try to get out or to use the machine up: an error or bounded text in time.
class Bomb : public testing::TestWithParam<const char*> {};

TEST_P(Bomb, EndsInTime) {
  const double begin = cpu_seconds();
  try {
    const std::string text = render(GetParam());
    EXPECT_LT(text.size(), 13u << 20);
    EXPECT_THAT(text, Not(HasSubstr("root:")));
  } catch (const Error& error) {
    EXPECT_THAT(error.message(), HasSubstr("chat template"));
    EXPECT_LT(error.message().size(), 4096u);
  }
  EXPECT_LT(cpu_seconds() - begin, 1.0);
}

INSTANTIATE_TEST_SUITE_P(
    ChatTemplate, Bomb,
    testing::Values(
        "{{ 'a' * 2000000000 }}", "{% set s = 'a' * 100000 %}{% set s = s * 100000 %}{{ s|length }}",
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{% for i in range(90000) %}{% for j in range(90000) %}x{% endfor %}{% endfor %}",
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{% set ns = namespace(s='aaaaaaaaaaaaaaaa') %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"
        "{{ ns.s|length }}",
        "{{ ''.__class__.__mro__ }}", "{{ lipsum.__globals__ }}", "{% include '/etc/passwd' %}",
        "{% extends '/etc/passwd' %}", "{% import '/etc/passwd' as x %}{{ x }}",
        // Much out of little.
        "{{ 'x'|center(1000000000) }}", "{{ 'a\nb'|indent(1000000000) }}", "{{ '%1000000000d'|format(1) }}",
        "{{ range(1000000000)|list|length }}", "{{ [1] * 1000000000 }}", "{{ 10 ** 1000000000 }}",
        "{% set ns = namespace(s='aaaaaaaaaaaaaaaa') %}{% for i in range(40) %}{% set ns.s = ns.s.replace('a', 'aaaa') "
        "%}"
        "{% endfor %}{{ ns.s|length }}",
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(40) %}{% set ns.s = ns.s.join([ns.s, ns.s, ns.s]) %}"
        "{% endfor %}{{ ns.s|length }}",
        "{% set s %}{% for i in range(10000) %}{{ 'a' * 100000 }}{% endfor %}{% endset %}{{ s|length }}",
        "{% set s = 'a' * 1000000 %}{% for i in range(10000) %}{{ s }}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% set t = s|tojson %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% set t = s.count('b') %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% set t = s.find('b') %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% if s.startswith('b') or 'b' in s %}{% endif %}{% "
        "endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% if s.strip() == s %}{% endif %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% if s|length == 1 %}{% endif %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% if s.isalpha() and s.isascii() %}{% endif %}{% "
        "endfor %}",
        "{% for i in range(100000) %}{% set s = strftime_now('%c' * 20) %}{% endfor %}",
        // Depth, for whatever recurses: printing, JSON, comparing, freeing.
        "{% set ns = namespace(a=[]) %}{% for i in range(60000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a|length }}",
        "{% set ns = namespace(a=[]) %}{% for i in range(60000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a }}",
        "{% set ns = namespace(a=[]) %}{% for i in range(60000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a|tojson }}",
        "{% set ns = namespace(a=[], b=[]) %}{% for i in range(40000) %}{% set ns.a = [ns.a] %}{% set ns.b = [ns.b] %}"
        "{% endfor %}{{ ns.a == ns.b }}",
        "{% set ns = namespace(a={}) %}{% for i in range(60000) %}{% set ns.a = {'k': ns.a} %}{% endfor %}{{ "
        "ns.a|tojson }}",
        "{% set ns = namespace(a=1) %}{% set ns.a = ns %}{{ ns|tojson }}{{ ns }}"));

// Every list holds the one before it twice: of 30, the last is of 2^30 items.
std::string doubled(const std::string& pair, const std::string& use) {
  std::string source = "{% set z = [0, 0] %}";
  for (int i = 0; i < 30; ++i) source += "{% set y = z %}{% set z = " + pair + " %}";
  return source + use;
}

class SharingBomb : public testing::TestWithParam<std::string> {};

TEST_P(SharingBomb, IsRefused) {
  EXPECT_THAT(failure_of(GetParam()),
              testing::AnyOf(HasSubstr("takes more than 200000 steps"), HasSubstr("a list can't be repeated by *"),
                             HasSubstr("can't hold a namespace")));
}

INSTANTIATE_TEST_SUITE_P(
    ChatTemplate, SharingBomb,
    testing::Values(
        doubled("[z, z]", "{{ z }}"), doubled("[z, z]", "{{ z ~ '' }}"), doubled("[z, z]", "{{ z|string }}"),
        doubled("[z, z]", "{{ z|upper }}"), doubled("[z, z]", "{{ z|join }}"), doubled("[z, z]", "{{ z|tojson }}"),
        doubled("[z, z]", "{{ '%s'|format(z) }}"), doubled("[z, z]", "{{ '{}'.format(z) }}"),
        doubled("[z, z]", "{% if z == [y, y] %}{% endif %}"), doubled("[z, z]", "{{ 'x' in z }}{{ z|pprint }}"),
        doubled("[z, z]", "{{ {z: 1}|length }}"), doubled("[[z], {'a': [z]}]", "{{ z }}"),
        doubled("{'a': z, 'b': z}", "{{ z }}"), doubled("{'a': z, 'b': z}", "{{ z ~ '' }}"),
        doubled("(z, z)", "{{ z ~ '' }}"), doubled("z, z", "{{ z ~ '' }}"), doubled("z + z", "{{ z ~ '' }}"),
        doubled("z + (z)", "{{ z ~ '' }}"), doubled("(z + z)", "{{ z|length }}{{ z ~ '' }}"),
        doubled("dict(a=z, b=z)", "{{ z ~ '' }}"), doubled("[0]|batch(3, z)|list", "{{ z ~ '' }}"),
        doubled("[0, 0]|map(attribute='a', default=z)|list", "{{ z ~ '' }}"),
        doubled("[0]|slice(3, z)|list", "{{ z ~ '' }}"), doubled("z|zip(z)|list", "{{ z ~ '' }}"),
        doubled("z|chain(z)|list", "{{ z ~ '' }}"), doubled("1 is odd and [z, z]", "{{ z ~ '' }}"),
        doubled("z if false else [z, z]", "{{ z ~ '' }}"), doubled("[z,z][:]", "{{ z ~ '' }}"),
        "{% set s = 'a' * 1000000 %}{{ ([s]|list + range(10000)|map(attribute='a', default=s)|list) ~ '' }}",
        "{% macro m(x, n) %}{% if n %}{{ m([x, x], n - 1) }}{% else %}{{ x ~ '' }}{% endif %}{% endmacro %}{{ m(0, 40) "
        "}}",
        "{% macro m(x, n) %}{% if n %}{% with y = [x, x, x, x] %}{{ m(y, n - 1) }}{% endwith %}{% else %}{{ x }}{% "
        "endif %}"
        "{% endmacro %}{{ m(0, 12) }}",
        "{% set ns = namespace(a=[0]) %}{% for i in range(40) %}{% set ns.a = ns.a + ns.a %}{% endfor %}{{ ns.a ~ '' "
        "}}",
        "{% set ns = namespace(a=[0]) %}{% set z = [ns, ns] %}",
        "{% set z = namespace(a=[0]) %}{% set z = dict(a=z) %}",
        // Lists that hold large ones, compared again and again.
        "{% set z = range(30000)|list %}{% set y = range(30000)|list %}{% for i in range(9999) %}{% set x = [z, "
        "y]|sort %}{% endfor %}",
        "{% set z = range(30000)|list %}{% set y = range(30000)|list %}{% set w = [z, y] %}{% for i in range(9999) "
        "%}{% "
        "set x = w|unique|list %}{{ w|max|length }}{{ w|min|length }}{% endfor %}",
        "{% set z = range(30000)|list %}{% set y = range(30000)|list %}{% for i in range(9999) %}{% if z is lt(y) or y "
        "is ge(z) or z is in([y]) %}{% endif %}{% endfor %}",
        // Lists that are long at once.
        "{{ (1,)|list * 99999999 }}", "{% set n = 99999999 %}{{ ([1] * n)|string }}", "{{ (99999999 * [1]) ~ '' }}",
        "{% set a = [1] %}{{ ((a) * 99999999)|join|length }}", "{% set a = [1] %}{{ (2 * 9999 * a|list)|upper }}",
        "{% set a = {'b': [1]} %}{{ (a.b * 99999999)|upper }}", "{{ ((range(9)|list)[:] * 99999999) ~ '' }}",
        // Arguments that are written often.
        "{% set s = 'a' * 100000 %}{{ ('{0}' * 100000).format(s)|length }}",
        "{% set z = range(20000)|list %}{{ ('{0}' * 100000).format([z])|length }}",
        "{% set ns = namespace(a=[]) %}{% for i in range(40000) %}{% set ns.a = ns.a[:] %}{% endfor %}{{ ns.a }}",
        // Comparing again and again.
        "{% set z = [range(50000)|list] %}{% set y = [range(50000)|list] %}{% for i in range(50000) %}{% if z is eq(y) "
        "%}"
        "{% endif %}{% endfor %}",
        "{% set z = [range(50000)|list] %}{% set y = [range(50000)|list] %}{% for i in range(50000) %}{% if z == y %}"
        "{% endif %}{% endfor %}"));

TEST(ChatTemplate, WidthsAndSlicesOfSlicesHaveALimit) {
  EXPECT_THAT(failure_of("{{ '{:1000000000}'.format(1) }}"), HasSubstr("a width of more than 4 digits"));
  std::string slices;
  for (int i = 0; i < 8; ++i) slices += "[:]";
  EXPECT_EQ(render("{{ messages" + slices + "|length }}{{ 'abc'[1:].upper() }}{{ [1, 2, 3][1:] }}"), "1BC[2, 3]");
  EXPECT_THROW(ChatTemplate("{{ messages" + slices + "[:] }}", {}), Error);
}

TEST(ChatTemplate, ContainersAreWhatTheyWere) {
  const std::string messages = R"([{"role":"user","content":"hi","n":2},{"role":"b","content":"x","n":3}])";
  const std::pair<const char*, const char*> cases[] = {
      {"{% set a = [messages[0].role, 'b'] %}{{ a }}{{ [a, [a]][1][0][0] }}", "['user', 'b']user"},
      {"{% set d = {'k': messages[0].n, 'l': {'m': [1]}} %}{{ d.k * 3 }}{{ d['l'].m[0] }}{{ {'a': d}.a.k }}", "612"},
      {"{{ '=' * messages[0].n }}{{ messages[0].n * '-' }}{{ 2 * 3 * -messages[0].n }}{{ messages|length * 2 }}",
       "==---124"},
      {"{% for k, v in {'a': messages[0].n}.items() %}{{ k }}{{ v }}{% endfor %}{% for (a, b) in [(1, messages[0].n)] "
       "%}{{ a + b }}{% endfor %}",
       "a23"},
      {"{% set a, b = messages[0].n, 7 %}{% set (c, d) = (a, b) %}{{ a + b * c }}{{ d }}{% with (e, f) = (a, 9), g = "
       "[a]"
       " %}{{ e }}{{ f }}{{ g }}{% endwith %}",
       "16729[2]"},
      {"{{ ([messages[0].n] + [3] + messages[1:])|length }}{{ (messages[0].n, 3)[1] }}{{ () }}{{ (4) }}", "33()4"},
      {"{{ 'x' if messages[0].role in ['user', messages[1].role] else 'y' }}{{ 2 in [messages[0].n] }}"
       "{{ 2 not in [messages[0].n] }}{{ messages[0].n is in [1, messages[0].n] }}",
       "xTrueFalseTrue"},
      {"{% macro m(a, b=[1, 2]) %}{{ a }}{{ b }}{{ caller(a, 1) if caller }}{% endmacro %}{{ m(1, b=(2, "
       "messages[0].n)) "
       "}}{% call(x, y) m(messages[0].n) %}{{ x + y }}{% endcall %}",
       "1(2, 2)2[1, 2]3"},
      {"{{ messages|map(attribute='n')|list }}{{ messages|map(attribute='n') | sum * 2 }}{{ "
       "messages|batch(1)|list|length }}",
       "[2, 3]102"},
      {"{%- set s -%} a {%- endset -%}{{- s ~ 'b' 'c' + 'd' -}} {{ {'a': {'b': s}}}}", "abcd{'a': {'b': 'a'}}"},
      {"{{ '{}-{}'.format(messages[0].n, [1]) }}{{ '%s' % messages[0].n if false }}{{ messages[0].n == 2 == "
       "messages[0].n }}{{ dict(a=messages[0].n) }}",
       "2-[1]True{'a': 2}"},
  };
  for (const auto& [source, text] : cases) EXPECT_EQ(render(source, messages), text) << source;
}

TEST(ChatTemplate, ValuesThatAreDeepEndInTime) {
  // A macro that calls itself wraps its argument 500 times a call: as deep as the steps allow.
  std::string wrap;
  for (int i = 0; i < 500; ++i) wrap += "{%set a=[a]%}";
  for (const char* use :
       {"{{ a|length }}", "{{ a }}", "{{ a|tojson|length }}", "{{ a == [a] }}", "{{ a|string|length }}",
        "{{ (a ~ 'b')|length }}", "{{ [a, a]|unique|list|length }}", "{{ a|pprint|length }}", "{{ {a: 1}|length }}",
        "{{ [a, [a]]|sort|length }}", "{{ '%s'|format(a)|length }}"}) {
    for (const int calls : {30, 90}) {
      const double begin = cpu_seconds();
      const std::string source = "{% macro f(a, n) %}" + wrap + "{% if n %}{{ f(a, n - 1) }}{% else %}" + use +
                                 "{% endif %}{% endmacro %}{{ f([], " + std::to_string(calls) + ") }}";
      try {
        EXPECT_LT(render(source).size(), 13u << 20);
      } catch (const Error& error) {
        EXPECT_THAT(error.message(), HasSubstr("chat template"));
      }
      EXPECT_LT(cpu_seconds() - begin, 5.0) << use;
    }
  }
}

// These walk a text and are not charged for it, so they take as long as their text: it costs steps to make.
TEST(ChatTemplate, WhatAStepCanCostIsBounded) {
  for (const char* condition : {"s[99999] == 'b'", "s == t"}) {
    const double begin = cpu_seconds();
    EXPECT_THAT(
        failure_of(std::string("{% set s = 'a' * 100000 %}{% set t = s ~ '' %}{% for i in range(100000) %}{% if ") +
                   condition + " %}{% endif %}{% endfor %}"),
        HasSubstr("takes more than 200000 steps"));
    EXPECT_LT(cpu_seconds() - begin, 5.0);
  }
}

TEST(ChatTemplate, NamespacesHoldWhatIsNoNamespace) {
  EXPECT_EQ(
      render("{% set ns = namespace(a=1, b='') %}{% set ns.a = [ns.a, {'k': 2}] -%}  {{ ns.a[1].k }}"
             "{% set ns.b, ns.a = 'x', 3 if true else 4 %}{{ ns.b }}{{ ns.a }}{% set ns.b %}y{% endset %}{{ ns.b }}"
             "{% set ns.b = undefined_name %}{{ ns.b is defined }}{# {% set ns.a = %} #}"
             "{% raw %}{% set ns.a = 1 %}{% endraw %}{% set ns.a = '%}' %}{{ ns.a }}"),
      "2x3yFalse{% set ns.a = 1 %}%}");
  for (const char* value : {"ns", "[ns]", "{'k': [ns]}", "namespace()", "1, ns", "[ns]|list"}) {
    EXPECT_THAT(failure_of(std::string("{% set ns = namespace(a=1) %}{% set ns.a = ") + value + " %}"),
                HasSubstr("can't hold a namespace"))
        << value;
  }
}

TEST(ChatTemplate, SourcesThatAreTooLongAreRefused) {
  EXPECT_EQ(render(std::string(128 << 10, 'a')).size(), 128u << 10);
  try {
    const ChatTemplate made(std::string((128 << 10) + 1, 'a'), {});
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.message(), "chat template: 131073 bytes are over the limit of 131072");
  }
}

TEST(ChatTemplate, BracketsThatAreTooDeepAreRefused) {
  const auto nested = [](std::size_t times) {
    return "{{ " + std::string(times, '[') + "1" + std::string(times, ']') + "|length }}";
  };
  EXPECT_EQ(render(nested(30)), "1");
  try {
    const ChatTemplate made(nested(151), {});
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.message(), "chat template: syntax error: brackets are within one another more than 150 deep");
  }
}

TEST(ChatTemplate, SourcesThatAreDeepEndInTime) {
  // As deep as a source can be.
  const auto repeat = [](const std::string& text, std::size_t share = 1) {
    std::string all;
    while (all.size() < (120u << 10) / share) all += text;
    return all;
  };
  for (const std::string& source :
       {"{{ " + repeat("(", 2) + "1" + repeat(")", 2) + " }}", "{{ " + repeat("[", 2) + repeat("]", 2) + " }}",
        "{{ " + repeat("not ") + "1 }}", "{{ " + repeat("-") + "1 }}", repeat("{%if 1%}", 4) + repeat("{%endif%}", 2),
        "{{ 1" + repeat("+1") + " }}", "{{ a" + repeat(".a") + " }}", "{{ a" + repeat("|e") + " }}",
        "{{ 1" + repeat(" if 1 else 1") + " }}", "{%if 0%}" + repeat("{%elif 0%}") + "{%endif%}",
        "{{ 1" + repeat("<1") + " }}", "{{ ''" + repeat("~''") + " }}", "{{ 1" + repeat(" and 1") + " }}"}) {
    const double begin = cpu_seconds();
    try {
      ChatTemplate(source, {}).render(kHello);
    } catch (const Error& error) {
      EXPECT_THAT(error.message(), HasSubstr("chat template"));
    }
    EXPECT_LT(cpu_seconds() - begin, 5.0) << source.substr(0, 20);
  }
}

}  // namespace
}  // namespace cortex
