// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/conv_plan.hpp: how convolutions of every kind cut up their work: the form of a convolution, the
// bands of rows and their memory, the copy of a band. For users: kernels/conv.hpp, conv1d.hpp and
// conv_transposed.hpp.
//
// The output is made in bands, a few rows at a time. The input rows that a band needs are read in
// place if all taps lie inside the image; else they are copied into the workspace with the
// zero_point where the image ends. A pixel of the output then is a product of the segments of the
// packed weights with bytes at fixed offsets from the pixel's first tap:
//
//     band, 2 output rows of a 3 x 3 window:
//       z z z z z z z z      z: zero_point           first tap of output (0, 1): ^
//       z ^ # # . . . z      # : its segments, 3 runs of 3 * channels bytes
//       z # # # . . . z
//       z # # # . . . z
//
// Where the ends of segments are joined (kernels/pack_conv.hpp), they are collected first, for all pixels of the band.
//
// A transposed convolution is stride_h * stride_w ordinary ones, the phases, over one band.
#pragma once

#include <cstdint>
#include <cstring>

#include <notch/core/shape.hpp>
#include <notch/core/view.hpp>
#include <notch/core/workspace.hpp>
#include <notch/kernels/table.hpp>
#include <notch/simd/cache.hpp>

NOTCH_NAMESPACE_BEGIN

/// The outputs (y, x) = (phase_h, phase_w) modulo the phases of a transposed convolution (one phase for an
/// ordinary one): output (j, i) of the phase sees the input pixels
///     (j * stride + first + t * step),  t = 0..taps-1, for rows and columns alike.
struct conv_phase {
    index_t taps_h = 0, taps_w = 0;
    index_t first_h = 0, first_w = 0;
    index_t segments = 0;
    index_t data = 0; ///< its first byte in the packed weights
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// A convolution of any kind, without its images.
struct conv_form {
    index_t stride_h = 1, stride_w = 1; ///< from one output of a phase to the next, in input pixels
    index_t step_h = 1, step_w = 1;     ///< from tap to tap
    index_t phases_h = 1, phases_w = 1;
    const conv_phase* phases = nullptr; ///< [phases_h][phases_w]
    index_t n = 0, channels = 0, blocks = 1;
    index_t segment_bytes = 0;
    bool joined = false;     ///< a segment is a row of taps
    index_t joined_ends = 0; ///< for one phase only
    bool pairs_safe = false;
    const std::int8_t* data = nullptr;

    // The taps of all phases for output (0, 0) lie in rows first_h .. first_h + span_h - 1.
    index_t first_h = 0, first_w = 0, span_h = 1, span_w = 1;

    [[nodiscard]] index_t groups() const noexcept { return (segment_bytes + (joined_ends > 0 ? 0 : 3)) / 4; }
    [[nodiscard]] index_t phase_count() const noexcept { return phases_h * phases_w; }
    /// Offsets that a call needs: of all segments, and of the bytes that are joined.
    [[nodiscard]] index_t offset_count() const noexcept {
        index_t sum = 4 * joined_ends;
        for (index_t p = 0; p < phase_count(); ++p) sum += phases[p].segments;
        return sum;
    }
    /// Extends first and span over one more phase; call in any order, the first time with none = true.
    void cover(const conv_phase& p, bool none) noexcept {
        const auto extend = [none](index_t& first, index_t& span, index_t a, index_t taps, index_t step) {
            const index_t begin = none || a < first ? a : first, end = a + (taps - 1) * step + 1;
            const index_t before = none ? end : first + span;
            first = begin;
            span = (end > before ? end : before) - begin;
        };
        extend(first_h, span_h, p.first_h, p.taps_h, step_h);
        extend(first_w, span_w, p.first_w, p.taps_w, step_w);
    }
};

/// The one phase of an ordinary convolution, and what of its form the window says. The phase must outlive the form.
inline conv_phase window_phase(const window& s, index_t segments) {
    return {s.kernel_h, s.kernel_w, -s.pad_top, -s.pad_left, segments, 0};
}
inline conv_form window_form(const window& s, const conv_phase& phase) {
    conv_form f;
    f.stride_h = s.stride_h;
    f.stride_w = s.stride_w;
    f.step_h = s.dilation_h;
    f.step_w = s.dilation_w;
    f.phases = &phase;
    f.joined = phase.segments == s.kernel_h;
    f.cover(phase, true);
    return f;
}

/// The offsets of the segments of a phase from a pixel's first tap, line and pixel being those of the input; returns
/// where those of the next phase go.
inline index_t* segment_offsets(const conv_form& f, const conv_phase& phase, index_t line, index_t pixel,
                                index_t* offset) {
    for (index_t r = 0; r < phase.segments; ++r)
        *offset++ =
            f.joined ? r * f.step_h * line : r / phase.taps_w * f.step_h * line + r % phase.taps_w * f.step_w * pixel;
    return offset;
}

/// The target for the memory of a band: an eighth of the second-level cache, where it stays beside a block of weights;
/// or for short segments, with little work for each byte, half of the first.
inline index_t band_bytes(bool short_segments) { return short_segments ? cpu_caches().l1 / 2 : cpu_caches().l2 / 8; }

/// How the work on one input size is cut up; the same for the query of the workspace and the call.
struct conv_plan {
    index_t out_h = 0, out_w = 0; ///< of the first phase, which has the most
    index_t cols = 0;             ///< pixels of a row of the band
    index_t band_rows = 0;        ///< output rows of a phase at a time
    index_t copy_bytes = 0, ends_bytes = 0;
    index_t threads = 1;

