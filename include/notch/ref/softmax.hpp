// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/softmax.hpp: the definition of softmax in integers, over the rows of a matrix.
//
// Codes (u8, s8; real = scale * (code - zero_point), the zero point cancels):
//
//     e(d)  = round(2^30 exp(-beta * scale * d))                 d = 0..255, a table made at set-up
//     E_i   = e(max - x_i),  S = sum of E_i                      2^30 <= S <= cols * 2^30 <= 2^61
//     k     = the bits of S beyond 31,  R = floor(2^61 / floor(S / 2^k))            2^30 < R <= 2^31
//     y_i   = min(floor((E_i * R + 2^(52 + k)) / 2^(53 + k)), 255) + y_zero_point
//
// so y_i is 256 times the probability, as TensorFlow Lite has it: u8 codes have scale 1 / 256 and zero point
// 0, s8 codes scale 1 / 256 and zero point -128. For k >= 10 every probability is below 2^-9 and all codes
// are 0; else the numerator stays below 2^62.
//
// Error before the last rounding: E is off by 1/2 of 2^-30, S by cols / 2 of them, and S and R are each cut by
// less than 2^-30 of themselves: together at most cols * 2^-23 + 2^-20 codes. So a code is at most
// 0.5 + cols * 2^-23 + 2^-20 away from the real 256 p, except that p = 1 has the code 255.
//
// Accumulators (int32 logits, such as attention scores; real = scale * acc): d is up to 2^32, and
//
//     t_i   = beta * scale * log2(e) * d in Q15, rounded: floor((min(d, D) * M + 2^(q - 1)) / 2^q), at most 31 * 2^15
//     E_i   = floor(p(t_i mod 2^15) / 2^(t_i div 2^15)),  p(f) = 2^30 * 2^(-f / 2^15) by a polynomial in integers
//
// with M, q the fixed-point form of the factor and D the first d whose t is at least 31 * 2^15, where E is
// 0. The relative error of p is below 2^-14.38, that of the rounding of t below 2^-16.5: together e < 2^-14.1,
// which moves a probability by 2 e p (1 - p), less than 0.008 codes. With the cut of less than 1 in each E, a
// code is at most 0.508 + cols * 2^-22 away from the real 256 p, except that p = 1 has the code 255.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/ref/functions.hpp>
#include <notch/ref/lookup.hpp>

NOTCH_NAMESPACE_BEGIN

/// The longest row: sums of exponentials stay below 2^62.
inline constexpr index_t max_softmax_cols = index_t{1} << 31;

/// The prepared constants of a softmax over codes.
struct softmax_params {
    NOTCH_INLINE softmax_params() noexcept {}
    alignas(64) std::uint32_t exponential[256] = {}; ///< e(d); falling, the first is 2^30
    std::uint8_t bytes[4][256] = {};                 ///< the same, byte 0 of all of them, then byte 1, ...
    index_t live = 1;                                ///< further ones have the code 0 in every row
};

/// The prepared constants of a softmax over int32 accumulators.
struct softmax_s32_params {
    std::uint32_t multiplier = 0; ///< M < 2^31
    std::int32_t shift = 1;       ///< q, 1..62
    std::uint32_t furthest = 0;   ///< D
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// p(f): 2^30 * 2^(-f / 2^15) for f = 0..2^15-1, by Horner's rule; every product is one of 16-bit
/// numbers, and the shifts round down. Relative error below 2^-14.38 (all 2^15 arguments
/// were tried); p(0) is exact.
[[nodiscard]] NOTCH_INLINE constexpr std::int32_t exp2_q30(std::int32_t f) noexcept {
    std::int32_t v = 3596;      // Q19
    v = -27834 + (v * f >> 15); // Q19
    v = 31359 + (v * f >> 17);  // Q17
    v = -22708 + (v * f >> 17); // Q15
    return (1 << 30) + v * f;
}

/// 2^30 exp(-x) from the accumulator's distance to the row's maximum.
[[nodiscard]] NOTCH_INLINE constexpr std::uint32_t softmax_exponential(std::uint32_t d,
                                                                       const softmax_s32_params& p) noexcept {
    const std::uint64_t near = d < p.furthest ? d : p.furthest;
    const std::uint64_t wide = (near * p.multiplier + (std::uint64_t{1} << (p.shift - 1))) >> p.shift;
    const auto t = static_cast<std::uint32_t>(wide < (31u << 15) ? wide : 31u << 15);
    return static_cast<std::uint32_t>(exp2_q30(static_cast<std::int32_t>(t & 32767u))) >> (t >> 15);
}

/// R and the last shift of a row, from S > 0: code = min((E * reciprocal + 2^(shift - 1)) >> shift, 255). shift 0
/// means that all codes are 0.
struct softmax_divisor {
    std::uint64_t reciprocal = 0;
    int shift = 0;
};
[[nodiscard]] NOTCH_INLINE constexpr softmax_divisor make_softmax_divisor(std::uint64_t sum) noexcept {
    const int bits = 64 - __builtin_clzll(sum), k = bits > 31 ? bits - 31 : 0;
    if (k >= 10) return {};
    return {(std::uint64_t{1} << 61) / (sum >> k), 53 + k};
}
[[nodiscard]] NOTCH_INLINE constexpr std::int32_t softmax_code(std::uint32_t e, softmax_divisor d) noexcept {
    if (d.shift == 0) return 0;
    const std::uint64_t code = (e * d.reciprocal + (std::uint64_t{1} << (d.shift - 1))) >> d.shift;
    return static_cast<std::int32_t>(code < 255 ? code : 255);
}

inline void check_softmax_factor(std::string_view where, float scale, float beta) {
    check_scale(where, "scale", scale);
    if (!(beta > 0.0f) || !std::isfinite(beta))
        fail(errc::invalid_argument, cat(where, ": beta is ", beta, ", must be finite and > 0"));
}

} // namespace detail

