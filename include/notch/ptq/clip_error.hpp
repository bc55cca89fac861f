// SPDX-License-Identifier: Apache-2.0
//
// notch/ptq/clip_error.hpp: the range with the least quantization error
//
//     E = sum of |x - q(x)|^power,      q(x) the real value of the code of x
//
// power 2 is the mean squared error (as in Sung et al. 2015, arXiv:1511.06488); 2.4 is the choice of
// Nahshan et al. 2019, arXiv:1911.07190. From values E is exact. From a histogram, values count as evenly
// spread over their bin, and E is the exact integral over the pieces into which the steps of q cut it:
//
//     integral of |x - c|^p dx from u to v = F(v - c) - F(u - c),   F(t) = sign(t) |t|^(p + 1) / (p + 1)
//
// The search tries the fractions 0, 1/steps, ..., 1 of each end. A symmetric range has one end; for an
// affine one the ends take turns, each at its best while the other stands still, until neither moves:
// E falls with every move, so it ends, but at a minimum that need not be the least of all pairs. The
// range always holds 0, as params_from_range makes it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include <notch/core/error.hpp>
#include <notch/observe/histogram.hpp>
#include <notch/observe/min_max.hpp>
#include <notch/ptq/clip_percentile.hpp>
#include <notch/scheme/range.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

inline double error_power(double magnitude, double power) noexcept {
    return power == 2.0 ? magnitude * magnitude : power == 1.0 ? magnitude : std::pow(magnitude, power);
}
/// F above without the division.
inline double error_integral(double t, double power) noexcept {
    if (power == 2.0) return t * t * t;
    if (power == 1.0) return t < 0.0 ? -t * t : t * t;
    return std::copysign(std::pow(std::fabs(t), power + 1.0), t);
}
inline void check_power(std::string_view where, double power) {
    if (!(power > 0.0 && power <= 16.0))
        fail(errc::invalid_argument, cat(where, ": power is ", power, ", must be in (0, 16]"));
}

inline double view_error(const histogram_view& h, quant_params p, code_range range, double power) noexcept {
    const auto scale = static_cast<double>(p.scale);
    const double least = range.lo - p.zero_point, most = range.hi - p.zero_point;
    const auto min = static_cast<double>(h.range.min), max = static_cast<double>(h.range.max);
    double sum = 0;
    for (std::size_t i = 0; i < h.counts.size(); ++i) {
        if (h.counts[i] == 0) continue;
        // No value lies in the parts of the outer bins beyond the range.
        const double bin = h.lo + static_cast<double>(i) * h.width;
        const double begin = std::max(bin, min), end = std::min(bin + h.width, max);
        const auto count = static_cast<double>(h.counts[i]);
        double code = std::clamp(std::nearbyint(begin / scale), least, most);
        if (!(end > begin)) {
            sum += count * error_power(std::fabs(begin - code * scale), power);
            continue;
        }
        double from = begin, error = 0;
        for (;;) {
            const double border = (code + 0.5) * scale;
            const double to = code == most || border >= end ? end : border;
            if (to > from)
                error += error_integral(to - code * scale, power) - error_integral(from - code * scale, power);
            if (to >= end) break;
            from = std::max(from, to);
            code += 1.0;
        }
        sum += count * (error / ((power + 1.0) * (end - begin)));
    }
    return sum;
}

inline double value_error(std::span<const float> x, quant_params p, code_range range, double power) noexcept {
    // Between integers of less than 2^22 this rounds a float half to even; |range| is at most 2^16.
    constexpr float magic = 12582912.0f;
    const auto least = static_cast<float>(range.lo - p.zero_point), most = static_cast<float>(range.hi - p.zero_point);
    double sum = 0;
    for (float v : x) {
        const float y = v / p.scale, clamped = y < least ? least : y > most ? most : y;
        const float code = (clamped + magic) - magic;
        if (!std::isfinite(v)) continue;
        sum += error_power(std::fabs(static_cast<double>(v) - static_cast<double>(code) * static_cast<double>(p.scale)),
                           power);
    }
    return sum;
}

