// SPDX-License-Identifier: Apache-2.0
//
// The scheme at its edges: fixed point against wide integers, random ranges, definitions of ties.
#include "../catch.hpp"

#include <cmath>
#include <limits>
#include <random>

#include <notch/ref/quantize.hpp>
#include <notch/scheme/fixed_point.hpp>
#include <notch/scheme/range.hpp>
#include <notch/scheme/requantize.hpp>

using namespace notch;

namespace {
/// Round to nearest, ties away from zero, in long double (64 bits of fraction: exact here).
std::int64_t away(long double v) { return static_cast<std::int64_t>(std::round(v)); }
std::int32_t clamp_to(std::int64_t v, code_range r) {
    return static_cast<std::int32_t>(v < r.lo ? r.lo : v > r.hi ? r.hi : v);
}
} // namespace

TEST_CASE("fixed point arithmetic equals its definition in exact arithmetic") {
    std::mt19937 g(1);
    const std::int32_t low = std::numeric_limits<std::int32_t>::min(), top = std::numeric_limits<std::int32_t>::max();
    const std::int32_t special[] = {low, low + 1, -1, 0, 1, top, 1 << 30, -(1 << 30)};
    index_t wrong = 0;
    for (int t = 0; t < 20000; ++t) {
        const std::int32_t a = t % 4 ? static_cast<std::int32_t>(g()) : special[g() % 8],
                           b = t % 5 ? static_cast<std::int32_t>(g()) : special[g() % 8];
        // gemmlowp: (a * b + nudge) / 2^31 truncated: ties of either sign go up in magnitude, but for
        // the exact negative tie, which the nudge 1 - 2^30 sends to the smaller magnitude.
        const std::int64_t product = static_cast<std::int64_t>(a) * b;
        const std::int64_t nudged = (product + (product >= 0 ? (1 << 30) : 1 - (1 << 30))) / (std::int64_t{1} << 31);
        wrong += doubling_high_mul(a, b) != (a == low && b == low ? top : static_cast<std::int32_t>(nudged));
        const int exponent = static_cast<int>(g() % 32);
        wrong += rounding_divide_by_pot(a, exponent) != away(std::ldexp(static_cast<long double>(a), -exponent));
        const fixed_multiplier m{static_cast<std::int32_t>((1u << 30) + g() % (1u << 30)),
                                 static_cast<std::int32_t>(g() % 62) - 31};
        const code_range range{-128, 127};
        const long double exact = std::ldexp(static_cast<long double>(a) * m.mantissa, m.shift - 31);
        wrong += requantize_fixed_single(a, m, 3, range) !=
                 clamp_to(static_cast<std::int64_t>(std::floor(exact + 0.5L > 9e18L    ? 9e18L
                                                               : exact + 0.5L < -9e18L ? -9e18L
                                                                                       : exact + 0.5L)) +
                              3,
                          range);
    }
    CHECK(wrong == 0);
}

TEST_CASE("the multiplier nearest to a real stays in its documented range, also at the borders") {
    for (double real : {std::nextafter(1073741824.0, 0.0), 1073741823.0, std::ldexp(1.0, -32),
                        std::nextafter(std::ldexp(1.0, -32), 0.0), std::nextafter(1.0, 0.0), 1.0, 5e-324, 1e-300}) {
        fixed_multiplier m;
        try {
            m = to_fixed_multiplier(real);
        } catch (const error&) {
            continue; // refusing is fine, a shift that the formulas cannot take is not
        }
        INFO(real << " -> " << m.mantissa << " shift " << m.shift);
        CHECK(m.shift <= 30);
        CHECK(m.shift >= -31);
        CHECK((m.mantissa == 0 || m.mantissa >= 1 << 30));
    }
}

TEST_CASE("random ranges: zero is exact, every value comes back within half a step of its clamp") {
    std::mt19937 g(2);
    index_t wrong = 0;
    const auto check = [&]<class R>(R, real_range r) {
        const quant_params p = params_from_range<R>(r);
        wrong += !(p.scale > 0.0f) || !std::isfinite(p.scale) || p.zero_point < R::qmin || p.zero_point > R::qmax;
        wrong += ref::dequantize(ref::quantize(0.0f, p, {R::qmin, R::qmax}), p) != 0.0f;
        const real_range covered = range_of<R>(p);
        wrong += !std::isfinite(covered.min) || !std::isfinite(covered.max) || covered.min > 0.0f || covered.max < 0.0f;
        for (int k = 0; k < 5; ++k) {
            const float v = covered.min + (covered.max - covered.min) * (static_cast<float>(g() % 1001) / 1000.0f);
            if (!(v >= covered.min && v <= covered.max)) continue; // the difference overflowed
            const double back = static_cast<double>(ref::dequantize(ref::quantize(v, p, {R::qmin, R::qmax}), p));
            wrong += std::fabs(back - static_cast<double>(v)) > 0.5001 * static_cast<double>(p.scale) + 1e-45;
        }
    };
    for (int t = 0; t < 5000; ++t) {
        const auto random = [&] {
            return std::ldexp(static_cast<float>(static_cast<int>(g() % 20001) - 10000) / 10000.0f,
                              static_cast<int>(g() % 270) - 142);
        };
        const float a = random(), b = g() % 3 ? random() : a * 1.001f;
        if (!std::isfinite(a) || !std::isfinite(b)) continue;
        const real_range r{a < b ? a : b, a < b ? b : a};
        check(affine<8>{}, r);
        check(affine<2>{}, r);
        check(affine_signed<8>{}, r);
        check(symmetric<8>{}, r);
        check(symmetric<4>{}, r);
        check(symmetric_full<8>{}, r);
    }
    CHECK(wrong == 0);
}

