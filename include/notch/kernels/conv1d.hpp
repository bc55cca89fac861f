// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/conv1d.hpp: convolution over one dimension, N x W x C.
//
// A batch of sequences is one image of N rows and a window of kernel_h = 1: rows never mix, and tiles run
// over from one short sequence into the next. So everything of kernels/conv.hpp holds:
//
//     y[n][ox][o] = epilogue( sum over kx, c of
//         (x[n][ox * stride_w - pad_left + kx * dilation_w][c] - x_zero_point) * w[o][kx][c] )
#pragma once

#include <notch/kernels/conv.hpp>

NOTCH_NAMESPACE_BEGIN

/// A window over the width: left and right are the paddings. A causal convolution has
/// left = dilation * (kernel - 1), right = 0.
[[nodiscard]] NOTCH_INLINE constexpr window window_1d(index_t kernel, index_t stride = 1, index_t left = 0,
                                                      index_t right = 0, index_t dilation = 1) noexcept {
    window s;
    s.kernel_w = kernel;
    s.stride_w = stride;
    s.pad_left = left;
    s.pad_right = right;
    s.dilation_w = dilation;
    return s;
}

/// A dense batch of n sequences of w positions and c channels: element (i, x, ch) is data[(i * w + x) * c + ch].
template <class T>
[[nodiscard]] NOTCH_INLINE constexpr nhwc_view<T> nwc_view(T* data, index_t n, index_t w, index_t c) noexcept {
    return {data, 1, n, w, c};
}
/// The same with strides, in elements, from one sequence and one position to the next.
template <class T>
[[nodiscard]] NOTCH_INLINE constexpr nhwc_view<T> nwc_view(T* data, index_t n, index_t w, index_t c, index_t stride_n,
                                                           index_t stride_w) noexcept {
    return {data, 1, n, w, c, 0, stride_n, stride_w};
}

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN

/// Packs the weights of conv1d: w is dense [out][kernel_w][channels / groups]; the window comes from window_1d.
[[nodiscard]] inline packed_weights pack_conv1d(std::span<const std::int8_t> w, index_t out, index_t channels,
                                                const window& geometry, index_t groups = 1) {
    if (geometry.kernel_h != 1 || geometry.stride_h != 1 || geometry.pad_top != 0 || geometry.pad_bottom != 0)
        fail(errc::invalid_argument,
             "pack_conv1d: the window has an extent, a stride or paddings over the height; use window_1d");
    return pack_conv2d(w, out, channels, geometry, groups);
}

/// Bytes of workspace that conv1d needs for n sequences of `width` positions.
[[nodiscard]] inline index_t conv1d_workspace_size(const packed_weights& w, index_t n, index_t width,
                                                   const context& ctx = {}) {
    return conv2d_workspace_size(w, 1, n, width, ctx);
}

/// x: nwc_view of n x W x channels codes, u8 or s8; y: nwc_view of n x out_w x N. Everything else as for conv2d.
template <class X, class Out, class F, class Y>
void conv1d(nhwc_view<X> x, const packed_weights& w, const epilogue<Out, F>& ep, nhwc_view<Y> y,
            const context& ctx = {}) {
    if (w.geometry.kernel_h != 1 || w.geometry.stride_h != 1 || w.geometry.pad_top != 0 || w.geometry.pad_bottom != 0)
        fail(errc::invalid_argument, "conv1d: w has a window over the height as well; use pack_conv1d");
    if (x.n != 1 || y.n != 1) fail(errc::shape_mismatch, "conv1d: x or y is a batch of images; use nwc_view");
    conv2d(x, w, ep, y, ctx);
}

NOTCH_KEYED_END
