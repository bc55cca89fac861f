// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/conv.hpp: the definition of integer convolutions, NHWC.
//
//   conv2d     acc[n][y][x][o] = bias[o] + sum over ky, kx, c of
//                  (in[n][iy][ix][c] - x_zero_point) * w[o][ky][kx][c]
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

/// w: dense [out][kernel_h][kernel_w][in.c]; bias: out values or empty; acc: in.n x out_h x out_w x out.
template <class X>
void conv2d(nhwc_view<const X> in, std::int32_t x_zero_point, std::span<const std::int8_t> w, const window& s,
            std::span<const std::int32_t> bias, nhwc_view<std::int32_t> acc) {
    detail::check_windows("ref::conv2d", in, s, acc);
    detail::check_equal("ref::conv2d", "the number of weights", static_cast<index_t>(w.size()),
                        detail::checked_product("ref::conv2d", acc.c, detail::checked_product("ref::conv2d", s.kernel_h * s.kernel_w, in.c)));
    if (!bias.empty())
        detail::check_equal("ref::conv2d", "the number of biases", static_cast<index_t>(bias.size()), acc.c);
    for (index_t n = 0; n < acc.n; ++n)
        for (index_t y = 0; y < acc.h; ++y)
            for (index_t x = 0; x < acc.w; ++x)
                for (index_t o = 0; o < acc.c; ++o) {
                    std::int64_t sum = bias.empty() ? 0 : bias[static_cast<std::size_t>(o)];
                    for (index_t ky = 0; ky < s.kernel_h; ++ky)
                        for (index_t kx = 0; kx < s.kernel_w; ++kx) {
                            const index_t iy = y * s.stride_h - s.pad_top + ky * s.dilation_h;
                            const index_t ix = x * s.stride_w - s.pad_left + kx * s.dilation_w;
                            if (iy < 0 || iy >= in.h || ix < 0 || ix >= in.w) continue;
                            const std::int8_t* tap = w.data() + ((o * s.kernel_h + ky) * s.kernel_w + kx) * in.c;
                            for (index_t c = 0; c < in.c; ++c)
                                sum += static_cast<std::int64_t>(
                                           static_cast<std::int32_t>(in(n, iy, ix, c)) - x_zero_point) * tap[c];
                        }
                    acc(n, y, x, o) = static_cast<std::int32_t>(sum);
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
                            sum += static_cast<std::int64_t>(
                                       static_cast<std::int32_t>(in(n, iy, ix, c / multiplier)) - x_zero_point) *
                                   w[static_cast<std::size_t>((ky * s.kernel_w + kx) * acc.c + c)];
                        }
                    acc(n, y, x, c) = static_cast<std::int32_t>(sum);
                }
}

} // namespace ref
NOTCH_KEYED_END
