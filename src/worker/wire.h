// What the front and a worker say to each other: frames of a little-endian u32 length and that many bytes of msgpack,
// at most kMaxFrameBytes. Both ends are the same binary on one machine, so numbers in bulk travel as the machine holds
// them; but neither end trusts the other's bytes: lengths, depths, types and ranges are checked. Pure functions; any
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>

#include "engine/engine_options.h"
#include "engine/request.h"
#include "engine/status.h"
#include "engine/step_budget.h"

namespace cortex {

inline constexpr std::size_t kMaxFrameBytes = std::size_t{16} << 20;  // after the length
inline constexpr std::int64_t kWireVersion = 8;

// Front to worker: the first frame; any other version than kWireVersion is refused.
struct HelloFrame {
  std::int64_t version = kWireVersion;
  EngineOptions options;
};
struct GenerateFrame {
  GenerateRequest request;
};
struct EncodeFrame {
  EncodeRequest request;
};
struct CancelFrame {
  RequestId id = 0;
};
struct ShutdownFrame {};
struct BudgetFrame {
  StepBudget budget;
};
// `id` is the asker's, told back in the ModelDoneFrame.
struct LoadModelFrame {
  std::uint64_t id = 0;
  std::string model;
};
struct UnloadModelFrame {
  std::uint64_t id = 0;
  std::string model;
};
// What the grammars of the model's requests are about; ahead of the first that has one.
struct VocabularyFrame {
  std::string model;
  TokenTexts texts;
};

// Worker to front.
struct GenerateEventFrame {
  RequestId id = 0;
  GenerateEvent event;
};
struct EncodeReplyFrame {
  RequestId id = 0;
  EncodeReply reply;
};
struct HeartbeatFrame {
  EngineStatus status;  // its times are of the machine's steady clock, which all processes share
};
struct ModelDoneFrame {
  std::uint64_t id = 0;
  std::optional<Error> error;
};

// A frame's kind on the wire is its place here.
using Frame = std::variant<HelloFrame, GenerateFrame, EncodeFrame, CancelFrame, ShutdownFrame, GenerateEventFrame,
                           EncodeReplyFrame, HeartbeatFrame, BudgetFrame, LoadModelFrame, UnloadModelFrame,
                           ModelDoneFrame, VocabularyFrame>;

// The frame with its length. Throws Error request_too_large over kMaxFrameBytes.
std::string encode_frame(const Frame& frame);

// `payload` is what follows the length. Throws Error internal_error, saying what is wrong with it.
Frame decode_frame(std::span<const char> payload);

// Cuts a stream of bytes into frames.
class FrameBuffer {
 public:
  void append(std::span<const char> bytes);
  // Nothing until the next frame is whole. Throws as decode_frame does, and for a length over kMaxFrameBytes.
  std::optional<Frame> next();

 private:
  std::string bytes_;
  std::size_t taken_ = 0;  // of bytes_
};

}  // namespace cortex
