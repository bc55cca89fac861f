// SPDX-License-Identifier: Apache-2.0
//
// The definitions themselves, on values worked out by hand: every kernel is compared with these.
#include "../catch.hpp"

#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include <notch/ref/add.hpp>
#include <notch/ref/conv.hpp>
#include <notch/ref/gemm.hpp>
#include <notch/ref/pool.hpp>
#include <notch/ref/quantize.hpp>

using namespace notch;
using codes = std::vector<std::uint8_t>;
using weights = std::vector<std::int8_t>;
using sums = std::vector<std::int32_t>;

namespace {
nhwc_view<const std::uint8_t> image(const codes& x, index_t h, index_t w, index_t c) { return {x.data(), 1, h, w, c}; }
sums conv(const codes& x, index_t h, index_t w, index_t c, std::int32_t zero_point, const weights& k, const window& s,
          index_t out, const sums& bias = {}) {
    sums acc(static_cast<std::size_t>(s.out_h(h) * s.out_w(w) * out));
    ref::conv2d(image(x, h, w, c), zero_point, k, s, bias,
                nhwc_view<std::int32_t>(acc.data(), 1, s.out_h(h), s.out_w(w), out));
    return acc;
}
} // namespace

TEST_CASE("ref::gemm: (x - zero_point) * w^T + bias") {
    const codes x{1, 2, 3, 4, 5, 6};
    const weights w{-2, -1, 0, 1, 2, 3};
    const sums bias{10, -10};
    sums acc(4);
    // x - 1 = [0 1 2; 3 4 5]
    ref::gemm(matrix_view(x.data(), 2, 3), 1, matrix_view(w.data(), 2, 3), bias, matrix_view(acc.data(), 2, 2));
    CHECK(acc == sums{-1 + 10, 8 - 10, -10 + 10, 26 - 10});
    ref::gemm(matrix_view(x.data(), 2, 3), 0, matrix_view(w.data(), 2, 3), {}, matrix_view(acc.data(), 2, 2));
    CHECK(acc == sums{-4, 14, -13, 32});
    // Extremes, and K = 0.
    const codes all(4096, 255);
    const weights least(4096, -128);
    ref::gemm(matrix_view(all.data(), 1, 4096), 0, matrix_view(least.data(), 1, 4096), {},
              matrix_view(acc.data(), 1, 1));
    CHECK(acc[0] == -255 * 128 * 4096);
    ref::gemm(matrix_view(x.data(), 2, 0), 9, matrix_view(w.data(), 2, 0), bias, matrix_view(acc.data(), 2, 2));
    CHECK(acc == sums{10, -10, 10, -10});
    CHECK_THROWS_AS(
        ref::gemm(matrix_view(x.data(), 2, 3), 0, matrix_view(w.data(), 3, 2), {}, matrix_view(acc.data(), 2, 3)),
        error);
}

TEST_CASE("ref::conv2d: orientation, padding by the zero point, stride, dilation, channels") {
    const codes four{1, 2, 3, 4};
    codes nine(9);
    std::iota(nine.begin(), nine.end(), std::uint8_t{1});
    CHECK(conv(four, 2, 2, 1, 0, {1, 10, 100, -100}, window::square(2), 1) == sums{1 + 20 + 300 - 400});
    CHECK(conv(four, 2, 2, 1, 1, weights(9, 1), window::square(3, 1, 1), 1) == sums{6, 6, 6, 6});
    CHECK(conv(nine, 3, 3, 1, 0, {1, 0, 0, 0}, window::square(2), 1) == sums{1, 2, 4, 5});
    CHECK(conv(nine, 3, 3, 1, 0, {1}, window::square(1, 2), 1) == sums{1, 3, 7, 9});
    window dilated = window::square(2);
    dilated.dilation_h = dilated.dilation_w = 2;
    CHECK(conv(nine, 3, 3, 1, 0, {1, 2, 3, 4}, dilated, 1) == sums{1 + 6 + 21 + 36});
    window left = window::square(2);
    left.pad_left = 1; // the left column of the window outside the first output
    CHECK(conv(four, 2, 2, 1, 0, {1, 10, 100, 127}, left, 1) == sums{10 + 3 * 127, 1 + 20 + 300 + 4 * 127});
    // Weights [out][kh][kw][in].
    CHECK(conv({1, 2, 3, 4}, 1, 2, 2, 0, {1, 10, -1, 0}, window{}, 2, {5, 0}) == sums{26, -1, 48, -3});
}

