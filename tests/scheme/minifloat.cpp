// SPDX-License-Identifier: Apache-2.0
//
// Short floating-point formats against a slow definition: a table of all values in double, and a search in it. The
// inputs are every code, every float16, every float next to a rounding boundary, and random bits.
#include "../catch.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <notch/scheme/e8m0.hpp>
#include <notch/scheme/half.hpp>
#include <notch/scheme/minifloat.hpp>
#include <notch/scheme/nf4.hpp>

using namespace notch;

// The constants of the specifications, which also shows that everything is constexpr.
static_assert(fp8_e4m3::max() == 448.0f && fp8_e4m3::min_normal() == 0x1p-6f && fp8_e4m3::min_subnormal() == 0x1p-9f);
static_assert(fp8_e5m2::max() == 57344.0f && fp8_e5m2::min_normal() == 0x1p-14f &&
              fp8_e5m2::min_subnormal() == 0x1p-16f);
static_assert(fp6_e2m3::max() == 7.5f && fp6_e2m3::min_normal() == 1.0f && fp6_e2m3::min_subnormal() == 0.125f);
static_assert(fp6_e3m2::max() == 28.0f && fp6_e3m2::min_normal() == 0.25f && fp6_e3m2::min_subnormal() == 0.0625f);
static_assert(fp4_e2m1::max() == 6.0f && fp4_e2m1::min_normal() == 1.0f && fp4_e2m1::min_subnormal() == 0.5f);
static_assert(fp8_e4m3fnuz::max() == 240.0f && fp8_e4m3fnuz::min_subnormal() == 0x1p-10f);
static_assert(fp8_e5m2fnuz::max() == 57344.0f && fp8_e5m2fnuz::min_subnormal() == 0x1p-17f);
static_assert(float16::max() == 65504.0f && float16::min_normal() == 0x1p-14f && float16::min_subnormal() == 0x1p-24f);
static_assert(fp8_e4m3::max_exponent == 8 && fp8_e5m2::max_exponent == 15 && fp6_e2m3::max_exponent == 2);
static_assert(fp6_e3m2::max_exponent == 4 && fp4_e2m1::max_exponent == 2);
static_assert(fp8_e4m3::bits == 8 && fp6_e2m3::bits == 6 && fp6_e3m2::bits == 6 && fp4_e2m1::bits == 4);
static_assert(fp8_e4m3::encode(1.0f) == 0x38 && fp8_e4m3::encode(-448.0f) == 0xfe && fp8_e4m3::encode(464.0f) == 0x7e);
static_assert(fp8_e4m3::encode<float_overflow::special>(465.0f) == 0x7f);
static_assert(fp8_e4m3::encode<float_overflow::special>(464.0f) == 0x7e);
static_assert(fp8_e5m2::encode(61440.0f) == 0x7b && fp8_e5m2::encode<float_overflow::special>(61440.0f) == 0x7c);
static_assert(fp4_e2m1::encode(2.5f) == 4 && fp4_e2m1::encode(5.0f) == 6 && fp4_e2m1::encode(-0.25f) == 8);
static_assert(fp8_e4m3::decode(0x7e) == 448.0f && fp8_e5m2::decode(0xfb) == -57344.0f);
static_assert(to_float16(1.0f) == 0x3c00u && from_float16(0x7bffu) == 65504.0f);
static_assert(fp8_e4m3::encode(1.9375f, toward_zero{}) == 0x3f && fp8_e4m3::encode(1.9375f) == 0x40);
static_assert(fp8_e4m3::encode(1.0625f, half_away{}) == 0x39 && fp8_e4m3::encode(1.0625f) == 0x38);
static_assert(e8m0::encode(1.0f) == 127 && e8m0::decode(0) == 0x1p-127f && e8m0::decode(254) == 0x1p127f);
static_assert(nf4::encode(0.0f) == 7 && nf4::encode(2.0f) == 15 && nf4::decode(0) == -1.0f);

