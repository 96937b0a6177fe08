// The input is what a client sends: a byte that says in which pieces it arrives, then requests.
#include "http/gate.h"

#include <algorithm>
#include <string>

#include "http/body_reader.h"
#include "input.h"

namespace cortex {
namespace {

constexpr std::uint64_t kBodyLimitBytes = 4096;

// As a connection does it: the head in pieces, then the body, then the next request. Returns what is left.
std::string_view read_request(std::string_view bytes, std::size_t piece_bytes) {
  std::optional<std::size_t> head_bytes;
  for (std::size_t arrived = 0, scanned = 0; !head_bytes && arrived < bytes.size(); scanned = arrived) {
    arrived = std::min(arrived + piece_bytes, bytes.size());
    head_bytes = head_size(bytes.substr(0, arrived), scanned);
  }
  if (!head_bytes) return {};
  CORTEX_CHECK(*head_bytes <= kHeadLimitBytes);
  CORTEX_CHECK(head_size(bytes, 0) == head_bytes);
  const RequestHead head = parse_head(bytes.substr(0, *head_bytes));
  CORTEX_CHECK(!(head.chunked && head.content_length));
  check_host_and_origin(head, true, {});
  check_content(head, kBodyLimitBytes);

  BodyReader reader(kBodyLimitBytes);
  std::size_t used = 0;
  for (std::size_t arrived = *head_bytes; !reader.done();) {
    used += reader.put(bytes.substr(used, arrived - used));
    if (reader.done() || arrived == bytes.size()) break;
    arrived = std::min(arrived + piece_bytes, bytes.size());
  }
  CORTEX_CHECK(reader.body_bytes() <= kBodyLimitBytes);
  if (!reader.done()) return {};
  // Both opinions agree on where a request ends.
  if (!head.chunked) CORTEX_CHECK(used == *head_bytes + head.content_length.value_or(0));
  return bytes.substr(used);
}

}  // namespace
}  // namespace cortex

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cortex;
  if (size == 0) return 0;
  const std::size_t piece_bytes = data[0] == 0 ? size : data[0];
  std::string_view bytes = text_of(data + 1, size - 1);
  try {
    while (!bytes.empty()) bytes = read_request(bytes, piece_bytes);
  } catch (const Error& error) {
    check_reply(error);
  }
  return 0;
}
