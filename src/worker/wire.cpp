#include "worker/wire.h"

#include <fmt/core.h>

#include <array>
#include <bit>
#include <concepts>
#include <cstring>
#include <msgpack.hpp>
#include <type_traits>
#include <utility>

namespace cortex {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::size_t kLengthBytes = 4;
// Arrays hold a struct's fields or a list of structs; numbers in bulk are binary.
constexpr std::size_t kMaxArray = 1 << 16;
constexpr std::size_t kMaxDepth = 12;

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorCode::internal_error, "worker frame: " + what); }

template <typename T>
concept Number = std::integral<T> || std::floating_point<T>;

template <typename T, typename U>
concept Is = std::same_as<std::remove_const_t<T>, U>;

// How many values an enumeration has.
constexpr std::int64_t size_of(ModelKind) { return 4; }
constexpr std::int64_t size_of(FinishReason) { return 2; }
constexpr std::int64_t size_of(GrammarSyntax) { return 3; }
constexpr std::int64_t size_of(ModelState) { return 4; }
constexpr std::int64_t size_of(EngineState) { return 6; }
constexpr std::int64_t size_of(CacheMiss) { return 6; }

// One description for both directions, so that they can't differ: `a` is a Writer or a Reader.
template <typename A, Is<ModelConfig> T>
void describe(A& a, T& v) {
  a.fields(v.name, v.path, v.kind, v.load_at_start, v.pinned);
}
template <typename A, Is<EngineOptions> T>
void describe(A& a, T& v) {
  a.fields(v.models, v.backend, v.threads, v.exact, v.kv_bytes, v.memory_bytes, v.stream_dir, v.idle_unload_s, v.kv_dir,
           v.kv_disk_bytes, v.kv_write_bytes_per_day, v.kv_disk_free_bytes, v.speculation, v.max_sequences,
           v.rows_per_step, v.encode_batch_tokens, v.idle_turn_ms);
}
template <typename A, Is<SamplingParams> T>
void describe(A& a, T& v) {
  a.fields(v.temperature, v.top_p, v.min_p, v.top_k, v.presence_penalty, v.frequency_penalty, v.repetition_penalty,
           v.seed);
}
template <typename A, Is<std::pair<TokenId, float>> T>
void describe(A& a, T& v) {
  a.fields(v.first, v.second);
}
template <typename A, Is<TokenTexts> T>
void describe(A& a, T& v) {
  a.fields(v.offsets, v.bytes, v.special, v.ends);
}
// Its vocabulary goes ahead, in a frame of its own.
template <typename A, Is<Grammar> T>
void describe(A& a, T& v) {
  a.fields(v.syntax, v.text);
}
template <typename A, Is<GenerateRequest> T>
void describe(A& a, T& v) {
  a.fields(v.id, v.model, v.prompt, v.max_tokens, v.max_tokens_may_shrink, v.stop_ids, v.sampling, v.logit_bias,
           v.grammar, v.prediction, v.logprobs, v.top_logprobs, v.prompt_logprobs, v.explain, v.priority, v.salt,
           v.timeout, v.trace);
}
template <typename A, Is<EncodeRequest> T>
void describe(A& a, T& v) {
  a.fields(v.id, v.model, v.texts, v.types, v.scores, v.priority, v.salt, v.timeout, v.trace);
}
template <typename A, Is<TokenLogprob> T>
void describe(A& a, T& v) {
  a.fields(v.token, v.logprob);
}
template <typename A, Is<SampledToken> T>
void describe(A& a, T& v) {
  a.fields(v.token, v.logprob, v.top_logprobs);
}
template <typename A, Is<CacheExplanation> T>
void describe(A& a, T& v) {
  a.fields(v.miss, v.diverged_at, v.diverged_to);
}
template <typename A, Is<GenerateTimings> T>
void describe(A& a, T& v) {
  a.fields(v.queue_ms, v.prefill_ms, v.decode_ms, v.prompt_tokens, v.cached_tokens, v.cached_disk_tokens,
           v.draft_tokens, v.draft_accepted, v.cache);
}
template <typename A, Is<GenerateEvent> T>
void describe(A& a, T& v) {
  a.fields(v.prompt_logprobs, v.prompt_top_logprobs, v.tokens, v.finish, v.timings, v.error);
}
template <typename A, Is<EncodeReply> T>
void describe(A& a, T& v) {
  a.fields(v.dimensions, v.vectors, v.queue_ms, v.compute_ms, v.error);
}
template <typename A, Is<KvStatus> T>
void describe(A& a, T& v) {
  a.fields(v.blocks, v.blocks_used, v.blocks_cached, v.running, v.waiting, v.query_tokens, v.memory_hit_tokens,
           v.disk_hit_tokens, v.preemptions);
}
template <typename A, Is<SpeculationStatus> T>
void describe(A& a, T& v) {
  a.fields(v.steps, v.drafted, v.accepted, v.saved_ms);
}
template <typename A, Is<GrammarStatus> T>
void describe(A& a, T& v) {
  a.fields(v.compiled, v.reused, v.refused, v.masks, v.masks_ms);
}
template <typename A, Is<std::pair<std::string, std::uint64_t>> T>
void describe(A& a, T& v) {
  a.fields(v.first, v.second);
}
template <typename A, Is<KvDiskStatus> T>
void describe(A& a, T& v) {
  a.fields(v.state, v.message, v.scanning, v.bytes, v.limit_bytes, v.files, v.written_bytes, v.read_bytes, v.rejected);
}
template <typename A, Is<ModelStatus> T>
void describe(A& a, T& v) {
  a.fields(v.name, v.state, v.progress, v.bytes, v.backend, v.device, v.failure, v.on_demand, v.pinned, v.idle_s,
           v.plan, v.kv, v.speculation, v.grammars);
}
template <typename A, Is<StepHistogram> T>
void describe(A& a, T& v) {
  a.fields(v.buckets, v.sum);
}
template <typename A, Is<StepCount> T>
void describe(A& a, T& v) {
  a.fields(v.seconds, v.tokens);
}
template <typename A, Is<StepCounts> T>
void describe(A& a, T& v) {
  a.fields(v.kinds);
}
template <typename A, Is<EngineStatus> T>
void describe(A& a, T& v) {
  a.fields(v.state, v.backend, v.device, v.last_tick, v.last_step, v.steps, v.consecutive_failures, v.restarts,
           v.running, v.waiting, v.running_encodings, v.waiting_encodings, v.kv_blocks, v.kv_blocks_used,
           v.memory_bytes, v.device_bytes, v.budget_bytes, v.level, v.step_drift, v.guard_preempted, v.guard_cancelled,
           v.own_process, v.step_counts, v.models, v.kv_disk);
}
template <typename A, Is<StepBudget> T>
void describe(A& a, T& v) {
  a.fields(v.level, v.cause, v.time_share, v.sequence_share, v.drafts, v.background, v.evicts, v.preempts, v.cancels,
           v.pause);
}
template <typename A, Is<HelloFrame> T>
void describe(A& a, T& v) {
  a.fields(v.version, v.options);
}
template <typename A, Is<GenerateFrame> T>
void describe(A& a, T& v) {
  a.fields(v.request);
}
template <typename A, Is<EncodeFrame> T>
void describe(A& a, T& v) {
  a.fields(v.request);
}
template <typename A, Is<CancelFrame> T>
void describe(A& a, T& v) {
  a.fields(v.id);
}
template <typename A, Is<ShutdownFrame> T>
void describe(A& a, T&) {
  a.fields();
}
template <typename A, Is<GenerateEventFrame> T>
void describe(A& a, T& v) {
  a.fields(v.id, v.event);
}
template <typename A, Is<EncodeReplyFrame> T>
void describe(A& a, T& v) {
  a.fields(v.id, v.reply);
}
template <typename A, Is<HeartbeatFrame> T>
void describe(A& a, T& v) {
  a.fields(v.status);
}
template <typename A, Is<BudgetFrame> T>
void describe(A& a, T& v) {
  a.fields(v.budget);
}
template <typename A, Is<LoadModelFrame> T>
void describe(A& a, T& v) {
  a.fields(v.id, v.model);
}
template <typename A, Is<UnloadModelFrame> T>
void describe(A& a, T& v) {
  a.fields(v.id, v.model);
}
template <typename A, Is<VocabularyFrame> T>
void describe(A& a, T& v) {
  a.fields(v.model, v.texts);
}
template <typename A, Is<ModelDoneFrame> T>
void describe(A& a, T& v) {
  a.fields(v.id, v.error);
}

