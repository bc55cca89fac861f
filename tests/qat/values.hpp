// SPDX-License-Identifier: Apache-2.0
//
// Values that the tests of qat share.
#pragma once

#include <cstddef>
#include <limits>
#include <random>
#include <span>
#include <vector>

inline constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
inline constexpr float infinity = std::numeric_limits<float>::infinity();

inline std::vector<float> randoms(unsigned seed, std::size_t n, float lo, float hi) {
    std::mt19937 g(seed);
    std::vector<float> v(n);
    for (float& x : v) x = lo + (hi - lo) * static_cast<float>(g() % 20001) / 20000.0f;
    return v;
}
template <class T> std::vector<T> vec(std::span<const T> s) { return {s.begin(), s.end()}; }
