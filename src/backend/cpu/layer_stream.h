// Brings layers that don't stay in memory, one ahead of the step: a thread reads each into its range in turn, at most
// kStreamedAtOnce of them at a time, and goes on from the last to the first, so that the next step finds its first
// there. Owned by the decoder, called by the engine thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "backend/cpu/packed_layers.h"
#include "backend/cpu/weight_arena.h"

namespace cortex {

struct StreamedLayer {
  int layer = 0;
  WeightArena* range = nullptr;  // its own; outlives the stream
};

class LayerStream {
 public:
  // `layers` in the order of a step, at least one.
  LayerStream(PackedLayers packed, std::vector<StreamedLayer> layers);
  LayerStream(const LayerStream&) = delete;
  LayerStream& operator=(const LayerStream&) = delete;
  ~LayerStream();

  // A step starts. After one that broke off the layers come anew, from a file that is opened anew if reading failed.
  void begin_step();
  // Waits for the next layer, which must be this one. Throws what reading it threw: Error weights_io_error when the
  // file is not what it should be.
  void enter(int layer);
  // The layer is done with: its pages go back.
  void leave(int layer);

  // Layers in memory now.
  int in_memory() const;

 private:
  const StreamedLayer& at(std::uint64_t position) const { return layers_[position % layers_.size()]; }
  void read_ahead();
  // Whatever is in memory goes, and reading begins with the first layer. No read is under way.
  void start_anew();

  PackedLayers packed_;
  const std::vector<StreamedLayer> layers_;
  const std::uint64_t most_in_memory_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Positions count on from step to step: of the layer that a step enters next or is in, and of that read next.
  std::uint64_t entered_ = 0, read_ = 0;
  bool reading_ = false;
  bool stopping_ = false;
  std::exception_ptr failure_;  // what reading the layer at read_ threw
  std::thread reader_;
};

}  // namespace cortex
