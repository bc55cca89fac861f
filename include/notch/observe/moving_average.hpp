// SPDX-License-Identifier: Apache-2.0
//
// notch/observe/moving_average.hpp: exponential moving averages of the minimum and maximum of each
// batch (Jacob et al. 2018, arXiv:1712.05877, section 3.1):
//     first batch   average = batch
//     then          average = momentum * average + (1 - momentum) * batch
// Batches without finite values change nothing.
#pragma once

#include <cstdint>
#include <span>

#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/observe/observer.hpp>
#include <notch/simd/elementwise.hpp>

NOTCH_NAMESPACE_BEGIN

/// momentum is in [0, 1). Order matters by definition; merge weights the two averages by their
/// numbers of batches, which is exact when both saw the same distribution. Not thread-safe.
class moving_average {
public:
    NOTCH_INLINE explicit moving_average(float momentum = 0.9f) : momentum_(momentum) {
        if (!(momentum >= 0.0f && momentum < 1.0f))
            fail(errc::invalid_argument, detail::cat("moving_average: momentum is ", momentum, ", must be in [0, 1)"));
    }
    /// What an observer with these statistics would be; an error if none could have them.
    [[nodiscard]] NOTCH_INLINE static moving_average restore(float momentum, real_range range, std::int64_t batches,
                                                             std::int64_t nonfinite) {
        moving_average o(momentum);
        detail::check_counts("moving_average", batches, nonfinite);
        detail::check_observed("moving_average", range, batches);
        o.range_ = range;
        o.batches_ = batches;
        o.nonfinite_ = nonfinite;
        return o;
    }

    NOTCH_INLINE void observe(std::span<const float> x) {
        detail::check_span("moving_average.observe", "x", x);
        const auto scan = scan_range(x);
        nonfinite_ += scan.nonfinite;
        if (scan.finite == 0) return;
        if (batches_++ == 0) {
            range_ = scan.range;
            return;
        }
        range_.min = momentum_ * range_.min + (1.0f - momentum_) * scan.range.min;
        range_.max = momentum_ * range_.max + (1.0f - momentum_) * scan.range.max;
    }
    NOTCH_INLINE void merge(const moving_average& other) {
        detail::check_merge("moving_average.merge", batches_, nonfinite_, other.batches_, other.nonfinite_);
        nonfinite_ += other.nonfinite_;
        if (other.batches_ == 0) return;
        const float share =
            static_cast<float>(static_cast<double>(other.batches_) / static_cast<double>(batches_ + other.batches_));
        if (batches_ == 0) {
            range_ = other.range_;
        } else {
            // Weighted rather than moved: the difference of two finite bounds may be infinite.
            range_.min = (1.0f - share) * range_.min + share * other.range_.min;
            range_.max = (1.0f - share) * range_.max + share * other.range_.max;
        }
        batches_ += other.batches_;
    }
    [[nodiscard]] NOTCH_INLINE real_range range() const noexcept { return range_; }
    [[nodiscard]] NOTCH_INLINE float momentum() const noexcept { return momentum_; }
    [[nodiscard]] NOTCH_INLINE std::int64_t batches() const noexcept { return batches_; }
    [[nodiscard]] NOTCH_INLINE std::int64_t nonfinite() const noexcept { return nonfinite_; }

private:
    float momentum_;
    real_range range_;
    std::int64_t batches_ = 0, nonfinite_ = 0;
};

NOTCH_NAMESPACE_END
