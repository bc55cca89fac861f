// SPDX-License-Identifier: Apache-2.0
//
// notch/ptq/hqq.hpp: half-quadratic quantization (Badri and Shaji 2023, Half-Quadratic Quantization of Large
// Machine Learning Models; code in mobiusml/hqq): parameters of groups of weights, without data, so that
// sum of |w - s (q - z)|^p is small, with p < 1, which cares for most weights rather than for outliers. With e
// standing for the part of the error that is let be, in turns:
//
//     q = clamp(round(w / s + z)),  r = s (q - z)
//     e = shrink(w - r),  shrink(x) = sign(x) max(|x| - |x|^(p - 1) / beta, 0)
//     z = mean(q - (w - e) / s),  beta = beta * growth
//
// There, s is that of min-max and z a real number (hqq_zero_point). notch's kernels take a code for z, so
// that 0 stays 0; a z that may only move by whole steps gains next to nothing. hqq therefore solves the same
// step for s, with z the nearest code to the mean above,
//
//     s = sum of (w - e) (q - z) / sum of (q - z)^2
//
// and keeps the best of all iterations and min-max: the error is never larger than that of min-max.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/ref/quantize.hpp>
#include <notch/scheme/range.hpp>

NOTCH_KEYED_BEGIN

struct hqq_options {
    double power = 0.7;      ///< p, in (0, 2]
    double beta = 10;        ///< > 0
    double growth = 1.01;    ///< >= 1
    index_t iterations = 20; ///< >= 0
};

namespace detail {

inline void check_hqq(std::string_view where, const hqq_options& o) {
    if (!(o.power > 0.0 && o.power <= 2.0) || !(o.beta > 0.0) || !std::isfinite(o.beta) || !(o.growth >= 1.0) ||
        !std::isfinite(o.growth) || o.iterations < 0)
        fail(errc::invalid_argument,
             cat(where, ": power ", o.power, ", beta ", o.beta, ", growth ", o.growth, ", iterations ", o.iterations));
}

/// The code of w for a real zero point.
inline double hqq_code(float w, double scale, double zero, code_range range) noexcept {
    return std::clamp(std::nearbyint(static_cast<double>(w) / scale + zero), static_cast<double>(range.lo),
                      static_cast<double>(range.hi));
}

/// The part of an error that is let be.
inline double hqq_shrink(double x, double power, double beta) noexcept {
    const double magnitude = std::fabs(x);
    // 0 has no part in the error, whatever its power.
    const double kept = magnitude > 0.0 ? magnitude - std::pow(magnitude, power - 1.0) / beta : 0.0;
    return kept > 0.0 ? std::copysign(kept, x) : 0.0;
}

} // namespace detail

/// The real zero point of one group after all iterations, from zero_point on. The weights must be finite and
/// scale valid; range is that of the codes. zero_point itself if there are no weights.
[[nodiscard]] inline double hqq_zero_point(std::span<const float> w, float scale, double zero_point, code_range range,
                                           const hqq_options& o = {}) {
    detail::check_hqq("hqq_zero_point", o);
    detail::check_scale("hqq_zero_point", "scale", scale);
    if (w.empty()) return zero_point;
    const auto s = static_cast<double>(scale);
    double beta = o.beta;
    for (index_t t = 0; t < o.iterations; ++t) {
        double sum = 0;
        for (float v : w) {
            const double q = detail::hqq_code(v, s, zero_point, range),
                         x = static_cast<double>(v) - s * (q - zero_point);
            const double e = detail::hqq_shrink(x, o.power, beta);
            sum += q - (static_cast<double>(v) - e) / s;
        }
        zero_point = sum / static_cast<double>(w.size());
        beta *= o.growth;
    }
    return zero_point;
}

