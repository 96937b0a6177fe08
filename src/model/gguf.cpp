#include "model/gguf.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <string>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <unordered_set>

#include "base/error.h"

namespace cortex {
namespace {

constexpr std::uint64_t kMaxKeys = 1 << 16;
constexpr std::uint64_t kMaxTensors = 1 << 20;
constexpr std::uint64_t kMaxNameBytes = 1 << 16;
constexpr std::uint64_t kMaxStringBytes = 16 << 20;
constexpr std::uint64_t kMaxArrayElements = 1 << 23;  // of all arrays together
constexpr std::uint64_t kMaxAlignment = 1 << 20;
constexpr std::uint32_t kMaxRank = 4;
constexpr std::uint64_t kMaxDimension = std::numeric_limits<std::int32_t>::max();
constexpr std::uint64_t kMaxHeaderBytes = 256 << 20;  // all before the tensors' bytes
constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

// The least bytes an entry takes: a key is a length, a name, a type and a value; a tensor info has no shorter form.
constexpr std::uint64_t kLeastKeyBytes = 8 + 4 + 1;
constexpr std::uint64_t kLeastTensorBytes = 8 + 4 + 4 + 8;

enum ValueType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

struct StoredType {
  std::uint32_t id;
  std::string_view name;
};
constexpr std::array<StoredType, 33> kStoredTypes = {
    {{0, "F32"},      {1, "F16"},     {2, "Q4_0"},     {3, "Q4_1"},   {6, "Q5_0"},    {7, "Q5_1"},   {8, "Q8_0"},
     {9, "Q8_1"},     {10, "Q2_K"},   {11, "Q3_K"},    {12, "Q4_K"},  {13, "Q5_K"},   {14, "Q6_K"},  {15, "Q8_K"},
     {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"}, {22, "IQ2_S"},
     {23, "IQ4_XS"},  {24, "I8"},     {25, "I16"},     {26, "I32"},   {27, "I64"},    {28, "F64"},   {29, "IQ1_M"},
     {30, "BF16"},    {34, "TQ1_0"},  {35, "TQ2_0"},   {39, "MXFP4"}, {40, "NVFP4"}}};
constexpr std::array kSupportedTypes = {DType::f32,  DType::f16,  DType::bf16, DType::q4_0, DType::q4_1, DType::q5_0,
                                        DType::q5_1, DType::q8_0, DType::q4_k, DType::q5_k, DType::q6_k};

// Reads forward through a file, never past its end.
class ByteReader {
 public:
  explicit ByteReader(std::shared_ptr<const RandomAccessFile> file)
      : file_(std::move(file)), source_(file_->path().filename().string()) {}

  const std::string& source() const { return source_; }
  std::uint64_t position() const { return position_; }
  std::uint64_t left() const { return std::min(file_->size_bytes(), kMaxHeaderBytes) - position_; }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::invalid_weights, source_ + ": " + what);
  }

  void read(std::span<std::byte> out) {
    if (out.size() > left()) {
      fail(
          fmt::format("{} bytes at {} exceed the {} bytes that are left of its header", out.size(), position_, left()));
    }
    while (!out.empty()) {
      if (position_ - buffer_start_ >= buffer_.size()) fill();
      const auto from = static_cast<std::size_t>(position_ - buffer_start_);
      const std::size_t count = std::min(out.size(), buffer_.size() - from);
      std::memcpy(out.data(), buffer_.data() + from, count);
      position_ += count;
      out = out.subspan(count);
    }
  }

  template <typename Number>
  Number number() {
    Number value{};
    read(std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }

  // `what` says whose string it is.
  std::string text(std::string_view what, std::uint64_t limit) {
    const auto length = number<std::uint64_t>();
    limit = std::min(limit, left());
    if (length > limit) fail(fmt::format("{}: a string of {} bytes exceeds the limit of {}", what, length, limit));
    std::string text(length, '\0');
    read(std::as_writable_bytes(std::span(text)));
    return text;
  }

  // A count of things that take `least_bytes` each.
  std::uint64_t count(std::string_view what, std::uint64_t limit, std::uint64_t least_bytes) {
    const auto value = number<std::uint64_t>();
    limit = std::min(limit, left() / least_bytes);
    if (value > limit) fail(fmt::format("{}: {} exceeds the limit of {}", what, value, limit));
    return value;
  }

 private:
  void fill() {
    buffer_.resize(static_cast<std::size_t>(std::min<std::uint64_t>(kBufferBytes, left())));
    buffer_start_ = position_;
    try {
      file_->read(position_, buffer_);
    } catch (const std::system_error& error) {
      throw Error(ErrorCode::weights_io_error, error.what());
    }
  }

  std::shared_ptr<const RandomAccessFile> file_;
  std::string source_;
  std::uint64_t position_ = 0;
  std::uint64_t buffer_start_ = 0;
  std::vector<std::byte> buffer_;
};

class MetadataReader {
 public:
  explicit MetadataReader(ByteReader* in) : in_(*in) {}

