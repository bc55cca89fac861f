// SPDX-License-Identifier: Apache-2.0
#include "../catch.hpp"

#include <cmath>
#include <random>
#include <vector>

#include <notch/qat/batch_norm.hpp>
#include <notch/qat/learned_step.hpp>

using namespace notch;

TEST_CASE("learned_step: the gradient is the derivative of the surrogate, per channel") {
    // Inside: value = x + r * s with the rounding residue r = code - x / s held constant. Clipped:
    // value = +-Q * s. Both are smooth in t = log s.
    std::mt19937 g(1);
    const channel_layout layout{2, 3, 5};
    std::vector<float> x(30), dy(30);
    for (float& v : x) v = static_cast<float>(g() % 20001) / 10000.0f - 1.0f;
    for (float& v : dy) v = static_cast<float>(g() % 20001) / 10000.0f - 1.0f;
    learned_step<symmetric<3>, per_channel<1>> q({2, 3, 5});
    q.initialize(x);
    q.forward(x);
    q.backward(x, dy);
    for (index_t c = 0; c < 3; ++c) {
        const double t = static_cast<double>(q.log_step()[static_cast<std::size_t>(c)]);
        const double s0 = static_cast<double>(q.params()[static_cast<std::size_t>(c)].scale);
        const auto loss = [&](double log_step) {
            double sum = 0;
            for (index_t i = 0; i < 30; ++i) {
                if (i / layout.inner % layout.channels != c) continue;
                const auto at = static_cast<std::size_t>(i);
                const double v = static_cast<double>(x[at]) / s0, s = std::exp(log_step);
                const double residue = std::nearbyint(v) - v;
                sum += static_cast<double>(dy[at]) * (v < -3.0 ? -3.0 * s : v > 3.0 ? 3.0 * s : static_cast<double>(x[at]) + residue * s);
            }
            return sum;
        };
        const double slope = (loss(t + 1e-5) - loss(t - 1e-5)) / 2e-5, g_scale = 1.0 / std::sqrt(10.0 * 3.0);
        CHECK(static_cast<double>(q.log_step_gradient()[static_cast<std::size_t>(c)]) == Approx(g_scale * slope).epsilon(1e-3).margin(1e-5));
    }
}

TEST_CASE("folding refuses a layout that does not describe the weights") {
    batch_norm norm(3);
    std::vector<float> w(24), b(3), out(24), bias(3);
    CHECK_THROWS_AS(norm.fold(w, channel_layout{-2, 3, -4}, b, out, bias), error);
    CHECK_THROWS_AS(norm.fold(w, channel_layout{2, 4, 3}, b, out, bias), error);
    CHECK_THROWS_AS(norm.fold(w, channel_layout{2, 3, 4}, b, std::span(out).first(23), bias), error);
    CHECK_THROWS_AS(norm.fold(w, channel_layout{2, 3, 4}, std::span(b).first(2), out, bias), error);
    CHECK_THROWS_AS(norm.backward({out.data(), 2, 3}), error); // no forward before it
    CHECK_THROWS_AS(batch_norm(3, 0.0f), error);
    CHECK_THROWS_AS(batch_norm(3, 0.1f, std::nanf("")), error);
}