TEST_CASE("ref::depthwise: one filter for each channel, [kh][kw][channel]") {
    const codes x{1, 2, 3, 4};
    window s;
    s.kernel_w = 2;
    sums acc(2);
    const weights w{10, 20, 30, 40};
    const sums bias{1, 2};
    ref::depthwise(image(x, 1, 2, 2), 0, w, s, bias, nhwc_view<std::int32_t>(acc.data(), 1, 1, 1, 2));
    CHECK(acc == sums{10 + 90 + 1, 40 + 160 + 2});
    ref::depthwise(image(x, 1, 2, 2), 1, w, s, {}, nhwc_view<std::int32_t>(acc.data(), 1, 1, 1, 2));
    CHECK(acc == sums{60, 20 + 120});
}

TEST_CASE("ref pools: maximum and mean over the taps inside the image") {
    const codes x{1, 2, 3, 5};
    codes y(1);
    const nhwc_view<std::uint8_t> one(y.data(), 1, 1, 1, 1);
    ref::max_pool(image(x, 2, 2, 1), window::square(2), one);
    CHECK(y[0] == 5);
    // ((1 + 2 + 3 + 5) / 4 - 1) * 0.5 = 0.875 = 3.5 steps of 0.25: to even, 4, above 10.
    ref::average_pool(image(x, 2, 2, 1), {0.5f, 1}, window::square(2), {0.25f, 10}, {0, 255}, one);
    CHECK(y[0] == 14);
    // Padding counts for nothing: each corner window sees one pixel.
    codes corners(4);
    ref::average_pool(image(x, 2, 2, 1), {1.0f, 0}, window::square(2, 2, 1), {1.0f, 0}, {0, 255},
                      nhwc_view<std::uint8_t>(corners.data(), 1, 2, 2, 1));
    CHECK(corners == x);
}

TEST_CASE("ref::add: two grids into a third") {
    const codes a{0, 10, 200, 255}, b{128, 130, 255, 0};
    codes y(4);
    // y = (a * 1 + (b - 128) * 2) / 2
    const add_params p = make_add({1.0f, 0}, {2.0f, 128}, {2.0f, 0});
    ref::add<std::uint8_t>(a, b, p, y);
    CHECK(y == codes{0, 7, 227, 0});
}

TEST_CASE("ref::quantize: ties to even, NaN to the zero point, the rest saturates") {
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    const quant_params p{0.5f, 3};
    const auto q = [&](float v) { return ref::quantize(v, p, {0, 255}); };
    CHECK(q(0.0f) == 3);
    CHECK(q(0.25f) == 3); // 0.5 -> 0
    CHECK(q(0.75f) == 5); // 1.5 -> 2
    CHECK(q(-0.75f) == 1);
    CHECK(q(nan) == 3);
    CHECK(q(inf) == 255);
    CHECK(q(-inf) == 0);
    CHECK(q(1e30f) == 255);
    CHECK(ref::dequantize(255, p) == 126.0f);
    CHECK(ref::dequantize(0, p) == -1.5f);
}

