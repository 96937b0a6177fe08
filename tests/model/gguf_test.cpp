#include "model/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "fakes/faulty_file_system.h"
#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

constexpr const char* kSupported = "one of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K";

using testing::ElementsAre;

GgufFile read(const std::string& bytes) { return read_gguf(memory_file(bytes)); }

TEST(Gguf, ReadsEveryKindOfValue) {
  const std::string nested = packed(std::uint32_t{6}) + packed(std::uint64_t{2}) + packed_floats({0.5f, -1.0f});
  const Fields fields = read(GgufBytes()
                                 .key("u8", 0, "\xFF")
                                 .key("i8", 1, "\xFF")
                                 .key("u16", 2, "\xFF\xFF")
                                 .key("i16", 3, "\xFF\xFF")
                                 .integer("u32", 4294967295u)
                                 .key("i32", 5, packed(std::int32_t{-5}))
                                 .number("f32", 0.25f)
                                 .boolean("yes", true)
                                 .string("text", "hé")
                                 .key("floats", 9, nested)
                                 .key("u64", 10, packed(std::numeric_limits<std::uint64_t>::max()))
                                 .key("i64", 11, packed(std::int64_t{-7}))
                                 .key("f64", 12, packed(2.5))
                                 .bytes())
                            .metadata;
  EXPECT_EQ(fields.integer("u8", 0, 255), 255);
  EXPECT_EQ(fields.integer("i8", -1, 0), -1);
  EXPECT_EQ(fields.integer("u16", 0, 65535), 65535);
  EXPECT_EQ(fields.integer("i16", -1, 0), -1);
  EXPECT_EQ(*fields.find("u32")->as<std::int64_t>(), 4294967295);
  EXPECT_EQ(fields.integer("i32", -5, 0), -5);
  EXPECT_EQ(fields.number("f32", 0, 1), 0.25f);
  EXPECT_EQ(fields.find_boolean("yes"), true);
  EXPECT_EQ(fields.text("text"), "hé");
  EXPECT_EQ(*fields.array("floats")[1].as<double>(), -1.0);
  EXPECT_DOUBLE_EQ(*fields.find("u64")->as<double>(), 18446744073709551615.0);
  EXPECT_EQ(fields.integer("i64", -7, 0), -7);
  EXPECT_EQ(fields.number("f64", 0, 3), 2.5f);
}

TEST(Gguf, ShapesAreOutermostFirst) {
  const std::string bytes = GgufBytes()
                                .tensor("a", {3, 2}, 0, packed_floats({1, 2, 3, 4, 5, 6}))
                                .tensor("b", {32, 2}, 8, std::string(68, '\0'))
                                .tensor("c", {64}, 3, std::string(40, '\0'))
                                .bytes();
  const auto tensors = read(bytes).tensors;
  ASSERT_EQ(tensors.size(), 3u);
  EXPECT_THAT(tensors[0].shape, ElementsAre(2, 3));
  std::vector<float> row(3);
  read_rows(tensors[0], 1, 1, row);
  EXPECT_THAT(row, ElementsAre(4, 5, 6));
  EXPECT_EQ(tensors[1].dtype, DType::q8_0);
  EXPECT_EQ(tensors[1].bytes, 68u);
  EXPECT_EQ(tensors[2].dtype, DType::q4_1);
  EXPECT_EQ(tensors[2].bytes, 40u);
}

TEST(Gguf, AcceptsNoKeysAndNoTensors) {
  const std::string none = packed(std::uint64_t{0}) + packed(std::uint64_t{0}) + std::string(64, '\0');
  EXPECT_TRUE(read("GGUF" + packed(std::uint32_t{3}) + none).tensors.empty());
  EXPECT_TRUE(read("GGUF" + packed(std::uint32_t{2}) + none).tensors.empty());
}

TEST(Gguf, FollowsItsAlignment) {
  const std::string info = GgufBytes::text("a") + packed(std::uint32_t{1}) + packed(std::uint64_t{1}) +
                           packed(std::uint32_t{0}) + packed(std::uint64_t{8});
  const std::string head = "GGUF" + packed(std::uint32_t{3}) + packed(std::uint64_t{1}) + packed(std::uint64_t{1}) +
                           GgufBytes::text("general.alignment") + packed(std::uint32_t{4}) + packed(std::uint32_t{8}) +
                           info;
  const std::size_t data_start = (head.size() + 7) / 8 * 8;
  const auto tensors = read(head + std::string(data_start - head.size() + 8, '\0') + packed(1.5f)).tensors;
  ASSERT_EQ(tensors.size(), 1u);
  EXPECT_EQ(tensors[0].offset, data_start + 8);
}

