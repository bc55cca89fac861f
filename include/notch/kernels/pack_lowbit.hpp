// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/pack_lowbit.hpp: weights below four bits in the layouts of kernels/lowbit.hpp.
//
//   packed_bits   binary or ternary weights, for binary or ternary activations
//       [N/16][segments][words][planes][16]     32-bit words of 32 codes along K, one for each output
//       binary: one plane, bit 1 means +1.  ternary: two planes, nonzero and negative.
//       A segment is a run of words that lie next to each other in the activations: all of K for a
//       matrix; for a convolution one tap (its channels, padded to whole words with 0), or, where the
//       channels fill whole words, one kernel row.
//
//   packed_int2   weights -2..1 (or -1..1), for u8 activations
//       [N/16][segments][K/16][16][4]     bits 2j of byte i of an output hold k = 4j + i, as code + 2
//       Segments are those of kernels/pack.hpp.
//
// Both keep the sums of the weights of each output, so that make_epilogue takes them like
// packed_weights. For packed_bits its x_zero_point must be 0.
#pragma once

#include <cstdint>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/core/shape.hpp>
#include <notch/core/view.hpp>
#include <notch/kernels/args.hpp>
#include <notch/kernels/pack.hpp>
#include <notch/scheme/packed_lowbit.hpp>

NOTCH_NAMESPACE_BEGIN

/// Binary or ternary weights, packed. Immutable after packing; safe to share between threads.
struct packed_bits {
    index_t n = 0; ///< output channels
    index_t k = 0; ///< weights of one output channel
    bool ternary = false;
    index_t segments = 1;
    index_t words = 0;      ///< 32-bit words of a segment
    index_t last_bits = 32; ///< codes in the last word of a segment
    buffer<std::uint32_t> data;
    /// What the count of unequal signs is taken from, padded to whole panels: K, or the number of
    /// weights that are not 0.
    buffer<std::int32_t> base;
    /// Convolutions: [taps][N padded to 16] sums of the weights of each tap.
    buffer<std::int32_t> tap_sums;
    weight_sums sums;

    window geometry;      ///< for convolutions
    index_t channels = 0; ///< input channels; 0 for a matrix

    NOTCH_INLINE_SPECIAL_MEMBERS(packed_bits);

    [[nodiscard]] NOTCH_INLINE index_t planes() const noexcept { return ternary ? 2 : 1; }
    [[nodiscard]] NOTCH_INLINE index_t panel_stride() const noexcept { return segments * words * planes() * 16; }
    [[nodiscard]] NOTCH_INLINE index_t outputs() const noexcept { return n; }
};

/// 2-bit weights, packed. Immutable after packing; safe to share between threads.
struct packed_int2 {
    index_t n = 0, k = 0;
    index_t segments = 1;
    index_t segment_bytes = 0; ///< of the activations: k / segments
    buffer<std::uint8_t> data;
    weight_sums sums;

    window geometry;      ///< for convolutions
    index_t channels = 0; ///< input channels; 0 for a matrix

    NOTCH_INLINE_SPECIAL_MEMBERS(packed_int2);

