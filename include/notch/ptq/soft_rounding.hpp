// SPDX-License-Identifier: Apache-2.0
//
// notch/ptq/soft_rounding.hpp: what AdaRound and its successors share (Nagel et al. 2020, arXiv:2004.10568): a variable
// v for each weight, by which the choice between the codes below and above it is learned,
//
//     u = clamp(floor(w / s) + h(v) + zero_point),  h(v) = clamp(1.2 * sigmoid(v) - 0.1, 0, 1)     (eq. 22, 23)
//     loss = error + lambda * sum of (1 - |2 h - 1|^beta)                                          (eq. 21, 24)
//
// v starts where h is the fraction of w / s, and is trained by Adam. The second term begins after a part of the
// iterations; beta falls along a cosine and drives every h to 0 or 1. Then u with h >= 1/2 rounded up is the code.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string_view>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/ref/quantize.hpp>
#include <notch/scheme/range.hpp>

NOTCH_KEYED_BEGIN

struct soft_rounding_options {
    index_t iterations = 1000;           ///< >= 1
    float learning_rate = 0.01f;         ///< > 0
    float lambda = 1;                    ///< >= 0; of an error in codes (the paper's 0.01 is for one in units of y)
    float beta_begin = 20, beta_end = 2; ///< >= 1
    float warm_up = 0.2f;                ///< the part of the iterations without the second term, in [0, 1)
};

namespace detail {

inline void check_soft_rounding(std::string_view where, const soft_rounding_options& o) {
    if (o.iterations < 1 || !(o.learning_rate > 0.0f) || !std::isfinite(o.learning_rate) || !(o.lambda >= 0.0f) ||
        !std::isfinite(o.lambda) || !(o.beta_begin >= 1.0f) || !(o.beta_end >= 1.0f) || !std::isfinite(o.beta_begin) ||
        !std::isfinite(o.beta_end) || !(o.warm_up >= 0.0f && o.warm_up < 1.0f))
        fail(errc::invalid_argument,
             cat(where, ": iterations ", o.iterations, ", learning_rate ", o.learning_rate, ", lambda ", o.lambda,
                 ", beta_begin ", o.beta_begin, ", beta_end ", o.beta_end, ", warm_up ", o.warm_up));
}

/// h and its derivative.
struct rectified_sigmoid {
    float h, slope;
};
inline rectified_sigmoid rectify(float v) noexcept {
    const float s = 1.0f / (1.0f + std::exp(-v)), h = 1.2f * s - 0.1f;
    if (h <= 0.0f || h >= 1.0f) return {h <= 0.0f ? 0.0f : 1.0f, 0.0f};
    return {h, 1.2f * s * (1.0f - s)};
}

/// The derivative of 1 - |2 h - 1|^beta in h.
inline float regularizer_slope(float h, float beta) noexcept {
    const float u = 2.0f * h - 1.0f;
    return -(2.0f * beta * std::copysign(std::pow(std::fabs(u), beta - 1.0f), u));
}

/// beta of iteration t, from 0 on; 0 while there is no second term.
inline float annealed_beta(const soft_rounding_options& o, index_t t) noexcept {
    const auto warm = static_cast<index_t>(o.warm_up * static_cast<float>(o.iterations));
    if (t < warm) return 0;
    const double part = static_cast<double>(t - warm) / static_cast<double>(std::max<index_t>(o.iterations - warm, 1));
    return static_cast<float>(static_cast<double>(o.beta_end) + 0.5 * static_cast<double>(o.beta_begin - o.beta_end) *
                                                                    (1.0 + std::cos(part * 3.14159265358979)));
}

/// The variables of n weights, and their training. All values are in codes.
class soft_rounding {
public:
    soft_rounding(index_t n, code_range range)
        : least_(static_cast<float>(range.lo)), most_(static_cast<float>(range.hi)), range_(range), real_(n), base_(n),
          nearest_(n), v_(n), first_(n), second_(n) {}

    /// Weight i, which is finite.
    void start(index_t i, float w, quant_params p) noexcept {
        nearest_[i] = static_cast<float>(ref::quantize(w, p, range_));
        // Far outside the range the value itself is of no use: it only must not overflow.
        real_[i] =
            std::clamp(w / p.scale + static_cast<float>(p.zero_point), 2.0f * least_ - most_, 2.0f * most_ - least_);
        base_[i] = std::floor(real_[i]);
        const float fraction = std::clamp(real_[i] - base_[i], 0.001f, 0.999f);
        v_[i] = -std::log(1.2f / (fraction + 0.1f) - 1.0f);
    }
    [[nodiscard]] index_t size() const noexcept { return v_.size(); }
    /// w / s + zero_point
    [[nodiscard]] float real(index_t i) const noexcept { return real_[i]; }
    [[nodiscard]] float nearest(index_t i) const noexcept { return nearest_[i]; }
    /// u
    [[nodiscard]] float soft(index_t i) const noexcept {
        return std::clamp(base_[i] + rectify(v_[i]).h, least_, most_);
    }
    /// u with h rounded.
    [[nodiscard]] float hard(index_t i) const noexcept {
        return std::clamp(base_[i] + (rectify(v_[i]).h >= 0.5f ? 1.0f : 0.0f), least_, most_);
    }
    /// Iteration t = 0, 1, ...; gradient is that of the error in u. Adam (Kingma and Ba 2014, arXiv:1412.6980,
    /// algorithm 1).
    void step(index_t t, std::span<const float> gradient, const soft_rounding_options& o) noexcept {
        const float beta = annealed_beta(o, t);
        decay1_ *= 0.9;
        decay2_ *= 0.999;
        const auto unbias1 = static_cast<float>(1.0 / (1.0 - decay1_)),
                   unbias2 = static_cast<float>(1.0 / (1.0 - decay2_));
        for (index_t i = 0; i < size(); ++i) {
            const auto [part, slope] = rectify(v_[i]);
            const float code = base_[i] + part;
            float g = code < least_ || code > most_ ? 0.0f : gradient[static_cast<std::size_t>(i)];
            if (beta > 0.0f) g += o.lambda * regularizer_slope(part, beta);
            g *= slope;
            float& m = first_[i];
            float& s = second_[i];
            m = 0.9f * m + 0.1f * g;
            s = 0.999f * s + 0.001f * g * g;
            v_[i] -= o.learning_rate * (m * unbias1) / (std::sqrt(s * unbias2) + 1e-8f);
        }
    }

private:
    float least_, most_;
    code_range range_;
    buffer<float> real_, base_, nearest_, v_, first_, second_;
    double decay1_ = 1, decay2_ = 1;
};

} // namespace detail
NOTCH_KEYED_END
