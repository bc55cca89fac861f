// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/conv_band.hpp: the walk of convolutions of every kind over their images, band by band, as
// kernels/conv_plan.hpp describes it. For users: kernels/conv.hpp, conv1d.hpp and conv_transposed.hpp.
#pragma once

#include <cstdint>

#include <notch/core/view.hpp>
#include <notch/kernels/conv_plan.hpp>
#include <notch/kernels/conv_rects.hpp>
#include <notch/kernels/conv_tile.hpp>
#include <notch/kernels/epilogue.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/kernels/image.hpp>
#include <notch/kernels/pack.hpp>
#include <notch/kernels/split.hpp>
#include <notch/kernels/table.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// One call: a form, its plan and its images.
struct conv_call {
    const conv_form& f;
    const conv_plan& p;
    nhwc_view<const std::uint8_t> x;
    std::uint8_t outside = 0, flip = 0;
    epilogue_args ep;
    const std::int32_t* phase_bias = nullptr; ///< for each phase bias_stride values; if there are several phases
    index_t bias_stride = 0;
    nhwc_view<std::uint8_t> y; ///< strides in elements, data as bytes
    isa target{};
    index_t* offsets = nullptr;     ///< [phase][segment], then of the joined ends
    std::uint8_t* memory = nullptr; ///< thread_bytes() for each thread
    bool in_place = false, by_columns = false;
    index_t size = 1; ///< bytes of an output element

    conv_call(const conv_form& form, const conv_plan& plan, nhwc_view<const std::uint8_t> in)
        : f(form), p(plan), x(in) {}

    /// What threads share when they split the outputs: blocks, or 64 columns.
    [[nodiscard]] index_t column_units() const noexcept { return f.blocks > 1 ? f.blocks : (f.n + 63) / 64; }
};

/// An image whose elements are counted as T's, but addressed as bytes.
template <class T> nhwc_view<std::uint8_t> as_bytes(const nhwc_view<T>& v) {
    return {reinterpret_cast<std::uint8_t*>(v.data), v.n, v.h, v.w, v.c, v.stride_n, v.stride_h, v.stride_w};
}

/// Whether the bytes of every segment can be read where they are.
inline bool reads_in_place(const conv_call& c) {
    const conv_form& f = c.f;
    const bool inside = f.first_h >= 0 && (c.p.out_h - 1) * f.stride_h + f.first_h + f.span_h <= c.x.h &&
                        f.first_w >= 0 && (c.p.out_w - 1) * f.stride_w + f.first_w + f.span_w <= c.x.w;
    if (!inside || c.flip != 0) return false;
    if (f.joined && f.span_w > 1 && c.x.stride_w != c.x.c) return false;
    // Short ends of segments cost more than a copy.
    return (f.span_h == 1 && f.span_w == 1) || f.joined_ends > 0 || f.segment_bytes % 4 == 0 || f.segment_bytes >= 32;
}

/// Collects the ends of the segments of all pixels of a band.
inline void collect_band_ends(const conv_form& f, conv_args& a, std::uint8_t* out) {
    const gemm_args& g = a.product;
    a.ends = out;
    for (index_t m = 0; m < g.m; m += a.run)
        for (index_t e = 0; e < f.joined_ends; ++e)
            collect_ends(g.a + m / a.run * a.in_line, g.lda, a.run, g.segment + g.segments + 4 * e,
                         out + (m * f.joined_ends + e) * 4, 4 * f.joined_ends);
}

/// Output columns [column, column + n) of block b of one phase.
inline void phase_product(const conv_call& c, conv_args a, const conv_phase& phase, index_t b, index_t column,
                          index_t n) {
    const conv_form& f = c.f;
    const index_t block_n = f.n / f.blocks, channel = b * block_n + column;
    gemm_args& g = a.product;
    g.panel_stride = (phase.segments * f.groups() + f.joined_ends) * 64;
    g.b =
        f.data + phase.data + (b * ((block_n + panel_width - 1) / panel_width) + column / panel_width) * g.panel_stride;
    g.a += b * (f.channels / f.blocks);
    g.n = n;
    g.c = static_cast<std::uint8_t*>(g.c) + channel * c.size;
    g.col = channel;
    from_channel(g.ep, channel);
    kernels_for(conv_tables, c.target).conv_u8s8(a);
}

