// SPDX-License-Identifier: Apache-2.0
//
// What the image networks of this folder share. A network is one template over the kind of its layers: training_layers,
// or frozen_layers for what ships. It has each(x, run), which calls run(name, layer, inputs..., output) for each layer
// in order, and gets its forward passes from forward_passes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <map>
#include <string>
#include <tuple>
#include <type_traits>

#include <notch/layers/frozen.hpp>
#include <notch/layers/pool.hpp>
#include <notch/layers/train.hpp>

namespace models {

using notch::activation;
using notch::buffer;
using notch::context;
using notch::index_t;
using notch::phase;

inline constexpr index_t image_size = 224, image_classes = 1000;

/// Training layers with one range for the pointwise layers, and one for stem and depthwise layers, which have few
/// weights and lose most. Quantizer<range, granularity> quantizes the weights.
template <class Range, class SensitiveRange, bool PerChannel, template <class, class> class Quantizer>
struct quantized_layers {
    static constexpr bool frozen = false;
    template <class R, int Axis>
    using weights = Quantizer<R, std::conditional_t<PerChannel, notch::per_channel<Axis>, notch::per_tensor>>;
    using stem = notch::conv2d_layer<weights<SensitiveRange, 0>>;
    using pointwise = notch::conv2d_layer<weights<Range, 0>>;
    using depthwise = notch::depthwise_layer<weights<SensitiveRange, 2>>;
    using linear = notch::linear_layer<weights<Range, 0>>;
};
template <class Range, class Granularity> using observed_weights = notch::fake_quant<Range, Granularity>;
/// Of ranges that the weights have, or a method for after training finds.
template <class Range, class SensitiveRange = Range, bool PerChannel = true>
using training_layers = quantized_layers<Range, SensitiveRange, PerChannel, observed_weights>;
/// Of steps that are trained.
template <class Range, class SensitiveRange = Range, bool PerChannel = true>
using learned_layers = quantized_layers<Range, SensitiveRange, PerChannel, notch::learned_step>;
struct frozen_layers {
    static constexpr bool frozen = true;
    using stem = notch::frozen_conv2d;
    using pointwise = notch::frozen_conv2d;
    using depthwise = notch::frozen_depthwise;
    using linear = notch::frozen_linear;
};

/// Runs frozen layers, with a workspace that grows to what they need.
class frozen_runner {
public:
    /// a: further inputs, then the output.
    template <class Layer, class... Activations>
    void run(Layer& layer, const context& ctx, const activation& x, Activations&... a) {
        if constexpr (requires { layer.forward(x, a..., ctx); }) {
            context inner = ctx;
            const index_t need = layer.workspace_size(x.n, x.h, x.w, ctx);
            if (workspace_.size() < need) workspace_ = buffer<std::byte>(need);
            inner.workspace = workspace_;
            layer.forward(x, a..., inner);
        } else {
            layer.forward(x, a..., phase::quantized, false, ctx);
        }
    }

private:
    buffer<std::byte> workspace_;
};

template <class Network, class Layers> class forward_passes {
public:
    /// Of training layers.
    const activation& forward(const activation& x, phase p, bool training,
                              const context& ctx) requires(!Layers::frozen) {
        return static_cast<Network&>(*this).each(
            x, [&](const auto&, auto& layer, auto&... a) { layer.forward(a..., p, training, ctx); });
    }
    /// Of frozen layers.
    const activation& forward(const activation& x, const context& ctx) requires(Layers::frozen) {
        return static_cast<Network&>(*this).each(
            x, [&](const auto&, auto& layer, auto&... a) { runner_.run(layer, ctx, a...); });
    }

private:
    frozen_runner runner_;
};

/// The codes, or the bits of real values, in which two outputs differ; all, if they are of another kind or size.
inline index_t different(const activation& a, const activation& b) {
    if (a.quantized != b.quantized || a.size() != b.size()) return std::max(a.size(), index_t{1});
    index_t n = 0;
    for (index_t i = 0; i < a.size(); ++i)
        n += a.quantized ? a.codes[i] != b.codes[i] : std::memcmp(&a.values[i], &b.values[i], sizeof(float)) != 0;
    return n;
}

/// The same over the outputs of all layers of a network and its frozen twin, on every instruction set.
template <class Network, class Frozen> index_t different(Network& net, Frozen& frozen, const activation& x) {
    const auto last = [](const auto&... a) -> const activation& { return std::get<sizeof...(a) - 1>(std::tie(a...)); };
    net.forward(x, phase::quantized, false, context());
    std::map<std::string, const activation*> expected;
    net.each(x, [&](const std::string& name, auto&, auto&... a) { expected[name] = &last(a...); });
    index_t n = 0;
    for (notch::isa i : notch::available_isas()) {
        frozen.forward(x, context(i));
        frozen.each(
            x, [&](const std::string& name, auto&, auto&... a) { n += different(*expected.at(name), last(a...)); });
    }
    return n;
}

/// Makes a network of frozen layers out of the layers of a calibrated or trained one, in the order in which they run.
class freezer {
public:
    /// x: of the network's input.
    explicit freezer(notch::quant_params x) : x_(x) {}

    /// The parameters of what the last layer gives. Set them where a layer reads something else.
    [[nodiscard]] notch::quant_params& params() noexcept { return x_; }
    /// A layer with weights.
    template <class Layer> [[nodiscard]] auto weights(Layer& layer) {
        auto twin = notch::freeze(layer, x_);
        if (!layer.options().float_output) x_ = layer.output_params();
        return twin;
    }
    /// A layer without, with an output on a grid of its own.
    template <class Layer> [[nodiscard]] Layer plain(const Layer& layer) {
        Layer twin = layer;
        x_ = layer.output_params();
        twin.fixed_params = x_;
        return twin;
    }

private:
    notch::quant_params x_;
};

} // namespace models
