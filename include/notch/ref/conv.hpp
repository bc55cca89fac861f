// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/conv.hpp: the definition of integer convolutions, NHWC.
//
//   conv2d     acc[n][y][x][o] = bias[o] + sum over ky, kx, c of
//                  (in[n][iy][ix][c] - x_zero_point) * w[o][ky][kx][c]
//              c runs over the channels of o's group
//   conv2d_transposed
//              acc[n][oy][ox][o] = bias[o] + sum over ky, kx, c of
//                  (in[n][iy][ix][c] - x_zero_point) * w[o][ky][kx][c],
//              oy = iy * stride_h - pad_top + ky * dilation_h, ox likewise
//   depthwise  acc[n][y][x][o] = bias[o] + sum over ky, kx of
//                  (in[n][iy][ix][o / multiplier] - x_zero_point) * w[ky][kx][o]
//   iy = y * stride_h - pad_top + ky * dilation_h, ix likewise; outside the image the term is 0,
//   which is what padding with the zero_point means.
#pragma once

#include <cstdint>
#include <span>

#include <notch/core/shape.hpp>
#include <notch/core/view.hpp>

NOTCH_KEYED_BEGIN
namespace ref {

/// Checks what both kinds below have in common and returns the channels of a group.
template <class X>
index_t check_conv(std::string_view where, nhwc_view<const X> in, std::span<const std::int8_t> w, const window& s,
                   std::span<const std::int32_t> bias, index_t outputs, index_t groups) {
    if (groups < 1 || in.c % groups != 0 || outputs % groups != 0)
        fail(errc::invalid_argument,
             detail::cat(where, ": ", groups, " groups do not divide ", in.c, " channels and ", outputs, " outputs"));
    const index_t channels = in.c / groups;
    detail::check_equal(
        where, "the number of weights", static_cast<index_t>(w.size()),
        detail::checked_product(where, outputs, detail::checked_product(where, s.kernel_h * s.kernel_w, channels)));
    if (!bias.empty()) detail::check_equal(where, "the number of biases", static_cast<index_t>(bias.size()), outputs);
    return channels;
}

/// w: dense [out][kernel_h][kernel_w][in.c / groups]; bias: out values or empty; acc: in.n x out_h x out_w x out.
/// Output o sees the in.c / groups channels of group o / (out / groups).
template <class X>
void conv2d(nhwc_view<const X> in, std::int32_t x_zero_point, std::span<const std::int8_t> w, const window& s,
            std::span<const std::int32_t> bias, nhwc_view<std::int32_t> acc, index_t groups = 1) {
    detail::check_windows("ref::conv2d", in, s, acc);
    const index_t channels = check_conv("ref::conv2d", in, w, s, bias, acc.c, groups);
    for (index_t n = 0; n < acc.n; ++n)
        for (index_t y = 0; y < acc.h; ++y)
            for (index_t x = 0; x < acc.w; ++x)
                for (index_t o = 0; o < acc.c; ++o) {
                    std::int64_t sum = bias.empty() ? 0 : bias[static_cast<std::size_t>(o)];
                    const index_t first = o / (acc.c / groups) * channels;
                    for (index_t ky = 0; ky < s.kernel_h; ++ky)
                        for (index_t kx = 0; kx < s.kernel_w; ++kx) {
                            const index_t iy = y * s.stride_h - s.pad_top + ky * s.dilation_h;
                            const index_t ix = x * s.stride_w - s.pad_left + kx * s.dilation_w;
                            if (iy < 0 || iy >= in.h || ix < 0 || ix >= in.w) continue;
                            const std::int8_t* tap = w.data() + ((o * s.kernel_h + ky) * s.kernel_w + kx) * channels;
                            for (index_t c = 0; c < channels; ++c)
                                sum += static_cast<std::int64_t>(static_cast<std::int32_t>(in(n, iy, ix, first + c)) -
                                                                 x_zero_point) *
                                       tap[c];
                        }
                    acc(n, y, x, o) = static_cast<std::int32_t>(sum);
                }
}

/// The transposed convolution: every input pixel adds its products to the outputs under its window. acc: in.n x h x w
/// x out of any h and w (they say what is cut off below and on the right, or added with no input).
template <class X>
void conv2d_transposed(nhwc_view<const X> in, std::int32_t x_zero_point, std::span<const std::int8_t> w,
                       const window& s, std::span<const std::int32_t> bias, nhwc_view<std::int32_t> acc,
                       index_t groups = 1) {
    constexpr const char* where = "ref::conv2d_transposed";
    detail::check_view(where, "in", in);
    detail::check_view(where, "acc", acc);
    detail::check_window(where, s);
    detail::check_equal(where, "the batch of acc", acc.n, in.n);
    const index_t channels = check_conv(where, in, w, s, bias, acc.c, groups);
    for (index_t n = 0; n < acc.n; ++n)
        for (index_t o = 0; o < acc.c; ++o) {
            for (index_t y = 0; y < acc.h; ++y)
                for (index_t x = 0; x < acc.w; ++x)
                    acc(n, y, x, o) = bias.empty() ? 0 : bias[static_cast<std::size_t>(o)];
            const index_t first = o / (acc.c / groups) * channels;
            for (index_t iy = 0; iy < in.h; ++iy)
                for (index_t ix = 0; ix < in.w; ++ix)
                    for (index_t ky = 0; ky < s.kernel_h; ++ky)
                        for (index_t kx = 0; kx < s.kernel_w; ++kx) {
                            const index_t y = iy * s.stride_h - s.pad_top + ky * s.dilation_h;
                            const index_t x = ix * s.stride_w - s.pad_left + kx * s.dilation_w;
                            if (y < 0 || y >= acc.h || x < 0 || x >= acc.w) continue;
                            const std::int8_t* tap = w.data() + ((o * s.kernel_h + ky) * s.kernel_w + kx) * channels;
                            for (index_t c = 0; c < channels; ++c)
                                acc(n, y, x, o) +=
                                    (static_cast<std::int32_t>(in(n, iy, ix, first + c)) - x_zero_point) * tap[c];
                        }
        }
}

/// w: dense [kernel_h][kernel_w][acc.c]; bias: acc.c values or empty; acc has in.c * multiplier
/// channels, multiplier >= 1.
template <class X>
void depthwise(nhwc_view<const X> in, std::int32_t x_zero_point, std::span<const std::int8_t> w, const window& s,
               std::span<const std::int32_t> bias, nhwc_view<std::int32_t> acc) {
    detail::check_windows("ref::depthwise", in, s, acc);
    const index_t multiplier = in.c > 0 && acc.c >= in.c ? acc.c / in.c : 1;
    detail::check_equal("ref::depthwise", "the number of channels of acc", acc.c, in.c * multiplier);
    detail::check_equal("ref::depthwise", "the number of weights", static_cast<index_t>(w.size()),
                        detail::checked_product("ref::depthwise", s.kernel_h * s.kernel_w, acc.c));
    if (!bias.empty())
        detail::check_equal("ref::depthwise", "the number of biases", static_cast<index_t>(bias.size()), acc.c);
    for (index_t n = 0; n < acc.n; ++n)
        for (index_t y = 0; y < acc.h; ++y)
            for (index_t x = 0; x < acc.w; ++x)
                for (index_t c = 0; c < acc.c; ++c) {
                    std::int64_t sum = bias.empty() ? 0 : bias[static_cast<std::size_t>(c)];
                    for (index_t ky = 0; ky < s.kernel_h; ++ky)
                        for (index_t kx = 0; kx < s.kernel_w; ++kx) {
                            const index_t iy = y * s.stride_h - s.pad_top + ky * s.dilation_h;
                            const index_t ix = x * s.stride_w - s.pad_left + kx * s.dilation_w;
                            if (iy < 0 || iy >= in.h || ix < 0 || ix >= in.w) continue;
                            sum += static_cast<std::int64_t>(static_cast<std::int32_t>(in(n, iy, ix, c / multiplier)) -
                                                             x_zero_point) *
                                   w[static_cast<std::size_t>((ky * s.kernel_w + kx) * acc.c + c)];
                        }
                    acc(n, y, x, c) = static_cast<std::int32_t>(sum);
                }
}

} // namespace ref
NOTCH_KEYED_END
