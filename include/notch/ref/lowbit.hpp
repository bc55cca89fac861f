// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/lowbit.hpp: the definition of products of signed codes of one and two bits, on plain
// codes. Binary codes are -1 and +1, ternary ones -1, 0 and +1, 2-bit ones -2..1.
//
//   signed_gemm     acc[m][n] = bias[n] + sum over k of x[m][k] * w[n][k]                    exact int32
//   signed_conv2d   acc[n][y][x][o] = bias[o] + sum over ky, kx, c of in[n][iy][ix][c] * w[o][ky][kx][c]
//                   outside the image in is `outside`: 0 (the term is left out), or -1 or 1, since
//                   binary activations have no code of 0
//   binary          x >= threshold ? +1 : -1            (NaN gives -1)
//   ternary         x > threshold ? +1 : x < -threshold ? -1 : 0
//
// In bits, for binary x and w of K codes:  sum x * w = K - 2 * popcount(x xor w)   (Rastegari et al.
// 2016, arXiv:1603.05279); for ternary x and w, with nonzero = x_nonzero and w_nonzero:
// sum x * w = popcount(nonzero) - 2 * popcount(nonzero and (x_negative xor w_negative)).
//
// A product of u8 codes and 2-bit weights is ref::gemm and ref::conv2d.
#pragma once

#include <cstdint>
#include <span>

#include <notch/core/shape.hpp>
#include <notch/core/view.hpp>
#include <notch/ref/gemm.hpp>

NOTCH_KEYED_BEGIN
namespace ref {

inline void signed_gemm(matrix_view<const std::int8_t> x, matrix_view<const std::int8_t> w,
                        std::span<const std::int32_t> bias, matrix_view<std::int32_t> acc) {
    gemm<std::int8_t>(x, 0, w, bias, acc);
}

/// w: dense [out][kernel_h][kernel_w][in.c]; bias: out values or empty; acc: in.n x out_h x out_w x out.
inline void signed_conv2d(nhwc_view<const std::int8_t> in, std::int32_t outside, std::span<const std::int8_t> w,
                          const window& s, std::span<const std::int32_t> bias, nhwc_view<std::int32_t> acc) {
    constexpr const char* where = "ref::signed_conv2d";
    detail::check_windows(where, in, s, acc);
    const index_t taps = s.kernel_h * s.kernel_w;
    detail::check_equal(where, "the number of weights", static_cast<index_t>(w.size()),
                        detail::checked_product(where, acc.c, detail::checked_product(where, taps, in.c)));
    if (!bias.empty()) detail::check_equal(where, "the number of biases", static_cast<index_t>(bias.size()), acc.c);
    for (index_t n = 0; n < acc.n; ++n)
        for (index_t y = 0; y < acc.h; ++y)
            for (index_t x = 0; x < acc.w; ++x)
                for (index_t o = 0; o < acc.c; ++o) {
                    std::int32_t sum = bias.empty() ? 0 : bias[static_cast<std::size_t>(o)];
                    for (index_t t = 0; t < taps; ++t) {
                        const index_t iy = y * s.stride_h - s.pad_top + t / s.kernel_w * s.dilation_h;
                        const index_t ix = x * s.stride_w - s.pad_left + t % s.kernel_w * s.dilation_w;
                        const bool inside = iy >= 0 && iy < in.h && ix >= 0 && ix < in.w;
                        for (index_t c = 0; c < in.c; ++c)
                            sum += (inside ? in(n, iy, ix, c) : outside) *
                                   w[static_cast<std::size_t>((o * taps + t) * in.c + c)];
                    }
                    acc(n, y, x, o) = sum;
                }
}

/// codes[i] = x[i] >= threshold ? 1 : -1.
inline void binary(std::span<const float> x, float threshold, std::span<std::int8_t> codes) {
    detail::check_equal("ref::binary", "the size of codes", static_cast<index_t>(codes.size()),
                        static_cast<index_t>(x.size()));
    for (std::size_t i = 0; i < x.size(); ++i) codes[i] = static_cast<std::int8_t>(x[i] >= threshold ? 1 : -1);
}

/// codes[i] = x[i] > threshold ? 1 : x[i] < -threshold ? -1 : 0.
inline void ternary(std::span<const float> x, float threshold, std::span<std::int8_t> codes) {
    detail::check_equal("ref::ternary", "the size of codes", static_cast<index_t>(codes.size()),
                        static_cast<index_t>(x.size()));
    for (std::size_t i = 0; i < x.size(); ++i)
        codes[i] = static_cast<std::int8_t>(x[i] > threshold ? 1 : x[i] < -threshold ? -1 : 0);
}

} // namespace ref
NOTCH_KEYED_END
