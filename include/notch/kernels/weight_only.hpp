// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/weight_only.hpp: products with group-wise quantized weights, the form in which
// language models are stored (4 or 8 bits, a scale for each group of 32, 64 or 128 codes along K).
//
//   gemm_weight_only       real activations (float or bfloat16):        dot products in float
//   gemm_group_a8          8-bit activations, one scale a row:          int32 inside a group
//   gemm_group_a8_dynamic  the same for float activations, each row quantized on the way in
//
// All give the same floats on every instruction set and for any number of threads: the order of the
// additions is part of the definition (ref/weight_only.hpp). A product with one row reads the
// weights once, several panels side by side.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include <notch/core/view.hpp>
#include <notch/core/workspace.hpp>
#include <notch/kernels/pack_groups.hpp>
#include <notch/kernels/quantize.hpp>
#include <notch/kernels/split.hpp>
#include <notch/kernels/table.hpp>

NOTCH_NAMESPACE_BEGIN

/// The border of the kernels; see packed_group_weights for the layouts.
struct group_args {
    const void* x = nullptr; ///< float, bfloat16, or int8 rows padded with zeros to whole blocks of k
    index_t ldx = 0;         ///< elements
    bool x_bf16 = false, y_bf16 = false, one_x_scale = false;
    bool far = false; ///< fetch ahead: the weights come from an outer cache level or memory
    int bits = 8;
    scale_format format = scale_format::f32;
    index_t m = 0, n = 0, k = 0;
    index_t group = 0, groups = 0;
    index_t first_col = 0, cols = 0; ///< the part of N to compute; first_col is a multiple of 16
    const std::uint8_t* w = nullptr;
    index_t panel_bytes = 0;
    const void* scales = nullptr;
    const std::int8_t* zero = nullptr;    ///< or null
    const float* bias = nullptr;          ///< n values, or null
    const std::int32_t* x_sums = nullptr; ///< int8 only: m x groups sums of x
    const float* x_scales = nullptr;      ///< int8 only
    void* y = nullptr;
    index_t ldy = 0;
};
struct group_kernels {
    void (*weight_only)(const group_args&);
    void (*group_a8)(const group_args&);
    void (*group_sums)(const std::int8_t* x, index_t ldx, index_t m, index_t k, index_t group, std::int32_t* sums);
};

NOTCH_NAMESPACE_END

#define NOTCH_BODY <notch/kernels/body/group_ops.inl>
#define NOTCH_BODY_DOT
#include <notch/kernels/arch/for_each.inl>
#define NOTCH_BODY <notch/kernels/body/weight_only.inl>
#define NOTCH_BODY_DOT
#include <notch/kernels/arch/for_each.inl>