    [[nodiscard]] index_t thread_bytes() const noexcept { return copy_bytes + ends_bytes; }
};

/// out_h, out_w: the output of the first phase.
inline conv_plan plan_conv(std::string_view where, const conv_form& f, index_t n, index_t out_h, index_t out_w,
                           const context& ctx) {
    conv_plan p;
    p.out_h = out_h;
    p.out_w = out_w;
    p.threads = ctx.executor.concurrency();
    if (n == 0 || out_h == 0 || out_w == 0) return p;
    p.cols = (out_w - 1) * f.stride_w + f.span_w;
    const index_t pitch = checked_product(where, p.cols, f.channels);
    if (pitch > (index_t{1} << 40) || f.span_h > (index_t{1} << 40) / pitch)
        fail(errc::overflow, cat(where, ": a row of ", p.cols, " pixels of ", f.channels, " channels is too large"));
    index_t rows = (band_bytes(f.joined_ends > 0) / pitch - f.span_h) / f.stride_h + 1;
    rows = rows < 1 ? 1 : rows > out_h ? out_h : rows;
    const index_t bands = (out_h + rows - 1) / rows;
    p.band_rows = (out_h + bands - 1) / bands;
    p.copy_bytes = round_up(((p.band_rows - 1) * f.stride_h + f.span_h) * pitch + 64, 64);
    if (f.joined_ends > 0) p.ends_bytes = round_up((p.band_rows * out_w + 8) * 4 * f.joined_ends, 64);
    return p;
}

inline index_t offsets_bytes(const conv_form& f) { return round_up(f.offset_count() * index_t{sizeof(index_t)}, 64); }

/// The workspace of a call that has to copy; pointwise convolutions read in place and need none.
inline index_t conv_bytes(std::string_view where, const conv_form& f, const conv_plan& p) {
    return workspace_bytes(offsets_bytes(f) + checked_product(where, p.thread_bytes(), p.threads));
}

/// n bytes, each with the bits of flip inverted.
inline void copy_bytes(std::uint8_t* to, const std::uint8_t* from, index_t n, std::uint8_t flip) {
    std::memcpy(to, from, static_cast<std::size_t>(n));
    if (flip == 0) return;
    const std::uint64_t mask = flip * 0x0101010101010101u;
    index_t i = 0;
    for (; i + 8 <= n; i += 8) {
        std::uint64_t v;
        std::memcpy(&v, to + i, 8);
        v ^= mask;
        std::memcpy(to + i, &v, 8);
    }
    for (; i < n; ++i) to[i] = static_cast<std::uint8_t>(to[i] ^ flip);
}

/// Rows first .. first + rows - 1 and columns first_col .. first_col + cols - 1 of an image, with
/// `outside` where the image ends.
inline void copy_band(nhwc_view<const std::uint8_t> in, index_t image, index_t first, index_t rows, index_t first_col,
                      index_t cols, std::uint8_t outside, std::uint8_t flip, std::uint8_t* out) {
    const index_t begin = first_col < 0 ? 0 : first_col, last = first_col + cols, end = last > in.w ? in.w : last;
    const index_t inner = end > begin ? end - begin : 0;
    const index_t left = inner == 0 ? cols : begin - first_col, right = cols - left - inner;
    const auto fill = [outside](std::uint8_t* to, index_t bytes) {
        std::memset(to, outside, static_cast<std::size_t>(bytes));
    };
    for (index_t r = first; r < first + rows; ++r, out += cols * in.c) {
        if (r < 0 || r >= in.h || inner == 0) {
            fill(out, cols * in.c);
            continue;
        }
        const std::uint8_t* from = in.data + image * in.stride_n + r * in.stride_h + begin * in.stride_w;
        std::uint8_t* to = out + left * in.c;
        fill(out, left * in.c);
        if (in.stride_w == in.c) {
            copy_bytes(to, from, inner * in.c, flip);
        } else {
            for (index_t x = 0; x < inner; ++x) copy_bytes(to + x * in.c, from + x * in.stride_w, in.c, flip);
        }
        fill(to + inner * in.c, right * in.c);
    }
    fill(out, 64); // slack for reads of whole groups
}

/// Four bytes at from[offset[0..3]] for each of count pixels, to a group of out each.
inline void collect_ends(const std::uint8_t* from, index_t pixel, index_t count, const index_t* offset,
                         std::uint8_t* out, index_t out_step) {
    const std::uint8_t* const p[4] = {from + offset[0], from + offset[1], from + offset[2], from + offset[3]};
    for (index_t i = 0, at = 0; i < count; ++i, at += pixel, out += out_step) {
        const std::uint32_t v = p[0][at] | static_cast<std::uint32_t>(p[1][at]) << 8 |
                                static_cast<std::uint32_t>(p[2][at]) << 16 | static_cast<std::uint32_t>(p[3][at]) << 24;
        out[0] = static_cast<std::uint8_t>(v);
        out[1] = static_cast<std::uint8_t>(v >> 8);
        out[2] = static_cast<std::uint8_t>(v >> 16);
        out[3] = static_cast<std::uint8_t>(v >> 24);
    }
}

} // namespace detail
NOTCH_KEYED_END
