// SPDX-License-Identifier: Apache-2.0
//
// What the parts of models_rnn measure.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "../results.hpp"

namespace rnn {

struct report {
    std::vector<models::result> rows;
    std::int64_t different = 0; ///< codes of frozen networks that training does not give
    bool lost = false;          ///< INT8 was worse than it may be
};

/// The median of 200 calls.
template <class F> double median_ms(const F& f) {
    std::vector<double> times;
    for (int i = 0; i < 220; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        f();
        const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - begin;
        if (i >= 20) times.push_back(time.count());
    }
    std::nth_element(times.begin(), times.begin() + 100, times.end());
    return times[100];
}

} // namespace rnn
