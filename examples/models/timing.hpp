// SPDX-License-Identifier: Apache-2.0
//
// Medians of times; and the latency of one network by itself, for scripts that take turns with other libraries
// (scripts/peers.py):
//
//     models_cnn --time resnet50 --threads 2 --seconds 1     prints: resnet50, tab, milliseconds
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <utility>
#include <vector>

#include <notch/core/parallel.hpp>
#include <notch/kernels/table.hpp>

#include "../../bench/common/threads.hpp"

namespace models {

/// The median of values of which there is one; of an even number the upper one of the middle.
inline double median(std::vector<double> x) {
    const auto middle = x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2);
    std::nth_element(x.begin(), middle, x.end());
    return *middle;
}

/// The median of 200 calls in milliseconds, after 20 to warm up.
template <class F> double median_ms(const F& f) {
    std::vector<double> times;
    for (int i = 0; i < 220; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        f();
        const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - begin;
        if (i >= 20) times.push_back(time.count());
    }
    return median(std::move(times));
}

/// Median time of f in milliseconds over so many seconds, at least three calls, after one to warm up.
template <class F> double median_ms(double seconds, const F& f) {
    using clock = std::chrono::steady_clock;
    f();
    std::vector<double> ms;
    for (const auto end = clock::now() + std::chrono::duration<double>(seconds); ms.size() < 3 || clock::now() < end;) {
        const auto begin = clock::now();
        f();
        ms.push_back(std::chrono::duration<double, std::milli>(clock::now() - begin).count());
    }
    return median(std::move(ms));
}

/// The same of f(context) with so many threads.
template <class F> double median_ms(double seconds, int threads, const F& f) {
    bench::spinning_threads others(threads);
    notch::executor_ref executor(others);
    notch::context ctx;
    if (threads > 1) ctx.executor = executor;
    return median_ms(seconds, [&] { f(ctx); });
}

/// The line that scripts/peers.py reads.
inline void print_time(const char* name, double ms) { std::printf("%s\t%.5f\n", name, ms); }

} // namespace models
