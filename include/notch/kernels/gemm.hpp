// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/gemm.hpp: integer matrix product, u8 codes x s8 packed weights.
//
//     y[m][n] = epilogue( sum over k of (x[m][k] - x_zero_point) * w[n][k] )
//
// Exact int32 accumulation on every instruction set; the same codes everywhere, for any number of
// threads.
#pragma once

#include <cstdint>
#include <type_traits>

#include <notch/core/view.hpp>
#include <notch/kernels/epilogue.hpp>
#include <notch/kernels/pack.hpp>
#include <notch/kernels/split.hpp>
#include <notch/kernels/table.hpp>

#define NOTCH_BODY <notch/kernels/body/gemm.inl>
#define NOTCH_BODY_DOT
#define NOTCH_BODY_AMX <notch/kernels/body/gemm_amx.inl>
#include <notch/kernels/arch/for_each.inl>

NOTCH_KEYED_BEGIN
namespace detail {

NOTCH_KERNELS(gemm_kernels, gemm_tables[isa_count], NOTCH_KERNEL_TABLES_TILES(gemm_table));

/// The epilogue of the channels from `channel` on.
inline void from_channel(epilogue_args& ep, index_t channel) {
    ep.bias += channel;
    if (ep.multiplier) ep.multiplier += channel;
    if (ep.fixed) {
        ep.fixed += channel;
        ep.mantissa += channel;
        ep.shift += channel;
    }
    if (ep.f_bias) ep.f_bias += channel;
}

/// Splits the rows or the panels of a product over the threads of the executor.
inline void run_gemm(const gemm_args& g, const context& ctx) {
    if (g.m == 0 || g.n == 0) return;
    const index_t threads = ctx.executor.concurrency();
    const index_t size = store_size(g.ep.store);
    if (threads <= 1) {
        kernels_for(gemm_tables, ctx.target).gemm_u8s8(g);
        return;
    }
    // Whole tiles of rows for AMX. By columns where no share grows by that and each thread reads less: it then
    // leaves weights to the others.
    const index_t tall = g.m >= 32 && ctx.target == isa::amx ? 16 : 2;
    const index_t row_step = round_up((g.m + threads - 1) / threads, tall);
    const index_t column_step = round_up((g.n + threads - 1) / threads, 64);
    const auto share = [](index_t step, index_t n) { return static_cast<double>(step) / static_cast<double>(n); };
    const bool by_rows =
        g.m >= 2 * threads && (share(column_step, g.n) > share(row_step, g.m) || g.m + column_step >= row_step + g.n);
    const index_t step = by_rows ? row_step : column_step;
    parallel(ctx.executor, ((by_rows ? g.m : g.n) + step - 1) / step, [&](index_t t) {
        gemm_args part = g;
        const index_t begin = t * step;
        if (by_rows) {
            part.m = g.m - begin < step ? g.m - begin : step;
            part.a = g.a + begin * g.lda;
            part.row = g.row + begin;
            part.c = static_cast<std::uint8_t*>(g.c) + begin * g.ldc * size;
            for (outer_product& o : part.outer)
                if (o.row) o.row += begin;
            if (part.row_scale) part.row_scale += begin;
        } else {
            part.n = g.n - begin < step ? g.n - begin : step;
            part.b = g.b + begin / panel_width * g.panel_stride;
            part.col = g.col + begin;
            part.c = static_cast<std::uint8_t*>(g.c) + begin * size;
            from_channel(part.ep, begin);
            if (part.w_zero_point) part.w_zero_point += begin;
            for (outer_product& o : part.outer)
                if (o.col) o.col += begin;
        }
        kernels_for(gemm_tables, ctx.target).gemm_u8s8(part);
    });
}

template <class Out, class F>
gemm_args make_gemm_args(std::string_view where, const packed_weights& w, const epilogue<Out, F>& ep) {
    if (w.data.size() < (w.n + panel_width - 1) / panel_width * w.panel_stride() || ep.bias.size() < w.n)
        fail(errc::invalid_argument, cat(where, ": the packed weights or the epilogue were moved from"));
    gemm_args g;
    g.segments = w.segments;
    g.k4 = w.segment_bytes / 4;
    g.tail = w.segment_bytes % 4;
    g.b = w.data.data();
    g.panel_stride = w.panel_stride();
    g.n = w.n;
    g.pairs_safe = w.pairs_safe;
    g.flip = ep.x_signed;
    g.segment_bytes = w.segment_bytes;
    g.w_zero_point = w.zero_points.data();
    g.ep = ep.args();
    return g;
}

} // namespace detail

/// The integer matrix products of an instruction set, for benchmarks and bug reports; an error if
/// this CPU cannot run it.
[[nodiscard]] inline const gemm_kernels& gemm_kernels_of(isa i) {
    return detail::kernels_for(detail::gemm_tables, require_available(i));
}

/// x: M x K codes, any row stride; y: M x N, any row stride; the epilogue was made for w. M = 0 and
/// N = 0 are fine. x holds u8 codes, or s8 ones if the epilogue has stage::s8_input. x and y must not
/// overlap. Needs no workspace.
template <class X, class Out, class F, class Y>
void gemm(matrix_view<X> x, const packed_weights& w, const epilogue<Out, F>& ep, matrix_view<Y> y,
          const context& ctx = {}) {
    using code = std::remove_const_t<X>;
    static_assert(std::is_same_v<code, std::uint8_t> || std::is_same_v<code, std::int8_t>,
                  "notch::gemm: the elements of x must be codes, std::uint8_t or std::int8_t");
    static_assert(std::is_same_v<Y, Out>,
                  "notch::gemm: the element type of y must be what the epilogue produces (requantize: its "
                  "range's code type, dequantize: float, accumulators: int32_t)");
    detail::check_view("gemm", "x", x);
    detail::check_view("gemm", "y", y);
    detail::check_equal("gemm", "the number of columns of x", x.cols, w.k);
    detail::check_equal("gemm", "the number of rows of y", y.rows, x.rows);
    detail::check_equal("gemm", "the number of columns of y", y.cols, w.n);
    detail::check_equal("gemm", "the number of channels of the epilogue", ep.outputs, w.n);
    detail::check_no_rows("gemm", ep.rows);
    detail::check_input_type<code>("gemm", ep.x_signed);
    if (w.channels != 0) fail(errc::invalid_argument, "gemm: w was packed for a convolution; use pack");
    const index_t whole = 0;
    gemm_args g = detail::make_gemm_args("gemm", w, ep);
    g.a = reinterpret_cast<const std::uint8_t*>(x.data);
    g.lda = x.stride;
    g.m = x.rows;
    g.segment = &whole;
    g.c = y.data;
    g.ldc = y.stride;
    detail::run_gemm(g, ctx);
}

NOTCH_KEYED_END
