// SPDX-License-Identifier: Apache-2.0
//
// notch/observe/mean_sigma.hpp: mean and standard deviation, for ranges that a few outliers do not
// stretch:
//     range() = [mean - k * sigma, mean + k * sigma], within [min, max]
//     sigma   = sqrt(sum (x - mean)^2 / n)
// Staying within what was seen matters for one-sided values: those behind a ReLU have no negative side.
//
// Values are taken in blocks that fit the first cache, each around its own mean, and blocks are joined
// by the formulas of Chan, Golub and LeVeque 1983 (Algorithms for computing the sample variance,
// eq. 2.1):
//     d = mean_b - mean_a,  n = n_a + n_b,  mean = mean_a + d * n_b / n,  m2 = m2_a + m2_b + d^2 * n_a * n_b / n
// So values far from zero lose no digits, and merge is associative and independent of order but for
// the rounding of doubles.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/observe/observer.hpp>
#include <notch/simd/elementwise.hpp>

NOTCH_NAMESPACE_BEGIN

/// What is known of a set of finite values.
struct moments {
    real_range range;
    std::int64_t finite = 0, nonfinite = 0;
    double mean = 0; ///< 0 if there are no values
    double m2 = 0;   ///< the sum of (x - mean)^2
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

inline void join_moments(moments& a, const moments& b) noexcept {
    a.nonfinite += b.nonfinite;
    if (b.finite == 0) return;
    const auto na = static_cast<double>(a.finite), nb = static_cast<double>(b.finite), n = na + nb;
    const double d = b.mean - a.mean;
    // In this order, so that equal means stay what they are and d^2 * n cannot overflow a double.
    a.mean = na == 0.0 ? b.mean : a.mean + d * (nb / n);
    a.m2 += b.m2 + (na == 0.0 ? 0.0 : d * d * (na * (nb / n)));
    a.finite += b.finite;
    if (b.range.min < a.range.min) a.range.min = b.range.min;
    if (b.range.max > a.range.max) a.range.max = b.range.max;
    // Rounding must not put a mean outside of its values.
    const auto min = static_cast<double>(a.range.min), max = static_cast<double>(a.range.max);
    a.mean = a.mean < min ? min : a.mean > max ? max : a.mean;
}

/// In double, value by value: for blocks with values that are not finite, or whose squares leave the
/// range of float.
inline moments moments_of_rare(std::span<const float> x) noexcept {
    moments m;
    double sum = 0;
    for (float v : x) {
        if (!std::isfinite(v)) {
            ++m.nonfinite;
            continue;
        }
        ++m.finite;
        sum += static_cast<double>(v);
        if (v < m.range.min) m.range.min = v;
        if (v > m.range.max) m.range.max = v;
    }
    if (m.finite == 0) return m;
    m.mean = sum / static_cast<double>(m.finite);
    for (float v : x)
        if (std::isfinite(v)) m.m2 += (static_cast<double>(v) - m.mean) * (static_cast<double>(v) - m.mean);
    return m;
}

inline void observe_moments(moments& total, std::span<const float> x) noexcept {
    constexpr std::size_t block = 2048;
    for (std::size_t at = 0; at < x.size(); at += block) {
        const auto part = x.subspan(at, x.size() - at < block ? x.size() - at : block);
        const block_sum first = sum_block(part, part[0]);
        moments m;
        bool plain = std::isfinite(first.sum);
        if (plain) {
            m.range = first.range;
            m.finite = static_cast<std::int64_t>(part.size());
            const auto n = static_cast<double>(m.finite);
            const auto center = static_cast<float>(static_cast<double>(part[0]) + static_cast<double>(first.sum) / n);
            const block_deviation d = deviation_block(part, center);
            // A float square below 2^-126 loses digits, one above 2^128 everything.
            const double width = static_cast<double>(m.range.max) - static_cast<double>(m.range.min);
            plain = width == 0.0 || (width > 1e-15 && width < 1e18);
            if (plain) {
                m.mean = static_cast<double>(center) + d.sum / n;
                m.m2 = width == 0.0 ? 0.0 : d.squares - d.sum * (d.sum / n);
                if (width == 0.0) m.mean = static_cast<double>(m.range.min);
                if (m.m2 < 0.0) m.m2 = 0.0;
            }
        }
        join_moments(total, plain ? m : moments_of_rare(part));
    }
}

} // namespace detail
NOTCH_KEYED_END

