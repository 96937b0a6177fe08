// What models made of texts: a text's ids to the vector that the engine gave for them, before it is normalised or cut,
// so that one entry serves every way of asking. The ids hold the prompt and what a cut left; of a cross-encoder they
// are a pair's and the vector its scores. Least recently used entries make room. What is being computed is known too:
// who asks for it meanwhile gets it when it is there. Owned by the front; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/engine.h"

namespace cortex {

using EmbedVector = std::shared_ptr<const std::vector<float>>;

// SHA-256 of everything that a text's vector depends on, and of the salt: what has another is never shared.
struct EmbedKey {
  std::array<std::uint8_t, 32> bytes{};
  bool operator==(const EmbedKey&) const = default;
};
struct EmbedKeyHash {
  std::size_t operator()(const EmbedKey& key) const;
};
EmbedKey embed_key(const EncodeRequest& request, std::size_t text);

class EmbedCache {
 public:
  // A look-up with more tokens than this to compute is not waited for by one with fewer than it has: a few texts don't
  // wait for a multitude. As many as a batch of the engine has by default.
  static constexpr std::size_t kMostTokensAhead = 4096;

  struct Text {
    EmbedKey key;
    std::size_t tokens = 0;
  };

  // Called once for each text that another computes, possibly before look_up() returns, with its index in the look-up;
  // null: it will not come, whoever wants it looks it up again. Must not block nor call back into the cache.
  using Arrived = std::function<void(std::size_t text, const EmbedVector& vector)>;

  // Texts that somebody computes for all who want them. Those that it has not given when it goes will not come.
  class Claim {
   public:
    Claim(EmbedCache& cache, std::uint64_t id) : cache_(cache), id_(id) {}
    ~Claim();
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;

    // A vector that is not finite is given to nobody.
    void give(std::size_t text, const EmbedVector& vector);

   private:
    friend class EmbedCache;
    EmbedCache& cache_;
    const std::uint64_t id_;
    std::vector<EmbedKey> keys_;
  };

  struct Found {
    std::vector<EmbedVector> vectors;  // [texts]; null: not here
    std::vector<std::size_t> claimed;  // the texts that the asker is to compute, as claim has them; the others arrive
    std::unique_ptr<Claim> claim;
  };

  struct Counts {
    std::uint64_t hits = 0;    // texts that were not computed for who asked
    std::uint64_t misses = 0;  // texts that were
  };

  // With a limit of 0 it is off, and not to be looked into.
  explicit EmbedCache(std::size_t limit_bytes) : limit_bytes_(limit_bytes) {}

  bool on() const { return limit_bytes_ > 0; }
  // The keys are all different.
  Found look_up(std::span<const Text> texts, const Arrived& arrived);

  void count(const std::string& model, const Counts& more);
  std::map<std::string, Counts> counts() const;  // by model
  std::size_t bytes() const;                     // at most the limit; with what the cache itself needs

 private:
  struct Entry {
    EmbedKey key;
    EmbedVector vector;
  };
  struct Waiter {
    std::shared_ptr<const Arrived> arrived;
    std::size_t text = 0;
  };
  // A text that is being computed.
  struct Flight {
    std::uint64_t claim = 0;
    std::size_t tokens = 0;  // that its claim's look-up had to compute, itself or another
    std::vector<Waiter> waiters;
  };
  using Entries = std::list<Entry>;
  using Index = std::unordered_map<EmbedKey, Entries::iterator, EmbedKeyHash>;
  using Flights = std::unordered_map<EmbedKey, Flight, EmbedKeyHash>;

  static std::size_t bytes_of(const Entry& entry);
  // Both with the lock held.
  EmbedVector find(const EmbedKey& key);
  void keep(const EmbedKey& key, const EmbedVector& vector);
  void give(const EmbedKey& key, const EmbedVector& vector);
  void give_up(const EmbedKey& key, std::uint64_t claim);

  const std::size_t limit_bytes_;
  mutable std::mutex mutex_;  // guards what follows
  Entries entries_;           // the least recently used last
  Index index_;
  std::size_t bytes_ = 0;
  std::uint64_t claims_ = 0;
  Flights flights_;
  std::map<std::string, Counts> counts_;
};

}  // namespace cortex
