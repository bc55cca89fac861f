// SPDX-License-Identifier: Apache-2.0
//
// Equalization, high-bias absorption, bias correction and SmoothQuant: by hand, and on small float layers
// that must compute the same before and after.
#include "../catch.hpp"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <notch/ptq/bias_correction.hpp>
#include <notch/ptq/equalize.hpp>
#include <notch/ptq/smooth_quant.hpp>

using namespace notch;

namespace {

std::vector<float> normal_values(std::size_t n, unsigned seed, float sigma = 1) {
    std::mt19937 g(seed);
    std::normal_distribution<float> d(0.0f, sigma);
    std::vector<float> x(n);
    for (float& v : x) v = d(g);
    return x;
}

/// y = W x + b for weights of any shape, each weight counted once.
std::vector<double> apply(const std::vector<float>& w, const weight_shape& s, const std::vector<float>& b,
                          const std::vector<double>& x, bool relu) {
    std::vector<double> y(b.begin(), b.end());
    for (index_t i = 0; i < s.outputs.size(); ++i)
        y[detail::channel_of(s.outputs, i)] +=
            static_cast<double>(w[static_cast<std::size_t>(i)]) * x[detail::channel_of(s.inputs, i)];
    if (relu)
        for (double& v : y) v = std::max(v, 0.0);
    return y;
}

} // namespace

TEST_CASE("equalization by hand") {
    // Two outputs of ranges 8 and 1 meet inputs of ranges 2 and 4: s = 2 and 1/2.
    std::vector<float> w1{8, -4, 1, 0.5f}, b1{2, 3}, w2{2, 4, -1, 1}, s(2);
    const double most = cross_layer_equalize({w1, linear_weights(2, 2), b1, w2, linear_weights(2, 2)}, false, s);
    CHECK(most == 1.0);
    CHECK(s == std::vector<float>{2, 0.5f});
    CHECK(w1 == std::vector<float>{4, -2, 2, 1});
    CHECK(b1 == std::vector<float>{1, 6});
    CHECK(w2 == std::vector<float>{4, 2, -2, 0.5f});
    // 3 rounded to a power of two: log2 is 1.58.
    std::vector<float> v1{9}, v2{1};
    cross_layer_equalize({v1, linear_weights(1, 1), {}, v2, linear_weights(1, 1)}, true, std::span(s).first(1));
    CHECK(s[0] == 4.0f);
    CHECK(v1[0] * v2[0] == 9.0f);
    // A channel without weights stays as it is.
    std::vector<float> z1{0, 5}, z2{3, 0};
    CHECK(cross_layer_equalize({z1, linear_weights(2, 1), {}, z2, linear_weights(1, 2)}) == 0.0);
    CHECK(z1 == std::vector<float>{0, 5});
}

