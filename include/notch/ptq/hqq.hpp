// SPDX-License-Identifier: Apache-2.0
//
// notch/ptq/hqq.hpp: half-quadratic quantization (Badri and Shaji 2023, Half-Quadratic Quantization of Large
// Machine Learning Models; code in mobiusml/hqq): finds the zero point of each group of weights, without
// data, so that sum of |w - s (q - z)|^p is small with p < 1, which cares for most weights rather than for
// outliers. With e standing for the error, in turns:
//
//     q = clamp(round(w / s + z)),  r = s (q - z)
//     e = shrink(w - r),  shrink(x) = sign(x) max(|x| - |x|^(p - 1) / beta, 0)
//     z = mean(q - (w - e) / s),  beta = beta * growth
//
// The scale s is that of min-max. z is a real number there; notch's kernels take a code. So hqq tries the two
// integers beside z and the one it began with, and takes the one of least error: never a worse one than
// min-max gives.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
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
            const double magnitude = std::fabs(x);
            // 0 has no part in the error, whatever its power.
            const double kept = magnitude > 0.0 ? magnitude - std::pow(magnitude, o.power - 1.0) / beta : 0.0;
            const double e = kept > 0.0 ? std::copysign(kept, x) : 0.0;
            sum += q - (static_cast<double>(v) - e) / s;
        }
        zero_point = sum / static_cast<double>(w.size());
        beta *= o.growth;
    }
    return zero_point;
}

/// Weights outputs x inputs in groups of `group` inputs (the last may be shorter): codes, and parameters row by
/// row, outputs * ceil(inputs / group), with integer zero points, for a type that has them.
template <range_type Range>
void hqq(matrix_view<const float> w, index_t group, matrix_view<typename Range::code_type> codes,
         std::span<quant_params> params, const hqq_options& o = {}) {
    static_assert(Range::has_zero_point, "notch::hqq finds zero points: the type of codes must have them");
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
            quant_params p = params_from_range<Range>(seen);
            const auto s = static_cast<double>(p.scale);
            const auto error = [&](double zero) {
                double sum = 0;
                for (float v : part)
                    sum += std::pow(
                        std::fabs(static_cast<double>(v) - s * (detail::hqq_code(v, s, zero, range) - zero)), o.power);
                return sum;
            };
            const double z = hqq_zero_point(part, p.scale, p.zero_point, range, o);
            double least = error(p.zero_point);
            for (const double candidate : {std::floor(z), std::ceil(z)}) {
                if (candidate < range.lo || candidate > range.hi) continue;
                const double e = error(candidate);
                if (e < least) {
                    least = e;
                    p.zero_point = static_cast<std::int32_t>(candidate);
                }
            }
            params[static_cast<std::size_t>(r * groups + g)] = p;
            for (index_t k = 0; k < count; ++k)
                codes(r, from + k) = static_cast<typename Range::code_type>(
                    detail::hqq_code(part[static_cast<std::size_t>(k)], s, p.zero_point, range));
        }
}

NOTCH_KEYED_END
