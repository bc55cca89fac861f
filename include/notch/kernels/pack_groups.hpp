// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/pack_groups.hpp: group-wise quantized weights (4 or 8 bits, one scale for each
// output channel and group of codes along K) in the layout of kernels/weight_only.hpp.
//
//   codes        [N/16][K/8][16][4]   4 bits: byte i of an output holds k = i (low) and k = 4 + i (high)
//                [N/16][K/4][16][4]   8 bits: byte i holds k = i
//   scales       [N/16][groups][16]   float32, bfloat16 or float16
//   zero_points  [N/16][groups][16]   int8, absent for symmetric weights
//
// Codes are stored with an offset (q + 8, q + 128), as unsigned numbers: so they are the unsigned
// operand of the dot products of bytes, and a nibble is an index into a table of 16 floats. 64 bytes
// are one zmm, two ymm, four NEON registers; one layout serves all instruction sets.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/core/view.hpp>
#include <notch/core/workspace.hpp>
#include <notch/kernels/args.hpp>
#include <notch/scheme/half.hpp>

NOTCH_NAMESPACE_BEGIN

/// How the scales of groups are stored. At 16 bits they are rounded to even once, at packing.
enum class scale_format : std::int32_t { f32, bf16, f16 };

/// Group-wise quantized weights, packed. Immutable after packing; safe to share between threads.
struct packed_group_weights {
    index_t n = 0;     ///< output channels
    index_t k = 0;     ///< weights of one output channel
    index_t group = 0; ///< codes that share a scale; the last group may be shorter
    int bits = 8;      ///< 4 or 8
    scale_format format = scale_format::f32;
    buffer<std::uint8_t> data;       ///< the layout above
    buffer<std::uint8_t> scales;     ///< bytes of the format
    buffer<std::int8_t> zero_points; ///< empty: all 0

    NOTCH_INLINE_SPECIAL_MEMBERS(packed_group_weights);

    [[nodiscard]] NOTCH_INLINE index_t groups() const noexcept { return group > 0 ? (k + group - 1) / group : 0; }
    [[nodiscard]] NOTCH_INLINE index_t panels() const noexcept { return (n + panel_width - 1) / panel_width; }
    /// Bytes of codes of a panel.
    [[nodiscard]] NOTCH_INLINE index_t panel_bytes() const noexcept {
        return bits == 4 ? (k + 7) / 8 * 64 : (k + 3) / 4 * 64;
    }
    [[nodiscard]] NOTCH_INLINE index_t scale_bytes() const noexcept { return format == scale_format::f32 ? 4 : 2; }
    /// Bytes that a product with one row reads: codes, scales and zero_points.
    [[nodiscard]] NOTCH_INLINE index_t bytes() const noexcept {
        return data.size() + scales.size() + zero_points.size();
    }
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// The longest group: 128 * 255 * 32768 and the sums that correct the offset fit int32 together.
inline constexpr index_t max_group = 32768;

inline void store_scale(packed_group_weights& w, index_t at, float scale) {
    if (w.format == scale_format::f32) {
        std::memcpy(w.scales.data() + 4 * at, &scale, 4);
        return;
    }
    const std::uint16_t half = w.format == scale_format::bf16 ? to_bfloat16(scale) : to_float16(scale);
    const float back = w.format == scale_format::bf16 ? from_bfloat16(half) : from_float16(half);
    if (!std::isfinite(back))
        fail(errc::overflow, cat("pack_groups: the scale ", scale, " overflows its 16-bit format"));
    std::memcpy(w.scales.data() + 2 * at, &half, 2);
}

} // namespace detail

