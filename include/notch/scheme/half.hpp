// SPDX-License-Identifier: Apache-2.0
//
// notch/scheme/half.hpp: float32 to and from the 16-bit formats, round half to even, constexpr.
//   float16    IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits; overflow gives infinity
//   bfloat16   the upper half of float32: 1 sign, 8 exponent, 7 fraction bits
// Subnormals are kept; NaN stays NaN (quiet).
#pragma once

#include <bit>
#include <cstdint>

#include <notch/core/config.hpp>

NOTCH_NAMESPACE_BEGIN

/// The element type of views of bfloat16 values: the bits, under the name of their format.
struct bfloat16 {
    std::uint16_t bits = 0;
    NOTCH_INLINE friend constexpr bool operator==(const bfloat16&, const bfloat16&) = default;
};

[[nodiscard]] NOTCH_INLINE constexpr std::uint16_t to_bfloat16(float x) noexcept {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
    return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

[[nodiscard]] NOTCH_INLINE constexpr float from_bfloat16(std::uint16_t x) noexcept {
    return std::bit_cast<float>(static_cast<std::uint32_t>(x) << 16);
}

[[nodiscard]] NOTCH_INLINE constexpr std::uint16_t to_float16(float x) noexcept {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u); // rounds to 65536 or more
    if (magnitude >= 0x38800000u) {                                                  // a normal number
        const std::uint32_t rebased = magnitude - 0x38000000u;
        return static_cast<std::uint16_t>(sign | (rebased + 0xfffu + (rebased >> 13 & 1u)) >> 13);
    }
    const std::uint32_t exponent = magnitude >> 23;
    if (exponent < 102) return static_cast<std::uint16_t>(sign); // below half the least subnormal
    // value = fraction * 2^(exponent - 150); a subnormal code is value / 2^-24.
    const std::uint32_t fraction = (magnitude & 0x7fffffu) | 0x800000u, shift = 126 - exponent;
    const std::uint32_t whole = fraction >> shift, rest = fraction & ((1u << shift) - 1u), half = 1u << (shift - 1u);
    return static_cast<std::uint16_t>(sign | (whole + (rest > half || (rest == half && (whole & 1u)) ? 1u : 0u)));
}

[[nodiscard]] NOTCH_INLINE constexpr float from_float16(std::uint16_t x) noexcept {
    const std::uint32_t sign = (x & 0x8000u) << 16, exponent = x >> 10 & 31u, fraction = x & 0x3ffu;
    if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
    if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
    const float magnitude = static_cast<float>(fraction) * 5.9604644775390625e-8f; // 2^-24, exact
    return sign ? -magnitude : magnitude;
}

NOTCH_NAMESPACE_END
