#include "service/reply_grammar.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <string_view>
#include <utility>

#include "base/json_writer.h"

namespace cortex {
namespace {

constexpr std::string_view kAnything = R"(/(.|\n)*/)";
constexpr std::string_view kAnyObject = R"({"type":"object"})";

std::string symbol(const StyleMark& mark) {
  return mark.special ? fmt::format("<[{}]>", *mark.special) : json_string(mark.text);
}

// As a part of a regular expression between slashes.
std::string escaped(std::string_view text) {
  std::string regex;
  for (const char c : text) {
    if (std::string_view("\\.+*?()|[]{}^$/").find(c) != std::string_view::npos) regex += '\\';
    regex += c;
  }
  return regex;
}

// A client's regular expression, whose own slashes may be escaped or not. An end of a line would be the rule's end.
std::string between_slashes(std::string_view regex) {
  std::string text = "/";
  for (std::size_t i = 0; i < regex.size(); ++i) {
    const bool is_escaped = regex[i] == '\\' && i + 1 < regex.size();
    if (is_escaped) ++i;
    if (regex[i] == '\n') {
      text += "\\n";
    } else if (regex[i] == '\r') {
      text += "\\r";
    } else {
      if (is_escaped || regex[i] == '/') text += '\\';
      text += regex[i];
    }
  }
  return text += '/';
}

class ReplyLark {
 public:
  ReplyLark(const ReplyStyle& style, const ReplyDemands& demands) : style_(style), demands_(demands) {}

  ReplyGrammar write() {
    std::string reply;
    if (demands_.use == ToolUse::none) {
      reply = format_rule();
    } else {
      write_calls();
      reply = "calls";
      if (demands_.use == ToolUse::automatic) {
        reply = demands_.format ? fmt::format("({} | calls)", format_rule()) : text_or_calls();
      }
    }
    const std::string head = write_head();
    return {GrammarSyntax::lark, fmt::format("start: {}{}\n{}", head, reply, rules_), std::move(params_)};
  }

 private:
  void rule(std::string_view name, std::string_view body) { rules_ += fmt::format("{}: {}\n", name, body); }
  // Of the next rule: where it comes from. The first line is not a rule's.
  void from(const std::string& param) {
    params_[2 + static_cast<int>(std::count(rules_.begin(), rules_.end(), '\n'))] = param;
  }

  // What stands before the reply proper.
  std::string write_head() {
    if (demands_.reasoning == Reasoning::off || !style_.reasoning) return {};
    const StyleMark& close = style_.reasoning->close;
    if (close.special) {
      rule("thought", fmt::format("{} {}", kAnything, symbol(close)));
    } else {
      rule(fmt::format("thought[suffix={}]", json_string(close.text)), kAnything);
    }
    rule("gap", R"(("\n\n" | "\n")?)");
    if (demands_.reasoning == Reasoning::open) return "thought gap ";
    rule("thinking", fmt::format("{} thought gap", symbol(style_.reasoning->open)));
    return "thinking? ";
  }

  std::string format_rule() {
    const OutputFormat& format = *demands_.format;
    from(format.param);
    switch (format.syntax) {
      case GrammarSyntax::json_schema:
        rule("answer", fmt::format("%json {}", format.text));
        break;
      case GrammarSyntax::regex:
        rule("answer", between_slashes(format.text));
        break;
      case GrammarSyntax::lark:
        rule("answer", fmt::format("%lark {{\n{}\n}}", format.text));
        break;
    }
    return "answer";
  }

  // `calls`, `call` (one behind its opening), and each tool's.
  void write_calls() {
    std::string any;
    for (std::size_t i = 0; i < demands_.tools.size(); ++i) {
      const Tool& tool = demands_.tools[i];
      const bool keeps_to_schema = demands_.use == ToolUse::required || tool.strict;
      from(tool.param);
      rule(fmt::format("arguments_{}", i),
           fmt::format("%json {}", keeps_to_schema ? std::string_view(tool.parameters) : kAnyObject));
      rule(fmt::format("call_{}", i), call_of(tool.name, fmt::format("arguments_{}", i)));
      any += fmt::format("{}call_{}", i == 0 ? "" : " | ", i);
    }
    rule("call", any);
    const std::string open = symbol(style_.openings.front());
    const bool one = demands_.one_call;
    switch (style_.calls) {
      case CallFormat::hermes:
        rule("more", one ? R"("")" : fmt::format(R"(("\n" {} call)*)", open));
        return rule("calls", fmt::format("{} call more", open));
      case CallFormat::mistral_named:
      case CallFormat::function_gemma:
        rule("more", one ? R"("")" : fmt::format("({} call)*", open));
        return rule("calls", fmt::format("{} call more", open));
      case CallFormat::mistral:
        rule("more", one ? R"("]")" : R"((", " call)* "]")");
        return rule("calls", fmt::format(R"({} " [" call more)", open));
      case CallFormat::json: {
        const bool has_tag = style_.openings.front().special.has_value();
        return rule("calls", has_tag ? fmt::format("{}? call", open) : "call");
      }
    }
  }

