// The thread on which models load, one after another, so that the engine's loop never waits for a disk. Owned by the
// engine, which asks for loads; the answers are called on the thread itself and bring them to the engine's inbox.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <thread>
#include <variant>

#include "base/channel.h"
#include "engine/model_loader.h"

namespace cortex {

using LoadOutcome = std::variant<LoadedModel, Error>;

struct LoadAnswers {
  std::function<void(std::size_t model, double fraction)> progress;
  std::function<void(std::size_t model, LoadOutcome outcome)> loaded;
};

class LoaderThread {
 public:
  // The loader outlives it. Throws std::system_error when no thread can be had.
  LoaderThread(ModelLoader* loader, LoadAnswers answers);
  // Gives up the load that runs, as soon as it next says how far it is.
  ~LoaderThread();

  // `model` is the caller's number for it.
  void load(std::size_t model, ModelConfig config, LoadTerms terms);
  // Whether a load ended without an answer, for want of memory even for that; asked once, then forgotten.
  bool lost_an_answer() { return lost_an_answer_.exchange(false); }

 private:
  struct Load {
    std::size_t model;
    ModelConfig config;
    LoadTerms terms;
  };

  void run();
  void run(const Load& load);

  ModelLoader* const loader_;
  const LoadAnswers answers_;
  Channel<Load> loads_;
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> lost_an_answer_ = false;
  std::thread thread_;
};

}  // namespace cortex
