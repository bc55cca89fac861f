// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/pack_conv.hpp: the weights of convolutions in the layout of kernels/pack.hpp,
// [blocks][N/16][segments][K/4][16][4].
//
//   block     the outputs and inputs of one group. Groups with few outputs are joined, with zeros
//             between them, as long as all their outputs fit one panel of 16 columns:
//
//                          in 0..3  in 4..7          4 groups of 4 channels: one panel computes them
//               out 0..3 |   w0       0    ...       in as many products as it would take for each
//               out 4..7 |   0        w1             of the four alone
//
//   segment   what lies next to each other in the input: a kernel row (kernel_w * channels), or one
//             tap when the taps of a row do not touch (dilation, groups). A window over few channels is one
//             segment as a whole: its rows would fill dwords badly (3 x 3 x 3: 9 bytes a row are 3
//             dwords, the 27 bytes of the window are 7), so the convolution gathers it first.
#pragma once

#include <cstdint>

#include <notch/core/buffer.hpp>
#include <notch/core/shape.hpp>
#include <notch/kernels/args.hpp>
#include <notch/kernels/pack.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// Writes n columns of segments runs of segment_bytes weights to data; value(column, segment, byte).
/// False if a pair of adjacent weights could saturate vpmaddubsw (see packed_weights::pairs_safe).
template <class Value>
bool pack_block(std::int8_t* data, index_t n, index_t segments, index_t segment_bytes, const Value& value) {
    const index_t groups = (segment_bytes + 3) / 4;
    bool pairs_safe = true;
    for (index_t j = 0; j < n; ++j) {
        std::int8_t* panel = data + (j / panel_width * segments * groups * panel_width + j % panel_width) * 4;
        for (index_t s = 0; s < segments; ++s) {
            int before = 0;
            for (index_t k = 0; k < segment_bytes; ++k) {
                const int v = value(j, s, k);
                panel[(s * groups + k / 4) * 64 + k % 4] = static_cast<std::int8_t>(v);
                const int positive = (before > 0 ? before : 0) + (v > 0 ? v : 0);
                const int negative = (before < 0 ? before : 0) + (v < 0 ? v : 0);
                if (k % 2 == 1 && (positive > 128 || negative < -128)) pairs_safe = false;
                before = v;
            }
        }
    }
    return pairs_safe;
}

/// How many groups are joined to one block: the largest divisor of groups whose outputs fit a panel.
inline index_t joined_groups(index_t groups, index_t group_outputs) {
    index_t best = 1;
    for (index_t j = 2; j <= groups && j * group_outputs <= panel_width; ++j)
        if (groups % j == 0) best = j;
    return best;
}

/// Whether a window of rows runs of row_bytes is worth gathering: for rows so short that most of the
/// time would go into the ends of the runs.
inline bool worth_gathering(index_t rows, index_t row_bytes) { return rows > 1 && row_bytes <= 32; }

/// The runs of contiguous bytes in a window: its rows, or its taps if those of a row do not touch.
inline index_t conv_runs(const packed_weights& w) noexcept {
    const window& s = w.geometry;
    return w.blocks == 1 && s.dilation_w == 1 ? s.kernel_h : s.kernel_h * s.kernel_w;
}

struct conv_extents {
    index_t taps = 0, group_channels = 0, k = 0;
};
/// Checks the arguments of a packing of convolution weights.
inline conv_extents check_conv_weights(std::string_view where, std::span<const std::int8_t> w, index_t out,
                                       index_t channels, const window& geometry, index_t groups) {
    check_window(where, geometry);
    check_extent(where, "out", out);
    if (channels < 1) fail(errc::invalid_argument, cat(where, ": channels is ", channels, ", must be >= 1"));
    if (groups < 1) fail(errc::invalid_argument, cat(where, ": groups is ", groups, ", must be >= 1"));
    if (channels % groups != 0)
        fail(errc::invalid_argument, cat(where, ": ", channels, " channels cannot be divided into ", groups, " groups"));
    if (out % groups != 0)
        fail(errc::invalid_argument, cat(where, ": ", out, " outputs cannot be divided into ", groups, " groups"));
    conv_extents e;
    e.taps = checked_product(where, geometry.kernel_h, geometry.kernel_w);
    e.group_channels = channels / groups;
    e.k = checked_product(where, e.taps, e.group_channels);
    check_equal(where, "the number of weights", static_cast<index_t>(w.size()), checked_product(where, e.k, out));
    if (e.k > max_k)
        fail(errc::overflow, cat(where, ": K = ", e.k, " could overflow int32; at most ", max_k,
                                 " products of u8 and s8 can be added"));
    return e;
}

