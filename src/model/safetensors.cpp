#include "model/safetensors.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <string>
#include <system_error>
#include <tuple>

#include "base/error.h"
#include "model/json_file.h"

namespace cortex {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr int kHeaderDepth = 4;
constexpr std::size_t kMaxRank = 8;
constexpr std::int64_t kMaxDimension = std::numeric_limits<std::int32_t>::max();

constexpr std::array kStoredTypes = {DType::f32, DType::f16, DType::bf16,   DType::f64, DType::i8,
                                     DType::i16, DType::i32, DType::i64,    DType::u8,  DType::u16,
                                     DType::u32, DType::u64, DType::boolean};

class HeaderReader {
 public:
  HeaderReader(std::shared_ptr<const RandomAccessFile> file, std::string source)
      : file_(std::move(file)), source_(std::move(source)) {
    if (source_.empty()) source_ = file_->path().filename().string();
  }

  std::vector<TensorView> read() {
    const Fields header = parse_json_object(read_header(), source_, ErrorCode::invalid_weights, kHeaderDepth);
    std::vector<TensorView> tensors;
    for (const auto& [name, value] : header.entries()) {
      if (name == "__metadata__") {
        check_metadata(value);
      } else {
        tensors.push_back(tensor(name, value));
      }
    }
    check_spans(&tensors);
    return tensors;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::invalid_weights, source_ + ": " + what);
  }
  [[noreturn]] void fail(const std::string& name, const std::string& what) const {
    fail(fmt::format("tensor {}: {}", quote(name), what));
  }

  std::string read_header() {
    if (file_->size_bytes() < kLengthBytes) {
      fail(fmt::format("{} bytes, less than the {} of the header's length", file_->size_bytes(), kLengthBytes));
    }
    std::uint64_t length = 0;
    read_bytes(0, std::as_writable_bytes(std::span(&length, 1)));
    const std::uint64_t limit = std::min(kMaxHeaderBytes, file_->size_bytes() - kLengthBytes);
    if (length > limit) fail(fmt::format("a header of {} bytes exceeds the limit of {}", length, limit));
    std::string header(length, '\0');
    read_bytes(kLengthBytes, std::as_writable_bytes(std::span(header)));
    data_start_ = kLengthBytes + length;
    return header;
  }

  void read_bytes(std::uint64_t offset, std::span<std::byte> out) const {
    try {
      file_->read(offset, out);
    } catch (const std::system_error& error) {
      throw Error(ErrorCode::weights_io_error, error.what());
    }
  }

  void check_metadata(const Value& value) const {
    if (value.is_null()) return;  // what MLX writes where there is none
    const auto* metadata = value.as<Value::Object>();
    if (!metadata) fail(fmt::format("__metadata__: {} is not an object", describe(value)));
    for (const auto& [name, content] : (*metadata)->entries()) {
      if (!content.as<std::string>()) (*metadata)->fail(name, describe(content) + " is not a string");
    }
  }

  TensorView tensor(const std::string& name, const Value& value) const {
    const auto* object = value.as<Value::Object>();
    if (!object) fail(name, describe(value) + " is not an object");
    const Fields& fields = **object;
    for (const auto& [field, unused] : fields.entries()) {
      if (field != "dtype" && field != "shape" && field != "data_offsets") fields.fail(field, "is not a known field");
    }
    TensorView view;
    view.name = name;
    view.file = file_;
    view.dtype = dtype(name, fields.text("dtype"));
    view.shape = shape(name, fields.array("shape"));
    view.bytes = bytes(view);
    place(fields.array("data_offsets"), &view);
    return view;
  }

  DType dtype(const std::string& name, const std::string& written) const {
    std::string known;
    for (const DType type : kStoredTypes) {
      if (layout_of(type).name == written) return type;
      known.append(known.empty() ? "" : ", ").append(layout_of(type).name);
    }
    fail(name, fmt::format("dtype {} is not one of {}", quote(written), known));
  }

  std::vector<std::int64_t> shape(const std::string& name, const Value::Array& dimensions) const {
    if (dimensions.size() > kMaxRank) {
      fail(name, fmt::format("{} dimensions exceed the limit of {}", dimensions.size(), kMaxRank));
    }
    std::vector<std::int64_t> shape;
    for (const Value& value : dimensions) {
      const auto* dimension = value.as<std::int64_t>();
      if (!dimension) fail(name, fmt::format("dimension {} is not an integer up to 2^31-1", describe(value)));
      if (*dimension < 0) fail(name, fmt::format("dimension {} is below 0", *dimension));
      if (*dimension > kMaxDimension) fail(name, fmt::format("dimension {} exceeds 2^31-1", *dimension));
      shape.push_back(*dimension);
    }
    return shape;
  }

  std::uint64_t bytes(const TensorView& view) const {
    auto product = static_cast<std::uint64_t>(layout_of(view.dtype).block_bytes);
    for (const std::int64_t dimension : view.shape) {
      if (__builtin_mul_overflow(product, static_cast<std::uint64_t>(dimension), &product)) {
        fail(view.name, fmt::format("shape {} has more than 2^64-1 bytes", to_string(view.shape)));
      }
    }
    return product;
  }

  void place(const Value::Array& offsets, TensorView* view) const {
    const std::uint64_t data_bytes = file_->size_bytes() - data_start_;
    if (offsets.size() != 2) fail(view->name, fmt::format("{} data_offsets, not 2", offsets.size()));
    const auto offset = [&](const Value& value) {
      const auto* integer = value.as<std::int64_t>();
      if (!integer || *integer < 0 || static_cast<std::uint64_t>(*integer) > data_bytes) {
        fail(view->name, fmt::format("data offset {} is not an integer from 0 to {}, the bytes of data in the file",
                                     describe(value), data_bytes));
      }
      return static_cast<std::uint64_t>(*integer);
    };
    const std::uint64_t begin = offset(offsets[0]);
    const std::uint64_t end = offset(offsets[1]);
    if (end < begin || end - begin != view->bytes) {
      fail(view->name, fmt::format("data_offsets [{}, {}] are not the {} bytes of {} {}", begin, end, view->bytes,
                                   layout_of(view->dtype).name, to_string(view->shape)));
    }
    view->offset = data_start_ + begin;
  }

  // Without gaps or overlaps from the data's start on; what follows the last tensor belongs to none and is never read.
  void check_spans(std::vector<TensorView>* tensors) const {
    std::sort(tensors->begin(), tensors->end(), [](const TensorView& a, const TensorView& b) {
      return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
    });
    std::uint64_t expected = data_start_;
    for (const TensorView& view : *tensors) {
      if (view.offset != expected) {
        fail(view.name, fmt::format("its bytes begin at {}, {} at {}", view.offset - data_start_,
                                    view.offset < expected ? "inside a tensor that ends" : "after a hole that begins",
                                    expected - data_start_));
      }
      expected += view.bytes;
    }
  }

  std::shared_ptr<const RandomAccessFile> file_;
  std::string source_;
  std::uint64_t data_start_ = 0;
};

}  // namespace

std::vector<TensorView> read_safetensors(std::shared_ptr<const RandomAccessFile> file, std::string source) {
  return HeaderReader(std::move(file), std::move(source)).read();
}

}  // namespace cortex
