// SPDX-License-Identifier: Apache-2.0
//
// What AdaRound and BRECQ share: derivatives against differences, the schedule and Adam by hand.
#include "../catch.hpp"

#include <cmath>
#include <vector>

#include <notch/ptq/soft_rounding.hpp>

using namespace notch;

TEST_CASE("soft rounding: h and its regularizer, against differences") {
    for (const float v : {-2.3f, -1.0f, -0.2f, 0.0f, 0.7f, 1.9f}) {
        const double e = 1e-3, up = static_cast<double>(detail::rectify(v + 1e-3f).h),
                     down = static_cast<double>(detail::rectify(v - 1e-3f).h);
        CHECK(static_cast<double>(detail::rectify(v).slope) == Approx((up - down) / (2 * e)).epsilon(2e-3));
        CHECK(detail::rectify(v).h == Approx(1.2 / (1 + std::exp(-static_cast<double>(v))) - 0.1).epsilon(1e-5));
    }
    CHECK(detail::rectify(0).h == Approx(0.5));
    for (const float v : {-9.0f, 9.0f}) { // stretched beyond 0 and 1, and cut
        CHECK(detail::rectify(v).h == (v > 0 ? 1.0f : 0.0f));
        CHECK(detail::rectify(v).slope == 0.0f);
    }
    for (const float beta : {20.0f, 5.5f, 2.0f})
        for (const double h : {0.02, 0.3, 0.45, 0.6, 0.97}) {
            const auto f = [&](double x) { return 1 - std::pow(std::fabs(2 * x - 1), static_cast<double>(beta)); };
            CHECK(static_cast<double>(detail::regularizer_slope(static_cast<float>(h), beta)) ==
                  Approx((f(h + 1e-6) - f(h - 1e-6)) / 2e-6).epsilon(1e-3).margin(1e-6));
        }
}

TEST_CASE("soft rounding: beta stays away, then falls along half a cosine") {
    soft_rounding_options o;
    o.iterations = 100;
    CHECK(detail::annealed_beta(o, 0) == 0.0f);
    CHECK(detail::annealed_beta(o, 19) == 0.0f);
    CHECK(detail::annealed_beta(o, 20) == 20.0f);
    CHECK(detail::annealed_beta(o, 60) == Approx(11.0f));
    CHECK(detail::annealed_beta(o, 40) == Approx(2 + 9 * (1 + std::cos(std::acos(-1.0) / 4))));
    CHECK(detail::annealed_beta(o, 99) == Approx(2.0f).epsilon(0.01));
}

TEST_CASE("soft rounding: the start, one step of Adam, codes; ends of the range") {
    detail::soft_rounding r(4, {-7, 7});
    r.start(0, 0.65f, {0.5f, 0});   // 1.3
    r.start(1, -0.85f, {0.5f, 0});  // -1.7
    r.start(2, 100.0f, {0.5f, 0});  // beyond 7
    r.start(3, -1e30f, {1e-9f, 0}); // would overflow
    CHECK(r.size() == 4);
    CHECK(r.real(0) == Approx(1.3));
    CHECK(r.soft(0) == Approx(1.3));
    CHECK(r.hard(0) == 1.0f);
    CHECK(r.nearest(0) == 1.0f);
    CHECK(r.soft(1) == Approx(-1.7));
    CHECK(r.hard(1) == -2.0f);
    CHECK(r.soft(2) == 7.0f);
    CHECK(r.hard(2) == 7.0f);
    CHECK(r.nearest(3) == -7.0f);
    CHECK(r.soft(3) == -7.0f);
    // The first step of Adam is one of learning_rate against the sign of the gradient, whatever its size. h = 0.3 is
    // at sigmoid(v) = 1/3, so v = -log(2).
    soft_rounding_options o;
    o.learning_rate = 0.5f;
    const std::vector<float> gradient{-0.01f, 3.0f, 1.0f, 1.0f};
    r.step(0, gradient, o);
    CHECK(r.soft(0) == Approx(1 + 1.2 / (1 + std::exp(std::log(2.0) - 0.5)) - 0.1));
    CHECK(r.soft(1) < -1.7f);
    CHECK(r.soft(2) == 7.0f);
    // Second: m = 0.9 m + 0.1 g and s alike, both without their bias.
    const std::vector<float> next{0.02f, 0, 0, 0};
    detail::soft_rounding one(1, {-7, 7});
    one.start(0, 0.65f, {0.5f, 0});
    double v = -std::log(2.0), m = 0, s = 0;
    for (int t = 0; t < 2; ++t) {
        const double part = 1.2 / (1 + std::exp(-v)) - 0.1, sigma = (part + 0.1) / 1.2;
        const double g = (t == 0 ? -0.01 : 0.02) * 1.2 * sigma * (1 - sigma);
        m = 0.9 * m + 0.1 * g;
        s = 0.999 * s + 0.001 * g * g;
        v -= 0.5 * (m / (1 - std::pow(0.9, t + 1))) / (std::sqrt(s / (1 - std::pow(0.999, t + 1))) + 1e-8);
        one.step(t, std::span(t == 0 ? gradient : next).first(1), o);
        CHECK(one.soft(0) == Approx(1 + 1.2 / (1 + std::exp(-v)) - 0.1).epsilon(1e-5));
    }
    // Without an error the second term alone drives h to the nearer end.
    const std::vector<float> none(1);
    o = {};
    o.lambda = 1;
    for (index_t t = 0; t < o.iterations; ++t) one.step(t, none, o);
    CHECK((one.soft(0) == 1.0f || one.soft(0) == 2.0f));
    CHECK(one.soft(0) == one.hard(0));
}
