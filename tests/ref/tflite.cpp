// SPDX-License-Identifier: Apache-2.0
//
// The int8 rules of TensorFlow Lite against values computed by hand from the formulas of notch/ref/tflite.hpp. Whole
// models are compared with LiteRT by examples/mlperf_tiny.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include <notch/ref/tflite.hpp>
#include <notch/ref/tflite_pool.hpp>
#include <notch/ref/tflite_softmax.hpp>

#include "../catch.hpp"

namespace tflite = notch::tflite;
using notch::index_t;
using s8 = std::int8_t;

namespace {

template <class F> void refused(notch::errc code, F&& f) {
    try {
        f();
        FAIL("no error");
    } catch (const notch::error& e) {
        CAPTURE(std::string(e.what()));
        CHECK(static_cast<int>(e.code()) == static_cast<int>(code));
    }
}
std::vector<int> ints(const std::vector<s8>& codes) { return {codes.begin(), codes.end()}; }

} // namespace

TEST_CASE("tflite: a fused activation is a range of codes") {
    using tflite::activation;
    const auto range = [](activation a, notch::quant_params y) {
        const auto r = tflite::activation_range(a, y);
        return std::vector<int>{r.lo, r.hi};
    };
    CHECK(range(activation::none, {0.1f, -10}) == std::vector<int>{-128, 127});
    CHECK(range(activation::relu, {0.1f, -10}) == std::vector<int>{-10, 127});
    CHECK(range(activation::relu6, {0.1f, -10}) == std::vector<int>{-10, 50});
    CHECK(range(activation::relu_n1_to_1, {0.1f, -10}) == std::vector<int>{-20, 0});
    CHECK(range(activation::relu6, {0.01f, -128}) == std::vector<int>{-128, 127});
    // 6 / 12 and 1 / 2 are halves: away from zero.
    CHECK(range(activation::relu6, {12.0f, 5}) == std::vector<int>{5, 6});
    CHECK(range(activation::relu_n1_to_1, {2.0f, 5}) == std::vector<int>{4, 6});
    CHECK(range(activation::relu6, {1e-30f, 127}) == std::vector<int>{127, 127});
    refused(notch::errc::invalid_argument, [] { (void)tflite::activation_range(activation::relu, {0.0f, 0}); });
    refused(notch::errc::invalid_argument, [] { (void)tflite::activation_range(activation::relu, {1.0f, 128}); });
    refused(notch::errc::invalid_argument, [] {
        (void)tflite::activation_range(static_cast<activation>(9), {1.0f, 0});
    });
}

TEST_CASE("tflite: paddings of SAME and VALID") {
    notch::window s;
    s.kernel_h = 10;
    s.kernel_w = 4;
    s.stride_h = s.stride_w = 2;
    // The first layer of keyword spotting: 25 x 5 outputs of 49 x 10 pixels; (25 - 1) 2 + 10 - 49 = 9 rows, 2 columns.
    const auto same = tflite::padded(s, tflite::padding::same, 49, 10);
    CHECK(same.pad_top == 4);
    CHECK(same.pad_bottom == 5);
    CHECK(same.pad_left == 1);
    CHECK(same.pad_right == 1);
    s.pad_top = 7;
    const auto valid = tflite::padded(s, tflite::padding::valid, 49, 10);
    CHECK(valid.pad_top == 0);
    CHECK(valid.out_h(49) == 20);
    for (index_t in = 1; in < 20; ++in)
        for (index_t kernel = 1; kernel < 8; ++kernel)
            for (index_t stride = 1; stride < 5; ++stride)
                for (index_t dilation = 1; dilation < 3; ++dilation) {
                    notch::window w;
                    w.kernel_h = w.kernel_w = kernel;
                    w.stride_h = w.stride_w = stride;
                    w.dilation_h = w.dilation_w = dilation;
                    w = tflite::padded(w, tflite::padding::same, in, in + 1);
                    CAPTURE(in, kernel, stride, dilation);
                    CHECK(w.out_h(in) == (in + stride - 1) / stride);
                    CHECK(w.out_w(in + 1) == (in + stride) / stride);
                }
    refused(notch::errc::invalid_argument, [&] { (void)tflite::padded(s, tflite::padding::same, -1, 4); });
    s.stride_h = 0;
    refused(notch::errc::invalid_argument, [&] { (void)tflite::padded(s, tflite::padding::same, 4, 4); });
}

