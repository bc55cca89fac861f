// SPDX-License-Identifier: Apache-2.0
//
// notch/scheme/fixed_point.hpp: real multipliers as an int32 mantissa and a shift, for requantizing
// without floating point, bit-exact with gemmlowp, TensorFlow Lite and CMSIS-NN.
//     real = mantissa * 2^(shift - 31),  mantissa in [2^30, 2^31) or 0
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include <notch/core/config.hpp>
#include <notch/core/error.hpp>

NOTCH_NAMESPACE_BEGIN

struct fixed_multiplier {
    std::int32_t mantissa = 0;
    std::int32_t shift = 0; ///< > 0: to the left; -31..30
    NOTCH_INLINE friend constexpr bool operator==(const fixed_multiplier&, const fixed_multiplier&) = default;
};

/// round(a * b / 2^31) with ties toward +infinity, saturating the one overflow (both INT32_MIN).
/// gemmlowp's SaturatingRoundingDoublingHighMul; ARM's SQRDMULH gives the same.
[[nodiscard]] NOTCH_INLINE constexpr std::int32_t doubling_high_mul(std::int32_t a, std::int32_t b) noexcept {
    if (a == std::numeric_limits<std::int32_t>::min() && b == a) return std::numeric_limits<std::int32_t>::max();
    const std::int64_t product = static_cast<std::int64_t>(a) * b;
    const std::int64_t nudge = product >= 0 ? (std::int64_t{1} << 30) : (1 - (std::int64_t{1} << 30));
    return static_cast<std::int32_t>((product + nudge) / (std::int64_t{1} << 31));
}

/// round(x / 2^exponent) with ties away from zero; exponent 0..31. gemmlowp's RoundingDivideByPOT.
[[nodiscard]] NOTCH_INLINE constexpr std::int32_t rounding_divide_by_pot(std::int32_t x, int exponent) noexcept {
    const std::int32_t mask = static_cast<std::int32_t>((std::int64_t{1} << exponent) - 1);
    const std::int32_t remainder = x & mask;
    const std::int32_t threshold = (mask >> 1) + (x < 0 ? 1 : 0);
    return (x >> exponent) + (remainder > threshold ? 1 : 0);
}

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN

/// The closest fixed_multiplier to real (>= 0, finite, < 2^30); TensorFlow Lite's
/// QuantizeMultiplier. A real below 2^-32 becomes 0.
[[nodiscard]] inline fixed_multiplier to_fixed_multiplier(double real) {
    if (!(real >= 0.0) || !std::isfinite(real) || real >= 1073741824.0)
        fail(errc::invalid_argument, detail::cat("to_fixed_multiplier: ", real, " is not in [0, 2^30)"));
    if (real == 0.0) return {};
    int exponent = 0;
    const double fraction = std::frexp(real, &exponent); // [0.5, 1)
    std::int64_t mantissa = static_cast<std::int64_t>(std::round(fraction * 2147483648.0));
    if (mantissa == (std::int64_t{1} << 31)) {
        mantissa /= 2;
        ++exponent;
    }
    if (exponent > 30) fail(errc::invalid_argument, detail::cat("to_fixed_multiplier: ", real, " rounds to 2^30"));
    if (exponent < -31) return {};
    return {static_cast<std::int32_t>(mantissa), exponent};
}

NOTCH_KEYED_END
