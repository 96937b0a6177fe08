// What OpenAI's two generating endpoints have in common: options of streams, usage, and what a reply begins with. Pure
// functions; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_writer.h"
#include "http/json_body.h"
#include "service/generation.h"

namespace cortex {

inline constexpr int kMostChoicesPerPrompt = 16;
inline constexpr std::size_t kMostOpenaiStops = 4;

struct OpenaiStreamOptions {
  bool stream = false;
  bool usage = false;             // one more chunk at the end tells it, all others null
  bool continuous_usage = false;  // every chunk tells it
  bool explain = false;           // one more chunk at the end has the timings
};

// stream, stream_options, explain. Throws Error invalid_type; invalid_value for stream_options without stream.
OpenaiStreamOptions read_stream_options(const JsonValue& body);

// What every object of one reply begins with.
struct OpenaiEnvelope {
  std::string id;
  std::int64_t created_s = 0;  // Unix time
  std::string model;
  bool logprobs = false;
  OpenaiStreamOptions options;
};

// Opens the object and leaves it open.
void begin_openai_object(JsonWriter& json, const OpenaiEnvelope& envelope, std::string_view object);

void write_openai_usage(JsonWriter& json, const GenerationUsage& usage);
// The `usage` key of a chunk that is not the one for usage.
void write_chunk_usage(JsonWriter& json, const OpenaiEnvelope& envelope, const GenerationUsage& usage);
// A stream's chunks behind those of its choices: one with usage and timings, if either is asked for.
std::vector<std::string> openai_last_chunks(const OpenaiEnvelope& envelope, std::string_view object,
                                            const GenerationEnd& end);

}  // namespace cortex
