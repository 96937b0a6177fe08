#include "worker/quarantine.h"

namespace cortex {
namespace {

// FNV-1a. A collision costs a stranger one turn alone.
class Hash {
 public:
  void add(const void* data, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) {
      value_ = (value_ ^ static_cast<const unsigned char*>(data)[i]) * 1099511628211u;
    }
  }
  void add(const std::string& text) { add(text.data(), text.size() + 1); }
  void add(std::span<const TokenId> tokens) {
    const std::uint64_t count = tokens.size();
    add(&count, sizeof(count));
    add(tokens.data(), tokens.size_bytes());
  }
  Fingerprint value() const { return value_; }

 private:
  Fingerprint value_ = 14695981039346656037u;
};

}  // namespace

Fingerprint fingerprint_of(const GenerateRequest& request) {
  Hash hash;
  hash.add(request.model);
  hash.add(request.prompt);
  if (request.grammar) hash.add(request.grammar->text);
  return hash.value();
}

Fingerprint fingerprint_of(const EncodeRequest& request) {
  Hash hash;
  hash.add(request.model);
  for (const auto& text : request.texts) hash.add(text);
  return hash.value();
}

Quarantine::Verdict Quarantine::verdict(Fingerprint fingerprint, TimePoint now) {
  forget(now);
  if (refused_.contains(fingerprint)) return Verdict::refuse;
  return suspects_.contains(fingerprint) ? Verdict::run_alone : Verdict::run;
}

void Quarantine::died(std::span<const Fingerprint> in_flight, TimePoint now) {
  forget(now);
  if (in_flight.size() == 1 && suspects_.contains(in_flight.front())) refused_[in_flight.front()] = now + kTerm;
  for (const Fingerprint fingerprint : in_flight) suspects_[fingerprint] = now + kTerm;
}

void Quarantine::forget(TimePoint now) {
  const auto over = [&](const auto& entry) { return now >= entry.second; };
  std::erase_if(suspects_, over);
  std::erase_if(refused_, over);
}

}  // namespace cortex
