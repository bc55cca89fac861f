// SPDX-License-Identifier: Apache-2.0
//
// notch/layers/frozen.hpp: inference layers. They own their packed weights, take views, and never
// allocate in forward; between activations, they allocate for outputs of another shape than before.
//
//   frozen_conv2d, frozen_depthwise, frozen_linear      u8 codes in; u8 codes or float out
//   dynamic_conv2d, dynamic_depthwise, dynamic_linear   float in, quantized image by image; float out
//
// Each is built from a layer_spec, the plain description that freeze() makes and io/ saves.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include <notch/kernels/conv.hpp>
#include <notch/kernels/depthwise.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/layers/activation.hpp>
#include <notch/layers/scales.hpp>

NOTCH_NAMESPACE_BEGIN

/// A quantized layer as plain data.
struct layer_spec {
    window geometry; ///< 1 x 1 for a linear layer
    index_t in_channels = 0;
    index_t out_channels = 0;
    bool depthwise = false;
    std::int32_t weight_bits = 8; ///< 1..8, every weight fits; 4 or fewer are saved two a byte
    buffer<std::int8_t> weights;  ///< conv2d: [out][kh][kw][in]; depthwise: [kh][kw][channels]
    buffer<float> w_scales;       ///< one, or one for each output channel
    buffer<std::int32_t> bias;    ///< static: int32 on the grid x.scale * w_scale; may be empty
    buffer<float> float_bias;     ///< dynamic: real; may be empty
    quant_params x, y;            ///< static only; y is unused if float_output
    nonlinearity function = nonlinearity::none;
    bool float_output = false;

    NOTCH_INLINE_SPECIAL_MEMBERS(layer_spec);
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// The most channels of a layer.
inline constexpr index_t max_channels = index_t{1} << 20;

/// What is wrong with a layer_spec; empty if nothing is. Layers, save_layer and load_layer ask it.
inline std::string spec_fault(const layer_spec& s) {
    if (std::string fault = window_fault(s.geometry); !fault.empty()) return fault;
    const struct {
        const char* name;
        index_t value;
    } channels[] = {{"in_channels", s.in_channels}, {"out_channels", s.out_channels}};
    for (const auto& c : channels)
        if (c.value < 1 || c.value > max_channels) return cat(c.name, " is ", c.value, ", must be 1..", max_channels);
    if (s.depthwise && s.in_channels != s.out_channels)
        return cat("a depthwise layer has ", s.in_channels, " in_channels and ", s.out_channels, " out_channels");
    if (s.weight_bits < 1 || s.weight_bits > 8) return cat("weight_bits is ", s.weight_bits, ", must be 1..8");
    const auto function = static_cast<std::int32_t>(s.function);
    if (function < 0 || function > static_cast<std::int32_t>(nonlinearity::relu6))
        return cat("the nonlinearity is ", function, ", not one of the enumeration");

    // A window has at most 2^40 taps and a layer 2^20 channels on each side.
    const index_t taps = s.geometry.kernel_h * s.geometry.kernel_w;
    const index_t inputs = s.depthwise ? 1 : s.in_channels;
    if (taps > max_extent / inputs / s.out_channels) return "the weights do not fit the address space";
    const index_t count = taps * inputs * s.out_channels;
    if (s.weights.size() != count) return cat(s.weights.size(), " weights, expected ", count);
    const int least = -(1 << (s.weight_bits - 1)), most = -least - 1;
    for (std::int8_t w : s.weights)
        if (w < least || w > most) return cat("weight ", static_cast<int>(w), " does not fit ", s.weight_bits, " bits");

    if (s.w_scales.size() != 1 && s.w_scales.size() != s.out_channels)
        return cat(s.w_scales.size(), " weight scales for ", s.out_channels, " output channels");
    for (float scale : s.w_scales)
        if (!(scale > 0.0f) || !std::isfinite(scale))
            return cat("a weight scale is ", scale, ", must be finite and > 0");
    if (!s.bias.empty() && !s.float_bias.empty()) return "both bias and float_bias are given";
    const index_t biases = s.bias.size() + s.float_bias.size();
    if (biases != 0 && biases != s.out_channels) return cat(biases, " biases for ", s.out_channels, " output channels");
    for (float b : s.float_bias)
        if (!std::isfinite(b)) return cat("a bias is ", b, ", must be finite");

    const struct {
        const char* name;
        quant_params p;
    } params[] = {{"x", s.x}, {"y", s.y}};
    for (const auto& p : params) {
        if (!(p.p.scale > 0.0f) || !std::isfinite(p.p.scale))
            return cat(p.name, ".scale is ", p.p.scale, ", must be finite and > 0");
        if (p.p.zero_point < 0 || p.p.zero_point > 255)
            return cat(p.name, ".zero_point is ", p.p.zero_point, ", must be 0..255");
    }
    return {};
}
template <class Packed> void check_spec(const char* where, const layer_spec& s) {
    std::string fault = spec_fault(s);
    if (fault.empty() && s.depthwise != std::is_same_v<Packed, packed_depthwise>)
        fault = s.depthwise ? "the spec is of a depthwise layer" : "the spec is not of a depthwise layer";
    if (!fault.empty()) fail(errc::invalid_argument, cat(where, ": ", fault));
}

inline void pack_spec(packed_weights& p, const layer_spec& s) {
    p = pack_conv2d(s.weights, s.out_channels, s.in_channels, s.geometry);
    if (is_pointwise(s.geometry)) p.channels = s.in_channels;
}
inline void pack_spec(packed_depthwise& p, const layer_spec& s) {
    p = pack_depthwise(s.weights, s.out_channels, s.geometry);
}
template <class Out, class F, class X, class Y>
void convolve(const packed_weights& w, const epilogue<Out, F>& ep, X x, Y y, const context& ctx) {
    conv2d(x, w, ep, y, ctx);
}
template <class Out, class F, class X, class Y>
void convolve(const packed_depthwise& w, const epilogue<Out, F>& ep, X x, Y y, const context& ctx) {
    notch::depthwise(x, w, ep, y, ctx);
}
inline index_t convolve_workspace(const packed_weights& w, index_t n, index_t h, index_t width, const context& ctx) {
    return conv2d_workspace_size(w, n, h, width, ctx);
}
inline index_t convolve_workspace(const packed_depthwise& w, index_t n, index_t h, index_t width, const context& ctx) {
    return depthwise_workspace_size(w, n, h, width, ctx);
}

} // namespace detail

