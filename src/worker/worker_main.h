// The worker process: an engine behind a socket. Called by `cortex worker`, on the process's main thread.
#pragma once

#include <functional>
#include <memory>

#include "engine/engine.h"
#include "engine/engine_options.h"

namespace cortex {

// Where the supervisor puts the worker's end of the socket pair.
inline constexpr int kWorkerDescriptor = 3;

using MakeEngine = std::function<std::unique_ptr<Engine>(const EngineOptions&)>;

// Serves the front at the other end of `descriptor`, which it takes over, until that end closes or says to shut down.
// Returns the process's exit status: 0, or 70 when the front spoke nonsense or no engine could be made.
//
// With a LocalEngine, CORTEX_TEST_FAULT makes it die for tests: worker/test_fault.h.
//
// A heartbeat goes out when the engine's loop has turned since the last one, at most every 50 ms (or every
// idle_turn_ms, where that is shorter): an engine that hangs falls silent. After the end of the stream the process ends
// within a second, whatever the engine does.
int run_worker(int descriptor);  // with a LocalEngine
int run_worker(int descriptor, const MakeEngine& make_engine);

}  // namespace cortex