TEST_CASE("tflite: a fully connected layer rounds halves away from zero, in double") {
    const float w[] = {0.5f};
    const auto p = tflite::make_rescale({1.0f, 0}, w, {1.0f, 0});
    const std::vector<std::int32_t> acc{1,
                                        -1,
                                        3,
                                        -3,
                                        5,
                                        -5,
                                        1000,
                                        -1000,
                                        std::numeric_limits<std::int32_t>::max(),
                                        std::numeric_limits<std::int32_t>::min()};
    std::vector<s8> y(acc.size());
    tflite::rescale({acc.data(), 2, 5}, p, {y.data(), 2, 5});
    CHECK(ints(y) == std::vector<int>{1, -1, 2, -2, 3, -3, 127, -128, 127, -128});

    // Per channel, with a zero point and a ReLU.
    const float channels[] = {0.5f, 2.0f};
    const auto q = tflite::make_rescale({0.5f, 7}, channels, {0.25f, -20}, tflite::activation::relu);
    const std::vector<std::int32_t> sums{-30, -3, 31, 4}; // times 1 and 4
    std::vector<s8> z(4);
    tflite::rescale({sums.data(), 2, 2}, q, {z.data(), 2, 2});
    CHECK(ints(z) == std::vector<int>{-20, -20, 11, -4});

    refused(notch::errc::invalid_argument, [] { (void)tflite::make_rescale({1.0f, 0}, {}, {1.0f, 0}); });
    refused(notch::errc::invalid_argument, [&] { (void)tflite::make_rescale({-1.0f, 0}, w, {1.0f, 0}); });
    refused(notch::errc::invalid_argument, [] {
        const float nan[] = {std::numeric_limits<float>::quiet_NaN()};
        (void)tflite::make_rescale({1.0f, 0}, nan, {1.0f, 0});
    });
    refused(notch::errc::shape_mismatch, [&] { tflite::rescale({sums.data(), 1, 3}, q, {z.data(), 1, 3}); });
    refused(notch::errc::shape_mismatch, [&] { tflite::rescale({sums.data(), 1, 2}, q, {z.data(), 2, 1}); });
}

TEST_CASE("tflite: add") {
    // Equal scales: T(q) = q 2^19, the output's multiplier 2^-19.
    const std::vector<s8> a{3, 100, -100, 0, -128}, b{4, 100, -100, -1, 127};
    std::vector<s8> y(5);
    tflite::ref::add(a, b, tflite::make_add({1.0f, 0}, {1.0f, 0}, {1.0f, 0}), y);
    CHECK(ints(y) == std::vector<int>{7, 127, -128, -1, -1});
    // An output twice as coarse: halves away from zero.
    const std::vector<s8> c{1, -1, 3, -3, 2}, zeros(5);
    tflite::ref::add(c, zeros, tflite::make_add({1.0f, 0}, {1.0f, 0}, {2.0f, 0}), y);
    CHECK(ints(y) == std::vector<int>{1, -1, 2, -2, 1});
    // Zero points and a ReLU6: (q - 5) 0.5 + (q + 3) 0.25 on the grid 0.25 with zero point -100: 6 is code -76.
    const std::vector<s8> d{5, 7, 4, 127, -128}, e{-3, -2, -3, 0, -128};
    tflite::ref::add(d, e, tflite::make_add({0.5f, 5}, {0.25f, -3}, {0.25f, -100}, tflite::activation::relu6), y);
    CHECK(ints(y) == std::vector<int>{-100, -95, -100, -76, -100});
    // In place.
    std::vector<s8> in_place = a;
    tflite::ref::add(in_place, b, tflite::make_add({1.0f, 0}, {1.0f, 0}, {1.0f, 0}), in_place);
    CHECK(ints(in_place) == std::vector<int>{7, 127, -128, -1, -1});

    // Against real numbers: the inputs are kept to within 2^-20 of the larger scale, so a code is at most one off
    // from the rounded sum, and only near halves.
    std::mt19937 random(1);
    const notch::quant_params pa{0.0517f, 11}, pb{0.0213f, -60}, py{0.0731f, -4};
    const auto p = tflite::make_add(pa, pb, py);
    for (int i = 0; i < 2000; ++i) {
        const s8 qa[] = {static_cast<s8>(random())}, qb[] = {static_cast<s8>(random())};
        s8 qy[1];
        tflite::ref::add(qa, qb, p, qy);
        const double real = (qa[0] - 11) * static_cast<double>(pa.scale) + (qb[0] + 60) * static_cast<double>(pb.scale);
        const double code = std::min(127.0, std::max(-128.0, real / static_cast<double>(py.scale) - 4));
        CHECK(std::abs(qy[0] - code) < 0.5001);
    }

    refused(notch::errc::invalid_argument, [] { (void)tflite::make_add({1.0f, 0}, {1.0f, 0}, {1e-6f, 0}); });
    refused(notch::errc::invalid_argument, [] { (void)tflite::make_add({1.0f, 200}, {1.0f, 0}, {1.0f, 0}); });
    refused(notch::errc::shape_mismatch, [&] {
        tflite::ref::add(a, zeros, tflite::make_add({1.0f, 0}, {1.0f, 0}, {1.0f, 0}), std::span(y).first(4));
    });
}