TEST_CASE("equalization: a chain with a depthwise layer computes the same and its ranges become equal") {
    // conv [12][2 taps][3] -> depthwise [4][12] -> linear [5][12], with ReLUs between.
    std::vector<float> w1 = normal_values(72, 1), b1 = normal_values(12, 2), w2 = normal_values(48, 3),
                       b2 = normal_values(12, 4), w3 = normal_values(60, 5), b3 = normal_values(5, 6);
    for (std::size_t c = 0; c < 12; ++c) // ranges over four decades
        for (std::size_t k = 0; k < 6; ++k) w1[c * 6 + k] *= std::pow(10.0f, static_cast<float>(c % 5) - 2.0f);
    const weight_shape s1 = conv_weights(12, 2, 3), s2 = depthwise_weights(4, 12), s3 = linear_weights(5, 12);
    const std::vector<double> x{0.3, -1.2, 2.0};
    const auto network = [&] { return apply(w3, s3, b3, apply(w2, s2, b2, apply(w1, s1, b1, x, true), true), false); };
    const std::vector<double> before = network();
    const std::vector<layer_pair> pairs{{w1, s1, b1, w2, s2}, {w2, s2, b2, w3, s3}};
    CHECK(cross_layer_equalize(pairs, 200, 1e-4) <= 1e-4);
    const std::vector<double> after = network();
    for (std::size_t o = 0; o < 5; ++o) CHECK(after[o] == Approx(before[o]).epsilon(1e-4));
    const auto r1 = detail::channel_magnitudes(w1, s1.outputs), r2 = detail::channel_magnitudes(w2, s2.inputs),
               r3 = detail::channel_magnitudes(w3, s3.inputs);
    for (index_t c = 0; c < 12; ++c) {
        CHECK(r1[c] == Approx(r2[c]).epsilon(1e-3));
        CHECK(r2[c] == Approx(r3[c]).epsilon(1e-3));
    }
    // Powers of two change no result at all.
    std::vector<float> p1 = normal_values(36, 7), p2 = normal_values(60, 8), c1 = normal_values(12, 9), c2(5);
    const auto two = [&] { return apply(p2, s3, c2, apply(p1, linear_weights(12, 3), c1, x, true), false); };
    for (std::size_t i = 0; i < 18; ++i) p1[i] *= 300.0f;
    const std::vector<double> exact = two(), unequal(p1.begin(), p1.end());
    CHECK(cross_layer_equalize({p1, linear_weights(12, 3), c1, p2, s3}, true) >= 3.0);
    CHECK(two() == exact);
    CHECK(static_cast<double>(p1[0]) != unequal[0]);
}

TEST_CASE("high-bias absorption: the next layer gets what a ReLU never cuts") {
    std::vector<float> w1 = normal_values(4, 11, 0.1f), b1{10, 1, -3, 8}, w2 = normal_values(8, 12), b2{1, 2};
    const std::vector<float> mean{10, 1, -3, 8}, deviation{1, 1, 1, 2};
    const std::vector<double> x{0.5};
    const weight_shape s1 = linear_weights(4, 1), s2 = linear_weights(2, 4);
    const auto network = [&] { return apply(w2, s2, b2, apply(w1, s1, b1, x, true), false); };
    const std::vector<double> before = network();
    absorb_high_bias(mean, deviation, b1, w2, s2, b2);
    CHECK(b1 == std::vector<float>{3, 1, -3, 6}); // c = 7, 0, 0, 2
    for (std::size_t o = 0; o < 2; ++o) CHECK(network()[o] == Approx(before[o]).epsilon(1e-5));
    CHECK(b2[0] == Approx(1 + 7 * w2[0] + 2 * w2[3]).epsilon(1e-6));
    CHECK_THROWS_WITH(absorb_high_bias(mean, std::vector<float>{1, 1, -1, 1}, b1, w2, s2, b2),
                      contains_text("deviation[2]"));
    CHECK_THROWS_WITH(absorb_high_bias(std::vector<float>(3), deviation, b1, w2, s2, b2),
                      contains_text("size of mean"));
}

TEST_CASE("the mean of a clipped normal distribution: against sums, and where it is known") {
    CHECK(clipped_normal_mean(0, 1) == Approx(1 / std::sqrt(2 * 3.14159265358979)).epsilon(1e-12)); // ReLU of N(0, 1)
    CHECK(clipped_normal_mean(3, 0) == 3.0);
    CHECK(clipped_normal_mean(-3, 0) == 0.0);
    CHECK(clipped_normal_mean(50, 1) == Approx(50).epsilon(1e-12));
    CHECK(clipped_normal_mean(-50, 1) >= 0.0);
    CHECK(clipped_normal_mean(-50, 1) < 1e-300);
    for (const double mean : {-1.0, 0.3, 5.5, 9.0})
        for (const double deviation : {0.2, 1.0, 4.0})
            for (const double hi : {6.0, std::numeric_limits<double>::infinity()}) {
                double sum = 0, weight = 0;
                for (int k = -80000; k <= 80000; ++k) {
                    const double t = k / 10000.0, p = std::exp(-0.5 * t * t);
                    weight += p;
                    sum += p * std::min(std::max(mean + deviation * t, 0.0), hi);
                }
                CAPTURE(mean, deviation, hi);
                CHECK(clipped_normal_mean(mean, deviation, 0.0, hi) == Approx(sum / weight).epsilon(1e-7));
            }
    CHECK_THROWS_AS(clipped_normal_mean(std::nan(""), 1), error);
    CHECK_THROWS_AS(clipped_normal_mean(0, -1), error);
    CHECK_THROWS_AS(clipped_normal_mean(0, 1, 2, 1), error);
}

