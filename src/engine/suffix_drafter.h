// Guesses that a sequence goes on as text did that was there before: in its own prompt and output, in the prediction
// that came with the request, in recent outputs of other sequences of its salt. The longest match of the last tokens
// counts (Oliaro et al. 2024, "SuffixDecoding"). Where a text was followed and the sequence strayed from it, as an
// edited copy does, the place is looked for nearby first. Owned by a scheduler, the engine thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>

#include "engine/drafter.h"
#include "engine/output_store.h"
#include "engine/suffix_index.h"

namespace cortex {

inline constexpr std::size_t kOutputStoreBytes = std::size_t{16} << 20;

class SuffixDrafter : public Drafter {
 public:
  explicit SuffixDrafter(std::size_t store_bytes = kOutputStoreBytes) : outputs_(store_bytes) {}

  Draft propose(const DraftContext& context, int most) override;
  void finish(const DraftContext& context) override;
  void forget(std::uint64_t sequence) noexcept override { sequences_.erase(sequence); }

 private:
  // The place in a text that a sequence follows.
  struct Trail {
    DraftSource source = DraftSource::context;  // or prediction
    std::size_t next = 0;                       // in the text: what is to come
    std::size_t at = 0;                         // in the sequence: where it is to come
    int strayed = 0;                            // tokens that came since another than text[next] did
    bool found_again = false;                   // and has not been followed for long since
  };
  struct Followed {
    SuffixIndex tokens, prediction;
    std::optional<Trail> trail;
  };
  struct Candidate {
    DraftSource source = DraftSource::context;
    std::span<const TokenId> next;
    int matched = 0;
    std::optional<Trail> trail;
  };

  static std::span<const TokenId> text_of(DraftSource source, const DraftContext& context) {
    return source == DraftSource::prediction ? context.prediction : context.tokens;
  }
  static void follow(Trail* trail, const DraftContext& context);
  static std::optional<Candidate> on_trail(const Trail& trail, const DraftContext& context);
  static std::optional<Candidate> near_trail(const Trail& trail, const DraftContext& context);
  std::optional<Candidate> search(const Followed& followed, const DraftContext& context) const;

  std::unordered_map<std::uint64_t, Followed> sequences_;
  OutputStore outputs_;
};

}  // namespace cortex