TEST_CASE("tflite: poolings look at the codes inside the image") {
    // Two channels, so that both halves of each test run: 3 and -3 are 1.5 and -1.5 over two taps.
    const std::vector<s8> x{1, -1, 2, -2, 100, -128}; // 1 x 3 pixels
    notch::window s;
    s.kernel_w = 2;
    const auto same = tflite::padded(s, tflite::padding::same, 1, 3); // one pixel more to the right
    std::vector<s8> y(6);
    tflite::average_pool(notch::nhwc_view<const s8>(x.data(), 1, 1, 3, 2), same,
                         notch::nhwc_view<s8>(y.data(), 1, 1, 3, 2));
    CHECK(ints(y) == std::vector<int>{2, -2, 51, -65, 100, -128});
    tflite::average_pool(notch::nhwc_view<const s8>(x.data(), 1, 1, 3, 2), same,
                         notch::nhwc_view<s8>(y.data(), 1, 1, 3, 2), {-60, 60});
    CHECK(ints(y) == std::vector<int>{2, -2, 51, -60, 60, -60});
    tflite::max_pool(notch::nhwc_view<const s8>(x.data(), 1, 1, 3, 2), same, notch::nhwc_view<s8>(y.data(), 1, 1, 3, 2),
                     {-100, 60});
    CHECK(ints(y) == std::vector<int>{2, -1, 60, -2, 60, -100});

    // More channels than a block of the loops.
    std::vector<s8> wide(4 * 130), out(130);
    for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = static_cast<s8>(i * 31);
    tflite::average_pool(notch::nhwc_view<const s8>(wide.data(), 1, 2, 2, 130), notch::window::square(2),
                         notch::nhwc_view<s8>(out.data(), 1, 1, 1, 130));
    for (std::size_t c = 0; c < 130; ++c) {
        const int sum = wide[c] + wide[130 + c] + wide[260 + c] + wide[390 + c];
        CHECK(out[c] == (sum > 0 ? sum + 2 : sum - 2) / 4);
    }

    const notch::nhwc_view<const s8> in(x.data(), 1, 1, 3, 2);
    refused(notch::errc::shape_mismatch,
            [&] { tflite::max_pool(in, same, notch::nhwc_view<s8>(y.data(), 1, 1, 2, 2)); });
    refused(notch::errc::invalid_argument, [&] {
        tflite::max_pool(in, same, notch::nhwc_view<s8>(y.data(), 1, 1, 3, 2), {5, 4});
    });
    notch::window outside = notch::window::square(1);
    outside.pad_right = 1;
    std::vector<s8> more(8, 77);
    refused(notch::errc::invalid_argument,
            [&] { tflite::average_pool(in, outside, notch::nhwc_view<s8>(more.data(), 1, 1, 4, 2)); });
    CHECK(more == std::vector<s8>(8, 77)); // not even the windows before it
    notch::window below = notch::window::square(1);
    below.pad_bottom = 1;
    std::vector<s8> two_rows(12, 77);
    refused(notch::errc::invalid_argument,
            [&] { tflite::max_pool(in, below, notch::nhwc_view<s8>(two_rows.data(), 1, 2, 3, 2)); });
    CHECK(two_rows == std::vector<s8>(12, 77));
    // Two taps about the one pixel of an image, which falls between them.
    notch::window apart = notch::window::square(1);
    apart.kernel_w = 2;
    apart.dilation_w = 4;
    apart.pad_left = apart.pad_right = 2;
    refused(notch::errc::invalid_argument, [&] {
        tflite::max_pool(notch::nhwc_view<const s8>(x.data(), 1, 1, 1, 2), apart,
                         notch::nhwc_view<s8>(y.data(), 1, 1, 1, 2));
    });
    apart.dilation_w = 2; // and now it does not
    apart.pad_right = 0;
    tflite::max_pool(notch::nhwc_view<const s8>(x.data(), 1, 1, 1, 2), apart,
                     notch::nhwc_view<s8>(y.data(), 1, 1, 1, 2));
    CHECK(y[0] == x[0]);
    CHECK(y[1] == x[1]);
}

