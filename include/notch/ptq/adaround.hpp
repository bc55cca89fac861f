// SPDX-License-Identifier: Apache-2.0
//
// notch/ptq/adaround.hpp: AdaRound (Nagel et al. 2020, arXiv:2004.10568): learns for each weight whether to
// round it down or up, so that the error of y = W x over the inputs seen is small:
//
//     u = clamp(floor(w / s) + h(v) + zero_point),  h(v) = clamp(1.2 * sigmoid(v) - 0.1, 0, 1)     (eq. 22, 23)
//     loss = error of y + lambda * sum of (1 - |2 h - 1|^beta)                                     (eq. 21, 24)
//
// v starts where h is the fraction of w / s, and is trained by Adam. The second term begins after a fifth of
// the iterations; beta falls from 20 to 2 along a cosine and drives every h to 0 or 1. Then u with h >= 1/2
// rounded up is the code.
//
// The error is that over all inputs at once, from their moments (input_moments.hpp) instead of batches of
// them; so nothing is random. It is measured in codes and for inputs of mean square 1, d H d^T / mean of the
// diagonal of H with d = (w - w_quantized) / s, so that lambda means the same for every layer. An output
// that ends worse than with the nearest codes keeps those. Needs Eigen.
#pragma once

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/ptq/input_moments.hpp>
#include <notch/ref/quantize.hpp>
#include <notch/scheme/range.hpp>

NOTCH_KEYED_BEGIN

struct adaround_options {
    index_t iterations = 1000;           ///< >= 1
    float learning_rate = 0.01f;         ///< > 0
    float lambda = 0.01f;                ///< >= 0
    float beta_begin = 20, beta_end = 2; ///< >= 1
    float warm_up = 0.2f;                ///< the part of the iterations without the second term, in [0, 1)
};

namespace detail {

/// h and its derivative.
struct rectified_sigmoid {
    float h, slope;
};
inline rectified_sigmoid rectify(float v) noexcept {
    const float s = 1.0f / (1.0f + std::exp(-v)), h = 1.2f * s - 0.1f;
    if (h <= 0.0f || h >= 1.0f) return {h <= 0.0f ? 0.0f : 1.0f, 0.0f};
    return {h, 1.2f * s * (1.0f - s)};
}

} // namespace detail

