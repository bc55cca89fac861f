// SPDX-License-Identifier: Apache-2.0
#include "../catch.hpp"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <notch/ref/quantize.hpp>
#include <notch/scheme/fixed_point.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/half.hpp>
#include <notch/scheme/packed_int4.hpp>
#include <notch/scheme/range.hpp>
#include <notch/scheme/requantize.hpp>

using namespace notch;

namespace {
template <class R> void check_range(real_range r) {
    const quant_params p = params_from_range<R>(r);
    INFO("[" << r.min << ", " << r.max << "] -> scale " << p.scale << " zero_point " << p.zero_point);
    CHECK(p.scale > 0.0f);
    CHECK(std::isfinite(p.scale));
    CHECK(p.zero_point >= R::qmin);
    CHECK(p.zero_point <= R::qmax);
    // Real 0 is exactly a code, and the bounds of the range are at most half a step away.
    CHECK(ref::dequantize(ref::quantize(0.0f, p, {R::qmin, R::qmax}), p) == 0.0f);
    if (r.empty() || p.scale <= FLT_MIN) return;
    for (float v : {r.min, r.max}) {
        const double back = static_cast<double>(ref::dequantize(ref::quantize(v, p, {R::qmin, R::qmax}), p));
        CHECK(std::fabs(back - static_cast<double>(v)) <= static_cast<double>(p.scale) * 1.0001);
    }
}
} // namespace

TEST_CASE("params_from_range gives a valid scale for every finite range") {
    const float tiny = std::numeric_limits<float>::denorm_min(), big = std::numeric_limits<float>::max();
    const real_range ranges[] = {{},           {0, 0},         {5, 5},        {-5, -5},
                                 {0, 1},       {-1, 0},        {100, 101},    {-101, -100},
                                 {tiny, tiny}, {-tiny, tiny},  {0, 1e-40f},   {-big, big},
                                 {0, big},     {-1e-3f, 1e3f}, {-0.0f, 0.0f}, {FLT_MIN, 2 * FLT_MIN}};
    for (const real_range& r : ranges) {
        check_range<affine<8>>(r);
        check_range<affine<1>>(r);
        check_range<affine_signed<8>>(r);
        check_range<symmetric<8>>(r);
        check_range<symmetric<4>>(r);
        check_range<symmetric_full<2>>(r);
    }
    CHECK_THROWS_AS(params_from_range<affine<8>>({std::numeric_limits<float>::quiet_NaN(), 1.0f}), error);
}

TEST_CASE("ties round to even, away, or not at all, by type") {
    const float x[] = {0.5f, 1.5f, -0.5f, -2.5f};
    const float even[] = {0, 2, -0.0f, -2}, away[] = {1, 2, -1, -3}, zero[] = {0, 1, 0, -2};
    for (int i = 0; i < 4; ++i) {
        CHECK(half_even::round(x[i]) == even[i]);
        CHECK(half_away::round(x[i]) == away[i]);
        CHECK(toward_zero::round(x[i]) == zero[i]);
    }
}

TEST_CASE("fixed point follows its definition") {
    std::mt19937 g(1);
    for (int t = 0; t < 2000; ++t) {
        const double real = std::ldexp(0.5 + static_cast<double>(g()) / 8589934592.0, static_cast<int>(g() % 30) - 28);
        const fixed_multiplier m = to_fixed_multiplier(real);
        CHECK(std::ldexp(static_cast<double>(m.mantissa), m.shift - 31) == Approx(real).epsilon(1e-9));
        const auto acc = static_cast<std::int32_t>(g()) / (1 << (m.shift > 0 ? m.shift + 1 : 1));
        const double exact = static_cast<double>(acc) * real;
        if (std::fabs(exact) > 1e9) continue;
        const code_range all{std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()};
        CHECK(std::fabs(static_cast<double>(requantize_fixed_single(acc, m, 0, all)) - exact) <=
              0.5 + 1e-6 * std::fabs(exact) + 1e-3);
        CHECK(std::fabs(static_cast<double>(requantize_fixed_double(acc, m, 0, all)) - exact) <=
              1.0 + 1e-6 * std::fabs(exact) + 1e-3);
    }
    CHECK(doubling_high_mul(std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::min()) ==
          std::numeric_limits<std::int32_t>::max());
    CHECK(rounding_divide_by_pot(5, 1) == 3); // 2.5, away from zero
    CHECK(rounding_divide_by_pot(-5, 1) == -3);
    CHECK(rounding_divide_by_pot(-1, 31) == 0);
    CHECK(to_fixed_multiplier(0.0) == fixed_multiplier{});
    CHECK(to_fixed_multiplier(std::ldexp(1.0, -32)) == fixed_multiplier{1 << 30, -31}); // the smallest
    CHECK(to_fixed_multiplier(std::ldexp(0.99, -32)) == fixed_multiplier{});
    for (double bad : {-1.0, 2e9, std::nan("")}) CHECK_THROWS_AS(to_fixed_multiplier(bad), error);
}

