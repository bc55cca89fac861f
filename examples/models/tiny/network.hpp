// SPDX-License-Identifier: Apache-2.0
//
// A network of notch's layers out of a float model of TensorFlow Lite: convolutions, depthwise and fully connected
// layers, residual adds and means of whole images, in the order of execution. A softmax at the end is left to the
// caller. One template is both networks: of training layers, and of the frozen ones that ship.
#pragma once

#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <notch/io/tflite.hpp>
#include <notch/layers/frozen.hpp>
#include <notch/layers/pool.hpp>
#include <notch/layers/train.hpp>

#include "../layers.hpp"

namespace tiny {

namespace tflite = notch::tflite;
using notch::activation;
using notch::buffer;
using notch::context;
using notch::index_t;
using notch::phase;

/// The layers of a network in training. PerChannel: a scale for each output channel of the weights.
template <bool PerChannel> struct training_layers {
    template <int Axis>
    using weights = notch::fake_quant<notch::symmetric<8>,
                                      std::conditional_t<PerChannel, notch::per_channel<Axis>, notch::per_tensor>>;
    using conv = notch::conv2d_layer<weights<0>>;
    using depthwise = notch::depthwise_layer<weights<2>>;
    using linear = notch::linear_layer<weights<0>>;
    using layer = std::variant<conv, depthwise, linear, notch::add_layer, notch::global_average_layer>;
};
struct frozen_layers {
    using layer =
        std::variant<notch::frozen_conv2d, notch::frozen_depthwise, notch::add_layer, notch::global_average_layer>;
};

template <class Layers> struct network {
    /// A layer that reads the values a (and b, of an add) and writes y.
    struct node {
        typename Layers::layer layer;
        std::size_t a, b, y;
    };
    std::vector<node> nodes;
    std::vector<activation> values;
    std::size_t input = 0, output = 0;

    /// Runs the layers on values[input]: step(layer, inputs..., output) for each.
    template <class Step> const activation& each(Step&& step) {
        for (node& n : nodes)
            std::visit(
                [&](auto& layer) {
                    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(layer)>, notch::add_layer>)
                        step(layer, values[n.a], values[n.b], values[n.y]);
                    else
                        step(layer, values[n.a], values[n.y]);
                },
                n.layer);
        return values[output];
    }
    /// Of training layers.
    const activation& forward(phase p, const context& ctx = {}) {
        return each([&](auto& layer, auto&... a) { layer.forward(a..., p, false, ctx); });
    }
    /// Of frozen layers.
    const activation& infer(const context& ctx = {}) {
        return each([&](auto& layer, auto&... a) { runner_.run(layer, ctx, a...); });
    }

private:
    models::frozen_runner runner_;
};

