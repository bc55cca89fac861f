// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/conv_rects.hpp: which outputs of a convolution see taps in the padding. If padding is zero, these
// taps add nothing and are left out: on a 7 x 7 image a fifth of all products of a 3 x 3 window.
//
//     3 x 3 window, padding 1:     1 2 2 2 3      1: the 2 x 2 taps below and right
//                                  4 5 5 5 6      2: two rows of taps
//                                  4 5 5 5 6      5: all
//                                  7 8 8 8 9
//
// Outputs with the same taps are a rectangle. Tiles of outputs do not cross its borders, so splitting pays only where
// few tiles are left part empty; that is estimated. Where tiles fill an image row (conv_rect::tap), only rows are told
// apart, and the first and last tile of each leave out the taps beside the image.
#pragma once

#include <notch/kernels/conv_plan.hpp>
#include <notch/kernels/conv_tile.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// Outputs begin .. end - 1 along one axis, which see taps first .. first + count - 1 inside of the image.
struct tap_class {
    index_t begin = 0, end = 0, first = 0, count = 0;
};
inline constexpr index_t max_classes = 5, max_rects = max_classes * max_classes;

/// The classes of n outputs, output i with tap t at pixel at + i * stride + t * step of `in` pixels; 0 if there are
/// more than max_classes.
inline index_t tap_classes(index_t n, index_t at, index_t stride, index_t taps, index_t step, index_t in,
                           tap_class (&out)[max_classes]) {
    index_t classes = 0;
    for (index_t i = 0; i < n; ++i, at += stride) {
        const auto below = [&](index_t pixels) { // the taps before this many pixels
            const index_t t = pixels <= 0 ? 0 : (pixels + step - 1) / step;
            return t < taps ? t : taps;
        };
        const index_t first = below(-at), end = below(in - at), count = end > first ? end - first : 0;
        if (classes > 0 && out[classes - 1].first == first && out[classes - 1].count == count) {
            ++out[classes - 1].end;
            continue;
        }
        if (classes == max_classes) return 0;
        out[classes++] = {i, i + 1, first, count};
    }
    return classes;
}

/// What the products of `pixels` outputs cost, in vectors of products for a panel: whole and short tiles, which cost
/// something by themselves.
inline index_t rect_cost(const conv_kernels& k, index_t pixels, index_t groups) {
    const index_t rest = pixels % k.tile, few = k.short_tile;
    const bool is_whole = rest > 2 * few;
    const index_t tiles = pixels / k.tile + is_whole, short_tiles = is_whole ? 0 : (rest + few - 1) / few;
    return (tiles * k.tile + short_tiles * few) * (groups + 2) + (tiles + short_tiles) * 8;
}

/// The rectangles of the outputs of a band, height x run, whose first tap row is input row `top`; 0 if the convolution
/// cannot leave out taps, or if that would not pay.
inline index_t split_rects(const conv_kernels& kernels, const conv_form& f, const conv_phase& phase, index_t in_h,
                           index_t in_w, index_t top, index_t height, index_t run, conv_rect* rects) {
    // Segments of rows of taps, which begin at whole groups of four.
    if (!f.joined || f.joined_ends > 0 || f.blocks > 1 || f.channels % 4 != 0) return 0;
    tap_class rows[max_classes], cols[max_classes];
    const index_t row_classes = tap_classes(height, top, f.stride_h, phase.taps_h, f.step_h, in_h, rows);
    const index_t col_classes = tap_classes(run, phase.first_w, f.stride_w, phase.taps_w, f.step_w, in_w, cols);
    if (row_classes == 0) return 0;
    const index_t tap = f.channels / 4, width = phase.taps_w * tap;
    if (col_classes > 0 && kernels.lines && run % 7 == 0 && phase.taps_w == 3) {
        const tap_class &first = cols[0], &last = cols[col_classes - 1];
        const bool left = first.end == 1 && first.first == 1 && first.count == 2;
        const bool right = last.begin == run - 1 && last.first == 0 && last.count == 2;
        if ((left || right) && col_classes == 1 + left + right && cols[left].count == 3) {
            for (index_t r = 0; r < row_classes; ++r)
                rects[r] = {rows[r].begin,
                            rows[r].end - rows[r].begin,
                            0,
                            run,
                            rows[r].first,
                            rows[r].count,
                            0,
                            width,
                            0,
                            tap,
                            left,
                            right};
            return row_classes;
        }
    }
    index_t count = 0, cost = 0;
    for (index_t r = 0; r < row_classes; ++r) {
        const tap_class& row = rows[r];
        const index_t n = row.end - row.begin, whole = rect_cost(kernels, n * run, row.count * width);
        index_t split = 0;
        for (index_t k = 0; k < col_classes; ++k)
            split += rect_cost(kernels, n * (cols[k].end - cols[k].begin), row.count * cols[k].count * tap);
        if (col_classes == 0 || whole <= split) {
            rects[count++] = {row.begin, n, 0, run, row.first, row.count, 0, width};
            cost += whole;
            continue;
        }
        for (index_t k = 0; k < col_classes; ++k) {
            const tap_class& col = cols[k];
            rects[count++] = {row.begin,
                              n,
                              col.begin,
                              col.end - col.begin,
                              row.first,
                              row.count,
                              col.first * f.channels,
                              col.count * tap,
                              width - col.count * tap};
        }
        cost += split;
    }
    return cost < rect_cost(kernels, height * run, phase.taps_h * width) ? count : 0;
}

} // namespace detail
NOTCH_KEYED_END