namespace detail {

/// The best parameters of one group, beginning with p.
inline quant_params hqq_group(std::span<const float> w, quant_params p, code_range range, const hqq_options& o) {
    quant_params best = p;
    double least = std::numeric_limits<double>::infinity(), beta = o.beta;
    for (index_t t = 0;; ++t) {
        const double s = static_cast<double>(p.scale);
        double error = 0, mean = 0;
        for (float v : w) {
            const double back = static_cast<double>(ref::quantize(v, p, range) - p.zero_point) * s;
            error += std::pow(std::fabs(static_cast<double>(v) - back), o.power);
        }
        if (error < least) {
            least = error;
            best = p;
        }
        if (t == o.iterations) return best;
        for (float v : w) {
            const double q = ref::quantize(v, p, range),
                         e = hqq_shrink(static_cast<double>(v) - s * (q - p.zero_point), o.power, beta);
            mean += q - (static_cast<double>(v) - e) / s;
        }
        const double zero = std::clamp(std::nearbyint(mean / static_cast<double>(w.size())),
                                       static_cast<double>(range.lo), static_cast<double>(range.hi));
        double product = 0, square = 0;
        for (float v : w) {
            const double q = ref::quantize(v, p, range),
                         e = hqq_shrink(static_cast<double>(v) - s * (q - p.zero_point), o.power, beta);
            product += (static_cast<double>(v) - e) * (q - zero);
            square += (q - zero) * (q - zero);
        }
        const double scale = product / square;
        if (!(scale >= static_cast<double>(FLT_MIN) && scale <= s * 2.0 &&
              scale * (range.hi - range.lo) <= static_cast<double>(FLT_MAX)))
            return best; // nothing left to fit
        p = {static_cast<float>(scale), static_cast<std::int32_t>(zero)};
        beta *= o.growth;
    }
}

} // namespace detail

/// Weights outputs x inputs in groups of `group` inputs (the last may be shorter): codes, and parameters row by
/// row, outputs * ceil(inputs / group), with integer zero points, for a type that has them.
template <range_type Range>
void hqq(matrix_view<const float> w, index_t group, matrix_view<typename Range::code_type> codes,
         std::span<quant_params> params, const hqq_options& o = {}) {
    static_assert(Range::has_zero_point, "notch::hqq finds zero points: the type of codes must have them");
    static_assert(!has_power_of_two_scale<Range>, "notch::hqq fits scales freely: they would not stay powers of two");
    constexpr const char* where = "hqq";
    constexpr code_range range{Range::qmin, Range::qmax};
    detail::check_view(where, "w", w);
    detail::check_view(where, "codes", codes);
    detail::check_equal(where, "the number of rows of codes", codes.rows, w.rows);
    detail::check_equal(where, "the number of columns of codes", codes.cols, w.cols);
    if (group < 1) fail(errc::invalid_argument, detail::cat(where, ": group is ", group, ", must be >= 1"));
    detail::check_hqq(where, o);
    const index_t groups = w.cols / group + (w.cols % group != 0 ? 1 : 0);
    detail::check_equal(where, "the number of params", static_cast<index_t>(params.size()), w.rows * groups);
    for (index_t r = 0; r < w.rows; ++r)
        for (index_t g = 0; g < groups; ++g) {
            const index_t from = g * group, count = std::min(group, w.cols - from);
            const std::span<const float> part(w.data + r * w.stride + from, static_cast<std::size_t>(count));
            real_range seen;
            for (float v : part) {
                if (!std::isfinite(v))
                    fail(errc::invalid_argument, detail::cat(where, ": row ", r, " has the weight ", v));
                seen = {std::min(seen.min, v), std::max(seen.max, v)};
            }
            const quant_params p = detail::hqq_group(part, params_from_range<Range>(seen), range, o);
            params[static_cast<std::size_t>(r * groups + g)] = p;
            for (index_t k = 0; k < count; ++k)
                codes(r, from + k) =
                    static_cast<typename Range::code_type>(ref::quantize(part[static_cast<std::size_t>(k)], p, range));
        }
}

NOTCH_KEYED_END
