// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/depthwise.hpp: integer depthwise convolution, NHWC, channel multiplier 1.
// An image with padding is first copied into the workspace with the zero_point around it.
#pragma once

#include <cstdint>

#include <notch/kernels/epilogue.hpp>
#include <notch/kernels/image.hpp>
#include <notch/kernels/pack.hpp>
#include <notch/kernels/table.hpp>

#define NOTCH_BODY <notch/kernels/body/depthwise.inl>
#define NOTCH_BODY_DOT
#include <notch/kernels/arch/for_each.inl>

NOTCH_KEYED_BEGIN
namespace detail {
inline constexpr const depthwise_kernels* depthwise_tables[isa_count] = NOTCH_KERNEL_TABLES_DOT(depthwise_table);
} // namespace detail

/// Bytes of workspace that depthwise needs for inputs of this shape.
[[nodiscard]] inline index_t depthwise_workspace_size(const packed_depthwise& w, index_t n, index_t h, index_t width,
                                                      const context& ctx = {}) {
    for (index_t e : {n, h, width}) detail::check_extent("depthwise_workspace_size", "extent", e);
    const index_t offsets = detail::round_up(w.geometry.kernel_h * static_cast<index_t>(sizeof(index_t)), 64);
    const auto padded = detail::pad_shape("depthwise_workspace_size", w.geometry, h, width, w.channels);
    const bool copy = detail::has_padding(w.geometry);
    return detail::workspace_bytes(offsets + (copy ? padded.bytes() * detail::conv_threads(n, ctx) : 0));
}

/// x: n x h x w x channels codes; y: n x out_h x out_w x channels. w comes from pack_depthwise; the
/// epilogue was made for it.
template <class Out, class F, class Y>
void depthwise(nhwc_view<const std::uint8_t> x, const packed_depthwise& w, const epilogue<Out, F>& ep, nhwc_view<Y> y,
               const context& ctx = {}) {
    static_assert(std::is_same_v<Y, Out>,
                  "notch::depthwise: the element type of y must be what the epilogue produces (requantize: its "
                  "range's code type, dequantize: float, accumulators: int32_t)");
    const window& s = w.geometry;
    detail::check_no_rows("depthwise", ep.rows);
    detail::check_input_type<std::uint8_t>("depthwise", ep.x_signed);
    detail::check_conv("depthwise", x, s, w.channels, w.channels, ep.outputs, y);
    if (y.n == 0 || y.h == 0 || y.w == 0 || y.c == 0) return;
    if (w.data.empty()) fail(errc::invalid_argument, "depthwise: the packed weights were moved from");
    if (ep.bias_interleaved.empty())
        fail(errc::invalid_argument, "depthwise: the epilogue was not made for depthwise weights");
    const bool in_place = !detail::has_padding(s);
    const auto padded = detail::pad_shape("depthwise", s, x.h, x.w, x.c);
    std::byte* base =
        detail::workspace_begin("depthwise", ctx.workspace, depthwise_workspace_size(w, x.n, x.h, x.w, ctx));
    auto* lines = reinterpret_cast<index_t*>(base);
    auto* memory = reinterpret_cast<std::uint8_t*>(base) +
                   detail::round_up(w.geometry.kernel_h * static_cast<index_t>(sizeof(index_t)), 64);
    const index_t pixel = in_place ? x.stride_w : x.c;
    const index_t line = in_place ? x.stride_h : padded.w * x.c;
    for (index_t i = 0; i < s.kernel_h; ++i) lines[i] = i * s.dilation_h * line;
    depthwise_args d;
    d.pixel_stride = s.stride_w * pixel;
    d.line = lines;
    d.step = s.dilation_w * pixel;
    d.kernel_h = s.kernel_h;
    d.kernel_w = s.kernel_w;
    d.pixels = y.w;
    d.channels = w.channels;
    d.w = w.data.data();
    d.ep = ep.args();
    d.bias_interleaved = ep.bias_interleaved.data();
    d.multiplier_interleaved = ep.multiplier_interleaved.data();
    d.ldc = y.stride_w;
    constexpr index_t size = sizeof(Out);
    auto rows = [&](index_t image, index_t first, index_t last, const std::uint8_t* copy) {
        const std::uint8_t* from = copy ? copy : x.data + image * x.stride_n;
        for (index_t r = first; r < last; ++r) {
            depthwise_args row = d;
            row.in = from + r * s.stride_h * line;
            row.out = reinterpret_cast<std::uint8_t*>(y.data) + (image * y.stride_n + r * y.stride_h) * size;
            row.row = (image * y.h + r) * y.w;
            detail::kernels_for(detail::depthwise_tables, ctx.target).depthwise_u8s8(row);
        }
    };
    detail::for_image_rows(x, s, y.h, static_cast<std::uint8_t>(ep.x_zero_point), in_place, padded, memory, ctx, rows);
}

template <class Out, class F, class Y>
void depthwise(nhwc_view<std::uint8_t> x, const packed_depthwise& w, const epilogue<Out, F>& ep, nhwc_view<Y> y,
               const context& ctx = {}) {
    depthwise(nhwc_view<const std::uint8_t>(x), w, ep, y, ctx);
}

NOTCH_KEYED_END
