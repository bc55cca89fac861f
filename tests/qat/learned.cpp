// SPDX-License-Identifier: Apache-2.0
//
// Learned clipping levels, offsets, ranges and thresholds: codes by hand, gradients by the papers' formulas and by
// finite differences of what they are the derivatives of, with the rounding residue held constant.
#include "../catch.hpp"
#include "values.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include <notch/kernels/quantize.hpp>
#include <notch/ptq/calibrate.hpp>
#include <notch/qat/learned_affine.hpp>
#include <notch/qat/learned_clip.hpp>
#include <notch/qat/learned_range.hpp>
#include <notch/qat/learned_threshold.hpp>

using namespace notch;

namespace {

/// What is trained is what ships: the codes and values are those that inference makes with params().
template <class Q> void check_inference(Q& q, std::span<const float> x) {
    using code = typename Q::code_type;
    q.forward(x);
    std::vector<code> codes(x.size()), by_ref(x.size());
    std::vector<float> values(x.size());
    for (isa target : available_isas()) {
        quantize<typename Q::range>(x, q.layout(), q.params(), codes, context(target));
        CHECK(codes == vec(q.codes()));
    }
    ref::quantize(x, q.layout(), q.params(), {Q::range::qmin, Q::range::qmax}, std::span(by_ref));
    dequantize<code>(codes, q.layout(), q.params(), values);
    CHECK(by_ref == codes);
    CHECK(values == vec(q.values()));
}
/// Valid whatever the optimizer does to a trained number.
template <class Q> void check_any_number(Q& q, float& trained, std::span<const float> x, const char* refused) {
    for (float bad : {infinity, -infinity, 1e9f, -1e9f, 3e38f, -3e38f, 0.0f, 1e-40f}) {
        INFO(bad);
        trained = bad;
        for (float v : q.forward(x)) CHECK(std::isfinite(v));
        for (const quant_params& p : q.params()) {
            CHECK((p.scale >= FLT_MIN && std::isfinite(p.scale)));
            CHECK((p.zero_point >= Q::range::qmin && p.zero_point <= Q::range::qmax));
        }
        for (float d : q.backward(x, x)) CHECK(std::isfinite(d));
    }
    const auto params = vec(q.params());
    trained = not_a_number;
    CHECK_THROWS_WITH(q.forward(x), contains_text(refused));
    CHECK(vec(q.params()) == params);
}
/// Refuses what it cannot do.
template <class Q> void check_refusals(const char* name) {
    const std::vector<float> four(4, 1.0f), three(3, 1.0f);
    Q q({4});
    CHECK_THROWS_WITH(q.backward(four, four), contains_text(detail::cat(name, ".backward needs a forward")));
    CHECK_THROWS_WITH(q.forward(three), contains_text(detail::cat(name, ".forward: the size of x is 3, expected 4")));
    q.forward(four);
    CHECK_THROWS_WITH(q.backward(three, four), contains_text("the size of x is 3, expected 4"));
    CHECK_THROWS_WITH(q.backward(four, three), contains_text("the size of dy is 3, expected 4"));
    CHECK_NOTHROW(q.backward(four, four));
    const Q taken = std::move(q);
    CHECK_THROWS_WITH(q.forward(four), contains_text("moved from"));
    Q none({0});
    CHECK(none.forward({}).empty());
    CHECK(none.backward({}, {}).empty());
}

/// sum dy * value for one channel, value as a function of step and offset with the residue of rounding held constant:
/// x + r * s between the codes, n * s + b and p * s + b outside.
template <class Range>
double surrogate(std::span<const float> x, std::span<const float> dy, const channel_layout& l, index_t channel,
                 quant_params p0, double s, double b) {
    double sum = 0;
    for (index_t i = 0; i < l.size(); ++i) {
        if (l.index_of(i) != channel) continue;
        const auto at = static_cast<std::size_t>(i);
        const double v = static_cast<double>(x[at] / p0.scale) + p0.zero_point;
        const double r = std::nearbyint(v) - v;
        sum += static_cast<double>(dy[at]) * (v <= Range::qmin   ? Range::qmin * s + b
                                              : v >= Range::qmax ? Range::qmax * s + b
                                                                 : static_cast<double>(x[at]) + r * s);
    }
    return sum;
}

} // namespace

