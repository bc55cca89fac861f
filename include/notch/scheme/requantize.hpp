// SPDX-License-Identifier: Apache-2.0
//
// notch/scheme/requantize.hpp: int32 accumulators to codes. These formulas are normative: every
// kernel on every instruction set gives exactly these results.
//
//   float_scale (the default)
//       code = clamp(round_half_even(float(acc) * multiplier) + zero_point, lo, hi)
//       float(acc) rounds to nearest-even; one float multiplication, nothing to contract.
//   fixed_point, double rounding (gemmlowp, TensorFlow Lite)
//       code = clamp(divide_by_pot(doubling_high_mul(acc << max(shift,0), mantissa), max(-shift,0))
//                    + zero_point, lo, hi)
//   fixed_point, single rounding (TFLITE_SINGLE_ROUNDING)
//       code = clamp(((int64)acc * mantissa + 2^(30-shift)) >> (31-shift) + zero_point, lo, hi)
//
// acc includes the bias: int32 on the grid scale_x * scale_w[c].
#pragma once

#include <cstdint>
#include <limits>

#include <notch/core/config.hpp>
#include <notch/core/types.hpp>
#include <notch/scheme/fixed_point.hpp>
#include <notch/scheme/rounding.hpp>

NOTCH_NAMESPACE_BEGIN

/// How a requantization rounds; chosen per operation.
enum class requant_mode : std::int32_t {
    float_scale,
    fixed_point_double_rounding,
    fixed_point_single_rounding,
};

/// requantize, float_scale. multiplier is finite and >= 0; lo <= hi; zero_point within int32/2.
[[nodiscard]] NOTCH_INLINE std::int32_t requantize_float(std::int32_t acc, float multiplier, std::int32_t zero_point,
                                                         code_range range) noexcept {
    const float y = half_even::round(static_cast<float>(acc) * multiplier);
    // Clamped as real numbers first, so that no conversion to int overflows. Both bounds are exact
    // in float, being differences of codes.
    const float lo = static_cast<float>(range.lo - zero_point);
    const float hi = static_cast<float>(range.hi - zero_point);
    const float clamped = y < lo ? lo : y > hi ? hi : y;
    return static_cast<std::int32_t>(clamped) + zero_point;
}

/// requantize, fixed_point with gemmlowp's double rounding. The left shift wraps as in two's
/// complement hardware; choose multipliers < 1 (shift <= 0) to rule that out.
[[nodiscard]] NOTCH_INLINE constexpr std::int32_t
requantize_fixed_double(std::int32_t acc, fixed_multiplier m, std::int32_t zero_point, code_range range) noexcept {
    const int left = m.shift > 0 ? m.shift : 0, right = m.shift > 0 ? 0 : -m.shift;
    const auto shifted = static_cast<std::int32_t>(static_cast<std::uint32_t>(acc) << left);
    const std::int64_t y =
        static_cast<std::int64_t>(rounding_divide_by_pot(doubling_high_mul(shifted, m.mantissa), right)) + zero_point;
    return static_cast<std::int32_t>(y < range.lo ? range.lo : y > range.hi ? range.hi : y);
}

/// requantize, fixed_point with one rounding (ties toward +infinity).
[[nodiscard]] NOTCH_INLINE constexpr std::int32_t
requantize_fixed_single(std::int32_t acc, fixed_multiplier m, std::int32_t zero_point, code_range range) noexcept {
    const int total = 31 - m.shift; // 1..62
    const std::int64_t product = static_cast<std::int64_t>(acc) * m.mantissa;
    const std::int64_t y = ((product + (std::int64_t{1} << (total - 1))) >> total) + zero_point;
    return static_cast<std::int32_t>(y < range.lo ? range.lo : y > range.hi ? range.hi : y);
}

/// The two roundings of fixed_point as types, like the policies of scheme/rounding.hpp: an operation that is a
/// template takes one as a parameter, and either stands wherever a requant_mode is asked for.
struct double_rounding {
    [[nodiscard]] NOTCH_INLINE static constexpr std::int32_t
    requantize(std::int32_t acc, fixed_multiplier m, std::int32_t zero_point, code_range range) noexcept {
        return requantize_fixed_double(acc, m, zero_point, range);
    }
    NOTCH_INLINE constexpr operator requant_mode() const noexcept { return requant_mode::fixed_point_double_rounding; }
};
struct single_rounding {
    [[nodiscard]] NOTCH_INLINE static constexpr std::int32_t
    requantize(std::int32_t acc, fixed_multiplier m, std::int32_t zero_point, code_range range) noexcept {
        return requantize_fixed_single(acc, m, zero_point, range);
    }
    NOTCH_INLINE constexpr operator requant_mode() const noexcept { return requant_mode::fixed_point_single_rounding; }
};

/// The bias as int32 on the accumulator's grid: round_half_even(bias / (scale_x * scale_w)),
/// saturated to +-2^30 so that adding it cannot by itself overflow. The division is in double. Both
/// scales are finite and > 0, which the caller checks.
[[nodiscard]] NOTCH_INLINE std::int32_t quantize_bias(float bias, float scale_x, float scale_w) noexcept {
    const double grid = static_cast<double>(scale_x) * static_cast<double>(scale_w);
    const double q = std::nearbyint(static_cast<double>(bias) / grid);
    constexpr double limit = 1073741824.0;
    if (!(q == q)) return 0;
    return static_cast<std::int32_t>(q < -limit ? -limit : q > limit ? limit : q);
}

NOTCH_NAMESPACE_END
