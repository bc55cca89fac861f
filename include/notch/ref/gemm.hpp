// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/gemm.hpp: the definition of the integer matrix product.
//
//     acc[m][n] = bias[n] + sum over k of (x[m][k] - x_zero_point) * (w[n][k] - w_zero_point[n])
//
// an exact int32.
#pragma once

#include <cstdint>
#include <span>

#include <notch/core/view.hpp>

NOTCH_KEYED_BEGIN
namespace ref {

/// x: M x K codes, w: N x K codes (one row for each output), bias: N values or empty, acc: M x N,
/// w_zero_points: none, one, or N. No overflow checks: sums are int64 and must fit int32.
template <class X, class W>
void gemm(matrix_view<const X> x, std::int32_t x_zero_point, matrix_view<const W> w, std::span<const std::int32_t> bias,
          matrix_view<std::int32_t> acc, std::span<const std::int32_t> w_zero_points = {}) {
    detail::check_view("ref::gemm", "x", x);
    detail::check_view("ref::gemm", "w", w);
    detail::check_view("ref::gemm", "acc", acc);
    detail::check_equal("ref::gemm", "the number of columns of w", w.cols, x.cols);
    detail::check_equal("ref::gemm", "the number of rows of acc", acc.rows, x.rows);
    detail::check_equal("ref::gemm", "the number of columns of acc", acc.cols, w.rows);
    if (!bias.empty())
        detail::check_equal("ref::gemm", "the number of biases", static_cast<index_t>(bias.size()), w.rows);
    const auto zeros = static_cast<index_t>(w_zero_points.size());
    if (zeros > 1) detail::check_equal("ref::gemm", "the number of weight zero points", zeros, w.rows);
    for (index_t m = 0; m < x.rows; ++m) {
        for (index_t n = 0; n < w.rows; ++n) {
            std::int64_t sum = bias.empty() ? 0 : bias[static_cast<std::size_t>(n)];
            const std::int32_t zero = zeros == 0 ? 0 : w_zero_points[static_cast<std::size_t>(zeros == 1 ? 0 : n)];
            for (index_t k = 0; k < x.cols; ++k)
                sum += static_cast<std::int64_t>(static_cast<std::int32_t>(x(m, k)) - x_zero_point) *
                       (static_cast<std::int32_t>(w(n, k)) - zero);
            acc(m, n) = static_cast<std::int32_t>(sum);
        }
    }
}

/// The same for s8 weights without zero points.
template <class X>
void gemm(matrix_view<const X> x, std::int32_t x_zero_point, matrix_view<const std::int8_t> w,
          std::span<const std::int32_t> bias, matrix_view<std::int32_t> acc) {
    gemm<X, std::int8_t>(x, x_zero_point, w, bias, acc, {});
}

} // namespace ref
NOTCH_KEYED_END
