// SPDX-License-Identifier: Apache-2.0
//
// notch/observe/min_max.hpp: the smallest and the largest value ever seen. merge is exact,
// associative and independent of order.
#pragma once

#include <cstdint>
#include <span>

#include <notch/core/view.hpp>
#include <notch/observe/observer.hpp>
#include <notch/simd/elementwise.hpp>

NOTCH_NAMESPACE_BEGIN

/// Non-finite values are counted and ignored. Not thread-safe: one for each thread, then merge.
class min_max {
public:
    static constexpr bool splits_batches = true;

    NOTCH_INLINE min_max() noexcept {}
    /// What an observer with these statistics would be; an error if none could have them.
    [[nodiscard]] NOTCH_INLINE static min_max restore(real_range range, std::int64_t finite, std::int64_t nonfinite) {
        detail::check_counts("min_max", finite, nonfinite);
        detail::check_observed_values("min_max", range, finite);
        min_max o;
        o.range_ = range;
        o.finite_ = finite;
        o.nonfinite_ = nonfinite;
        return o;
    }

    NOTCH_INLINE void observe(std::span<const float> x) {
        detail::check_span("min_max.observe", "x", x);
        const auto scan = scan_range(x);
        widen(scan.range);
        finite_ += scan.finite;
        nonfinite_ += scan.nonfinite;
    }
    NOTCH_INLINE void merge(const min_max& other) {
        detail::check_merge("min_max.merge", finite_, nonfinite_, other.finite_, other.nonfinite_);
        widen(other.range_);
        finite_ += other.finite_;
        nonfinite_ += other.nonfinite_;
    }
    [[nodiscard]] NOTCH_INLINE real_range range() const noexcept { return range_; }
    [[nodiscard]] NOTCH_INLINE std::int64_t finite() const noexcept { return finite_; }
    [[nodiscard]] NOTCH_INLINE std::int64_t nonfinite() const noexcept { return nonfinite_; }

private:
    NOTCH_INLINE void widen(real_range r) noexcept {
        if (r.min < range_.min) range_.min = r.min;
        if (r.max > range_.max) range_.max = r.max;
    }
    real_range range_;
    std::int64_t finite_ = 0, nonfinite_ = 0;
};

NOTCH_NAMESPACE_END