  std::string call_of(const std::string& name, std::string_view arguments) const {
    const auto as_json = [&](std::string_view key) {
      return fmt::format(R"({{"name": {}, "{}": )", json_string(name), key);
    };
    switch (style_.calls) {
      case CallFormat::hermes:
        return fmt::format(R"({} {} "}}\n" {})", json_string("\n" + as_json("arguments")), arguments,
                           symbol(style_.others.front()));
      case CallFormat::json:
        return fmt::format(R"({} {} "}}")", json_string(as_json("parameters")), arguments);
      case CallFormat::mistral:
        return fmt::format(R"({} {} "}}")", json_string(as_json("arguments")), arguments);
      case CallFormat::mistral_named:
        return fmt::format("{} {} {}", json_string(name), symbol(style_.others.back()), arguments);
      case CallFormat::function_gemma:
        return fmt::format("{} {} {}", json_string("call:" + name), arguments, symbol(style_.others.front()));
    }
    return {};
  }

  // Any text without calls, or calls, maybe behind a text.
  std::string text_or_calls() {
    const StyleMark& opening = style_.openings.front();
    if (style_.calls == CallFormat::json) {
      rule("TEXT", R"(/[^\{\[`\s](.|\n)*/)");
      return "(TEXT? | calls)";
    }
    const std::string list = style_.calls == CallFormat::mistral ? R"(" [" call more)" : "call more";
    if (opening.special) {
      rule("TEXT", R"(/(.|\n)+/)");
      return "TEXT? calls?";
    }
    rule("TEXT", fmt::format("{} & ~/(.|\\n)*{}(.|\\n)*/", kAnything, escaped(opening.text)));
    rule(fmt::format("lead[suffix={}]", json_string(opening.text)), kAnything);
    return fmt::format("(TEXT | lead {})", list);
  }

  const ReplyStyle& style_;
  const ReplyDemands& demands_;
  std::string rules_;
  std::map<int, std::string> params_;
};

}  // namespace

bool calls_are_certain(const ReplyDemands& demands) {
  if (demands.use != ToolUse::automatic) return demands.use == ToolUse::required;
  return demands.format.has_value() ||
         std::any_of(demands.tools.begin(), demands.tools.end(), [](const Tool& tool) { return tool.strict; });
}

std::optional<ReplyGrammar> reply_grammar(const ReplyStyle& style, const ReplyDemands& demands) {
  if (calls_are_certain(demands)) return ReplyLark(style, demands).write();
  if (!demands.format || demands.use != ToolUse::none) return std::nullopt;
  if (demands.reasoning == Reasoning::off || !style.reasoning) {
    return ReplyGrammar{demands.format->syntax, demands.format->text, {{0, demands.format->param}}};
  }
  return ReplyLark(style, demands).write();
}

Error with_origin(const Error& error, const std::map<int, std::string>& params) {
  const ErrorCode code = error.code();
  if (code != ErrorCode::invalid_schema && code != ErrorCode::unsupported_schema &&
      code != ErrorCode::invalid_grammar) {
    return error;
  }
  std::string_view message = error.message();
  int line = 0;
  if (message.starts_with("line ")) std::from_chars(message.data() + 5, message.data() + message.size(), line);
  // An entry reaches to the next one; without a line only a single one can be meant.
  auto param = params.upper_bound(line);
  if (line == 0 && params.size() == 1) param = params.end();
  if (param == params.begin()) return error;
  --param;
  constexpr std::string_view kPlace = "%json ";
  const auto place = message.find(kPlace);
  if (line > 0 && place != std::string_view::npos) message.remove_prefix(place + kPlace.size());
  return Error(code, fmt::format("{}: {}", param->second, message), param->second);
}

}  // namespace cortex