namespace {

enum class kind { ieee, fn, fnuz, finite };

/// A format as its specification gives it: widths, bias, and which codes are numbers.
struct slow_format {
    int e, f, bias;
    kind k;
    int bits() const { return 1 + e + f; }
    unsigned sign() const { return 1u << (bits() - 1); }
    /// The value of a code without its sign, if all codes were numbers.
    double magnitude(unsigned code) const {
        const unsigned exponent = code >> f, fraction = code - (exponent << f);
        return exponent == 0 ? std::ldexp(fraction, 1 - bias - f)
                             : std::ldexp(1.0 + std::ldexp(fraction, -f), static_cast<int>(exponent) - bias);
    }
    /// How many magnitudes are numbers.
    unsigned numbers() const { return k == kind::ieee ? ((1u << e) - 1) << f : k == kind::fn ? sign() - 1 : sign(); }
    double value(unsigned code) const {
        const bool minus = code >= sign();
        const unsigned m = minus ? code - sign() : code;
        if (k == kind::fnuz && minus && m == 0) return std::nan("");
        if (m >= numbers()) return k == kind::ieee && m == numbers() ? (minus ? -INFINITY : INFINITY) : std::nan("");
        return minus ? -magnitude(m) : magnitude(m);
    }
};

enum class policy { even, away, zero, up, random };

/// The code by search; codes of NaN are all written as -1.
struct slow_search {
    slow_format s;
    std::vector<double> values; // magnitudes of all numbers and of the one that would follow
    explicit slow_search(slow_format format) : s(format) {
        for (unsigned c = 0; c <= s.numbers(); ++c) values.push_back(s.magnitude(c));
    }
    int encode(float x, bool saturate, policy p = policy::even, std::uint32_t random = 0) const {
        if (std::isnan(x)) return s.k == kind::finite ? static_cast<int>(s.numbers() - 1) : -1;
        const int sign = std::signbit(x) ? static_cast<int>(s.sign()) : 0;
        const double m = std::fabs(static_cast<double>(x));
        std::size_t code = values.size() - 1; // overflow
        if (m < values.back()) {
            const auto above = std::upper_bound(values.begin(), values.end(), m);
            const double low = above[-1], part = (m - low) / (*above - low); // both differences are exact
            code = static_cast<std::size_t>(above - values.begin()) - 1;
            const bool odd = code % 2 != 0;
            const bool next = p == policy::even   ? part > 0.5 || (part == 0.5 && odd)
                              : p == policy::away ? part >= 0.5
                              : p == policy::up   ? part > 0
                              : p == policy::zero ? false
                                                  : part * 4294967296.0 > random;
            code += next ? 1 : 0;
        }
        if (code == s.numbers()) {
            if (saturate || s.k == kind::finite) return sign + static_cast<int>(s.numbers() - 1);
            return s.k == kind::ieee ? sign + static_cast<int>(s.numbers()) : -1;
        }
        return s.k == kind::fnuz && code == 0 ? 0 : sign + static_cast<int>(code);
    }
};

/// Calls f with every float worth a test for a format.
template <class F> void for_each_input(const slow_search& slow, const F& f) {
    const auto around = [&](float x) {
        for (float v : {x, std::nextafter(x, INFINITY), std::nextafter(x, -INFINITY)}) {
            f(v);
            f(-v);
        }
    };
    for (std::size_t c = 0; c < slow.values.size(); ++c) {
        around(static_cast<float>(slow.values[c]));
        if (c > 0) around(static_cast<float>((slow.values[c - 1] + slow.values[c]) / 2)); // exact: one bit more
    }
    for (unsigned h = 0; h < 65536; ++h) f(from_float16(static_cast<std::uint16_t>(h)));
    for (float x : {0.0f, std::numeric_limits<float>::denorm_min(), FLT_MIN, FLT_MAX, INFINITY, NAN}) around(x);
    for (float x : {INFINITY, -INFINITY, NAN, -NAN, std::bit_cast<float>(0x7f800001u)}) f(x);
    std::mt19937 g(1);
    for (int i = 0; i < 50000; ++i) f(std::bit_cast<float>(static_cast<std::uint32_t>(g())));
}

template <class Format> void check_format(slow_format s) {
    REQUIRE(Format::bits == s.bits());
    REQUIRE(Format::bias == s.bias);
    const slow_search slow(s);
    // Where NaN has several codes, all count as one.
    const auto name = [&](unsigned code) { return std::isnan(s.value(code)) ? -1 : static_cast<int>(code); };
    index_t wrong = 0;
    for (unsigned c = 0; c < 1u << s.bits(); ++c) {
        const float x = Format::decode(c);
        const double want = s.value(c);
        if (std::isnan(want)) {
            wrong += !std::isnan(x) || name(Format::encode(x)) != -1;
            continue;
        }
        wrong += static_cast<double>(x) != want || std::signbit(x) != std::signbit(want);
        if (std::isinf(want)) {
            wrong += Format::template encode<float_overflow::special>(x) != c;
            continue;
        }
        wrong += Format::encode(x) != c || Format::template encode<float_overflow::special>(x) != c;
    }
    CHECK(wrong == 0);
    std::uint32_t random = 0;
    index_t inputs = 0;
    for_each_input(slow, [&](float x) {
        ++inputs;
        random = random * 1664525u + 1013904223u;
        wrong += name(Format::encode(x)) != slow.encode(x, true);
        wrong += name(Format::template encode<float_overflow::special>(x)) != slow.encode(x, false);
        wrong += name(Format::encode(x, half_away{})) != slow.encode(x, true, policy::away);
        wrong += name(Format::encode(x, toward_zero{})) != slow.encode(x, true, policy::zero);
        wrong += name(Format::encode(x, toward_positive{})) != slow.encode(x, true, policy::up);
        wrong += name(Format::encode(x, stochastic_draw{random})) != slow.encode(x, true, policy::random, random);
    });
    INFO(inputs << " inputs");
    CHECK(inputs > 115000);
    CHECK(wrong == 0);
}

} // namespace

