// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/lowbit_conv.hpp: convolutions with weights of one and two bits, NHWC.
//
// As in kernels/conv.hpp an output row is a product whose rows lie stride_w pixels apart in the input,
// read in place; with padding a band of rows at a time is copied into the workspace, see kernels/conv_plan.hpp.
// A pixel of bits is packed_bits_size(channels) words (twice as many for ternary codes: the planes nonzero and
// negative).
#pragma once

#include <cstdint>
#include <type_traits>

#include <notch/core/view.hpp>
#include <notch/core/workspace.hpp>
#include <notch/kernels/conv_plan.hpp>
#include <notch/kernels/image.hpp>
#include <notch/kernels/lowbit.hpp>
#include <notch/kernels/split.hpp>

NOTCH_NAMESPACE_BEGIN

/// What binary activations, which have no code of 0, are outside the image.
enum class bit_padding {
    zero,      ///< taps outside add nothing: their weights are taken out again, exactly
    minus_one, ///< the code -1, as in networks that were trained so
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// The taps of one axis inside the image, for the output at position o: first and one past the last.
inline void inside_taps(index_t o, index_t stride, index_t pad, index_t dilation, index_t kernel, index_t extent,
                        index_t (&taps)[2]) {
    const index_t begin = o * stride - pad; // of tap 0
    taps[0] = begin >= 0 ? 0 : (-begin + dilation - 1) / dilation;
    const index_t room = extent - begin; // taps t with t * dilation < room
    taps[1] = room <= 0 ? 0 : (room + dilation - 1) / dilation;
    if (taps[1] > kernel) taps[1] = kernel;
    if (taps[0] > taps[1]) taps[0] = taps[1];
}

/// One output row: runs of pixels with the same taps inside the image.
inline void bits_row(const bits_args& g, const window& s, nhwc_view<const std::uint32_t> x, index_t out_y,
                     index_t out_w, index_t size, const lowbit_kernels& kernels) {
    if (!g.tap_sums) {
        kernels.gemm_bits(g);
        return;
    }
    bits_args run = g;
    inside_taps(out_y, s.stride_h, s.pad_top, s.dilation_h, s.kernel_h, x.h, run.tap_row);
    const bool rows_inside = run.tap_row[0] == 0 && run.tap_row[1] == s.kernel_h;
    for (index_t begin = 0; begin < out_w;) {
        inside_taps(begin, s.stride_w, s.pad_left, s.dilation_w, s.kernel_w, x.w, run.tap_col);
        index_t end = begin + 1;
        for (; end < out_w; ++end) {
            index_t next[2];
            inside_taps(end, s.stride_w, s.pad_left, s.dilation_w, s.kernel_w, x.w, next);
            if (next[0] != run.tap_col[0] || next[1] != run.tap_col[1]) break;
        }
        run.tap_sums = rows_inside && run.tap_col[0] == 0 && run.tap_col[1] == s.kernel_w ? nullptr : g.tap_sums;
        run.x = g.x + begin * g.ldx;
        run.c = static_cast<char*>(g.c) + begin * g.ldc * size;
        run.row = g.row + begin;
        run.m = end - begin;
        kernels.gemm_bits(run);
        begin = end;
    }
}

/// How a convolution is cut up, for pixels of so many bytes.
struct lowbit_plan {
    conv_phase phase;
    conv_form form;
    conv_plan plan;

    lowbit_plan(std::string_view where, const window& s, index_t segments, index_t n, index_t h, index_t w,
                index_t pixel, const context& ctx)
        : phase(window_phase(s, segments)), form(window_form(s, phase)) {
        for (index_t e : {n, h, w}) check_extent(where, "extent", e);
        if (pixel == 0) fail(errc::invalid_argument, cat(where, ": the weights were packed for a matrix"));
        (void)pad_shape(where, s, h, w, pixel); // refuses what overflows
        form.channels = pixel;
        plan = plan_conv(where, form, n, s.out_h(h), s.out_w(w), ctx);
    }
    lowbit_plan(const lowbit_plan&) = delete; // form points at phase
    lowbit_plan& operator=(const lowbit_plan&) = delete;
};

/// Runs body(image, first, rows, first tap of row `first`) for bands of output rows that cover all images, on the
/// threads of the plan. x: pixels as bytes; memory: thread_bytes() for each thread, for the copies of bands.
template <class Body>
void for_bands(const conv_form& f, const conv_plan& p, const nhwc_view<const std::uint8_t>& x, std::uint8_t outside,
               bool in_place, std::uint8_t* memory, const executor_ref& executor, const Body& body) {
    const index_t total = x.n * p.out_h;
    parallel(executor, p.threads, [&](index_t t) {
        const index_t end = total * (t + 1) / p.threads;
        std::uint8_t* const copy = memory + t * p.thread_bytes();
        for (index_t row = total * t / p.threads; row < end;) {
            const index_t image = row / p.out_h, j = row % p.out_h;
            index_t rows = p.out_h - j < end - row ? p.out_h - j : end - row;
            if (rows > p.band_rows) rows = p.band_rows;
            const index_t first = j * f.stride_h + f.first_h;
            if (in_place) {
                body(image, j, rows, x.data + image * x.stride_n + first * x.stride_h);
            } else {
                copy_band(x, image, first, (rows - 1) * f.stride_h + f.span_h, f.first_w, p.cols, outside, 0, copy);
                body(image, j, rows, static_cast<const std::uint8_t*>(copy));
            }
            row += rows;
        }
    });
}

} // namespace detail

