// SPDX-License-Identifier: Apache-2.0
//
// notch/ptq/adaround.hpp: AdaRound (Nagel et al. 2020, arXiv:2004.10568): learns for each weight whether to
// round it down or up, so that the error of y = W x over the inputs seen is small:
//
//     u = clamp(floor(w / s) + h(v) + zero_point),  loss = error of y + regularizer of h            (eq. 21)
//
// by soft_rounding.hpp, which has the rest of the equations.
//
// The error is that over all inputs at once, from their moments (input_moments.hpp) instead of batches of
// them; so nothing is random. It is measured in codes and for inputs of mean square 1, d H d^T / mean of the
// diagonal of H with d = (w - w_quantized) / s, so that lambda means the same for every layer: near 1, or the second
// term does not drive every h to 0 or 1 against it, and what is left undecided is rounded after all. An output that
// ends worse than with the nearest codes keeps those. Needs Eigen.
#pragma once

#include <Eigen/Core>

#include <cmath>
#include <cstdint>
#include <span>

#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/ptq/input_moments.hpp>
#include <notch/ptq/soft_rounding.hpp>
#include <notch/scheme/range.hpp>

NOTCH_KEYED_BEGIN

using adaround_options = soft_rounding_options;

/// w and codes are outputs x inputs; params has one entry for each output, or one for all. Weights whose code is
/// at an end of the range stay clamped there. progress(done, iterations) is called after each iteration. Takes
/// outputs * inputs^2 multiplications an iteration.
template <range_type Range, class Progress = detail::no_progress>
void adaround(matrix_view<const float> w, const input_moments& x, std::span<const quant_params> params,
              matrix_view<typename Range::code_type> codes, const adaround_options& o = {}, Progress&& progress = {}) {
    constexpr const char* where = "adaround";
    detail::check_rounding<Range>(where, w, x, params, 1, codes);
    detail::check_soft_rounding(where, o);
    const index_t rows = w.rows, n = w.cols;
    if (rows == 0 || n == 0) return;

    using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    Eigen::MatrixXd moments = x.matrix();
    const double mean = moments.diagonal().mean();
    if (mean > 0.0) moments /= mean;
    const matrix h = moments.cast<float>();
    detail::soft_rounding rounding(rows * n, {Range::qmin, Range::qmax});
    for (index_t r = 0; r < rows; ++r)
        for (index_t c = 0; c < n; ++c) {
            if (!std::isfinite(w(r, c)))
                fail(errc::invalid_argument, detail::cat(where, ": w(", r, ", ", c, ") is ", w(r, c)));
            rounding.start(r * n + c, w(r, c), params[params.size() == 1 ? 0 : static_cast<std::size_t>(r)]);
        }
    matrix d(rows, n), gradient(rows, n);
    for (index_t t = 0; t < o.iterations; ++t) {
        for (index_t i = 0; i < rows * n; ++i) d.data()[i] = rounding.soft(i) - rounding.real(i);
        gradient.noalias() = d * h;
        gradient *= 2.0f;
        rounding.step(t, {gradient.data(), static_cast<std::size_t>(gradient.size())}, o);
        progress(t + 1, o.iterations);
    }
    Eigen::VectorXd learned(n), plain(n);
    for (index_t r = 0; r < rows; ++r) {
        for (index_t c = 0; c < n; ++c) {
            const index_t i = r * n + c;
            learned(c) = static_cast<double>(rounding.hard(i) - rounding.real(i));
            plain(c) = static_cast<double>(rounding.nearest(i) - rounding.real(i));
        }
        const bool better = learned.dot(moments * learned) <= plain.dot(moments * plain);
        for (index_t c = 0; c < n; ++c) {
            const index_t i = r * n + c;
            codes(r, c) = static_cast<typename Range::code_type>(better ? rounding.hard(i) : rounding.nearest(i));
        }
    }
}

NOTCH_KEYED_END
