#include "model/tensor_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/faulty_file_system.h"
#include "model/temporary_model.h"
#include "model/weight_bytes.h"

namespace cortex {
namespace {

using testing::ElementsAre;

TensorView view_of(DType dtype, std::vector<std::int64_t> shape, const std::string& bytes) {
  TensorView view;
  view.name = "w";
  view.dtype = dtype;
  view.shape = std::move(shape);
  view.file = memory_file("head" + bytes);
  view.offset = 4;
  view.bytes = bytes.size();
  return view;
}

std::vector<float> rows(const TensorView& view, std::int64_t first, std::int64_t count) {
  std::vector<float> out(static_cast<std::size_t>(count * view.columns()));
  read_rows(view, first, count, out);
  return out;
}

TEST(TensorView, CountsRowsAndColumns) {
  EXPECT_EQ(view_of(DType::f32, {2, 3, 4}, "").rows(), 6);
  EXPECT_EQ(view_of(DType::f32, {2, 3, 4}, "").columns(), 4);
  EXPECT_EQ(view_of(DType::f32, {5}, "").rows(), 1);
  EXPECT_EQ(view_of(DType::f32, {}, "").elements(), 1);
  EXPECT_EQ(view_of(DType::f32, {3, 0}, "").elements(), 0);
  EXPECT_EQ(to_string({64, 32}), "[64, 32]");
  EXPECT_EQ(to_string({}), "[]");
}

TEST(TensorView, LayoutsAreNamed) {
  EXPECT_EQ(layout_of(DType::boolean).name, "BOOL");
  EXPECT_EQ(layout_of(DType::f64).block_bytes, 8);
  EXPECT_EQ(layout_of(DType::q4_1).block_bytes, 20);
  EXPECT_EQ(layout_of(DType::q8_0).block_elements, 32);
}

TEST(ReadRows, TakesAnyRunOfRows) {
  const auto view = view_of(DType::f32, {3, 2}, packed_floats({1, 2, 3, 4, 5, 6}));
  EXPECT_THAT(rows(view, 1, 2), ElementsAre(3, 4, 5, 6));
  EXPECT_THAT(rows(view, 0, 1), ElementsAre(1, 2));
  EXPECT_THAT(rows(view, 3, 0), ElementsAre());
}

TEST(ReadRows, WidensHalves) {
  const auto half = view_of(DType::f16, {2}, packed<std::uint16_t>(0x3C00) + packed<std::uint16_t>(0xC100));
  EXPECT_THAT(rows(half, 0, 1), ElementsAre(1.0f, -2.5f));
  const auto bfloat = view_of(DType::bf16, {2}, packed<std::uint16_t>(0x3FC0) + packed<std::uint16_t>(0x8000));
  EXPECT_THAT(rows(bfloat, 0, 1), ElementsAre(1.5f, -0.0f));
}

// Scale 0.5, minimum -2: nibble n is n / 2 - 2. Byte i holds element i low and element i + 16 high.
TEST(ReadRows, WidensQ4_1) {
  std::string block = packed<std::uint16_t>(0x3800) + packed<std::uint16_t>(0xC000);
  for (int i = 0; i < 16; ++i) block.push_back(static_cast<char>(i | (15 - i) << 4));
  std::string second = packed<std::uint16_t>(0x3C00) + packed<std::uint16_t>(0x0000) + std::string(16, '\x21');
  const auto values = rows(view_of(DType::q4_1, {1, 64}, block + second), 0, 1);
  for (std::size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(values[i], static_cast<float>(i) / 2 - 2);
    EXPECT_EQ(values[i + 16], static_cast<float>(15 - i) / 2 - 2);
    EXPECT_EQ(values[i + 32], 1.0f);
    EXPECT_EQ(values[i + 48], 2.0f);
  }
}

TEST(ReadRows, WidensQ8_0) {
  std::string block = packed<std::uint16_t>(0x3400);  // 0.25
  for (int i = 0; i < 32; ++i) block.push_back(static_cast<char>(i == 0 ? -128 : i * 4));
  const auto values = rows(view_of(DType::q8_0, {2, 32}, std::string(34, '\0') + block), 1, 1);
  EXPECT_EQ(values[0], -32.0f);
  for (std::size_t i = 1; i < 32; ++i) EXPECT_EQ(values[i], static_cast<float>(i));
}

// More than one chunk, whose edges fall inside rows.
TEST(ReadRows, ChunksMakeNoDifference) {
  std::vector<float> expected(1'000'003);
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = static_cast<float>(i);
  const auto column = view_of(DType::f32, {1'000'003, 1}, packed_floats(expected));
  EXPECT_EQ(rows(column, 0, 1'000'003), expected);

  std::string blocks;
  for (int i = 0; i < 70'000; ++i) {
    blocks += packed<std::uint16_t>(0x3C00) + std::string(32, static_cast<char>(i % 127));
  }
  const auto quantised = rows(view_of(DType::q8_0, {35'000, 64}, blocks), 0, 35'000);
  for (std::size_t i = 0; i < quantised.size(); ++i) ASSERT_EQ(quantised[i], static_cast<float>(i / 32 % 127)) << i;
}

TEST(ReadRows, OutOfRangeIsOurBug) {
  const auto view = view_of(DType::f32, {2, 2}, packed_floats({1, 2, 3, 4}));
  std::vector<float> out(4);
  EXPECT_THROW(read_rows(view, 1, 2, out), CheckFailure);
  EXPECT_THROW(read_rows(view, -1, 2, out), CheckFailure);
  EXPECT_THROW(read_rows(view, 0, 1, out), CheckFailure);
  const auto integers = view_of(DType::i32, {2, 2}, packed_floats({1, 2, 3, 4}));
  EXPECT_THROW(read_rows(integers, 0, 2, out), CheckFailure);
}

TEST(ReadRowBytes, AreTheFilesOwn) {
  const auto view = view_of(DType::f16, {3, 2}, "abcdefghijkl");
  EXPECT_EQ(view.row_bytes(), 4u);
  std::string out(8, '\0');
  read_row_bytes(view, 1, 2, std::as_writable_bytes(std::span(out)));
  EXPECT_EQ(out, "efghijkl");
  read_row_bytes(rows_of(view, 1, 2), 1, 1, std::as_writable_bytes(std::span(out).first(4)));
  EXPECT_EQ(out.substr(0, 4), "ijkl");
  EXPECT_THROW(read_row_bytes(view, 2, 2, std::as_writable_bytes(std::span(out))), CheckFailure);
  EXPECT_THROW(read_row_bytes(view, 1, 1, std::as_writable_bytes(std::span(out))), CheckFailure);
  EXPECT_EQ(view_of(DType::q6_k, {1, 512}, "").row_bytes(), 420u);
  EXPECT_THROW(view_of(DType::q6_k, {1, 128}, "").row_bytes(), CheckFailure);
}

TEST(ReadRows, ADiskThatFailsIsAnError) {
  FaultyFileSystem disk(real_file_system());
  const Model model = open_model(disk, test_data("models/llama"));
  const TensorView& tensor = std::get<DecoderModel>(model.network).weights.embedding.tensor;
  std::vector<float> out(static_cast<std::size_t>(tensor.elements()));
  read_rows(tensor, 0, tensor.rows(), out);

  disk.fail(FaultyFileSystem::Call::read, 1);
  expect_error(ErrorCode::weights_io_error, {"tensor \"model.embed_tokens.weight\"", "injected fault"},
               [&] { read_rows(tensor, 0, tensor.rows(), out); });
  disk.cut_files_to(tensor.offset + tensor.bytes - 1);
  expect_error(ErrorCode::weights_io_error, {"model.embed_tokens.weight", "model.safetensors"},
               [&] { read_rows(tensor, 0, tensor.rows(), out); });
  read_rows(tensor, 0, tensor.rows() - 1,
            std::span(out).first(out.size() - static_cast<std::size_t>(tensor.columns())));
}

TEST(ReadRows, AFileThatShrankIsAnError) {
  const TemporaryModel folder("llama");
  const Model model = folder.open();
  const TensorView& tensor = std::get<DecoderModel>(model.network).weights.final_norm.tensor;
  std::filesystem::resize_file(folder.path() / "model.safetensors", tensor.offset + 8);
  std::vector<float> out(64);
  expect_error(ErrorCode::weights_io_error, {"model.norm.weight"}, [&] { read_rows(tensor, 0, 1, out); });
}

}  // namespace
}  // namespace cortex