  Fields read(std::uint64_t count) {
    std::vector<Fields::Entry> entries;
    entries.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) {
      std::string key = in_.text(fmt::format("key {}", i), kMaxNameBytes);
      const auto type = in_.number<std::uint32_t>();
      Value content = type == ValueType::array ? array(key) : value(key, type);
      entries.emplace_back(std::move(key), std::move(content));
    }
    check_names(entries);
    return Fields(in_.source(), "", ErrorCode::invalid_config, std::move(entries));
  }

 private:
  [[noreturn]] void fail(const std::string& key, const std::string& what) const {
    in_.fail(fmt::format("key {}: {}", quote(key), what));
  }

  Value value(const std::string& key, std::uint32_t type) {
    switch (type) {
      case ValueType::u8:
        return integer<std::uint8_t>();
      case ValueType::i8:
        return integer<std::int8_t>();
      case ValueType::u16:
        return integer<std::uint16_t>();
      case ValueType::i16:
        return integer<std::int16_t>();
      case ValueType::u32:
        return integer<std::uint32_t>();
      case ValueType::i32:
        return integer<std::int32_t>();
      case ValueType::i64:
        return integer<std::int64_t>();
      case ValueType::u64:
        return unsigned64();
      case ValueType::f32:
        return {static_cast<double>(in_.number<float>())};
      case ValueType::f64:
        return {in_.number<double>()};
      case ValueType::boolean:
        return truth(key);
      case ValueType::string:
        return {in_.text("key " + quote(key), kMaxStringBytes)};
      default:
        fail(key, fmt::format("value type {} is not one of 0 to 12", type));
    }
  }

  template <typename Integer>
  Value integer() {
    return {static_cast<std::int64_t>(in_.number<Integer>())};
  }

  Value unsigned64() {
    const auto number = in_.number<std::uint64_t>();
    if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      return {static_cast<double>(number)};
    }
    return {static_cast<std::int64_t>(number)};
  }

  Value truth(const std::string& key) {
    const auto byte = in_.number<std::uint8_t>();
    if (byte > 1) fail(key, fmt::format("boolean {} is not 0 or 1", byte));
    return {byte == 1};
  }

  Value array(const std::string& key) {
    const auto type = in_.number<std::uint32_t>();
    if (type == ValueType::array) fail(key, "an array of arrays; arrays may not nest");
    const std::uint64_t count =
        in_.count("key " + quote(key) + ": elements of the array", kMaxArrayElements - elements_, least_bytes(type));
    elements_ += count;
    Value::Array values;
    values.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) values.push_back(value(key, type));
    return {std::move(values)};
  }

  static std::uint64_t least_bytes(std::uint32_t type) {
    switch (type) {
      case ValueType::u16:
      case ValueType::i16:
        return 2;
      case ValueType::u32:
      case ValueType::i32:
      case ValueType::f32:
        return 4;
      case ValueType::string:
      case ValueType::u64:
      case ValueType::i64:
      case ValueType::f64:
        return 8;
      default:
        return 1;
    }
  }

  void check_names(const std::vector<Fields::Entry>& entries) const {
    std::unordered_set<std::string_view> names;
    for (const auto& [key, unused] : entries) {
      if (!names.insert(key).second) fail(key, "stands twice; a key may stand once");
    }
  }

  ByteReader& in_;
  std::uint64_t elements_ = 0;
};

class TensorInfoReader {
 public:
  TensorInfoReader(ByteReader* in, std::shared_ptr<const RandomAccessFile> file) : in_(*in), file_(std::move(file)) {}

  // Offsets are those the file says: from the start of the data.
  std::vector<TensorView> read(std::uint64_t count) {
    std::vector<TensorView> tensors;
    tensors.reserve(count);
    std::unordered_set<std::string> names;
    for (std::uint64_t i = 0; i < count; ++i) {
      tensors.push_back(tensor(i));
      if (!names.insert(tensors.back().name).second) fail(tensors.back().name, "stands twice; a name may stand once");
    }
    return tensors;
  }

  // Checks offsets and makes them the file's own.
  void place(std::uint64_t alignment, std::vector<TensorView>* tensors) const {
    const std::uint64_t data_start = (in_.position() + alignment - 1) / alignment * alignment;
    const std::uint64_t data_bytes = file_->size_bytes() > data_start ? file_->size_bytes() - data_start : 0;
    for (TensorView& view : *tensors) {
      if (view.offset % alignment != 0) {
        fail(view.name, fmt::format("offset {} is not a multiple of the alignment, {}", view.offset, alignment));
      }
      if (view.offset > data_bytes || view.bytes > data_bytes - view.offset) {
        fail(view.name, fmt::format("{} bytes at offset {} exceed the {} bytes of data in the file", view.bytes,
                                    view.offset, data_bytes));
      }
      view.offset += data_start;
    }
    check_overlaps(tensors);
  }

 private:
  [[noreturn]] void fail(const std::string& name, const std::string& what) const {
    in_.fail(fmt::format("tensor {}: {}", quote(name), what));
  }

