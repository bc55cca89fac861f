// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/conv_transposed.hpp: transposed convolution (the gradient of a convolution, "deconvolution"),
// NHWC:
//
//     y[n][oy][ox][o] = epilogue( sum over ky, kx, c of (x[n][iy][ix][c] - x_zero_point) * w[o][ky][kx][c] )
//         over the taps with  iy * stride_h = oy + pad_top - ky * dilation_h,  0 <= iy < x.h, and ix likewise
//     out_h = (x.h - 1) * stride_h - pad_top - pad_bottom + dilation_h * (kernel_h - 1) + 1 + output_pad_h
//
// (Dumoulin, Visin 2016, arXiv:1603.07285, chapter 4.) No zeros are inserted. The outputs with the same
// oy % stride_h and ox % stride_w, a phase, see the same taps: an ordinary convolution of stride 1 with some
// of the weights. Two taps of a phase are lcm(stride, dilation) / dilation apart in the window and
// lcm(stride, dilation) / stride in the input:
//
//     kernel 4, stride 2, no padding     phase 0: y[0] y[2] y[4] ...  taps 2, 0 at x[j - 1], x[j]
//                                        phase 1: y[1] y[3] y[5] ...  taps 3, 1 at x[j - 1], x[j]
//
// A phase may have no tap (kernel < stride): its outputs are those of the bias.
#pragma once

#include <cstdint>
#include <numeric>
#include <type_traits>

#include <notch/core/shape.hpp>
#include <notch/kernels/conv_band.hpp>
#include <notch/kernels/conv_plan.hpp>
#include <notch/kernels/epilogue.hpp>
#include <notch/kernels/pack_conv.hpp>

NOTCH_NAMESPACE_BEGIN

/// A window as the transposed convolution means it, and what is added to the output below and on the
/// right (0 ... stride - 1: the sizes that a convolution of this window would not tell apart).
struct transposed_window {
    window geometry;
    index_t output_pad_h = 0, output_pad_w = 0;

    NOTCH_INLINE friend constexpr bool operator==(const transposed_window&, const transposed_window&) = default;

    /// Rows of the output for in rows; 0 if the paddings leave none, if a member that it depends on is invalid, or if
    /// in is not 1..2^40.
    [[nodiscard]] NOTCH_INLINE constexpr index_t out_h(index_t in) const noexcept {
        const window& s = geometry;
        return outputs(in, s.pad_top, s.pad_bottom, s.kernel_h, s.stride_h, s.dilation_h, output_pad_h);
    }
    /// The same for in columns.
    [[nodiscard]] NOTCH_INLINE constexpr index_t out_w(index_t in) const noexcept {
        const window& s = geometry;
        return outputs(in, s.pad_left, s.pad_right, s.kernel_w, s.stride_w, s.dilation_w, output_pad_w);
    }

private:
    NOTCH_INLINE static constexpr index_t outputs(index_t in, index_t before, index_t after, index_t kernel,
                                                  index_t stride, index_t dilation, index_t more) noexcept {
        if (in < 1 || !window::axis_is_valid(in, before, after, kernel, stride, dilation) || more < 0 || more >= stride)
            return 0;
        const index_t n = (in - 1) * stride - before - after + dilation * (kernel - 1) + 1 + more;
        return n < 0 ? 0 : n;
    }
};

/// Packed weights of a transposed convolution: the phases one after the other, each in the layout of
/// kernels/pack_conv.hpp. Immutable after packing; safe to share between threads.
struct packed_transposed {
    index_t n = 0; ///< output channels
    index_t channels = 0;
    index_t blocks = 1;
    transposed_window shape;
    index_t segment_bytes = 0;
    index_t step_h = 1, step_w = 1; ///< input pixels between two taps of a phase
    bool joined = false;            ///< a segment is a row of taps
    bool pairs_safe = false;
    buffer<conv_phase> phases; ///< [stride_h][stride_w]
    buffer<std::int8_t> data;
    weight_sums sums; ///< over all phases: bounds for each of them, since a tap may always see the zero point
    buffer<std::int32_t> phase_sums; ///< [phase][n]: for the folded bias

