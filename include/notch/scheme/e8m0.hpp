// SPDX-License-Identifier: Apache-2.0
//
// notch/scheme/e8m0.hpp: E8M0, the scale of MX blocks: a power of two in 8 bits, without sign and fraction
// (OCP Microscaling Formats (MX) v1.0, section 5.4.1).
//     value = 2^(code - 127), code 0..254;   255 is NaN
#pragma once

#include <bit>
#include <cstdint>

#include <notch/core/config.hpp>
#include <notch/scheme/rounding.hpp>

NOTCH_NAMESPACE_BEGIN

struct e8m0 {
    using code_type = std::uint8_t;
    static constexpr int bits = 8;
    static constexpr int bias = 127;
    static constexpr bool has_nan = true;
    static constexpr std::uint8_t nan_code = 255;

    /// The code of x > 0, which lies within 2^-127 ... 2^127 or is moved there; 0 gives 2^-127; NaN and negative
    /// numbers give NaN. Rounding chooses between the powers of two on both sides: toward_zero takes the lower one,
    /// as the scales of MX blocks do, toward_positive the upper one, half_even the nearer one. Halfway, at 1.5 * 2^k,
    /// that is the upper one, as IEEE 754-2019, 4.3.1, has it for a precision of one bit: 2 ulps are even, 1 is odd.
    template <class Rounding = half_even>
    [[nodiscard]] NOTCH_INLINE static constexpr std::uint8_t encode(float x, Rounding rounding = {}) noexcept {
        const std::uint32_t word = std::bit_cast<std::uint32_t>(x), fraction = word & 0x7fffffu;
        if (word > 0x7f800000u && word != 0x80000000u) return nan_code;
        std::uint32_t code = word >> 23 & 0xffu;
        if (code == 0) // a subnormal x is fraction * 2^-149; 2^-127 is 2^22 of those units, and the least code
            return fraction > 1u << 22 && rounding.up(fraction - (1u << 22), 22, true) ? 1 : 0;
        code += rounding.up(fraction, 23, true) ? 1u : 0u;
        return static_cast<std::uint8_t>(code > 254u ? 254u : code);
    }

    /// 2^(code - 127), exactly; 2^-127 is a subnormal float.
    [[nodiscard]] NOTCH_INLINE static constexpr float decode(std::uint8_t code) noexcept {
        const std::uint32_t c = code;
        return std::bit_cast<float>(c == nan_code ? 0x7fc00000u : c == 0 ? 0x400000u : c << 23);
    }
};

NOTCH_NAMESPACE_END