class Writer {
 public:
  explicit Writer(msgpack::sbuffer* out) : packer_(out) {}

  template <typename... Fields>
  void fields(const Fields&... values) {
    packer_.pack_array(sizeof...(values));
    (item(values), ...);
  }

  template <typename T>
  void item(const T& value) {
    describe(*this, value);
  }
  template <Number T>
  void item(const T& value) {
    packer_.pack(value);
  }
  template <typename E>
    requires std::is_enum_v<E>
  void item(const E& value) {
    packer_.pack(static_cast<std::int64_t>(value));
  }
  void item(ErrorCode code) { item(std::string(name_of(code))); }
  void item(const std::string& value) { packer_.pack(value); }
  void item(std::chrono::milliseconds value) { packer_.pack(static_cast<std::int64_t>(value.count())); }
  void item(std::chrono::steady_clock::time_point value) {
    packer_.pack(static_cast<std::int64_t>(value.time_since_epoch().count()));
  }
  template <Number T>
  void item(const std::vector<T>& values) {
    const std::size_t bytes = values.size() * sizeof(T);
    if (bytes > kMaxFrameBytes) throw Error(ErrorCode::request_too_large, "worker frame: over 16 MiB");
    packer_.pack_bin(static_cast<std::uint32_t>(bytes));
    packer_.pack_bin_body(reinterpret_cast<const char*>(values.data()), static_cast<std::uint32_t>(bytes));
  }
  template <typename T>
  void item(const std::vector<T>& values) {
    if (values.size() > kMaxArray) {
      throw Error(ErrorCode::request_too_large,
                  fmt::format("worker frame: {} items; at most {}", values.size(), kMaxArray));
    }
    packer_.pack_array(static_cast<std::uint32_t>(values.size()));
    for (const T& value : values) item(value);
  }
  // Of a size that both ends know.
  template <typename T, std::size_t Size>
  void item(const std::array<T, Size>& values) {
    packer_.pack_array(Size);
    for (const T& value : values) item(value);
  }
  template <typename T>
  void item(const std::optional<T>& value) {
    if (value) {
      item(*value);
    } else {
      packer_.pack_nil();
    }
  }
  void item(const Error& error) { fields(error.code(), error.message(), error.param()); }