    NOTCH_INLINE_SPECIAL_MEMBERS(packed_transposed);
    [[nodiscard]] NOTCH_INLINE index_t outputs() const noexcept { return n; }
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// One dimension of a phase: its taps are last, last - apart, ... in the window, in the order of the input.
struct phase_taps {
    index_t taps = 0, first = 0; ///< first: the input position of the first one for output 0 of the phase
    index_t last = 0, apart = 1, step = 1;
};
inline phase_taps taps_of_phase(index_t phase, index_t kernel, index_t stride, index_t dilation, index_t pad) {
    phase_taps p;
    const index_t common = std::gcd(stride, dilation);
    p.apart = stride / common;
    p.step = dilation / common;
    for (index_t k = 0; k < kernel; ++k)
        if ((phase + pad - k * dilation) % stride == 0) {
            ++p.taps;
            p.last = k;
            p.first = (phase + pad - k * dilation) / stride;
        }
    return p;
}

inline void check_transposed_window(std::string_view where, const transposed_window& s) {
    check_window(where, s.geometry);
    const auto check = [&](const char* name, index_t pad, index_t stride) {
        if (pad < 0 || pad >= stride)
            fail(errc::invalid_argument, cat(where, ": ", name, " is ", pad, ", must be 0..stride - 1 = ", stride - 1));
    };
    check("output_pad_h", s.output_pad_h, s.geometry.stride_h);
    check("output_pad_w", s.output_pad_w, s.geometry.stride_w);
    if (checked_product(where, s.geometry.stride_h, s.geometry.stride_w) > max_window)
        fail(errc::invalid_argument,
             cat(where, ": ", s.geometry.stride_h, " x ", s.geometry.stride_w, " phases are too many"));
}

/// The weights were packed and not moved from since; then there are channels and at least one phase.
inline void check_transposed_weights(std::string_view where, const packed_transposed& w) {
    if (w.phases.empty() || w.channels < 1)
        fail(errc::invalid_argument, cat(where, ": the packed weights are empty or were moved from"));
}

inline conv_form conv_form_of(const packed_transposed& w) {
    conv_form f;
    f.step_h = w.step_h;
    f.step_w = w.step_w;
    f.phases_h = w.shape.geometry.stride_h;
    f.phases_w = w.shape.geometry.stride_w;
    f.phases = w.phases.data();
    f.n = w.n;
    f.channels = w.channels;
    f.blocks = w.blocks;
    f.segment_bytes = w.segment_bytes;
    f.joined = w.joined;
    f.pairs_safe = w.pairs_safe;
    f.data = w.data.data();
    bool none = true;
    for (const conv_phase& p : w.phases)
        if (p.segments > 0) {
            f.cover(p, none);
            none = false;
        }
    return f;
}
/// The folded biases of the phases, padded so that whole panels can be read from any channel on.
inline index_t phase_bias_stride(const packed_transposed& w) { return round_up(w.n + 2 * panel_width, panel_width); }
inline index_t phase_bias_bytes(const packed_transposed& w) {
    return round_up(w.phases.size() * phase_bias_stride(w) * index_t{sizeof(std::int32_t)}, 64);
}
inline conv_plan plan_transposed(std::string_view where, const conv_form& f, const packed_transposed& w, index_t n,
                                 index_t h, index_t width, const context& ctx) {
    for (index_t e : {h, width})
        if (e > max_extent) fail(errc::overflow, cat(where, ": an image of ", h, " x ", width, " is too large"));
    return plan_conv(where, f, n, (w.shape.out_h(h) + f.phases_h - 1) / f.phases_h,
                     (w.shape.out_w(width) + f.phases_w - 1) / f.phases_w, ctx);
}

} // namespace detail

