// SPDX-License-Identifier: Apache-2.0
//
// notch/ptq/bias_correction.hpp: quantized weights shift the mean of what a layer computes; the bias
// takes it back (Nagel et al. 2019, arXiv:1906.04721, section 4.2):
//
//   analytic     b[o] -= sum over weights of output o of (w_quantized - w) * E[x of its input]   (eq. 17)
//   empirical    b[o] += mean of the float outputs - mean of the quantized outputs
//
// E[x] is what a mean_sigma per channel saw, or, behind a batch norm and a clamp to [lo, hi], that of a
// clipped normal distribution with mean beta and deviation |gamma| (eq. 19 and appendix C): with
// a = (lo - beta) / gamma, b = (hi - beta) / gamma, the density phi and its integral Phi,
//
//   E[x] = gamma (phi(a) - phi(b)) + beta (Phi(b) - Phi(a)) + lo Phi(a) + hi (1 - Phi(b))
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/ptq/weight_shape.hpp>

NOTCH_KEYED_BEGIN

/// The mean of a normal distribution clamped to [lo, hi]; ReLU is [0, infinity). deviation >= 0.
[[nodiscard]] inline double clipped_normal_mean(double mean, double deviation, double lo = 0.0,
                                                double hi = std::numeric_limits<double>::infinity()) {
    if (!std::isfinite(mean) || !(deviation >= 0.0) || !std::isfinite(deviation) || !(lo <= hi))
        fail(errc::invalid_argument,
             detail::cat("clipped_normal_mean: a mean of ", mean, ", a deviation of ", deviation, " and the bounds [",
                         lo, ", ", hi, "] are no clipped normal distribution"));
    if (deviation == 0.0) return mean < lo ? lo : mean > hi ? hi : mean;
    const double root2 = std::sqrt(2.0), a = (lo - mean) / deviation, b = (hi - mean) / deviation;
    const auto density = [](double t) { return std::exp(-0.5 * t * t) * 0.3989422804014327; };
    // The parts below lo, above hi and between; the last from tails that are small, so that it keeps its digits.
    const double below = 0.5 * std::erfc(-a / root2), above = 0.5 * std::erfc(b / root2);
    const double between = a > 0.0   ? 0.5 * std::erfc(a / root2) - above
                           : b < 0.0 ? 0.5 * std::erfc(-b / root2) - below
                                     : 1.0 - below - above;
    double sum = deviation * (density(a) - density(b)) + mean * between;
    if (below > 0.0) sum += lo * below;
    if (above > 0.0) sum += hi * above;
    return sum;
}

/// Analytic bias correction. w and w_quantized (dequantized weights) have the shape's size, x_mean a value
/// for each input channel, bias one for each output. Taps in padding count as if they were inside.
inline void correct_bias(std::span<const float> w, std::span<const float> w_quantized, const weight_shape& shape,
                         std::span<const float> x_mean, std::span<float> bias) {
    constexpr const char* where = "correct_bias";
    detail::check_weights(where, w.size(), shape);
    detail::check_equal(where, "the size of w_quantized", static_cast<index_t>(w_quantized.size()),
                        shape.outputs.size());
    detail::check_equal(where, "the size of x_mean", static_cast<index_t>(x_mean.size()), shape.inputs.channels);
    detail::check_equal(where, "the size of bias", static_cast<index_t>(bias.size()), shape.outputs.channels);
    detail::check_finite(where, "x_mean", x_mean);
    buffer<double> shift(shape.outputs.channels);
    for (index_t i = 0; i < shape.outputs.size(); ++i) {
        const auto at = static_cast<std::size_t>(i);
        shift.data()[detail::channel_of(shape.outputs, i)] +=
            (static_cast<double>(w_quantized[at]) - static_cast<double>(w[at])) *
            static_cast<double>(x_mean[detail::channel_of(shape.inputs, i)]);
    }
    for (index_t o = 0; o < shift.size(); ++o) bias[static_cast<std::size_t>(o)] -= static_cast<float>(shift[o]);
}

/// Empirical bias correction, from what the float and the quantized layer made of the same inputs: rows of
/// outputs, a column for each channel. There must be at least one row.
inline void correct_bias(matrix_view<const float> y, matrix_view<const float> y_quantized, std::span<float> bias) {
    constexpr const char* where = "correct_bias";
    detail::check_view(where, "y", y);
    detail::check_view(where, "y_quantized", y_quantized);
    detail::check_equal(where, "the number of rows of y_quantized", y_quantized.rows, y.rows);
    detail::check_equal(where, "the number of columns of y_quantized", y_quantized.cols, y.cols);
    detail::check_equal(where, "the size of bias", static_cast<index_t>(bias.size()), y.cols);
    if (y.rows == 0) fail(errc::invalid_argument, "correct_bias: there are no rows of outputs");
    buffer<double> sum(y.cols);
    for (index_t r = 0; r < y.rows; ++r)
        for (index_t c = 0; c < y.cols; ++c)
            sum[c] += static_cast<double>(y(r, c)) - static_cast<double>(y_quantized(r, c));
    for (index_t c = 0; c < y.cols; ++c) {
        const double shift = sum[c] / static_cast<double>(y.rows);
        if (!std::isfinite(shift)) fail(errc::invalid_argument, detail::cat(where, ": column ", c, " is not finite"));
    }
    for (index_t c = 0; c < y.cols; ++c)
        bias[static_cast<std::size_t>(c)] += static_cast<float>(sum[c] / static_cast<double>(y.rows));
}

NOTCH_KEYED_END
