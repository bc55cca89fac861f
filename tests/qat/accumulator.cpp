// SPDX-License-Identifier: Apache-2.0
//
// Weights for a narrow accumulator: codes by hand, the bound for any weights, gradients by finite differences with the
// rounding residue held constant.
#include "../catch.hpp"
#include "values.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include <notch/qat/accumulator_aware.hpp>

using namespace notch;

namespace {

using wide_steps = accumulator_aware<16>; // codes of an output: magnitudes of at most 32767 / 255 = 128 together
using few_bits = accumulator_aware<12, symmetric<4>, per_channel<0>, 128>; // at most 2047 / 128 = 15

template <class Q> void set(Q& q, double step, double norm) {
    for (float& t : q.log_step()) t = static_cast<float>(std::log(step));
    for (float& n : q.log_norm()) n = static_cast<float>(std::log(norm));
}
template <class Q> std::vector<int> codes_of(const Q& q) { return {q.codes().begin(), q.codes().end()}; }

} // namespace

TEST_CASE("codes share out a 1-norm, round toward zero and stop at what the accumulator holds") {
    STATIC_REQUIRE(wide_steps::largest_norm == 128);
    STATIC_REQUIRE(few_bits::largest_norm == 15);
    STATIC_REQUIRE(symmetric_quantizer<wide_steps>);
    const std::vector<float> w{1.0f, -2.0f, 0.5f, 0.25f}; // |w|_1 = 3.75
    wide_steps q({1, 4});
    set(q, 0.01, 0.5); // below 128 * 0.01: u = w * 0.5 / 3.75 / 0.01 = 13.3, -26.7, 6.7, 3.3
    q.forward(w);
    CHECK(codes_of(q) == std::vector{13, -26, 6, 3});
    CHECK(q.values()[1] == -26.0f * q.params()[0].scale);
    set(q, 0.01, 100.0); // bounded: u = w * 128 / 3.75 = 34.1, -68.3, 17.07, 8.5
    q.forward(w);
    CHECK(codes_of(q) == std::vector{34, -68, 17, 8});
    CHECK(vec(q.mask()) == std::vector<std::uint8_t>{1, 1, 1, 1});

    few_bits f({1, 4});
    set(f, 1.0, 14.6); // u = w * 14.6 / 3.75 = 3.9, -7.8, 1.9, 0.97: within the range after rounding toward zero
    f.forward(w);
    CHECK(codes_of(f) == std::vector{3, -7, 1, 0});
    CHECK(vec(f.mask()) == std::vector<std::uint8_t>{1, 1, 1, 1});
    set(f, 1.0, 15.0); // u = ..., -8, ...: clamped
    f.forward(w);
    CHECK(codes_of(f) == std::vector{4, -7, 2, 1});
    CHECK(vec(f.mask()) == std::vector<std::uint8_t>{1, 0, 1, 1});
}

TEST_CASE("no input overflows the accumulator that weights were trained for") {
    for (unsigned seed = 0; seed < 40; ++seed) {
        const index_t n = 1 + static_cast<index_t>(seed * 37 % 700);
        const std::vector<float> w = randoms(seed, static_cast<std::size_t>(3 * n), -1.0f, seed % 3 == 0 ? 0.0f : 1.0f);
        wide_steps q({3, n});
        set(q, std::pow(2.0, -static_cast<double>(seed % 12)), seed % 4 == 0 ? 0.3 : 1e6);
        q.forward(w);
        for (index_t o = 0; o < 3; ++o) {
            index_t most = 0, least = 0;
            for (index_t k = 0; k < n; ++k) {
                const int code = q.codes()[static_cast<std::size_t>(o * n + k)];
                (code > 0 ? most : least) += 255 * code;
            }
            CHECK((most <= INT16_MAX && least >= -INT16_MAX));
            CHECK(most - least <= INT16_MAX);
        }
    }
    // The bound is used: equal weights fill it.
    wide_steps q({1, 64});
    set(q, 0.5, 1e6);
    q.forward(std::vector<float>(64, 0.3f));
    CHECK(codes_of(q) == std::vector<int>(64, 2));
}

TEST_CASE("training starts from the norm of the weights, with a step that lets the accumulator hold it") {
    wide_steps q({2, 64});
    std::vector<float> w(128, 0.5f); // the norm 32 asks for steps of 32 / 128, the largest weight for 0.5 / 127
    std::fill(w.begin() + 64, w.end(), 0.0f);
    w[64] = -2.0f; // norm 2: 2 / 128; largest weight: 2 / 127
    q.forward(w);
    CHECK(q.initialized());
    CHECK(q.params()[0].scale == Approx(0.25f));
    CHECK(q.params()[1].scale == Approx(2.0f / 127.0f));
    CHECK(q.log_norm()[0] == Approx(std::log(32.0f)));
    CHECK(q.log_norm()[1] == Approx(std::log(2.0f)));
}