TEST_CASE("requantize_float rounds the float product once, ties to even") {
    std::mt19937 g(3);
    index_t wrong = 0;
    for (int t = 0; t < 20000; ++t) {
        const auto acc = static_cast<std::int32_t>(g()) >> g() % 24;
        const float m =
            t % 2 ? std::ldexp(1.0f, -static_cast<int>(g() % 20))
                  : std::ldexp(1.0f + static_cast<float>(g() % 65536) / 65536.0f, -static_cast<int>(g() % 30));
        const float product = static_cast<float>(acc) * m; // correctly rounded by IEEE 754
        const double down = std::floor(static_cast<double>(product)), part = static_cast<double>(product) - down;
        double y = part > 0.5 || (part == 0.5 && std::fmod(down, 2.0) != 0.0) ? down + 1.0 : down;
        y = y + 40.0 < 0.0 ? 0.0 : y + 40.0 > 255.0 ? 255.0 : y + 40.0;
        wrong += requantize_float(acc, m, 40, {0, 255}) != static_cast<std::int32_t>(y);
    }
    CHECK(wrong == 0);
    const quant_params p{1.0f, 10};
    CHECK(ref::quantize<half_even>(2.5f, p, {0, 255}) == 12);
    CHECK(ref::quantize<half_away>(2.5f, p, {0, 255}) == 13);
    CHECK(ref::quantize<toward_zero>(2.9f, p, {0, 255}) == 12);
    CHECK(ref::quantize(std::numeric_limits<float>::quiet_NaN(), p, {0, 255}) == 10);
    CHECK(ref::quantize(std::numeric_limits<float>::infinity(), p, {0, 255}) == 255);
    CHECK(ref::quantize(-std::numeric_limits<float>::infinity(), p, {0, 255}) == 0);
}

// Values worked out by hand, at which truncating, flooring or computing in float gives another result.
TEST_CASE("zero_point, bias and fixed-point mantissa are rounded to the nearest") {
    // [-0.6, 254.4] has a step of 1 and its zero 0.6 steps above the lowest code.
    CHECK(params_from_range<affine<8>>({-0.6f, 254.4f}).zero_point == 1);
    CHECK(params_from_range<affine<8>>({-0.4f, 254.6f}).zero_point == 0);
    CHECK(quantize_bias(2.6f, 1.0f, 1.0f) == 3);
    CHECK(quantize_bias(-2.6f, 1.0f, 1.0f) == -3);
    CHECK(quantize_bias(2.5f, 1.0f, 1.0f) == 2);
    CHECK(quantize_bias(3.5f, 0.5f, 2.0f) == 4);
    // 0.7 * 2^31 = 1503238553.6; 0.35 = 0.7 / 2.
    CHECK(to_fixed_multiplier(0.7) == fixed_multiplier{1503238554, 0});
    CHECK(to_fixed_multiplier(0.35) == fixed_multiplier{1503238554, -1});
}

TEST_CASE("zero points halfway between two codes go to the even one, and a bias is divided in double") {
    // Steps of 1: the zero lies 1.5, 2.5, 3.5 steps above the lowest code.
    CHECK(params_from_range<affine<8>>({-1.5f, 253.5f}) == quant_params{1.0f, 2});
    CHECK(params_from_range<affine<8>>({-2.5f, 252.5f}) == quant_params{1.0f, 2});
    CHECK(params_from_range<affine<8>>({-3.5f, 251.5f}) == quant_params{1.0f, 4});
    CHECK(params_from_range<affine_signed<8>>({-2.5f, 252.5f}) == quant_params{1.0f, -126}); // -125.5
    CHECK(params_from_range<affine_signed<8>>({-3.5f, 251.5f}) == quant_params{1.0f, -124}); // -124.5
    // s = 1.5 + u, u = 2^-23: s^2 = 2.25 + 3u + u^2 exactly, in float 2.25 + 4u. Divided into
    // 2.25 * 2^24 that is 2^24 - 2.67, in float 2^24 - 3.56.
    const float s = 1.5f + 0x1p-23f;
    CHECK(quantize_bias(2.25f * 16777216.0f, s, s) == 16777213);
}