/// Bytes of workspace that conv2d_bits needs for inputs of this shape.
[[nodiscard]] inline index_t conv2d_bits_workspace_size(const packed_bits& w, bit_codes codes, index_t n, index_t h,
                                                        index_t width, const context& ctx = {}) {
    constexpr const char* where = "conv2d_bits_workspace_size";
    const index_t pixel = packed_bits_size(w.channels) * (codes == bit_codes::ternary ? 2 : 1) * 4;
    const detail::lowbit_plan p(where, w.geometry, w.segments, n, h, width, pixel, ctx);
    return detail::conv_bytes(where, p.form, p.plan);
}

/// Convolution of binary or ternary activations, by the definition of ref::signed_conv2d.
/// x: n x h x w pixels of words (x.c of them, see above); y: n x out_h x out_w x N (its stride_w may exceed
/// N); w from pack_binary_conv2d or pack_ternary_conv2d; the epilogue was made for it with x.zero_point 0.
/// Bits beyond the channels are ignored. Ternary activations need ternary weights, and are 0 outside the
/// image. The workspace: conv2d_bits_workspace_size.
template <class Out, class F, class Y>
void conv2d_bits(nhwc_view<const std::uint32_t> x, bit_codes codes, const packed_bits& w, const epilogue<Out, F>& ep,
                 nhwc_view<Y> y, bit_padding padding = bit_padding::zero, const context& ctx = {}) {
    static_assert(std::is_same_v<Y, Out>,
                  "notch::conv2d_bits: the element type of y must be what the epilogue produces");
    constexpr const char* where = "conv2d_bits";
    const window& s = w.geometry;
    const bool ternary = codes == bit_codes::ternary;
    if (w.channels == 0)
        fail(errc::invalid_argument,
             "conv2d_bits: w was packed for a matrix; use pack_binary_conv2d or pack_ternary_conv2d");
    if (ternary && !w.ternary)
        fail(errc::invalid_argument, "conv2d_bits: ternary activations need weights from pack_ternary_conv2d");
    if (ternary && padding != bit_padding::zero)
        fail(errc::invalid_argument, "conv2d_bits: ternary activations are padded with 0");
    detail::check_windows(where, x, s, y);
    detail::check_equal(where, "the number of channels (words) of x", x.c,
                        packed_bits_size(w.channels) * (ternary ? 2 : 1));
    detail::check_equal(where, "the number of channels of y", y.c, w.n);
    bits_args g = detail::make_bits_args(where, w, ep);
    if (y.n == 0 || y.h == 0 || y.w == 0 || y.c == 0) return;
    const lowbit_kernels& kernels = detail::kernels_for(detail::lowbit_tables, ctx.target);
    g.x_ternary = ternary;
    if (detail::is_pointwise(s) && x.is_dense() && y.is_dense()) {
        const index_t whole = 0;
        g.x = x.data;
        g.ldx = x.c;
        g.m = x.n * x.h * x.w;
        g.segment = &whole;
        g.c = y.data;
        g.ldc = y.c;
        detail::run_lowbit(g, kernels.gemm_bits, sizeof(Out), ctx);
        return;
    }
    const index_t taps = s.kernel_h * s.kernel_w;
    // Kernel rows that are one segment need pixels without gaps.
    const bool in_place = !detail::has_padding(s) && (w.segments == taps || x.stride_w == x.c);
    const detail::lowbit_plan p(where, s, w.segments, x.n, x.h, x.w, x.c * 4, ctx);
    std::byte* base = detail::workspace_begin(where, "conv2d_bits_workspace_size", ctx.workspace,
                                              detail::conv_bytes(where, p.form, p.plan));
    auto* offset = reinterpret_cast<index_t*>(base);
    auto* memory = reinterpret_cast<std::uint8_t*>(base) + detail::offsets_bytes(p.form);
    const index_t pixel = in_place ? x.stride_w : x.c, line = in_place ? x.stride_h : p.plan.cols * x.c; // words
    detail::segment_offsets(p.form, p.phase, line, pixel, offset);
    g.segment = offset;
    g.ldx = s.stride_w * pixel;
    g.m = y.w;
    g.ldc = y.stride_w;
    if (!ternary && padding == bit_padding::zero && detail::has_padding(s)) {
        g.tap_sums = w.tap_sums.data();
        g.tap_stride = w.tap_sums.size() / taps;
        g.kernel_h = s.kernel_h;
        g.kernel_w = s.kernel_w;
    }
    constexpr index_t size = sizeof(Out);
    const auto band = [&](index_t image, index_t first, index_t rows, const std::uint8_t* from) {
        for (index_t r = first; r < first + rows; ++r) {
            bits_args row = g;
            row.x = reinterpret_cast<const std::uint32_t*>(from) + (r - first) * s.stride_h * line;
            row.c = reinterpret_cast<std::uint8_t*>(y.data) + (image * y.stride_n + r * y.stride_h) * size;
            row.row = (image * y.h + r) * y.w;
            detail::bits_row(row, s, x, r, y.w, size, kernels);
        }
    };
    // The words as bytes, for the copy. Without pixels the strides are anything, and not used.
    if (x.h == 0 || x.w == 0) x = {x.data, x.n, x.h, x.w, x.c};
    const nhwc_view<const std::uint8_t> bytes(reinterpret_cast<const std::uint8_t*>(x.data), x.n, x.h, x.w, x.c * 4,
                                              x.stride_n * 4, x.stride_h * 4, x.stride_w * 4);
    detail::for_bands(p.form, p.plan, bytes, 0, in_place, memory, ctx.executor, band);
}