TEST_CASE("learned_clip (PACT): codes and gradients by hand") {
    learned_clip<affine<2>> q({8}, 1.0f); // codes 0..3 over [0, 1]
    const std::vector<float> x{-1.0f, 0.0f, 0.1f, 0.6f, 0.9f, 1.0f, 7.0f, not_a_number}, dy{1, 2, 3, 4, 5, 6, 7, 8};
    CHECK(q.params()[0] == quant_params{1.0f / 3.0f, 0});
    q.forward(x);
    CHECK(vec(q.codes()) == std::vector<std::uint8_t>{0, 0, 0, 2, 3, 3, 3, 0});
    CHECK(vec(q.backward(x, dy)) == std::vector<float>{0, 2, 3, 4, 5, 0, 0, 0});
    CHECK(q.log_clip_gradient()[0] == 13.0f); // alpha * (6 + 7)
    q.log_clip()[0] = std::log(2.0f);         // after forward: the gradient belongs to the alpha that forward used
    q.backward(x, dy);
    CHECK(q.log_clip_gradient()[0] == 26.0f); // and adds up
    q.forward(x);
    q.log_clip_gradient()[0] = 0.0f;
    q.backward(x, dy);
    CHECK(q.log_clip_gradient()[0] == Approx(2.0 * 7.0).epsilon(1e-6));
}

TEST_CASE("learned_clip: the gradient of alpha is the derivative of clamp(x, 0, alpha), per channel") {
    const auto x = randoms(1, 60, -1.0f, 4.0f), dy = randoms(2, 60, -1.0f, 1.0f);
    learned_clip<affine_signed<4>, per_channel<1>> q({4, 3, 5}, 2.0f);
    q.log_clip()[1] = 0.1f;
    q.log_clip()[2] = 1.1f;
    q.forward(x);
    q.backward(x, dy);
    for (index_t c = 0; c < 3; ++c) {
        const auto at = static_cast<std::size_t>(c);
        CHECK(q.params()[at].zero_point == -8);
        CHECK(q.params()[at].scale == Approx(std::exp(q.log_clip()[at]) / 15.0f).epsilon(1e-6));
        const auto loss = [&](double t) {
            double sum = 0;
            for (index_t i = 0; i < 60; ++i)
                if (q.layout().index_of(i) == c)
                    sum += static_cast<double>(dy[static_cast<std::size_t>(i)]) *
                           std::clamp(static_cast<double>(x[static_cast<std::size_t>(i)]), 0.0, std::exp(t));
            return sum;
        };
        const double t = static_cast<double>(q.log_clip()[at]);
        CHECK(static_cast<double>(q.log_clip_gradient()[at]) ==
              Approx((loss(t + 1e-6) - loss(t - 1e-6)) / 2e-6).epsilon(1e-4).margin(1e-5));
    }
}

TEST_CASE("learned_affine (LSQ+): codes and gradients by hand") {
    // Codes 0..3, step 1, offset -1: the zero point is 1 and the range [-1, 2].
    learned_affine<affine<2>> q({8});
    const std::vector<float> x{-3.0f, -1.0f, -0.75f, 0.25f, 1.9f, 2.0f, 5.0f, not_a_number}, dy{1, 2, 3, 4, 5, 6, 7, 8};
    q.initialize(x);
    q.log_step()[0] = 0.0f;
    q.offset()[0] = -1.25f; // is used as its nearest multiple of the step
    q.forward(x);
    CHECK(q.params()[0] == quant_params{1.0f, 1});
    CHECK(vec(q.codes()) == std::vector<std::uint8_t>{0, 0, 0, 1, 3, 3, 3, 1});
    CHECK(vec(q.backward(x, dy)) == std::vector<float>{0, 0, 3, 4, 5, 0, 0, 0});
    const double g = 1.0 / std::sqrt(8.0 * 3.0);
    const double ds = 3 * -0.25 + 4 * -0.25 + 5 * (2 - 1.9) + 6 * 3 + 7 * 3;
    CHECK(static_cast<double>(q.log_step_gradient()[0]) == Approx(g * ds).epsilon(1e-6));
    CHECK(static_cast<double>(q.offset_gradient()[0]) == Approx(g * (1 + 2 + 6 + 7)).epsilon(1e-6));
    q.backward(x, dy);
    CHECK(static_cast<double>(q.log_step_gradient()[0]) == Approx(2 * g * ds).epsilon(1e-6));
}

