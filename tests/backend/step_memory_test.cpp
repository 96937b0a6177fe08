// That a layer allocates nothing: a step of a model with many layers takes memory as often as one with few.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <memory>
#include <new>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "backend/random_weights.h"
#include "backend/sequence_runner.h"
#include "fakes/temporary_folder.h"

namespace {

std::atomic<int> allocations{0};

void* counted(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* const memory = std::malloc(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

// All that the backend's containers call.
void* operator new(std::size_t bytes) { return counted(bytes); }
void* operator new[](std::size_t bytes) { return counted(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace cortex {
namespace {

constexpr int kReserved = 40;

DecoderSpec spec_of(int layers) {
  DecoderSpec spec;
  spec.vocabulary = 90;
  spec.hidden = 64;
  spec.heads = 4;
  spec.kv_heads = 2;
  spec.head_dim = spec.rope.dims = 32;
  spec.intermediate = 128;
  spec.context_tokens = kReserved * kBlockTokens;
  spec.layers.resize(static_cast<std::size_t>(layers));
  return spec;
}

// In memory as it is, narrowed, and from disk.
std::vector<DecoderHolding> holdings(const std::filesystem::path& folder) {
  DecoderHolding streamed{.kv_8_bits = true, .resident_layers = 1, .stream_folder = folder, .fingerprint = "random"};
  return {{}, {.weights = WeightPrecision::bits_4, .kv_8_bits = true}, streamed};
}

// How often a step allocates at the least, of several alike: in the first ones buffers of each thread still grow. Each
// is of `rows` tokens that see `before` others.
int allocations_of_step(const DecoderHolding& holding, int layers, int rows, int before) {
  std::mt19937 random(7);
  const DecoderSpec spec = spec_of(layers);
  const auto decoder = open_backend("cpu", {.threads = 2})->load(spec, random_weights(spec, random), holding, {});
  decoder->reserve_kv(kReserved);
  TestSequence sequence = sequence_on(0, 1, kReserved, kReserved);
  const std::vector<TokenId> tokens(static_cast<std::size_t>(std::max(rows, before)), 5);
  if (before > 0) logits_of(*decoder, sequence, std::span(tokens).first(static_cast<std::size_t>(before)));
  int least = std::numeric_limits<int>::max();
  for (int step = 0; step < 12; ++step) {
    StepPlan plan;
    add_slice(plan, sequence, std::span(tokens).first(static_cast<std::size_t>(rows)), WantedRow{});
    sequence.length -= rows;
    plan.wanted.erase(plan.wanted.begin(), plan.wanted.end() - 1);
    plan.wanted.front().token = true;
    StepResult result;
    const int at_first = allocations.load();
    decoder->submit(plan);
    decoder->collect(&result);
    least = std::min(least, allocations.load() - at_first);
  }
  return least;
}

TEST(StepMemoryTest, LayersAllocateNothing) {
  const TemporaryFolder folder;
  for (const DecoderHolding& holding : holdings(folder.path())) {
    for (const auto& [rows, before] : {std::pair{1, 0}, {1, 300}, {7, 40}, {300, 0}, {200, 200}}) {
      const int few = allocations_of_step(holding, 2, rows, before);
      EXPECT_EQ(allocations_of_step(holding, 7, rows, before), few) << rows << " rows after " << before;
      EXPECT_GT(few, 0);  // the result's own, which are counted then
    }
  }
}

}  // namespace
}  // namespace cortex