/// Packs the weights of a transposed convolution: w is dense [out][kernel_h][kernel_w][channels / groups] (PyTorch's
/// [channels][out / groups][kernel_h][kernel_w] with the axes moved).
[[nodiscard]] inline packed_transposed pack_conv2d_transposed(std::span<const std::int8_t> w, index_t out,
                                                              index_t channels, const transposed_window& shape,
                                                              index_t groups = 1) {
    constexpr const char* where = "pack_conv2d_transposed";
    detail::check_transposed_window(where, shape);
    const window& s = shape.geometry;
    const auto e = detail::check_conv_weights(where, w, out, channels, s, groups);
    packed_transposed p;
    p.n = out;
    p.channels = channels;
    p.shape = shape;
    const index_t group_outputs = out / groups, joined = detail::joined_groups(groups, group_outputs, e.k);
    p.blocks = groups / joined;
    const index_t block_channels = e.group_channels * joined, block_n = group_outputs * joined;
    const index_t panels = (block_n + panel_width - 1) / panel_width, phases = s.stride_h * s.stride_w;
    p.phases = buffer<conv_phase>(phases);
    p.phase_sums = buffer<std::int32_t>(detail::checked_product(where, phases, out));
    p.sums = detail::sum_rows(matrix_view<const std::int8_t>(w.data(), out, e.k));
    // A row of taps is one segment if all phases have equally many, side by side.
    const index_t common_w = std::gcd(s.stride_w, s.dilation_w);
    p.step_h = s.dilation_h / std::gcd(s.stride_h, s.dilation_h);
    p.step_w = s.dilation_w / common_w;
    p.joined = p.blocks == 1 && p.step_w == 1 && common_w == 1 && s.kernel_w % s.stride_w == 0;
    p.segment_bytes = block_channels * (p.joined ? s.kernel_w / s.stride_w : 1);
    const index_t groups_of = (p.segment_bytes + 3) / 4;
    index_t bytes = 0;
    for (index_t i = 0; i < phases; ++i) {
        const auto v = detail::taps_of_phase(i / s.stride_w, s.kernel_h, s.stride_h, s.dilation_h, s.pad_top);
        const auto h = detail::taps_of_phase(i % s.stride_w, s.kernel_w, s.stride_w, s.dilation_w, s.pad_left);
        const bool any = v.taps > 0 && h.taps > 0;
        p.phases[i] = {v.taps, h.taps, v.first, h.first, any ? v.taps * (p.joined ? 1 : h.taps) : 0, bytes};
        bytes += detail::checked_product(where, p.blocks * panels, p.phases[i].segments * groups_of * 64);
    }
    p.data = buffer<std::int8_t>(bytes);
    p.pairs_safe = true;
    for (index_t i = 0; i < phases; ++i) {
        const conv_phase& phase = p.phases[i];
        if (phase.segments == 0) continue;
        const auto v = detail::taps_of_phase(i / s.stride_w, s.kernel_h, s.stride_h, s.dilation_h, s.pad_top);
        const auto h = detail::taps_of_phase(i % s.stride_w, s.kernel_w, s.stride_w, s.dilation_w, s.pad_left);
        const index_t quads = phase.segments * groups_of;
        for (index_t b = 0; b < p.blocks && block_n > 0; ++b) {
            const auto value = [&](index_t j, index_t k) -> std::int8_t {
                const index_t byte = k % (4 * groups_of);
                if (byte >= p.segment_bytes) return 0;
                const index_t at = k / (4 * groups_of) * p.segment_bytes + byte, tap = at / block_channels,
                              c = at % block_channels;
                if (c / e.group_channels != j / group_outputs) return 0; // another group of this block
                const index_t ky = v.last - tap / h.taps * v.apart, kx = h.last - tap % h.taps * h.apart;
                return w[static_cast<std::size_t>((b * block_n + j) * e.k + (ky * s.kernel_w + kx) * e.group_channels +
                                                  c % e.group_channels)];
            };
            if (!detail::pack_block(p.data.data() + phase.data + b * panels * quads * 64, block_n, quads, value))
                p.pairs_safe = false;
        }
        for (index_t o = 0; o < out; ++o)
            for (index_t ky = v.last; ky >= 0; ky -= v.apart)
                for (index_t kx = h.last; kx >= 0; kx -= h.apart)
                    for (index_t c = 0; c < e.group_channels; ++c)
                        p.phase_sums[i * out + o] +=
                            w[static_cast<std::size_t>(o * e.k + (ky * s.kernel_w + kx) * e.group_channels + c)];
    }
    return p;
}

