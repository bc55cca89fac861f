// SPDX-License-Identifier: Apache-2.0
//
// notch/qat/log_parameter.hpp: a positive parameter p that is trained as its logarithm, t = log(p),
// so that it stays positive and finite whatever the optimizer does. The gradient is dt = dp * p.
#pragma once

#include <cfloat>
#include <cmath>
#include <limits>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/core/config.hpp>
#include <notch/core/error.hpp>
#include <notch/scheme/range.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// A logarithm that nobody has set: that of 0, which no optimizer reaches.
inline constexpr float unset_log = -std::numeric_limits<float>::infinity();

/// n trained numbers, each of them v.
inline buffer<float> trained_numbers(index_t n, float v) {
    buffer<float> b(n);
    for (float& each : b) each = v;
    return b;
}
/// Whether none of them is the unset one.
inline bool all_set(std::span<const float> trained, float unset) noexcept {
    for (float v : trained)
        if (v == unset) return false;
    return true;
}
/// NaN, from an optimizer or a file, is no number to quantize with.
inline void check_trained(const char* where, const char* name, std::span<const float> trained) {
    for (std::size_t c = 0; c < trained.size(); ++c)
        if (std::isnan(trained[c])) fail(errc::invalid_argument, cat(where, ": ", name, " of channel ", c, " is NaN"));
}

/// exp(t) with t kept within [least, 69], which is below 2^100, and at least FLT_MIN; 1 for NaN. least >= -87.
inline float positive_from_log(float t, float least) {
    if (std::isnan(t)) return 1.0f;
    const float p = std::exp(t < least ? least : t > 69.0f ? 69.0f : t);
    return p < FLT_MIN ? FLT_MIN : p;
}
/// The t of p > 0; 0, which stands for p = 1, for what has none.
inline float log_of_positive(double p) {
    return p >= static_cast<double>(FLT_MIN) && std::isfinite(p) ? static_cast<float>(std::log(p)) : 0.0f;
}

/// The step of t: positive_from_log, for a power_of_two range moved up to a power of two; 1 while t is unset.
template <range_type Range> float step_from_log(float t) {
    if (t == unset_log) return 1.0f;
    const float s = positive_from_log(t, -87.0f);
    if constexpr (has_power_of_two_scale<Range>) return ceil_to_power_of_two(s);
    return s;
}
/// The t of a step s > 0, log_of_positive. exp(log(s)) may lie some ulp above s: where s is the power of two that a
/// power_of_two range wants, t is lowered until it is not doubled by that.
template <range_type Range> float log_from_step(double s) {
    float t = log_of_positive(s);
    if constexpr (has_power_of_two_scale<Range>) {
        if (!(s >= static_cast<double>(FLT_MIN) && s <= static_cast<double>(FLT_MAX))) return t;
        const float most = ceil_to_power_of_two(static_cast<float>(s));
        while (t > -87.0f && step_from_log<Range>(t) > most) t = std::nextafter(t, unset_log);
    }
    return t;
}

} // namespace detail
NOTCH_KEYED_END
