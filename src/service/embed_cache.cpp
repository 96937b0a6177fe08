#include "service/embed_cache.h"

#include <openssl/sha.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace cortex {
namespace {

// Each with its length before it: no two lists of parts are the same bytes.
void append(std::string* whole, std::string_view part) {
  const std::uint64_t size = part.size();
  whole->append(reinterpret_cast<const char*>(&size), sizeof size).append(part);
}

template <typename Number>
std::string_view view_of(const std::vector<Number>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(Number)};
}

bool is_finite(const std::vector<float>& vector) {
  return std::all_of(vector.begin(), vector.end(), [](float value) { return std::isfinite(value); });
}

}  // namespace

std::size_t EmbedKeyHash::operator()(const EmbedKey& key) const {
  std::size_t hash = 0;
  std::memcpy(&hash, key.bytes.data(), sizeof hash);
  return hash;
}

EmbedKey embed_key(const EncodeRequest& request, std::size_t text) {
  std::string whole;
  append(&whole, request.model);
  append(&whole, request.salt);
  append(&whole, view_of(request.scores));
  append(&whole, request.types.empty() ? std::string_view() : view_of(request.types[text]));
  append(&whole, view_of(request.texts[text]));
  EmbedKey key;
  SHA256(reinterpret_cast<const unsigned char*>(whole.data()), whole.size(), key.bytes.data());
  return key;
}

EmbedCache::Claim::~Claim() {
  for (const EmbedKey& key : keys_) cache_.give_up(key, id_);
}

void EmbedCache::Claim::give(std::size_t text, const EmbedVector& vector) {
  if (is_finite(*vector)) cache_.give(keys_.at(text), vector);
}

EmbedCache::Found EmbedCache::look_up(std::span<const Text> texts, const Arrived& arrived) {
  Found found;
  const auto waiter = std::make_shared<const Arrived>(arrived);
  std::lock_guard lock(mutex_);
  std::size_t tokens = 0;
  for (const Text& text : texts) {
    found.vectors.push_back(find(text.key));
    if (!found.vectors.back()) tokens += text.tokens;
  }
  found.claim = std::make_unique<Claim>(*this, ++claims_);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (found.vectors[i]) continue;
    Flight& flight = flights_[texts[i].key];
    if (flight.claim != 0 && flight.tokens <= std::max(tokens, kMostTokensAhead)) {
      flight.waiters.push_back({waiter, i});
      continue;
    }
    // Nobody's, or taken over from a multitude, whose turn may come much later.
    flight.claim = found.claim->id_;
    flight.tokens = tokens;
    found.claimed.push_back(i);
    found.claim->keys_.push_back(texts[i].key);
  }
  return found;
}

void EmbedCache::count(const std::string& model, const Counts& more) {
  std::lock_guard lock(mutex_);
  Counts& counts = counts_[model];
  counts.hits += more.hits;
  counts.misses += more.misses;
}

std::map<std::string, EmbedCache::Counts> EmbedCache::counts() const {
  std::lock_guard lock(mutex_);
  return counts_;
}

std::size_t EmbedCache::bytes() const {
  std::lock_guard lock(mutex_);
  return bytes_;
}

// Of five allocations: the nodes of the list and of the index with their links, the share of the buckets, the vector
// with its reference counts, and its numbers.
std::size_t EmbedCache::bytes_of(const Entry& entry) {
  constexpr std::size_t kLinks = 6 * sizeof(void*);
  constexpr std::size_t kReferenceCounts = 2 * sizeof(void*);
  constexpr std::size_t kAllocations = 10 * sizeof(void*);
  constexpr std::size_t kAround =
      sizeof(Entry) + sizeof(Index::value_type) + sizeof(std::vector<float>) + kLinks + kReferenceCounts + kAllocations;
  return kAround + entry.vector->size() * sizeof(float);
}

EmbedVector EmbedCache::find(const EmbedKey& key) {
  const auto found = index_.find(key);
  if (found == index_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->vector;
}

void EmbedCache::keep(const EmbedKey& key, const EmbedVector& vector) {
  if (find(key)) return;
  const Entry entry{key, vector};
  const std::size_t bytes = bytes_of(entry);
  if (bytes > limit_bytes_) return;
  while (bytes_ + bytes > limit_bytes_) {
    bytes_ -= bytes_of(entries_.back());
    index_.erase(entries_.back().key);
    entries_.pop_back();
  }
  entries_.push_front(entry);
  index_.emplace(key, entries_.begin());
  bytes_ += bytes;
}

// Whoever has claimed it.
void EmbedCache::give(const EmbedKey& key, const EmbedVector& vector) {
  Flights::node_type flight;
  {
    std::lock_guard lock(mutex_);
    keep(key, vector);
    flight = flights_.extract(key);
  }
  if (!flight) return;
  for (const Waiter& waiter : flight.mapped().waiters) (*waiter.arrived)(waiter.text, vector);
}

void EmbedCache::give_up(const EmbedKey& key, std::uint64_t claim) {
  Flights::node_type flight;
  {
    std::lock_guard lock(mutex_);
    const auto found = flights_.find(key);
    if (found == flights_.end() || found->second.claim != claim) return;
    flight = flights_.extract(found);
  }
  for (const Waiter& waiter : flight.mapped().waiters) (*waiter.arrived)(waiter.text, nullptr);
}

}  // namespace cortex
