// SPDX-License-Identifier: Apache-2.0
//
// notch/simd/elementwise.hpp: loops over spans in xsimd batches, at the instruction set of the
// translation unit (the open tier of docs/design.md).
#pragma once

#include <cfloat>
#include <cstdint>
#include <span>

#include <notch/core/types.hpp>
#include <notch/simd/xsimd_compat.hpp>

NOTCH_KEYED_BEGIN

/// What one pass over values finds.
struct range_scan {
    real_range range;           ///< of the finite values; empty if there are none
    std::int64_t finite = 0;    ///< how many values were finite
    std::int64_t nonfinite = 0; ///< how many were NaN or infinite; they do not touch the range
};

/// Minimum, maximum and the number of non-finite values, in one pass. A value v is finite if and
/// only if v - v == 0.
template <class Arch = xsimd::default_arch> [[nodiscard]] range_scan scan_range(std::span<const float> x) noexcept {
    using batch = xsimd::batch<float, Arch>;
    const std::size_t n = x.size(), step = batch::size;
    range_scan r;
    const batch zero(0.0f), big(FLT_MAX), small(-FLT_MAX), one(1.0f);
    batch lo = big, hi = small;
    std::size_t i = 0;
    while (i + step <= n) {
        // Most blocks are finite throughout. They are taken without a mask, which costs half of the time;
        // the sum of v - v shows afterwards whether that was right.
        const std::size_t begin = i, stop = n - i > 1024 * step ? i + 1024 * step : n;
        batch lo0 = lo, lo1 = lo, hi0 = hi, hi1 = hi, rest0 = zero, rest1 = zero;
        for (; i + 2 * step <= stop; i += 2 * step) {
            const batch a = batch::load_unaligned(x.data() + i), b = batch::load_unaligned(x.data() + i + step);
            lo0 = xsimd::min(lo0, a);
            hi0 = xsimd::max(hi0, a);
            rest0 = rest0 + (a - a);
            lo1 = xsimd::min(lo1, b);
            hi1 = xsimd::max(hi1, b);
            rest1 = rest1 + (b - b);
        }
        alignas(64) float lanes[batch::size];
        (rest0 + rest1).store_unaligned(lanes);
        bool all = true;
        for (float lane : lanes) all = all && lane == 0.0f;
        if (all && i > begin) {
            lo = xsimd::min(lo0, lo1);
            hi = xsimd::max(hi0, hi1);
            continue;
        }
        batch bad = zero; // counts, exact up to 2^24
        for (i = begin; i + step <= stop; i += step) {
            const batch v = batch::load_unaligned(x.data() + i);
            const auto finite = (v - v) == zero;
            lo = xsimd::min(lo, xsimd::select(finite, v, big));
            hi = xsimd::max(hi, xsimd::select(finite, v, small));
            bad = bad + xsimd::select(finite, zero, one);
        }
        bad.store_unaligned(lanes);
        for (float lane : lanes) r.nonfinite += static_cast<std::int64_t>(lane);
    }
    r.range = {detail::reduce_min(lo), detail::reduce_max(hi)};
    for (; i < n; ++i) {
        const float v = x[i];
        if (!(v - v == 0.0f)) {
            ++r.nonfinite;
            continue;
        }
        r.range.min = v < r.range.min ? v : r.range.min;
        r.range.max = v > r.range.max ? v : r.range.max;
    }
    r.finite = static_cast<std::int64_t>(n) - r.nonfinite;
    if (r.finite == 0) r.range = {};
    return r;
}

/// Bounds and sum of a block, if it has no value that is not finite.
struct block_sum {
    real_range range;
    float sum = 0; ///< of x - origin; not finite if any value is not, or if the sum overflows
};

