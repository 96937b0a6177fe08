// How a model is made to fit into a budget of memory, decided before a byte is allocated: as it is where that fits,
// else step by step with less. Pure but for estimate_memory(), which reads a model's headers.
//
// What is given up, in this order, and each only as far as it must:
//   1. compiled grammars that are kept, down to kLeastGrammarCacheBytes
//   2. KV blocks, down to those of one sequence of kLeastTokens tokens or of the context, if that is shorter
//   3. rows of a step, halved down to kLeastRows
//   4. the precision of keys and values
//   5. the precision of weights: 8 bits, then 4, each with all of 2 to 4 anew
//   6. layers in memory: the others are read from disk in every step
//   7. all grammars, each of the above anew
//   8. KV blocks, down to those of kFewestTokens tokens
// More budget never gives a plan that stands later in this order, nor less of what the last step it took gives up.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "backend/backend.h"
#include "base/error.h"
#include "model/model.h"

namespace cortex {

inline constexpr int kDefaultKvSequences = 8;
inline constexpr std::uint64_t kDefaultKvBytes = std::uint64_t{1} << 30;
inline constexpr int kLeastTokens = 2048;
inline constexpr int kFewestTokens = 256;
inline constexpr int kLeastRows = 64;
// What the first grammar makes of a vocabulary: 56 to 60 bytes a token, its text included.
inline constexpr std::uint64_t kTrieBytesPerToken = 64;
inline constexpr std::uint64_t kMostGrammarCacheBytes = std::uint64_t{64} << 20;  // of all models together
inline constexpr std::uint64_t kLeastGrammarCacheBytes = std::uint64_t{2} << 20;  // some twenty ordinary ones

// How many KV blocks a decoder gets: what fits into `kv_bytes`; without it, enough for kDefaultKvSequences sequences of
// the model's whole context or kDefaultKvBytes, whichever is less. Throws Error invalid_option when that is not even
// one block.
int kv_block_count(const KvGeometry& geometry, int context_tokens, std::optional<std::uint64_t> kv_bytes);

struct MemoryPlan {
  WeightPrecision weights = WeightPrecision::as_given;
  bool kv_8_bits = false;
  int kv_blocks = 0;        // none of an encoder
  int rows_per_step = 0;    // at most; an encoder's are its own affair, 0
  int layers = 0;           // of a decoder
  int resident_layers = 0;  // of these; the others are read from disk in every step
  std::uint64_t weight_bytes = 0, kv_bytes = 0, step_bytes = 0;
  std::uint64_t trie_bytes = 0;           // the vocabulary as grammars need it
  std::uint64_t grammar_cache_bytes = 0;  // of compiled grammars, at most
  bool no_grammars = false;               // there is no room for them

  std::uint64_t grammar_bytes() const { return trie_bytes + grammar_cache_bytes; }
  std::uint64_t total_bytes() const { return weight_bytes + kv_bytes + step_bytes + grammar_bytes(); }
  // With no more compiled grammars than must be kept: the least budget that gives all else of it.
  std::uint64_t least_bytes() const;
  bool operator==(const MemoryPlan&) const = default;
};

// "weights as given, KV of 2048 blocks", "4-bit weights with 12 of 30 layers in memory, 8-bit KV of 128 blocks, 64 rows
// a step, no grammars"
std::string to_text(const MemoryPlan& plan);

// What a model's grammars take at the least.
struct GrammarNeeds {
  std::uint64_t trie_bytes = 0;   // the vocabulary as they need it
  std::uint64_t cache_bytes = 0;  // those that are kept, compiled

  std::uint64_t total_bytes() const { return trie_bytes + cache_bytes; }
};

// Of so many tokens of which grammars choose; 0: the model takes none.
GrammarNeeds grammar_needs(int grammar_vocabulary);

// The tokens of which grammars choose in a model that is served as `kind`: none where it can't chat.
int grammar_vocabulary_of(const Model& model, ModelKind kind);

// What a decoder should have.
struct DecoderWants {
  int kv_blocks = 0;
  int rows_per_step = 0;
  int context_tokens = 0;
  bool may_stream = false;     // there is a folder for packed weights
  int grammar_vocabulary = 0;  // as grammar_vocabulary_of() has it
};

// Of a holding; nothing where the backend can't do it.
using DecoderNeedsOf = std::function<std::optional<DecoderNeeds>(const DecoderHolding&)>;
using EncoderNeedsOf = std::function<std::optional<EncoderNeeds>(WeightPrecision)>;

// What a backend says; nothing for what it lacks.
std::optional<DecoderNeeds> needs_on(const Backend& backend, const DecoderModel& model, const DecoderHolding& holding);
std::optional<EncoderNeeds> needs_on(const Backend& backend, const EncoderModel& model, WeightPrecision weights);

struct PlanOutcome {
  std::optional<MemoryPlan> plan;  // absent: it does not fit
  MemoryPlan least;                // the smallest that it could be
  MemoryPlan modest;               // the smallest with all bits of weights and KV, in memory, and with grammars
};

// Without a budget everything is as wanted.
PlanOutcome plan_decoder(const DecoderNeedsOf& needs_of, const DecoderWants& wants,
                         std::optional<std::uint64_t> budget_bytes);
PlanOutcome plan_encoder(const EncoderNeedsOf& needs_of, std::optional<std::uint64_t> budget_bytes);

// The plan, or Error `code` with the numbers and the setting that would make it fit.
const MemoryPlan& planned(const PlanOutcome& outcome, std::optional<std::uint64_t> budget_bytes, ErrorCode code);

struct EstimateOptions {
  std::string backend = "cpu";  // or "mlx"; "auto" is the cpu
  int threads = 0;
  bool exact = false;
  std::optional<ModelKind> kind;          // as it is served; what its files make it
  std::optional<int> context_tokens;      // of each sequence; the model's
  int sequences = 1;                      // at a time
  std::optional<std::uint64_t> kv_bytes;  // of the pool, in place of these two
  int rows_per_step = 512;
  bool may_stream = true;
  std::optional<std::uint64_t> budget_bytes;
};

// Whether and how a model would fit, without loading it. Any thread. Throws what open_model() throws, and Error
// invalid_value for a context that the model has not.
PlanOutcome estimate_memory(const std::filesystem::path& model, const EstimateOptions& options);
PlanOutcome estimate_memory(const Model& model, const EstimateOptions& options);

}  // namespace cortex