TEST_CASE("bias correction: the mean of the outputs comes back, analytically and empirically") {
    const std::size_t in = 6, out = 4, rows = 500;
    const weight_shape s = linear_weights(4, 6);
    std::vector<float> w = normal_values(in * out, 21), wq = w, bias = normal_values(out, 22),
                       x = normal_values(rows * in, 23);
    for (float& v : wq) v = std::round(v * 2.0f) / 2.0f;
    for (float& v : x) v = std::fabs(v) + 0.5f;
    std::vector<float> mean(in), y(rows * out), yq(rows * out);
    for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t k = 0; k < in; ++k) mean[k] += x[r * in + k] / static_cast<float>(rows);
        for (std::size_t o = 0; o < out; ++o) {
            y[r * out + o] = yq[r * out + o] = bias[o];
            for (std::size_t k = 0; k < in; ++k) {
                y[r * out + o] += w[o * in + k] * x[r * in + k];
                yq[r * out + o] += wq[o * in + k] * x[r * in + k];
            }
        }
    }
    std::vector<float> analytic = bias, empirical = bias;
    correct_bias(w, wq, s, mean, analytic);
    correct_bias({y.data(), 500, 4}, {yq.data(), 500, 4}, empirical);
    for (std::size_t o = 0; o < out; ++o) {
        double shift = 0;
        for (std::size_t r = 0; r < rows; ++r) shift += static_cast<double>(y[r * out + o] - yq[r * out + o]);
        CHECK(static_cast<double>(analytic[o] - bias[o]) == Approx(shift / 500).epsilon(1e-3));
        CHECK(static_cast<double>(empirical[o] - bias[o]) == Approx(shift / 500).epsilon(1e-3));
        CHECK(std::fabs(shift / 500) > 0.01);
    }
    // Depthwise: each output has one input, whose mean counts for each tap.
    std::vector<float> d{1, 2, 3, 4}, dq{1.5f, 2, 2, 4}, b2{0, 0};
    correct_bias(d, dq, depthwise_weights(2, 2), std::vector<float>{10, 100}, b2);
    CHECK(b2 == std::vector<float>{-(0.5f - 1.0f) * 10, 0});
    CHECK_THROWS_WITH(correct_bias(d, std::span(dq).first(3), depthwise_weights(2, 2), std::vector<float>(2), b2),
                      contains_text("w_quantized"));
    CHECK_THROWS_WITH(correct_bias(d, dq, depthwise_weights(2, 2), std::vector<float>{1, NAN}, b2),
                      contains_text("x_mean[1]"));
    CHECK_THROWS_WITH(correct_bias({y.data(), 0, 4}, {yq.data(), 0, 4}, empirical), contains_text("no rows"));
}

