// SPDX-License-Identifier: Apache-2.0
//
// notch/observe/histogram.hpp: a histogram whose range grows with the values, without approximation.
//
// Bins have the width w = 2^e and lie on the grid of its multiples, mirrored at 0:
//
//     x >= 0   bin  floor(x / w)            [0, w), [w, 2w), ...
//     x <  0   bin  -1 - floor(|x| / w)     (-w, 0), (-2w, -w], ...
//
// e is the least exponent with which the bins of min and max, and all between them, fit the number of
// bins (but not below the 2^-22nd part of the largest magnitude). It depends on min and max alone. When
// they grow, bins are joined in pairs, and two bins of w are exactly one of 2w. So the state after any
// values is what one pass with the final width would give: merge is exact, associative and independent
// of order, and so is the cutting of data into batches. Half of the bins or more lie between min and
// max, unless the values are constant or far from zero against their spread.
//
// 0 lies between two bins, so magnitudes have a histogram on the same grid: bin k and bin -1-k.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <utility>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/observe/observer.hpp>
#include <notch/simd/elementwise.hpp>

NOTCH_NAMESPACE_BEGIN

/// Counts over bins of one width, from wherever they come: counts[i] values lie between
/// lo + i * width and lo + (i + 1) * width.
struct histogram_view {
    double lo = 0, width = 1;
    std::span<const std::int64_t> counts;
    real_range range; ///< of the values themselves, at most that of the bins
};