/// Rows j .. j + rows - 1 of every phase of an image, for the column units [unit, last_unit).
inline void band_product(const conv_call& c, index_t image, index_t j, index_t rows, index_t unit, index_t last_unit,
                         const std::uint8_t* first_tap, index_t line, index_t pixel, std::uint8_t* ends) {
    const conv_form& f = c.f;
    const index_t phases = f.phase_count(), block_n = f.n / f.blocks;
    const index_t column = f.blocks > 1 ? 0 : 64 * unit;
    const index_t columns = f.blocks > 1 ? block_n : (64 * last_unit < f.n ? 64 * last_unit : f.n) - column;
    const index_t* offsets = c.offsets;
    for (index_t p = 0; p < phases; offsets += f.phases[p++].segments) {
        const conv_phase& phase = f.phases[p];
        const index_t ph = p / f.phases_w, pw = p % f.phases_w;
        conv_args a;
        a.run = (c.y.w - pw + f.phases_w - 1) / f.phases_w;
        const index_t below = (c.y.h - ph + f.phases_h - 1) / f.phases_h - j, height = rows < below ? rows : below;
        if (a.run <= 0 || height <= 0) continue;
        gemm_args& g = a.product;
        g.a = first_tap;
        if (phase.segments > 0) g.a += (phase.first_h - f.first_h) * line + (phase.first_w - f.first_w) * pixel;
        g.lda = f.stride_w * pixel;
        g.m = a.run * height;
        g.segment = offsets;
        g.segments = phase.segments;
        g.k4 = c.in_place ? f.segment_bytes / 4 : f.groups();
        g.tail = c.in_place && f.joined_ends == 0 ? f.segment_bytes % 4 : 0;
        g.pairs_safe = f.pairs_safe;
        g.ep = c.ep;
        g.c = c.y.data + (image * c.y.stride_n + (j * f.phases_h + ph) * c.y.stride_h + pw * c.y.stride_w) * c.size;
        g.ldc = c.y.stride_w * f.phases_w;
        g.row = (image * c.y.h + j) * c.y.w;
        a.in_line = f.stride_h * line;
        a.out_line = c.y.stride_h * f.phases_h;
        if (phases > 1) {
            g.ep.bias = c.phase_bias + p * c.bias_stride;
            g.ep.on_tile = nullptr; // below, for whole rows
        }
        a.end_groups = f.joined_ends;
        a.joins_ends = f.joined_ends > 0 && kernels_for(conv_tables, c.target).joins_ends(a, columns);
        if (f.joined_ends > 0 && !a.joins_ends) collect_band_ends(f, a, ends);
        conv_rect rects[max_rects];
        a.rects = rects;
        // Taps in a padding of zeros add nothing.
        a.rect_count = c.outside == 0 && !c.in_place
                           ? split_rects(kernels_for(conv_tables, c.target), f, phase, c.x.h, c.x.w,
                                         j * f.stride_h + phase.first_h, height, a.run, rects)
                           : 0;
        if (a.rect_count == 0) rects[a.rect_count++] = {0, height, 0, a.run, 0, g.segments, 0, g.k4, 0, 0};
        if (f.blocks == 1)
            phase_product(c, a, phase, 0, column, columns);
        else
            for (index_t b = unit; b < last_unit; ++b) phase_product(c, a, phase, b, 0, block_n);
    }
    if (phases == 1 || !c.ep.on_tile) return;
    const index_t first = f.blocks > 1 ? unit * block_n : column;
    const index_t width = f.blocks > 1 ? (last_unit - unit) * block_n : columns;
    for (index_t r = j * f.phases_h; r < (j + rows) * f.phases_h && r < c.y.h; ++r)
        c.ep.on_tile(c.ep.context, {c.y.data + (image * c.y.stride_n + r * c.y.stride_h + first) * c.size,
                                    (image * c.y.h + r) * c.y.w, first, c.y.w, width, c.y.stride_w});
}

/// Task t of p.threads.
inline void conv_task(const conv_call& c, index_t t) {
    const conv_form& f = c.f;
    const conv_plan& p = c.p;
    const index_t total = c.x.n * p.out_h, units = c.column_units();
    const index_t begin = c.by_columns ? 0 : total * t / p.threads,
                  end = c.by_columns ? total : total * (t + 1) / p.threads;
    const index_t unit = c.by_columns ? units * t / p.threads : 0;
    const index_t last_unit = c.by_columns ? units * (t + 1) / p.threads : units;
    if (unit == last_unit) return;
    std::uint8_t* const copy = c.memory ? c.memory + t * p.thread_bytes() : nullptr; // then the ends
    for (index_t row = begin; row < end;) {
        const index_t image = row / p.out_h, j = row % p.out_h;
        index_t rows = p.out_h - j < end - row ? p.out_h - j : end - row;
        if (rows > p.band_rows) rows = p.band_rows;
        const index_t first = j * f.stride_h + f.first_h;
        if (c.in_place) {
            band_product(c, image, j, rows, unit, last_unit,
                         c.x.data + image * c.x.stride_n + first * c.x.stride_h + f.first_w * c.x.stride_w,
                         c.x.stride_h, c.x.stride_w, c.memory ? copy + p.copy_bytes : nullptr);
        } else {
            copy_band(c.x, image, first, (rows - 1) * f.stride_h + f.span_h, f.first_w, p.cols, c.outside, c.flip,
                      copy);
            band_product(c, image, j, rows, unit, last_unit, copy, p.cols * c.x.c, c.x.c, copy + p.copy_bytes);
        }
        row += rows;
    }
}

/// Sets the offsets and runs all tasks. c.offsets has room for f.offset_count() of them.
inline void run_conv(conv_call& c, const context& ctx) {
    const conv_form& f = c.f;
    const index_t line = c.in_place ? c.x.stride_h : c.p.cols * c.x.c, pixel = c.in_place ? c.x.stride_w : c.x.c;
    index_t* offset = c.offsets;
    for (index_t p = 0; p < f.phase_count(); ++p) offset = segment_offsets(f, f.phases[p], line, pixel, offset);
    const index_t end = f.segment_bytes % 4;
    for (index_t i = 0; i < 4 * f.joined_ends; ++i) { // behind the last one any byte will do, its weight is 0
        const index_t j = i < f.phases->segments * end ? i : 0;
        *offset++ = c.offsets[j / end] + f.segment_bytes - end + j % end;
    }
    // Threads share the rows; or the outputs, if that divides them much more evenly.
    const index_t t = c.p.threads, total = c.x.n * c.p.out_h, units = c.column_units();
    const auto share = [t](index_t n) { return static_cast<double>(n) / static_cast<double>((n + t - 1) / t * t); };
    c.by_columns = share(units) > share(total) + 0.05;
    parallel(ctx.executor, t, [&](index_t i) { conv_task(c, i); });
}

} // namespace detail
NOTCH_KEYED_END