TEST_CASE("learned_affine: the gradients are the derivatives of the surrogate, per channel and signed or not") {
    const auto x = randoms(3, 60, -1.0f, 3.0f), dy = randoms(4, 60, -1.0f, 1.0f);
    const auto check = [&](auto q) {
        using range = typename decltype(q)::range;
        q.initialize(x);
        for (float& t : q.log_step()) t -= 0.4f; // some values are clipped
        for (float& b : q.offset()) b *= std::exp(-0.4f);
        q.forward(x);
        q.backward(x, dy);
        for (index_t c = 0; c < 3; ++c) {
            const auto at = static_cast<std::size_t>(c);
            const quant_params p = q.params()[at];
            const double s = static_cast<double>(p.scale), b = -p.zero_point * s, h = 1e-6;
            const auto loss = [&](double step, double offset) {
                return surrogate<range>(x, dy, q.layout(), c, p, step, offset);
            };
            const double g = 1.0 / std::sqrt(20.0 * (range::qmax - range::qmin));
            CHECK(static_cast<double>(q.log_step_gradient()[at]) ==
                  Approx(g * (loss(s * std::exp(h), b) - loss(s * std::exp(-h), b)) / (2 * h))
                      .epsilon(1e-3)
                      .margin(1e-5));
            CHECK(static_cast<double>(q.offset_gradient()[at]) ==
                  Approx(g * (loss(s, b + h) - loss(s, b - h)) / (2 * h)).epsilon(1e-3).margin(1e-5));
        }
    };
    check(learned_affine<affine<3>, per_channel<1>>({4, 3, 5}));
    check(learned_affine<affine_signed<4>, per_channel<1>>({4, 3, 5}));
}

TEST_CASE("learned_affine: an offset beyond the codes is clamped and does not drift away") {
    learned_affine<affine<2>> q({2});
    const std::vector<float> x{-5.0f, 9.0f}, up{1.0f, 1.0f}, down{-1.0f, -1.0f};
    q.initialize(x);
    q.log_step()[0] = 0.0f;
    for (float sign : {1.0f, -1.0f}) {
        q.offset()[0] = sign * 20.0f;
        q.forward(x);
        CHECK(q.params()[0].zero_point == (sign > 0 ? 0 : 3));
        q.offset_gradient()[0] = 0.0f;
        q.backward(x, sign > 0 ? down : up); // descent would move it further
        CHECK(q.offset_gradient()[0] == 0.0f);
        q.backward(x, sign > 0 ? up : down);
        CHECK(q.offset_gradient()[0] * sign > 0.0f);
    }
}

TEST_CASE("learned_affine starts from min-max, or from the parameters of a calibration") {
    auto x = randoms(5, 2000, -0.3f, 1.0f);
    x[0] = 8.0f; // an outlier
    x[1] = not_a_number;
    learned_affine<affine<4>> q({2000});
    q.initialize(x);
    const quant_params want = params_from_range<affine<4>>({-0.3f, 8.0f});
    CHECK(q.params()[0].scale == Approx(want.scale).epsilon(1e-5));
    CHECK(q.params()[0].zero_point == want.zero_point);
    const auto error = [&] {
        double sum = 0;
        q.forward(x);
        for (std::size_t i = 0; i < x.size(); ++i)
            if (!std::isnan(x[i])) sum += std::pow(static_cast<double>(q.values()[i] - x[i]), 2);
        return sum;
    };
    const double by_min_max = error();
    std::vector<quant_params> least(1);
    calibrate<affine<4>>(x, q.layout(), clip::error(2), least);
    q.initialize(least);
    CHECK(q.params()[0].zero_point == least[0].zero_point);
    CHECK(q.step(0) == Approx(least[0].scale).epsilon(1e-6));
    CHECK(error() < by_min_max);
    CHECK_THROWS_WITH(q.initialize(std::vector<quant_params>(2)),
                      contains_text("the number of params is 2, expected 1"));
    CHECK_THROWS_WITH(q.initialize(std::vector<quant_params>{{0.0f, 0}}), contains_text("params.scale is 0"));
    CHECK_THROWS_WITH(q.initialize(std::vector<quant_params>{{1.0f, 16}}), contains_text("zero_point is 16"));
}

