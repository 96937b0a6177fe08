#include "model/fingerprint.h"

#include <gtest/gtest.h>

#include <system_error>

#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

TEST(Fingerprint, OfAFileIsItsXxh3) {
  const TemporaryFolder folder;
  folder.write("model.gguf", "abc");
  EXPECT_EQ(fingerprint_of(real_file_system(), folder.path() / "model.gguf"), "06b05ab6733a618578af5f94892f3950");
}

TEST(Fingerprint, OfAFolderIsAllThatMakesTheModel) {
  const TemporaryFolder folder;
  const auto fingerprint = [&] { return fingerprint_of(real_file_system(), folder.path()); };
  folder.write("config.json", "{}");
  folder.write("model.safetensors", std::string(5'000'000, 'x'));
  const std::string first = fingerprint();
  EXPECT_EQ(fingerprint(), first);
  folder.write("README.md", "words");
  EXPECT_EQ(fingerprint(), first);
  folder.write("config.json", "{ }");
  const std::string second = fingerprint();
  EXPECT_NE(second, first);
  std::string weights(5'000'000, 'x');
  weights[4'500'000] = 'y';
  folder.write("model.safetensors", weights);
  EXPECT_NE(fingerprint(), second);
}

TEST(Fingerprint, NamesCount) {
  const TemporaryFolder one, two;
  one.write("a.json", "x");
  two.write("b.json", "x");
  EXPECT_NE(fingerprint_of(real_file_system(), one.path()), fingerprint_of(real_file_system(), two.path()));
}

TEST(Fingerprint, OfNothingIsAnError) {
  const TemporaryFolder folder;
  EXPECT_THROW(fingerprint_of(real_file_system(), folder.path() / "missing"), std::system_error);
}

}  // namespace
}  // namespace cortex
