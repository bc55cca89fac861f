// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/pack_depthwise.hpp: the weights of a depthwise convolution in the layout of its
// kernels, packed once, the same for all instruction sets.
//
// Channels come in blocks of 64, in the order in which interleaving four rows of bytes within
// 128-bit lanes puts them: dword 16 k + 4 lane + i of a vector is channel 16 lane + 4 k + i. A
// "vector" is 64 dwords (256 bytes, four zmm); the four bytes (or two words) of a dword are taps.
//
//   any      [C/64][kernel_w][kernel_h/4] vectors     four rows of one kernel column
//   tile     [C/64][2][3] vectors, for 3 x 3 alone: for two rows of outputs from four rows of inputs
//           [0][j]  w0j w1j w2j 0      upper output      [1][j]  0 w0j w1j w2j      lower output
//   pairs    [C/64][7] vectors of words, for 3 x 3 alone, for vpmaddwd
//           j = 0..2: w0j w1j     3: w20 w21   4: w22 0   5: 0 w20   6: w21 w22
//
// In the last block, lanes without channels repeat those with channels (one: 0 0 0 0, two: 0 1 0 1,
// three: 0 1 2 2), for kernels that put several pixels into one register.
#pragma once

#include <cstdint>

#include <notch/core/buffer.hpp>
#include <notch/core/shape.hpp>
#include <notch/kernels/args.hpp>
#include <notch/kernels/pack.hpp>

NOTCH_NAMESPACE_BEGIN

/// Packed weights of a depthwise convolution. Immutable after packing; safe to share between threads.
struct packed_depthwise {
    index_t channels = 0;   ///< input channels
    index_t multiplier = 1; ///< output channels for each of them
    window geometry;
    buffer<std::int8_t> data, tile; ///< the layouts above; tile and pairs only for 3 x 3
    buffer<std::int16_t> pairs;
    weight_sums sums;

    NOTCH_INLINE_SPECIAL_MEMBERS(packed_depthwise);
    [[nodiscard]] NOTCH_INLINE index_t taps() const noexcept { return geometry.kernel_h * geometry.kernel_w; }
    [[nodiscard]] NOTCH_INLINE index_t outputs() const noexcept { return channels * multiplier; }
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// Calls f(dword) for every place within its block where channel c of n stands.
template <class F> void for_depthwise_places(index_t c, index_t n, const F& f) {
    const index_t left = n - c / 64 * 64, lanes = left >= 64 ? 4 : (left + 15) / 16;
    for (index_t lane = 0; lane < 4; ++lane) {
        const index_t from = lane < lanes ? lane : lanes == 3 ? 2 : lane % lanes;
        if (from == c % 64 / 16) f(c % 16 / 4 * 16 + lane * 4 + c % 4);
    }
}

/// The kernels of 3 x 3 that use tile and pairs: no gaps between taps, stride 1 both ways or stride_w 2.
inline bool has_depthwise_tile(const window& s) noexcept {
    return s.kernel_h == 3 && s.kernel_w == 3 && s.dilation_w == 1 &&
           (s.stride_w == 2 || (s.stride_w == 1 && s.stride_h == 1 && s.dilation_h == 1));
}

/// Adds the taps of one channel of a 3 x 3 kernel, w(row, column), to its dword of tile and pairs.
template <class W> void pack_depthwise_3x3(std::int8_t* tile, std::int16_t* pairs, index_t dword, const W& w) {
    constexpr int none = -1; // otherwise 10 * row + column
    static constexpr int bytes[2][3][4] = {{{0, 10, 20, none}, {1, 11, 21, none}, {2, 12, 22, none}},
                                           {{none, 0, 10, 20}, {none, 1, 11, 21}, {none, 2, 12, 22}}};
    static constexpr int words[7][2] = {{0, 10}, {1, 11}, {2, 12}, {20, 21}, {22, none}, {none, 20}, {21, 22}};
    for (int g = 0; g < 6; ++g)
        for (int i = 0; i < 4; ++i) {
            const int tap = bytes[g / 3][g % 3][i];
            if (tap != none) tile[g * 256 + dword * 4 + i] = w(tap / 10, tap % 10);
        }
    for (int g = 0; g < 7; ++g)
        for (int i = 0; i < 2; ++i) {
            const int tap = words[g][i];
            if (tap != none) pairs[g * 128 + dword * 2 + i] = w(tap / 10, tap % 10);
        }
}

} // namespace detail

/// Packs the weights of a depthwise convolution: w is dense [kernel_h][kernel_w][channels *
/// multiplier]; output channel o reads input channel o / multiplier.
[[nodiscard]] inline packed_depthwise pack_depthwise(std::span<const std::int8_t> w, index_t channels,
                                                     const window& geometry, index_t multiplier = 1) {
    constexpr const char* where = "pack_depthwise";
    detail::check_window(where, geometry);
    if (channels < 1) fail(errc::invalid_argument, detail::cat(where, ": channels is ", channels, ", must be >= 1"));
    if (multiplier < 1)
        fail(errc::invalid_argument, detail::cat(where, ": multiplier is ", multiplier, ", must be >= 1"));
    const index_t taps = detail::checked_product(where, geometry.kernel_h, geometry.kernel_w);
    const index_t n = detail::checked_product(where, channels, multiplier);
    detail::check_equal(where, "the number of weights", static_cast<index_t>(w.size()),
                        detail::checked_product(where, taps, n));
    detail::check_span(where, "w", w);
    if (taps > detail::max_k) fail(errc::overflow, detail::cat(where, ": ", taps, " taps could overflow int32"));
    packed_depthwise p;
    p.channels = channels;
    p.multiplier = multiplier;
    p.geometry = geometry;
    const index_t blocks = (n + depthwise_width - 1) / depthwise_width;
    const index_t row_groups = (geometry.kernel_h + 3) / 4, groups = geometry.kernel_w * row_groups;
    p.data = buffer<std::int8_t>(detail::checked_product(where, blocks * groups, 256));
    const bool tile = detail::has_depthwise_tile(geometry);
    if (tile) {
        p.tile = buffer<std::int8_t>(blocks * 6 * 256);
        p.pairs = buffer<std::int16_t>(blocks * 7 * 128);
    }
    p.sums = detail::make_sums(n);
    for (index_t c = 0; c < n; ++c) {
        const auto tap = [&](index_t row, index_t column) {
            return w[static_cast<std::size_t>((row * geometry.kernel_w + column) * n + c)];
        };
        for (index_t t = 0; t < taps; ++t) detail::count_weight(p.sums, c, w[static_cast<std::size_t>(t * n + c)]);
        const index_t block = c / depthwise_width;
        detail::for_depthwise_places(c, n, [&](index_t dword) {
            for (index_t column = 0; column < geometry.kernel_w; ++column)
                for (index_t row = 0; row < geometry.kernel_h; ++row)
                    p.data[((block * geometry.kernel_w + column) * row_groups + row / 4) * 256 + dword * 4 + row % 4] =
                        tap(row, column);
            if (tile)
                detail::pack_depthwise_3x3(p.tile.data() + block * 6 * 256, p.pairs.data() + block * 7 * 128, dword,
                                           tap);
        });
    }
    return p;
}

NOTCH_KEYED_END
