// How near the kernels of backend/cpu come to what this machine can do. Its peaks are measured first: products of 8-bit
// integers, of bfloat16 and of float32, and memory read in order. Then each product is compared with the plain loops
// and, only if it agrees, timed: one line a format and number of rows.
//
//   kernels [THREADS]      on one thread and on THREADS, all cores unless said; CORTEX_CPU_ISA picks the kernels
#include <fmt/core.h>

#include <algorithm>
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

void run(int threads, const Kernels& kernels) {
  ThreadTeam team(threads);
  const Peaks peaks = measure_peaks(team, kernels);
  fmt::print("\n{} on {} threads; peaks: int8 {:.0f}, bfloat16 {:.0f}, float32 {:.0f} GOPS, read {:.1f} GB/s\n",
             kernels.name, team.size(), peaks.int8_gops, peaks.bf16_gops, peaks.f32_gops, peaks.read_gbs);
  fmt::print("{:14} {:>5} {:>9} {:>6} {:>9} {:>6}\n", "weights", "rows", "GOPS", "peak", "GB/s", "peak");
  for (const Shape& shape : kShapes) {
    for (const int rows : {1, 4, 16, 128, 512}) time_product(team, kernels, peaks, shape, rows);
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