TEST_CASE("learned_range: gradients by hand") {
    // Codes 0..3 over [-1, 2]: below -1 and above 2 the bounds have the gradient.
    learned_range<affine<2>> q({5});
    const std::vector<float> x{-3.0f, -0.75f, 0.25f, 5.0f, 2.5f}, dy{1, 3, 4, 7, 8};
    q.initialize(x);
    q.min()[0] = -1.0f;
    q.max()[0] = 2.0f;
    q.forward(x);
    CHECK(q.params()[0] == quant_params{1.0f, 1});
    CHECK(vec(q.backward(x, dy)) == std::vector<float>{0, 3, 4, 0, 0});
    const double inside = (3 * -0.25 + 4 * -0.25) / 3.0;
    CHECK(static_cast<double>(q.max_gradient()[0]) == Approx(7 + 8 + inside).epsilon(1e-6));
    CHECK(static_cast<double>(q.min_gradient()[0]) == Approx(1 - inside).epsilon(1e-6));
}

TEST_CASE("learned_range: the gradients are the derivatives of the surrogate by the bounds") {
    const auto x = randoms(6, 60, -1.0f, 3.0f), dy = randoms(7, 60, -1.0f, 1.0f);
    const auto check = [&](auto q) {
        using range = typename decltype(q)::range;
        q.initialize(x);
        for (float& v : q.max()) v *= 0.7f;
        for (float& v : q.min()) v *= 0.6f;
        q.forward(x);
        q.backward(x, dy);
        for (index_t c = 0; c < 3; ++c) {
            const auto at = static_cast<std::size_t>(c);
            const quant_params p = q.params()[at];
            const real_range r = range_of<range>(p);
            const auto loss = [&](double lo, double hi) {
                const double s = (hi - lo) / (range::qmax - range::qmin);
                return surrogate<range>(x, dy, q.layout(), c, p, s, lo - range::qmin * s);
            };
            const double lo = static_cast<double>(r.min), hi = static_cast<double>(r.max), h = 1e-5;
            CHECK(static_cast<double>(q.min_gradient()[at]) ==
                  Approx((loss(lo + h, hi) - loss(lo - h, hi)) / (2 * h)).epsilon(1e-3).margin(1e-5));
            CHECK(static_cast<double>(q.max_gradient()[at]) ==
                  Approx((loss(lo, hi + h) - loss(lo, hi - h)) / (2 * h)).epsilon(1e-3).margin(1e-5));
        }
    };
    check(learned_range<affine<3>, per_channel<1>>({4, 3, 5}));
    check(learned_range<affine_signed<4>, per_channel<1>>({4, 3, 5}));
}

TEST_CASE("learned_range: bounds on the wrong side of 0 count as 0 and do not drift away") {
    learned_range<affine<8>> q({2});
    const std::vector<float> x{-1.0f, 3.0f}, ones{1.0f, 1.0f}, minus{-1.0f, -1.0f};
    q.initialize(x);
    q.min()[0] = 0.5f;
    q.max()[0] = 2.0f;
    CHECK(q.bounds(0) == real_range{0.0f, 2.0f});
    q.forward(x);
    q.backward(x, minus); // dlo = -1: descent would raise the minimum
    CHECK(q.min_gradient()[0] == 0.0f);
    q.backward(x, ones);
    CHECK(q.min_gradient()[0] == 1.0f);
    q.min()[0] = -1.0f;
    q.max()[0] = -2.0f;
    CHECK(q.bounds(0) == real_range{-1.0f, 0.0f});
    q.max_gradient()[0] = 0.0f;
    q.forward(x);
    q.backward(x, ones);
    CHECK(q.max_gradient()[0] == 0.0f);
    q.backward(x, minus);
    CHECK(q.max_gradient()[0] == Approx(-1.0f).epsilon(1e-5));
    CHECK_THROWS_WITH(q.bounds(1), contains_text("channel 1 of 1"));
}

TEST_CASE("learned_range: a range that has collapsed to 0 is opened again by descent") {
    // The loss is the mean of |value - x|^2; all x lie on one side, and the bound of that side has crossed 0.
    for (const float side : {1.0f, -1.0f}) {
        INFO(side);
        const auto x = side > 0 ? randoms(12, 256, 0.0f, 6.0f) : randoms(13, 256, -6.0f, 0.0f);
        learned_range<affine<8>> q({256});
        q.min()[0] = side > 0 ? 0.0f : 0.1f;
        q.max()[0] = side > 0 ? -0.1f : 0.0f;
        q.forward(x);
        CHECK(q.params()[0].scale == FLT_MIN);
        std::vector<float> dy(x.size());
        for (int step = 0; step < 300; ++step) {
            const auto values = q.forward(x);
            for (std::size_t i = 0; i < x.size(); ++i) dy[i] = 2.0f * (values[i] - x[i]) / 256.0f;
            q.min_gradient()[0] = q.max_gradient()[0] = 0.0f;
            q.backward(x, dy);
            q.min()[0] -= 0.3f * q.min_gradient()[0];
            q.max()[0] -= 0.3f * q.max_gradient()[0];
        }
        const real_range r = q.bounds(0);
        CHECK((side > 0 ? r.max : -r.min) > 5.5f);
        CHECK((side > 0 ? -r.min : r.max) < 0.1f);
    }
}

