// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/softmax.hpp: softmax over the rows of a matrix, in integers. Definition, error bounds,
// make_softmax and make_softmax_s32 in ref/softmax.hpp.
//
//     const auto p = notch::make_softmax(x_params.scale);      // once; the zero point cancels
//     notch::softmax(x, p, y);                                 // y: 256 * probability (u8), or that - 128 (s8)
#pragma once

#include <cstdint>
#include <type_traits>

#include <notch/core/view.hpp>
#include <notch/kernels/lanes.hpp>
#include <notch/kernels/lookup.hpp>
#include <notch/kernels/split.hpp>
#include <notch/kernels/table.hpp>
#include <notch/ref/softmax.hpp>

NOTCH_NAMESPACE_BEGIN

struct softmax_args {
    const void* x = nullptr; ///< bytes or int32
    index_t rows = 0, cols = 0, ldx = 0;
    std::uint8_t* y = nullptr;
    index_t ldy = 0;
    std::uint8_t x_flip = 0, y_flip = 0; ///< 128 for s8: xor gives u8 codes of the same order
    // codes
    const std::uint32_t* exponential = nullptr; ///< of softmax_params
    const std::uint8_t* bytes = nullptr;
    index_t live = 0;
    // accumulators
    softmax_s32_params scaling;
};
struct softmax_kernels {
    void (*softmax_u8)(const softmax_args&) = nullptr;
    void (*softmax_s32)(const softmax_args&) = nullptr;
};

NOTCH_NAMESPACE_END

#define NOTCH_BODY <notch/kernels/body/softmax.inl>
#define NOTCH_BODY_VBMI
#include <notch/kernels/arch/for_each.inl>

NOTCH_KEYED_BEGIN
namespace detail {

NOTCH_KERNELS(softmax_kernels, softmax_tables[isa_count], NOTCH_KERNEL_TABLES(softmax_kernel_table));
NOTCH_KERNELS(softmax_kernels, softmax_vbmi, NOTCH_KERNEL_TABLE_VBMI(softmax_kernel_table));

[[nodiscard]] inline const softmax_kernels& softmax_kernels_for(isa i) noexcept {
    return has_vbmi(i) ? *softmax_vbmi : kernels_for(softmax_tables, i);
}

template <class X, byte_code Y> softmax_args check_softmax(matrix_view<const X> x, matrix_view<Y> y) {
    check_view("softmax", "x", x);
    check_view("softmax", "y", y);
    check_equal("softmax", "the number of rows of y", y.rows, x.rows);
    check_equal("softmax", "the number of columns of y", y.cols, x.cols);
    if (x.cols > max_softmax_cols)
        fail(errc::overflow,
             cat("softmax: rows have ", x.cols, " columns, their sum fits for at most ", max_softmax_cols));
    softmax_args a;
    a.x = x.data;
    a.rows = x.cols > 0 ? x.rows : 0;
    a.cols = x.cols;
    a.ldx = x.stride;
    a.y = reinterpret_cast<std::uint8_t*>(y.data);
    a.ldy = y.stride;
    a.x_flip = std::is_same_v<X, std::int8_t> ? 128 : 0;
    a.y_flip = std::is_same_v<Y, std::int8_t> ? 128 : 0;
    return a;
}

template <class X>
void run_softmax(const softmax_args& a, void (*kernel)(const softmax_args&), const executor_ref& executor) {
    split(executor, a.rows, row_grain(a.cols), [&](index_t begin, index_t end) {
        softmax_args part = a;
        part.x = static_cast<const X*>(a.x) + begin * a.ldx;
        part.y = a.y + begin * a.ldy;
        part.rows = end - begin;
        kernel(part);
    });
}

} // namespace detail

/// Each row of codes -> the codes of its softmax: 256 * p as u8 (scale 1 / 256, zero point 0) or 256 * p - 128
/// as s8 (zero point -128). p comes from make_softmax with the scale of x. At most
/// 0.5 + cols * 2^-23 + 2^-20 codes from the real value, and 255 for p = 1. Up to 2^31 columns. y may be x.
/// Rows are shared out over ctx.executor; no workspace, no allocation.
template <byte_code X, byte_code Y>
void softmax(matrix_view<const X> x, const softmax_params& p, matrix_view<Y> y, const context& ctx = {}) {
    softmax_args a = detail::check_softmax(x, y);
    if (p.exponential[0] != 1u << 30 || p.live < 1 || p.live > 256)
        fail(errc::invalid_argument, "softmax: the parameters do not come from make_softmax");
    a.exponential = p.exponential;
    a.bytes = p.bytes[0];
    a.live = p.live;
    detail::run_softmax<X>(a, detail::softmax_kernels_for(ctx.target).softmax_u8, ctx.executor);
}

/// The same for int32 accumulators, such as attention scores; p comes from make_softmax_s32. An element that
/// is INT32_MIN (a mask) has probability 0, unless the row's maximum is less than 31 ln 2 above it.
/// At most 0.508 + cols * 2^-22 codes from the real value, and 255 for p = 1.
template <byte_code Y>
void softmax(matrix_view<const std::int32_t> x, const softmax_s32_params& p, matrix_view<Y> y,
             const context& ctx = {}) {
    softmax_args a = detail::check_softmax(x, y);
    if (p.shift < 1 || p.shift > 62 || p.multiplier > 0x7fffffffu)
        fail(errc::invalid_argument, "softmax: the parameters do not come from make_softmax_s32");
    a.scaling = p;
    detail::run_softmax<std::int32_t>(a, detail::softmax_kernels_for(ctx.target).softmax_s32, ctx.executor);
}

NOTCH_KEYED_END
