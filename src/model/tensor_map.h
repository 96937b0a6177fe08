// A model's tensors by name while an architecture takes what it needs. What it names must be there in the shape it
// expects; what nobody took or ignored is refused, so a model is never run without a part it was trained with. One
// owner, one thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "model/quantisation.h"
#include "model/weight.h"

namespace cortex {

class TensorMap {
 public:
  using Shape = std::vector<std::int64_t>;

  // `source` names the file or folder in messages. Throws Error invalid_weights when a name stands twice.
  TensorMap(std::string source, std::vector<TensorView> tensors, Quantisation quantisation = {});

  std::uint64_t bytes() const { return bytes_; }  // of all tensors
  bool contains(const std::string& name) const { return tensors_.contains(name); }

  // The first dimension of a tensor that must exist. Takes nothing.
  std::int64_t rows(const std::string& name) const;

  // `shape` is that of the values. Where "X.scales" stands beside "X.weight" and the configuration has a format for X,
  // both and "X.biases" are taken as affine groups. Throws Error invalid_weights when a tensor is missing, of another
  // shape, or not of a type that weights have: a vector is float, a matrix is float or quantised.
  Weight take(const std::string& name, const Shape& shape);

  // Matrices that one tensor holds one after another: `shape` is [count, rows, columns]. Throws as take.
  std::vector<Weight> take_stacked(const std::string& name, const Shape& shape);

  void ignore(const std::string& name);
  void ignore_prefix(std::string_view prefix);
  void ignore_suffix(std::string_view suffix);
  // Throws Error invalid_weights naming the first tensor that was neither taken nor ignored.
  void refuse_rest() const;

 private:
  [[noreturn]] void fail(const std::string& name, const std::string& what) const;
  const TensorView& get(const std::string& name) const;
  const TensorView& take_as(const std::string& name, const Shape& shape, const std::string& why);
  std::optional<Weight> take_groups(const std::string& name, const Shape& shape);

  std::string source_;
  std::map<std::string, TensorView> tensors_;
  Quantisation quantisation_;
  std::set<std::string> used_;
  std::uint64_t bytes_ = 0;
};

}  // namespace cortex