/// Makes the network of a float model. Weights may be stored as int8.
template <class Layers> class builder {
public:
    explicit builder(const tflite::model& m) : model_(m), value_(m.main().tensors.size(), none) {}

    /// A notch::error that names the operator if there is no layer for it or its tensors do not fit it.
    [[nodiscard]] network<Layers> build() {
        const tflite::graph& g = model_.main();
        if (g.inputs.size() != 1 || g.outputs.size() != 1) refuse("the graph has more than one input or output");
        net_.input = define(g.inputs[0]);
        for (const tflite::op& o : g.operators) {
            here_ = notch::detail::cat("operator ", &o - g.operators.data(), " ", to_string(o.code));
            if (o.outputs.size() != 1 || o.inputs.empty()) refuse("has no input, or not one output");
            if (ended_) refuse("stands behind a softmax");
            add(o);
        }
        net_.output = use(g.outputs[0]);
        // Only a layer with weights gives real values.
        if (net_.nodes.empty() || net_.nodes.back().y != real_ || net_.output != real_)
            refuse("the output is not that of a last layer with weights");
        return std::move(net_);
    }

private:
    static constexpr std::size_t none = static_cast<std::size_t>(-1);

    [[noreturn]] void refuse(const char* what) const {
        notch::fail(notch::errc::unsupported, notch::detail::cat(model_.label(), ": ", here_, ": ", what));
    }
    std::size_t& slot(index_t tensor) {
        (void)model_.at(tensor); // an index of a tensor
        return value_[static_cast<std::size_t>(tensor)];
    }
    std::size_t define(index_t tensor) {
        if (slot(tensor) != none || !model_.at(tensor).data.empty()) refuse("a tensor is written twice");
        if (model_.at(tensor).type != tflite::element::f32) refuse("a tensor is not float");
        net_.values.emplace_back();
        return slot(tensor) = net_.values.size() - 1;
    }
    std::size_t use(index_t tensor) {
        if (slot(tensor) == none) refuse("needs a tensor that nothing has computed");
        return slot(tensor);
    }
    const std::vector<index_t>& shape(index_t tensor, std::size_t rank) const {
        const auto& s = model_.at(tensor).shape;
        if (s.size() != rank) refuse("a tensor has another rank");
        return s;
    }
    /// Of weights, whose file has as many bytes as this says.
    const std::vector<index_t>& weight_shape(index_t tensor, std::size_t rank) const {
        if (model_.at(tensor).data.empty()) refuse("the weights are not constant");
        return shape(tensor, rank);
    }
    notch::nonlinearity function(tflite::activation a) const {
        switch (a) {
        case tflite::activation::none: return notch::nonlinearity::none;
        case tflite::activation::relu: return notch::nonlinearity::relu;
        case tflite::activation::relu6: return notch::nonlinearity::relu6;
        default: refuse("has a nonlinearity that no layer has");
        }
    }
    /// Whether nothing but a softmax reads a tensor.
    [[nodiscard]] bool last(index_t tensor) const {
        const tflite::graph& g = model_.main();
        return std::all_of(g.operators.begin(), g.operators.end(), [&](const tflite::op& o) {
            return o.code == tflite::op_code::softmax || std::count(o.inputs.begin(), o.inputs.end(), tensor) == 0;
        });
    }

    void add(const tflite::op& o) {
        using code = tflite::op_code;
        const index_t x = o.inputs[0], y = o.outputs[0];
        const auto input = [&](std::size_t i) {
            if (i >= o.inputs.size()) refuse("an input is missing");
            return o.inputs[i];
        };
        switch (o.code) {
        case code::conv_2d:
        case code::depthwise_conv_2d: {
            const auto& options = std::get<tflite::conv_options>(o.options);
            const auto &w = weight_shape(input(1), 4), &image = shape(x, 4);
            notch::window s;
            s.kernel_h = w[1];
            s.kernel_w = w[2];
            s.stride_h = options.stride_h;
            s.stride_w = options.stride_w;
            s.dilation_h = options.dilation_h;
            s.dilation_w = options.dilation_w;
            s = tflite::padded(s, options.pad, image[1], image[2]);
            const notch::layer_options to{.function = function(options.fused), .float_output = last(y)};
            if (o.code == code::conv_2d) {
                if (w[3] != image[3]) refuse("has groups");
                weighted(typename Layers::conv(w[3], w[0], s, to), o);
            } else {
                if (w[0] != 1 || w[3] != image[3]) refuse("has a channel multiplier");
                weighted(typename Layers::depthwise(w[3], s, to), o);
            }
            return;
        }
        case code::fully_connected: {
            const auto& options = std::get<tflite::fully_connected_options>(o.options);
            const auto& w = weight_shape(input(1), 2);
            if (model_.at(x).shape.empty() || model_.at(x).shape.back() != w[1])
                refuse("reads something else than one vector");
            const notch::layer_options to{.function = function(options.fused), .float_output = last(y)};
            weighted(typename Layers::linear(w[1], w[0], to), o);
            return;
        }
        case code::add: {
            const auto& options = std::get<tflite::binary_options>(o.options);
            const std::size_t a = use(x), b = use(input(1));
            net_.nodes.push_back({notch::add_layer(function(options.fused)), a, b, define(y)});
            return;
        }
        case code::average_pool_2d: {
            const auto& options = std::get<tflite::pool_options>(o.options);
            const auto &in = shape(x, 4), &out = shape(y, 4);
            if (out[1] != 1 || out[2] != 1 || options.kernel_h != in[1] || options.kernel_w != in[2] ||
                options.fused != tflite::activation::none)
                refuse("is not the mean of whole images");
            const std::size_t a = use(x);
            net_.nodes.push_back({notch::global_average_layer(), a, none, define(y)});
            return;
        }
        case code::mean: {
            const auto axes = model_.constant<std::int32_t>(input(1));
            if (axes.size() != 2 || std::min(axes[0], axes[1]) != 1 || std::max(axes[0], axes[1]) != 2)
                refuse("is not the mean of whole images");
            const std::size_t a = use(x);
            net_.nodes.push_back({notch::global_average_layer(), a, none, define(y)});
            return;
        }
        case code::reshape:
        case code::squeeze: {
            const auto& in = model_.at(x).shape;
            if (in.size() != 4 || in[1] != 1 || in[2] != 1 || model_.at(y).size() != model_.at(x).size())
                refuse("reshapes more than one pixel");
            if (slot(y) != none) refuse("a tensor is written twice");
            slot(y) = use(x);
            return;
        }
        case code::softmax:
            if (std::get<tflite::softmax_options>(o.options).beta != 1.0f) refuse("beta is not 1");
            if (slot(y) != none) refuse("a tensor is written twice");
            slot(y) = use(x);
            ended_ = true;
            return;
        default: refuse("no layer here");
        }
    }

    /// Fills the weights and the bias of a layer, and appends it.
    template <class Layer> void weighted(Layer layer, const tflite::op& o) {
        read_weights(o.inputs[1], layer.weight);
        if (o.inputs.size() > 2 && o.inputs[2] >= 0) {
            const auto bias = model_.constant<float>(o.inputs[2]);
            notch::detail::check_equal(here_.c_str(), "the number of biases", static_cast<index_t>(bias.size()),
                                       layer.bias.size());
            std::copy(bias.begin(), bias.end(), layer.bias.begin());
        }
        const std::size_t a = use(o.inputs[0]);
        const bool real = layer.options().float_output;
        net_.nodes.push_back({std::move(layer), a, none, define(o.outputs[0])});
        if (real) real_ = net_.nodes.back().y;
    }
    void read_weights(index_t tensor, buffer<float>& to) const {
        const tflite::tensor& t = model_.at(tensor);
        notch::detail::check_equal(here_.c_str(), "the number of weights", t.size(), to.size());
        if (t.type == tflite::element::f32) {
            const auto from = model_.constant<float>(tensor);
            std::copy(from.begin(), from.end(), to.begin());
            return;
        }
        const auto from = model_.constant<std::int8_t>(tensor);
        if (t.scales.empty() || (t.scales.size() > 1 && t.axis != 0)) refuse("the weights have other scales");
        const index_t each = to.size() / static_cast<index_t>(t.scales.size());
        for (index_t i = 0; i < to.size(); ++i) {
            const auto c = static_cast<std::size_t>(i / each);
            to[i] = t.scales[c] * static_cast<float>(from[static_cast<std::size_t>(i)] - t.zero_points[c]);
        }
    }

    const tflite::model& model_;
    std::vector<std::size_t> value_; ///< by tensor
    std::string here_ = "the graph";
    std::size_t real_ = none; ///< the real values of a layer that nothing reads
    network<Layers> net_;
    bool ended_ = false;
};

/// What ships of a calibrated network whose input has parameters x.
template <class Layers> network<frozen_layers> freeze(network<Layers>& net, notch::quant_params x) {
    network<frozen_layers> to;
    std::vector<notch::quant_params> params(net.values.size());
    params[net.input] = x;
    for (auto& n : net.nodes)
        std::visit(
            [&](auto& layer) {
                const auto keep = [&](auto twin) { to.nodes.push_back({std::move(twin), n.a, n.b, n.y}); };
                if constexpr (requires { layer.weight; }) {
                    keep(notch::freeze(layer, params[n.a]));
                    if (!layer.options().float_output) params[n.y] = layer.output_params();
                } else {
                    auto twin = layer;
                    twin.fixed_params = params[n.y] = layer.output_params();
                    keep(std::move(twin));
                }
            },
            n.layer);
    to.values.resize(net.values.size());
    to.input = net.input;
    to.output = net.output;
    return to;
}

} // namespace tiny
