// SPDX-License-Identifier: Apache-2.0
//
// notch/scheme/rounding.hpp: rounding policies. Each is a type, so that the rounding is chosen per operation
// and visible in the type; never a global setting.
//
//   half_even         to the nearest, ties to even: the numeric contract, ONNX QuantizeLinear, IEEE 754
//   half_away         to the nearest, ties away from zero: TensorFlow Lite's quantize
//   toward_zero       truncation
//   toward_positive   up; for magnitudes and scales, away from zero
//   stochastic        away from zero with the probability of the fraction (Gupta et al. 2015, arXiv:1502.02551),
//                     drawn by (seed, index of the element)
//
// A policy p rounds element i of a tensor by p.at(i), which has two members:
//   round(x)               a float to an integer, as a float; NaN and infinities stay
//   up(rest, shift, odd)   for significands in integers: whether whole + rest / 2^shift becomes whole + 1, where
//                          whole is odd or not, 0 <= rest < 2^shift, and shift is 1..60
// The rounding of accumulators in fixed point is a type as well (scheme/requantize.hpp).
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>

#include <notch/core/config.hpp>
#include <notch/core/types.hpp>
#include <notch/scheme/philox.hpp>

NOTCH_NAMESPACE_BEGIN

/// Ties to even: 0.5 -> 0, 1.5 -> 2, -2.5 -> -2. Assumes the default rounding mode of the
/// floating-point environment.
struct half_even {
    [[nodiscard]] NOTCH_INLINE static float round(float x) noexcept { return std::nearbyintf(x); }
    [[nodiscard]] NOTCH_INLINE static constexpr bool up(std::uint64_t rest, int shift, bool odd) noexcept {
        // rest > half, or rest = half and odd: the carry of a sum, which needs no branch.
        const std::uint64_t half = std::uint64_t{1} << (shift - 1);
        return (rest + (half - 1) + (odd ? 1 : 0)) >> shift != 0;
    }
    [[nodiscard]] NOTCH_INLINE constexpr half_even at(index_t) const noexcept { return {}; }
};

/// Ties away from zero: 0.5 -> 1, -0.5 -> -1.
struct half_away {
    [[nodiscard]] NOTCH_INLINE static float round(float x) noexcept { return std::roundf(x); }
    [[nodiscard]] NOTCH_INLINE static constexpr bool up(std::uint64_t rest, int shift, bool) noexcept {
        return rest >= std::uint64_t{1} << (shift - 1);
    }
    [[nodiscard]] NOTCH_INLINE constexpr half_away at(index_t) const noexcept { return {}; }
};

/// Truncation.
struct toward_zero {
    [[nodiscard]] NOTCH_INLINE static float round(float x) noexcept { return std::truncf(x); }
    [[nodiscard]] NOTCH_INLINE static constexpr bool up(std::uint64_t, int, bool) noexcept { return false; }
    [[nodiscard]] NOTCH_INLINE constexpr toward_zero at(index_t) const noexcept { return {}; }
};

/// The next integer above. up() has no sign to look at: it is for magnitudes, such as scales.
struct toward_positive {
    [[nodiscard]] NOTCH_INLINE static float round(float x) noexcept {
        const float whole = std::truncf(x);
        return whole < x ? whole + 1.0f : whole;
    }
    [[nodiscard]] NOTCH_INLINE static constexpr bool up(std::uint64_t rest, int, bool) noexcept { return rest != 0; }
    [[nodiscard]] NOTCH_INLINE constexpr toward_positive at(index_t) const noexcept { return {}; }
};

/// Stochastic rounding of one element by 32 random bits r: x goes away from zero where r / 2^32 < |x - trunc(x)|.
/// So an integer stays, and the expectation of the result is x to within 2^-32.
struct stochastic_draw {
    std::uint32_t bits = 0;
    [[nodiscard]] NOTCH_INLINE float round(float x) const noexcept {
        const float whole = std::truncf(x), rest = x < 0.0f ? whole - x : x - whole; // the difference is exact
        if (!(static_cast<double>(rest) * 4294967296.0 > static_cast<double>(bits))) return whole;
        return x < 0.0f ? whole - 1.0f : whole + 1.0f;
    }
    [[nodiscard]] NOTCH_INLINE constexpr bool up(std::uint64_t rest, int shift, bool) const noexcept {
        // bits / 2^32 < rest / 2^shift, without a product that leaves 64 bits.
        if (shift <= 32) return bits < rest << (32 - shift);
        const std::uint64_t below = (std::uint64_t{1} << (shift - 32)) - 1;
        return bits < (rest + below) >> (shift - 32);
    }
};

/// Stochastic rounding, reproducible: element i is rounded by word i % 4 of Philox4x32-10 with the counter
/// (i / 4, stream) and the key seed, whatever the machine, the threads and the order. Give each tensor and each
/// training step its own stream. Immutable, so thread-safe.
struct stochastic {
    std::uint64_t seed = 0, stream = 0;
    [[nodiscard]] NOTCH_INLINE constexpr stochastic_draw at(index_t i) const noexcept {
        return {block(i / 4).word[i % 4]};
    }
    /// The words of elements 4b .. 4b + 3.
    [[nodiscard]] NOTCH_INLINE constexpr philox_block block(index_t b) const noexcept {
        const auto n = static_cast<std::uint64_t>(b);
        return philox4x32({{static_cast<std::uint32_t>(n), static_cast<std::uint32_t>(n >> 32),
                            static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)}},
                          seed);
    }
};

/// at(i) of a policy for i that rise: a loop over elements need not draw the same block four times.
template <class Policy> struct rounding_walk {
    const Policy& policy;
    [[nodiscard]] NOTCH_INLINE constexpr auto at(index_t i) noexcept { return policy.at(i); }
};
template <> struct rounding_walk<stochastic> {
    const stochastic& policy;
    index_t held = -1; ///< the block in words
    philox_block words{};
    [[nodiscard]] NOTCH_INLINE constexpr stochastic_draw at(index_t i) noexcept {
        if (i / 4 != held) {
            held = i / 4;
            words = policy.block(held);
        }
        return {words.word[i % 4]};
    }
};

/// What a rounding policy provides; a policy of your own is any such type.
template <class P>
concept rounding_policy = requires(const P& p, index_t i, float x, std::uint64_t rest) {
    { p.at(i).round(x) } -> std::same_as<float>;
    { p.at(i).up(rest, 1, true) } -> std::same_as<bool>;
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
