// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/pack.hpp: weights in the layout of the kernels, packed once. One layout serves all
// instruction sets, so packed weights can be shared between machines.
//
//   matrix, convolution      [N/16][segments][K/4][16][4]
//
//       panel p, group k:    | w[16p][4k..4k+3] | w[16p+1][4k..4k+3] | ... | w[16p+15][...] |
//                              64 bytes: one zmm, two ymm, four NEON registers
//
//   A segment is a run of input bytes that lie next to each other: all of K for a matrix, one
//   kernel row (kernel_w * channels) for a convolution (kernels/pack_conv.hpp). Each is padded with
//   zeros to a multiple of four; columns are padded to a multiple of 16.
//
// Depthwise weights: kernels/pack_depthwise.hpp.
//
// Packing keeps, for every output channel, the sum of its weights (to fold zero points into the
// bias) and the sums of the positive and of the negative ones (to prove that no accumulator can
// overflow), and decides whether vpmaddubsw is safe.
#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include <notch/core/buffer.hpp>
#include <notch/core/shape.hpp>
#include <notch/core/view.hpp>
#include <notch/core/workspace.hpp>
#include <notch/kernels/args.hpp>

NOTCH_NAMESPACE_BEGIN

/// Sums over the weights of each output channel.
struct weight_sums {
    buffer<std::int32_t> all, positive, negative;

    NOTCH_INLINE_SPECIAL_MEMBERS(weight_sums);
};

/// Packed weights of a matrix product or a convolution. Immutable after packing; safe to share
/// between threads.
struct packed_weights {
    index_t n = 0;                    ///< output channels
    index_t k = 0;                    ///< weights of one output channel
    index_t segments = 1;             ///< runs of contiguous input bytes
    index_t segment_bytes = 0;        ///< k / segments
    buffer<std::int8_t> data;         ///< the layout above
    weight_sums sums;                 ///< of w - its zero point
    buffer<std::int32_t> zero_points; ///< of each output channel, padded to whole panels; empty if all are 0
    /// No pair of adjacent products with u8 codes exceeds 16 bits: for all pairs the positive
    /// weights add up to at most 128 and the negative ones to at least -128 (255 * 128 < 32768).
    /// The AVX2 kernel then takes vpmaddubsw, else the exact vpmaddwd.
    bool pairs_safe = false;

    // For convolutions:
    window geometry;
    index_t channels = 0; ///< input channels; 0 for a matrix
    /// Products that are packed one after the other, each of n / blocks outputs over channels / blocks
    /// inputs: the groups of a convolution, or a few of them joined with zeros between.
    index_t blocks = 1;
    /// If not 0: the last segment_bytes % 4 bytes of all segments are joined to this many groups of
    /// four, which follow the whole groups of the segments.
    index_t joined_ends = 0;

    NOTCH_INLINE_SPECIAL_MEMBERS(packed_weights);