TEST_CASE("SmoothQuant: the formula, and products that stay the same") {
    std::vector<float> s(4);
    smooth_factors(std::vector<float>{16, 1, 0, 9}, std::vector<float>{1, 4, 2, 0}, 0.5, s);
    CHECK(s == std::vector<float>{4, 0.5f, 1, 1});
    smooth_factors(std::vector<float>{16, 1, 0, 9}, std::vector<float>{1, 4, 2, 0}, 1.0, s);
    CHECK(s == std::vector<float>{16, 1, 1, 1});
    smooth_factors(std::vector<float>{16, 1, 0, 9}, std::vector<float>{1, 4, 2, 0}, 0.0, s);
    CHECK(s == std::vector<float>{1, 0.25f, 1, 1});
    smooth_factors(std::vector<float>{FLT_MAX, 1e-44f, 1, 1}, std::vector<float>{1e-44f, FLT_MAX, 1, 1}, 0.5, s);
    for (float f : s) CHECK((f >= FLT_MIN && std::isfinite(f)));

    // A norm's gamma and beta, two layers that read it; one channel 60 times as large as the rest.
    std::vector<float> gamma{1, 60, 1, 1}, beta{0.1f, 5, 0, -0.2f}, w1 = normal_values(12, 31),
                                                                    w2 = normal_values(8, 32);
    const weight_shape s1 = linear_weights(3, 4), s2 = linear_weights(2, 4);
    const auto run = [&](const std::vector<float>& w, const weight_shape& shape, std::size_t out) {
        std::vector<double> x(4);
        for (std::size_t j = 0; j < 4; ++j) x[j] = 0.7 * static_cast<double>(gamma[j]) + static_cast<double>(beta[j]);
        return apply(w, shape, std::vector<float>(out), x, false);
    };
    const auto y1 = run(w1, s1, 3), y2 = run(w2, s2, 2);
    std::vector<float> magnitudes(4), x_magnitudes{1, 62, 1, 1};
    widen_input_magnitudes(w1, s1, magnitudes);
    widen_input_magnitudes(w2, s2, magnitudes);
    CHECK(magnitudes[1] ==
          std::max({std::fabs(w1[1]), std::fabs(w1[5]), std::fabs(w1[9]), std::fabs(w2[1]), std::fabs(w2[5])}));
    smooth_factors(x_magnitudes, magnitudes, 0.5, s);
    smooth_source(gamma, {1, 4, 1}, s);
    smooth_source(beta, {1, 4, 1}, s);
    smooth_weights(w1, s1, s);
    smooth_weights(w2, s2, s);
    const auto z1 = run(w1, s1, 3), z2 = run(w2, s2, 2);
    for (std::size_t o = 0; o < 3; ++o) CHECK(z1[o] == Approx(y1[o]).epsilon(1e-5));
    for (std::size_t o = 0; o < 2; ++o) CHECK(z2[o] == Approx(y2[o]).epsilon(1e-5));
    // With alpha = 1/2 both sides of a channel have the same largest magnitude.
    std::vector<float> after(4);
    widen_input_magnitudes(w1, s1, after);
    widen_input_magnitudes(w2, s2, after);
    for (std::size_t j = 0; j < 4; ++j) CHECK(after[j] == Approx(x_magnitudes[j] / s[j]).epsilon(1e-5));

    CHECK_THROWS_WITH(smooth_factors(x_magnitudes, magnitudes, 1.5, s), contains_text("alpha"));
    CHECK_THROWS_WITH(smooth_factors(std::vector<float>{1, NAN, 1, 1}, magnitudes, 0.5, s), contains_text("channel 1"));
    CHECK_THROWS_WITH(smooth_weights(w1, s1, std::vector<float>{1, 0, 1, 1}), contains_text("finite and > 0"));
    CHECK_THROWS_WITH(smooth_weights(w1, s1, std::vector<float>{1}), contains_text("size of s"));
}

TEST_CASE("shapes that do not fit are refused") {
    std::vector<float> w(6), b(2);
    CHECK_THROWS_WITH(cross_layer_equalize({w, linear_weights(2, 3), b, w, linear_weights(2, 3)}),
                      contains_text("input channels"));
    CHECK_THROWS_WITH(cross_layer_equalize({w, linear_weights(2, 4), b, w, linear_weights(3, 2)}),
                      contains_text("size of the weights"));
    CHECK_THROWS_WITH(cross_layer_equalize({w, linear_weights(2, 3), std::span(b).first(1), w, linear_weights(3, 2)}),
                      contains_text("b1"));
    w[4] = std::numeric_limits<float>::infinity();
    CHECK_THROWS_WITH(cross_layer_equalize({w, linear_weights(2, 3), b, w, linear_weights(3, 2)}),
                      contains_text("w1[4]"));
    CHECK_THROWS_WITH(cross_layer_equalize(std::span<const layer_pair>(), 0), contains_text("rounds"));
}
