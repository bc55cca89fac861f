// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the elementwise and row-wise kernels share: an executor with real threads, and codes.
#pragma once

#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <notch/core/error.hpp>
#include <notch/core/parallel.hpp>

struct thread_team {
    notch::index_t threads = 1;
    [[nodiscard]] notch::index_t concurrency() const { return threads; }
    void run(notch::index_t n, notch::task_ref task) const {
        std::vector<std::thread> all;
        for (notch::index_t t = 0; t < threads; ++t)
            all.emplace_back([=, this] {
                for (notch::index_t i = t; i < n; i += threads) task(i);
            });
        for (auto& t : all) t.join();
    }
};

/// Random codes in lo..hi, with both bounds frequent if extremes.
template <class T>
std::vector<T> random_codes(std::mt19937& g, std::size_t n, int lo = std::numeric_limits<T>::min(),
                            int hi = std::numeric_limits<T>::max(), bool extremes = false) {
    std::uniform_int_distribution<int> any(lo, hi);
    std::vector<T> v(n);
    for (T& x : v) x = static_cast<T>(extremes && g() % 2 ? (g() % 2 ? lo : hi) : any(g));
    return v;
}

/// The message of the error that f ends in, or what went wrong instead.
template <class F> std::string error_text(notch::errc code, const F& f) {
    try {
        f();
    } catch (const notch::error& e) {
        return e.code() == code ? e.what() : std::string("another code of error: ") + e.what();
    }
    return "no error";
}
