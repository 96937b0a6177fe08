// How near the kernels of backend/cpu come to what this machine can do. Its peaks are measured first: products of 8-bit
// integers, of bfloat16 and of float32, and memory read in order. Then each product, and attention, is compared with
// the plain loops and, only if it agrees, timed: one line a format or size of a head, and number of rows.
//
//   kernels [THREADS]      on one thread and on THREADS, all cores unless said; CORTEX_CPU_ISA picks the kernels
#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/attention_task.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/mapped_memory.h"
#include "backend/cpu/naive_linear.h"
#include "backend/cpu/random_matrix.h"
#include "backend/cpu/thread_team.h"
#include "base/error.h"
#include "machine_peaks.h"

namespace cortex {
namespace {

constexpr int kRepeats = 7;
constexpr int kPanelsAPart = 4;
constexpr int kFewRows = 16 * kPanelsAPart;
constexpr std::size_t kStreamedBytes = 128 << 20;
constexpr std::size_t kLayerBytes = 1 << 20;
constexpr int kContext = 512;  // positions that attention sees

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// The best of some runs, after one to warm up.
double best_seconds(const std::function<void()>& body) {
  body();
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kRepeats; ++i) {
    const double begin = seconds();
    body();
    best = std::min(best, seconds() - begin);
  }
  return best;
}

struct Peaks {
  double int8_gops = 0.0, bf16_gops = 0.0, f32_gops = 0.0, read_gbs = 0.0;

  double gops(Product product) const {
    return product == Product::int8 ? int8_gops : product == Product::bf16 ? bf16_gops : f32_gops;
  }
};

double measure_gops(ThreadTeam& team, double (*loop)(std::size_t)) {
  constexpr std::size_t kTurns = 2'000'000;
  std::vector<double> operations(static_cast<std::size_t>(team.size()));
  const double best = best_seconds(
      [&] { team.run(team.size(), [&](int part) { operations[static_cast<std::size_t>(part)] = loop(kTurns); }); });
  return operations[0] * team.size() / best / 1e9;
}

double measure_read_gbs(ThreadTeam& team) {
  constexpr std::size_t kBytes = 256 << 20;
  const auto parts = static_cast<std::size_t>(team.size());
  const std::size_t share = kBytes / parts / 128 * 128;
  const MappedMemory memory(kBytes);
  std::memset(memory.data(), 1, kBytes);
  std::vector<std::uint64_t> sums(parts);
  const double best = best_seconds([&] {
    team.run(team.size(), [&](int part) {
      const auto index = static_cast<std::size_t>(part);
      sums[index] = read_in_order(memory.data() + share * index, share);
    });
  });
  CORTEX_CHECK(sums[0] == share / 8 * 0x0101010101010101u);
  return static_cast<double>(share * parts) / best / 1e9;
}

Peaks measure_peaks(ThreadTeam& team, const Kernels& kernels) {
  const PeakLoops loops = peak_loops(kernels.name);
  return {.int8_gops = measure_gops(team, loops.int8),
          .bf16_gops = measure_gops(team, loops.bf16),
          .f32_gops = measure_gops(team, loops.f32),
          .read_gbs = measure_read_gbs(team)};
}

struct Shape {
  const char* name;
  Product product;
  PackedFormat format;
  int columns;
};

constexpr Shape kShapes[] = {
    {"Q4_0", Product::int8, {4, 32, ScaleKind::f16, false, 3}, 1536},
    {"Q4_1", Product::int8, {4, 32, ScaleKind::f16, true, 0}, 1536},
    {"Q4_K", Product::int8, {4, 32, ScaleKind::two_level, true, 0}, 1536},
    {"MLX 4 bits", Product::int8, {4, 64, ScaleKind::bf16, true, 0}, 1536},
    {"Q5_0", Product::int8, {5, 32, ScaleKind::f16, false, 4}, 1536},
    {"Q5_K", Product::int8, {5, 32, ScaleKind::two_level, true, 0}, 1536},
    {"Q6_K", Product::int8, {6, 16, ScaleKind::two_level, false, 5}, 1536},
    {"Q8_0", Product::int8, {8, 32, ScaleKind::f16, false, 7}, 1536},
    {"MLX 8 bits", Product::int8, {8, 64, ScaleKind::bf16, true, 0}, 1536},
    {"bfloat16", Product::bf16, {.bits = 16}, 1536},
    {"float32", Product::f32, {.bits = 32}, 1536},
    {"Q4_1 exactly", Product::f32, {4, 32, ScaleKind::f16, true, 0}, 1536},
};

void multiply(const Kernels& kernels, Product product, const LinearTask& task) {
  if (product == Product::int8) return kernels.linear_int8(task);
  return product == Product::bf16 ? kernels.linear_bf16(task) : kernels.linear_f32(task);
}

// A few random panels over and over: the bytes of a large matrix without drawing them all.
class RepeatedMatrix {
 public:
  RepeatedMatrix(const RandomMatrix& few, std::size_t times) : matrix_(few.packed()), memory_(times * few.bytes()) {
    for (std::size_t i = 0; i < times; ++i) {
      std::memcpy(memory_.data() + i * few.bytes(), few.packed().data, few.bytes());
    }
    matrix_.rows *= static_cast<int>(times);
    matrix_.data = memory_.data();
  }

