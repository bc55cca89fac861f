// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/tflite.hpp: the epilogues of TensorFlow Lite's int8 layers, made of notch's stages, for gemm, conv2d
// and depthwise; and its add. The other operators are in ref/tflite.hpp,
// ref/tflite_pool.hpp and ref/tflite_softmax.hpp.
//
//     auto s  = notch::tflite::padded(window, padding::same, h, w);
//     auto w  = notch::pack_conv2d(codes, out, channels, s);                  // or pack_depthwise
//     auto ep = notch::tflite::make_conv_epilogue(w, x, w_scales, bias, y, activation::relu);
//     notch::conv2d(image, w, ep, output, ctx);                               // int8 to int8
//
//     auto w  = notch::pack({codes, outputs, k});
//     auto ep = notch::tflite::make_accumulators(w, x.zero_point, bias);      // fully connected
//     notch::gemm(rows, w, ep, acc, ctx);
//     notch::tflite::rescale(acc, notch::tflite::make_rescale(x, w_scales, y), output);
#pragma once

#include <cstdint>
#include <span>

#include <notch/kernels/add.hpp>
#include <notch/kernels/epilogue.hpp>
#include <notch/kernels/stages.hpp>
#include <notch/ref/tflite.hpp>

NOTCH_KEYED_BEGIN
namespace tflite {

/// The epilogue of CONV_2D and DEPTHWISE_CONV_2D: int8 in and out, one weight scale or one for each output channel,
/// an int32 bias on the grid x.scale * w_scale or none, gemmlowp's double rounding, the codes of a fused activation.
/// The same epilogue serves a fully connected layer as TensorFlow Lite's optimized kernels (and older versions of its
/// reference) run it; with one weight scale these multiply x.scale and w_scale in float: pass {x.scale * w_scale,
/// x.zero_point} and the scale 1. Errors: those of make_epilogue.
template <class Packed>
[[nodiscard]] epilogue<std::int8_t> make_conv_epilogue(const Packed& w, quant_params x, std::span<const float> w_scales,
                                                       std::span<const std::int32_t> bias, quant_params y,
                                                       activation fused = activation::none) {
    const code_range r = activation_range(fused, y);
    // Bounds in real units that stand for these codes: off by less than 2^-15 of a step, which rounds back.
    const auto real = [&](std::int32_t code) { return static_cast<float>(code - y.zero_point) * y.scale; };
    return make_epilogue(w, stage::s8_input{}, stage::bias{bias},
                         stage::requantize_fixed<affine_signed<8>>{x, w_scales, y},
                         stage::clamp{real(r.lo), real(r.hi)});
}

/// The epilogue of FULLY_CONNECTED before rescale: exact int32 accumulators of int8 codes, with the bias.
[[nodiscard]] inline epilogue<std::int32_t> make_accumulators(const packed_weights& w, std::int32_t x_zero_point,
                                                              std::span<const std::int32_t> bias) {
    return make_epilogue(w, stage::s8_input{}, stage::bias{bias}, stage::accumulators{x_zero_point});
}

/// ADD: y[i] = the code of a[i] + b[i]. Equal sizes; y may be a or b. Defined in ref/tflite.hpp.
inline void add(std::span<const std::int8_t> a, std::span<const std::int8_t> b, const add_params& p,
                std::span<std::int8_t> y, const context& ctx = {}) {
    detail::check_add("tflite::add", a, b, p, y);
    add_fixed_args g;
    g.a = reinterpret_cast<const std::uint8_t*>(a.data());
    g.b = reinterpret_cast<const std::uint8_t*>(b.data());
    g.y = reinterpret_cast<std::uint8_t*>(y.data());
    g.n = static_cast<index_t>(a.size());
    g.a_zero_point = p.a_zero_point;
    g.b_zero_point = p.b_zero_point;
    g.y_zero_point = p.y_zero_point;
    g.a_multiplier = p.a;
    g.b_multiplier = p.b;
    g.y_multiplier = p.y;
    g.lo = p.range.lo;
    g.hi = p.range.hi;
    notch::detail::kernels_for(notch::detail::add_tables, ctx.target).add_fixed_s8(g);
}

} // namespace tflite
NOTCH_KEYED_END
