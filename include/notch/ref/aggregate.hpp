// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/aggregate.hpp: the definition of sums over the neighbours in a graph, of u8 codes with a weight for each
// edge: the message passing of graph networks. The graph is a sparse matrix in compressed rows (CSR); row i has the
// edges e = offsets[i] ... offsets[i + 1] - 1, each from the row neighbours[e] of x:
//
//     offsets      0   2   2   5                rows + 1 of them: row 1 has no neighbour
//     neighbours   4 7         0 4 9            rows of x
//     weights      w w         w w w            codes of int8, or none: then all are 1
//
//     acc(i, c)  = sum over e of weights[e] * (x(neighbours[e], c) - x_zero_point)                       exact int32
//     codes      y = requantize_float(acc, m[i], y_zero_point, range),    m[i] = x_scale * w_scale[i] / (y_scale * d)
//     values     y = float(acc) * m[i],                                   m[i] = x_scale * w_scale[i] / d
//
// d is 1 for a sum and the number of neighbours for a mean; w_scale is one for all edges or one for the edges into each
// row, and 1 without weights; m is computed in double and rounded once to float. A row without neighbours is 0. The
// zero point is taken from every neighbour, so the sum is that of the real values, whatever the weights add up to.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/scheme/range.hpp>
#include <notch/scheme/requantize.hpp>

NOTCH_NAMESPACE_BEGIN

/// What becomes of the messages of a row's neighbours.
enum class reduction : std::int32_t { sum, mean };

/// The edges of a graph by the row they lead to. Nothing is owned.
struct csr_graph {
    std::span<const index_t> offsets;         ///< rows + 1: from 0, never falling, to neighbours.size()
    std::span<const std::int32_t> neighbours; ///< rows of x; may be repeated (parallel edges)

    [[nodiscard]] NOTCH_INLINE index_t rows() const noexcept {
        return offsets.empty() ? 0 : static_cast<index_t>(offsets.size()) - 1;
    }
    [[nodiscard]] NOTCH_INLINE index_t degree(index_t row) const noexcept {
        return offsets.data()[row + 1] - offsets.data()[row];
    }
};

/// What aggregate sums: the edges, their quantized weights and how. Nothing is owned.
struct neighbourhood {
    csr_graph graph;
    std::span<const std::int8_t> weights; ///< one for each edge, or none: all are 1
    std::span<const float> w_scales;      ///< with weights: 1, or one for each row; else unused
    reduction how = reduction::sum;

    /// Real value of a weight of 1 into this row, over the number of neighbours for a mean.
    [[nodiscard]] NOTCH_INLINE double factor(index_t row) const noexcept {
        const double scale =
            weights.empty() ? 1.0 : static_cast<double>(w_scales.data()[w_scales.size() == 1 ? 0 : row]);
        const index_t d = how == reduction::mean ? graph.degree(row) : 1;
        return d > 1 ? scale / static_cast<double>(d) : scale;
    }
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// Offsets that rise from 0 to the number of edges, and neighbours that are rows of x.
inline void check_graph(const char* where, const csr_graph& g, index_t x_rows) {
    check_span(where, "the offsets", g.offsets);
    check_span(where, "the neighbours", g.neighbours);
    const auto edges = static_cast<index_t>(g.neighbours.size());
    if (g.offsets.empty())
        fail(errc::invalid_argument, cat(where, ": the graph has no offsets, one more than rows are needed"));
    if (g.offsets.front() != 0)
        fail(errc::invalid_argument, cat(where, ": offsets[0] is ", g.offsets.front(), ", must be 0"));
    for (std::size_t i = 1; i < g.offsets.size(); ++i)
        if (g.offsets[i] < g.offsets[i - 1])
            fail(errc::invalid_argument,
                 cat(where, ": offsets[", i, "] is ", g.offsets[i], ", less than the one before, ", g.offsets[i - 1]));
    check_equal(where, "the last offset", g.offsets.back(), edges);
    for (std::size_t e = 0; e < g.neighbours.size(); ++e)
        if (g.neighbours[e] < 0 || g.neighbours[e] >= x_rows)
            fail(errc::invalid_argument,
                 cat(where, ": neighbours[", e, "] is ", g.neighbours[e], ", x has ", x_rows, " rows"));
}

/// And the weights; no sum over a row leaves int32, whatever the codes.
inline void check_neighbourhood(const char* where, const neighbourhood& n, index_t x_rows, std::int32_t x_zero_point) {
    check_graph(where, n.graph, x_rows);
    if (n.how != reduction::sum && n.how != reduction::mean)
        fail(errc::invalid_argument,
             cat(where, ": the reduction is ", static_cast<int>(n.how), ", not one of the enumeration"));
    check_span(where, "the weights", n.weights);
    check_span(where, "w_scales", n.w_scales);
    if (!n.weights.empty())
        check_equal(where, "the number of weights", static_cast<index_t>(n.weights.size()),
                    static_cast<index_t>(n.graph.neighbours.size()));
    const auto scales = static_cast<index_t>(n.w_scales.size());
    if (!n.weights.empty() && scales != 1) check_equal(where, "the number of w_scales", scales, n.graph.rows());
    if (!n.weights.empty())
        for (index_t i = 0; i < scales; ++i)
            check_scale(where, {"w_scales", i}, n.w_scales[static_cast<std::size_t>(i)]);
    if (x_zero_point < 0 || x_zero_point > 255)
        fail(errc::invalid_argument, cat(where, ": x.zero_point is ", x_zero_point, ", must be 0..255"));
    const std::int64_t largest = x_zero_point > 127 ? x_zero_point : 255 - x_zero_point;
    const std::int64_t most = std::numeric_limits<std::int32_t>::max() / largest;
    for (index_t i = 0; i < n.graph.rows(); ++i) {
        const index_t first = n.graph.offsets[static_cast<std::size_t>(i)], degree = n.graph.degree(i);
        if (degree <= most / 128) continue;
        std::int64_t sum = n.weights.empty() ? degree : 0;
        if (!n.weights.empty())
            for (index_t e = first; e < first + degree; ++e) {
                const int w = n.weights[static_cast<std::size_t>(e)];
                sum += w < 0 ? -w : w;
            }
        if (sum > most)
            fail(errc::overflow, cat(where, ": row ", i, " has ", degree, " neighbours whose weights add up to ", sum,
                                     ", at most ", most, " have an int32 sum"));
    }
}

/// The multiplier of a row.
[[nodiscard]] inline float aggregate_multiplier(const neighbourhood& n, index_t row, float x_scale, float y_scale) {
    return static_cast<float>(static_cast<double>(x_scale) * n.factor(row) / static_cast<double>(y_scale));
}

/// No multiplier overflows float.
inline void check_multipliers(const char* where, const neighbourhood& n, float x_scale, float y_scale) {
    neighbourhood one = n; // the largest multiplier is that of a single neighbour
    one.how = reduction::sum;
    const index_t different =
        n.weights.empty() ? (n.graph.rows() > 0 ? 1 : 0) : static_cast<index_t>(n.w_scales.size());
    for (index_t i = 0; i < different; ++i)
        if (!std::isfinite(aggregate_multiplier(one, i, x_scale, y_scale)))
            fail(errc::invalid_argument, cat(where, ": the scales of x (", x_scale, "), the weights into row ", i,
                                             " and y (", y_scale, ") give a multiplier that overflows float"));
}

/// What all forms check before they write.
template <class Y>
void check_aggregate(const char* where, const neighbourhood& n, const matrix_view<const std::uint8_t>& x,
                     std::int32_t x_zero_point, const matrix_view<Y>& y) {
    check_view(where, "x", x);
    check_view(where, "y", y);
    check_neighbourhood(where, n, x.rows, x_zero_point);
    check_equal(where, "the number of rows of y", y.rows, n.graph.rows());
    check_equal(where, "the number of columns of y", y.cols, x.cols);
}
inline void check_aggregate_params(const char* where, const neighbourhood& n, quant_params x, quant_params y,
                                   code_range range) {
    check_params(where, "x", x, 0, 255);
    check_params(where, "y_params", y, 0, 255);
    if (range.lo > range.hi || range.lo < 0 || range.hi > 255)
        fail(errc::invalid_argument,
             cat(where, ": the range of codes is ", range.lo, "..", range.hi, ", must lie in 0..255"));
    check_multipliers(where, n, x.scale, y.scale);
}

} // namespace detail