/// Bytes of workspace that conv2d_transposed needs for inputs of this shape.
[[nodiscard]] inline index_t conv2d_transposed_workspace_size(const packed_transposed& w, index_t n, index_t h,
                                                              index_t width, const context& ctx = {}) {
    constexpr const char* where = "conv2d_transposed_workspace_size";
    for (index_t e : {n, h, width}) detail::check_extent(where, "extent", e);
    detail::check_transposed_weights(where, w);
    const auto form = detail::conv_form_of(w);
    return detail::phase_bias_bytes(w) +
           detail::conv_bytes(where, form, detail::plan_transposed(where, form, w, n, h, width, ctx));
}

/// x: n x h x w x channels codes, u8 or s8; y: n x w.shape.out_h(h) x w.shape.out_w(w) x N with dense channels. w
/// comes from pack_conv2d_transposed; the epilogue was made for it. A functor on_tile gets whole rows of the output.
/// x and y must not overlap. Exact; the results depend neither on the instruction set nor on the threads.
template <class X, class Out, class F, class Y>
void conv2d_transposed(nhwc_view<X> x, const packed_transposed& w, const epilogue<Out, F>& ep, nhwc_view<Y> y,
                       const context& ctx = {}) {
    static_assert(std::is_same_v<Y, Out>,
                  "notch::conv2d_transposed: the element type of y must be what the epilogue produces (requantize: its "
                  "range's code type, dequantize: float, accumulators: int32_t)");
    constexpr const char* where = "conv2d_transposed";
    const auto in = detail::conv_input(where, x, ep);
    detail::check_view(where, "x", x);
    detail::check_view(where, "y", y);
    detail::check_equal(where, "the number of channels of x", x.c, w.channels);
    detail::check_equal(where, "the batch of y", y.n, x.n);
    detail::check_equal(where, "the height of y", y.h, w.shape.out_h(x.h));
    detail::check_equal(where, "the width of y", y.w, w.shape.out_w(x.w));
    detail::check_equal(where, "the number of channels of y", y.c, w.n);
    detail::check_equal(where, "the number of channels of the epilogue", ep.outputs, w.n);
    if (y.n == 0 || y.h == 0 || y.w == 0 || y.c == 0) return;
    detail::check_transposed_weights(where, w);
    if (ep.bias.size() < w.n) fail(errc::invalid_argument, "conv2d_transposed: the epilogue was moved from");
    const auto form = detail::conv_form_of(w);
    const auto plan = detail::plan_transposed(where, form, w, x.n, x.h, x.w, ctx);
    detail::conv_call c(form, plan, in);
    c.outside = static_cast<std::uint8_t>(ep.x_zero_point);
    c.flip = ep.x_signed ? 0x80 : 0;
    c.ep = ep.args();
    c.size = sizeof(Out);
    c.y = detail::as_bytes(y);
    c.target = ctx.target;
    c.in_place = detail::reads_in_place(c);
    std::byte* base = detail::workspace_begin(where, "conv2d_transposed_workspace_size", ctx.workspace,
                                              detail::phase_bias_bytes(w) + detail::conv_bytes(where, form, plan));
    // The bias has the zero points of all taps folded in; a phase needs those of its own.
    auto* bias = reinterpret_cast<std::int32_t*>(base);
    c.phase_bias = bias;
    c.bias_stride = detail::phase_bias_stride(w);
    for (index_t p = 0; p < w.phases.size(); ++p)
        for (index_t o = 0; o < c.bias_stride; ++o)
            bias[p * c.bias_stride + o] =
                o < w.n ? ep.bias[o] + ep.x_zero_point * (w.sums.all[o] - w.phase_sums[p * w.n + o]) : 0;
    base += detail::phase_bias_bytes(w);
    c.offsets = reinterpret_cast<index_t*>(base);
    c.memory = reinterpret_cast<std::uint8_t*>(base) + detail::offsets_bytes(form);
    detail::run_conv(c, ctx);
}

NOTCH_KEYED_END
