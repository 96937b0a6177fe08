// The input is the body of a request.
#include "http/json_body.h"

#include <string>

#include "input.h"

namespace cortex {
namespace {

// Touches everything, and the path of every leaf.
void walk(const JsonValue& value) {
  switch (value.kind()) {
    case JsonKind::object:
      for (const auto& [name, member] : value.members()) walk(member);
      break;
    case JsonKind::array:
      for (const JsonValue& item : value.items()) walk(item);
      break;
    case JsonKind::string:
      CORTEX_CHECK(value.string().size() <= value.raw_json().size());
      break;
    default:
      CORTEX_CHECK(!value.raw_json().empty());
      check_reply(value.error(ErrorCode::invalid_value, "is a leaf"));
  }
}

}  // namespace
}  // namespace cortex

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cortex;
  constexpr std::size_t kMostWalkedBytes = 4096;  // a leaf's path is looked for from the root
  try {
    const JsonBody body = JsonBody::parse(std::string(text_of(data, size)));
    if (size <= kMostWalkedBytes) walk(body.root());
  } catch (const Error& error) {
    check_reply(error);
  }
  return 0;
}