NOTCH_KEYED_BEGIN
namespace detail {

NOTCH_KERNELS(group_kernels, group_tables[isa_count], NOTCH_KERNEL_TABLES_DOT(group_table));

/// Splits the panels (or, for few panels, the rows) over the threads of the executor.
inline void run_group(const group_args& args, void (*kernel)(const group_args&), const context& ctx) {
    if (args.m == 0 || args.n == 0) return;
    const index_t threads = ctx.executor.concurrency();
    const index_t blocks = (args.n + 63) / 64;
    const bool by_rows = blocks < threads && args.m > blocks;
    const index_t step = by_rows ? (args.m + threads - 1) / threads : (blocks + threads - 1) / threads * 64;
    parallel(ctx.executor, ((by_rows ? args.m : args.n) + step - 1) / step, [&](index_t t) {
        group_args part = args;
        const index_t begin = t * step;
        if (by_rows) {
            const index_t x_size = !part.x_sums ? (part.x_bf16 ? 2 : 4) : 1, y_size = part.y_bf16 ? 2 : 4;
            part.m = part.m - begin < step ? part.m - begin : step;
            part.x = static_cast<const char*>(part.x) + begin * part.ldx * x_size;
            part.y = static_cast<char*>(part.y) + begin * part.ldy * y_size;
            if (part.x_sums) part.x_sums += begin * part.groups;
            if (part.x_scales && !part.one_x_scale) part.x_scales += begin;
            part.cols = part.n;
        } else {
            part.first_col = begin;
            part.cols = part.n - begin < step ? part.n - begin : step;
        }
        kernel(part);
    });
}

template <class Y>
group_args make_group_args(std::string_view where, index_t rows, index_t columns, const packed_group_weights& w,
                           matrix_view<Y> y, std::span<const float> bias) {
    static_assert(std::is_same_v<Y, float> || std::is_same_v<Y, bfloat16>,
                  "notch: products with group-wise weights give float or notch::bfloat16");
    check_view(where, "y", y);
    check_equal(where, "the number of columns of x", columns, w.k);
    check_equal(where, "the number of rows of y", y.rows, rows);
    check_equal(where, "the number of columns of y", y.cols, w.n);
    check_span(where, "bias", bias);
    if (!bias.empty()) check_equal(where, "the number of biases", static_cast<index_t>(bias.size()), w.n);
    const index_t entries = w.panels() * panel_width * w.groups();
    if (w.data.size() < w.panels() * w.panel_bytes() || w.scales.size() < entries * w.scale_bytes())
        fail(errc::invalid_argument, cat(where, ": the packed weights were moved from"));
    group_args a;
    a.y_bf16 = std::is_same_v<Y, bfloat16>;
    a.bits = w.bits;
    a.far = w.bytes() > (index_t{1} << 20);
    a.format = w.format;
    a.m = rows;
    a.n = w.n;
    a.k = w.k;
    a.group = w.group;
    a.groups = w.groups();
    a.w = w.data.data();
    a.panel_bytes = w.panel_bytes();
    a.scales = w.scales.data();
    a.zero = w.zero_points.empty() ? nullptr : w.zero_points.data();
    a.bias = bias.empty() ? nullptr : bias.data();
    a.y = y.data;
    a.ldy = y.stride;
    return a;
}

/// The parts of the workspace for m rows of 8-bit activations.
struct group_rows {
    index_t stride, sums, scales, bytes; ///< of a padded row; offsets; of all
};
inline group_rows plan_group_rows(std::string_view where, const packed_group_weights& w, index_t m) {
    check_extent(where, "m", m);
    group_rows r;
    r.stride = round_up(w.k, 64);
    r.sums = checked_product(where, m, r.stride);
    r.scales = r.sums + round_up(checked_product(where, m, w.groups() * 4), 64);
    r.bytes = workspace_bytes(r.scales + checked_product(where, m, 4));
    return r;
}

/// Completes rows of codes that stand in the workspace already: zeros behind them, sums of groups.
inline void finish_group_rows(std::int8_t* codes, std::int32_t* sums, index_t m, const packed_group_weights& w,
                              const group_rows& plan, const context& ctx) {
    for (index_t i = 0; i < m && w.k < plan.stride; ++i)
        std::memset(codes + i * plan.stride + w.k, 0, static_cast<std::size_t>(plan.stride - w.k));
    kernels_for(group_tables, ctx.target).group_sums(codes, plan.stride, m, w.k, w.group, sums);
}

} // namespace detail

/// y = x * w^T + bias with real activations, by the definition of ref::weight_only.
/// x: M x K of float or bfloat16 (converted exactly), any row stride; y: M x N of float, or bfloat16
/// (rounded to even at the end); bias: N floats or empty. M = 0, N = 0 and K = 0 are fine. x and y must
/// not overlap. Needs no workspace. A NaN result has no defined sign and payload.
template <class X, class Y>
void gemm_weight_only(matrix_view<X> x, const packed_group_weights& w, matrix_view<Y> y,
                      std::span<const float> bias = {}, const context& ctx = {}) {
    using x_type = std::remove_const_t<X>;
    static_assert(std::is_same_v<x_type, float> || std::is_same_v<x_type, bfloat16>,
                  "notch::gemm_weight_only: x is float or notch::bfloat16; for 8-bit codes see gemm_group_a8");
    detail::check_view("gemm_weight_only", "x", x);
    group_args a = detail::make_group_args("gemm_weight_only", x.rows, x.cols, w, y, bias);
    a.x = x.data;
    a.ldx = x.stride;
    a.x_bf16 = std::is_same_v<x_type, bfloat16>;
    detail::run_group(a, detail::kernels_for(detail::group_tables, ctx.target).weight_only, ctx);
}

