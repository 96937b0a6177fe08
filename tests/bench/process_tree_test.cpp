#include "bench/load/process_tree.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <vector>

namespace cortex {
namespace {

#ifdef __linux__
TEST(ProcessTreeTest, AChildCountsToo) {
  constexpr std::size_t kBytes = 64 << 20;
  const std::uint64_t alone = resident_tree_bytes(getpid());
  ASSERT_GT(alone, 0u);
  std::array<int, 2> ready{}, end{};
  ASSERT_EQ(pipe(ready.data()), 0);
  ASSERT_EQ(pipe(end.data()), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    close(end[1]);
    std::vector<char> memory(kBytes);
    std::memset(memory.data(), 1, kBytes);
    const bool told = write(ready[1], memory.data(), 1) == 1;
    char byte = 0;
    _exit(told && read(end[0], &byte, 1) == 0 ? 0 : 1);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_GE(resident_tree_bytes(getpid()), alone + kBytes);
  close(end[1]);
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(resident_tree_bytes(child), 0u);
  for (const int descriptor : {ready[0], ready[1], end[0]}) close(descriptor);
}
#endif

}  // namespace
}  // namespace cortex
