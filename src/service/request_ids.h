// Ids for the engine's requests, unique in this process. Any thread.
#pragma once

#include "engine/engine.h"

namespace cortex {

RequestId next_request_id();

}  // namespace cortex
