// Whether a client's JSON schema is one, as far as a look tells: the engine, which compiles it, finds the rest. Pure;
// any thread.
#pragma once

#include "http/json_body.h"

namespace cortex {

// Throws Error, naming the place: invalid_schema for what is no schema, unsupported_schema for references to other
// documents.
void check_schema(const JsonValue& schema);

}  // namespace cortex
