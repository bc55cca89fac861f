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
#include <notch/scheme/minifloat.hpp>

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

/// binary16 as a format like the shorter ones.
using float16 = minifloat<5, 10, minifloat_specials::infinity_and_nan>;

[[nodiscard]] NOTCH_INLINE constexpr std::uint16_t to_float16(float x) noexcept {
    return float16::encode<float_overflow::special>(x);
}

[[nodiscard]] NOTCH_INLINE constexpr float from_float16(std::uint16_t x) noexcept { return float16::decode(x); }

NOTCH_NAMESPACE_END