TEST_CASE("learned_threshold (TQT): codes and gradients by hand") {
    // log2 t = 1.3: t is moved up to 4, the scale of three bits is 4 / 4 = 1, the codes are -4..3.
    learned_threshold<symmetric_full<3>> q({8});
    const std::vector<float> x{-9.0f, -4.4f, -4.6f, 0.3f, 2.5f, 3.4f, 3.6f, not_a_number}, dy{1, 2, 3, 4, 5, 6, 7, 8};
    CHECK(q.params()[0] == quant_params{0.25f, 0}); // t = 1
    q.initialize(x);
    q.log2_threshold()[0] = 1.3f;
    q.forward(x);
    CHECK(q.params()[0] == quant_params{1.0f, 0});
    CHECK(vec(q.codes()) == std::vector<std::int8_t>{-4, -4, -4, 0, 2, 3, 3, 0});
    CHECK(vec(q.backward(x, dy)) == std::vector<float>{0, 2, 0, 4, 5, 6, 0, 0});
    const double sum = 1 * -4 + 2 * 0.4 + 3 * -4 + 4 * -0.3 + 5 * -0.5 + 6 * -0.4 + 7 * 3;
    CHECK(static_cast<double>(q.log2_threshold_gradient()[0]) == Approx(std::log(2.0) * sum).epsilon(1e-5));
    q.log2_threshold()[0] = 2.0f; // a power of two stays
    CHECK(q.scale(0) == 1.0f);
    q.log2_threshold()[0] = 2.001f;
    CHECK(q.scale(0) == 2.0f);
    q.initialize(std::vector<float>{1, -1, 1, -1, not_a_number, infinity, 1, -1}); // t = 3
    CHECK(q.log2_threshold()[0] == Approx(std::log2(3.0)).epsilon(1e-6));
    q.initialize(std::vector<float>(8));
    CHECK(q.log2_threshold()[0] == 0.0f);

    // From 0 on: t = 2 in two bits is a scale of 2 / 4.
    learned_threshold<affine<2>> relu({3});
    relu.initialize(std::vector<float>{1, 1, 1});
    relu.log2_threshold()[0] = 1.0f;
    const std::vector<float> y{-1.0f, 0.6f, 9.0f}, ones(3, 1.0f);
    relu.forward(y);
    CHECK(relu.params()[0] == quant_params{0.5f, 0});
    CHECK(vec(relu.codes()) == std::vector<std::uint8_t>{0, 1, 3});
    CHECK(vec(relu.backward(y, ones)) == std::vector<float>{0, 1, 0});
    CHECK(relu.log2_threshold_gradient()[0] == Approx(0.5 * std::log(2.0) * (1 - 1.2 + 3)).epsilon(1e-5));
}

TEST_CASE("learned_threshold: the gradient is the derivative of the surrogate, per group") {
    const auto x = randoms(8, 72, -2.0f, 2.0f), dy = randoms(9, 72, -1.0f, 1.0f);
    using range = symmetric<4>;
    learned_threshold<range, per_group<8>> q({3, 24});
    q.initialize(x);
    for (float& t : q.log2_threshold()) t -= 1.5f;
    q.forward(x);
    q.backward(x, dy);
    REQUIRE(q.params().size() == 9);
    for (std::size_t c = 0; c < 9; ++c) {
        const double s0 = static_cast<double>(q.params()[c].scale);
        int exponent = 0;
        CHECK(std::frexp(q.params()[c].scale, &exponent) == 0.5f);
        const auto loss = [&](double log2_change) {
            const double s = s0 * std::exp2(log2_change);
            double sum = 0;
            for (std::size_t i = 8 * c; i < 8 * c + 8; ++i) {
                const double v = static_cast<double>(x[i]) / s0, r = std::nearbyint(v) - v;
                sum += static_cast<double>(dy[i]) * (std::nearbyint(v) < -7  ? -7 * s
                                                     : std::nearbyint(v) > 7 ? 7 * s
                                                                             : static_cast<double>(x[i]) + r * s);
            }
            return sum;
        };
        CHECK(static_cast<double>(q.log2_threshold_gradient()[c]) ==
              Approx((loss(1e-6) - loss(-1e-6)) / 2e-6).epsilon(1e-3).margin(1e-5));
    }
    // Given scales are for one call.
    const std::vector<float> scales(9, 0.3f);
    q.forward(x, scales);
    CHECK(q.params()[4].scale == 0.3f);
    q.forward(x);
    CHECK(q.params()[4].scale == q.scale(4));
    CHECK_THROWS_WITH(q.forward(x, std::vector<float>(9)), contains_text("scales[0] is 0"));
    static_assert(symmetric_quantizer<learned_threshold<symmetric<8>, per_channel<0>>>);
}