TEST_CASE("gradients of weights, steps and norms are those of the formula, bounded or not") {
    const std::vector<float> w{0.31f, -0.72f, 0.11f, 0.05f, -0.26f, 0.4f, 0.17f, -0.09f};
    const std::vector<float> dy{0.5f, -1.0f, 2.0f, 0.25f, 1.5f, -0.75f, 0.3f, 1.0f};
    const auto check = [&](auto q, double step, double norm) {
        INFO(step << " " << norm);
        using Q = decltype(q);
        set(q, step, norm);
        q.forward(w);
        const std::size_t n = w.size() / 2; // two channels
        std::vector<double> residue(w.size());
        const auto u = [&](const std::vector<double>& v, double t, double log_norm, std::size_t i) {
            double sum = 0;
            for (std::size_t k = i / n * n; k < i / n * n + n; ++k) sum += std::fabs(v[k]);
            const double s = std::exp(t), bound = static_cast<double>(Q::largest_norm) * s;
            return v[i] * std::min(std::exp(log_norm), bound) / sum / s;
        };
        const std::vector<double> at(w.begin(), w.end());
        const double t0 = static_cast<double>(q.log_step()[0]), n0 = static_cast<double>(q.log_norm()[0]);
        for (std::size_t i = 0; i < w.size(); ++i)
            residue[i] = static_cast<double>(q.codes()[i]) - (q.mask()[i] ? u(at, t0, n0, i) : 0.0);
        const auto loss = [&](const std::vector<double>& v, double t, double log_norm, std::size_t channel) {
            double sum = 0;
            for (std::size_t i = channel * n; i < channel * n + n; ++i)
                sum += static_cast<double>(dy[i]) * std::exp(t) *
                       ((q.mask()[i] ? u(v, t, log_norm, i) : 0.0) + residue[i]);
            return sum;
        };
        const std::vector<float> dw = vec(q.backward(w, dy));
        const double h = 1e-6;
        for (std::size_t c = 0; c < 2; ++c) {
            const double dt = (loss(at, t0 + h, n0, c) - loss(at, t0 - h, n0, c)) / (2 * h);
            const double dn = (loss(at, t0, n0 + h, c) - loss(at, t0, n0 - h, c)) / (2 * h);
            CHECK(std::fabs(static_cast<double>(q.log_step_gradient()[c]) - dt) < 1e-5 * (1.0 + std::fabs(dt)));
            CHECK(std::fabs(static_cast<double>(q.log_norm_gradient()[c]) - dn) < 1e-5 * (1.0 + std::fabs(dn)));
            for (std::size_t i = c * n; i < c * n + n; ++i) {
                std::vector<double> up = at, down = at;
                up[i] += h;
                down[i] -= h;
                const double d = (loss(up, t0, n0, c) - loss(down, t0, n0, c)) / (2 * h);
                CHECK(std::fabs(static_cast<double>(dw[i]) - d) < 1e-5 * (1.0 + std::fabs(d)));
            }
        }
    };
    check(wide_steps({2, 4}), 0.01, 0.8);
    check(wide_steps({2, 4}), 0.01, 5.0); // bounded
    check(few_bits({2, 4}), 0.1, 1.4);    // clamped
    check(few_bits({2, 4}), 0.1, 2.0);    // both
}

TEST_CASE("the penalty is the logarithm by which norms pass their bound, and pulls them back") {
    wide_steps q({2, 2});
    set(q, 1.0 / 127.0, 2.0); // 2 > 128 / 127
    q.forward(std::vector<float>{1.0f, 1.0f, 1.0f, 1.0f});
    const double over = std::log(2.0 * 127.0 / 128.0);
    CHECK(std::fabs(q.penalty(0.5f) - 2.0 * over) < 1e-5);
    CHECK(vec(std::span<const float>(q.log_norm_gradient())) == std::vector{0.5f, 0.5f});
    CHECK(vec(std::span<const float>(q.log_step_gradient())) == std::vector{-0.5f, -0.5f});
    q.log_norm()[0] = q.log_norm()[1] = 0.0f; // 1 < 128 / 127
    q.forward(std::vector<float>{1.0f, 1.0f, 1.0f, 1.0f});
    CHECK(q.penalty(0.5f) == 0.0);
    CHECK(vec(std::span<const float>(q.log_norm_gradient())) == std::vector{0.5f, 0.5f});
}

TEST_CASE("weights for an accumulator refuse what they cannot take, and stand any trained number") {
    const std::vector<float> w{0.5f, -1.0f, infinity, not_a_number}, four(4, 1.0f), three(3, 1.0f);
    wide_steps q({2, 2});
    CHECK(!q.initialized());
    CHECK_THROWS_WITH(q.backward(four, four), contains_text("accumulator_aware.backward needs a forward"));
    CHECK_THROWS_WITH(q.forward(three), contains_text("accumulator_aware.forward: the size of x is 3, expected 4"));
    q.forward(w); // what is not finite has the code 0
    CHECK(q.initialized());
    CHECK(q.codes()[2] == 0);
    CHECK(q.codes()[3] == 0);
    for (float d : q.backward(w, four)) CHECK(std::isfinite(d));
    for (std::span<float> trained : {q.log_step(), q.log_norm()})
        for (float bad : {infinity, -infinity, 1e9f, -1e9f, 0.0f, 1e-40f}) {
            INFO(bad);
            const float before = trained[0];
            trained[0] = bad;
            for (float v : q.forward(w)) CHECK(std::isfinite(v));
            index_t sum = 0;
            for (int c : codes_of(q)) sum += std::abs(c);
            CHECK(sum <= 2 * wide_steps::largest_norm);
            for (float d : q.backward(w, four)) CHECK(std::isfinite(d));
            trained[0] = before;
        }
    const auto codes = codes_of(q);
    q.log_norm()[1] = not_a_number;
    CHECK_THROWS_WITH(q.forward(w), contains_text("log_norm of channel 1 is NaN"));
    CHECK(codes_of(q) == codes);
    const std::vector<float> scales{0.5f, -1.0f};
    CHECK_THROWS_WITH(q.forward(w, scales), contains_text("scales[1] is -1"));
    const wide_steps taken = std::move(q);
    CHECK_THROWS_WITH(q.forward(four), contains_text("moved from"));
}
