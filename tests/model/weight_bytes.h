// Weight files as bytes, right and wrong, and what tests check about the errors they cause.
#pragma once

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file_system.h"

namespace cortex {

class MemoryFile : public RandomAccessFile {
 public:
  explicit MemoryFile(std::string bytes, std::filesystem::path path = "weights")
      : path_(std::move(path)), bytes_(std::move(bytes)) {}
  const std::filesystem::path& path() const override { return path_; }
  std::uint64_t size_bytes() const override { return bytes_.size(); }
  void read(std::uint64_t offset, std::span<std::byte> out) const override {
    if (offset > bytes_.size() || out.size() > bytes_.size() - offset) {
      throw std::system_error(EIO, std::generic_category(), path_.string());
    }
    std::memcpy(out.data(), bytes_.data() + offset, out.size());
  }

 private:
  std::filesystem::path path_;
  std::string bytes_;
};

inline std::shared_ptr<const RandomAccessFile> memory_file(std::string bytes) {
  return std::make_shared<MemoryFile>(std::move(bytes));
}

// Little-endian, as both formats are.
template <typename Number>
std::string packed(Number value) {
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

inline std::string packed_floats(const std::vector<float>& values) {
  std::string bytes;
  for (const float value : values) bytes += packed(value);
  return bytes;
}

inline std::string safetensors_bytes(const std::string& header, const std::string& data = std::string(64, '\0')) {
  return packed(std::uint64_t{header.size()}) + header + data;
}

// A GGUF file, version 3, alignment 32.
class GgufBytes {
 public:
  static std::string text(std::string_view value) { return packed(std::uint64_t{value.size()}) + std::string(value); }

  GgufBytes& key(std::string_view name, std::uint32_t type, const std::string& value) {
    keys_ += text(name) + packed(type) + value;
    ++key_count_;
    return *this;
  }
  GgufBytes& integer(std::string_view name, std::uint32_t value) { return key(name, 4, packed(value)); }
  GgufBytes& number(std::string_view name, float value) { return key(name, 6, packed(value)); }
  GgufBytes& boolean(std::string_view name, bool value) { return key(name, 7, std::string(1, value ? '\1' : '\0')); }
  GgufBytes& string(std::string_view name, std::string_view value) { return key(name, 8, text(value)); }
  GgufBytes& strings(std::string_view name, const std::vector<std::string>& values) {
    std::string bytes = packed(std::uint32_t{8}) + packed(std::uint64_t{values.size()});
    for (const auto& value : values) bytes += text(value);
    return key(name, 9, bytes);
  }
  GgufBytes& integers(std::string_view name, const std::vector<std::int32_t>& values) {
    std::string bytes = packed(std::uint32_t{5}) + packed(std::uint64_t{values.size()});
    for (const auto value : values) bytes += packed(value);
    return key(name, 9, bytes);
  }
  GgufBytes& floats(std::string_view name, const std::vector<float>& values) {
    return key(name, 9, packed(std::uint32_t{6}) + packed(std::uint64_t{values.size()}) + packed_floats(values));
  }
  GgufBytes& booleans(std::string_view name, const std::vector<bool>& values) {
    std::string bytes = packed(std::uint32_t{7}) + packed(std::uint64_t{values.size()});
    for (const bool value : values) bytes += value ? '\1' : '\0';
    return key(name, 9, bytes);
  }
  // `dimensions` as the file has them: innermost first.
  GgufBytes& tensor(std::string_view name, const std::vector<std::uint64_t>& dimensions, std::uint32_t type,
                    const std::string& data) {
    return info(name, dimensions, type, data_.size(), data);
  }
  GgufBytes& info(std::string_view name, const std::vector<std::uint64_t>& dimensions, std::uint32_t type,
                  std::uint64_t offset, const std::string& data) {
    infos_ += text(name) + packed(static_cast<std::uint32_t>(dimensions.size()));
    for (const auto dimension : dimensions) infos_ += packed(dimension);
    infos_ += packed(type) + packed(offset);
    data_ += data;
    data_.resize((data_.size() + 31) / 32 * 32);
    ++tensor_count_;
    return *this;
  }
  std::string bytes() const {
    std::string head = "GGUF" + packed(std::uint32_t{3}) + packed(tensor_count_) + packed(key_count_) + keys_ + infos_;
    head.resize((head.size() + 31) / 32 * 32);
    return head + data_;
  }

 private:
  std::string keys_, infos_, data_;
  std::uint64_t key_count_ = 0, tensor_count_ = 0;
};

// Runs `action` and expects an Error of this code whose message holds `parts`.
template <typename Action>
void expect_error(ErrorCode code, const std::vector<std::string>& parts, Action action) {
  try {
    action();
    ADD_FAILURE() << "nothing was thrown; expected " << name_of(code);
  } catch (const Error& error) {
    EXPECT_EQ(name_of(error.code()), name_of(code)) << error.what();
    for (const auto& part : parts) EXPECT_NE(error.message().find(part), std::string::npos) << error.what();
  }
}

}  // namespace cortex
