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
// The inverse is not needed. With V upper and V V^T = H, so that U = V^-1, column k is before it is rounded
//
//     w_k + sum over i < k of (w_i - dequantized q_i) V(i, k) / V(k, k)
//
// (the form of LDLQ: Chee et al. 2023, arXiv:2307.13304, section 3.2 and theorem 6), and one Cholesky decomposition is
// all that is cubic. Columns are taken in blocks, so that most of the rest is one matrix product a block. Inputs
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
    double damping = 0.01;  ///< of the mean of the diagonal of H, > 0
    index_t block = 128;    ///< columns at a time; does not change the result but for rounding
    bool act_order = false; ///< inputs in order of falling H(k, k) (the reference code's act-order)
    index_t group = 0;      ///< inputs that share parameters; 0: all of a row
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
    if (o.act_order)
        std::stable_sort(order.begin(), order.end(), [&](index_t a, index_t b) { return sums(a, a) > sums(b, b); });
    // V is the lower factor of H with rows and columns in reverse: V(i, k) = factor(n - 1 - i, n - 1 - k).
    Eigen::MatrixXd h(n, n), real(w.rows, n);
    for (index_t i = 0; i < n; ++i) {
        for (index_t j = 0; j < n; ++j) h(n - 1 - i, n - 1 - j) = sums(order[i], order[j]);
        const bool dead = sums(order[i], order[i]) == 0.0;
        if (dead) h(n - 1 - i, n - 1 - i) = 1.0;
        for (index_t r = 0; r < w.rows; ++r) real(r, i) = dead ? 0.0 : static_cast<double>(w(r, order[i]));
    }
    h.diagonal().array() += o.damping * h.diagonal().mean();
    const Eigen::LLT<Eigen::Ref<Eigen::MatrixXd>> factor(h); // in place
    if (factor.info() != Eigen::Success || !(h.diagonal().minCoeff() > 0.0))
        fail(errc::invalid_argument,
             detail::cat(where, ": the moments of x have no inverse; raise damping, now ", o.damping));

    Eigen::MatrixXd e(w.rows, n), shift; // w less its dequantized codes
    for (index_t begin = 0; begin < n; begin += o.block) {
        const index_t count = std::min(o.block, n - begin), end = begin + count;
        const Eigen::MatrixXd v =
            h.block(n - end, n - end, end, count).reverse(); // V(0 ... end - 1, begin ... end - 1)
        shift.noalias() = e.leftCols(begin) * v.topRows(begin);
        for (index_t k = begin; k < end; ++k) {
            const index_t at = k - begin;
            if (at > 0) shift.col(at).noalias() += e.middleCols(begin, at) * v.col(at).segment(begin, at);
            for (index_t r = 0; r < w.rows; ++r) {
                const quant_params p =
                    params[params.size() == 1 ? 0 : static_cast<std::size_t>(r * groups + order[k] / group)];
                const double target = real(r, k) + shift(r, at) / v(k, at);
                const std::int32_t code = ref::quantize(static_cast<float>(target), p, {Range::qmin, Range::qmax});
                codes(r, order[k]) = static_cast<typename Range::code_type>(code);
                e(r, k) = real(r, k) - static_cast<double>(code - p.zero_point) * static_cast<double>(p.scale);
            }
        }
        progress(end, n);
    }
}

NOTCH_KEYED_END