/// The statistics of a histogram.
struct histogram_state {
    index_t bins = 0;       ///< the most that counts may have
    int exponent = -126;    ///< the width of a bin is 2^exponent
    std::int32_t first = 0; ///< the bin of range.min is counts[0]
    real_range range;
    std::int64_t finite = 0, nonfinite = 0;
    buffer<std::int64_t> counts; ///< bins of them; those beyond the bin of range.max are 0
    NOTCH_INLINE_SPECIAL_MEMBERS(histogram_state);
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

inline constexpr index_t least_bins = 16, most_bins = index_t{1} << 20;

/// The bin of a finite value.
inline std::int64_t bin_of(float x, int exponent) noexcept {
    const double f = std::floor(std::ldexp(std::fabs(static_cast<double>(x)), -exponent));
    const auto index = static_cast<std::int64_t>(f);
    return x < 0.0f ? -1 - index : index;
}

/// The exponent for values from r.min to r.max.
inline int bin_exponent(real_range r, index_t bins) noexcept {
    const float magnitude = std::max(-r.min, r.max);
    int exponent = -126;
    if (magnitude > 0.0f) exponent = std::max(exponent, std::ilogb(magnitude) - 22);
    while (bin_of(r.max, exponent) - bin_of(r.min, exponent) >= bins) ++exponent;
    return exponent;
}

/// Adds counts of bins of 2^exponent from first on to a state whose grid is at least as wide.
inline void add_bins(histogram_state& s, std::span<const std::int64_t> counts, int exponent,
                     std::int32_t first) noexcept {
    const int shift = std::min(s.exponent - exponent, 31);
    for (std::size_t i = 0; i < counts.size(); ++i)
        if (counts[i] != 0) s.counts[((first + static_cast<std::int64_t>(i)) >> shift) - s.first] += counts[i];
}

/// Widens the range, and the grid if need be.
inline void grow_histogram(histogram_state& s, real_range r) {
    if (r.empty() || (r.min >= s.range.min && r.max <= s.range.max)) return;
    const real_range wider{std::min(s.range.min, r.min), std::max(s.range.max, r.max)};
    const int exponent = bin_exponent(wider, s.bins);
    const auto first = static_cast<std::int32_t>(bin_of(wider.min, exponent));
    const bool had_values = !s.range.empty();
    s.range = wider;
    if (exponent == s.exponent && first == s.first) return;
    const int old_exponent = std::exchange(s.exponent, exponent);
    const std::int32_t old_first = std::exchange(s.first, first);
    if (!had_values) return;
    buffer<std::int64_t> old(s.bins);
    old.swap(s.counts);
    add_bins(s, old.span(), old_exponent, old_first);
}

/// Four tables of 32 bits take turns, so that runs of equal values need not wait for each other.
class bin_tables {
public:
    bin_tables(index_t bins, bool several) : bins_(bins), tables_(several ? 4 * bins : 0) {}
    void add(histogram_state& s, const std::int32_t* index, index_t n) {
        if (tables_.empty()) {
            for (index_t i = 0; i < n; ++i) ++s.counts[index[i]];
            return;
        }
        std::uint32_t *a = tables_.data(), *b = a + bins_, *c = b + bins_, *d = c + bins_;
        index_t i = 0;
        for (; i + 4 <= n; i += 4) {
            ++a[index[i]];
            ++b[index[i + 1]];
            ++c[index[i + 2]];
            ++d[index[i + 3]];
        }
        for (; i < n; ++i) ++a[index[i]];
        held_ += n;
        if (held_ > std::numeric_limits<std::int32_t>::max()) flush(s);
    }
    void flush(histogram_state& s) {
        if (held_ == 0) return;
        for (index_t t = 0; t < 4; ++t)
            for (index_t i = 0; i < bins_; ++i) s.counts[i] += tables_[t * bins_ + i];
        std::memset(tables_.data(), 0, static_cast<std::size_t>(tables_.size()) * sizeof(std::uint32_t));
        held_ = 0;
    }

private:
    index_t bins_;
    buffer<std::uint32_t> tables_;
    index_t held_ = 0;
};

/// The counts are there: moving from a histogram leaves it without.
inline void check_has_counts(const char* where, const histogram_state& s) {
    if (s.counts.empty()) fail(errc::invalid_argument, cat(where, ": the histogram was moved from"));
}

inline void observe_histogram(histogram_state& s, std::span<const float> x) {
    check_has_counts("histogram.observe", s);
    check_span("histogram.observe", "x", x);
    constexpr std::size_t block = 2048;
    bin_tables tables(s.bins, x.size() >= 32 * static_cast<std::size_t>(s.bins));
    float finite[block];
    std::int32_t index[block];
    for (std::size_t at = 0; at < x.size(); at += block) {
        auto part = x.subspan(at, std::min(block, x.size() - at));
        const range_scan scan = scan_range(part);
        s.nonfinite += scan.nonfinite;
        s.finite += scan.finite;
        if (scan.finite == 0) continue;
        if (scan.nonfinite != 0) {
            std::size_t kept = 0;
            for (float v : part) {
                finite[kept] = v;
                kept += std::isfinite(v) ? 1 : 0;
            }
            part = {finite, kept};
        }
        if (scan.range.min < s.range.min || scan.range.max > s.range.max) {
            tables.flush(s);
            grow_histogram(s, scan.range);
        }
        bin_indices(part, std::ldexp(1.0f, -s.exponent), s.first, index);
        tables.add(s, index, static_cast<index_t>(part.size()));
    }
    tables.flush(s);
}

inline void merge_histogram(histogram_state& s, const histogram_state& other) {
    check_has_counts("histogram.merge", s);
    check_has_counts("histogram.merge", other);
    check_equal("histogram.merge", "the number of bins", other.bins, s.bins);
    check_merge("histogram.merge", s.finite, s.nonfinite, other.finite, other.nonfinite);
    if (&s == &other) {
        const histogram_state copy = other;
        merge_histogram(s, copy);
        return;
    }
    s.nonfinite += other.nonfinite;
    s.finite += other.finite;
    grow_histogram(s, other.range);
    add_bins(s, other.counts.span(), other.exponent, other.first);
}

/// The number of bins from the one of min to the one of max.
inline index_t used_bins(const histogram_state& s) noexcept {
    return s.range.empty() ? 0 : static_cast<index_t>(bin_of(s.range.max, s.exponent) - s.first + 1);
}

/// Everything that the constructor and observe guarantee.
inline void check_histogram(const histogram_state& s) {
    constexpr const char* where = "histogram";
    if (s.bins < least_bins || s.bins > most_bins)
        fail(errc::invalid_argument, cat(where, ": ", s.bins, " bins, must be ", least_bins, "..", most_bins));
    check_counts(where, s.finite, s.nonfinite);
    check_observed_values(where, s.range, s.finite);
    check_equal(where, "the number of counts", s.counts.size(), s.bins);
    const bool known = s.finite > 0;
    const int exponent = known ? bin_exponent(s.range, s.bins) : -126;
    if (s.exponent != exponent)
        fail(errc::invalid_argument, cat(where, ": the exponent is ", s.exponent, ", these values have ", exponent));
    const std::int64_t first = known ? bin_of(s.range.min, exponent) : 0;
    if (s.first != first) fail(errc::invalid_argument, cat(where, ": the first bin is ", s.first, ", must be ", first));
    const index_t used = used_bins(s);
    std::int64_t sum = 0;
    for (index_t i = 0; i < s.bins; ++i) {
        if (s.counts[i] < 0 || s.counts[i] > s.finite - sum || (i >= used && s.counts[i] != 0))
            fail(errc::invalid_argument, cat(where, ": the count of bin ", i, " is ", s.counts[i], ", it cannot be"));
        sum += s.counts[i];
    }
    if (sum != s.finite)
        fail(errc::invalid_argument, cat(where, ": the counts add up to ", sum, ", not to ", s.finite));
    if (known && (s.counts[0] == 0 || s.counts[used - 1] == 0))
        fail(errc::invalid_argument, cat(where, ": the bin of the least or of the largest value is empty"));
}

/// The value below which the fraction q of the values lies, linear within a bin.
inline double histogram_quantile(const histogram_view& h, double q) {
    if (!(q >= 0.0 && q <= 1.0)) fail(errc::invalid_argument, cat("quantile: q is ", q, ", must be in [0, 1]"));
    double total = 0;
    for (std::int64_t c : h.counts) total += static_cast<double>(c);
    const auto min = static_cast<double>(h.range.min), max = static_cast<double>(h.range.max);
    const double target = q * total;
    double before = 0;
    for (std::size_t i = 0; i < h.counts.size(); ++i) {
        const auto count = static_cast<double>(h.counts[i]);
        if (count > 0 && before + count >= target) {
            const double value = h.lo + (static_cast<double>(i) + (target - before) / count) * h.width;
            return value < min ? min : value > max ? max : value;
        }
        before += count;
    }
    return max;
}

} // namespace detail
NOTCH_KEYED_END

