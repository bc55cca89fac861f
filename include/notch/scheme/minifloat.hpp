// SPDX-License-Identifier: Apache-2.0
//
// notch/scheme/minifloat.hpp: floating-point formats of at most 16 bits, to and from float32, constexpr. A code is
//     sign (1 bit), exponent e, fraction f:   value = (-1)^sign * 2^(e - bias) * (1 + f / 2^F)      e > 0
//                                                     (-1)^sign * 2^(1 - bias) * f / 2^F            e = 0, subnormal
//
//   type            bits  bias  largest    least    special codes
//   fp8_e4m3          8      7      448    2^-9     NaN is S.1111.111; no infinities ("FN")
//   fp8_e5m2          8     15    57344    2^-16    as IEEE 754
//   fp6_e2m3          6      1      7.5    2^-3     none
//   fp6_e3m2          6      3       28    2^-4     none
//   fp4_e2m1          4      1        6    2^-1     none
//   fp8_e4m3fnuz      8      8      240    2^-10    NaN is the code of -0; no infinities, no -0
//   fp8_e5m2fnuz      8     16    57344    2^-17    the same
//   (float16: scheme/half.hpp)
//
// OCP 8-bit Floating Point Specification (OFP8) v1.0 and Micikevicius et al. 2022, arXiv:2209.05433, for FP8; OCP
// Microscaling Formats (MX) v1.0, section 5.3, for FP6 and FP4; Noune et al. 2022, arXiv:2206.02915, for FNUZ.
//
// From float32, x is rounded to the precision of the format (half_even unless another policy is given), then
//   |x| > largest   saturate: the largest value of that sign
//                   special:  infinity; NaN where there is none; the largest value where there is no NaN either
//   infinity        like a large x (as ONNX Cast has it from opset 24 on; before, FNUZ formats gave NaN)
//   NaN             NaN of the same sign; where there is none, the largest positive value (as ONNX Cast and PTX cvt)
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include <notch/core/config.hpp>
#include <notch/scheme/rounding.hpp>

NOTCH_NAMESPACE_BEGIN

/// Which codes are not numbers.
enum class minifloat_specials : std::int32_t {
    infinity_and_nan,  ///< the highest exponent: infinity (f = 0) and NaN, as in IEEE 754
    nan,               ///< the code of all ones, of either sign
    negative_zero_nan, ///< the code of -0; the bias is one more
    none,
};

/// What becomes of numbers beyond the largest one.
enum class float_overflow : std::int32_t { saturate, special };

