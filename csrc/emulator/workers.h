// A pool of threads that lives from the first launch to the end of the process, and starts anew after fork().
#pragma once

#include <cstdint>
#include <functional>

namespace kernelevo {

// Runs `work` on `threads` threads at once (0: as many as the process may use cores), but no more than `items`; the caller
// is one of them. Returns when all have returned. Concurrent calls run one after another.
void run_on_workers(int threads, uint64_t items, const std::function<void()>& work);

}  // namespace kernelevo
