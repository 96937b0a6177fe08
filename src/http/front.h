// The front: everything of `cortex serve` but the engine. It owns the text side of the models, the services, the text
// threads and the listener, and puts them together. Made and ended by main's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file_system.h"
#include "engine/engine.h"
#include "http/listener.h"
#include "service/conversations.h"
#include "service/health.h"

namespace cortex {

struct FrontOptions {
  std::vector<ModelConfig> models;
  ListenerOptions listener;
  std::vector<std::string> api_keys;
  std::filesystem::path conversations = ":memory:";
  ConversationLimits conversation_limits;
  HealthRules health;
  int most_waiting = 512;  // requests
  int text_threads = 2;
  std::string backend = "auto";  // for build_info
};

class Front {
 public:
  // Reads the models' text side. Throws Error as Models and Conversations do.
  Front(FrontOptions options, Engine& engine, const FileSystem& files, const Clock& clock);
  ~Front();

  // Binds and serves. Throws std::system_error when the address can't be had.
  void start();
  int port() const;

  // Unready from now on; new work is refused with `draining`, what runs goes on.
  void drain();
  // Waits until nothing runs, at most so long; then closes every connection.
  void stop(std::chrono::milliseconds patience);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace cortex
