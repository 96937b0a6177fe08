#include "kv/store_scan.h"

#include <gtest/gtest.h>

#include <set>

#include "fakes/faulty_file_system.h"
#include "fakes/temporary_folder.h"
#include "kv/stored_runs.h"

namespace cortex {
namespace {

class Seen : public StoreScan::Visitor {
 public:
  void visit_temporary(const std::filesystem::path& path) override { temporary.insert(path.filename()); }
  void visit_quarantined(const std::string& name, const FileStatus& status) override {
    quarantined.insert(name + " " + std::to_string(status.size_bytes));
  }
  void visit_run(const std::filesystem::path& path, const BlockKey& root, const BlockKey& last_key,
                 const FileStatus& /*status*/) override {
    EXPECT_TRUE(path.string().ends_with(block_file_path(root, last_key).string()));
    runs.insert(last_key);
  }
  void visit_other(const std::filesystem::path& path, const FileStatus& /*status*/) override {
    other.insert(path.filename());
  }

  std::set<std::string> temporary, quarantined, other;
  std::set<BlockKey> runs;
};

TEST(StoreScan, TellsWhatIsWhat) {
  const TemporaryFolder folder;
  const TestSequence sequence(20, 1);
  const std::string root = "v1/" + to_hex(sequence.root) + "/";
  std::set<BlockKey> expected;
  for (int i = 0; i < 100; ++i) {
    const TestSequence one(1, i);
    folder.write(one.path(), "x");
    expected.insert(one.chain[0]);
  }
  for (const std::string& name : {std::string("LOCK"), "v1/" + std::string("stray"), root + "early", root + "aa/notes",
                                  "v2/" + std::string("later"), "tmp/below/" + std::string("deep")}) {
    folder.write(name, "x");
  }
  folder.write("tmp/half", "x");
  folder.write("quarantine/bad", "xyz");
  std::filesystem::create_directory_symlink(folder.path() / "v2", folder.path() / "v1" / "link");
  const std::string hex = to_hex(sequence.chain[3]);
  std::filesystem::create_symlink(folder.path() / "LOCK", folder.path() / root / "aa" / (hex + ".kv"));

  Seen seen;
  StoreScan scan(real_file_system(), folder.path());
  while (scan.step(seen)) {
  }
  EXPECT_EQ(seen.runs, expected);
  EXPECT_EQ(seen.temporary, std::set<std::string>{"half"});
  EXPECT_EQ(seen.quarantined, std::set<std::string>{"bad 3"});
  EXPECT_EQ(seen.other,
            (std::set<std::string>{"LOCK", "stray", "early", "notes", "later", "deep", "link", hex + ".kv"}));
}

TEST(StoreScan, WhatGoesAwayMeanwhileIsNoFault) {
  const TemporaryFolder folder;
  folder.write("tmp/half", "x");
  folder.write("v1/stray", "x");
  Seen seen;
  StoreScan scan(real_file_system(), folder.path());
  ASSERT_TRUE(scan.step(seen));
  ASSERT_TRUE(scan.step(seen));
  std::filesystem::remove_all(folder.path());
  while (scan.step(seen)) {
  }
  EXPECT_TRUE(seen.temporary.empty() && seen.other.empty());
}

TEST(StoreScan, ADirectoryThatCanNotBeReadIsOne) {
  const TemporaryFolder folder;
  FaultyFileSystem disk(real_file_system());
  disk.fail(FaultyFileSystem::Call::list, 1);
  Seen seen;
  StoreScan scan(disk, folder.path());
  EXPECT_THROW(scan.step(seen), std::system_error);
}

}  // namespace
}  // namespace cortex