 private:
  msgpack::packer<msgpack::sbuffer> packer_;
};

class Reader {
 public:
  explicit Reader(const msgpack::object& object) : object_(&object) {}

  template <typename... Fields>
  void fields(Fields&... values) {
    const auto elements = array();
    if (elements.size() != sizeof...(values)) {
      refuse(fmt::format("{} fields in place of {}", elements.size(), sizeof...(values)));
    }
    [[maybe_unused]] std::size_t i = 0;
    (Reader(elements[i++]).item(values), ...);
  }

  template <typename T>
  void item(T& value) {
    describe(*this, value);
  }
  void item(bool& value) {
    expect(msgpack::type::BOOLEAN, "a boolean");
    value = object_->via.boolean;
  }
  template <std::integral T>
  void item(T& value) {
    if (object_->type == msgpack::type::POSITIVE_INTEGER && std::in_range<T>(object_->via.u64)) {
      value = static_cast<T>(object_->via.u64);
    } else if (object_->type == msgpack::type::NEGATIVE_INTEGER && std::in_range<T>(object_->via.i64)) {
      value = static_cast<T>(object_->via.i64);
    } else {
      refuse("not an integer in range");
    }
  }
  // The library writes whole numbers as integers, whatever their type.
  template <std::floating_point T>
  void item(T& value) {
    switch (object_->type) {
      case msgpack::type::FLOAT32:
      case msgpack::type::FLOAT64:
        value = static_cast<T>(object_->via.f64);
        break;
      case msgpack::type::POSITIVE_INTEGER:
        value = static_cast<T>(object_->via.u64);
        break;
      case msgpack::type::NEGATIVE_INTEGER:
        value = static_cast<T>(object_->via.i64);
        break;
      default:
        refuse("not a number");
    }
  }
  template <typename E>
    requires std::is_enum_v<E>
  void item(E& value) {
    std::int64_t number = 0;
    item(number);
    if (number < 0 || number >= size_of(E{})) refuse(fmt::format("{} is no value of its enumeration", number));
    value = static_cast<E>(number);
  }
  void item(ErrorCode& code) {
    std::string name;
    item(name);
    code = error_code_of(name);
  }
  void item(std::string& value) {
    expect(msgpack::type::STR, "a text");
    value.assign(object_->via.str.ptr, object_->via.str.size);
  }
  void item(std::chrono::milliseconds& value) {
    std::int64_t count = 0;
    item(count);
    value = std::chrono::milliseconds(count);
  }
  void item(std::chrono::steady_clock::time_point& value) {
    std::int64_t count = 0;
    item(count);
    value = std::chrono::steady_clock::time_point(std::chrono::steady_clock::duration(count));
  }
  template <Number T>
  void item(std::vector<T>& values) {
    expect(msgpack::type::BIN, "binary");
    const auto& binary = object_->via.bin;
    if (binary.size % sizeof(T) != 0) refuse(fmt::format("{} bytes of {}-byte numbers", binary.size, sizeof(T)));
    values.resize(binary.size / sizeof(T));
    if (binary.size > 0) std::memcpy(values.data(), binary.ptr, binary.size);
  }
  template <typename T>
  void item(std::vector<T>& values) {
    for (const msgpack::object& element : array()) Reader(element).item(values.emplace_back());
  }
  template <typename T, std::size_t Size>
  void item(std::array<T, Size>& values) {
    const auto elements = array();
    if (elements.size() != Size) refuse(fmt::format("{} items in place of {}", elements.size(), Size));
    for (std::size_t i = 0; i < Size; ++i) Reader(elements[i]).item(values[i]);
  }
  template <typename T>
  void item(std::optional<T>& value) {
    if (object_->type == msgpack::type::NIL) return;
    item(value.emplace());
  }
  void item(std::optional<Error>& error) {
    if (object_->type == msgpack::type::NIL) return;
    ErrorCode code{};
    std::string message, param;
    fields(code, message, param);
    error.emplace(code, message, param);
  }