  const PackedMatrix& packed() const { return matrix_; }
  std::size_t bytes() const { return memory_.size_bytes(); }

 private:
  PackedMatrix matrix_;
  MappedMemory memory_;
};

std::vector<float> product_of(const Kernels& kernels, const Shape& shape, const PackedMatrix& matrix,
                              const RandomRows& in) {
  std::vector<float> out(static_cast<std::size_t>(in.rows()) * static_cast<std::size_t>(matrix.rows));
  multiply(kernels, shape.product,
           {.matrix = &matrix,
            .in = in.input(),
            .rows = in.rows(),
            .panels = matrix.panels(),
            .out = out.data(),
            .out_stride = static_cast<std::size_t>(matrix.rows)});
  return out;
}

// Products of 8-bit integers are the plain loops' bits; in floats the order within a pair of columns may differ.
void validate(const Kernels& kernels, const Shape& shape, const RandomMatrix& matrix, const RandomRows& in) {
  const std::vector<float> expected = product_of(kPortableKernels, shape, matrix.packed(), in);
  const std::vector<float> got = product_of(kernels, shape, matrix.packed(), in);
  const float tolerance = shape.product == Product::int8 ? 0.0f : 1e-4f;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!(std::abs(got[i] - expected[i]) <= tolerance * (1.0f + std::abs(expected[i])))) {
      throw std::runtime_error(fmt::format("{} of {} rows by {}: output {} is {}, the plain loops say {}", shape.name,
                                           in.rows(), kernels.name, i, got[i], expected[i]));
    }
  }
}

// One line: a share of the arithmetic's peak, and of the rate at which weights can be read.
void time_product(ThreadTeam& team, const Kernels& kernels, const Peaks& peaks, const Shape& shape, int rows) {
  std::mt19937 random(1);
  const RandomMatrix few(shape.format, kFewRows, shape.columns, random);
  const RandomRows in(rows, shape.columns, few.padded(), random);
  validate(kernels, shape, few, in);

  // Few rows stream weights from memory; many compute from caches, a layer's worth.
  const std::size_t bytes = rows < 32 ? kStreamedBytes : kLayerBytes;
  const RepeatedMatrix matrix(few, std::max<std::size_t>(1, bytes / few.bytes()));
  const PackedMatrix& packed = matrix.packed();
  std::vector<float> out(static_cast<std::size_t>(rows) * static_cast<std::size_t>(packed.rows));
  const int parts = packed.panels() / kPanelsAPart;
  const double best = best_seconds([&] {
    team.run(parts, [&](int part) {
      multiply(kernels, shape.product,
               {.matrix = &packed,
                .in = in.input(),
                .rows = rows,
                .first_panel = part * kPanelsAPart,
                .panels = kPanelsAPart,
                .out = out.data(),
                .out_stride = static_cast<std::size_t>(packed.rows)});
    });
  });
  const double gops = 2.0 * rows * packed.rows * shape.columns / best / 1e9;
  const double gbs = static_cast<double>(matrix.bytes()) / best / 1e9;
  fmt::print("{:14} {:5} {:9.1f} {:5.0f}% {:9.2f} {:5.0f}%\n", shape.name, rows, gops,
             100.0 * gops / peaks.gops(shape.product), gbs, 100.0 * gbs / peaks.read_gbs);
}

// Random keys and values of a head, in blocks, over and over, and queries that see them all.
class RandomHeads {
 public:
  RandomHeads(int head_dim, int rows, std::size_t bytes, std::mt19937& random)
      : head_dim_(head_dim),
        block_elements_(static_cast<std::size_t>(kBlockTokens * (head_dim + padded_head_dim(head_dim)))),
        heads_(std::max<std::size_t>(1, bytes / head_bytes())),
        memory_(heads_ * head_bytes()),
        queries_(static_cast<std::size_t>(rows * head_dim)) {
    std::normal_distribution<float> normal;
    std::vector<float> key(static_cast<std::size_t>(head_dim)), value(key.size());
    for (int position = 0; position < kContext; ++position) {
      for (float& element : key) element = normal(random);
      for (float& element : value) element = normal(random);
      std::uint16_t* keys = block(0, position / kBlockTokens);
      kPortableKernels.keep(key.data(), value.data(), head_dim, position % kBlockTokens, keys, keys + key_elements());
    }
    for (std::size_t head = 1; head < heads_; ++head) std::memcpy(block(head, 0), block(0, 0), head_bytes());
    for (float& element : queries_) element = normal(random);
  }

  int heads() const { return static_cast<int>(heads_); }
  std::size_t bytes() const { return memory_.size_bytes(); }
  std::size_t results() const { return queries_.size(); }