    [[nodiscard]] NOTCH_INLINE index_t blocks() const noexcept { return (segment_bytes + 15) / 16; }
    [[nodiscard]] NOTCH_INLINE index_t panel_stride() const noexcept { return segments * blocks() * 64; }
    [[nodiscard]] NOTCH_INLINE index_t outputs() const noexcept { return n; }
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// Rows of w are output channels: segments runs of w.cols / segments codes. taps: of a convolution.
inline packed_bits pack_bit_rows(std::string_view where, matrix_view<const std::int8_t> w, bool ternary,
                                 index_t segments, index_t taps) {
    check_view(where, "weights", w);
    if (w.cols > max_k) fail(errc::overflow, cat(where, ": K = ", w.cols, ", at most ", max_k, " codes can be added"));
    packed_bits p;
    p.n = w.rows;
    p.k = w.cols;
    p.ternary = ternary;
    p.segments = segments;
    const index_t run = w.cols / segments;
    p.words = packed_bits_size(run);
    p.last_bits = run == 0 ? 32 : (run - 1) % 32 + 1;
    const index_t panels = (p.n + panel_width - 1) / panel_width;
    p.data = buffer<std::uint32_t>(checked_product(where, panels, p.panel_stride()));
    p.base = buffer<std::int32_t>(panels * panel_width);
    if (taps > 0) p.tap_sums = buffer<std::int32_t>(checked_product(where, taps, panels * panel_width));
    p.sums = make_sums(p.n);
    for (index_t n = 0; n < p.n; ++n) {
        std::uint32_t* panel = p.data.data() + n / panel_width * p.panel_stride() + n % panel_width;
        for (index_t k = 0; k < p.k; ++k) {
            const std::int8_t c = w(n, k);
            if (c < -1 || c > 1 || (c == 0 && !ternary))
                fail(errc::invalid_argument, cat(where, ": code ", static_cast<int>(c), " of output ", n, " is not ",
                                                 ternary ? "-1, 0 or 1" : "-1 or 1"));
            count_weight(p.sums, n, c);
            p.base[n] += c != 0 ? 1 : 0;
            if (taps > 0) p.tap_sums[k / (p.k / taps) * panels * panel_width + n] += c;
            std::uint32_t* word = panel + (k / run * p.words + k % run / 32) * p.planes() * 16;
            const std::uint32_t bit = 1u << k % run % 32;
            if (!ternary) {
                if (c > 0) word[0] |= bit;
            } else {
                if (c != 0) word[0] |= bit;
                if (c < 0) word[16] |= bit;
            }
        }
    }
    return p;
}

inline packed_int2 pack_int2_rows(std::string_view where, matrix_view<const std::int8_t> w, index_t segments) {
    check_view(where, "weights", w);
    if (w.cols > max_k) fail(errc::overflow, cat(where, ": K = ", w.cols, " could overflow int32; at most ", max_k));
    packed_int2 p;
    p.n = w.rows;
    p.k = w.cols;
    p.segments = segments;
    p.segment_bytes = w.cols / segments;
    p.data = buffer<std::uint8_t>(checked_product(where, (p.n + panel_width - 1) / panel_width, p.panel_stride()));
    for (std::uint8_t& b : p.data) b = 0xaa; // the code of 0 everywhere
    p.sums = make_sums(p.n);
    for (index_t n = 0; n < p.n; ++n) {
        std::uint8_t* panel = p.data.data() + n / panel_width * p.panel_stride() + n % panel_width * 4;
        for (index_t s = 0; s < segments; ++s)
            for (index_t k = 0; k < p.segment_bytes; ++k) {
                const int c = w(n, s * p.segment_bytes + k);
                if (c < -2 || c > 1)
                    fail(errc::invalid_argument, cat(where, ": code ", c, " of output ", n, " is not in -2..1"));
                count_weight(p.sums, n, static_cast<std::int8_t>(c));
                std::uint8_t& byte = panel[(s * p.blocks() + k / 16) * 64 + k % 4];
                const int shift = static_cast<int>(k % 16 / 4 * 2);
                byte = static_cast<std::uint8_t>((byte & ~(3u << shift)) | static_cast<unsigned>(c + 2) << shift);
            }
    }
    return p;
}

/// The checks of the weights of a convolution; returns them as rows.
inline matrix_view<const std::int8_t> conv_rows(std::string_view where, std::span<const std::int8_t> w, index_t out,
                                                index_t channels, const window& geometry) {
    check_window(where, geometry);
    check_extent(where, "out", out);
    if (channels < 1) fail(errc::invalid_argument, cat(where, ": channels is ", channels, ", must be >= 1"));
    const index_t k = checked_product(where, checked_product(where, geometry.kernel_h, geometry.kernel_w), channels);
    check_equal(where, "the number of weights", static_cast<index_t>(w.size()), checked_product(where, k, out));
    return {w.data(), out, k};
}
inline packed_bits pack_bits_conv(std::string_view where, std::span<const std::int8_t> w, bool ternary, index_t out,
                                  index_t channels, const window& geometry) {
    const auto rows = conv_rows(where, w, out, channels, geometry);
    const index_t taps = geometry.kernel_h * geometry.kernel_w;
    const bool whole_rows = channels % 32 == 0 && geometry.dilation_w == 1 && !ternary;
    packed_bits p = pack_bit_rows(where, rows, ternary, whole_rows ? geometry.kernel_h : taps, taps);
    p.geometry = geometry;
    p.channels = channels;
    return p;
}

} // namespace detail

/// Packs binary weights (codes -1 and 1) of y = x * w^T: w is N x K, one row for each output channel.
[[nodiscard]] inline packed_bits pack_binary(matrix_view<const std::int8_t> w) {
    return detail::pack_bit_rows("pack_binary", w, false, 1, 0);
}
/// The same for ternary weights (codes -1, 0 and 1).
[[nodiscard]] inline packed_bits pack_ternary(matrix_view<const std::int8_t> w) {
    return detail::pack_bit_rows("pack_ternary", w, true, 1, 0);
}
/// Packs the binary weights of a convolution: w is dense [out][kernel_h][kernel_w][channels].
[[nodiscard]] inline packed_bits pack_binary_conv2d(std::span<const std::int8_t> w, index_t out, index_t channels,
                                                    const window& geometry) {
    return detail::pack_bits_conv("pack_binary_conv2d", w, false, out, channels, geometry);
}
/// The same for ternary weights.
[[nodiscard]] inline packed_bits pack_ternary_conv2d(std::span<const std::int8_t> w, index_t out, index_t channels,
                                                     const window& geometry) {
    return detail::pack_bits_conv("pack_ternary_conv2d", w, true, out, channels, geometry);
}
/// Packs 2-bit weights (codes -2..1) of y = x * w^T for u8 activations: w is N x K.
[[nodiscard]] inline packed_int2 pack_int2_weights(matrix_view<const std::int8_t> w) {
    return detail::pack_int2_rows("pack_int2_weights", w, 1);
}
/// Packs the 2-bit weights of a convolution: w is dense [out][kernel_h][kernel_w][channels].
[[nodiscard]] inline packed_int2 pack_int2_conv2d(std::span<const std::int8_t> w, index_t out, index_t channels,
                                                  const window& geometry) {
    const auto rows = detail::conv_rows("pack_int2_conv2d", w, out, channels, geometry);
    packed_int2 p = detail::pack_int2_rows(
        "pack_int2_conv2d", rows, geometry.dilation_w == 1 ? geometry.kernel_h : geometry.kernel_h * geometry.kernel_w);
    p.geometry = geometry;
    p.channels = channels;
    return p;
}

NOTCH_KEYED_END
