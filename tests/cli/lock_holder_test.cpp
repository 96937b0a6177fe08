#include "cli/lock_holder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file_system.h"
#include "fakes/temporary_folder.h"

namespace cortex {
namespace {

TEST(LockHolder, IsNobodyWhereThereIsNoLock) {
  const TemporaryFolder folder;
  EXPECT_FALSE(lock_holder(folder.path() / "LOCK"));
  folder.write("LOCK", "");
  folder.write("another", "");
  const auto lock = real_file_system().lock(folder.path() / "another");
  EXPECT_FALSE(lock_holder(folder.path() / "LOCK"));
}

TEST(LockHolder, IsThisProcessOrUnknown) {
  const TemporaryFolder folder;
  const auto lock = real_file_system().lock(folder.path() / "LOCK");
  ASSERT_TRUE(lock);
  EXPECT_EQ(lock_holder(folder.path() / "LOCK").value_or(::getpid()), ::getpid());
}

}  // namespace
}  // namespace cortex
