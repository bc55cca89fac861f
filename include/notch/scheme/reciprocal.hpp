// SPDX-License-Identifier: Apache-2.0
//
// notch/scheme/reciprocal.hpp: when a division by a scale may be replaced by two multiplications
// without changing a single code.
//
//   code = clamp(round(RN(x / s)) + zero_point)      RN: to the nearest float, round: half to even
//
// A kernel computes p = RN(x * high + RN(x * low)) with one multiplication and one fused
// multiply-add, high + low being 1/s to some 48 bits, and rounds p instead of RN(x / s).
//
// Where could round(p) differ from round(RN(x / s))? Let v = x / s > 0 (the signs are symmetric).
//
// 1. Both are the same non-decreasing step function of a real number, R(z) = round(RN(z)), taken at
//    z = x * high + RN(x * low) and at v. So they differ only if a jump of R lies between z and v.
//    A tie t = T/2, T odd, is a float, and R jumps where RN reaches or leaves t: at t plus or minus half
//    an ulp. (One ulp below t is smaller where t is a power of two: t = 1/2, see 4.)
// 2. z = v (1 + e), |e| <= E = 2^-47 + 2^-48 + 2^-53. Let 2^k < 1/s <= 2^(k+1). high is the float next
//    below 1/s (as a double), so low <= 2^(k-23). The rounding of low costs at most 2^(k-48), that of 1/s
//    to double 2^(k-53), that of x * low at most 2^-24 x * low <= 2^-47 v. Nothing underflows: near a
//    jump v > 0.49, and s lies in [2^-64, 2^64].
// 3. Write x = X 2^a, s = S 2^b with integers X, S in [2^23, 2^24), and the jump as m = M 2^c with
//    M = T 2^g +- 1 in [2^24, 2^25), since half an ulp is the last of 25 bits. (Below t = 1/2, where the ulp
//    halves, M = 2^25 - 1.) Let h = a - b - c and
//        d = X 2^h - M S,    so that v - m = d / S * 2^c.
//    Near m, X 2^h is near M S >= 2^47, so h >= 24 and d is an integer. If m lies between z and v, then
//    |v - m| <= E v, that is |d| <= E X 2^h < E 2^49 (1 + E) < 6.1, so |d| <= 6.
// 4. T < 2^10, since |t| < 512, so g >= 15. Modulo 2^15, X 2^h and T 2^g S vanish and d = -+S: the low
//    15 bits of the significand S, as a signed number, lie in -6 ... 6.
// 5. If they are 0, d is a multiple of 2^15, hence 0: X 2^h = M S. M is odd (T 2^g is even), so
//    2^24 would divide S < 2^24. Impossible.
//
// So every scale within [2^-64, 2^64] is exact for all x and all |codes - zero_point| <= 511, unless
// the low 15 bits of its significand, as a signed number, are one of -6 ... -1, 1 ... 6: one scale in
// 2700. For those kernels divide. (How near a quotient comes to a midpoint is the question of correctly
// rounded division by multiplication: Markstein 1990, doi:10.1147/rd.341.0111; Brisebarre, Muller and
// Raina 2004, doi:10.1109/TC.2004.37.)
//
// Infinite x: high > 0 and low > 0 give the infinity of the same sign, as does an overflow, whichever
// product overflows first. NaN stays NaN.
#pragma once

#include <cstdint>
#include <cstring>

#include <notch/core/config.hpp>

NOTCH_NAMESPACE_BEGIN

/// 1/scale in two floats, and whether codes made with it are exact.
/// Without default values: their constructor would be a weak function of floats.
struct scale_reciprocal {
    float high; ///< the float below 1/scale
    float low;  ///< 1/scale - high, rounded; > 0
    bool exact;
};

/// The largest |code - zero_point| for which scale_reciprocal::exact speaks.
inline constexpr std::int32_t reciprocal_steps = 511;

/// The reciprocal of a scale that is finite and > 0.
[[nodiscard]] NOTCH_INLINE scale_reciprocal reciprocal_of(float scale) noexcept {
    scale_reciprocal r{};
    if (!(scale >= 5.42101086e-20f && scale <= 1.84467441e+19f)) return r; // 2^-64, 2^64
    std::uint32_t bits = 0;
    std::memcpy(&bits, &scale, sizeof bits);
    const auto low15 = static_cast<std::int32_t>(bits & 0x7fffu);
    const std::int32_t distance = low15 < 0x4000 ? low15 : 0x8000 - low15;
    r.exact = distance == 0 || distance > 6;
    const double inverse = 1.0 / static_cast<double>(scale);
    r.high = static_cast<float>(inverse);
    if (static_cast<double>(r.high) >= inverse) { // rounded up, or exact
        std::memcpy(&bits, &r.high, sizeof bits);
        --bits;
        std::memcpy(&r.high, &bits, sizeof bits);
    }
    r.low = static_cast<float>(inverse - static_cast<double>(r.high));
    return r;
}

/// The least float that rounds to the integer n, |n| <= 511: n - 1/2 or the float above it.
[[nodiscard]] NOTCH_INLINE float first_rounding_to(std::int32_t n) noexcept {
    const float tie = static_cast<float>(n) - 0.5f;
    if ((n & 1) == 0) return tie;
    std::uint32_t bits = 0;
    std::memcpy(&bits, &tie, sizeof bits);
    bits = n > 0 ? bits + 1 : bits - 1;
    float next = 0.0f;
    std::memcpy(&next, &bits, sizeof next);
    return next;
}
/// The largest float that rounds to n.
[[nodiscard]] NOTCH_INLINE float last_rounding_to(std::int32_t n) noexcept { return -first_rounding_to(-n); }

NOTCH_NAMESPACE_END
