// Walks through the folder of a disk store in small steps, so that whoever walks can do other things between them.
// Links are not followed. One thread.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "kv/block_hash.h"

namespace cortex {

class StoreScan {
 public:
  class Visitor {
   public:
    virtual ~Visitor() = default;
    virtual void visit_temporary(const std::filesystem::path& path) = 0;
    virtual void visit_quarantined(const std::string& name, const FileStatus& status) = 0;
    // A regular file with the name of a run; what is in it is anything.
    virtual void visit_run(const std::filesystem::path& path, const BlockKey& root, const BlockKey& last_key,
                           const FileStatus& status) = 0;
    virtual void visit_other(const std::filesystem::path& path, const FileStatus& status) = 0;
  };

  StoreScan(const FileSystem& files, std::filesystem::path directory);

  // Looks at one directory's names or at a few files; false when everything has been seen. std::system_error.
  bool step(Visitor& visitor);

 private:
  enum class Place { top, temporary, quarantine, version, root, shard, other };
  struct Directory {
    std::filesystem::path path;
    Place place;
    BlockKey root;
  };

  void visit(Visitor& visitor, const std::string& name);
  bool descend(const std::filesystem::path& path, const std::string& name);

  const FileSystem& files_;
  std::vector<Directory> directories_;  // still to be looked through
  Directory current_{};
  std::vector<std::string> names_;  // in the current one, still to be looked at; from the back
};

}  // namespace cortex
