// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/gemm_dynamic.hpp: the definition of the matrix product with activations that are
// quantized by rows at run time; the formulas stand in kernels/gemm_dynamic.hpp.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <span>

#include <notch/core/view.hpp>
#include <notch/ref/quantize.hpp>
#include <notch/scheme/range.hpp>
#include <notch/scheme/rounding.hpp>

NOTCH_KEYED_BEGIN
namespace ref {

/// x: M x K floats, w: N x K codes, w_scales: one or N, bias: none or N, y: M x N; one_range: the
/// parameters come from all rows together.
template <range_type Range>
void gemm_dynamic(matrix_view<const float> x, matrix_view<const std::int8_t> w, std::span<const float> w_scales,
                  std::span<const float> bias, matrix_view<float> y, bool one_range = false) {
    detail::check_view("ref::gemm_dynamic", "x", x);
    detail::check_view("ref::gemm_dynamic", "w", w);
    detail::check_view("ref::gemm_dynamic", "y", y);
    detail::check_equal("ref::gemm_dynamic", "the number of columns of w", w.cols, x.cols);
    detail::check_equal("ref::gemm_dynamic", "the number of rows of y", y.rows, x.rows);
    detail::check_equal("ref::gemm_dynamic", "the number of columns of y", y.cols, w.rows);
    const auto range_of_rows = [&](index_t first, index_t last) {
        real_range r;
        for (index_t m = first; m < last; ++m)
            for (index_t k = 0; k < x.cols; ++k) {
                if (!std::isfinite(x(m, k))) continue;
                r.min = x(m, k) < r.min ? x(m, k) : r.min;
                r.max = x(m, k) > r.max ? x(m, k) : r.max;
            }
        return r;
    };
    for (index_t m = 0; m < x.rows; ++m) {
        const quant_params p = params_from_range<Range>(one_range ? range_of_rows(0, x.rows) : range_of_rows(m, m + 1));
        for (index_t n = 0; n < w.rows; ++n) {
            std::int64_t sum = 0;
            for (index_t k = 0; k < x.cols; ++k) {
                const std::int32_t q = quantize(x(m, k), p, code_range{Range::qmin, Range::qmax});
                sum += static_cast<std::int64_t>(q - p.zero_point) * w(n, k);
            }
            const float product = rounded(p.scale * w_scales[w_scales.size() == 1 ? 0 : static_cast<std::size_t>(n)]);
            const float scale = product < FLT_MAX ? product : FLT_MAX; // finite, so that 0 stays 0
            const float v = rounded(static_cast<float>(static_cast<std::int32_t>(sum)) * scale);
            y(m, n) = bias.empty() ? v : v + bias[static_cast<std::size_t>(n)];
        }
    }
}

} // namespace ref
NOTCH_KEYED_END
