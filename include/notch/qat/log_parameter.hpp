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

} // namespace detail
NOTCH_KEYED_END
