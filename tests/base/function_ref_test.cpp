#include "base/function_ref.h"

#include <gtest/gtest.h>

#include <array>
#include <stdexcept>
#include <vector>

namespace cortex {
namespace {

void call_twice(FunctionRef<int, int> body) {
  body(1, 2);
  const FunctionRef<int, int> copy = body;
  copy(3, 4);
}

TEST(FunctionRef, CallsWhatItWasMadeOf) {
  std::vector<int> sums;
  call_twice([&](int a, int b) { sums.push_back(a + b); });
  EXPECT_EQ(sums, (std::vector<int>{3, 7}));
}

TEST(FunctionRef, CopiesNothing) {
  struct Body {
    std::array<int*, 8> calls{};
    explicit Body(int* count) { calls.fill(count); }
    Body(const Body&) = delete;
    Body& operator=(const Body&) = delete;
    void operator()(int, int) const { ++*calls.back(); }
  };
  int calls = 0;
  call_twice(Body(&calls));
  EXPECT_EQ(calls, 2);
}

TEST(FunctionRef, WhatABodyThrowsPasses) {
  EXPECT_THROW(call_twice([](int, int) { throw std::runtime_error("body"); }), std::runtime_error);
}

}  // namespace
}  // namespace cortex