/// Prepares the softmax of codes with the given scale; beta multiplies the logits (1 / temperature).
[[nodiscard]] inline softmax_params make_softmax(float scale, float beta = 1.0f) {
    detail::check_softmax_factor("make_softmax", scale, beta);
    softmax_params p;
    const double step = static_cast<double>(scale) * static_cast<double>(beta); // exact: 24 + 24 bits
    for (int d = 0; d < 256; ++d) {
        const double e = std::ldexp(functions::exp(-step * static_cast<double>(d)), 30);
        p.exponential[d] = static_cast<std::uint32_t>(std::nearbyint(e));
        for (int b = 0; b < 4; ++b) p.bytes[b][d] = static_cast<std::uint8_t>(p.exponential[d] >> (8 * b) & 255);
        // E * R >= 2^52 takes an E of 2^21, since R <= 2^31.
        if (p.exponential[d] >= 1u << 21) p.live = d + 1;
    }
    return p;
}

/// Prepares the softmax of int32 accumulators with the given scale (x_scale * w_scale for a product of
/// codes, or 1 / sqrt(head size) times that).
[[nodiscard]] inline softmax_s32_params make_softmax_s32(float scale, float beta = 1.0f) {
    detail::check_softmax_factor("make_softmax_s32", scale, beta);
    // t for d = 1, in Q15. From 64 * 2^15 on, every other element has E = 0.
    double step = static_cast<double>(scale) * static_cast<double>(beta) * 1.4426950408889634 * 32768.0;
    step = step < 64.0 * 32768.0 ? step : 64.0 * 32768.0;
    int exponent = 0;
    (void)std::frexp(step, &exponent); // step < 2^exponent
    softmax_s32_params p;
    p.shift = 31 - exponent < 62 ? 31 - exponent : 62;
    double m = std::nearbyint(std::ldexp(step, p.shift));
    m = m < 2147483647.0 ? m : 2147483647.0;
    p.multiplier = static_cast<std::uint32_t>(m);
    constexpr std::uint64_t end = 31u << 15;
    const auto t = [&](std::uint64_t d) { return (d * p.multiplier + (std::uint64_t{1} << (p.shift - 1))) >> p.shift; };
    p.furthest = 0xffffffffu;
    if (t(p.furthest) > end) { // the first d with t >= end
        std::uint64_t lo = 0, hi = p.furthest;
        while (lo < hi) {
            const std::uint64_t mid = (lo + hi) / 2;
            if (t(mid) >= end)
                hi = mid;
            else
                lo = mid + 1;
        }
        p.furthest = static_cast<std::uint32_t>(lo);
    }
    return p;
}

namespace ref {

/// Rows of codes or of int32 accumulators -> codes of probabilities.
template <class X, byte_code Y, class Params> void softmax(matrix_view<const X> x, const Params& p, matrix_view<Y> y) {
    detail::check_equal("ref::softmax", "the number of columns of y", y.cols, x.cols);
    detail::check_equal("ref::softmax", "the number of rows of y", y.rows, x.rows);
    for (index_t i = 0; i < x.rows && x.cols > 0; ++i) {
        std::int64_t top = std::numeric_limits<std::int64_t>::min();
        for (index_t j = 0; j < x.cols; ++j) top = x(i, j) > top ? x(i, j) : top;
        const auto e = [&](index_t j) -> std::uint32_t {
            if constexpr (std::is_same_v<Params, softmax_params>)
                return p.exponential[top - x(i, j)];
            else
                return detail::softmax_exponential(static_cast<std::uint32_t>(top - x(i, j)), p);
        };
        std::uint64_t sum = 0;
        for (index_t j = 0; j < x.cols; ++j) sum += e(j);
        const auto divisor = detail::make_softmax_divisor(sum);
        // e first: y may be x.
        for (index_t j = 0; j < x.cols; ++j)
            y(i, j) = static_cast<Y>(detail::softmax_code(e(j), divisor) + full_range<Y>.lo);
    }
}

} // namespace ref
NOTCH_KEYED_END
