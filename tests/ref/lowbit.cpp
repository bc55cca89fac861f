// SPDX-License-Identifier: Apache-2.0
//
// The definitions for codes of one and two bits, on values worked out by hand.
#include "../catch.hpp"

#include <cstdint>
#include <limits>
#include <vector>

#include <notch/ref/lowbit.hpp>

using namespace notch;
using codes = std::vector<std::int8_t>;
using sums = std::vector<std::int32_t>;

TEST_CASE("ref::signed_gemm: x * w^T + bias") {
    const codes x{1, -1, 1, -1, -1, 1}, w{1, 1, -1, 0, -1, 1};
    const sums bias{10, -10};
    sums acc(4);
    ref::signed_gemm({x.data(), 2, 3}, {w.data(), 2, 3}, bias, {acc.data(), 2, 2});
    CHECK(acc == sums{-1 + 10, 2 - 10, -3 + 10, 2 - 10});
}

TEST_CASE("ref::signed_conv2d: what lies outside the image") {
    const codes x{1, -1}, w{1, 1, 1}; // two pixels, a kernel of 1 x 3
    window s;
    s.kernel_w = 3;
    s.pad_left = s.pad_right = 1;
    const auto conv = [&](std::int32_t outside) {
        sums acc(2);
        ref::signed_conv2d({x.data(), 1, 1, 2, 1}, outside, w, s, {}, {acc.data(), 1, 1, 2, 1});
        return acc;
    };
    CHECK(conv(0) == sums{0, 0});
    CHECK(conv(-1) == sums{-1, -1});
    CHECK(conv(1) == sums{1, 1});
    s.pad_right = 0; // one output: outside, 1, -1
    sums acc(1);
    ref::signed_conv2d({x.data(), 1, 1, 2, 1}, -1, codes{5, 2, -3}, s, sums{100}, {acc.data(), 1, 1, 1, 1});
    CHECK(acc == sums{-5 + 2 + 3 + 100});
}

TEST_CASE("ref::binary and ref::ternary: thresholds, zeros of both signs, NaN") {
    const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
    const std::vector<float> x{0.0f, -0.0f, 0.5f, 0.49f, -0.5f, -0.51f, inf, -inf, nan};
    codes out(x.size());
    ref::binary(x, 0.0f, out);
    CHECK(out == codes{1, 1, 1, 1, -1, -1, 1, -1, -1});
    ref::binary(x, 0.5f, out);
    CHECK(out == codes{-1, -1, 1, -1, -1, -1, 1, -1, -1});
    ref::ternary(x, 0.5f, out);
    CHECK(out == codes{0, 0, 0, 0, 0, -1, 1, -1, 0});
    ref::ternary(x, 0.0f, out);
    CHECK(out == codes{0, 0, 1, 1, -1, -1, 1, -1, 0});
}
