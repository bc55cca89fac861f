// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/depthwise.hpp: integer depthwise convolution, NHWC. Output channel o reads input
// channel o / multiplier:
//
//     acc[y][x][o] = bias[o] + sum over ky, kx of (in[iy][ix][o / multiplier] - x_zero_point) * w[ky][kx][o]
//
// The image is read in place: taps outside it come from 64 bytes of the zero point. Only a channel
// multiplier above 1 needs a workspace, for one image with its channels repeated.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include <notch/core/shape.hpp>
#include <notch/core/view.hpp>
#include <notch/core/workspace.hpp>
#include <notch/kernels/epilogue.hpp>
#include <notch/kernels/image.hpp>
#include <notch/kernels/pack_depthwise.hpp>
#include <notch/kernels/split.hpp>
#include <notch/kernels/table.hpp>

#define NOTCH_BODY <notch/kernels/body/depthwise.inl>
#define NOTCH_BODY_DOT
#include <notch/kernels/arch/for_each.inl>

NOTCH_KEYED_BEGIN
namespace detail {
NOTCH_KERNELS(depthwise_kernels, depthwise_tables[isa_count], NOTCH_KERNEL_TABLES_DOT(depthwise_table));

/// x: the bytes of the codes, from conv_input.
template <class Out, class F>
void run_depthwise(nhwc_view<const std::uint8_t> x, const packed_depthwise& w, const epilogue<Out, F>& ep,
                   nhwc_view<Out> y, const context& ctx) {
    constexpr const char* where = "depthwise";
    const window& s = w.geometry;
    check_conv(where, x, s, w.channels, w.outputs(), ep.outputs, y);
    if (y.n == 0 || y.h == 0 || y.w == 0 || y.c == 0) return;
    if (w.data.empty()) fail(errc::invalid_argument, cat(where, ": the packed weights were moved from"));
    if (ep.bias_interleaved.empty())
        fail(errc::invalid_argument, cat(where, ": the epilogue was not made for depthwise weights"));
    (void)pad_shape(where, s, x.h, x.w, w.outputs()); // index arithmetic stays in range
    std::uint8_t outside[depthwise_width];
    std::memset(outside, ep.x_zero_point ^ (ep.x_signed ? 128 : 0), sizeof(outside)); // a code of x
    // Without pixels there need be no data, and the strides are anything: all taps are outside.
    if (x.h == 0 || x.w == 0) x = {outside, x.n, 0, 0, x.c, 0, 0, 0};
    depthwise_args d;
    d.in = x.data;
    d.in_h = x.h;
    d.in_w = x.w;
    d.in_row = x.stride_h;
    d.in_pixel = x.stride_w;
    d.outside = outside;
    d.flip = ep.x_signed;
    d.kernel_h = s.kernel_h;
    d.kernel_w = s.kernel_w;
    d.stride_h = s.stride_h;
    d.stride_w = s.stride_w;
    d.dilation_h = s.dilation_h;
    d.dilation_w = s.dilation_w;
    d.pad_top = s.pad_top;
    d.pad_left = s.pad_left;
    d.out_w = y.w;
    d.channels = w.outputs();
    d.w = w.data.data();
    d.tile = w.tile.data();
    d.pairs = w.pairs.data();
    d.ep = ep.args();
    d.bias_interleaved = ep.bias_interleaved.data();
    d.multiplier_interleaved = ep.multiplier_interleaved.data();
    d.multiplier_words = ep.multiplier_words.data();
    d.out_row = y.stride_h;
    d.ldc = y.stride_w;
    const depthwise_kernels& kernels = kernels_for(depthwise_tables, ctx.target);
    // Rows in pairs, as the kernels take them; a pair never spans two images.
    const index_t pairs = (y.h + 1) / 2;
    const auto rows = [&](depthwise_args part, index_t image, index_t first, index_t last) {
        part.out = y.data + image * y.stride_n;
        part.row = image * y.h * y.w;
        part.first_row = 2 * first;
        part.last_row = 2 * last < y.h ? 2 * last : y.h;
        kernels.depthwise_u8s8(part);
    };
    if (w.multiplier == 1) {
        split(ctx.executor, x.n * pairs, 1, [&](index_t first, index_t last) {
            while (first < last) {
                const index_t image = first / pairs, end = (image + 1) * pairs < last ? (image + 1) * pairs : last;
                depthwise_args part = d;
                part.in = x.data + image * x.stride_n;
                rows(part, image, first - image * pairs, end - image * pairs);
                first = end;
            }
        });
        return;
    }
    const index_t need = workspace_bytes(pad_shape(where, {}, x.h, x.w, w.outputs()).bytes());
    auto* copy =
        reinterpret_cast<std::uint8_t*>(workspace_begin(where, "depthwise_workspace_size", ctx.workspace, need));
    d.in = copy;
    d.in_pixel = w.outputs();
    d.in_row = x.w * w.outputs();
    for (index_t image = 0; image < x.n; ++image) {
        // One task: the bytes written beyond a row belong to the next one.
        for (index_t r = 0; r < x.h; ++r)
            kernels.expand({x.data + image * x.stride_n + r * x.stride_h, x.w, x.stride_w, x.c, w.multiplier,
                            copy + r * d.in_row});
        split(ctx.executor, pairs, 1, [&](index_t first, index_t last) { rows(d, image, first, last); });
    }
}

} // namespace detail

/// Bytes of workspace that depthwise needs for inputs of this shape: 0 unless the channel multiplier
/// is above 1.
[[nodiscard]] inline index_t depthwise_workspace_size(const packed_depthwise& w, index_t n, index_t h, index_t width,
                                                      const context& = {}) {
    for (index_t e : {n, h, width}) detail::check_extent("depthwise_workspace_size", "extent", e);
    (void)detail::pad_shape("depthwise_workspace_size", w.geometry, h, width, w.outputs());
    const auto expanded = detail::pad_shape("depthwise_workspace_size", {}, h, width, w.outputs());
    return w.multiplier == 1 ? 0 : detail::workspace_bytes(expanded.bytes());
}

/// x: n x h x w x channels codes, u8 or s8; y: n x out_h x out_w x (channels * multiplier), any
/// strides. w comes from pack_depthwise; the epilogue was made for it, for s8 codes with
/// stage::s8_input. Errors: shape_mismatch, invalid_argument, overflow. Safe to call from several
/// threads with a context each; results do not depend on the context.
template <class X, class Out, class F, class Y>
void depthwise(nhwc_view<X> x, const packed_depthwise& w, const epilogue<Out, F>& ep, nhwc_view<Y> y,
               const context& ctx = {}) {
    static_assert(std::is_same_v<Y, Out>,
                  "notch::depthwise: the element type of y must be what the epilogue produces (requantize: its "
                  "range's code type, dequantize: float, accumulators: int32_t)");
    detail::run_depthwise(detail::conv_input("depthwise", x, ep), w, ep, y, ctx);
}

NOTCH_KEYED_END
