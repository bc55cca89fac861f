// SPDX-License-Identifier: Apache-2.0
//
// notch/observe/percentile.hpp: the interval that holds a given part of the values, the rest cut in
// equal parts at both ends:
//     range() = [quantile((1 - p) / 2), quantile((1 + p) / 2)],   p = percent / 100
// The quantiles are those of a histogram (histogram.hpp), each within the width of a bin of the exact
// one; merge is exact, associative and independent of order.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include <notch/core/error.hpp>
#include <notch/observe/histogram.hpp>
#include <notch/observe/observer.hpp>

NOTCH_NAMESPACE_BEGIN

/// percent is in (0, 100]. Non-finite values are counted and ignored. Not thread-safe.
class percentile {
public:
    static constexpr bool splits_batches = true;

    NOTCH_INLINE explicit percentile(double percent = 99.99, index_t bins = 2048)
        : percentile(percent, notch::histogram(bins)) {}
    /// An observer that has seen what h has.
    NOTCH_INLINE percentile(double percent, const notch::histogram& h) : percent_(percent), histogram_(h) {
        if (!(percent > 0.0 && percent <= 100.0))
            fail(errc::invalid_argument, detail::cat("percentile: percent is ", percent, ", must be in (0, 100]"));
    }
    NOTCH_INLINE percentile(const percentile&) = default;
    NOTCH_INLINE percentile(percentile&&) = default;
    NOTCH_INLINE percentile& operator=(const percentile&) = default;
    NOTCH_INLINE percentile& operator=(percentile&&) = default;
    NOTCH_INLINE ~percentile() = default;

    NOTCH_INLINE void observe(std::span<const float> x) { histogram_.observe(x); }
    /// Both must have the same number of bins; percent stays that of this observer.
    NOTCH_INLINE void merge(const percentile& other) { histogram_.merge(other.histogram_); }
    /// Empty if no finite value was seen.
    [[nodiscard]] NOTCH_INLINE real_range range() const {
        if (histogram_.finite() == 0) return {};
        const double cut = (1.0 - percent_ / 100.0) / 2.0;
        return {static_cast<float>(histogram_.quantile(cut)), static_cast<float>(histogram_.quantile(1.0 - cut))};
    }
    [[nodiscard]] NOTCH_INLINE double percent() const noexcept { return percent_; }
    [[nodiscard]] NOTCH_INLINE const notch::histogram& statistics() const noexcept { return histogram_; }
    [[nodiscard]] NOTCH_INLINE std::int64_t finite() const noexcept { return histogram_.finite(); }
    [[nodiscard]] NOTCH_INLINE std::int64_t nonfinite() const noexcept { return histogram_.nonfinite(); }

private:
    double percent_;
    notch::histogram histogram_;
};

NOTCH_NAMESPACE_END
