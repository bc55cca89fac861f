// SPDX-License-Identifier: Apache-2.0
//
// notch/scheme/range.hpp: ranges of codes, and the parameters that map a real interval onto them.
//
//   affine<Bits>            0 ... 2^Bits-1, free zero_point       activations (uint8_t)
//   affine_signed<Bits>     -2^(Bits-1) ... 2^(Bits-1)-1, free zero_point       (int8_t)
//   symmetric<Bits>         -(2^(Bits-1)-1) ... 2^(Bits-1)-1, zero_point 0      weights, narrow:
//                           negation is closed, and a product with 255 cannot exceed 32385; ternary is <2>
//   symmetric_full<Bits>    -2^(Bits-1) ... 2^(Bits-1)-1, zero_point 0
//   power_of_two<Range>     the codes of Range with scales that are powers of two
//
// Bits is 1..8 or 16 (uint16_t, int16_t); the symmetric ranges begin at 2. (The signed code of one bit that
// networks use, -1 and +1, is no range around 0: scheme/packed_lowbit.hpp.)
#pragma once

#include <bit>
#include <cfloat>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include <notch/core/config.hpp>
#include <notch/core/error.hpp>
#include <notch/core/types.hpp>

NOTCH_NAMESPACE_BEGIN

template <int Bits> struct affine {
    static_assert((Bits >= 1 && Bits <= 8) || Bits == 16, "notch::affine<Bits>: Bits must be 1..8 or 16");
    using code_type = std::conditional_t<Bits == 16, std::uint16_t, std::uint8_t>;
    static constexpr int bits = Bits;
    static constexpr std::int32_t qmin = 0;
    static constexpr std::int32_t qmax = (1 << Bits) - 1;
    static constexpr bool has_zero_point = true;
};

template <int Bits> struct affine_signed {
    static_assert((Bits >= 1 && Bits <= 8) || Bits == 16, "notch::affine_signed<Bits>: Bits must be 1..8 or 16");
    using code_type = std::conditional_t<Bits == 16, std::int16_t, std::int8_t>;
    static constexpr int bits = Bits;
    static constexpr std::int32_t qmin = -(1 << (Bits - 1));
    static constexpr std::int32_t qmax = (1 << (Bits - 1)) - 1;
    static constexpr bool has_zero_point = true;
};

template <int Bits> struct symmetric {
    static_assert((Bits >= 2 && Bits <= 8) || Bits == 16, "notch::symmetric<Bits>: Bits must be 2..8 or 16");
    using code_type = std::conditional_t<Bits == 16, std::int16_t, std::int8_t>;
    static constexpr int bits = Bits;
    static constexpr std::int32_t qmin = -((1 << (Bits - 1)) - 1);
    static constexpr std::int32_t qmax = (1 << (Bits - 1)) - 1;
    static constexpr bool has_zero_point = false;
};

template <int Bits> struct symmetric_full {
    static_assert((Bits >= 2 && Bits <= 8) || Bits == 16, "notch::symmetric_full<Bits>: Bits must be 2..8 or 16");
    using code_type = std::conditional_t<Bits == 16, std::int16_t, std::int8_t>;
    static constexpr int bits = Bits;
    static constexpr std::int32_t qmin = -(1 << (Bits - 1));
    static constexpr std::int32_t qmax = (1 << (Bits - 1)) - 1;
    static constexpr bool has_zero_point = false;
};

/// What a quantization range must provide.
template <class R>
concept range_type = requires {
    typename R::code_type;
    { R::bits } -> std::convertible_to<int>;
    { R::qmin } -> std::convertible_to<std::int32_t>;
    { R::qmax } -> std::convertible_to<std::int32_t>;
    { R::has_zero_point } -> std::convertible_to<bool>;
};

/// The same codes, with scales that are powers of two: params_from_range takes the next one above the scale that it
/// would take otherwise. Rescaling is then a shift (Jain et al. 2020, arXiv:1903.08066, take the ceiling too).
template <range_type Range> struct power_of_two : Range { static constexpr bool has_power_of_two_scale = true; };

/// Whether the scales of a range are powers of two.
template <range_type Range> inline constexpr bool has_power_of_two_scale = requires { Range::has_power_of_two_scale; };