/// A floating-point format; see above. All members are pure and thread-safe.
template <int ExponentBits, int FractionBits, minifloat_specials Specials> struct minifloat {
    static_assert(ExponentBits >= 2 && ExponentBits <= 5, "notch::minifloat: ExponentBits must be 2..5");
    static_assert(FractionBits >= 1 && ExponentBits + FractionBits <= 15, "notch::minifloat: at most 16 bits in all");

    static constexpr int bits = 1 + ExponentBits + FractionBits;
    using code_type = std::conditional_t<(bits > 8), std::uint16_t, std::uint8_t>;
    static constexpr int bias = (1 << (ExponentBits - 1)) - (Specials == minifloat_specials::negative_zero_nan ? 0 : 1);
    static constexpr bool has_nan = Specials != minifloat_specials::none;
    static constexpr bool has_infinity = Specials == minifloat_specials::infinity_and_nan;
    static constexpr bool has_negative_zero = Specials != minifloat_specials::negative_zero_nan;

    static constexpr std::uint32_t sign_bit = 1u << (bits - 1);
    /// The code of the largest number.
    static constexpr std::uint32_t max_code = has_infinity ? ((1u << ExponentBits) - 1u) * (1u << FractionBits) - 1u
                                              : Specials == minifloat_specials::nan ? sign_bit - 2u
                                                                                    : sign_bit - 1u;

    /// The largest number, the least normal one and the least one > 0.
    [[nodiscard]] NOTCH_INLINE static constexpr float max() noexcept { return decode(max_code); }
    [[nodiscard]] NOTCH_INLINE static constexpr float min_normal() noexcept { return decode(1u << FractionBits); }
    [[nodiscard]] NOTCH_INLINE static constexpr float min_subnormal() noexcept { return decode(1u); }
    /// floor(log2(max())), the emax of the MX specification.
    static constexpr int max_exponent = static_cast<int>(max_code >> FractionBits) - bias;

    /// The code of x. rounding is an element of a policy: half_even{}, toward_zero{}, stochastic{seed}.at(i), ...
    template <float_overflow Overflow = float_overflow::saturate, class Rounding = half_even>
    [[nodiscard]] NOTCH_INLINE static constexpr code_type encode(float x, Rounding rounding = {}) noexcept {
        const std::uint32_t word = std::bit_cast<std::uint32_t>(x), magnitude = word & 0x7fffffffu;
        const std::uint32_t sign = word >> 31 << (bits - 1);
        if (magnitude > 0x7f800000u) return static_cast<code_type>(nan_code(sign, magnitude));
        // x = significand * 2^(exponent - 150). A code counts units of 2^-F of its power of two, below the least normal
        // number those of that one: there more bits are cut. Without branches, which data would mispredict.
        const int exponent = static_cast<int>(magnitude >> 23), above = exponent - static_cast<int>(first_normal);
        const std::uint32_t significand = (magnitude & 0x7fffffu) | (exponent != 0 ? 0x800000u : 0u);
        int cut = 23 - FractionBits + (above < 0 ? -above : 0);
        cut = cut > 60 ? 60 : cut; // less than 2^-36 of a unit: the same to every policy
        std::uint32_t code = static_cast<std::uint32_t>(std::uint64_t{significand} >> cut) +
                             (static_cast<std::uint32_t>(above > 0 ? above : 0) << FractionBits);
        const std::uint64_t rest = std::uint64_t{significand} & ((std::uint64_t{1} << cut) - 1u);
        code += rounding.up(rest, cut, (code & 1u) != 0) ? 1u : 0u;
        if (code > max_code) code = overflow_code<Overflow>();
        if (!has_negative_zero && code == 0) return 0;
        return static_cast<code_type>(sign | code);
    }

    /// The value of a code, exactly. Bits above the format's are ignored.
    [[nodiscard]] NOTCH_INLINE static constexpr float decode(std::uint32_t code) noexcept {
        const std::uint32_t sign = (code & sign_bit) << (32 - bits), magnitude = code & (sign_bit - 1u);
        const std::uint32_t exponent = magnitude >> FractionBits, fraction = magnitude & ((1u << FractionBits) - 1u);
        if constexpr (Specials == minifloat_specials::negative_zero_nan) {
            if (sign != 0 && magnitude == 0) return std::bit_cast<float>(0xffc00000u);
        } else if constexpr (has_infinity) {
            if (exponent == (1u << ExponentBits) - 1u)
                return std::bit_cast<float>(sign | 0x7f800000u | fraction << (23 - FractionBits));
        } else if constexpr (has_nan) {
            if (magnitude > max_code) return std::bit_cast<float>(sign | 0x7fc00000u);
        }
        if (exponent != 0)
            return std::bit_cast<float>(sign | (exponent + first_normal - 1u) << 23 | fraction << (23 - FractionBits));
        const float unit = std::bit_cast<float>((first_normal - static_cast<std::uint32_t>(FractionBits)) << 23);
        const float value = static_cast<float>(fraction) * unit;
        return sign != 0 ? -value : value;
    }

private:
    /// The float32 exponent of the least normal number.
    static constexpr std::uint32_t first_normal = 128u - static_cast<std::uint32_t>(bias);

    template <float_overflow Overflow> NOTCH_INLINE static constexpr std::uint32_t overflow_code() noexcept {
        if constexpr (Overflow == float_overflow::saturate || !has_nan) return max_code;
        return max_code + 1u; // infinity, or NaN, which for FNUZ is the sign bit: all the same code
    }
    NOTCH_INLINE static constexpr std::uint32_t nan_code(std::uint32_t sign, std::uint32_t magnitude) noexcept {
        if constexpr (has_infinity) // quiet, with the upper bits of the payload
            return sign | (max_code + 1u) | 1u << (FractionBits - 1) |
                   (magnitude >> (23 - FractionBits) & ((1u << FractionBits) - 1u));
        if constexpr (Specials == minifloat_specials::nan) return sign | (sign_bit - 1u);
        if constexpr (Specials == minifloat_specials::negative_zero_nan) return sign_bit;
        return max_code;
    }
};

using fp8_e4m3 = minifloat<4, 3, minifloat_specials::nan>;
using fp8_e5m2 = minifloat<5, 2, minifloat_specials::infinity_and_nan>;
using fp8_e4m3fnuz = minifloat<4, 3, minifloat_specials::negative_zero_nan>;
using fp8_e5m2fnuz = minifloat<5, 2, minifloat_specials::negative_zero_nan>;
using fp6_e2m3 = minifloat<2, 3, minifloat_specials::none>;
using fp6_e3m2 = minifloat<3, 2, minifloat_specials::none>;
using fp4_e2m1 = minifloat<2, 1, minifloat_specials::none>;

NOTCH_NAMESPACE_END