struct BadFile {
  std::string name;
  std::string bytes;
  std::vector<std::string> message;
};

std::string raw(std::uint64_t tensors, std::uint64_t keys, const std::string& rest, std::uint32_t version = 3) {
  return "GGUF" + packed(version) + packed(tensors) + packed(keys) + rest + std::string(64, '\0');
}

std::string array(std::uint32_t type, std::uint64_t count) {
  return GgufBytes::text("a") + packed(std::uint32_t{9}) + packed(type) + packed(count);
}

std::string info(const std::vector<std::uint64_t>& dimensions, std::uint32_t type, std::uint64_t offset) {
  std::string bytes = GgufBytes::text("t") + packed(static_cast<std::uint32_t>(dimensions.size()));
  for (const auto dimension : dimensions) bytes += packed(dimension);
  return bytes + packed(type) + packed(offset);
}

std::vector<BadFile> bad_files() {
  const std::string f32(32, '\0');
  return {
      {"bad_magic", "XXXX" + raw(0, 0, "").substr(4), {"\"XXXX\"", "GGUF"}},
      {"bad_ver", raw(0, 0, "", 99), {"version 99", "2 or 3"}},
      {"kv_count_huge", raw(0, 1ull << 60, ""), {"keys: 1152921504606846976", "limit"}},
      {"tensor_count_huge", raw(1ull << 60, 0, ""), {"tensors: 1152921504606846976", "limit"}},
      {"key_len_past_eof", raw(0, 1, packed(1ull << 40) + "abc"), {"key 0", "1099511627776", "limit"}},
      {"val_str_past_eof",
       raw(0, 1, GgufBytes::text("general.name") + packed(std::uint32_t{8}) + packed(1ull << 40) + "hi"),
       {"general.name", "1099511627776", "limit"}},
      {"arr_f32_len_past_eof", raw(0, 1, array(6, 1ull << 28)), {"\"a\"", "268435456", "limit"}},
      {"arr_of_arr", raw(0, 1, array(9, 2)), {"\"a\"", "may not nest"}},
      {"bad_type",
       raw(0, 1, GgufBytes::text("a") + packed(std::uint32_t{77}) + std::string(8, '\0')),
       {"\"a\"", "77", "0 to 12"}},
      {"tensor_off_past_eof", raw(1, 0, info({1024}, 0, 1ull << 40)), {"\"t\"", "1099511627776", "bytes of data"}},
      {"tensor_dim_overflow", raw(1, 0, info({65536, 65536, 65536, 65536}, 0, 0)), {"\"t\"", "2^64-1"}},
      {"tensor_ndim_huge",
       raw(1, 0, GgufBytes::text("t") + packed(std::uint32_t{0xFFFFFFFF}) + std::string(64, '\1')),
       {"\"t\"", "4294967295 dimensions", "limit of 4"}},
      // Beyond those that are known to have crashed a loader:
      {"big_endian", raw(0, 0, "", 0x03000000), {"version"}},
      {"bad_element_type", raw(0, 1, array(77, 2)), {"\"a\"", "77"}},
      {"bad_boolean", GgufBytes().key("a", 7, "\2").bytes(), {"\"a\"", "boolean 2"}},
      {"key_twice", GgufBytes().integer("a", 1).integer("a", 1).bytes(), {"\"a\"", "stands twice"}},
      {"tensor_twice",
       GgufBytes().tensor("t", {8}, 0, f32).tensor("t", {8}, 0, f32).bytes(),
       {"tensor \"t\"", "stands twice"}},
      {"overlap",
       GgufBytes().tensor("s", {16}, 0, f32 + f32).info("t", {8}, 0, 32, f32).bytes(),
       {"tensor \"t\"", "inside tensor \"s\""}},
      {"unaligned", GgufBytes().info("t", {8}, 0, 16, f32 + f32).bytes(), {"\"t\"", "offset 16", "alignment, 32"}},
      {"wrapping_offset", raw(1, 0, info({8}, 0, ~0ull - 31)), {"\"t\"", "18446744073709551584"}},
      {"cut", GgufBytes().info("t", {64}, 0, 0, f32).bytes(), {"\"t\"", "256 bytes at offset 0", "32 bytes"}},
      {"dimension", raw(1, 0, info({1ull << 31}, 0, 0)), {"\"t\"", "2147483648 exceeds 2^31-1"}},
      {"partial_block", GgufBytes().tensor("t", {48}, 8, f32 + f32).bytes(), {"\"t\"", "48", "Q8_0 blocks of 32"}},
      {"partial_super_block",
       GgufBytes().tensor("t", {128}, 14, f32 + f32).bytes(),
       {"\"t\"", "128", "Q6_K blocks of 256"}},
      {"type_unknown", raw(1, 0, info({256}, 4, 0)), {"\"t\"", "type 4 is not supported", kSupported}},
  };
}

