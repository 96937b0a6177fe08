// What http_load says of a run: lines for people, or one JSON object. Pure; any thread.
#pragma once

#include <string>

#include "bench/load/load_run.h"

namespace cortex {

// The share of a core beyond which the client takes too much of a small machine for its figures to be the server's.
inline constexpr double kMostClientCpuShare = 0.1;

// Requests without a complete reply, of all kinds.
int failures_in(const LoadResult& result);

std::string report_text(const LoadOptions& options, const LoadResult& result, const ServiceGoal& goal);
std::string report_json(const LoadOptions& options, const LoadResult& result, const ServiceGoal& goal);

}  // namespace cortex
