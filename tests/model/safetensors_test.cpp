#include "model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/faulty_file_system.h"
#include "fakes/test_paths.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

using testing::ElementsAre;

std::string tensor(const std::string& shape, const std::string& offsets, const std::string& dtype = "F32") {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

// A file with the one tensor "a".
std::string one(const std::string& shape, const std::string& offsets = "[0,16]", const std::string& dtype = "F32") {
  return safetensors_bytes(R"({"a":)" + tensor(shape, offsets, dtype) + "}");
}

std::vector<TensorView> read(const std::string& bytes) { return read_safetensors(memory_file(bytes)); }

TEST(Safetensors, PlacesTensors) {
  const std::string header = R"({"__metadata__":{"format":"pt"},"b":)" + tensor("[2,2]", "[16,24]", "F16") +
                             R"(,"a":)" + tensor("[4]", "[0,16]") + R"(,"s":)" + tensor("[]", "[24,28]") + "}";
  const auto tensors = read(safetensors_bytes(header));
  ASSERT_EQ(tensors.size(), 3u);
  EXPECT_EQ(tensors[0].name, "a");
  EXPECT_EQ(tensors[0].offset, 8 + header.size());
  EXPECT_EQ(tensors[0].bytes, 16u);
  EXPECT_EQ(tensors[1].name, "b");
  EXPECT_EQ(tensors[1].dtype, DType::f16);
  EXPECT_THAT(tensors[1].shape, ElementsAre(2, 2));
  EXPECT_EQ(tensors[1].offset, 8 + header.size() + 16);
  EXPECT_EQ(tensors[2].elements(), 1);
}

TEST(Safetensors, MetadataMayBeNull) {
  EXPECT_EQ(read(safetensors_bytes(R"({"__metadata__":null,"a":)" + tensor("[4]", "[0,16]") + "}")).size(), 1u);
}

TEST(Safetensors, AcceptsEmptyTensorsAndNone) {
  EXPECT_EQ(read(one("[4]")).size(), 1u);
  EXPECT_EQ(read(one("[0]", "[0,0]")).size(), 1u);
  EXPECT_TRUE(read(safetensors_bytes("{}")).empty());
}

struct BadFile {
  std::string name;
  std::string bytes;
  std::vector<std::string> message;
};

std::vector<BadFile> bad_files() {
  const std::string a = R"("a":)" + tensor("[4]", "[0,16]");
  const auto with_length = [](std::uint64_t length, const std::string& rest) { return packed(length) + rest; };
  return {
      {"empty", "", {"0 bytes", "8"}},
      {"short", "\x01\x02", {"2 bytes", "8"}},
      {"trunc_data", safetensors_bytes("{" + a + "}", "1234"), {"\"a\"", "16", "4"}},
      {"hdr_too_long", with_length(1ull << 40, "{" + a + "}"), {"1099511627776", "limit"}},
      {"hdr_len_past_eof", with_length(5000, "{" + a + "}"), {"5000", "limit"}},
      {"not_json", safetensors_bytes("\xFF\xFE{{{{"), {"not valid JSON"}},
      {"top_array", safetensors_bytes("[1,2]"), {"an array at the top"}},
      {"missing_dtype", safetensors_bytes(R"({"a":{"shape":[1],"data_offsets":[0,4]}})"), {"a.dtype: is missing"}},
      {"dtype_unknown", one("[4]", "[0,16]", "Q9"), {"\"a\"", "\"Q9\"", "F32, F16"}},
      {"shape_string", one("\"x\""), {"a.shape: \"x\" is not an array"}},
      {"neg_dim", one("[-4]"), {"\"a\"", "-4", "below 0"}},
      {"neg_dim_pair", one("[-1,-4]"), {"\"a\"", "-1", "below 0"}},
      {"float_dim", one("[4.9]"), {"\"a\"", "4.9", "not an integer"}},
      {"dim_gt_i32", one("[4294967300]"), {"tensor \"a\": dimension 4294967300 exceeds 2^31-1"}},
      {"mul_overflow", one("[65536,65536,65536,16384]", "[0,0]"), {"\"a\"", "more than 2^64-1 bytes"}},
      {"mul_overflow16", one("[65536,65536,65536,65536,1]", "[0,0]"), {"\"a\"", "more than 2^64-1 bytes"}},
      {"offset_neg", one("[4]", "[-32,-16]"), {"\"a\"", "-32", "from 0 to 64"}},
      {"offset_wrap", one("[4]", "[18446744073709551552,18446744073709551568]"), {"\"a\"", "from 0 to 64"}},
      {"overlap", safetensors_bytes("{" + a + R"(,"b":)" + tensor("[4]", "[0,16]") + "}"), {"\"b\"", "inside", "16"}},
      {"hole", one("[4]", "[16,32]"), {"\"a\"", "16", "after a hole"}},
      {"dup_key", safetensors_bytes("{" + a + R"(,"a":)" + tensor("[4]", "[16,32]") + "}"), {"a: stands twice"}},
      {"deep_nest",
       safetensors_bytes(R"({"__metadata__":)" + std::string(200000, '[') + std::string(200000, ']') + "}"),
       {"deeper", "limit of 4"}},
      {"deep_nest_open", safetensors_bytes(std::string(1000000, '[')), {"JSON"}},
      {"meta_nonstring", safetensors_bytes(R"({"__metadata__":{"x":1},)" + a + "}"), {"__metadata__.x", "1", "string"}},
      // Beyond those that are known to have crashed or fooled a loader:
      {"hdr_over_100_mb", with_length(100'000'001, std::string(100'000'002, ' ')), {"100000001", "limit of 100000000"}},
      {"rank_9", one("[1,1,1,1,1,1,1,1,4]"), {"\"a\"", "9 dimensions", "limit of 8"}},
      {"dim_null", one("[null]"), {"\"a\"", "null", "not an integer"}},
      {"offsets_3", one("[4]", "[0,16,16]"), {"\"a\"", "3 data_offsets"}},
      {"offsets_reversed", one("[4]", "[16,0]"), {"\"a\"", "[16, 0]"}},
      {"offsets_float", one("[4]", "[0.0,16]"), {"\"a\"", "not an integer"}},
      {"bytes_wrong", one("[4]", "[0,15]"), {"\"a\"", "[0, 15]", "16 bytes", "F32 [4]"}},
      {"not_object", safetensors_bytes(R"({"a":7})"), {"\"a\"", "7 is not an object"}},
      {"field_unknown", safetensors_bytes(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16],"x":1}})"), {"a.x"}},
      {"empty_in_the_middle",
       safetensors_bytes("{" + a + R"(,"b":)" + tensor("[0]", "[8,8]") + "}"),
       {"\"b\"", "inside"}},
  };
}

TEST(Safetensors, RefusesEveryBadFile) {
  for (const BadFile& file : bad_files()) {
    SCOPED_TRACE(file.name);
    expect_error(ErrorCode::invalid_weights, file.message, [&] { read(file.bytes); });
  }
}

// Any cut of a good file is refused, whether the length, the header or the data is short.
TEST(Safetensors, RefusesEveryPrefix) {
  const std::string header = "{\"a\":" + tensor("[4]", "[0,16]") + "}";
  const std::string whole = safetensors_bytes(header, std::string(16, 'x'));
  EXPECT_EQ(read(whole).size(), 1u);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    expect_error(ErrorCode::invalid_weights, {}, [&] { read(whole.substr(0, size)); });
  }
}

TEST(Safetensors, ADiskThatFailsIsNotABadFile) {
  FaultyFileSystem disk(real_file_system());
  const auto file = disk.open(test_data("models/llama/model.safetensors"));
  disk.fail(FaultyFileSystem::Call::read, 2);
  expect_error(ErrorCode::weights_io_error, {"injected fault"}, [&] { read_safetensors(file); });
}

}  // namespace
}  // namespace cortex