TEST_CASE("requantize_float saturates and never converts out of range") {
    const std::int32_t top = std::numeric_limits<std::int32_t>::max();
    CHECK(requantize_float(top, 1e30f, 7, {0, 255}) == 255);
    CHECK(requantize_float(-top, 1e30f, 7, {0, 255}) == 0);
    CHECK(requantize_float(5, 0.5f, 0, {0, 255}) == 2); // 2.5 to even
    CHECK(requantize_float(7, 0.5f, 1, {0, 255}) == 5); // 3.5 to 4, then the zero point
    CHECK(quantize_bias(1e30f, 1e-10f, 1e-10f) == 1 << 30);
    CHECK(quantize_bias(std::numeric_limits<float>::quiet_NaN(), 1.0f, 1.0f) == 0);
}

TEST_CASE("4-bit storage round-trips and refuses what does not fit") {
    for (std::size_t n = 0; n < 20; ++n) {
        std::vector<std::int8_t> codes(n), back(n);
        for (std::size_t i = 0; i < n; ++i) codes[i] = static_cast<std::int8_t>(static_cast<int>(i * 7 % 16) - 8);
        std::vector<std::uint8_t> packed(static_cast<std::size_t>(packed_int4_size(static_cast<index_t>(n))));
        pack_int4(codes, packed);
        unpack_int4(packed, back);
        CHECK(back == codes);
    }
    std::vector<std::uint8_t> one(1);
    CHECK_THROWS_AS(pack_int4(std::vector<std::int8_t>{8}, one), error);
    CHECK_THROWS_AS(pack_int4(std::vector<std::int8_t>{1, 2, 3}, one), error);
}

TEST_CASE("float16: every code, and every float near a rounding boundary") {
    index_t wrong = 0;
    for (unsigned c = 0; c < 65536; ++c) {
        const auto code = static_cast<std::uint16_t>(c);
        const float x = from_float16(code);
        if (x != x) {
            wrong += (to_float16(x) & 0x7c00u) != 0x7c00u || (to_float16(x) & 0x3ffu) == 0;
            continue;
        }
        wrong += to_float16(x) != code;
        if ((c & 0x7fffu) >= 0x7bffu) continue; // the next code is infinity
        // Between this code and the next in magnitude: the midpoint goes to the even one.
        const float next = from_float16(static_cast<std::uint16_t>(c + 1)), middle = x + (next - x) / 2;
        const auto even = static_cast<std::uint16_t>(c % 2 ? c + 1 : c);
        wrong += to_float16(middle) != even;
        wrong += to_float16(std::nextafter(middle, x)) != code;
        wrong += to_float16(std::nextafter(middle, next)) != static_cast<std::uint16_t>(c + 1);
    }
    CHECK(wrong == 0);
    CHECK(to_float16(65519.0f) == 0x7bffu);
    CHECK(to_float16(65520.0f) == 0x7c00u);
}

TEST_CASE("bfloat16: every code, and every float near a rounding boundary") {
    index_t wrong = 0;
    for (unsigned c = 0; c < 65536; ++c) {
        const float x = from_bfloat16(static_cast<std::uint16_t>(c));
        if (x == x)
            wrong += to_bfloat16(x) != c;
        else
            wrong += from_bfloat16(to_bfloat16(x)) == from_bfloat16(to_bfloat16(x));
        if ((c & 0x7fffu) >= 0x7f80u) continue;
        // The middle between this code and the next in magnitude (which may be infinity), and its neighbours.
        const std::uint32_t middle = c << 16 | 0x8000u;
        wrong += to_bfloat16(std::bit_cast<float>(middle)) != (c % 2 ? c + 1 : c);
        wrong += to_bfloat16(std::bit_cast<float>(middle - 1)) != c;
        wrong += to_bfloat16(std::bit_cast<float>(middle + 1)) != c + 1;
    }
    CHECK(wrong == 0);
    CHECK(to_bfloat16(std::bit_cast<float>(0x3f808000u)) == 0x3f80u);
    CHECK(to_bfloat16(std::bit_cast<float>(0x3f818000u)) == 0x3f82u);
}

TEST_CASE("layout_of sees a tensor as outer, channels, inner") {
    const std::vector<index_t> e{2, 3, 4};
    CHECK(layout_of<per_tensor>(e).inner == 24);
    const channel_layout l = layout_of<per_channel<1>>(e);
    CHECK(l.outer == 2);
    CHECK(l.channels == 3);
    CHECK(l.inner == 4);
    CHECK_THROWS_AS(layout_of<per_channel<3>>(e), error);
    CHECK_THROWS_AS(layout_of<per_tensor>(std::vector<index_t>{2, -1}), error);
}

TEST_CASE("params_from_range: an interval of zeros alone has a scale of 1") {
    for (real_range r : {real_range{0.0f, 0.0f}, real_range{-0.0f, 0.0f}, real_range{}}) {
        CHECK(params_from_range<affine<8>>(r) == quant_params{1.0f, 0});
        CHECK(params_from_range<affine_signed<8>>(r) == quant_params{1.0f, -128});
        CHECK(params_from_range<symmetric<4>>(r) == quant_params{1.0f, 0});
        CHECK(params_from_range<power_of_two<symmetric<8>>>(r) == quant_params{1.0f, 0});
    }
}
