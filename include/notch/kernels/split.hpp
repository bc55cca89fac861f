// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/split.hpp: independent rows or elements shared out over the caller's
// executor.
#pragma once

#include <notch/core/parallel.hpp>
#include <notch/core/types.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

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
    struct job {
        const Work& work;
        index_t n, grain, blocks, tasks;
    } j{work, n, grain, blocks, tasks};
    executor.run(tasks, {[](void* context, index_t t) {
                             const job& p = *static_cast<const job*>(context);
                             const index_t share = p.blocks / p.tasks, rest = p.blocks % p.tasks;
                             const index_t first = t * share + (t < rest ? t : rest),
                                           last = first + share + (t < rest ? 1 : 0);
                             p.work(first * p.grain, last < p.blocks ? last * p.grain : p.n);
                         },
                         &j});
}

/// For rows of cols elements: so many rows that a thread has something to do.
[[nodiscard]] constexpr index_t row_grain(index_t cols) noexcept {
    constexpr index_t elements = 4096;
    return cols >= elements ? 1 : cols < 1 ? elements : elements / cols;
}

} // namespace detail
NOTCH_KEYED_END
