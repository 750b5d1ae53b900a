// Threads for the CPU kernels: torch's own pool, so torch.set_num_threads rules.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>

namespace cips3d {

// Number of workers worth starting for `tasks` independent pieces of work.
inline int64_t worker_count(int64_t tasks) {
  return std::max<int64_t>(1, std::min<int64_t>(tasks, torch::stable::get_num_threads()));
}

// Runs body(worker, begin, end) once for each of `workers` contiguous shares of [0, tasks). The shares depend on
// `tasks` and `workers` alone: per-worker partial sums reduced in worker order are the same in every run with as many
// threads. The body must not throw (torch's pool loses the message): check arguments before.
template <class Body>
void parallel_shares(int64_t tasks, int64_t workers, const Body& body) {
  torch::stable::parallel_for(0, workers, 1, [&](int64_t first, int64_t last) {
    for (int64_t worker = first; worker < last; ++worker)
      body(worker, tasks * worker / workers, tasks * (worker + 1) / workers);
  });
}

}  // namespace cips3d