/// Bytes of workspace that conv2d_int2 needs for inputs of this shape.
[[nodiscard]] inline index_t conv2d_int2_workspace_size(const packed_int2& w, index_t n, index_t h, index_t width,
                                                        const context& ctx = {}) {
    constexpr const char* where = "conv2d_int2_workspace_size";
    const detail::lowbit_plan p(where, w.geometry, w.segments, n, h, width, w.channels, ctx);
    return detail::conv_bytes(where, p.form, p.plan);
}

/// Convolution of u8 codes with 2-bit weights, by the definition of ref::conv2d; padding means real 0.
/// x: n x h x w x channels; y: n x out_h x out_w x N (its stride_w may exceed N); w from pack_int2_conv2d;
/// the epilogue was made for it and holds x's zero_point. The workspace: conv2d_int2_workspace_size.
template <class Out, class F, class Y>
void conv2d_int2(nhwc_view<const std::uint8_t> x, const packed_int2& w, const epilogue<Out, F>& ep, nhwc_view<Y> y,
                 const context& ctx = {}) {
    static_assert(std::is_same_v<Y, Out>,
                  "notch::conv2d_int2: the element type of y must be what the epilogue produces");
    constexpr const char* where = "conv2d_int2";
    const window& s = w.geometry;
    if (w.channels == 0) fail(errc::invalid_argument, "conv2d_int2: w was packed for a matrix; use pack_int2_conv2d");
    detail::check_conv(where, x, s, w.channels, w.n, ep.outputs, y);
    int2_args g = detail::make_int2_args(where, w, ep);
    if (y.n == 0 || y.h == 0 || y.w == 0 || y.c == 0) return;
    const lowbit_kernels& kernels = detail::kernels_for(detail::lowbit_tables, ctx.target);
    if (detail::is_pointwise(s) && x.is_dense() && y.is_dense()) {
        const index_t whole = 0;
        g.x = x.data;
        g.ldx = x.c;
        g.m = x.n * x.h * x.w;
        g.segment = &whole;
        g.c = y.data;
        g.ldc = y.c;
        detail::run_lowbit(g, kernels.gemm_int2, sizeof(Out), ctx);
        return;
    }
    // Kernel rows that are one segment need pixels without gaps.
    const bool in_place = !detail::has_padding(s) && (w.segments == s.kernel_h * s.kernel_w || x.stride_w == x.c);
    const detail::lowbit_plan p(where, s, w.segments, x.n, x.h, x.w, x.c, ctx);
    std::byte* base = detail::workspace_begin(where, "conv2d_int2_workspace_size", ctx.workspace,
                                              detail::conv_bytes(where, p.form, p.plan));
    auto* offset = reinterpret_cast<index_t*>(base);
    auto* memory = reinterpret_cast<std::uint8_t*>(base) + detail::offsets_bytes(p.form);
    const index_t pixel = in_place ? x.stride_w : x.c, line = in_place ? x.stride_h : p.plan.cols * x.c;
    detail::segment_offsets(p.form, p.phase, line, pixel, offset);
    g.segment = offset;
    g.ldx = s.stride_w * pixel;
    g.m = y.w;
    g.ldc = y.stride_w;
    if (!in_place) { // the copy has slack, so whole blocks can be read: weights are 0 there
        g.blocks = w.blocks();
        g.tail = 0;
    }
    constexpr index_t size = sizeof(Out);
    const auto band = [&](index_t image, index_t first, index_t rows, const std::uint8_t* from) {
        for (index_t r = first; r < first + rows; ++r) {
            int2_args row = g;
            row.x = from + (r - first) * s.stride_h * line;
            row.c = reinterpret_cast<std::uint8_t*>(y.data) + (image * y.stride_n + r * y.stride_h) * size;
            row.row = (image * y.h + r) * y.w;
            kernels.gemm_int2(row);
        }
    };
    detail::for_bands(p.form, p.plan, x, static_cast<std::uint8_t>(ep.x_zero_point), in_place, memory, ctx.executor,
                      band);
}

NOTCH_KEYED_END
