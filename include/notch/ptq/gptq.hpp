// SPDX-License-Identifier: Apache-2.0
//
// notch/ptq/gptq.hpp: GPTQ (Frantar et al. 2022, arXiv:2210.17323, algorithm 1): rounds the weights of a
// layer y = W x one input at a time, and lets those that are still to come make good what rounding spoilt,
// so that the error of y over the inputs seen, not that of W, is small:
//
//     H = sum of x x^T,  H += damping * mean(diagonal) on the diagonal,  U upper with U^T U = H^-1
//     for each input k:  q = codes of column k,  e = (w_k - dequantized q) / U(k, k)
//                        column j -= e * U(k, j)    for all j > k
//
// Columns are taken in blocks, so that most of the work is one matrix product a block (section 3.3). Inputs
// that were always 0 get the code of 0. All in double, deterministic. Needs Eigen.
#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/ptq/input_moments.hpp>
#include <notch/ref/quantize.hpp>
#include <notch/scheme/range.hpp>

NOTCH_KEYED_BEGIN

struct gptq_options {
    double damping = 0.01;      ///< of the mean of the diagonal of H, > 0
    index_t block = 128;        ///< columns at a time; does not change the result but for rounding
    bool largest_first = false; ///< inputs in order of falling H(k, k) (the reference code's act-order)
    index_t group = 0;          ///< inputs that share parameters; 0: all of a row
};

/// w and codes are outputs x inputs. params has one entry for each output and each group of inputs, row by
/// row: outputs * ceil(inputs / group), or a single one for all; they are chosen before, for example by
/// calibrate. progress(done, inputs) is called after each block of columns.
template <range_type Range, class Progress = detail::no_progress>
void gptq(matrix_view<const float> w, const input_moments& x, std::span<const quant_params> params,
          matrix_view<typename Range::code_type> codes, const gptq_options& o = {}, Progress&& progress = {}) {
    constexpr const char* where = "gptq";
    if (!(o.damping > 0.0) || !std::isfinite(o.damping) || o.block < 1 || o.group < 0)
        fail(errc::invalid_argument,
             detail::cat(where, ": damping ", o.damping, ", block ", o.block, ", group ", o.group));
    const index_t n = w.cols, group = o.group == 0 ? std::max<index_t>(n, 1) : o.group,
                  groups = n / group + (n % group != 0 ? 1 : 0);
    detail::check_rounding<Range>(where, w, x, params, groups, codes);
    if (n == 0 || w.rows == 0) return;
    for (index_t r = 0; r < w.rows; ++r)
        for (index_t c = 0; c < n; ++c)
            if (!std::isfinite(w(r, c)))
                fail(errc::invalid_argument, detail::cat(where, ": w(", r, ", ", c, ") is ", w(r, c)));

    const Eigen::MatrixXd sums = x.matrix();
    buffer<index_t> order(n);
    for (index_t i = 0; i < n; ++i) order[i] = i;
    if (o.largest_first)
        std::stable_sort(order.begin(), order.end(), [&](index_t a, index_t b) { return sums(a, a) > sums(b, b); });
    Eigen::MatrixXd h(n, n), rest(w.rows, n), e(w.rows, std::min(o.block, n));
    for (index_t i = 0; i < n; ++i) {
        for (index_t j = 0; j < n; ++j) h(i, j) = sums(order[i], order[j]);
        const bool dead = h(i, i) == 0.0;
        if (dead) h(i, i) = 1.0;
        for (index_t r = 0; r < w.rows; ++r) rest(r, i) = dead ? 0.0 : static_cast<double>(w(r, order[i]));
    }
    h.diagonal().array() += o.damping * h.diagonal().mean();
    const Eigen::LLT<Eigen::MatrixXd> factor(h);
    Eigen::MatrixXd u;
    if (factor.info() == Eigen::Success) {
        const Eigen::LLT<Eigen::MatrixXd> inverse(factor.solve(Eigen::MatrixXd::Identity(n, n)));
        if (inverse.info() == Eigen::Success) u = inverse.matrixU();
    }
    if (u.size() == 0)
        fail(errc::invalid_argument,
             detail::cat(where, ": the moments of x have no inverse; raise damping, now ", o.damping));

    for (index_t begin = 0; begin < n; begin += o.block) {
        const index_t count = std::min(o.block, n - begin), end = begin + count;
        for (index_t k = begin; k < end; ++k) {
            for (index_t r = 0; r < w.rows; ++r) {
                const quant_params p =
                    params[params.size() == 1 ? 0 : static_cast<std::size_t>(r * groups + order[k] / group)];
                const std::int32_t code = ref::quantize(static_cast<float>(rest(r, k)), p, {Range::qmin, Range::qmax});
                codes(r, order[k]) = static_cast<typename Range::code_type>(code);
                const double back = static_cast<double>(code - p.zero_point) * static_cast<double>(p.scale);
                e(r, k - begin) = (rest(r, k) - back) / u(k, k);
            }
            const index_t after = end - k - 1;
            rest.middleCols(k + 1, after).noalias() -= e.col(k - begin) * u.row(k).segment(k + 1, after);
        }
        rest.rightCols(n - end).noalias() -= e.leftCols(count) * u.block(begin, end, count, n - end);
        progress(end, n);
    }
}

NOTCH_KEYED_END
