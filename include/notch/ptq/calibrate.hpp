// SPDX-License-Identifier: Apache-2.0
//
// notch/ptq/calibrate.hpp: from statistics to parameters, by one of the methods of this room.
//
//     notch::histogram seen(4096);
//     for (auto& batch : batches) seen.observe(batch);
//     const auto x_q = notch::calibrate<notch::affine<8>>(seen, notch::clip::entropy());
//
//     notch::calibrate<notch::symmetric<4>>(weights, layout, notch::clip::error(2.4), w_params);
//
//   method                range of a symmetric type       range of an affine type
//   clip::min_max()       max|x|                          [min, max]
//   clip::percentile(p)   percentile_magnitude            percentile_range
//   clip::entropy()       entropy_magnitude on qmax + 1   on all codes if 0 is an end of the range; else on half of
//                         levels                          them for the magnitudes of both signs, within [min, max]
//   clip::error(power)    least_error_range               least_error_range
//
// The range becomes parameters by params_from_range (scheme/range.hpp). Ties go to the wider range, and
// nothing is random: one build gives one result. Other compilers and C libraries (std::log of the entropy,
// std::pow of a power other than 1 and 2) may differ in the last bit of an error, and so in the choice
// where two ranges are as good as equal.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include <notch/core/error.hpp>
#include <notch/observe/histogram.hpp>
#include <notch/observe/min_max.hpp>
#include <notch/ptq/clip_entropy.hpp>
#include <notch/ptq/clip_error.hpp>
#include <notch/ptq/clip_percentile.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/range.hpp>

NOTCH_NAMESPACE_BEGIN

/// How a range is chosen: one of the four functions.
struct clip {
    enum class method { min_max, percentile, entropy, error };
    method how = method::min_max;
    double percent = 99.99; ///< of clip::percentile, in (0, 100]
    double power = 2;       ///< of clip::error, in (0, 16]
    index_t steps = 128;    ///< of clip::error, 2..65536

    [[nodiscard]] NOTCH_INLINE static clip min_max() noexcept { return {}; }
    [[nodiscard]] NOTCH_INLINE static clip percentile(double percent = 99.99) noexcept {
        return {method::percentile, percent, 2, 128};
    }
    [[nodiscard]] NOTCH_INLINE static clip entropy() noexcept { return {method::entropy, 99.99, 2, 128}; }
    [[nodiscard]] NOTCH_INLINE static clip error(double power = 2, index_t steps = 128) noexcept {
        return {method::error, 99.99, power, steps};
    }
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

template <range_type Range> real_range entropy_range(const histogram_view& h) {
    if (h.counts.empty()) return {};
    constexpr index_t codes = static_cast<index_t>(Range::qmax) - Range::qmin + 1;
    if constexpr (!Range::has_zero_point) {
        const float bound = entropy_magnitude(h, std::max<index_t>(static_cast<index_t>(Range::qmax) + 1, 2));
        return {-bound, bound};
    } else {
        const bool one_sided = h.range.min >= 0.0f || h.range.max <= 0.0f;
        const float bound = entropy_magnitude(h, std::max<index_t>(one_sided ? codes : codes / 2, 2));
        return {std::max(std::min(h.range.min, 0.0f), -bound), std::min(std::max(h.range.max, 0.0f), bound)};
    }
}

} // namespace detail

/// The range that a method chooses for the values of a histogram, from wherever it comes; empty if it
/// has none. Percentile and entropy of symmetric types, and entropy of affine ones, need 0 between two bins.
template <range_type Range> [[nodiscard]] real_range clip_range(const histogram_view& h, const clip& how) {
    switch (how.how) {
    case clip::method::percentile:
        if constexpr (!Range::has_zero_point) {
            const float bound = percentile_magnitude(h, how.percent);
            return h.counts.empty() ? real_range{} : real_range{-bound, bound};
        } else {
            return percentile_range(h, how.percent);
        }
    case clip::method::entropy: return detail::entropy_range<Range>(h);
    case clip::method::error: return least_error_range<Range>(h, how.power, how.steps);
    case clip::method::min_max: break;
    }
    detail::check_view("clip_range", h);
    return h.range;
}

/// The same for values. Percentile and error are exact; the entropy is that of a histogram of 4096 bins.
template <range_type Range> [[nodiscard]] real_range clip_range(std::span<const float> x, const clip& how) {
    switch (how.how) {
    case clip::method::percentile:
        if constexpr (!Range::has_zero_point) {
            const float bound = percentile_magnitude(x, how.percent);
            return {-bound, bound};
        } else {
            return percentile_range(x, how.percent);
        }
    case clip::method::entropy: {
        histogram h(4096);
        h.observe(x);
        return detail::entropy_range<Range>(h.view());
    }
    case clip::method::error: return least_error_range<Range>(x, how.power, how.steps);
    case clip::method::min_max: break;
    }
    min_max seen;
    seen.observe(x);
    return seen.range();
}

/// Parameters for what an observer saw, as for activations.
template <range_type Range> [[nodiscard]] quant_params calibrate(const histogram& seen, const clip& how = {}) {
    return params_from_range<Range>(clip_range<Range>(seen.view(), how));
}

/// Parameters for the values themselves, as for weights: params has one entry, for all of x, or
/// layout.count() entries, one for each channel or group.
template <range_type Range>
void calibrate(std::span<const float> x, const channel_layout& layout, const clip& how,
               std::span<quant_params> params) {
    constexpr const char* where = "calibrate";
    detail::check_layout(where, layout);
    detail::check_equal(where, "the size of x", static_cast<index_t>(x.size()), layout.size());
    if (params.size() == 1) {
        params[0] = params_from_range<Range>(clip_range<Range>(x, how));
        return;
    }
    detail::check_equal(where, "the number of params", static_cast<index_t>(params.size()), layout.count());
    std::vector<float> gathered;
    for (index_t c = 0; c < layout.count(); ++c) {
        gathered.clear();
        detail::for_each_run_of(layout, c, [&](index_t at, index_t n) {
            const auto run = x.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(n));
            gathered.insert(gathered.end(), run.begin(), run.end());
        });
        params[static_cast<std::size_t>(c)] = params_from_range<Range>(clip_range<Range>(gathered, how));
    }
}

NOTCH_KEYED_END