/// Static INT8. forward is const and thread-safe (each thread with its own context).
template <class Packed> class frozen_layer {
public:
    frozen_layer() = default;
    explicit frozen_layer(layer_spec spec) : spec_(std::move(spec)) {
        detail::check_spec<Packed>("frozen_layer", spec_);
        if (!spec_.float_bias.empty())
            fail(errc::invalid_argument,
                 "frozen_layer: float_bias is for a dynamic layer, a static one has an int32 bias");
        detail::pack_spec(packed_, spec_);
        if (spec_.float_output)
            to_float_ = detail::epilogue_with(spec_.function, packed_, stage::bias{spec_.bias},
                                              stage::dequantize{spec_.x, spec_.w_scales});
        else
            to_codes_ = detail::epilogue_with(spec_.function, packed_, stage::bias{spec_.bias},
                                              stage::requantize<affine<8>>{spec_.x, spec_.w_scales, spec_.y});
    }
    [[nodiscard]] const layer_spec& spec() const noexcept { return spec_; }
    [[nodiscard]] const Packed& packed() const noexcept { return packed_; }
    [[nodiscard]] index_t workspace_size(index_t n, index_t h, index_t w, const context& ctx = {}) const {
        return detail::convolve_workspace(packed_, n, h, w, ctx);
    }
    void forward(nhwc_view<const std::uint8_t> x, nhwc_view<std::uint8_t> y, const context& ctx) const {
        if (spec_.float_output) fail(errc::invalid_argument, "frozen_layer: this layer was frozen with float output");
        detail::convolve(packed_, to_codes_, x, y, ctx);
    }
    void forward(nhwc_view<const std::uint8_t> x, nhwc_view<float> y, const context& ctx) const {
        if (!spec_.float_output) fail(errc::invalid_argument, "frozen_layer: this layer was frozen with code output");
        detail::convolve(packed_, to_float_, x, y, ctx);
    }
    /// From activation to activation. x has codes of the parameters that the layer was frozen for; y gets its shape,
    /// parameters and memory, which it keeps from call to call.
    void forward(const activation& x, activation& y, const context& ctx) const {
        detail::check_activation("frozen_layer", x);
        if (!x.quantized || x.params != spec_.x)
            fail(errc::invalid_argument, "frozen_layer: x must have codes of the parameters spec().x");
        detail::shape_output("frozen_layer", y, {&x}, x.n, spec_.geometry.out_h(x.h), spec_.geometry.out_w(x.w),
                             spec_.out_channels);
        y.quantized = !spec_.float_output;
        if (spec_.float_output) {
            y.values.resize_discard(y.size());
            forward(x.code_view(), y.value_view(), ctx);
        } else {
            y.params = spec_.y;
            y.codes.resize_discard(y.size());
            forward(x.code_view(), y.code_view(), ctx);
        }
    }

private:
    layer_spec spec_;
    Packed packed_;
    epilogue<std::uint8_t> to_codes_;
    epilogue<float> to_float_;
};

