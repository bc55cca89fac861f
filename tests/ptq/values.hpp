// SPDX-License-Identifier: Apache-2.0
//
// Values that the tests of ptq share.
#pragma once

#include <cstddef>
#include <random>
#include <vector>

inline std::vector<float> normal_values(std::size_t n, unsigned seed) {
    std::mt19937 g(seed);
    std::normal_distribution<float> d;
    std::vector<float> x(n);
    for (float& v : x) v = d(g);
    return x;
}
