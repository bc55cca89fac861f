// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/split.hpp: independent rows or elements shared out over the caller's
// executor.
#pragma once

#include <notch/core/parallel.hpp>
#include <notch/core/types.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// Calls task(0) ... task(tasks - 1) on the threads of the executor. task does not throw.
template <class Task> void parallel(const executor_ref& executor, index_t tasks, const Task& task) {
    executor.run(tasks, {[](void* context, index_t t) { (*static_cast<const Task*>(context))(t); },
                         const_cast<void*>(static_cast<const void*>(&task))});
}

/// Calls work(begin, end) for disjoint intervals that cover 0..n-1, at most one for each thread of the
/// executor and none much shorter than grain. Their borders are multiples of grain. work does not throw.
template <class Work> void split(const executor_ref& executor, index_t n, index_t grain, const Work& work) {
    if (n <= 0) return;
    const index_t blocks = (n - 1) / grain + 1, threads = executor.concurrency();
    const index_t tasks = threads < blocks ? threads : blocks;
    if (tasks <= 1) {
        work(index_t{0}, n);
        return;
    }
    const index_t share = blocks / tasks, rest = blocks % tasks;
    parallel(executor, tasks, [&](index_t t) {
        const index_t first = t * share + (t < rest ? t : rest), last = first + share + (t < rest ? 1 : 0);
        work(first * grain, last < blocks ? last * grain : n);
    });
}

/// For rows of cols elements: so many rows that a thread has something to do.
[[nodiscard]] constexpr index_t row_grain(index_t cols) noexcept {
    constexpr index_t elements = 4096;
    return cols >= elements ? 1 : cols < 1 ? elements : elements / cols;
}

} // namespace detail
NOTCH_KEYED_END
