#include "backend/cpu/projection.h"

#include <algorithm>

#include "backend/cpu/kernels.h"
#include "backend/cpu/row_parts.h"
#include "base/error.h"

namespace cortex {
namespace {

// What a thread takes at a time, as the kernels take few rows.
constexpr int kUnitPanels = 4;
// Few enough that taking them costs nothing beside a part, enough that the threads end nearly together.
constexpr int kPartsPerThread = 4;
constexpr int kFewRows = 4;
constexpr int kPartsPerThreadOfFewRows = 2;

Product product_of(const PackedFormat& format, Arithmetic arithmetic) {
  if (arithmetic == Arithmetic::exact || format.bits == 32) return Product::f32;
  return format.coded() ? Product::int8 : Product::bf16;
}

FloatPacking floats_of(const WeightLoader& loader, Arithmetic arithmetic) {
  return arithmetic == Arithmetic::exact ? FloatPacking::f32 : loader.floats();
}

int whole_panels(std::int64_t rows) { return static_cast<int>((rows + kPanelRows - 1) / kPanelRows); }

}  // namespace

Projection::Projection(WeightLoader& loader, Arithmetic arithmetic, std::initializer_list<LinearView> parts) {
  const FloatPacking floats = floats_of(loader, arithmetic);
  std::vector<const Weight*> alike;  // parts of one format, which one matrix holds
  for (const LinearView* part = parts.begin(); part != parts.end(); ++part) {
    alike.push_back(part->weight);
    offsets_.push_back(offsets_.back() + kPanelRows * whole_panels(part->weight->rows()));
    const PackedFormat format = packed_format(*part->weight, floats);
    if (part + 1 != parts.end() && packed_format(*part[1].weight, floats) == format) continue;
    append(loader.matrix(alike, floats), product_of(format, arithmetic));
    alike.clear();
  }
  read_biases(loader, parts);
}

Projection Projection::activated(WeightLoader& loader, Arithmetic arithmetic, LinearView part, Activation activation) {
  Projection projection(loader, arithmetic, {part});
  projection.end_ = LinearEnd::activate;
  projection.activation_ = activation;
  return projection;
}

Projection Projection::gated(WeightLoader& loader, Arithmetic arithmetic, LinearView gate, LinearView up,
                             Activation activation) {
  const FloatPacking floats = floats_of(loader, arithmetic);
  if (packed_format(*gate.weight, floats) != packed_format(*up.weight, floats)) {
    return {loader, arithmetic, {gate, up}};
  }
  Projection projection;
  projection.end_ = LinearEnd::gate;
  projection.activation_ = activation;
  PackedMatrix packed = loader.interleaved(*gate.weight, *up.weight, floats);
  projection.append(packed, product_of(packed.format, arithmetic));
  projection.offsets_.push_back(kPanelRows * whole_panels(gate.weight->rows()));
  CORTEX_CHECK((gate.bias == nullptr) == (up.bias == nullptr));
  if (gate.bias == nullptr) return projection;
  const Vector gate_bias = loader.vector(*gate.bias), up_bias = loader.vector(*up.bias);
  float* to = loader.allocate(2 * projection.outputs());
  projection.bias_ = {to, 2 * projection.outputs()};
  for (std::ptrdiff_t at = 0; at < projection.outputs(); at += kPanelRows) {
    loader.copy({gate_bias.values + at, kPanelRows}, to + 2 * at);
    loader.copy({up_bias.values + at, kPanelRows}, to + 2 * at + kPanelRows);
  }
  return projection;
}

void Projection::append(PackedMatrix packed, Product product) {
  columns_ = packed.columns;
  padded_columns_ = std::max(padded_columns_, cortex::padded_columns(packed.format, packed.columns));
  products_.add(product);
  matrices_.push_back({packed, product, panels_});
  panels_ += packed.panels();
}

void Projection::read_biases(WeightLoader& loader, std::initializer_list<LinearView> parts) {
  if (parts.begin()->bias == nullptr) {
    for (const LinearView& part : parts) CORTEX_CHECK(part.bias == nullptr);
    return;
  }
  float* biases = loader.allocate(outputs());
  bias_ = {biases, outputs()};
  int index = 0;
  for (const LinearView& part : parts) {
    CORTEX_CHECK(part.bias != nullptr);
    loader.copy(loader.vector(*part.bias), biases + offset(index++));
  }
}

LinearTask Projection::task_of(const LinearInput& in, int rows, LinearEnd end, float* out,
                               std::size_t out_stride) const {
  CORTEX_CHECK(end == LinearEnd::store || (end == LinearEnd::add && !activates()));
  return {.in = in,
          .rows = rows,
          .end = activates() ? end_ : end,
          .activation = activation_,
          .out = out,
          .out_stride = out_stride};
}

void Projection::run(ThreadTeam& team, const LinearInput& in, int rows, LinearEnd end, float* out,
                     std::size_t out_stride) const {
  if (rows == 0) return;
  const LinearTask task = task_of(in, rows, end, out, out_stride);
  if (team.size() == 1) return run_panels(task, 0, panels_);
  if (const RowParts parts(rows, team.size()); parts.count() > 0) {
    return team.run(parts.count(), [&](int part) {
      run_rows(in, parts.first(part), parts.first(part + 1) - parts.first(part), end, out, out_stride);
    });
  }
  const int units = (panels_ + kUnitPanels - 1) / kUnitPanels;
  const int wanted = team.size() * (rows <= kFewRows ? kPartsPerThreadOfFewRows : kPartsPerThread);
  const int parts = std::min(units, wanted);
  const auto bound = [&](int part) { return std::min(panels_, units * part / parts * kUnitPanels); };
  team.run(parts, [&](int part) { run_panels(task, bound(part), bound(part + 1)); });
}

void Projection::run_rows(const LinearInput& in, int first_row, int rows, LinearEnd end, float* out,
                          std::size_t out_stride) const {
  LinearTask task = task_of(in, rows, end, out, out_stride);
  task.first_row = first_row;
  run_panels(task, 0, panels_);
}

void Projection::run_outputs(const LinearInput& in, int rows, int first, int end, float* out,
                             std::size_t out_stride) const {
  CORTEX_CHECK(end_ != LinearEnd::gate && first % kPanelRows == 0);
  run_panels(task_of(in, rows, LinearEnd::store, out - first, out_stride), first / kPanelRows, end / kPanelRows);
}

void Projection::run_panels(const LinearTask& all, int begin, int end) const {
  for (const Matrix& matrix : matrices_) {
    const int first = std::max(begin, matrix.first_panel);
    const int last = std::min(end, matrix.first_panel + matrix.packed.panels());
    if (first >= last) continue;
    LinearTask task = all;
    task.matrix = &matrix.packed;
    task.first_panel = first - matrix.first_panel;
    task.panels = last - first;
    task.out += std::ptrdiff_t{kPanelRows} * matrix.first_panel;
    if (!bias_.empty()) task.bias = bias_.values + std::ptrdiff_t{kPanelRows} * matrix.first_panel;
    switch (matrix.product) {
      case Product::int8:
        kernels().linear_int8(task);
        break;
      case Product::bf16:
        kernels().linear_bf16(task);
        break;
      case Product::f32:
        kernels().linear_f32(task);
        break;
    }
  }
}

}  // namespace cortex
