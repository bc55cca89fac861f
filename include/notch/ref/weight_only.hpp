// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/weight_only.hpp: the definition of products with group-wise quantized weights.
//
// A row of weights is cut into groups of `group` codes along K (the last may be shorter), each with
// a scale s and, optionally, a zero_point z. Floats are added in this order and no other:
//
//   weight_only   activations are real
//       dot = 0;  for k in the group, rising:       dot   = fma(x[m][k], q[n][k], dot)
//       sum = 0;  for k in the group, rising:       sum   = sum + x[m][k]             with zero_points
//                                                   dot   = fma(-z[n][g], sum, dot)   with zero_points
//       total = bias[n] or 0;  for g, rising:       total = fma(s[n][g], dot, total)
//       y[m][n] = total
//
//   group_a8      activations are 8-bit codes with one scale a row
//       acc = sum over k in the group of x[m][k] * (q[n][k] - z[n][g])                exact int32
//       total = 0;  for g, rising:                  total = fma(s[n][g], float(acc), total)
//       y[m][n] = fma(total, x_scale[m], bias[n] or 0)
//
// fma rounds once (IEEE 754 fusedMultiplyAdd). Where a result is NaN, its sign and payload are not
// defined.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include <notch/core/view.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

inline void check_group_weights(std::string_view where, matrix_view<const std::int8_t> w, index_t group,
                                std::span<const float> scales, std::span<const std::int8_t> zero_points,
                                std::span<const float> bias) {
    detail::check_view(where, "w", w);
    if (group < 1) fail(errc::invalid_argument, detail::cat(where, ": group is ", group, ", must be >= 1"));
    const index_t count = detail::checked_product(where, w.rows, (w.cols + group - 1) / group);
    detail::check_equal(where, "the number of scales", static_cast<index_t>(scales.size()), count);
    if (!zero_points.empty())
        detail::check_equal(where, "the number of zero_points", static_cast<index_t>(zero_points.size()), count);
    if (!bias.empty()) detail::check_equal(where, "the number of biases", static_cast<index_t>(bias.size()), w.rows);
}

} // namespace detail

namespace ref {

/// x: M x K; w: N x K codes; scales and zero_points: dense N x groups (zero_points may be empty);
/// bias: N or empty; y: M x N.
inline void weight_only(matrix_view<const float> x, matrix_view<const std::int8_t> w, index_t group,
                        std::span<const float> scales, std::span<const std::int8_t> zero_points,
                        std::span<const float> bias, matrix_view<float> y) {
    detail::check_group_weights("ref::weight_only", w, group, scales, zero_points, bias);
    detail::check_equal("ref::weight_only", "the number of columns of x", x.cols, w.cols);
    detail::check_equal("ref::weight_only", "the number of rows of y", y.rows, x.rows);
    detail::check_equal("ref::weight_only", "the number of columns of y", y.cols, w.rows);
    const index_t groups = (w.cols + group - 1) / group;
    for (index_t m = 0; m < x.rows; ++m)
        for (index_t n = 0; n < w.rows; ++n) {
            float total = bias.empty() ? 0.0f : bias[static_cast<std::size_t>(n)];
            for (index_t g = 0; g < groups; ++g) {
                const index_t end = (g + 1) * group < w.cols ? (g + 1) * group : w.cols;
                const auto at = static_cast<std::size_t>(n * groups + g);
                float dot = 0.0f, sum = 0.0f;
                for (index_t k = g * group; k < end; ++k) {
                    dot = std::fma(x(m, k), static_cast<float>(w(n, k)), dot);
                    sum += x(m, k);
                }
                if (!zero_points.empty()) dot = std::fma(-static_cast<float>(zero_points[at]), sum, dot);
                total = std::fma(scales[at], dot, total);
            }
            y(m, n) = total;
        }
}

/// x: M x K codes; x_scales: one or M; the rest as above.
inline void group_a8(matrix_view<const std::int8_t> x, std::span<const float> x_scales,
                     matrix_view<const std::int8_t> w, index_t group, std::span<const float> scales,
                     std::span<const std::int8_t> zero_points, std::span<const float> bias, matrix_view<float> y) {
    detail::check_group_weights("ref::group_a8", w, group, scales, zero_points, bias);
    detail::check_equal("ref::group_a8", "the number of columns of x", x.cols, w.cols);
    detail::check_equal("ref::group_a8", "the number of rows of y", y.rows, x.rows);
    detail::check_equal("ref::group_a8", "the number of columns of y", y.cols, w.rows);
    if (x_scales.size() != 1)
        detail::check_equal("ref::group_a8", "the number of x_scales", static_cast<index_t>(x_scales.size()), x.rows);
    const index_t groups = (w.cols + group - 1) / group;
    for (index_t m = 0; m < x.rows; ++m)
        for (index_t n = 0; n < w.rows; ++n) {
            float total = 0.0f;
            for (index_t g = 0; g < groups; ++g) {
                const index_t end = (g + 1) * group < w.cols ? (g + 1) * group : w.cols;
                const auto at = static_cast<std::size_t>(n * groups + g);
                const std::int32_t zero = zero_points.empty() ? 0 : zero_points[at];
                std::int32_t acc = 0;
                for (index_t k = g * group; k < end; ++k) acc += x(m, k) * (w(n, k) - zero);
                total = std::fma(scales[at], static_cast<float>(acc), total);
            }
            y(m, n) = std::fma(total, x_scales[x_scales.size() == 1 ? 0 : static_cast<std::size_t>(m)],
                               bias.empty() ? 0.0f : bias[static_cast<std::size_t>(n)]);
        }
}

} // namespace ref
NOTCH_KEYED_END