/// One pass over a block. The error of sum is small against the sum of |x - origin|, not against sum
/// itself: what is built on it must not need more.
template <class Arch = xsimd::default_arch>
[[nodiscard]] block_sum sum_block(std::span<const float> x, float origin) noexcept {
    using batch = xsimd::batch<float, Arch>;
    const std::size_t n = x.size(), step = batch::size;
    const batch from(origin);
    batch lo0(FLT_MAX), lo1(FLT_MAX), hi0(-FLT_MAX), hi1(-FLT_MAX), sum0(0.0f), sum1(0.0f);
    std::size_t i = 0;
    for (; i + 2 * step <= n; i += 2 * step) {
        const batch a = batch::load_unaligned(x.data() + i), b = batch::load_unaligned(x.data() + i + step);
        lo0 = xsimd::min(lo0, a);
        hi0 = xsimd::max(hi0, a);
        lo1 = xsimd::min(lo1, b);
        hi1 = xsimd::max(hi1, b);
        sum0 = sum0 + (a - from);
        sum1 = sum1 + (b - from);
    }
    block_sum r;
    r.range = {detail::reduce_min(xsimd::min(lo0, lo1)), detail::reduce_max(xsimd::max(hi0, hi1))};
    alignas(64) float lanes[batch::size];
    (sum0 + sum1).store_unaligned(lanes);
    for (float lane : lanes) r.sum += lane;
    for (; i < n; ++i) {
        r.range.min = x[i] < r.range.min ? x[i] : r.range.min;
        r.range.max = x[i] > r.range.max ? x[i] : r.range.max;
        r.sum += x[i] - origin;
    }
    return r;
}

/// Sums of deviations from a center.
struct block_deviation {
    double sum = 0, squares = 0;
};

/// The sums of x - center and of (x - center)^2: float in short runs, each of at most 16 additions a lane,
/// and double above.
template <class Arch = xsimd::default_arch>
[[nodiscard]] block_deviation deviation_block(std::span<const float> x, float center) noexcept {
    using batch = xsimd::batch<float, Arch>;
    const std::size_t n = x.size(), step = batch::size, run = 32 * step;
    const batch middle(center);
    block_deviation r;
    std::size_t i = 0;
    while (i + 2 * step <= n) {
        const std::size_t stop = n - i > run ? i + run : n;
        batch s0(0.0f), s1(0.0f), q0(0.0f), q1(0.0f);
        for (; i + 2 * step <= stop; i += 2 * step) {
            const batch a = batch::load_unaligned(x.data() + i) - middle;
            const batch b = batch::load_unaligned(x.data() + i + step) - middle;
            s0 = s0 + a;
            s1 = s1 + b;
            q0 = q0 + a * a;
            q1 = q1 + b * b;
        }
        alignas(64) float s[batch::size], q[batch::size];
        (s0 + s1).store_unaligned(s);
        (q0 + q1).store_unaligned(q);
        for (std::size_t l = 0; l < step; ++l) {
            r.sum += static_cast<double>(s[l]);
            r.squares += static_cast<double>(q[l]);
        }
    }
    for (; i < n; ++i) {
        const double d = static_cast<double>(x[i]) - static_cast<double>(center);
        r.sum += d;
        r.squares += d * d;
    }
    return r;
}

/// The bins of finite values: with f = floor(|x| * inverse), index = (x < 0 ? -1 - f : f) - first, where
/// inverse is a power of two and |index| and |first| stay below 2^23, so that all of it is exact.
template <class Arch = xsimd::default_arch>
void bin_indices(std::span<const float> x, float inverse, std::int32_t first, std::int32_t* index) noexcept {
    using batch = xsimd::batch<float, Arch>;
    const std::size_t n = x.size(), step = batch::size;
    const auto base = static_cast<float>(-first);
    const batch zero(0.0f), scale(inverse), up(base), down(base - 1.0f);
    std::size_t i = 0;
    for (; i + step <= n; i += step) {
        // Conversion cuts toward zero: -f where x is negative.
        const batch v = batch::load_unaligned(x.data() + i);
        const auto k = xsimd::to_int(v * scale) + xsimd::to_int(xsimd::select(v < zero, down, up));
        k.store_unaligned(index + i);
    }
    for (; i < n; ++i) index[i] = static_cast<std::int32_t>(x[i] * inverse) - (x[i] < 0.0f ? 1 : 0) - first;
}

NOTCH_KEYED_END