/// The sums of out rows of k weights.
inline weight_sums sum_rows(std::span<const std::int8_t> w, index_t out, index_t k) {
    weight_sums s = make_sums(out);
    for (index_t n = 0; n < out; ++n)
        for (index_t i = 0; i < k; ++i) count_weight(s, n, w[static_cast<std::size_t>(n * k + i)]);
    return s;
}

} // namespace detail

/// Packs the weights of a convolution: w is dense [out][kernel_h][kernel_w][channels / groups].
/// groups divides channels and out; output o sees the channels of its group,
/// o / (out / groups) * (channels / groups) on. (groups = channels: pack_depthwise is faster.)
[[nodiscard]] inline packed_weights pack_conv2d(std::span<const std::int8_t> w, index_t out, index_t channels,
                                                const window& geometry, index_t groups = 1) {
    constexpr const char* where = "pack_conv2d";
    const auto e = detail::check_conv_weights(where, w, out, channels, geometry, groups);
    packed_weights p;
    p.n = out;
    p.k = e.k;
    p.geometry = geometry;
    p.channels = channels;
    const index_t group_outputs = out / groups, joined = detail::joined_groups(groups, group_outputs);
    p.blocks = groups / joined;
    const index_t block_channels = e.group_channels * joined, block_n = group_outputs * joined;
    const index_t runs = detail::conv_runs(p);
    const index_t run_bytes = e.taps / runs * block_channels;
    p.gathered = p.blocks == 1 && detail::worth_gathering(runs, run_bytes);
    p.segments = p.gathered ? 1 : runs;
    p.segment_bytes = p.gathered ? runs * run_bytes : run_bytes;
    const index_t panels = (block_n + panel_width - 1) / panel_width, block_bytes = panels * p.panel_stride();
    p.data = buffer<std::int8_t>(detail::checked_product(where, p.blocks, block_bytes));
    p.sums = detail::sum_rows(w, out, e.k);
    p.pairs_safe = true;
    for (index_t b = 0; b < p.blocks; ++b) {
        const auto value = [&](index_t j, index_t s, index_t byte) -> std::int8_t {
            const index_t at = s * p.segment_bytes + byte, tap = at / block_channels, c = at % block_channels;
            if (c / e.group_channels != j / group_outputs) return 0; // another group of this block
            return w[static_cast<std::size_t>((b * block_n + j) * e.k + tap * e.group_channels + c % e.group_channels)];
        };
        if (!detail::pack_block(p.data.data() + b * block_bytes, block_n, p.segments, p.segment_bytes, value))
            p.pairs_safe = false;
    }
    return p;
}

/// The weights of a convolution over the width alone (a window of kernel_h = 1; see kernels/conv1d.hpp): w is dense
/// [out][kernel_w][channels / groups].
[[nodiscard]] inline packed_weights pack_conv1d(std::span<const std::int8_t> w, index_t out, index_t channels,
                                                const window& geometry, index_t groups = 1) {
    if (geometry.kernel_h != 1 || geometry.stride_h != 1 || geometry.pad_top != 0 || geometry.pad_bottom != 0)
        fail(errc::invalid_argument, "pack_conv1d: the window is not one of a row (kernel_h and stride_h 1, no padding above and below)");
    return pack_conv2d(w, out, channels, geometry, groups);
}

NOTCH_KEYED_END