/// The least power of two that is not below scale; scale is finite and >= FLT_MIN. Beyond 2^127 it is 2^127.
[[nodiscard]] NOTCH_INLINE constexpr float ceil_to_power_of_two(float scale) noexcept {
    std::uint32_t bits = std::bit_cast<std::uint32_t>(scale);
    if ((bits & 0x7fffffu) != 0) bits = (bits & 0x7f800000u) + 0x800000u;
    return std::bit_cast<float>(bits > 0x7f000000u ? 0x7f000000u : bits);
}

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN

/// The parameters that map the real interval onto the codes of Range, so that the scale is valid
/// for every input and real 0 is exactly a code:
///
///   affine:     lo = min(min, 0), hi = max(max, 0), scale = (hi - lo) / (qmax - qmin),
///               zero_point = clamp(round_half_even(qmin - lo / scale), qmin, qmax)
///   symmetric:  scale = max(|min|, |max|) / qmax, zero_point = 0
///   power_of_two: that scale moved up to a power of two, before zero_point is found
///
/// An empty or all-zero interval gives scale 1; a scale below FLT_MIN (subnormal) gives FLT_MIN.
/// NaN or infinite bounds are an error: observers never report them.
template <range_type Range> [[nodiscard]] quant_params params_from_range(real_range r) {
    quant_params p;
    p.zero_point = Range::has_zero_point && Range::qmin > 0 ? Range::qmin : 0;
    if constexpr (Range::has_zero_point) p.zero_point = Range::qmin;
    if (std::isnan(r.min) || std::isnan(r.max) || std::isinf(r.min) || std::isinf(r.max))
        fail(errc::invalid_argument,
             detail::cat("params_from_range: the range [", r.min, ", ", r.max, "] is not finite"));
    if (r.empty()) return p;
    const double lo = r.min < 0.0f ? static_cast<double>(r.min) : 0.0;
    const double hi = r.max > 0.0f ? static_cast<double>(r.max) : 0.0;
    if (lo == 0.0 && hi == 0.0) return p;
    if constexpr (Range::has_zero_point) {
        p.scale = static_cast<float>((hi - lo) / static_cast<double>(Range::qmax - Range::qmin));
        if (p.scale < FLT_MIN) p.scale = FLT_MIN;
        if constexpr (has_power_of_two_scale<Range>) p.scale = ceil_to_power_of_two(p.scale);
        double zero = std::nearbyint(static_cast<double>(Range::qmin) - lo / static_cast<double>(p.scale));
        if (zero < Range::qmin) zero = Range::qmin;
        if (zero > Range::qmax) zero = Range::qmax;
        p.zero_point = static_cast<std::int32_t>(zero);
    } else {
        const double bound = hi > -lo ? hi : -lo;
        p.scale = static_cast<float>(bound / static_cast<double>(Range::qmax));
        if (p.scale < FLT_MIN) p.scale = FLT_MIN;
        if constexpr (has_power_of_two_scale<Range>) p.scale = ceil_to_power_of_two(p.scale);
    }
    // A scale near FLT_MAX / qmax may have been rounded up: every code must dequantize to a finite value.
    while (std::isinf(static_cast<float>(Range::qmax - p.zero_point) * p.scale) ||
           std::isinf(static_cast<float>(Range::qmin - p.zero_point) * p.scale))
        p.scale = has_power_of_two_scale<Range> ? p.scale / 2 : std::nextafter(p.scale, 0.0f);
    return p;
}

/// The real interval that the codes of Range cover under p.
template <range_type Range> [[nodiscard]] real_range range_of(quant_params p) noexcept {
    return {static_cast<float>(Range::qmin - p.zero_point) * p.scale,
            static_cast<float>(Range::qmax - p.zero_point) * p.scale};
}

namespace detail {

inline void check_params(std::string_view where, std::string_view name, quant_params p, std::int32_t lo,
                         std::int32_t hi) {
    check_scale(where, {name, ".scale"}, p.scale);
    if (p.zero_point < lo || p.zero_point > hi)
        fail(errc::invalid_argument,
             cat(where, ": ", name, ".zero_point is ", p.zero_point, ", must be ", lo, "..", hi));
}

} // namespace detail

NOTCH_KEYED_END
