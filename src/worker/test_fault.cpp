#include "worker/test_fault.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstdlib>

#include "base/error.h"

namespace cortex {
namespace {

constexpr std::string_view kAbort = "abort_on_token:", kSegv = "segv_in:", kThrow = "throw_in:";
constexpr std::string_view kIgnore = "ignore_budgets";
constexpr std::array<std::string_view, 6> kPhases = {"loading", "grammar", "prompt", "decode", "encode", "write"};

[[noreturn]] void refuse(const std::string& text) {
  throw Error(ErrorCode::invalid_option, fmt::format("{}: \"{}\" is no fault", kTestFaultVariable, text));
}

std::optional<TestFault> fault_of_environment() {
  const char* text = std::getenv(kTestFaultVariable);
  if (text == nullptr || *text == '\0') return std::nullopt;
  return parse_test_fault(text);
}

[[noreturn]] void die(int signal) {
  std::signal(signal, SIG_DFL);
  std::raise(signal);
  std::abort();
}

}  // namespace

bool TestFault::strikes(std::string_view reached, std::span<const TokenId> tokens) const {
  return token ? std::ranges::find(tokens, *token) != tokens.end() : reached == phase;
}

TestFault parse_test_fault(const std::string& text) {
  TestFault fault;
  fault.ignores_budgets = text == kIgnore;
  if (fault.ignores_budgets) return fault;
  std::string what = text;
  if (const auto at = text.find('@'); at != std::string::npos) {
    what = text.substr(0, at);
    fault.file = text.substr(at + 1);
    if (fault.file.empty()) refuse(text);
  }
  if (what.starts_with(kAbort)) {
    const char* const end = what.data() + what.size();
    const auto [stop, error] = std::from_chars(what.data() + kAbort.size(), end, fault.token.emplace());
    if (error != std::errc() || stop != end) refuse(text);
  } else if (what.starts_with(kSegv) || what.starts_with(kThrow)) {
    fault.throws = what.starts_with(kThrow);
    fault.phase = what.substr(what.find(':') + 1);
    if (std::ranges::find(kPhases, fault.phase) == kPhases.end()) refuse(text);
  } else {
    refuse(text);
  }
  return fault;
}

Failpoint test_failpoint() {
  auto found = fault_of_environment();
  if (!found || found->ignores_budgets) return {};
  return [fault = *std::move(found)](std::string_view phase, std::span<const TokenId> tokens) {
    if (!fault.strikes(phase, tokens)) return;
    if (!fault.file.empty() && ::unlink(fault.file.c_str()) != 0) return;
    if (fault.throws) throw Error(ErrorCode::internal_error, "a fault that a test wanted");
    die(fault.token ? SIGABRT : SIGSEGV);
  };
}

bool test_ignores_budgets() {
  const auto fault = fault_of_environment();
  return fault && fault->ignores_budgets;
}

}  // namespace cortex