NOTCH_NAMESPACE_BEGIN

/// k > 0. Non-finite values are counted and ignored. Not thread-safe: one for each thread, then merge.
class mean_sigma {
public:
    static constexpr bool splits_batches = true;
    NOTCH_INLINE explicit mean_sigma(float k = 3.0f) : k_(k) {
        if (!(k > 0.0f) || !std::isfinite(k))
            fail(errc::invalid_argument, detail::cat("mean_sigma: k is ", k, ", must be finite and > 0"));
    }
    /// What an observer with these statistics would be; an error if none could have them.
    [[nodiscard]] NOTCH_INLINE static mean_sigma restore(float k, const moments& m) {
        mean_sigma o(k);
        detail::check_counts("mean_sigma", m.finite, m.nonfinite);
        detail::check_observed_values("mean_sigma", m.range, m.finite);
        const bool known = m.finite > 0;
        // Squares are largest with half of the values at either end (Popoviciu); a margin for how the sums were
        // rounded.
        const double low = static_cast<double>(m.range.min), high = static_cast<double>(m.range.max);
        const double most = known ? static_cast<double>(m.finite) *
                                        (0.2501 * (high - low) * (high - low) + 1e-12 * (low * low + high * high))
                                  : 0.0;
        if (!std::isfinite(m.mean) || !(m.m2 >= 0.0 && m.m2 <= most) || (!known && (m.mean != 0.0 || m.m2 != 0.0)) ||
            (known && !(m.mean >= static_cast<double>(m.range.min) && m.mean <= static_cast<double>(m.range.max))))
            fail(errc::invalid_argument,
                 detail::cat("mean_sigma: a mean of ", m.mean, " and a sum of squares of ", m.m2, " fit no ", m.finite,
                             " values in [", m.range.min, ", ", m.range.max, "]"));
        o.moments_ = m;
        return o;
    }

    NOTCH_INLINE void observe(std::span<const float> x) {
        detail::check_span("mean_sigma.observe", "x", x);
        detail::observe_moments(moments_, x);
    }
    /// k stays that of this observer.
    NOTCH_INLINE void merge(const mean_sigma& other) {
        const moments m = other.moments_; // other may be this
        detail::check_merge("mean_sigma.merge", moments_.finite, moments_.nonfinite, m.finite, m.nonfinite);
        detail::join_moments(moments_, m);
    }
    /// Empty if no finite value was seen.
    [[nodiscard]] NOTCH_INLINE real_range range() const noexcept {
        if (moments_.finite == 0) return {};
        const double reach = static_cast<double>(k_) * sigma();
        const double lo = moments_.mean - reach, hi = moments_.mean + reach;
        const real_range seen = moments_.range;
        return {lo > static_cast<double>(seen.min) ? static_cast<float>(lo) : seen.min,
                hi < static_cast<double>(seen.max) ? static_cast<float>(hi) : seen.max};
    }
    [[nodiscard]] NOTCH_INLINE double mean() const noexcept { return moments_.mean; }
    [[nodiscard]] NOTCH_INLINE double sigma() const noexcept {
        return moments_.finite == 0 ? 0.0 : std::sqrt(moments_.m2 / static_cast<double>(moments_.finite));
    }
    [[nodiscard]] NOTCH_INLINE float k() const noexcept { return k_; }
    [[nodiscard]] NOTCH_INLINE const moments& statistics() const noexcept { return moments_; }
    [[nodiscard]] NOTCH_INLINE std::int64_t finite() const noexcept { return moments_.finite; }
    [[nodiscard]] NOTCH_INLINE std::int64_t nonfinite() const noexcept { return moments_.nonfinite; }

private:
    float k_;
    moments moments_;
};

NOTCH_NAMESPACE_END