  // out [rows, head_dim]
  void attend(const Kernels& kernels, int head, float* scratch, float* out) const {
    const std::uint16_t *keys[kContext / kBlockTokens], *values[kContext / kBlockTokens];
    for (int index = 0; index < kContext / kBlockTokens; ++index) {
      keys[index] = block(static_cast<std::size_t>(head), index);
      values[index] = keys[index] + key_elements();
    }
    AttentionRow rows[kAttentionRows];
    int count = 0;
    for (std::size_t at = 0; at < queries_.size(); at += static_cast<std::size_t>(head_dim_)) {
      rows[count++] = {queries_.data() + at, out + at, 0, kContext - 1};
    }
    kernels.attend({.keys = keys,
                    .values = values,
                    .head_dim = head_dim_,
                    .scale = 1.0f / std::sqrt(static_cast<float>(head_dim_)),
                    .rows = rows,
                    .count = count,
                    .scratch = scratch});
  }

 private:
  std::size_t key_elements() const { return kBlockTokens * static_cast<std::size_t>(head_dim_); }
  std::size_t head_bytes() const { return kContext / kBlockTokens * block_elements_ * sizeof(std::uint16_t); }
  std::uint16_t* block(std::size_t head, int index) const {
    return reinterpret_cast<std::uint16_t*>(memory_.data() + head * head_bytes()) +
           static_cast<std::size_t>(index) * block_elements_;
  }

  int head_dim_;
  std::size_t block_elements_;  // keys, then values
  std::size_t heads_;
  MappedMemory memory_;
  std::vector<float> queries_;
};

// Weights are rounded to bfloat16, each a little elsewhere.
void validate(const Kernels& kernels, const RandomHeads& heads, int head_dim, float* scratch) {
  std::vector<float> expected(heads.results()), got(heads.results());
  heads.attend(kPortableKernels, 0, scratch, expected.data());
  heads.attend(kernels, 0, scratch, got.data());
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!(std::abs(got[i] - expected[i]) <= 0x1p-7f)) {
      throw std::runtime_error(fmt::format("attention of heads of {} by {}: output {} is {}, the plain loops say {}",
                                           head_dim, kernels.name, i, got[i], expected[i]));
    }
  }
}

// As time_product(): few rows stream keys and values from memory.
void time_attention(ThreadTeam& team, const Kernels& kernels, const Peaks& peaks, int head_dim, int rows) {
  std::mt19937 random(1);
  const RandomHeads heads(head_dim, rows, rows < 16 ? kStreamedBytes : kLayerBytes, random);
  const std::size_t scratch_bytes = (attention_scratch_floats(head_dim) * sizeof(float) + 63) / 64 * 64;
  const MappedMemory scratch(scratch_bytes * static_cast<std::size_t>(team.size()));
  const auto scratch_of = [&](int thread) {
    return reinterpret_cast<float*>(scratch.data() + scratch_bytes * static_cast<std::size_t>(thread));
  };
  validate(kernels, heads, head_dim, scratch_of(0));

  std::vector<float> out(heads.results() * static_cast<std::size_t>(team.size()));
  const double best = best_seconds([&] {
    std::atomic<int> next = 0;
    team.run(team.size(), [&](int thread) {
      float* to = out.data() + heads.results() * static_cast<std::size_t>(thread);
      for (int head = next++; head < heads.heads(); head = next++) heads.attend(kernels, head, scratch_of(thread), to);
    });
  });
  const double gops = 4.0 * rows * heads.heads() * kContext * head_dim / best / 1e9;
  const double gbs = static_cast<double>(heads.bytes()) / best / 1e9;
  fmt::print("{:14} {:5} {:9.1f} {:5.0f}% {:9.2f} {:5.0f}%\n", fmt::format("attention {}", head_dim), rows, gops,
             100.0 * gops / peaks.bf16_gops, gbs, 100.0 * gbs / peaks.read_gbs);
}

void run(int threads, const Kernels& kernels) {
  ThreadTeam team(threads);
  const Peaks peaks = measure_peaks(team, kernels);
  fmt::print("\n{} on {} threads; peaks: int8 {:.0f}, bfloat16 {:.0f}, float32 {:.0f} GOPS, read {:.1f} GB/s\n",
             kernels.name, team.size(), peaks.int8_gops, peaks.bf16_gops, peaks.f32_gops, peaks.read_gbs);
  fmt::print("{:14} {:>5} {:>9} {:>6} {:>9} {:>6}\n", "weights", "rows", "GOPS", "peak", "GB/s", "peak");
  for (const Shape& shape : kShapes) {
    for (const int rows : {1, 4, 16, 128, 512}) time_product(team, kernels, peaks, shape, rows);
  }
  for (const int head_dim : {32, 64, 128}) {
    for (const int rows : {1, 4, 16, kAttentionRows}) time_attention(team, kernels, peaks, head_dim, rows);
  }
}

}  // namespace
}  // namespace cortex

int main(int argc, char** argv) {
  try {
    const int threads = argc > 1 ? std::atoi(argv[1]) : 0;
    const cortex::Kernels& kernels = cortex::kernels();
    cortex::run(1, kernels);
    if (threads != 1) cortex::run(threads, kernels);
  } catch (const std::exception& error) {
    fmt::print(stderr, "kernels: {}\n", error.what());
    return 1;
  }
}