TEST_CASE("ref::average_pool refuses what is no code of its type and multipliers that overflow") {
    const codes x{3, 3, 3, 3};
    codes y(1);
    const auto run = [&](quant_params xp, quant_params yp, code_range range) {
        ref::average_pool(image(x, 2, 2, 1), xp, window::square(2), yp, range,
                          nhwc_view<std::uint8_t>(y.data(), 1, 1, 1, 1));
    };
    const float most = std::numeric_limits<float>::max(), least = std::numeric_limits<float>::min();
    CHECK_THROWS_WITH(run({1.0f, 0}, {1.0f, 999}, {0, 255}),
                      contains_text("y_params.zero_point is 999, must be 0..255"));
    CHECK_THROWS_WITH(run({1.0f, -1}, {1.0f, 0}, {0, 255}), contains_text("x_params.zero_point is -1"));
    for (const code_range bad : {code_range{300, -7}, code_range{9, 8}, code_range{-1, 255}, code_range{0, 256}})
        CHECK_THROWS_WITH(run({1.0f, 0}, {1.0f, 0}, bad), contains_text("range is"));
    CHECK_THROWS_WITH(run({0.0f, 0}, {1.0f, 0}, {0, 255}), contains_text("x_params.scale is 0"));
    CHECK_THROWS_WITH(run({1.0f, 0}, {-1.0f, 0}, {0, 255}), contains_text("y_params.scale is -1"));
    CHECK_THROWS_WITH(run({most, 3}, {least, 9}, {0, 255}), contains_text("x_params.scale / y_params.scale"));
    window wide;
    wide.kernel_h = wide.kernel_w = 1 << 12;
    CHECK_THROWS_WITH(ref::average_pool(image(x, 2, 2, 1), {1.0f, 0}, wide, {1.0f, 0}, {0, 255},
                                        nhwc_view<std::uint8_t>(y.data(), 1, 0, 0, 1)),
                      contains_text("16777216 taps, at most 8421504"));
    // The largest multiplier and the smallest one are fine.
    run({most, 3}, {1.0f, 9}, {0, 255});
    CHECK(y[0] == 9); // every tap is at the zero point
    run({most, 2}, {1.0f, 9}, {0, 255});
    CHECK(y[0] == 255);
    run({least, 2}, {most, 9}, {0, 255});
    CHECK(y[0] == 9);
    // int8 codes have zero points and ranges of their own.
    const std::vector<std::int8_t> sx{-4, -2, 2, 0};
    std::vector<std::int8_t> sy(1);
    const nhwc_view<const std::int8_t> in(sx.data(), 1, 2, 2, 1);
    const nhwc_view<std::int8_t> out(sy.data(), 1, 1, 1, 1);
    ref::average_pool(in, {1.0f, -5}, window::square(2), {1.0f, -10}, {-128, 127}, out);
    CHECK(sy[0] == -6); // the mean is -1, 4 steps above -5
    CHECK_THROWS_WITH(ref::average_pool(in, {1.0f, 128}, window::square(2), {1.0f, 0}, {-128, 127}, out),
                      contains_text("must be -128..127"));
    CHECK_THROWS_WITH(ref::average_pool(in, {1.0f, 0}, window::square(2), {1.0f, 0}, {0, 255}, out),
                      contains_text("range is 0..255"));
}

TEST_CASE("make_add rounds both ratios to the nearest, and average_multiplier once") {
    // The ratio of 1 is 2^14 = 16384 and the other one 0.7: 11468.8, or 0.3: 4915.2.
    CHECK(make_add({1.0f, 0}, {0.7f, 0}, {1.0f, 0}).mb == 11469);
    CHECK(make_add({1.0f, 0}, {0.3f, 0}, {1.0f, 0}).mb == 4915);
    CHECK(make_add({0.7f, 0}, {1.0f, 0}, {1.0f, 0}).ma == 11469);
    CHECK(make_add({0.3f, 0}, {1.0f, 0}, {1.0f, 0}).ma == 4915);
    // Ties go to even: 2^-15 of 2^14 is 0.5, three times that 1.5.
    CHECK(make_add({1.0f, 0}, {0x1p-15f, 0}, {1.0f, 0}).mb == 0);
    CHECK(make_add({1.0f, 0}, {0x3p-15f, 0}, {1.0f, 0}).mb == 2);
    CHECK(make_add({0x1p-15f, 0}, {1.0f, 0}, {1.0f, 0}).ma == 0);
    CHECK(make_add({0x3p-15f, 0}, {1.0f, 0}, {1.0f, 0}).ma == 2);
    // With u = 2^-23 and s = 1 + u: s / (7 s) = 1 / 7, whose float lies 3/7 ulp above it. In float 7 s is
    // 7 + 8u instead of 7 + 7u, the quotient 0.16 ulp below 1 / 7 and its float the one before.
    const float s = 1.0f + 0x1p-23f;
    CHECK(ref::average_multiplier(s, s, 7) == 1.0f / 7.0f);
}
