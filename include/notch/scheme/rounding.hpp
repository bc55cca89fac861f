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

NOTCH_NAMESPACE_END
