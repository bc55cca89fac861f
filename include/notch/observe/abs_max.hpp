// SPDX-License-Identifier: Apache-2.0
//
// notch/observe/abs_max.hpp: the largest magnitude ever seen, for ranges around 0:
//     range() = [-max|x|, max|x|]
// merge is exact, associative and independent of order.
#pragma once

#include <cfloat>
#include <cstdint>
#include <span>

#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/observe/observer.hpp>
#include <notch/simd/elementwise.hpp>

NOTCH_NAMESPACE_BEGIN

/// Non-finite values are counted and ignored. Not thread-safe: one for each thread, then merge.
class abs_max {
public:
    static constexpr bool splits_batches = true;
    NOTCH_INLINE abs_max() noexcept {}
    /// What an observer with these statistics would be; an error if none could have them.
    [[nodiscard]] NOTCH_INLINE static abs_max restore(float magnitude, std::int64_t finite, std::int64_t nonfinite) {
        if (!(magnitude >= 0.0f && magnitude <= FLT_MAX) || (finite == 0 && magnitude != 0.0f))
            fail(errc::invalid_argument,
                 detail::cat("abs_max: magnitude is ", magnitude, " after ", finite, " values"));
        detail::check_counts("abs_max", finite, nonfinite);
        abs_max o;
        o.magnitude_ = magnitude;
        o.finite_ = finite;
        o.nonfinite_ = nonfinite;
        return o;
    }

    NOTCH_INLINE void observe(std::span<const float> x) {
        detail::check_span("abs_max.observe", "x", x);
        const auto scan = scan_range(x);
        finite_ += scan.finite;
        nonfinite_ += scan.nonfinite;
        if (scan.finite == 0) return;
        widen(-scan.range.min);
        widen(scan.range.max);
    }
    NOTCH_INLINE void merge(const abs_max& other) {
        detail::check_merge("abs_max.merge", finite_, nonfinite_, other.finite_, other.nonfinite_);
        widen(other.magnitude_);
        finite_ += other.finite_;
        nonfinite_ += other.nonfinite_;
    }
    /// Empty if no finite value was seen.
    [[nodiscard]] NOTCH_INLINE real_range range() const noexcept {
        return finite_ == 0 ? real_range{} : real_range{-magnitude_, magnitude_};
    }
    [[nodiscard]] NOTCH_INLINE float magnitude() const noexcept { return magnitude_; }
    [[nodiscard]] NOTCH_INLINE std::int64_t finite() const noexcept { return finite_; }
    [[nodiscard]] NOTCH_INLINE std::int64_t nonfinite() const noexcept { return nonfinite_; }

private:
    NOTCH_INLINE void widen(float magnitude) noexcept {
        if (magnitude > magnitude_) magnitude_ = magnitude;
    }
    float magnitude_ = 0;
    std::int64_t finite_ = 0, nonfinite_ = 0;
};

NOTCH_NAMESPACE_END