NOTCH_NAMESPACE_BEGIN

/// 16 to 2^20 bins. Non-finite values are counted and ignored. The memory is taken by the constructor;
/// observe takes some more for the time of a call. Not thread-safe: one for each thread, then merge. What was
/// moved from may be assigned to; observe, merge and view refuse it.
class histogram {
public:
    static constexpr bool splits_batches = true;

    NOTCH_INLINE explicit histogram(index_t bins = 2048) {
        state_.bins = bins;
        if (bins >= detail::least_bins && bins <= detail::most_bins) state_.counts = buffer<std::int64_t>(bins);
        detail::check_histogram(state_);
    }
    NOTCH_INLINE histogram(const histogram&) = default;
    NOTCH_INLINE histogram(histogram&&) = default;
    NOTCH_INLINE histogram& operator=(const histogram&) = default;
    NOTCH_INLINE histogram& operator=(histogram&&) = default;
    NOTCH_INLINE ~histogram() = default;
    /// What an observer with these statistics would be; an error if none could have them.
    [[nodiscard]] NOTCH_INLINE static histogram restore(const histogram_state& s) {
        detail::check_histogram(s);
        histogram h(s.bins);
        h.state_ = s;
        return h;
    }

    NOTCH_INLINE void observe(std::span<const float> x) { detail::observe_histogram(state_, x); }
    /// Both must have the same number of bins.
    NOTCH_INLINE void merge(const histogram& other) { detail::merge_histogram(state_, other.state_); }
    /// Of the values themselves, not of the bins.
    [[nodiscard]] NOTCH_INLINE real_range range() const noexcept { return state_.range; }
    /// The value below which the fraction q, 0 to 1, of the values lies, taken as evenly spread over each
    /// bin and kept within range(); 0 if there are none.
    [[nodiscard]] NOTCH_INLINE double quantile(double q) const {
        return state_.finite == 0 ? detail::histogram_quantile({0, 1, {}, {0, 0}}, q)
                                  : detail::histogram_quantile(view(), q);
    }
    /// From the bin of the least to that of the largest value; lives as long as this does.
    [[nodiscard]] NOTCH_INLINE histogram_view view() const {
        detail::check_has_counts("histogram.view", state_);
        const double width = std::ldexp(1.0, state_.exponent);
        return {static_cast<double>(state_.first) * width, width,
                state_.counts.span().first(static_cast<std::size_t>(detail::used_bins(state_))), state_.range};
    }
    [[nodiscard]] NOTCH_INLINE const histogram_state& statistics() const noexcept { return state_; }
    [[nodiscard]] NOTCH_INLINE std::int64_t finite() const noexcept { return state_.finite; }
    [[nodiscard]] NOTCH_INLINE std::int64_t nonfinite() const noexcept { return state_.nonfinite; }

private:
    histogram_state state_;
};

NOTCH_NAMESPACE_END
