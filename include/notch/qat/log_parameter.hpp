// SPDX-License-Identifier: Apache-2.0
//
// notch/qat/log_parameter.hpp: a positive parameter p that is trained as its logarithm, t = log(p),
// so that it stays positive and finite whatever the optimizer does. The gradient is dt = dp * p.
#pragma once

#include <cfloat>
#include <cmath>

#include <notch/core/config.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// exp(t) with t kept within [least, 69], which is below 2^100, and at least FLT_MIN. A t that is not finite counts as
/// 0. least >= -87.
inline float positive_from_log(float t, float least) {
    if (!std::isfinite(t)) return 1.0f;
    const float p = std::exp(t < least ? least : t > 69.0f ? 69.0f : t);
    return p < FLT_MIN ? FLT_MIN : p;
}
/// The t of p > 0; 0, which stands for p = 1, for what has none.
inline float log_of_positive(double p) {
    return p >= static_cast<double>(FLT_MIN) && std::isfinite(p) ? static_cast<float>(std::log(p)) : 0.0f;
}

} // namespace detail
NOTCH_KEYED_END
