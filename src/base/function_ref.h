// Something to call while it lives, for a function that takes a body and returns after its last call: unlike
// std::function it copies nothing and takes no memory. The caller's; any thread that may call the body.
#pragma once

#include <concepts>

namespace cortex {

template <typename... Arguments>
class FunctionRef {
 public:
  template <typename Body>
    requires(!std::same_as<Body, FunctionRef>) && std::invocable<const Body&, Arguments...>
  // NOLINTNEXTLINE(google-explicit-constructor): a body is passed as it is
  FunctionRef(const Body& body)
      : body_(&body),
        call_([](const void* of, Arguments... arguments) { (*static_cast<const Body*>(of))(arguments...); }) {}

  void operator()(Arguments... arguments) const { call_(body_, arguments...); }

 private:
  const void* body_;
  void (*call_)(const void* body, Arguments... arguments);
};

}  // namespace cortex
