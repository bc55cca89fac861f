// SPDX-License-Identifier: Apache-2.0
//
// notch/scheme/rounding.hpp: rounding to integers. Each policy is a type with a static function, so
// that it is chosen per operation and visible in the type.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include <notch/core/config.hpp>

NOTCH_NAMESPACE_BEGIN

/// Ties to even: 0.5 -> 0, 1.5 -> 2, -2.5 -> -2. The rounding of the numeric contract, of ONNX
/// QuantizeLinear and of IEEE 754. Assumes the default rounding mode of the floating-point
/// environment.
struct half_even {
    [[nodiscard]] NOTCH_INLINE static float round(float x) noexcept { return std::nearbyintf(x); }
};

/// Ties away from zero: 0.5 -> 1, -0.5 -> -1. The rounding of TensorFlow Lite's quantize.
struct half_away {
    [[nodiscard]] NOTCH_INLINE static float round(float x) noexcept { return std::roundf(x); }
};

/// Truncation.
struct toward_zero {
    [[nodiscard]] NOTCH_INLINE static float round(float x) noexcept { return std::truncf(x); }
};

/// x itself, which the compiler takes for unknown: a product passed through it is rounded and cannot
/// be contracted with a following sum into a fused multiply-add, which has another result.
[[nodiscard]] NOTCH_INLINE float rounded(float x) noexcept {
#if defined(__GNUC__) && NOTCH_X86_64
    __asm__("" : "+x"(x));
    return x;
#elif defined(__GNUC__) && defined(__aarch64__)
    __asm__("" : "+w"(x));
    return x;
#else
    volatile float y = x;
    return y;
#endif
}

NOTCH_NAMESPACE_END