  std::span<const msgpack::object> array() const {
    expect(msgpack::type::ARRAY, "an array");
    return {object_->via.array.ptr, object_->via.array.size};
  }

 private:
  void expect(msgpack::type::object_type type, const char* what) const {
    if (object_->type != type) refuse(std::string("not ") + what);
  }

  const msgpack::object* object_;
};

template <std::size_t Kind = 0>
Frame read_frame(std::int64_t kind, const msgpack::object& body) {
  if constexpr (Kind == std::variant_size_v<Frame>) {
    refuse(fmt::format("unknown kind {}", kind));
  } else {
    if (kind != static_cast<std::int64_t>(Kind)) return read_frame<Kind + 1>(kind, body);
    std::variant_alternative_t<Kind, Frame> frame;
    Reader(body).item(frame);
    return frame;
  }
}

// Told apart before the options are read, whose fields another version may have changed.
void check_version(std::int64_t kind, const msgpack::object& body) {
  if (kind != 0) return;
  const auto fields = Reader(body).array();
  std::int64_t version = 0;
  if (fields.empty()) refuse("a hello without a version");
  Reader(fields[0]).item(version);
  if (version != kWireVersion) refuse(fmt::format("version {}; this is {}", version, kWireVersion));
}

}  // namespace

std::string encode_frame(const Frame& frame) {
  msgpack::sbuffer payload;
  msgpack::packer<msgpack::sbuffer> packer(&payload);
  packer.pack_array(2);
  packer.pack(static_cast<std::int64_t>(frame.index()));
  std::visit([&](const auto& body) { Writer(&payload).item(body); }, frame);
  if (payload.size() > kMaxFrameBytes) {
    throw Error(ErrorCode::request_too_large,
                fmt::format("worker frame: {} bytes; at most {}", payload.size(), kMaxFrameBytes));
  }
  const auto length = static_cast<std::uint32_t>(payload.size());
  std::string bytes(kLengthBytes, '\0');
  std::memcpy(bytes.data(), &length, kLengthBytes);
  return bytes.append(payload.data(), payload.size());
}

Frame decode_frame(std::span<const char> payload) {
  if (payload.size() > kMaxFrameBytes) refuse(fmt::format("{} bytes; at most {}", payload.size(), kMaxFrameBytes));
  try {
    const msgpack::unpack_limit limit(kMaxArray, 0, kMaxFrameBytes, kMaxFrameBytes, 0, kMaxDepth);
    std::size_t end = 0;
    const msgpack::object_handle handle = msgpack::unpack(payload.data(), payload.size(), end, nullptr, nullptr, limit);
    if (end != payload.size()) refuse(fmt::format("{} bytes behind its end", payload.size() - end));
    const auto parts = Reader(handle.get()).array();
    if (parts.size() != 2) refuse(fmt::format("{} parts in place of 2", parts.size()));
    std::int64_t kind = 0;
    Reader(parts[0]).item(kind);
    check_version(kind, parts[1]);
    return read_frame(kind, parts[1]);
  } catch (const msgpack::unpack_error& error) {
    refuse(error.what());
  }
}

void FrameBuffer::append(std::span<const char> bytes) {
  bytes_.erase(0, std::exchange(taken_, 0));
  bytes_.append(bytes.data(), bytes.size());
}

std::optional<Frame> FrameBuffer::next() {
  const auto rest = std::span<const char>(bytes_).subspan(taken_);
  if (rest.size() < kLengthBytes) return std::nullopt;
  std::uint32_t length = 0;
  std::memcpy(&length, rest.data(), kLengthBytes);
  if (length > kMaxFrameBytes) refuse(fmt::format("{} bytes; at most {}", length, kMaxFrameBytes));
  if (rest.size() - kLengthBytes < length) return std::nullopt;
  taken_ += kLengthBytes + length;
  return decode_frame(rest.subspan(kLengthBytes, length));
}

}  // namespace cortex
