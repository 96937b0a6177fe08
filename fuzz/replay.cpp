// Runs a fuzz target over files and folders of inputs, without a fuzzer: what every test run does with the corpus.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "input.h"

namespace {

namespace fs = std::filesystem;

std::vector<fs::path> inputs_of(const fs::path& path) {
  if (!fs::is_directory(path)) return {path};
  std::vector<fs::path> inputs;
  for (const auto& entry : fs::directory_iterator(path)) inputs.push_back(entry.path());
  std::sort(inputs.begin(), inputs.end());
  return inputs;
}

void run(const fs::path& input) {
  std::ifstream file(input, std::ios::binary);
  if (!file) throw std::runtime_error("can't be read");
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
  int count = 0;
  int failures = 0;
  for (int i = 1; i < argc; ++i) {
    for (const fs::path& input : inputs_of(argv[i])) {
      ++count;
      try {
        run(input);
      } catch (const std::exception& error) {
        ++failures;
        std::fprintf(stderr, "%s: %s\n", input.c_str(), error.what());
      }
    }
  }
  std::printf("%d inputs, %d failures\n", count, failures);
  return count > 0 && failures == 0 ? 0 : 1;
}