TEST_CASE("learned quantizers give the codes of inference with the parameters they show") {
    auto x = randoms(10, 3 * 7 * 11, -2.0f, 5.0f);
    x[3] = not_a_number;
    x[4] = infinity;
    x[5] = -infinity;
    const auto check = [&](auto q) { check_inference(q, x); };
    check(learned_clip<affine<8>>({3, 7, 11}, 4.0f));
    check(learned_clip<affine<4>, per_channel<2>>({3, 7, 11}, 1.5f));
    check(learned_clip<affine_signed<8>, per_token>({3, 7, 11}));
    check(learned_affine<affine<8>>({3, 7, 11}));
    check(learned_affine<affine_signed<4>, per_channel<1>>({3, 7, 11}));
    check(learned_affine<power_of_two<affine<8>>>({3, 7, 11}));
    check(learned_range<affine<8>, per_group<4>>({3, 7, 11}));
    check(learned_range<affine_signed<3>>({3, 7, 11}));
    check(learned_threshold<symmetric<8>>({3, 7, 11}));
    check(learned_threshold<symmetric_full<4>, per_channel<2>>({3, 7, 11}));
    check(learned_threshold<affine<8>>({3, 7, 11}));
}

TEST_CASE("learned quantizers are valid whatever the optimizer does") {
    const auto x = randoms(11, 30, -2.0f, 5.0f);
    learned_clip<affine<8>> clip({30});
    check_any_number(clip, clip.log_clip()[0], x, "learned_clip.forward: log_clip of channel 0 is NaN");
    learned_clip<affine<16>> wide({30});
    check_any_number(wide, wide.log_clip()[0], x, "log_clip of channel 0 is NaN");
    learned_affine<affine<8>> affine_q({30});
    affine_q.initialize(x);
    check_any_number(affine_q, affine_q.log_step()[0], x, "learned_affine.forward: log_step of channel 0 is NaN");
    affine_q.initialize(x);
    check_any_number(affine_q, affine_q.offset()[0], x, "learned_affine.forward: offset of channel 0 is NaN");
    learned_range<affine_signed<8>> range({30});
    range.initialize(x);
    check_any_number(range, range.min()[0], x, "learned_range.forward: min of channel 0 is NaN");
    range.initialize(x);
    check_any_number(range, range.max()[0], x, "learned_range.forward: max of channel 0 is NaN");
    learned_threshold<symmetric<8>> threshold({30});
    threshold.initialize(x);
    check_any_number(threshold, threshold.log2_threshold()[0], x,
                     "learned_threshold.forward: log2_threshold of channel 0 is NaN");
}

TEST_CASE("learned quantizers refuse what they cannot do") {
    check_refusals<learned_clip<affine<8>>>("learned_clip");
    check_refusals<learned_affine<affine<8>>>("learned_affine");
    check_refusals<learned_range<affine<8>>>("learned_range");
    check_refusals<learned_threshold<symmetric<8>>>("learned_threshold");
    using clip_q = learned_clip<affine<8>>;
    for (float alpha : {0.0f, -1.0f, not_a_number, infinity})
        CHECK_THROWS_WITH(clip_q({4}, alpha), contains_text("alpha is"));
    CHECK_THROWS_WITH(clip_q({4}).clip(1), contains_text("channel 1 of 1"));
    CHECK_THROWS_WITH(learned_affine<affine<8>>({4}).step(-1), contains_text("channel -1 of 1"));
    CHECK_THROWS_WITH(learned_threshold<symmetric<8>>({4}).scale(1), contains_text("channel 1 of 1"));
}