    [[nodiscard]] NOTCH_INLINE index_t groups() const noexcept {
        return (segment_bytes + (joined_ends > 0 ? 0 : 3)) / 4;
    }
    [[nodiscard]] NOTCH_INLINE index_t panel_stride() const noexcept {
        return (segments * groups() + joined_ends) * 64;
    }
    [[nodiscard]] NOTCH_INLINE index_t outputs() const noexcept { return n; }
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// The longest K for which 255 * 128 * K and its sums fit int32.
inline constexpr index_t max_k = 2147483647 / (255 * 128);

inline weight_sums make_sums(index_t n) {
    weight_sums s;
    s.all = buffer<std::int32_t>(round_up(n, depthwise_width)); // kernels load whole vectors of it
    s.positive = buffer<std::int32_t>(n);
    s.negative = buffer<std::int32_t>(n);
    return s;
}
inline void count_weight(weight_sums& s, index_t c, std::int32_t w) {
    s.all[c] += w;
    (w > 0 ? s.positive : s.negative)[c] += w;
}

/// The sums of the rows of w.
inline weight_sums sum_rows(matrix_view<const std::int8_t> w) {
    weight_sums s = make_sums(w.rows);
    for (index_t n = 0; n < w.rows; ++n) {
        std::int32_t all = 0, positive = 0; // without branches: the signs of weights are random
        for (const std::int8_t *v = w.data + n * w.stride, *end = v + w.cols; v < end; ++v) {
            all += *v;
            positive += *v > 0 ? *v : 0;
        }
        s.all[n] = all;
        s.positive[n] = positive;
        s.negative[n] = all - positive;
    }
    return s;
}

/// Packs rows of p.segments runs of p.segment_bytes weights, four bytes at a time. (Training packs in every step.)
inline void pack_dense(packed_weights& p, matrix_view<const std::int8_t> w) {
    const index_t whole = p.segment_bytes / 4, rest = p.segment_bytes % 4, groups = p.groups();
    for (index_t j = 0; j < p.n; ++j) {
        std::int8_t* column = p.data.data() + j / panel_width * p.panel_stride() + j % panel_width * 4;
        std::int8_t* ends = p.joined_ends > 0 ? column + p.segments * groups * 64 : nullptr;
        const std::int8_t* from = w.data + j * w.stride;
        for (index_t s = 0, joined = 0; s < p.segments; ++s) {
            std::int8_t* to = column + s * groups * 64;
            for (index_t g = 0; g < whole; ++g, from += 4) std::memcpy(to + g * 64, from, 4);
            for (index_t i = 0; i < rest; ++i, ++joined)
                (p.joined_ends > 0 ? ends[joined / 4 * 64 + joined % 4] : to[whole * 64 + i]) = *from++;
        }
    }
}

/// packed_weights::pairs_safe of packed bytes, which are whole groups of 64: weights of a pair lie next to each other.
/// The sum of two of different signs is never beyond 128. Eight bytes at a time, and most weights of 8 bits show it
/// early.
inline bool are_pairs_safe(std::span<const std::int8_t> data) noexcept {
    constexpr std::uint64_t each = 0x0001000100010001; // lanes of 16 bits, a pair in each
    for (std::size_t i = 0; i < data.size(); i += 64) {
        std::uint64_t unsafe = 0;
        for (std::size_t k = i; k < i + 64; k += 8) {
            std::uint64_t v;
            std::memcpy(&v, data.data() + k, 8);
            v ^= 0x8080808080808080;                                              // weights plus 128
            const std::uint64_t sum = (v & 0xff * each) + (v >> 8 & 0xff * each); // plus 256: 128..384 are safe
            unsafe |= (sum + (0x8000 - 385) * each) | ~((sum | 0x8000 * each) - 128 * each);
        }
        if (unsafe & 0x8000 * each) return false;
    }
    return true;
}

/// Rows of w are output channels; a row is segments runs of segment_bytes weights. u8 weights are
/// stored as s8, 128 less, and their zero points with them.
template <class W>
packed_weights pack_rows(std::string_view where, matrix_view<const W> w, index_t segments,
                         std::span<const std::int32_t> zero_points = {}) {
    constexpr std::int32_t shift = std::is_signed_v<W> ? 0 : 128;
    check_view(where, "weights", w);
    if (w.cols > max_k)
        fail(errc::overflow, cat(where, ": K = ", w.cols, " could overflow int32; at most ", max_k,
                                 " products of u8 and s8 can be added"));
    packed_weights p;
    p.n = w.rows;
    p.k = w.cols;
    p.segments = segments;
    p.segment_bytes = w.cols / segments;
    const index_t panels = (p.n + panel_width - 1) / panel_width;
    p.data = buffer<std::int8_t>(checked_product(where, panels, p.panel_stride()));
    p.sums = make_sums(p.n);
    p.pairs_safe = true;
    const auto zeros = static_cast<index_t>(zero_points.size());
    check_span(where, "zero_points", zero_points);
    if (zeros > 1) check_equal(where, "the number of zero points", zeros, p.n);
    bool any_zero_point = shift != 0 && zeros == 0;
    for (std::int32_t z : zero_points) {
        if (z < -128 + shift || z > 127 + shift)
            fail(errc::invalid_argument,
                 cat(where, ": a weight zero point is ", z, ", must be ", -128 + shift, "..", 127 + shift));
        any_zero_point = any_zero_point || z != shift;
    }
    if (any_zero_point) {
        p.zero_points = buffer<std::int32_t>(round_up(p.n, panel_width));
        for (index_t n = 0; n < p.n; ++n)
            p.zero_points[n] = (zeros == 0 ? 0 : zero_points[static_cast<std::size_t>(zeros == 1 ? 0 : n)]) - shift;
    }
    if constexpr (std::is_signed_v<W>)
        if (!any_zero_point) {
            p.sums = sum_rows(w);
            pack_dense(p, w);
            p.pairs_safe = are_pairs_safe(p.data);
            return p;
        }
    for (index_t n = 0; n < p.n; ++n) {
        const std::int32_t zero_point = any_zero_point ? p.zero_points[n] : 0;
        std::int8_t* panel = p.data.data() + n / panel_width * p.panel_stride() + n % panel_width * 4;
        for (index_t s = 0; s < segments; ++s)
            for (index_t k = 0; k < p.segment_bytes; ++k) {
                const auto code = [&](index_t i) {
                    return static_cast<std::int8_t>(w(n, s * p.segment_bytes + i) - shift);
                };
                const std::int8_t v = code(k);
                count_weight(p.sums, n, v - zero_point);
                panel[(s * p.groups() + k / 4) * 64 + k % 4] = v;
                if (k % 2 == 1) {
                    const int before = code(k - 1), now = v;
                    const int positive = (before > 0 ? before : 0) + (now > 0 ? now : 0);
                    const int negative = (before < 0 ? before : 0) + (now < 0 ? now : 0);
                    if (positive > 128 || negative < -128) p.pairs_safe = false;
                }
            }
    }
    return p;
}

} // namespace detail

/// Packs the weights of y = x * w^T: w is N x K, one row for each output channel.
[[nodiscard]] inline packed_weights pack(matrix_view<const std::int8_t> w) { return detail::pack_rows("pack", w, 1); }

/// The same for asymmetric weights: w - zero_point takes the place of w. One zero point, or one for
/// each output channel; -128..127 for s8, 0..255 for u8 codes. Zero points other than 0 (128 for u8) cost
/// the sums of the rows of x at run time.
template <class W>
    requires std::same_as<W, std::int8_t> || std::same_as<W, std::uint8_t>
[[nodiscard]] packed_weights pack(matrix_view<const W> w, std::span<const std::int32_t> zero_points) {
    return detail::pack_rows("pack", w, 1, zero_points);
}

NOTCH_KEYED_END
