// A linear layer, or several that read the same rows: packed matrices whose outputs lie side by side, spread over the
// team by panels so that each thread streams its own part of the weights once for all rows; of a long prompt by rows.
// Made on the loading thread, run by the engine thread.
#pragma once

#include <initializer_list>
#include <vector>

#include "backend/cpu/input_rows.h"
#include "backend/cpu/thread_team.h"
#include "backend/cpu/weight_loader.h"
#include "backend/linear_view.h"

namespace cortex {

// How projections multiply: fast rounds activations (and other floats than bfloat16) first, exact does not.
enum class Arithmetic : std::uint8_t { fast, exact };

class Projection {
 public:
  Projection() = default;

  // The parts' outputs one after another, each from a multiple of 16 on. All have a bias or none.
  Projection(WeightLoader& loader, Arithmetic arithmetic, std::initializer_list<LinearView> parts);
  // activation(part).
  static Projection activated(WeightLoader& loader, Arithmetic arithmetic, LinearView part, Activation activation);
  // activation(gate) * up as one output, where both have one format: see activates().
  static Projection gated(WeightLoader& loader, Arithmetic arithmetic, LinearView gate, LinearView up,
                          Activation activation);

  // Whether the outputs are activated (and gated) already; then run() only stores.
  bool activates() const { return end_ != LinearEnd::store; }
  int columns() const { return columns_; }
  int padded_columns() const { return padded_columns_; }
  // Where a part's outputs begin; outputs() is where the last ends, a multiple of 16.
  int offset(int part) const { return offsets_[static_cast<std::size_t>(part)]; }
  int outputs() const { return offsets_.back(); }
  ProductSet products() const { return products_; }

  // out [rows, out_stride] from row 0 on, out_stride >= outputs(); `in` has rows of at least padded_columns().
  void run(ThreadTeam& team, const LinearInput& in, int rows, LinearEnd end, float* out, std::size_t out_stride) const;

  // The same of rows [first_row, first_row + rows), by the thread that calls.
  void run_rows(const LinearInput& in, int first_row, int rows, LinearEnd end, float* out,
                std::size_t out_stride) const;

  // Outputs [first, end) of all rows, by the thread that calls; `first` is a multiple of 16, and `end` too or
  // outputs(). out [rows, out_stride], from output `first` on. Not of a projection that is gated.
  void run_outputs(const LinearInput& in, int rows, int first, int end, float* out, std::size_t out_stride) const;

  // Row `row` of the first part as float32, into out [columns()].
  void unpack_row(int row, float* out) const { cortex::unpack_row(matrices_.front().packed, row, out); }

 private:
  struct Matrix {
    PackedMatrix packed;
    Product product = Product::f32;
    int first_panel = 0;  // among all
  };

  void append(PackedMatrix packed, Product product);
  void read_biases(WeightLoader& loader, std::initializer_list<LinearView> parts);
  LinearTask task_of(const LinearInput& in, int rows, LinearEnd end, float* out, std::size_t out_stride) const;
  void run_panels(const LinearTask& all, int begin, int end) const;

  std::vector<Matrix> matrices_;
  std::vector<int> offsets_ = {0};  // [parts + 1]
  Vector bias_;                     // [outputs], in the order of the panels, or empty
  ProductSet products_;
  int columns_ = 0, padded_columns_ = 0;
  int panels_ = 0;
  LinearEnd end_ = LinearEnd::store;  // what it ends with unless told to add
  Activation activation_ = Activation::silu;
};

}  // namespace cortex