namespace ref {

/// The sum of row i and channel c.
[[nodiscard]] inline std::int32_t neighbour_sum(const neighbourhood& n, const matrix_view<const std::uint8_t>& x,
                                                std::int32_t x_zero_point, index_t i, index_t c) {
    std::int32_t acc = 0;
    const auto row = static_cast<std::size_t>(i);
    for (index_t at = n.graph.offsets[row]; at < n.graph.offsets[row + 1]; ++at) {
        const auto e = static_cast<std::size_t>(at);
        const std::int32_t w = n.weights.empty() ? 1 : n.weights[e];
        acc += w * (static_cast<std::int32_t>(x(n.graph.neighbours[e], c)) - x_zero_point);
    }
    return acc;
}

/// The sums themselves.
inline void aggregate(const neighbourhood& n, matrix_view<const std::uint8_t> x, std::int32_t x_zero_point,
                      matrix_view<std::int32_t> y) {
    detail::check_aggregate("ref::aggregate", n, x, x_zero_point, y);
    for (index_t i = 0; i < y.rows; ++i)
        for (index_t c = 0; c < y.cols; ++c) y(i, c) = neighbour_sum(n, x, x_zero_point, i, c);
}

/// As real values.
inline void aggregate(const neighbourhood& n, matrix_view<const std::uint8_t> x, quant_params x_params,
                      matrix_view<float> y) {
    detail::check_aggregate("ref::aggregate", n, x, x_params.zero_point, y);
    detail::check_aggregate_params("ref::aggregate", n, x_params, {1.0f, 0}, {0, 255});
    for (index_t i = 0; i < y.rows; ++i)
        for (index_t c = 0; c < y.cols; ++c)
            y(i, c) = static_cast<float>(neighbour_sum(n, x, x_params.zero_point, i, c)) *
                      detail::aggregate_multiplier(n, i, x_params.scale, 1.0f);
}

/// As codes with the params y_params, within range.
inline void aggregate(const neighbourhood& n, matrix_view<const std::uint8_t> x, quant_params x_params,
                      quant_params y_params, code_range range, matrix_view<std::uint8_t> y) {
    detail::check_aggregate("ref::aggregate", n, x, x_params.zero_point, y);
    detail::check_aggregate_params("ref::aggregate", n, x_params, y_params, range);
    for (index_t i = 0; i < y.rows; ++i)
        for (index_t c = 0; c < y.cols; ++c)
            y(i, c) = static_cast<std::uint8_t>(requantize_float(
                neighbour_sum(n, x, x_params.zero_point, i, c),
                detail::aggregate_multiplier(n, i, x_params.scale, y_params.scale), y_params.zero_point, range));
}

} // namespace ref
NOTCH_KEYED_END