TEST_CASE("tflite: mean") {
    const auto mean = [](std::vector<s8> x, notch::quant_params from, notch::quant_params to) {
        const auto n = static_cast<index_t>(x.size());
        s8 y[1];
        tflite::mean(notch::nhwc_view<const s8>(x.data(), 1, 1, n, 1), tflite::make_mean(from, to, n),
                     notch::matrix_view<s8>(y, 1, 1));
        return static_cast<int>(y[0]);
    };
    // Two elements: 2^30 / 2^31; halves toward +infinity.
    CHECK(mean({1, 0}, {1.0f, 0}, {1.0f, 0}) == 1);
    CHECK(mean({-1, 0}, {1.0f, 0}, {1.0f, 0}) == 0);
    // Three: the multiplier is cut to 715827882 / 2^31.
    const auto p = tflite::make_mean({1.0f, 0}, {1.0f, 0}, 3);
    CHECK(p.multiplier.mantissa == 715827882);
    CHECK(p.multiplier.shift == 0);
    CHECK(mean({1, 1, 0}, {1.0f, 0}, {1.0f, 0}) == 1);
    CHECK(mean({1, 0, 0}, {1.0f, 0}, {1.0f, 0}) == 0);
    // (10 - 4 + 20 - 4) / 2 = 11 steps of 0.5 are 22 of 0.25, from -100 on.
    CHECK(mean({10, 20}, {0.5f, 4}, {0.25f, -100}) == -78);
    CHECK(mean({127, 127}, {1.0f, -128}, {0.01f, 0}) == 127);
    refused(notch::errc::invalid_argument, [] { (void)tflite::make_mean({1.0f, 0}, {1.0f, 0}, 0); });
    refused(notch::errc::invalid_argument, [] { (void)tflite::make_mean({1.0f, 0}, {1e-30f, 0}, 2); });
    s8 x[2] = {}, y[1];
    refused(notch::errc::shape_mismatch,
            [&] { tflite::mean(notch::nhwc_view<const s8>(x, 1, 1, 2, 1), p, notch::matrix_view<s8>(y, 1, 1)); });
}

TEST_CASE("tflite: codes to another grid") {
    const std::vector<s8> x{1, -1, 3, -3, 127, -128};
    std::vector<s8> y(6);
    tflite::requantize(x, {1.0f, 0}, {2.0f, 0}, y); // halves toward +infinity
    CHECK(ints(y) == std::vector<int>{1, 0, 2, -1, 64, -64});
    tflite::requantize(x, {1.0f, 1}, {0.5f, -10}, y); // times 2
    CHECK(ints(y) == std::vector<int>{-10, -14, -6, -18, 127, -128});
    refused(notch::errc::shape_mismatch, [&] { tflite::requantize(x, {1, 0}, {1, 0}, std::span(y).first(2)); });
    refused(notch::errc::invalid_argument, [&] { tflite::requantize(x, {1, 0}, {0, 0}, y); });
}

