// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/conv.hpp: integer convolution, NHWC, without an im2col copy.
//
// A kernel row of one output pixel is kernel_w * channels contiguous bytes of the input, so an
// output row is a matrix product whose rows lie stride_w * channels bytes apart and whose K is cut
// into kernel_h segments. Only an image with padding (or with very short kernel rows) is first
// copied into the workspace, with the zero_point around it: padding then means real 0.
#pragma once

#include <cstdint>

#include <notch/core/view.hpp>
#include <notch/core/workspace.hpp>
#include <notch/kernels/epilogue.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/kernels/image.hpp>
#include <notch/kernels/pack.hpp>
#include <notch/kernels/table.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

inline bool is_pointwise(const window& s) noexcept {
    return s.kernel_h == 1 && s.kernel_w == 1 && s.stride_h == 1 && s.stride_w == 1 && !has_padding(s);
}
/// Whether a convolution reads its input in place; a pointwise one always does, it has no workspace.
inline bool conv_in_place(const packed_weights& w, index_t stride_w) noexcept {
    if (is_pointwise(w.geometry)) return true;
    if (has_padding(w.geometry)) return false;
    if (w.segments == w.geometry.kernel_h && w.geometry.kernel_w > 1 && stride_w != w.channels) return false;
    return w.segment_bytes % 4 == 0 || w.segment_bytes >= 32;
}

} // namespace detail

/// Bytes of workspace that conv2d needs for inputs of this shape.
[[nodiscard]] inline index_t conv2d_workspace_size(const packed_weights& w, index_t n, index_t h, index_t width,
                                                   const context& ctx = {}) {
    for (index_t e : {n, h, width}) detail::check_extent("conv2d_workspace_size", "extent", e);
    if (detail::is_pointwise(w.geometry)) return 0;
    const index_t offsets = detail::round_up(w.segments * static_cast<index_t>(sizeof(index_t)), 64);
    // Counted even where the input can be read in place: that depends on its strides.
    const auto padded = detail::pad_shape("conv2d_workspace_size", w.geometry, h, width, w.channels);
    return detail::workspace_bytes(offsets + padded.bytes() * detail::conv_threads(n, ctx));
}

/// x: n x h x w x channels codes; y: n x out_h x out_w x N with dense pixels (stride_w may exceed N).
/// w comes from pack_conv2d; the epilogue was made for it.
template <class Out, class F, class Y>
void conv2d(nhwc_view<const std::uint8_t> x, const packed_weights& w, const epilogue<Out, F>& ep, nhwc_view<Y> y,
            const context& ctx = {}) {
    static_assert(std::is_same_v<Y, Out>,
                  "notch::conv2d: the element type of y must be what the epilogue produces (requantize: its "
                  "range's code type, dequantize: float, accumulators: int32_t)");
    const window& s = w.geometry;
    if (w.channels == 0) fail(errc::invalid_argument, "conv2d: w was packed for a matrix; use pack_conv2d");
    detail::check_no_rows("conv2d", ep.rows);
    detail::check_input_type<std::uint8_t>("conv2d", ep.x_signed);
    detail::check_conv("conv2d", x, s, w.channels, w.n, ep.outputs, y);
    if (y.n == 0 || y.h == 0 || y.w == 0 || y.c == 0) return;
    gemm_args g = detail::make_gemm_args("conv2d", w, ep);
    if (detail::is_pointwise(s) && x.is_dense() && y.is_dense()) {
        const index_t whole = 0;
        g.a = x.data;
        g.lda = x.c;
        g.m = x.n * x.h * x.w;
        g.segment = &whole;
        g.c = y.data;
        g.ldc = y.c;
        detail::run_gemm(g, ctx);
        return;
    }
    const bool in_place = detail::conv_in_place(w, x.stride_w);
    index_t single_offset = 0;
    const bool one_segment = w.segments == 1 && in_place;
    const auto padded = detail::pad_shape("conv2d", s, x.h, x.w, x.c);
    index_t* offset = &single_offset;
    std::uint8_t* memory = nullptr;
    if (!one_segment) {
        std::byte* base = detail::workspace_begin("conv2d", ctx.workspace, conv2d_workspace_size(w, x.n, x.h, x.w, ctx));
        offset = reinterpret_cast<index_t*>(base);
        memory = reinterpret_cast<std::uint8_t*>(base) +
                 detail::round_up(w.segments * static_cast<index_t>(sizeof(index_t)), 64);
    }
    const index_t pixel = in_place ? x.stride_w : x.c;
    const index_t line = in_place ? x.stride_h : padded.w * x.c;
    const index_t across = w.segments / s.kernel_h; // 1, or kernel_w when dilated
    for (index_t i = 0; i < w.segments; ++i)
        offset[i] = i / across * s.dilation_h * line + i % across * s.dilation_w * pixel;
    g.segment = offset;
    g.lda = s.stride_w * pixel;
    g.m = y.w;
    g.ldc = y.stride_w;
    if (!in_place) { // the copy has slack, so whole groups of four can be read
        g.k4 = w.groups();
        g.tail = 0;
    }
    constexpr index_t size = sizeof(Out);
    auto rows = [&](index_t image, index_t first, index_t last, const std::uint8_t* copy) {
        const std::uint8_t* from = copy ? copy : x.data + image * x.stride_n;
        for (index_t r = first; r < last; ++r) {
            gemm_args row = g;
            row.a = from + r * s.stride_h * line;
            row.c = reinterpret_cast<std::uint8_t*>(y.data) + (image * y.stride_n + r * y.stride_h) * size;
            row.row = (image * y.h + r) * y.w;
            detail::kernels_for(detail::gemm_tables, ctx.target).gemm_u8s8(row);
        }
    };
    detail::for_image_rows(x, s, y.h, static_cast<std::uint8_t>(ep.x_zero_point), in_place, padded, memory, ctx, rows);
}

template <class Out, class F, class Y>
void conv2d(nhwc_view<std::uint8_t> x, const packed_weights& w, const epilogue<Out, F>& ep, nhwc_view<Y> y,
            const context& ctx = {}) {
    conv2d(nhwc_view<const std::uint8_t>(x), w, ep, y, ctx);
}

NOTCH_KEYED_END