/// w and codes are outputs x inputs; params has one entry for each output, or one for all. Weights whose code is
/// at an end of the range stay clamped there. progress(done, iterations) is called after each iteration. Takes
/// outputs * inputs^2 multiplications an iteration.
template <range_type Range, class Progress = detail::no_progress>
void adaround(matrix_view<const float> w, const input_moments& x, std::span<const quant_params> params,
              matrix_view<typename Range::code_type> codes, const adaround_options& o = {}, Progress&& progress = {}) {
    constexpr const char* where = "adaround";
    detail::check_rounding<Range>(where, w, x, params, 1, codes);
    if (o.iterations < 1 || !(o.learning_rate > 0.0f) || !std::isfinite(o.learning_rate) || !(o.lambda >= 0.0f) ||
        !std::isfinite(o.lambda) || !(o.beta_begin >= 1.0f) || !(o.beta_end >= 1.0f) || !std::isfinite(o.beta_begin) ||
        !std::isfinite(o.beta_end) || !(o.warm_up >= 0.0f && o.warm_up < 1.0f))
        fail(errc::invalid_argument,
             detail::cat(where, ": iterations ", o.iterations, ", learning_rate ", o.learning_rate, ", lambda ",
                         o.lambda, ", beta_begin ", o.beta_begin, ", beta_end ", o.beta_end, ", warm_up ", o.warm_up));
    const index_t rows = w.rows, n = w.cols;
    if (rows == 0 || n == 0) return;
    constexpr float least = Range::qmin, most = Range::qmax;

    using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    Eigen::MatrixXd moments = x.matrix();
    const double mean = moments.diagonal().mean();
    if (mean > 0.0) moments /= mean;
    const matrix h = moments.cast<float>();
    // In codes: real is w / s + zero_point, base its floor.
    matrix real(rows, n), base(rows, n), v(rows, n), nearest(rows, n);
    for (index_t r = 0; r < rows; ++r) {
        const quant_params p = params[params.size() == 1 ? 0 : static_cast<std::size_t>(r)];
        for (index_t c = 0; c < n; ++c) {
            if (!std::isfinite(w(r, c)))
                fail(errc::invalid_argument, detail::cat(where, ": w(", r, ", ", c, ") is ", w(r, c)));
            nearest(r, c) = static_cast<float>(ref::quantize(w(r, c), p, {Range::qmin, Range::qmax}));
            // Far outside the range the value itself is of no use: it only must not overflow.
            real(r, c) = std::clamp(w(r, c) / p.scale + static_cast<float>(p.zero_point), 2.0f * least - most,
                                    2.0f * most - least);
            base(r, c) = std::floor(real(r, c));
            const float fraction = std::clamp(real(r, c) - base(r, c), 0.001f, 0.999f);
            v(r, c) = -std::log(1.2f / (fraction + 0.1f) - 1.0f);
        }
    }
    matrix d(rows, n), gradient(rows, n), first = matrix::Zero(rows, n), second = matrix::Zero(rows, n);
    const auto warm = static_cast<index_t>(o.warm_up * static_cast<float>(o.iterations));
    double decay1 = 1, decay2 = 1;
    for (index_t t = 0; t < o.iterations; ++t) {
        for (index_t i = 0; i < rows * n; ++i)
            d.data()[i] = std::clamp(base.data()[i] + detail::rectify(v.data()[i]).h, least, most) - real.data()[i];
        gradient.noalias() = d * h; // half of the gradient of d H d^T
        float beta = 0;
        if (t >= warm) {
            const double part =
                static_cast<double>(t - warm) / static_cast<double>(std::max<index_t>(o.iterations - warm, 1));
            beta = static_cast<float>(static_cast<double>(o.beta_end) +
                                      0.5 * static_cast<double>(o.beta_begin - o.beta_end) *
                                          (1.0 + std::cos(part * 3.14159265358979)));
        }
        // Adam (Kingma and Ba 2014, arXiv:1412.6980, algorithm 1).
        decay1 *= 0.9;
        decay2 *= 0.999;
        const auto unbias1 = static_cast<float>(1.0 / (1.0 - decay1)),
                   unbias2 = static_cast<float>(1.0 / (1.0 - decay2));
        for (index_t i = 0; i < rows * n; ++i) {
            const auto [part, slope] = detail::rectify(v.data()[i]);
            const float code = base.data()[i] + part;
            float g = code < least || code > most ? 0.0f : 2.0f * gradient.data()[i];
            if (beta > 0.0f) {
                const float u = 2.0f * part - 1.0f; // d/dh of 1 - |u|^beta
                g -= o.lambda * 2.0f * beta * std::copysign(std::pow(std::fabs(u), beta - 1.0f), u);
            }
            g *= slope;
            float& m = first.data()[i];
            float& s = second.data()[i];
            m = 0.9f * m + 0.1f * g;
            s = 0.999f * s + 0.001f * g * g;
            v.data()[i] -= o.learning_rate * (m * unbias1) / (std::sqrt(s * unbias2) + 1e-8f);
        }
        progress(t + 1, o.iterations);
    }
    Eigen::VectorXd learned(n), plain(n);
    for (index_t r = 0; r < rows; ++r) {
        for (index_t c = 0; c < n; ++c) {
            const float up = detail::rectify(v(r, c)).h >= 0.5f ? 1.0f : 0.0f;
            d(r, c) = std::clamp(base(r, c) + up, least, most);
            learned(c) = static_cast<double>(d(r, c) - real(r, c));
            plain(c) = static_cast<double>(nearest(r, c) - real(r, c));
        }
        const bool better = learned.dot(moments * learned) <= plain.dot(moments * plain);
        for (index_t c = 0; c < n; ++c)
            codes(r, c) = static_cast<typename Range::code_type>(better ? d(r, c) : nearest(r, c));
    }
}

NOTCH_KEYED_END
