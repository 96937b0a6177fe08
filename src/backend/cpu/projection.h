// The one heavy thing a layer does: rows times a matrix, spread over the team by output, so that each thread reads its
// own part of the weights once for all rows.
#pragma once

#include <initializer_list>
#include <vector>

#include "backend/cpu/thread_team.h"
#include "backend/cpu/weight_matrix.h"
#include "backend/linear_view.h"

namespace cortex {

struct Projection {
  WeightMatrix weight;  // [out, in]
  WeightMatrix bias;    // one row, or empty
};

// The rows of the parts below one another (fused projections read their input once). All have a bias or none.
Projection read_projection(WeightReader& reader, std::initializer_list<LinearView> parts);

// out [rows, projection.weight.rows] = in [rows, projection.weight.columns] * weight^T + bias.
void project(ThreadTeam& team, const std::vector<float>& in, int rows, const Projection& projection,
             std::vector<float>& out);

}  // namespace cortex
