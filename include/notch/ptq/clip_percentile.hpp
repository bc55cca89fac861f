// SPDX-License-Identifier: Apache-2.0
//
// notch/ptq/clip_percentile.hpp: ranges that leave out a given part of the values.
//
//   percentile_range(x, percent)       both ends cut equally:  [quantile((1 - p) / 2), quantile((1 + p) / 2)]
//   percentile_magnitude(x, percent)   for ranges around 0:    quantile of |x| at p,       p = percent / 100
//
// From a histogram, quantiles are linear within a bin and at most one bin from the exact ones. From
// values they are exact: for n values in order, with position q * (n - 1), linear between neighbours
// (definition 7 of Hyndman and Fan 1996, Sample quantiles in statistical packages; the default of NumPy).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/observe/histogram.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

inline double checked_fraction(std::string_view where, double percent) {
    if (!(percent > 0.0 && percent <= 100.0))
        fail(errc::invalid_argument, cat(where, ": percent is ", percent, ", must be in (0, 100]"));
    return percent / 100.0;
}

/// A histogram from elsewhere: bins that are bins, and values within them.
inline void check_view(std::string_view where, const histogram_view& h) {
    if (!std::isfinite(h.lo) || !(h.width > 0.0) || !std::isfinite(h.width))
        fail(errc::invalid_argument, cat(where, ": bins of width ", h.width, " from ", h.lo, " on are none"));
    if (h.counts.empty()) {
        if (!h.range.empty()) fail(errc::invalid_argument, cat(where, ": a range of values, but no bins"));
        return;
    }
    if (!(h.range.min <= h.range.max) || !(h.range.min >= -FLT_MAX) || !(h.range.max <= FLT_MAX))
        fail(errc::invalid_argument, cat(where, ": the range [", h.range.min, ", ", h.range.max, "] is none"));
    bool any = false;
    for (std::int64_t c : h.counts) {
        if (c < 0) fail(errc::invalid_argument, cat(where, ": a bin counts ", c, " values"));
        any = any || c > 0;
    }
    if (!any) fail(errc::invalid_argument, cat(where, ": a range of values, but all counts are 0"));
}

/// The histogram of |x|: both sides of 0 added up, from the first bin on that a value may lie in.
struct magnitude_histogram {
    buffer<std::int64_t> counts;
    index_t first = 0; ///< counts[0] is the bin from first * width on
    double width = 1;
    real_range range; ///< of the magnitudes
    [[nodiscard]] histogram_view view() const noexcept {
        return {static_cast<double>(first) * width, width, counts.span(), range};
    }
};

/// 0 must lie between two bins, or outside.
inline magnitude_histogram fold_magnitudes(std::string_view where, const histogram_view& h) {
    constexpr double most = 1 << 30;
    const double position = h.lo / h.width, nearest = std::nearbyint(position);
    if (!(std::fabs(position - nearest) <= 1e-6 * (1.0 + std::fabs(position))))
        fail(errc::invalid_argument,
             cat(where, ": magnitudes need a histogram with 0 between two bins; here bins of width ", h.width,
                 " begin at ", h.lo));
    if (!(std::fabs(nearest) < most))
        fail(errc::invalid_argument,
             cat(where, ": bins of width ", h.width, " are too fine for values from ", h.lo, " on"));
    const auto first = static_cast<index_t>(nearest), last = first + static_cast<index_t>(h.counts.size()) - 1;
    const float a = std::fabs(h.range.min), b = std::fabs(h.range.max);
    const bool both = h.range.min < 0.0f && h.range.max > 0.0f;
    magnitude_histogram m;
    m.width = h.width;
    m.range = {both ? 0.0f : std::min(a, b), std::max(a, b)};
    m.first = first >= 0 ? first : last < 0 ? -1 - last : 0;
    m.counts = buffer<std::int64_t>(std::max(-first, last + 1) - m.first);
    index_t k = first;
    for (std::int64_t c : h.counts) {
        m.counts[(k < 0 ? -1 - k : k) - m.first] += c;
        ++k;
    }
    return m;
}

/// Gives the standard algorithms a name with the key of the translation unit.
struct value_less {
    bool operator()(float a, float b) const noexcept { return a < b; }
};

/// The quantile of finite values in any order, which are reordered.
inline double value_quantile(std::span<float> x, double q) {
    const double position = q * static_cast<double>(x.size() - 1);
    const auto below = static_cast<std::size_t>(position);
    float* const at = x.data() + below;
    std::nth_element(x.data(), at, x.data() + x.size(), value_less{});
    const double share = position - static_cast<double>(below), a = static_cast<double>(*at);
    if (share == 0.0) return a;
    const double b = static_cast<double>(*std::min_element(at + 1, x.data() + x.size(), value_less{}));
    return a + share * (b - a);
}

/// The finite values of x, or their magnitudes.
inline buffer<float> finite_values(std::span<const float> x, bool magnitudes) {
    index_t n = 0;
    for (float v : x) n += std::isfinite(v) ? 1 : 0;
    buffer<float> y(n);
    n = 0;
    for (float v : x)
        if (std::isfinite(v)) y[n++] = magnitudes ? std::fabs(v) : v;
    return y;
}

} // namespace detail

/// percent is in (0, 100]. Empty if there are no values. The histogram may come from anywhere.
[[nodiscard]] inline real_range percentile_range(const histogram_view& h, double percent) {
    const double cut = (1.0 - detail::checked_fraction("percentile_range", percent)) / 2.0;
    detail::check_view("percentile_range", h);
    if (h.counts.empty()) return {};
    return {static_cast<float>(detail::histogram_quantile(h, cut)),
            static_cast<float>(detail::histogram_quantile(h, 1.0 - cut))};
}
/// The same from values; those that are not finite do not count.
[[nodiscard]] inline real_range percentile_range(std::span<const float> x, double percent) {
    const double cut = (1.0 - detail::checked_fraction("percentile_range", percent)) / 2.0;
    buffer<float> y = detail::finite_values(x, false);
    if (y.empty()) return {};
    const double lo = detail::value_quantile(y.span(), cut);
    return {static_cast<float>(lo), static_cast<float>(detail::value_quantile(y.span(), 1.0 - cut))};
}

/// percent is in (0, 100]. 0 if there are no values. 0 must lie between two bins, as it does in those of
/// notch::histogram.
[[nodiscard]] inline float percentile_magnitude(const histogram_view& h, double percent) {
    const double p = detail::checked_fraction("percentile_magnitude", percent);
    detail::check_view("percentile_magnitude", h);
    if (h.counts.empty()) return 0.0f;
    const auto m = detail::fold_magnitudes("percentile_magnitude", h);
    return static_cast<float>(detail::histogram_quantile(m.view(), p));
}
/// The same from values; those that are not finite do not count.
[[nodiscard]] inline float percentile_magnitude(std::span<const float> x, double percent) {
    const double p = detail::checked_fraction("percentile_magnitude", percent);
    buffer<float> y = detail::finite_values(x, true);
    return y.empty() ? 0.0f : static_cast<float>(detail::value_quantile(y.span(), p));
}

NOTCH_KEYED_END
