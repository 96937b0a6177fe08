#include "cli/fetch/digest.h"

#include <fmt/core.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>

#include "base/error.h"

namespace cortex {
namespace {

bool is_hexadecimal(std::string_view text, std::size_t digits) {
  const auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  return text.size() == digits && std::all_of(text.begin(), text.end(), is_digit);
}

}  // namespace

struct Digest::Context {
  EVP_MD_CTX* state = EVP_MD_CTX_new();
};

void Digest::Delete::operator()(Context* context) const {
  EVP_MD_CTX_free(context->state);
  delete context;
}

Digest::Digest(const char* algorithm) : context_(new Context) {
  CORTEX_CHECK(EVP_DigestInit_ex(context_->state, EVP_get_digestbyname(algorithm), nullptr) == 1);
}

Digest Digest::sha256() { return Digest("SHA256"); }

Digest Digest::git_blob(std::uint64_t size_bytes) {
  Digest digest("SHA1");
  // Git's object header, its closing NUL included.
  const std::string header = fmt::format("blob {}", size_bytes);
  digest.add(std::as_bytes(std::span(header.c_str(), header.size() + 1)));
  return digest;
}

void Digest::add(std::span<const std::byte> bytes) {
  CORTEX_CHECK(EVP_DigestUpdate(context_->state, bytes.data(), bytes.size()) == 1);
}

std::string Digest::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> value{};
  unsigned size = 0;
  CORTEX_CHECK(EVP_DigestFinal_ex(context_->state, value.data(), &size) == 1);
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", value[i]);
  return text;
}

bool is_sha256(std::string_view text) { return is_hexadecimal(text, 64); }
bool is_git_sha1(std::string_view text) { return is_hexadecimal(text, 40); }

}  // namespace cortex
