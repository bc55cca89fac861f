// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/aggregate.hpp: sums and means of u8 codes over the neighbours in a graph, with quantized weights of the
// edges: what graph networks do between their linear layers. Definition, csr_graph and neighbourhood in
// ref/aggregate.hpp.
//
//     const notch::neighbourhood n{{offsets, neighbours}, weight_codes, weight_scales};
//     notch::aggregate(n, x, x_params, y_params, y);
//
// All of the graph is checked before anything is written, in every call: offsets, neighbours, weights, and that no sum
// can leave int32, which the number of neighbours and their weights decide (errc::overflow). x may have more rows than
// the graph (a sample of its nodes); y overlaps neither x nor the graph. Rows are shared out over ctx.executor; no
// workspace, no allocation.
#pragma once

#include <algorithm>
#include <cstdint>

#include <notch/core/view.hpp>
#include <notch/kernels/split.hpp>
#include <notch/kernels/table.hpp>
#include <notch/ref/aggregate.hpp>

NOTCH_NAMESPACE_BEGIN

/// One row of y.
struct aggregate_args {
    NOTCH_INLINE aggregate_args() noexcept {}
    const std::uint8_t* x = nullptr;
    index_t x_stride = 0, channels = 0;
    const std::int32_t* neighbours = nullptr;
    const std::int8_t* weights = nullptr; ///< null: all are 1
    index_t degree = 0;
    std::int32_t start = 0; ///< -x_zero_point times the sum of the weights
    float multiplier = 1.0f;
    std::int32_t y_zero_point = 0, lo = 0, hi = 255;
    store_kind store = store_kind::u8; ///< u8, s32 or f32
    void* y = nullptr;
};
struct aggregate_kernels {
    void (*row)(const aggregate_args&) = nullptr;
};

NOTCH_NAMESPACE_END

#define NOTCH_BODY <notch/kernels/body/aggregate.inl>
#include <notch/kernels/arch/for_each.inl>

NOTCH_KEYED_BEGIN
namespace detail {
NOTCH_KERNELS(aggregate_kernels, aggregate_tables[isa_count], NOTCH_KERNEL_TABLES(aggregate_table));

/// Checked arguments. base: the zero point, range and kind of y; its multiplier is that of x_scale and y_scale.
template <class Y>
void run_aggregate(const neighbourhood& n, matrix_view<const std::uint8_t> x, quant_params x_params, float y_scale,
                   matrix_view<Y> y, const aggregate_args& base, const context& ctx) {
    if (y.rows == 0 || y.cols == 0) return;
    const aggregate_kernels& k = kernels_for(aggregate_tables, ctx.target);
    const auto edges = static_cast<index_t>(n.graph.neighbours.size());
    split(ctx.executor, y.rows, row_grain(y.cols * (1 + std::min(edges / y.rows, index_t{4096}))),
          [&](index_t begin, index_t end) {
              aggregate_args a = base;
              a.x = x.data;
              a.x_stride = x.stride;
              a.channels = y.cols;
              for (index_t i = begin; i < end; ++i) {
                  const index_t first = n.graph.offsets.data()[i];
                  a.degree = n.graph.degree(i);
                  a.neighbours = n.graph.neighbours.data() + first;
                  a.weights = n.weights.empty() ? nullptr : n.weights.data() + first;
                  index_t sum = n.weights.empty() ? a.degree : 0;
                  if (a.weights)
                      for (index_t e = 0; e < a.degree; ++e) sum += a.weights[e];
                  a.start = static_cast<std::int32_t>(-sum * x_params.zero_point);
                  a.multiplier = aggregate_multiplier(n, i, x_params.scale, y_scale);
                  a.y = y.data + i * y.stride;
                  k.row(a);
              }
          });
}

} // namespace detail

/// y(i, c) = the sum over the neighbours of i of weight * (x(., c) - x_zero_point), exact. Not for a mean, whose
/// division it leaves out.
inline void aggregate(const neighbourhood& n, matrix_view<const std::uint8_t> x, std::int32_t x_zero_point,
                      matrix_view<std::int32_t> y, const context& ctx = {}) {
    detail::check_aggregate("aggregate", n, x, x_zero_point, y);
    aggregate_args a;
    a.store = store_kind::s32;
    neighbourhood sums = n;
    sums.how = reduction::sum;
    detail::run_aggregate(sums, x, {1.0f, x_zero_point}, 1.0f, y, a, ctx);
}

/// The sums or means as real values.
inline void aggregate(const neighbourhood& n, matrix_view<const std::uint8_t> x, quant_params x_params,
                      matrix_view<float> y, const context& ctx = {}) {
    detail::check_aggregate("aggregate", n, x, x_params.zero_point, y);
    detail::check_aggregate_params("aggregate", n, x_params, {1.0f, 0}, {0, 255});
    aggregate_args a;
    a.store = store_kind::f32;
    detail::run_aggregate(n, x, x_params, 1.0f, y, a, ctx);
}

/// The sums or means as codes with the params y_params, within range: {y_params.zero_point, 255} is a ReLU.
inline void aggregate(const neighbourhood& n, matrix_view<const std::uint8_t> x, quant_params x_params,
                      quant_params y_params, code_range range, matrix_view<std::uint8_t> y, const context& ctx = {}) {
    detail::check_aggregate("aggregate", n, x, x_params.zero_point, y);
    detail::check_aggregate_params("aggregate", n, x_params, y_params, range);
    aggregate_args a;
    a.y_zero_point = y_params.zero_point;
    a.lo = range.lo;
    a.hi = range.hi;
    detail::run_aggregate(n, x, x_params, y_params.scale, y, a, ctx);
}
/// The same, all codes.
inline void aggregate(const neighbourhood& n, matrix_view<const std::uint8_t> x, quant_params x_params,
                      quant_params y_params, matrix_view<std::uint8_t> y, const context& ctx = {}) {
    aggregate(n, x, x_params, y_params, {0, 255}, y, ctx);
}

NOTCH_KEYED_END
