// How the engine calls its sinks: one that throws loses its event, nothing else.
#pragma once

#include <utility>

#include "engine/failure.h"
#include "engine/request.h"

namespace cortex {

template <typename Sink, typename Event>
void call(const Sink& sink, Event event) noexcept {
  try {
    sink(std::move(event));
  } catch (...) {
    log_failure("a sink threw", caught_error());
  }
}

inline void fail(const GenerateSink& sink, const Error& error) noexcept {
  GenerateEvent event;
  event.error = copy_of(error);
  call(sink, std::move(event));
}

inline void fail(const EncodeSink& sink, const Error& error) noexcept {
  EncodeReply reply;
  reply.error = copy_of(error);
  call(sink, std::move(reply));
}

}  // namespace cortex
