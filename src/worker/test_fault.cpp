#include "worker/test_fault.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <thread>
#include <utility>

#include "base/error.h"

namespace cortex {
namespace {

constexpr std::string_view kAbort = "abort_on_token:", kSegv = "segv_in:", kThrow = "throw_in:", kSlow = "slow_in:";
constexpr std::string_view kIgnore = "ignore_budgets";
constexpr std::array<std::string_view, 8> kPhases = {"loading", "grammar", "prompt", "decode",
                                                     "encode",  "draft",   "verify", "write"};

[[noreturn]] void refuse(const std::string& text) {
  throw Error(ErrorCode::invalid_option, fmt::format("{}: \"{}\" is no fault", kTestFaultVariable, text));
}

[[noreturn]] void die(int signal) {
  std::signal(signal, SIG_DFL);
  std::raise(signal);
  std::abort();
}

std::vector<TestFault> faults_of_environment() {
  const char* text = std::getenv(kTestFaultVariable);
  if (text == nullptr || *text == '\0') return {};
  return parse_test_faults(text);
}

template <typename Number>
std::optional<Number> number_in(std::string_view text) {
  Number number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && stop == text.data() + text.size() ? std::optional(number) : std::nullopt;
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
    fault.token = number_in<TokenId>(std::string_view(what).substr(kAbort.size()));
    if (!fault.token) refuse(text);
    return fault;
  }
  if (what.starts_with(kSlow)) {
    const auto colon = what.rfind(':');
    fault.pause = std::chrono::milliseconds(number_in<int>(std::string_view(what).substr(colon + 1)).value_or(0));
    if (fault.pause.count() <= 0) refuse(text);
    what.resize(colon);
  }
  fault.throws = what.starts_with(kThrow);
  if (!fault.throws && !what.starts_with(kSegv) && !what.starts_with(kSlow)) refuse(text);
  fault.phase = what.substr(what.find(':') + 1);
  if (std::ranges::find(kPhases, fault.phase) == kPhases.end()) refuse(text);
  return fault;
}

void commit(const TestFault& fault) {
  const bool slow = fault.pause.count() > 0;
  if (!fault.file.empty() && (slow ? ::access(fault.file.c_str(), F_OK) : ::unlink(fault.file.c_str())) != 0) return;
  if (slow) return std::this_thread::sleep_for(fault.pause);
  if (fault.throws) throw Error(ErrorCode::internal_error, "a fault that a test wanted");
  die(fault.token ? SIGABRT : SIGSEGV);
}

}  // namespace

bool TestFault::strikes(std::string_view reached, std::span<const TokenId> tokens) const {
  return token ? std::ranges::find(tokens, *token) != tokens.end() : reached == phase;
}

std::vector<TestFault> parse_test_faults(const std::string& text) {
  std::vector<TestFault> faults;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    faults.push_back(parse_test_fault(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return faults;
}

Failpoint test_failpoint() {
  auto faults = faults_of_environment();
  std::erase_if(faults, [](const TestFault& fault) { return fault.ignores_budgets; });
  if (faults.empty()) return {};
  return [faults = std::move(faults)](std::string_view phase, std::span<const TokenId> tokens) {
    for (const TestFault& fault : faults) {
      if (fault.strikes(phase, tokens)) commit(fault);
    }
  };
}

bool test_ignores_budgets() { return std::ranges::any_of(faults_of_environment(), &TestFault::ignores_budgets); }

}  // namespace cortex
