// A model's tensors by name while an architecture takes what it needs. What it names must be there in the shape it
// expects; what nobody took or ignored is refused, so a model is never run without a part it was trained with. One
// owner, one thread.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "model/spec.h"

namespace cortex {

class TensorMap {
 public:
  using Shape = std::vector<std::int64_t>;

  // `source` names the file or folder in messages. Throws Error invalid_weights when a name stands twice.
  TensorMap(std::string source, std::vector<TensorView> tensors);

  std::uint64_t bytes() const { return bytes_; }  // of all tensors
  bool contains(const std::string& name) const { return tensors_.contains(name); }

  // The first dimension of a tensor that must exist. Takes nothing.
  std::int64_t rows(const std::string& name) const;

  // Throws Error invalid_weights when it is missing, of another shape, or not of a type that weights have: a vector
  // is float, a matrix is float or quantised.
  Weight take(const std::string& name, const Shape& shape);

  void ignore(const std::string& name);
  void ignore_prefix(std::string_view prefix);
  void ignore_suffix(std::string_view suffix);
  // Throws Error invalid_weights naming the first tensor that was neither taken nor ignored.
  void refuse_rest() const;

 private:
  [[noreturn]] void fail(const std::string& name, const std::string& what) const;
  const TensorView& get(const std::string& name) const;

  std::string source_;
  std::map<std::string, TensorView> tensors_;
  std::set<std::string> used_;
  std::uint64_t bytes_ = 0;
};

}  // namespace cortex
