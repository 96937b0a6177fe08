// A fault that tests have a worker commit, told by the environment; without the variable there is none and nothing is
// asked. CORTEX_TEST_FAULT is one of
//
//   abort_on_token:ID   abort() before a step, or a batch, that has this token
//   segv_in:PHASE       SIGSEGV in the next phase of that name (engine/failpoint.h)
//   throw_in:PHASE      an exception there
//   slow_in:PHASE:MS    so many milliseconds pass before each
//   ignore_budgets      what the governor tells is not heard
//
// or several of them, with commas between. Those with a colon may end with @FILE: then it is committed only while FILE
// is there, and takes the file away first, so that the next worker, or step, is well; but slow_in leaves it.
#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/failpoint.h"

namespace cortex {

inline constexpr const char* kTestFaultVariable = "CORTEX_TEST_FAULT";

struct TestFault {
  std::optional<TokenId> token;  // or
  std::string phase;
  bool throws = false;                 // else
  std::chrono::milliseconds pause{0};  // else, where it is 0, it dies
  bool ignores_budgets = false;
  std::string file;  // empty: always

  bool strikes(std::string_view reached, std::span<const TokenId> tokens) const;
};

// Throws Error invalid_option for what is none of the above.
std::vector<TestFault> parse_test_faults(const std::string& text);

// Commits what the environment says; empty when that says nothing. Throws as parse_test_faults.
Failpoint test_failpoint();

// Whether the environment says so. Throws as parse_test_faults.
bool test_ignores_budgets();

}  // namespace cortex