TEST_CASE("tflite: the functions of softmax") {
    using tflite::detail::exp_q26;
    using tflite::detail::reciprocal_of_one_plus;
    struct value {
        std::int32_t x, y;
    };
    // gemmlowp's exp_on_negative_values and one_over_one_plus_x_for_x_in_0_1.
    const value exponentials[] = {{0, 2147483647},         {-1, 2147483124},        {-1048576, 2114189749},
                                  {-16777216, 1672462419}, {-16777217, 1672461539}, {-67121209, 789869591},
                                  {-335544419, 14469606},  {-806084145, 13043},     {-1140850693, 89},
                                  {-2080374784, 0}};
    for (value v : exponentials) CHECK(exp_q26(v.x) == v.y);
    const value reciprocals[] = {{0, 2147483647},         {1, 2147483647},          {1048576, 2146435584},
                                 {123456789, 2030738432}, {1073741824, 1431655762}, {2000000000, 1111923858},
                                 {2147483647, 1073741820}};
    for (value v : reciprocals) CHECK(reciprocal_of_one_plus(v.x) == v.y);
    for (double x : {0.001, 0.1, 0.25, 0.3, 0.5, 0.999, 1.0, 2.7, 4.0, 8.0, 9.3, 17.0, 30.9}) {
        CAPTURE(x);
        const double got = exp_q26(static_cast<std::int32_t>(-x * 67108864.0)) / 2147483648.0;
        CHECK(std::abs(got - std::exp(-x)) < 1e-6);
    }
    CHECK(tflite::detail::saturating_shift(1 << 29, 2) == std::numeric_limits<std::int32_t>::max());
    CHECK(tflite::detail::saturating_shift(-(1 << 29), 2) == std::numeric_limits<std::int32_t>::min());
    CHECK(tflite::detail::saturating_shift(-5, 2) == -20);
}

TEST_CASE("tflite: softmax") {
    const auto softmax = [](std::vector<s8> x, float scale, float beta = 1.0f) {
        const auto p = tflite::make_softmax(scale, beta);
        const auto n = static_cast<index_t>(x.size());
        tflite::softmax(notch::matrix_view<const s8>(x.data(), 1, n), p, notch::matrix_view<s8>(x.data(), 1, n));
        return ints(x);
    };
    CHECK(softmax({5}, 0.1f) == std::vector<int>{127});
    CHECK(softmax({5, 5}, 0.1f) == std::vector<int>{0, 0});
    CHECK(softmax({-7, -7, -7, -7}, 0.1f) == std::vector<int>{-64, -64, -64, -64});
    CHECK(softmax({0, 127}, 1.0f) == std::vector<int>{-128, 127});
    CHECK(softmax({3, 2}, 20.0f) == std::vector<int>{127, -128}); // a step of 16 and more
    // 256 / (1 + e^-1) = 187.15, 68.85
    CHECK(softmax({10, 0}, 0.1f) == std::vector<int>{187 - 128, 69 - 128});
    CHECK(softmax({5, 0}, 0.1f, 2.0f) == std::vector<int>{187 - 128, 69 - 128});
    CHECK(softmax(std::vector<s8>(600, 1), 0.1f) == std::vector<int>(600, -128));

    std::mt19937 random(3);
    for (float scale : {0.003f, 0.05f, 0.4f}) {
        std::vector<s8> x(40);
        for (s8& q : x) q = static_cast<s8>(random());
        const auto y = softmax(x, scale);
        double sum = 0;
        for (s8 q : x) sum += std::exp(q * static_cast<double>(scale));
        for (std::size_t i = 0; i < x.size(); ++i) {
            const double code = 256.0 * std::exp(x[i] * static_cast<double>(scale)) / sum - 128.0;
            CHECK(std::abs(y[i] - std::min(code, 127.0)) < 0.51);
        }
    }
    refused(notch::errc::invalid_argument, [] { (void)tflite::make_softmax(0.0f); });
    refused(notch::errc::invalid_argument, [] { (void)tflite::make_softmax(1e-9f); });
    refused(notch::errc::invalid_argument, [] { (void)tflite::make_softmax(1.0f, -1.0f); });
    refused(notch::errc::overflow, [&] { (void)softmax(std::vector<s8>(4096), 0.1f); });
}

