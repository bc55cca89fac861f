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
        // The count is kept in float lanes, exact up to 2^24 additions.
        const std::size_t stop = n - i > step << 20 ? i + (step << 20) : n;
        batch bad = zero;
        for (; i + step <= stop; i += step) {
            const batch v = batch::load_unaligned(x.data() + i);
            const auto finite = (v - v) == zero;
            lo = xsimd::min(lo, xsimd::select(finite, v, big));
            hi = xsimd::max(hi, xsimd::select(finite, v, small));
            bad = bad + xsimd::select(finite, zero, one);
        }
        alignas(64) float lanes[batch::size];
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

NOTCH_KEYED_END