TEST(Gguf, RefusesEveryBadFile) {
  for (const BadFile& file : bad_files()) {
    SCOPED_TRACE(file.name);
    expect_error(ErrorCode::invalid_weights, file.message, [&] { read(file.bytes); });
  }
}

TEST(Gguf, RefusesOtherTypesByName) {
  const std::map<std::uint32_t, std::string> names = {{9, "Q8_1"},     {10, "Q2_K"},   {11, "Q3_K"},   {15, "Q8_K"},
                                                      {16, "IQ2_XXS"}, {20, "IQ4_NL"}, {23, "IQ4_XS"}, {26, "I32"},
                                                      {28, "F64"},     {34, "TQ1_0"},  {35, "TQ2_0"},  {39, "MXFP4"}};
  for (const auto& [id, name] : names) {
    expect_error(ErrorCode::invalid_weights, {"tensor \"t\": type " + name + " is not supported", kSupported},
                 [&] { read(raw(1, 0, info({256}, id, 0))); });
  }
}

TEST(Gguf, ABlockOfEveryTypeHasItsSize) {
  const std::map<std::uint32_t, std::pair<DType, std::uint64_t>> types = {
      {0, {DType::f32, 1024}},  {1, {DType::f16, 512}},   {2, {DType::q4_0, 144}}, {3, {DType::q4_1, 160}},
      {6, {DType::q5_0, 176}},  {7, {DType::q5_1, 192}},  {8, {DType::q8_0, 272}}, {12, {DType::q4_k, 144}},
      {13, {DType::q5_k, 176}}, {14, {DType::q6_k, 210}}, {30, {DType::bf16, 512}}};
  for (const auto& [id, expected] : types) {
    const auto [dtype, bytes] = expected;
    const GgufFile file = read(GgufBytes().tensor("t", {256, 3}, id, std::string(3 * bytes, 'x')).bytes());
    EXPECT_EQ(file.tensors[0].dtype, dtype);
    EXPECT_EQ(file.tensors[0].bytes, 3 * bytes) << id;
    EXPECT_EQ(file.tensors[0].row_bytes(), bytes) << id;
    expect_error(ErrorCode::invalid_weights, {"tensor \"t\": ", std::to_string(3 * bytes) + " bytes at offset 0"}, [&] {
      read(GgufBytes().info("t", {256, 3}, id, 0, std::string((3 * bytes - 1) / 32 * 32, 'x')).bytes());
    });
  }
}

TEST(Gguf, RefusesEveryPrefix) {
  const std::string whole = GgufBytes()
                                .string("general.architecture", "llama")
                                .strings("tokens", {"a", "b"})
                                .tensor("t", {8, 2}, 0, std::string(64, 'x'))
                                .bytes();
  EXPECT_EQ(read(whole).tensors.size(), 1u);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    expect_error(ErrorCode::invalid_weights, {}, [&] { read(whole.substr(0, size)); });
  }
}

TEST(Gguf, AlignmentIsAPowerOfTwo) {
  expect_error(ErrorCode::invalid_weights, {"general.alignment", "24"},
               [] { read(GgufBytes().integer("general.alignment", 24).bytes()); });
  expect_error(ErrorCode::invalid_config, {"general.alignment", "0"},
               [] { read(GgufBytes().integer("general.alignment", 0).bytes()); });
}

TEST(Gguf, ADiskThatFailsIsNotABadFile) {
  const TemporaryFolder folder;
  folder.write("m.gguf", GgufBytes().integer("a", 1).bytes());
  FaultyFileSystem disk(real_file_system());
  disk.fail(FaultyFileSystem::Call::read, 1);
  expect_error(ErrorCode::weights_io_error, {"injected fault"},
               [&] { read_gguf(disk.open(folder.path() / "m.gguf")); });
}

}  // namespace
}  // namespace cortex