TEST_CASE("tflite: codes of LiteRT's reference kernels") {
    // ai-edge-litert 2.3.0, OpResolverType.BUILTIN_REF, on random codes (scripts/litert_reference.py --operators).
    const std::vector<s8> x{-88, -108, -107, -5, 68,  71,  54, -41, 14,   -38,  -22,  49,  79,  -123,
                            -51, -54,  -128, 64, 26,  81,  34, -36, -123, -119, -107, -52, -36, -11,
                            112, 95,   15,   49, -95, 121, 48, 87,  -109, -77,  -102, 0};
    std::vector<int> expected(40, -128);
    expected[12] = expected[19] = -127;
    expected[28] = -70;
    expected[29] = -122;
    expected[33] = 59;
    expected[35] = -126;
    std::vector<s8> y(40);
    tflite::softmax({x.data(), 1, 40}, tflite::make_softmax(0.13f), {y.data(), 1, 40});
    CHECK(ints(y) == expected);
    const std::vector<s8> flat{58, -12, -63, 100, 32, 2,   119,  -9,  75, -1, 93,  -64, 125, 58,
                               40, -36, 11,  -36, 72, 13,  -98,  -83, 31, 13, 49,  -44, -59, 104,
                               69, 121, 86,  103, 30, -50, -119, -89, 25, 59, 106, -106};
    tflite::softmax({flat.data(), 1, 40}, tflite::make_softmax(0.003f), {y.data(), 1, 40});
    CHECK(ints(y) == std::vector<int>{-121, -122, -123, -120, -121, -122, -120, -122, -121, -122,
                                      -120, -123, -119, -121, -121, -123, -122, -123, -121, -122,
                                      -124, -123, -121, -122, -121, -123, -123, -120, -121, -119,
                                      -120, -120, -122, -123, -124, -123, -122, -121, -120, -124});

    const std::vector<s8> a{-119, 124, -24, -104, -97, -125, 6,  78, -4,  93,  -8,  48,
                            120,  -75, -99, -63,  24,  -97,  68, 77, -50, -56, -32, -31};
    std::vector<s8> sum(24);
    tflite::ref::add(a, a, tflite::make_add({0.0517f, 11}, {0.0517f, 11}, {0.083f, -17}), sum);
    CHECK(ints(sum) == std::vector<int>{-128, 124,  -61,  -128, -128, -128, -23, 66, -36, 85,   -41, 29,
                                        119,  -124, -128, -109, -1,   -128, 54,  65, -93, -100, -71, -69});

    // Sums over 9 x 7 pixels and their means.
    const auto check_means = [](float scale, const std::vector<int>& sums, const std::vector<int>& codes) {
        const auto p = tflite::make_mean({0.05f, 31}, {scale, -9}, 63);
        for (std::size_t c = 0; c < sums.size(); ++c) {
            std::vector<s8> pixels(63, static_cast<s8>(sums[c] / 63));
            pixels[5] = static_cast<s8>(pixels[5] + sums[c] % 63);
            s8 mean[1];
            tflite::mean(notch::nhwc_view<const s8>(pixels.data(), 1, 9, 7, 1), p, notch::matrix_view<s8>(mean, 1, 1));
            CHECK(mean[0] == codes[c]);
        }
    };
    check_means(0.021f, {-144, 256, 467, 1115, 988}, {-88, -73, -65, -41, -46});
    check_means(0.4f, {-687, 800, -793, 279, 492}, {-14, -11, -14, -12, -12});
}