/// Bytes of workspace that gemm_group_a8 and gemm_group_a8_dynamic need for m rows.
[[nodiscard]] inline index_t gemm_group_a8_workspace_size(const packed_group_weights& w, index_t m) {
    return m == 0 ? 0 : detail::plan_group_rows("gemm_group_a8_workspace_size", w, m).bytes;
}

/// y = x_scale * (x * w^T) + bias with 8-bit activations, by the definition of ref::group_a8.
/// x: M x K codes with zero_point 0; x_scales: one, or one for each row, finite and > 0; the rest as for
/// gemm_weight_only. The workspace: gemm_group_a8_workspace_size(w, M).
template <class Y>
void gemm_group_a8(matrix_view<const std::int8_t> x, std::span<const float> x_scales, const packed_group_weights& w,
                   matrix_view<Y> y, std::span<const float> bias = {}, const context& ctx = {}) {
    constexpr const char* where = "gemm_group_a8";
    detail::check_view(where, "x", x);
    group_args a = detail::make_group_args(where, x.rows, x.cols, w, y, bias);
    if (x_scales.size() != 1)
        detail::check_equal(where, "the number of x_scales", static_cast<index_t>(x_scales.size()), x.rows);
    detail::check_span(where, "x_scales", x_scales);
    for (float s : x_scales) detail::check_scale(where, "x_scales", s);
    if (a.m == 0 || a.n == 0) return;
    const auto plan = detail::plan_group_rows(where, w, a.m);
    std::byte* memory = detail::workspace_begin(where, "gemm_group_a8_workspace_size", ctx.workspace, plan.bytes);
    auto* codes = reinterpret_cast<std::int8_t*>(memory);
    auto* sums = reinterpret_cast<std::int32_t*>(memory + plan.sums);
    for (index_t i = 0; i < a.m && w.k > 0; ++i)
        std::memcpy(codes + i * plan.stride, x.data + i * x.stride, static_cast<std::size_t>(w.k));
    detail::finish_group_rows(codes, sums, a.m, w, plan, ctx);
    a.x = codes;
    a.ldx = plan.stride;
    a.x_sums = sums;
    a.x_scales = x_scales.data();
    a.one_x_scale = x_scales.size() == 1;
    detail::run_group(a, detail::kernels_for(detail::group_tables, ctx.target).group_a8, ctx);
}

/// The same for float activations: each row is first quantized with
///     params_from_range<symmetric<8>>(value_range(row))
/// (NaN becomes 0, infinities the last code). The workspace: gemm_group_a8_workspace_size(w, M).
template <class Y>
void gemm_group_a8_dynamic(matrix_view<const float> x, const packed_group_weights& w, matrix_view<Y> y,
                           std::span<const float> bias = {}, const context& ctx = {}) {
    constexpr const char* where = "gemm_group_a8_dynamic";
    detail::check_view(where, "x", x);
    group_args a = detail::make_group_args(where, x.rows, x.cols, w, y, bias);
    if (a.m == 0 || a.n == 0) return;
    const auto plan = detail::plan_group_rows(where, w, a.m);
    std::byte* memory = detail::workspace_begin(where, "gemm_group_a8_workspace_size", ctx.workspace, plan.bytes);
    auto* codes = reinterpret_cast<std::int8_t*>(memory);
    auto* sums = reinterpret_cast<std::int32_t*>(memory + plan.sums);
    auto* scales = reinterpret_cast<float*>(memory + plan.scales);
    for (index_t i = 0; i < a.m; ++i) {
        const std::span<const float> row(x.data + i * x.stride, static_cast<std::size_t>(w.k));
        const quant_params p = params_from_range<symmetric<8>>(value_range(row, ctx));
        quantize<symmetric<8>>(row, p, {codes + i * plan.stride, row.size()}, ctx);
        scales[i] = p.scale;
    }
    detail::finish_group_rows(codes, sums, a.m, w, plan, ctx);
    a.x = codes;
    a.ldx = plan.stride;
    a.x_sums = sums;
    a.x_scales = scales;
    detail::run_group(a, detail::kernels_for(detail::group_tables, ctx.target).group_a8, ctx);
}

NOTCH_KEYED_END
