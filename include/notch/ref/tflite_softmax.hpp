// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/tflite_softmax.hpp: the softmax of TensorFlow Lite on int8 codes. Formulas, terms and the specification in
// ref/tflite.hpp. Safe to call from several threads.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include <notch/ref/tflite.hpp>

NOTCH_KEYED_BEGIN
namespace tflite {

/// The prepared constants of a softmax. Immutable, safe to share.
struct softmax_params {
    std::int32_t exponential[256] = {}; ///< exp(-beta * scale * d) in Q0.31
    std::int32_t term[256] = {};        ///< the same in Q12.19
    index_t live = 1;                   ///< elements whose d is this or more have the probability 0
};

namespace detail {

/// x * 2^n, saturated.
constexpr std::int32_t saturating_shift(std::int32_t x, int n) noexcept {
    constexpr std::int64_t least = std::numeric_limits<std::int32_t>::min(),
                           most = std::numeric_limits<std::int32_t>::max();
    const std::int64_t y = std::int64_t{x} * (std::int64_t{1} << n);
    return static_cast<std::int32_t>(y < least ? least : y > most ? most : y);
}

/// exp(x) in Q0.31 for x <= 0 in Q5.26, as gemmlowp's exp_on_negative_values: a polynomial of degree 4 about -1/8 for
/// x modulo 1/4 in [-1/4, 0), then a factor exp(-2^e), e = -2..4, for each bit of the rest.
constexpr std::int32_t exp_q26(std::int32_t x) noexcept {
    if (x == 0) return std::numeric_limits<std::int32_t>::max();
    constexpr std::int32_t quarter = 1 << 24;
    const std::int32_t part = (x & (quarter - 1)) - quarter, rest = part - x;
    constexpr std::int32_t at_center = 1895147668, third = 715827883; // exp(-1/8), 1/3
    const std::int32_t t = part * 32 + (1 << 28), t2 = doubling_high_mul(t, t), t3 = doubling_high_mul(t2, t),
                       t4 = doubling_high_mul(t2, t2);
    // t^4/24 + t^3/6 + t^2/2
    const std::int32_t tail =
        rounding_divide_by_pot(doubling_high_mul(rounding_divide_by_pot(t4, 2) + t3, third) + t2, 1);
    std::int32_t y = at_center + doubling_high_mul(at_center, t + tail);
    constexpr std::int32_t factor[] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
    for (int i = 0; i < 7; ++i)
        if ((rest >> (24 + i) & 1) != 0) y = doubling_high_mul(y, factor[i]);
    return y;
}

/// 1 / (1 + x) in Q0.31 for 0 <= x < 1 in Q0.31, as gemmlowp: Newton's iteration in Q2.29 from 48/17 - 32/17 d for
/// d = (1 + x) / 2.
constexpr std::int32_t reciprocal_of_one_plus(std::int32_t x) noexcept {
    const auto half = static_cast<std::int32_t>((std::int64_t{x} + std::numeric_limits<std::int32_t>::max() + 1) / 2);
    std::int32_t y = 1515870810 + doubling_high_mul(half, -1010580540);
    for (int i = 0; i < 3; ++i) y += saturating_shift(doubling_high_mul(y, (1 << 29) - doubling_high_mul(half, y)), 2);
    return saturating_shift(y, 1);
}

} // namespace detail

/// Prepares the softmax of codes with the given scale; beta multiplies the logits. scale * beta must be above 2^-26.
[[nodiscard]] inline softmax_params make_softmax(float scale, float beta = 1.0f) {
    constexpr const char* where = "tflite::make_softmax";
    notch::detail::check_scale(where, "scale", scale);
    notch::detail::check_scale(where, "beta", beta);
    double real = static_cast<double>(beta) * static_cast<double>(scale) * 67108864.0; // a step in Q5.26
    if (!(real > 1.0))
        fail(errc::invalid_argument, detail::cat(where, ": scale * beta is ", real / 67108864.0, ", not above 2^-26"));
    softmax_params p;
    p.exponential[0] = detail::exp_q26(0);
    p.term[0] = rounding_divide_by_pot(p.exponential[0], 12);
    if (real > 1073741823.0) return p; // 16 and more: only the largest codes are above 0
    const fixed_multiplier m = to_fixed_multiplier(real);
    // The largest d that times the step stays within 31.
    const index_t radius = (index_t{31} << 26) >> m.shift;
    p.live = radius < 255 ? radius + 1 : 256;
    for (std::int32_t d = 1; d < p.live; ++d) {
        p.exponential[d] = detail::exp_q26(doubling_high_mul(-d * (std::int32_t{1} << m.shift), m.mantissa));
        p.term[d] = rounding_divide_by_pot(p.exponential[d], 12);
    }
    return p;
}

/// The most columns of a softmax: sums in Q12.19 stay within int32.
inline constexpr index_t max_softmax_cols = 4095;

/// Softmax over the rows; the output's scale is 1 / 256, its zero point -128. y may be x.
inline void softmax(matrix_view<const std::int8_t> x, const softmax_params& p, matrix_view<std::int8_t> y) {
    constexpr const char* where = "tflite::softmax";
    notch::detail::check_view(where, "x", x);
    notch::detail::check_view(where, "y", y);
    notch::detail::check_equal(where, "the number of rows of y", y.rows, x.rows);
    notch::detail::check_equal(where, "the number of columns of y", y.cols, x.cols);
    if (x.cols > max_softmax_cols)
        fail(errc::overflow, detail::cat(where, ": x has ", x.cols, " columns, at most ", max_softmax_cols));
    for (index_t i = 0; i < x.rows && x.cols > 0; ++i) {
        std::int32_t top = -128, sum = 0;
        for (index_t j = 0; j < x.cols; ++j) top = x(i, j) > top ? x(i, j) : top;
        for (index_t j = 0; j < x.cols; ++j) sum += top - x(i, j) < p.live ? p.term[top - x(i, j)] : 0;
        // sum = 2^(12 - zeros) * (1 + f)
        const int zeros = std::countl_zero(static_cast<std::uint32_t>(sum));
        const auto fraction = static_cast<std::int32_t>((static_cast<std::uint32_t>(sum) << zeros) & 0x7fffffffu);
        const std::int32_t reciprocal = detail::reciprocal_of_one_plus(fraction);
        const int shift = 35 - zeros; // to 8 bits after the point
        for (index_t j = 0; j < x.cols; ++j) {
            const std::int32_t d = top - x(i, j);
            // Where shift is above 31, all probabilities are below 1/512. (TensorFlow Lite stops there.)
            const std::int32_t q =
                d < p.live && shift < 32
                    ? rounding_divide_by_pot(doubling_high_mul(reciprocal, p.exponential[d]), shift) - 128
                    : -128;
            y(i, j) = static_cast<std::int8_t>(q < 127 ? q : 127);
        }
    }
}

} // namespace tflite
NOTCH_KEYED_END