  TensorView tensor(std::uint64_t index) {
    TensorView view;
    view.name = in_.text(fmt::format("name of tensor {}", index), kMaxNameBytes);
    view.file = file_;
    view.shape = shape(view.name);
    view.dtype = dtype(view.name, in_.number<std::uint32_t>());
    view.bytes = bytes(view);
    view.offset = in_.number<std::uint64_t>();
    return view;
  }

  std::vector<std::int64_t> shape(const std::string& name) {
    const auto rank = in_.number<std::uint32_t>();
    if (rank > kMaxRank) fail(name, fmt::format("{} dimensions exceed the limit of {}", rank, kMaxRank));
    std::vector<std::int64_t> shape;
    for (std::uint32_t i = 0; i < rank; ++i) {
      const auto dimension = in_.number<std::uint64_t>();
      if (dimension > kMaxDimension) fail(name, fmt::format("dimension {} exceeds 2^31-1", dimension));
      shape.push_back(static_cast<std::int64_t>(dimension));
    }
    std::reverse(shape.begin(), shape.end());  // the file has the innermost first
    return shape;
  }

  DType dtype(const std::string& name, std::uint32_t id) const {
    const auto* stored = std::find_if(kStoredTypes.begin(), kStoredTypes.end(), [&](auto& t) { return t.id == id; });
    const std::string written = stored == kStoredTypes.end() ? std::to_string(id) : std::string(stored->name);
    std::string supported;
    for (const DType type : kSupportedTypes) {
      if (layout_of(type).name == written) return type;
      supported.append(supported.empty() ? "" : ", ").append(layout_of(type).name);
    }
    fail(name, fmt::format("type {} is not supported; one of {}", written, supported));
  }

  std::uint64_t bytes(const TensorView& view) const {
    const DTypeLayout& layout = layout_of(view.dtype);
    if (view.columns() % layout.block_elements != 0) {
      fail(view.name, fmt::format("rows of {} elements are not whole {} blocks of {}", view.columns(), layout.name,
                                  layout.block_elements));
    }
    auto product = static_cast<std::uint64_t>(layout.block_bytes);
    bool overflow = false;
    for (std::size_t i = 0; i + 1 < view.shape.size(); ++i) {
      overflow |= __builtin_mul_overflow(product, static_cast<std::uint64_t>(view.shape[i]), &product);
    }
    const auto row_blocks = static_cast<std::uint64_t>(view.columns() / layout.block_elements);
    overflow |= __builtin_mul_overflow(product, row_blocks, &product);
    if (overflow) fail(view.name, fmt::format("shape {} has more than 2^64-1 bytes", to_string(view.shape)));
    return product;
  }

  void check_overlaps(std::vector<TensorView>* tensors) const {
    std::sort(tensors->begin(), tensors->end(), [](const TensorView& a, const TensorView& b) {
      return std::tie(a.offset, a.bytes) < std::tie(b.offset, b.bytes);
    });
    for (std::size_t i = 1; i < tensors->size(); ++i) {
      const TensorView& before = (*tensors)[i - 1];
      const TensorView& view = (*tensors)[i];
      if (view.offset < before.offset + before.bytes) {
        fail(view.name, fmt::format("its bytes begin at {}, inside tensor {}, which ends at {}", view.offset,
                                    quote(before.name), before.offset + before.bytes));
      }
    }
  }

  ByteReader& in_;
  std::shared_ptr<const RandomAccessFile> file_;
};

std::uint64_t alignment_of(const Fields& metadata) {
  const auto alignment = metadata.find_integer("general.alignment", 1, kMaxAlignment).value_or(32);
  if ((alignment & (alignment - 1)) != 0) {
    metadata.fail("general.alignment", fmt::format("{} is not a power of two", alignment), ErrorCode::invalid_weights);
  }
  return static_cast<std::uint64_t>(alignment);
}

}  // namespace

GgufFile read_gguf(std::shared_ptr<const RandomAccessFile> file) {
  ByteReader in(file);
  std::string magic(4, '\0');
  in.read(std::as_writable_bytes(std::span(magic)));
  if (magic != "GGUF") in.fail(fmt::format("begins with {}, not \"GGUF\"", quote(magic)));
  const auto version = in.number<std::uint32_t>();
  if (version != 2 && version != 3) in.fail(fmt::format("GGUF version {} is not supported; 2 or 3", version));
  const std::uint64_t tensor_count = in.count("tensors", kMaxTensors, kLeastTensorBytes);
  const std::uint64_t key_count = in.count("keys", kMaxKeys, kLeastKeyBytes);

  Fields metadata = MetadataReader(&in).read(key_count);
  TensorInfoReader infos(&in, std::move(file));
  std::vector<TensorView> tensors = infos.read(tensor_count);
  infos.place(alignment_of(metadata), &tensors);
  return {std::move(metadata), std::move(tensors)};
}

}  // namespace cortex