/// Dynamic range: the weights are INT8, each image is quantized by its own range at run time
/// (one scale for each image: with one row an image, per token). One forward at a time on an object.
template <class Packed> class dynamic_layer {
public:
    dynamic_layer() = default;
    explicit dynamic_layer(layer_spec spec) : spec_(std::move(spec)) {
        detail::check_spec<Packed>("dynamic_layer", spec_);
        if (!spec_.bias.empty())
            fail(errc::invalid_argument, "dynamic_layer: bias is for a static layer, a dynamic one has a float_bias");
        if (spec_.float_bias.empty()) spec_.float_bias = buffer<float>(spec_.out_channels);
        detail::pack_spec(packed_, spec_);
        least_scale_ = detail::least_dynamic_scale(spec_.w_scales);
        // For what make_epilogue refuses, at both ends of what an image can have.
        build(ep_, {least_scale_, 255});
        build(ep_, {least_scale_, 0});
        build(unit_, {1.0f, 1});
    }
    [[nodiscard]] const layer_spec& spec() const noexcept { return spec_; }
    [[nodiscard]] index_t workspace_size(index_t n, index_t h, index_t w, const context& ctx = {}) const {
        constexpr const char* where = "dynamic_layer.workspace_size";
        (void)detail::checked_size(where, n, h, w, spec_.in_channels);
        const index_t codes = detail::checked_size(where, 1, h, w, spec_.in_channels); // of one image
        detail::check_view_extent(where, "an image", codes);
        return detail::round_up(codes, 64) + 64 + detail::convolve_workspace(packed_, 1, h, w, ctx);
    }
    void forward(nhwc_view<const float> x, nhwc_view<float> y, const context& ctx) {
        detail::check_view("dynamic_layer", "x", x);
        if (!x.is_dense()) fail(errc::invalid_argument, "dynamic_layer: x must be dense");
        detail::check_equal("dynamic_layer", "the number of channels of x", x.c, spec_.in_channels);
        detail::check_view("dynamic_layer", "y", y);
        detail::check_equal("dynamic_layer", "the batch of y", y.n, x.n);
        std::byte* memory = detail::workspace_begin("dynamic_layer", "dynamic_layer.workspace_size", ctx.workspace,
                                                    workspace_size(x.n, x.h, x.w, ctx));
        const index_t elements = x.h * x.w * x.c;
        const index_t used = (memory - ctx.workspace.data()) + detail::round_up(elements, 64);
        auto* codes = reinterpret_cast<std::uint8_t*>(memory);
        context inner = ctx;
        inner.workspace = ctx.workspace.subspan(static_cast<std::size_t>(used));
        for (index_t i = 0; i < x.n; ++i) {
            const std::span<const float> image(x.data + i * x.stride_n, static_cast<std::size_t>(elements));
            const quant_params p = detail::dynamic_params(value_range(image, inner), least_scale_);
            quantize<affine<8>>(image, p, std::span<std::uint8_t>(codes, image.size()), inner);
            detail::set_input_params(ep_, unit_, p);
            nhwc_view<float> out = y;
            out.n = 1;
            out.data = y.data + i * y.stride_n;
            detail::convolve(packed_, ep_, nhwc_view<const std::uint8_t>(codes, 1, x.h, x.w, x.c), out, inner);
        }
    }
    /// From activation to activation, both with real values; y gets its shape and memory.
    void forward(const activation& x, activation& y, const context& ctx) {
        detail::check_activation("dynamic_layer", x);
        if (x.quantized) fail(errc::invalid_argument, "dynamic_layer: x must have real values");
        detail::shape_output("dynamic_layer", y, {&x}, x.n, spec_.geometry.out_h(x.h), spec_.geometry.out_w(x.w),
                             spec_.out_channels);
        y.quantized = false;
        y.values.resize_discard(y.size());
        forward(x.value_view(), y.value_view(), ctx);
    }

private:
    void build(epilogue<float>& e, quant_params p) const {
        detail::epilogue_plan plan;
        plan.take(stage::real_bias{spec_.float_bias});
        plan.take(stage::dequantize{p, spec_.w_scales});
        if (spec_.function == nonlinearity::relu) plan.take(stage::relu{});
        if (spec_.function == nonlinearity::relu6) plan.take(stage::relu6{});
        detail::build_epilogue(e, packed_, plan);
    }
    layer_spec spec_;
    Packed packed_;
    float least_scale_ = 0;
    epilogue<float> ep_, unit_; ///< of the last image; for a scale and a zero_point of 1
};

using frozen_conv2d = frozen_layer<packed_weights>;
using frozen_linear = frozen_layer<packed_weights>; ///< an image of 1 x 1 pixels
using frozen_depthwise = frozen_layer<packed_depthwise>;
using dynamic_conv2d = dynamic_layer<packed_weights>;
using dynamic_linear = dynamic_layer<packed_weights>;
using dynamic_depthwise = dynamic_layer<packed_depthwise>;

NOTCH_KEYED_END
