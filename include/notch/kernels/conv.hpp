// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/conv.hpp: integer convolution, NHWC, without an im2col copy of the input.
//
//     y[n][oy][ox][o] = epilogue( sum over ky, kx, c of
//         (x[n][oy * stride_h - pad_top + ky * dilation_h][ox * stride_w - pad_left + kx * dilation_w][c] -
//         x_zero_point)
//             * w[o][ky][kx][c] ),      a tap outside the image adds 0; c runs over the channels of o's group
//
// A kernel row of one output pixel is kernel_w * channels contiguous bytes of the input, so an
// output row is a matrix product whose rows lie stride_w * channels bytes apart and whose K is cut
// into kernel_h segments. kernels/conv_plan.hpp says how padding and few channels fit in, kernels/pack_conv.hpp
// how groups do.
#pragma once

#include <cstdint>
#include <type_traits>

#include <notch/core/view.hpp>
#include <notch/core/workspace.hpp>
#include <notch/kernels/conv_band.hpp>
#include <notch/kernels/conv_plan.hpp>
#include <notch/kernels/epilogue.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/kernels/image.hpp>
#include <notch/kernels/pack.hpp>
#include <notch/kernels/pack_conv.hpp>
#include <notch/kernels/table.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// Whether all pixels lie evenly, so that the images are the rows of one matrix.
template <class T> bool is_matrix(const nhwc_view<T>& v) noexcept {
    return (v.h <= 1 || v.stride_h == v.w * v.stride_w) && (v.n <= 1 || v.stride_n == v.h * v.w * v.stride_w);
}

/// A 1 x 1 convolution: a matrix product for each block, in one piece if all pixels lie evenly, else row by row.
inline void pointwise(const nhwc_view<const std::uint8_t>& x, const packed_weights& w, const epilogue_args& ep,
                      bool flip, const nhwc_view<std::uint8_t>& y, index_t size, const context& ctx) {
    const bool even = is_matrix(x) && is_matrix(y);
    const index_t pieces = even ? 1 : x.n * x.h, block_n = w.n / w.blocks, origin = 0;
    gemm_args g;
    g.lda = x.stride_w;
    g.m = even ? x.n * x.h * x.w : x.w;
    g.segment = &origin;
    g.k4 = w.segment_bytes / 4;
    g.tail = w.segment_bytes % 4;
    g.segment_bytes = w.segment_bytes;
    g.panel_stride = w.panel_stride();
    g.n = block_n;
    g.pairs_safe = w.pairs_safe;
    g.flip = flip;
    g.ldc = y.stride_w;
    for (index_t piece = 0; piece < pieces; ++piece)
        for (index_t b = 0; b < w.blocks; ++b) {
            const index_t image = piece / x.h, row = piece % x.h, channel = b * block_n;
            g.a = x.data + image * x.stride_n + row * x.stride_h + b * (w.channels / w.blocks);
            g.b = w.data.data() + b * ((block_n + panel_width - 1) / panel_width) * g.panel_stride;
            g.ep = ep;
            from_channel(g.ep, channel);
            g.c = y.data + (image * y.stride_n + row * y.stride_h + channel) * size;
            g.row = piece * x.w;
            g.col = channel;
            run_gemm(g, ctx);
        }
}

inline conv_phase conv_phase_of(const packed_weights& w) { return window_phase(w.geometry, conv_runs(w)); }
inline conv_form conv_form_of(const packed_weights& w, const conv_phase& phase) {
    conv_form f = window_form(w.geometry, phase);
    f.n = w.n;
    f.channels = w.channels;
    f.blocks = w.blocks;
    f.segment_bytes = w.segment_bytes;
    f.joined_ends = w.joined_ends;
    f.pairs_safe = w.pairs_safe;
    f.data = w.data.data();
    return f;
}

} // namespace detail

/// Bytes of workspace that conv2d needs for inputs of this shape, s8 or u8, whatever their strides. A few rows of
/// the image for each thread of the context; 0 for a pointwise convolution.
[[nodiscard]] inline index_t conv2d_workspace_size(const packed_weights& w, index_t n, index_t h, index_t width,
                                                   const context& ctx = {}) {
    constexpr const char* where = "conv2d_workspace_size";
    for (index_t e : {n, h, width}) detail::check_extent(where, "extent", e);
    if (detail::is_pointwise(w.geometry)) return 0;
    (void)detail::pad_shape(where, w.geometry, h, width, w.channels); // refuses what overflows
    const conv_phase phase = detail::conv_phase_of(w);
    const auto form = detail::conv_form_of(w, phase);
    return detail::conv_bytes(where, form,
                              detail::plan_conv(where, form, n, w.geometry.out_h(h), w.geometry.out_w(width), ctx));
}

/// x: n x h x w x channels codes; y: n x out_h x out_w x N with dense channels (any strides). w comes from
/// pack_conv2d; the epilogue was made for it. x and y must not overlap. The results depend neither on the
/// instruction set nor on the threads of the context.
template <class X, class Out, class F, class Y>
void conv2d(nhwc_view<X> x, const packed_weights& w, const epilogue<Out, F>& ep, nhwc_view<Y> y,
            const context& ctx = {}) {
    static_assert(std::is_same_v<Y, Out>,
                  "notch::conv2d: the element type of y must be what the epilogue produces (requantize: its "
                  "range's code type, dequantize: float, accumulators: int32_t)");
    const auto in = detail::conv_input("conv2d", x, ep);
    const window& s = w.geometry;
    if (w.channels == 0) fail(errc::invalid_argument, "conv2d: w was packed for a matrix; use pack_conv2d");
    detail::check_conv("conv2d", in, s, w.channels, w.n, ep.outputs, y);
    if (y.n == 0 || y.h == 0 || y.w == 0 || y.c == 0) return;
    if (w.data.empty() || ep.bias.size() < w.n)
        fail(errc::invalid_argument, "conv2d: the packed weights or the epilogue were moved from");
    if (detail::is_pointwise(s)) {
        detail::pointwise(in, w, ep.args(), ep.x_signed, detail::as_bytes(y), sizeof(Out), ctx);
        return;
    }
    (void)detail::pad_shape("conv2d", s, x.h, x.w, x.c);
    const conv_phase phase = detail::conv_phase_of(w);
    const auto form = detail::conv_form_of(w, phase);
    const auto plan = detail::plan_conv("conv2d", form, x.n, y.h, y.w, ctx);
    detail::conv_call c(form, plan, in);
    c.outside = static_cast<std::uint8_t>(ep.x_zero_point);
    c.flip = ep.x_signed ? 0x80 : 0;
    c.ep = ep.args();
    c.size = sizeof(Out);
    c.y = detail::as_bytes(y);
    c.target = ctx.target;
    c.in_place = detail::reads_in_place(c);
    index_t single = 0;
    c.offsets = &single;
    if (!c.in_place || form.offset_count() > 1) {
        std::byte* base = detail::workspace_begin("conv2d", "conv2d_workspace_size", ctx.workspace,
                                                  detail::conv_bytes("conv2d", form, plan));
        c.offsets = reinterpret_cast<index_t*>(base);
        c.memory = reinterpret_cast<std::uint8_t*>(base) + detail::offsets_bytes(form);
    }
    detail::run_conv(c, ctx);
}

NOTCH_KEYED_END
