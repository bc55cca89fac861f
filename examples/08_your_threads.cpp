// SPDX-License-Identifier: Apache-2.0
//
// Threads belong to the caller: a context takes any object with concurrency() and run(n, task). Three
// adapters, for plain threads, OpenMP and oneTBB; take the one that your program has already. The codes
// are the same for any of them and any number of threads.
#include <cstdio>
#include <thread>
#include <vector>

#include <notch/kernels/gemm.hpp>
#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(NOTCH_EXAMPLE_TBB)
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>
#endif

/// New threads for every call: simple. A pool that keeps its threads has the same two functions.
struct plain_threads {
    notch::index_t threads;
    [[nodiscard]] notch::index_t concurrency() const { return threads; }
    void run(notch::index_t n, notch::task_ref task) const {
        std::vector<std::jthread> team;
        for (notch::index_t t = 1; t < threads; ++t) team.emplace_back([=, this] { work(t, n, task); });
        work(0, n, task);
    }
    void work(notch::index_t first, notch::index_t n, notch::task_ref task) const {
        for (notch::index_t i = first; i < n; i += threads) task(i);
    }
};

#if defined(_OPENMP)
struct openmp {
    [[nodiscard]] notch::index_t concurrency() const { return omp_get_max_threads(); }
    void run(notch::index_t n, notch::task_ref task) const {
#pragma omp parallel for schedule(dynamic, 1)
        for (notch::index_t i = 0; i < n; ++i) task(i);
    }
};
#endif

#if defined(NOTCH_EXAMPLE_TBB)
struct one_tbb {
    [[nodiscard]] notch::index_t concurrency() const { return tbb::this_task_arena::max_concurrency(); }
    void run(notch::index_t n, notch::task_ref task) const {
        tbb::parallel_for(notch::index_t{0}, n, [=](notch::index_t i) { task(i); });
    }
};
#endif

int main() {
    const notch::index_t m = 64, n = 200, k = 96;
    std::vector<std::uint8_t> x(static_cast<std::size_t>(m * k));
    std::vector<std::int8_t> weights(static_cast<std::size_t>(n * k));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<std::uint8_t>(i * 31);
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<std::int8_t>(i * 57);
    const std::vector<float> w_scale{0.01f};
    const auto w = notch::pack({weights.data(), n, k});
    const auto ep = notch::make_epilogue(w, notch::stage::requantize{{0.02f, 128}, w_scale, {0.05f, 100}});
    const auto run = [&](const notch::context& ctx) {
        std::vector<std::uint8_t> y(static_cast<std::size_t>(m * n));
        notch::gemm(notch::matrix_view<const std::uint8_t>(x.data(), m, k), w, ep,
                    notch::matrix_view<std::uint8_t>(y.data(), m, n), ctx);
        return y;
    };

    const auto serial = run(notch::context());
    bool same = true;
    const auto check = [&](const char* name, auto executor) {
        const bool equal = run(notch::context(executor)) == serial; // the executor outlives the context
        std::printf("%-14s %2td threads: %s\n", name, executor.concurrency(), equal ? "the same codes" : "OTHER CODES");
        same = same && equal;
    };
    check("std::jthread", plain_threads{3});
#if defined(_OPENMP)
    check("OpenMP", openmp{});
#endif
#if defined(NOTCH_EXAMPLE_TBB)
    check("oneTBB", one_tbb{});
#endif
    return same ? 0 : 1;
}
