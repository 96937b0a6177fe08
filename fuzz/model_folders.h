// The folder models of tests/data, held in memory. Made once; read-only after that; one thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "memory_files.h"

namespace cortex {

struct FolderModel {
  std::string model_type;
  std::vector<std::pair<std::string, std::shared_ptr<const std::string>>> files;  // by path within the folder
};

// All of them; throws where there are none.
const std::vector<FolderModel>& folder_models();

}  // namespace cortex