TEST_CASE("FP8: every code, every float16, every rounding boundary") {
    check_format<fp8_e4m3>({4, 3, 7, kind::fn});
    check_format<fp8_e5m2>({5, 2, 15, kind::ieee});
    check_format<fp8_e4m3fnuz>({4, 3, 8, kind::fnuz});
    check_format<fp8_e5m2fnuz>({5, 2, 16, kind::fnuz});
}

TEST_CASE("FP6 and FP4: every code, every float16, every rounding boundary") {
    check_format<fp6_e2m3>({2, 3, 1, kind::finite});
    check_format<fp6_e3m2>({3, 2, 3, kind::finite});
    check_format<fp4_e2m1>({2, 1, 1, kind::finite});
    // All of FP4, as the MX specification lists it.
    const float all[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    for (unsigned c = 0; c < 8; ++c) {
        CHECK(fp4_e2m1::decode(c) == all[c]);
        CHECK(fp4_e2m1::decode(c + 8) == -all[c]);
    }
}

TEST_CASE("float16 is the same template with more bits") { check_format<float16>({5, 10, 15, kind::ieee}); }

TEST_CASE("infinity and NaN go where the formats have room for them") {
    const float inf = INFINITY, nan = NAN;
    constexpr auto special = float_overflow::special;
    CHECK(fp8_e4m3::encode(-inf) == 0xfe);
    CHECK(fp8_e4m3::encode<special>(-inf) == 0xff);
    CHECK(fp8_e4m3::encode(nan) == 0x7f);
    CHECK(fp8_e5m2::encode(inf) == 0x7b);
    CHECK(fp8_e5m2::encode<special>(-inf) == 0xfc);
    CHECK(fp8_e5m2::encode(-std::bit_cast<float>(0x7f800001u)) == 0xfe);
    CHECK(fp8_e4m3fnuz::encode(inf) == 0x7f);
    CHECK(fp8_e4m3fnuz::encode(-inf) == 0xff);
    CHECK(fp8_e4m3fnuz::encode<special>(inf) == 0x80);
    CHECK(fp8_e5m2fnuz::encode<special>(-inf) == 0x80);
    CHECK(fp8_e4m3fnuz::encode(-1e9f) == 0xff);
    CHECK(fp8_e4m3fnuz::encode<special>(-1e9f) == 0x80);
    CHECK(fp8_e4m3fnuz::encode(-0.0f) == 0);
    CHECK(fp6_e3m2::encode(nan) == 0x1f);
    CHECK(fp6_e3m2::encode(-inf) == 0x3f);
    CHECK(to_float16(-inf) == 0xfc00u);
    CHECK(to_float16(std::bit_cast<float>(0xff802001u)) == 0xfe01u); // the payload's upper bits, quiet
}

TEST_CASE("E8M0: every code, and every boundary of each rounding") {
    index_t wrong = 0;
    for (unsigned c = 0; c < 255; ++c) {
        const auto code = static_cast<std::uint8_t>(c);
        const float x = e8m0::decode(code);
        wrong += static_cast<double>(x) != std::ldexp(1.0, static_cast<int>(c) - 127);
        wrong += e8m0::encode(x) != code || e8m0::encode(x, toward_zero{}) != code ||
                 e8m0::encode(x, toward_positive{}) != code;
        const float above = std::nextafter(x, INFINITY), middle = 1.5f * x; // exact, in subnormals too
        const auto next = static_cast<std::uint8_t>(c == 254 ? 254 : c + 1);
        wrong += e8m0::encode(above, toward_zero{}) != code || e8m0::encode(above, toward_positive{}) != next;
        wrong += e8m0::encode(middle, toward_zero{}) != code || e8m0::encode(middle, half_away{}) != next;
        wrong += e8m0::encode(middle) != next;
        wrong += e8m0::encode(std::nextafter(middle, 0.0f)) != code;
        wrong += e8m0::encode(std::nextafter(middle, INFINITY)) != next;
    }
    CHECK(wrong == 0);
    CHECK(std::isnan(e8m0::decode(255)));
    CHECK(e8m0::encode(NAN) == 255);
    CHECK(e8m0::encode(-1.0f) == 255);
    CHECK(e8m0::encode(-0.0f) == 0);
    CHECK(e8m0::encode(0.0f) == 0);
    CHECK(e8m0::encode(1e-45f) == 0);
    CHECK(e8m0::encode(INFINITY) == 254);
}

TEST_CASE("NF4: the nearest of the sixteen values") {
    // By exhaustive search in double, halfway the lower one.
    const auto nearest = [](float x) {
        unsigned best = 0;
        for (unsigned c = 1; c < 16; ++c)
            if (std::fabs(static_cast<double>(x) - static_cast<double>(nf4::decode(c))) <
                std::fabs(static_cast<double>(x) - static_cast<double>(nf4::decode(best))))
                best = c;
        return best;
    };
    index_t wrong = 0;
    for (unsigned c = 0; c < 16; ++c) {
        wrong += nf4::encode(nf4::decode(c)) != c;
        if (c == 15) break;
        wrong += !(nf4::decode(c) < nf4::decode(c + 1));
        const auto middle =
            static_cast<float>((static_cast<double>(nf4::decode(c)) + static_cast<double>(nf4::decode(c + 1))) / 2);
        for (float x : {middle, std::nextafter(middle, -2.0f), std::nextafter(middle, 2.0f)})
            wrong += nf4::encode(x) != nearest(x);
    }
    for (unsigned h = 0; h < 65536; ++h) {
        const float x = from_float16(static_cast<std::uint16_t>(h));
        wrong += nf4::encode(x) != (std::isnan(x) ? 7 : std::isinf(x) ? (x < 0 ? 0 : 15) : nearest(x));
    }
    CHECK(wrong == 0);
    // Quantiles of the normal distribution: P(X < q) at the inner values of the positive half is evenly spaced.
    const double p = 0.9677083, q = 1.8481308; // Q(p) to seven digits
    for (unsigned i = 1; i < 8; ++i) {
        const double x = static_cast<double>(nf4::decode(15 - i)) * q;
        CHECK(0.5 * std::erfc(-x / std::sqrt(2.0)) == Approx(p - (p - 0.5) * i / 8).margin(1e-6));
    }
    for (unsigned i = 1; i < 7; ++i) {
        const double x = -static_cast<double>(nf4::decode(i)) * q;
        CHECK(0.5 * std::erfc(-x / std::sqrt(2.0)) == Approx(p - (p - 0.5) * i / 7).margin(1e-6));
    }
}
