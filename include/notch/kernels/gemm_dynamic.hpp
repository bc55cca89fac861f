// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/gemm_dynamic.hpp: matrix product of float activations that are quantized on the way
// in, each row (token) by its own range, with packed int8 weights; float results.
//
//     (s[m], z[m]) = params_from_range<Range>(smallest and largest finite value of row m of x)
//     q[m][k]      = quantize(x[m][k])                               see kernels/quantize.hpp
//     y[m][n]      = float(sum over k of (q[m][k] - z[m]) * w[n][k]) * min(s[m] * w_scale[n], FLT_MAX) + bias[n]
//
// The sum is an exact int32; the product of the scales, the product with it and the sum with the
// bias are rounded one after the other (no FMA), so the same floats come out on every instruction set.
#pragma once

#include <cstdint>
#include <type_traits>

#include <notch/core/workspace.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/kernels/quantize.hpp>
#include <notch/kernels/split.hpp>
#include <notch/scheme/granularity.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// Rows are quantized and multiplied this many at a time, so that the codes stay in the L2 cache.
inline constexpr index_t dynamic_rows = 128;

/// The pieces of the workspace of gemm_dynamic.
struct dynamic_scratch {
    index_t rows = 0, pitch = 0;
    std::uint8_t* codes = nullptr;
    float* scales = nullptr;
    std::int32_t* zero_points = nullptr;

    static dynamic_scratch of(index_t m, index_t k) {
        dynamic_scratch s;
        s.rows = m < dynamic_rows ? m : dynamic_rows;
        s.pitch = round_up(k, 64) + (k > 0 && round_up(k, 64) % 4096 == 0 ? 64 : 0);
        return s;
    }
    [[nodiscard]] index_t bytes() const { return workspace_bytes(rows * pitch + 2 * round_up(rows * 4, 64)); }
    void place(std::byte* base) {
        scales = reinterpret_cast<float*>(base);
        zero_points = reinterpret_cast<std::int32_t*>(base + round_up(rows * 4, 64));
        codes = reinterpret_cast<std::uint8_t*>(base + 2 * round_up(rows * 4, 64));
    }
};

} // namespace detail

/// Bytes of workspace that gemm_dynamic needs for m rows of k values.
[[nodiscard]] inline index_t gemm_dynamic_workspace_size(index_t m, index_t k) {
    detail::check_extent("gemm_dynamic_workspace_size", "m", m);
    detail::check_extent("gemm_dynamic_workspace_size", "k", k);
    if (k > detail::max_k)
        fail(errc::overflow, detail::cat("gemm_dynamic_workspace_size: K = ", k, " could overflow int32"));
    return m == 0 ? 0 : detail::dynamic_scratch::of(m, k).bytes();
}

/// x: M x K floats, any row stride; y: M x N floats, any row stride; ep was made for w with
/// stage::dequantize_rows{w_scales}, and may have stage::real_bias, clamps and a functor. Range is a range
/// of 8-bit codes: affine<8> (a zero point for each row) or symmetric<8>; Granularity is per_token or per_tensor
/// (one range for all rows). Infinities saturate, NaN counts as 0, a row without finite values has
/// scale 1. Workspace: gemm_dynamic_workspace_size. x and y must not overlap.
template <range_type Range = affine<8>, class Granularity = per_token, class F>
void gemm_dynamic(matrix_view<const float> x, const packed_weights& w, const epilogue<float, F>& ep,
                  matrix_view<float> y, const context& ctx) {
    static_assert(Range::bits <= 8, "notch::gemm_dynamic: Range must have codes of at most 8 bits");
    static_assert(std::is_same_v<Granularity, per_token> || std::is_same_v<Granularity, per_tensor>,
                  "notch::gemm_dynamic: Granularity is per_token or per_tensor");
    constexpr std::string_view where = "gemm_dynamic";
    detail::check_view(where, "x", x);
    detail::check_view(where, "y", y);
    detail::check_equal(where, "the number of columns of x", x.cols, w.k);
    detail::check_equal(where, "the number of rows of y", y.rows, x.rows);
    detail::check_equal(where, "the number of columns of y", y.cols, w.n);
    detail::check_equal(where, "the number of channels of the epilogue", ep.outputs, w.n);
    if (!ep.rows) fail(errc::invalid_argument, "gemm_dynamic: the epilogue needs stage::dequantize_rows");
    if (w.channels != 0) fail(errc::invalid_argument, "gemm_dynamic: w was packed for a convolution; use pack");
    if (x.rows == 0 || y.cols == 0) return;
    auto scratch = detail::dynamic_scratch::of(x.rows, x.cols);
    scratch.place(detail::workspace_begin(where, "gemm_dynamic_workspace_size", ctx.workspace, scratch.bytes()));

    real_range all;
    if constexpr (Granularity::is_per_tensor)
        for (index_t i = 0; i < x.rows; ++i) {
            const real_range r = value_range({x.data + i * x.stride, static_cast<std::size_t>(x.cols)}, ctx);
            all = {r.min < all.min ? r.min : all.min, r.max > all.max ? r.max : all.max};
        }
    constexpr bool flip = std::is_signed_v<typename Range::code_type>;
    const index_t whole = 0;
    const context serial(ctx.target);
    for (index_t first = 0; first < x.rows; first += scratch.rows) {
        const index_t count = x.rows - first < scratch.rows ? x.rows - first : scratch.rows;
        detail::split(ctx.executor, count, 1, [&](index_t begin, index_t end) {
            for (index_t i = begin; i < end; ++i) {
                const std::span<const float> row(x.data + (first + i) * x.stride, static_cast<std::size_t>(x.cols));
                const quant_params q =
                    params_from_range<Range>(Granularity::is_per_tensor ? all : value_range(row, serial));
                scratch.scales[i] = q.scale;
                scratch.zero_points[i] = q.zero_point + (flip ? 128 : 0);
                quantize<Range>(
                    row, q,
                    {reinterpret_cast<typename Range::code_type*>(scratch.codes + i * scratch.pitch), row.size()},
                    serial);
            }
        });
        gemm_args g = detail::make_gemm_args(where, w, ep);
        g.a = scratch.codes;
        g.lda = scratch.pitch;
        g.m = count;
        g.segment = &whole;
        g.flip = flip;
        g.outer[0] = {scratch.zero_points, w.sums.all.data()};
        g.row_scale = scratch.scales;
        g.c = y.data + first * y.stride;
        g.ldc = y.stride;
        g.row = first;
        detail::run_gemm(g, ctx);
    }
}

NOTCH_KEYED_END
