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
//             tap when the taps of a row do not touch (dilation, groups)
//
//   ends      segments whose length is no multiple of four would waste products: a row of a 3 x 3 window
//             over 3 channels has 9 bytes, 3 groups of four for each of the 3 rows. If it pays, the last bytes
//             of all segments are joined to groups of their own:
//
//               | row 0: 0..3, 4..7 | row 1: 0..3, 4..7 | row 2: 0..3, 4..7 | row 0: 8, row 1: 8, row 2: 8, 0 |
#pragma once

#include <cstdint>

#include <notch/core/buffer.hpp>
#include <notch/core/shape.hpp>
#include <notch/kernels/args.hpp>
#include <notch/kernels/pack.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// Writes n columns of K = groups * 4 bytes to data; value(column, byte). False if a pair of adjacent
/// weights could saturate vpmaddubsw (see packed_weights::pairs_safe).
template <class Value> bool pack_block(std::int8_t* data, index_t n, index_t groups, const Value& value) {
    bool pairs_safe = true;
    for (index_t j = 0; j < n; ++j) {
        std::int8_t* panel = data + (j / panel_width * groups * panel_width + j % panel_width) * 4;
        for (index_t k = 0; k < 4 * groups; k += 2) {
            const int a = value(j, k), b = value(j, k + 1);
            panel[k / 4 * 64 + k % 4] = static_cast<std::int8_t>(a);
            panel[k / 4 * 64 + k % 4 + 1] = static_cast<std::int8_t>(b);
            if ((a > 0 ? a : 0) + (b > 0 ? b : 0) > 128 || (a < 0 ? a : 0) + (b < 0 ? b : 0) < -128) pairs_safe = false;
        }
    }
    return pairs_safe;
}

/// Where byte k of a packed column comes from: its segment and the byte within, -1 for the zeros that fill up.
struct packed_byte {
    index_t segment = 0, byte = 0;
};
inline packed_byte packed_byte_at(const packed_weights& w, index_t k) {
    const index_t whole = 4 * w.groups();
    if (k < w.segments * whole) return {k / whole, k % whole < w.segment_bytes ? k % whole : -1};
    const index_t end = w.segment_bytes % 4, i = k - w.segments * whole;
    return i < w.segments * end ? packed_byte{i / end, w.segment_bytes - end + i % end} : packed_byte{0, -1};
}

/// How many groups are joined to one block: the largest divisor of groups whose outputs fit a panel and whose
/// weights, k for an output of one group, are no longer than those of one product can be.
inline index_t joined_groups(index_t groups, index_t group_outputs, index_t k) {
    index_t best = 1;
    if (group_outputs == 0) return best;
    for (index_t j = 2; j <= groups && j * group_outputs <= panel_width && j * k <= max_k; ++j)
        if (groups % j == 0) best = j;
    return best;
}

/// The groups that join the ends of segments, 0 where that does not pay: collecting a byte costs about
/// half as much as multiplying a group of four with 16 columns.
inline index_t joined_ends_of(index_t segments, index_t segment_bytes, index_t panels) {
    const index_t end = segments * (segment_bytes % 4), groups = (end + 3) / 4;
    return end > 0 && 2 * (segments - groups) * panels > end ? groups : 0;
}

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
        fail(errc::invalid_argument,
             cat(where, ": ", channels, " channels cannot be divided into ", groups, " groups"));
    if (out % groups != 0)
        fail(errc::invalid_argument, cat(where, ": ", out, " outputs cannot be divided into ", groups, " groups"));
    conv_extents e;
    e.taps = checked_product(where, geometry.kernel_h, geometry.kernel_w);
    e.group_channels = channels / groups;
    e.k = checked_product(where, e.taps, e.group_channels);
    check_equal(where, "the number of weights", static_cast<index_t>(w.size()), checked_product(where, e.k, out));
    check_span(where, "w", w);
    if (e.k > max_k)
        fail(errc::overflow, cat(where, ": K = ", e.k, " could overflow int32; at most ", max_k,
                                 " products of u8 and s8 can be added"));
    return e;
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
    const index_t group_outputs = out / groups, joined = detail::joined_groups(groups, group_outputs, e.k);
    p.blocks = groups / joined;
    const index_t block_channels = e.group_channels * joined, block_n = group_outputs * joined;
    p.segments = detail::conv_runs(p);
    p.segment_bytes = e.taps / p.segments * block_channels;
    const index_t panels = (block_n + panel_width - 1) / panel_width;
    if (p.blocks == 1) p.joined_ends = detail::joined_ends_of(p.segments, p.segment_bytes, panels);
    const index_t block_bytes = panels * p.panel_stride();
    p.data = buffer<std::int8_t>(detail::checked_product(where, p.blocks, block_bytes));
    const matrix_view<const std::int8_t> rows(w.data(), out, e.k);
    p.sums = detail::sum_rows(rows);
    if (groups == 1) {
        detail::pack_dense(p, rows);
        p.pairs_safe = detail::are_pairs_safe(p.data);
        return p;
    }
    p.pairs_safe = true;
    for (index_t b = 0; b < p.blocks && block_n > 0; ++b) {
        const auto value = [&](index_t j, index_t k) -> std::int8_t {
            const auto from = detail::packed_byte_at(p, k);
            const index_t at = from.segment * p.segment_bytes + from.byte, tap = at / block_channels,
                          c = at % block_channels;
            if (from.byte < 0 || c / e.group_channels != j / group_outputs) return 0; // or another group of this block
            return w[static_cast<std::size_t>((b * block_n + j) * e.k + tap * e.group_channels + c % e.group_channels)];
        };
        if (!detail::pack_block(p.data.data() + b * block_bytes, block_n, p.panel_stride() / 64, value))
            p.pairs_safe = false;
    }
    return p;
}

NOTCH_KEYED_END