/// Packs group-wise quantized weights of y = x * w^T.
///   codes        N x K; -8..7 for bits = 4, -128..127 for bits = 8
///   group        a multiple of 32, at most 32768 (32, 64 and 128 are usual); the last group of a row
///                has K % group codes if that is not 0
///   scales       dense N x groups, finite; negative ones and 0 are allowed, as some formats have them
///   zero_points  dense N x groups, in the range of the codes, or empty; real = scale * (code - zero_point).
///                Unsigned 4-bit codes and zero_points of other formats: subtract 8 from both.
[[nodiscard]] inline packed_group_weights pack_groups(matrix_view<const std::int8_t> codes, int bits, index_t group,
                                                      std::span<const float> scales,
                                                      std::span<const std::int8_t> zero_points = {},
                                                      scale_format format = scale_format::f32) {
    constexpr const char* where = "pack_groups";
    detail::check_view(where, "codes", codes);
    if (bits != 4 && bits != 8)
        fail(errc::invalid_argument, detail::cat(where, ": bits is ", bits, ", must be 4 or 8"));
    if (group < 32 || group > detail::max_group || group % 32 != 0)
        fail(errc::invalid_argument,
             detail::cat(where, ": group is ", group, ", must be a multiple of 32, at most ", detail::max_group));
    if (format != scale_format::f32 && format != scale_format::bf16 && format != scale_format::f16)
        fail(errc::invalid_argument, detail::cat(where, ": unknown scale_format ", static_cast<int>(format)));
    packed_group_weights w;
    w.n = codes.rows;
    w.k = codes.cols;
    w.group = group;
    w.bits = bits;
    w.format = format;
    const index_t groups = w.groups(), count = detail::checked_product(where, w.n, groups);
    detail::check_equal(where, "the number of scales", static_cast<index_t>(scales.size()), count);
    if (!zero_points.empty())
        detail::check_equal(where, "the number of zero_points", static_cast<index_t>(zero_points.size()), count);
    detail::check_span(where, "scales", scales);
    detail::check_span(where, "zero_points", zero_points);
    const int least = bits == 4 ? -8 : -128, most = bits == 4 ? 7 : 127;
    w.data = buffer<std::uint8_t>(detail::checked_product(where, w.panels(), w.panel_bytes()));
    if (!w.data.empty()) std::memset(w.data.data(), bits == 4 ? 0x88 : 0x80, static_cast<std::size_t>(w.data.size()));
    const index_t entries = detail::checked_product(where, w.panels() * panel_width, groups);
    w.scales = buffer<std::uint8_t>(detail::checked_product(where, entries, w.scale_bytes()));
    if (!zero_points.empty()) w.zero_points = buffer<std::int8_t>(entries);
    for (index_t n = 0; n < w.n; ++n) {
        const index_t panel = n / panel_width, lane = n % panel_width;
        std::uint8_t* to = w.data.data() + panel * w.panel_bytes() + lane * 4;
        for (index_t k = 0; k < w.k; ++k) {
            const int q = codes(n, k);
            if (q < least || q > most)
                fail(errc::invalid_argument,
                     detail::cat(where, ": code ", q, " of output ", n, " is not in ", least, "..", most));
            if (bits == 8) {
                to[k / 4 * 64 + k % 4] = static_cast<std::uint8_t>(q + 128);
            } else {
                std::uint8_t& byte = to[k / 8 * 64 + k % 4];
                const unsigned nibble = static_cast<unsigned>(q + 8);
                byte = static_cast<std::uint8_t>(k % 8 < 4 ? (byte & 0xf0u) | nibble : (byte & 0x0fu) | nibble << 4);
            }
        }
        for (index_t g = 0; g < groups; ++g) {
            const auto from = static_cast<std::size_t>(n * groups + g);
            const index_t at = (panel * groups + g) * panel_width + lane;
            if (!std::isfinite(scales[from]))
                fail(errc::invalid_argument,
                     detail::cat(where, ": scale ", scales[from], " of output ", n, ", group ", g, " is not finite"));
            detail::store_scale(w, at, scales[from]);
            if (zero_points.empty()) continue;
            const int zero = zero_points[from];
            if (zero < least || zero > most)
                fail(errc::invalid_argument, detail::cat(where, ": zero_point ", zero, " of output ", n, ", group ", g,
                                                         " is not in ", least, "..", most));
            w.zero_points[at] = zero_points[from];
        }
    }
    return w;
}

NOTCH_KEYED_END