/// error(params) is the error to be made small.
template <range_type Range, class Error> real_range search_range(real_range seen, index_t steps, const Error& error) {
    if (seen.empty()) return {};
    const float lo_most = std::min(seen.min, 0.0f), hi_most = std::max(seen.max, 0.0f);
    const auto part = [&](float end, index_t k) {
        return static_cast<float>(static_cast<double>(end) * (static_cast<double>(k) / static_cast<double>(steps)));
    };
    if constexpr (!Range::has_zero_point) {
        const float magnitude = std::max(-lo_most, hi_most);
        float best = magnitude;
        double least = error(params_from_range<Range>({-magnitude, magnitude}));
        for (index_t k = steps - 1; k >= 1; --k) {
            const float bound = part(magnitude, k);
            const double e = error(params_from_range<Range>({-bound, bound}));
            if (e < least) {
                least = e;
                best = bound;
            }
        }
        return {-best, best};
    } else {
        index_t lo = steps, hi = steps;
        double least = error(params_from_range<Range>({lo_most, hi_most}));
        // Which of the two moves; stops when each has stood still once after the other.
        int still = 0;
        for (bool upper = hi_most >= -lo_most; still < 2; upper = !upper) {
            const index_t before = upper ? hi : lo;
            const bool movable = (upper ? hi_most : lo_most) != 0.0f;
            for (index_t k = steps; movable && k >= 0; --k) {
                const real_range r{part(lo_most, upper ? lo : k), part(hi_most, upper ? k : hi)};
                if (r.min == 0.0f && r.max == 0.0f) continue;
                const double e = error(params_from_range<Range>(r));
                if (e < least) {
                    least = e;
                    (upper ? hi : lo) = k;
                }
            }
            still = (upper ? hi : lo) == before ? still + 1 : 0;
        }
        return {part(lo_most, lo), part(hi_most, hi)};
    }
}

inline void check_search(std::string_view where, double power, index_t steps) {
    check_power(where, power);
    if (steps < 2 || steps > 65536)
        fail(errc::invalid_argument, cat(where, ": steps is ", steps, ", must be 2..65536"));
}

} // namespace detail

/// E over the values of a histogram, for codes of range under p. power is in (0, 16].
[[nodiscard]] inline double quantization_error(const histogram_view& h, quant_params p, code_range range,
                                               double power = 2.0) {
    detail::check_view("quantization_error", h);
    detail::check_params("quantization_error", "params", p, range.lo, range.hi);
    detail::check_power("quantization_error", power);
    return detail::view_error(h, p, range, power);
}
/// E over values; those that are not finite do not count.
[[nodiscard]] inline double quantization_error(std::span<const float> x, quant_params p, code_range range,
                                               double power = 2.0) {
    detail::check_params("quantization_error", "params", p, range.lo, range.hi);
    detail::check_power("quantization_error", power);
    return detail::value_error(x, p, range, power);
}

/// The range of least E among the fractions of the range of the values; empty if there are none. steps
/// is 2..65536.
template <range_type Range>
[[nodiscard]] real_range least_error_range(const histogram_view& h, double power = 2.0, index_t steps = 128) {
    detail::check_search("least_error_range", power, steps);
    detail::check_view("least_error_range", h);
    if (h.counts.empty()) return {};
    return detail::search_range<Range>(h.range, steps, [&](quant_params p) {
        return detail::view_error(h, p, {Range::qmin, Range::qmax}, power);
    });
}
/// The same over values, as weights are; those that are not finite do not count.
template <range_type Range>
[[nodiscard]] real_range least_error_range(std::span<const float> x, double power = 2.0, index_t steps = 128) {
    detail::check_search("least_error_range", power, steps);
    min_max seen;
    seen.observe(x);
    return detail::search_range<Range>(seen.range(), steps, [&](quant_params p) {
        return detail::value_error(x, p, {Range::qmin, Range::qmax}, power);
    });
}

NOTCH_KEYED_END
