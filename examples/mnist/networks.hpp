// SPDX-License-Identifier: Apache-2.0
//
// The two networks of the demo, as plain structs composed from notch's layers: how a user writes a
// network. Each exists twice: the training network, and the inference network frozen from it.
#pragma once

#include <string>
#include <vector>

#include <notch/layers/frozen.hpp>
#include <notch/layers/pool.hpp>
#include <notch/layers/train.hpp>

namespace mnist {

using notch::activation;
using notch::context;
using notch::index_t;
using notch::layer_options;
using notch::nonlinearity;
using notch::phase;
using notch::window;

// --- schemes: which layers a network is made of, and which quantizer each weight gets
// ------------------------------------------------------- weight<Axis> is for the large layers,
// kept<Axis> for the sensitive ones (first, depthwise).

/// notch's own layers. A scheme may name others with the same members.
struct notch_layers {
    template <class Weights> using conv2d = notch::conv2d_layer<Weights>;
    template <class Weights> using depthwise = notch::depthwise_layer<Weights>;
    template <class Weights> using linear = notch::linear_layer<Weights>;
    using add = notch::add_layer;
    using global_average = notch::global_average_layer;
};

struct int8_per_channel : notch_layers {
    template <int Axis> using weight = notch::fake_quant<notch::symmetric<8>, notch::per_channel<Axis>>;
    template <int Axis> using kept = weight<Axis>;
};
struct int8_per_tensor : notch_layers {
    template <int Axis> using weight = notch::fake_quant<notch::symmetric<8>, notch::per_tensor>;
    template <int Axis> using kept = weight<Axis>;
};
/// Mixed precision: 4-bit weights, the sensitive layers kept at 8.
struct mixed_int4_int8 : notch_layers {
    template <int Axis> using weight = notch::fake_quant<notch::symmetric<4>, notch::per_channel<Axis>>;
    template <int Axis> using kept = notch::fake_quant<notch::symmetric<8>, notch::per_channel<Axis>>;
};
/// 4-bit weights everywhere, with learned steps.
struct int4_learned : notch_layers {
    template <int Axis> using weight = notch::learned_step<notch::symmetric<4>, notch::per_channel<Axis>>;
    template <int Axis> using kept = weight<Axis>;
};

// --- (a) convolution + max pooling + dense
// ---------------------------------------------------------

template <class Scheme> struct small_cnn {
    static constexpr const char* name = "small_cnn";
    static constexpr const char* title = "(a) conv 32@3x3, max-pool, dense";

    typename Scheme::template conv2d<typename Scheme::template kept<0>> conv{
        1, 32, window::square(3), {.function = nonlinearity::relu}};
    notch::max_pool_layer pool{window::square(2, 2)};
    typename Scheme::template linear<typename Scheme::template weight<0>> dense{
        13 * 13 * 32, 10, {.float_output = true}};
    activation conv_out, pool_out, logits;

    const activation& forward(const activation& x, phase p, bool training, const context& ctx) {
        conv.forward(x, conv_out, p, training, ctx);
        pool.forward(conv_out, pool_out, p, training, ctx);
        pool_out.reshape(x.n, 1, 1, 13 * 13 * 32); // flatten
        dense.forward(pool_out, logits, p, training, ctx);
        return logits;
    }
    /// gradient: of the logits, overwritten.
    void backward(std::span<float> gradient, const context& ctx) {
        d_pool.resize_discard(pool_out.size());
        d_conv.resize_discard(conv_out.size());
        dense.backward(gradient, d_pool, ctx);
        pool.backward(d_pool, d_conv);
        conv.backward(d_conv, {}, ctx);
    }
    /// f(name, layer, the same layer of each of others...); observed() likewise.
    template <class F, class... Nets> void layers(F&& f, Nets&... others) {
        f("conv", conv, others.conv...);
        f("dense", dense, others.dense...);
    }
    template <class F, class... Nets> void observed(F&&, Nets&...) {}
    /// f(first, second) for layers in a row: all that reads a channel of the first is the second, and what stands
    /// between commutes with a factor > 0 of the channel (relu6 only where its upper bound is given up).
    template <class F> void chains(F&& f) { f(conv, dense); }
    template <class F> void outputs(F&& f) const {
        f("conv", conv_out);
        f("pool", pool_out);
        f("dense", logits);
    }
    notch::buffer<float> d_pool, d_conv;
};

// --- (b) MobileNet-like: depthwise-separable blocks, one with a residual add
// -----------------------

template <class Scheme> struct mobile_net {
    static constexpr const char* name = "mobile_net";
    static constexpr const char* title = "(b) MobileNet-like, 3 separable blocks, residual add";
    static constexpr layer_options fused{.function = nonlinearity::relu6, .batch_norm = true};

    template <int Axis> using weight = typename Scheme::template weight<Axis>;
    template <int Axis> using kept = typename Scheme::template kept<Axis>;
    template <class Weights> using conv2d = typename Scheme::template conv2d<Weights>;
    template <class Weights> using depthwise = typename Scheme::template depthwise<Weights>;

    conv2d<kept<0>> stem{1, 32, window::square(3, 2, 1), fused}; // 14 x 14 x 32
    depthwise<kept<2>> dw1{32, window::square(3, 1, 1), fused};  // 14 x 14 x 32
    conv2d<weight<0>> pw1{32, 32, window::square(1), {.batch_norm = true}};
    typename Scheme::add residual;                               // stem + pw1
    depthwise<kept<2>> dw2{32, window::square(3, 2, 1), fused};  //  7 x  7 x 32
    conv2d<weight<0>> pw2{32, 128, window::square(1), fused};    //  7 x  7 x 128
    depthwise<kept<2>> dw3{128, window::square(3, 2, 1), fused}; //  4 x  4 x 128
    conv2d<weight<0>> pw3{128, 512, window::square(1), fused};   //  4 x  4 x 512
    typename Scheme::global_average average;
    typename Scheme::template linear<weight<0>> dense{512, 10, {.float_output = true}};
    activation stem_out, dw1_out, pw1_out, sum, dw2_out, pw2_out, dw3_out, pw3_out, mean, logits;

    const activation& forward(const activation& x, phase p, bool training, const context& ctx) {
        stem.forward(x, stem_out, p, training, ctx);
        dw1.forward(stem_out, dw1_out, p, training, ctx);
        pw1.forward(dw1_out, pw1_out, p, training, ctx);
        residual.forward(stem_out, pw1_out, sum, p, training, ctx);
        dw2.forward(sum, dw2_out, p, training, ctx);
        pw2.forward(dw2_out, pw2_out, p, training, ctx);
        dw3.forward(pw2_out, dw3_out, p, training, ctx);
        pw3.forward(dw3_out, pw3_out, p, training, ctx);
        average.forward(pw3_out, mean, p, training, ctx);
        dense.forward(mean, logits, p, training, ctx);
        return logits;
    }
    void backward(std::span<float> gradient, const context& ctx) {
        const auto like = [](notch::buffer<float>& d, const activation& a) -> notch::buffer<float>& {
            d.resize_discard(a.size());
            return d;
        };
        dense.backward(gradient, like(d_mean, mean), ctx);
        average.backward(d_mean, like(d_pw3, pw3_out), pw3_out.c);
        pw3.backward(d_pw3, like(d_dw3, dw3_out), ctx);
        dw3.backward(d_dw3, like(d_pw2, pw2_out), ctx);
        pw2.backward(d_pw2, like(d_dw2, dw2_out), ctx);
        dw2.backward(d_dw2, like(d_sum, sum), ctx);
        residual.backward(d_sum); // now the gradient of both operands
        d_pw1 = d_sum;
        pw1.backward(d_pw1, like(d_dw1, dw1_out), ctx);
        dw1.backward(d_dw1, like(d_stem, stem_out), ctx);
        for (index_t i = 0; i < d_stem.size(); ++i) d_stem[i] += d_sum[i];
        stem.backward(d_stem, {}, ctx);
    }
    template <class F, class... Nets> void layers(F&& f, Nets&... others) {
        f("stem", stem, others.stem...);
        f("dw1", dw1, others.dw1...);
        f("pw1", pw1, others.pw1...);
        f("dw2", dw2, others.dw2...);
        f("pw2", pw2, others.pw2...);
        f("dw3", dw3, others.dw3...);
        f("pw3", pw3, others.pw3...);
        f("dense", dense, others.dense...);
    }
    /// The layers without weights whose output range is observed.
    template <class F, class... Nets> void observed(F&& f, Nets&... others) {
        f("residual", residual, others.residual...);
        f("average", average, others.average...);
    }
    /// As in small_cnn. What stem and pw1 make is read by the residual add too.
    template <class F> void chains(F&& f) {
        f(dw1, pw1);
        f(dw2, pw2);
        f(pw2, dw3);
        f(dw3, pw3);
        f(pw3, dense);
    }
    template <class F> void outputs(F&& f) const {
        f("stem", stem_out);
        f("dw1", dw1_out);
        f("pw1", pw1_out);
        f("residual", sum);
        f("dw2", dw2_out);
        f("pw2", pw2_out);
        f("dw3", dw3_out);
        f("pw3", pw3_out);
        f("average", mean);
        f("dense", logits);
    }
    notch::buffer<float> d_mean, d_pw3, d_dw3, d_pw2, d_dw2, d_sum, d_pw1, d_dw1, d_stem;
};

// --- inference networks
// -------------------------------------------------------------------------------- Layer is
// notch::frozen_layer (codes flow) or notch::dynamic_layer (floats flow).

template <template <class> class Layer>
inline constexpr bool is_dynamic = std::is_same_v<Layer<notch::packed_weights>, notch::dynamic_conv2d>;

template <template <class> class Layer> struct frozen_small_cnn {
    Layer<notch::packed_weights> conv, dense;
    notch::max_pool_layer pool{window::square(2, 2)};
    activation conv_out, pool_out, logits;

    const activation& forward(const activation& x, const context& ctx) {
        conv.forward(x, conv_out, ctx);
        pool.forward(conv_out, pool_out, is_dynamic<Layer> ? phase::dynamic : phase::quantized, false, ctx);
        pool_out.reshape(x.n, 1, 1, 13 * 13 * 32);
        dense.forward(pool_out, logits, ctx);
        return logits;
    }
    template <class F> void layers(F&& f) {
        f("conv", conv);
        f("dense", dense);
    }
    template <class F> void observed(F&&) {}
    template <class F> void outputs(F&& f) const {
        f("conv", conv_out);
        f("pool", pool_out);
        f("dense", logits);
    }
};

template <template <class> class Layer> struct frozen_mobile_net {
    Layer<notch::packed_weights> stem, pw1, pw2, pw3, dense;
    Layer<notch::packed_depthwise> dw1, dw2, dw3;
    notch::add_layer residual;
    notch::global_average_layer average;
    activation stem_out, dw1_out, pw1_out, dw2_out, pw2_out, dw3_out, pw3_out, sum, mean, logits;

    const activation& forward(const activation& x, const context& ctx) {
        constexpr phase p = is_dynamic<Layer> ? phase::dynamic : phase::quantized;
        stem.forward(x, stem_out, ctx);
        dw1.forward(stem_out, dw1_out, ctx);
        pw1.forward(dw1_out, pw1_out, ctx);
        residual.forward(stem_out, pw1_out, sum, p, false, ctx);
        dw2.forward(sum, dw2_out, ctx);
        pw2.forward(dw2_out, pw2_out, ctx);
        dw3.forward(pw2_out, dw3_out, ctx);
        pw3.forward(dw3_out, pw3_out, ctx);
        average.forward(pw3_out, mean, p, false, ctx);
        dense.forward(mean, logits, ctx);
        return logits;
    }
    template <class F> void layers(F&& f) {
        f("stem", stem);
        f("dw1", dw1);
        f("pw1", pw1);
        f("dw2", dw2);
        f("pw2", pw2);
        f("dw3", dw3);
        f("pw3", pw3);
        f("dense", dense);
    }
    template <class F> void observed(F&& f) {
        f("residual", residual);
        f("average", average);
    }
    template <class F> void outputs(F&& f) const {
        f("stem", stem_out);
        f("dw1", dw1_out);
        f("pw1", pw1_out);
        f("residual", sum);
        f("dw2", dw2_out);
        f("pw2", pw2_out);
        f("dw3", dw3_out);
        f("pw3", pw3_out);
        f("average", mean);
        f("dense", logits);
    }
};

/// The codes of one layer output, as bytes to compare. Codes are what integer networks exchange; a
/// real-valued output counts by its quantized codes and parameters (dynamic), or by its bits
/// (logits).
inline void append_codes(std::vector<std::uint8_t>& out, const activation& a, bool logits, const context& ctx) {
    const auto bytes = [&](const void* p, std::size_t n) {
        const auto* b = static_cast<const std::uint8_t*>(p);
        out.insert(out.end(), b, b + n);
    };
    if (a.quantized) {
        bytes(a.codes.data(), static_cast<std::size_t>(a.size()));
        return;
    }
    if (logits) {
        bytes(a.values.data(), static_cast<std::size_t>(a.size()) * sizeof(float));
        return;
    }
    const index_t per = a.h * a.w * a.c;
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(per));
    for (index_t i = 0; i < a.n; ++i) {
        const std::span<const float> image(a.values.data() + i * per, static_cast<std::size_t>(per));
        const notch::quant_params p = notch::params_from_range<notch::affine<8>>(notch::scan_range(image).range);
        notch::quantize<notch::affine<8>>(image, p, codes, ctx);
        bytes(&p, sizeof p);
        bytes(codes.data(), codes.size());
    }
}

template <class Net> void append_codes(std::vector<std::uint8_t>& out, const Net& net, const context& ctx) {
    net.outputs(
        [&](const char* name, const activation& a) { append_codes(out, a, std::string(name) == "dense", ctx); });
}

} // namespace mnist
