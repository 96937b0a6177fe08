// The one heavy thing a layer does: rows times a matrix, spread over the team by output, so that each thread reads its
// own part of the weights once for all rows.
#pragma once

#include <vector>

#include "backend/cpu/thread_team.h"
#include "backend/cpu/weight_matrix.h"

namespace cortex {

// out [rows, weight.rows] = in [rows, weight.columns] * weight^T + bias; `bias` is empty or one row.
void project(ThreadTeam& team, const std::vector<float>& in, int rows, const WeightMatrix& weight,
             const WeightMatrix& bias, std::vector<float>& out);

}  // namespace cortex
