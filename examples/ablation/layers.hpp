// SPDX-License-Identifier: Apache-2.0
//
// The layers of the ablation, composed from notch's: any quantizer of weights, and behind each layer any quantizer of
// activations of 2 to 8 bits. In phase::quantized
//
//     y real    = notch's layer on the integer kernels, with float_output
//     y codes   = the quantizer of activations, on y real
//
// and the next layer takes the codes. The other phases are those of notch's layer.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include <notch/layers/pool.hpp>
#include <notch/layers/train.hpp>
#include <notch/observe/histogram.hpp>

#include "activations.hpp"
#include "weights.hpp"

namespace ablation {

using notch::context;
using notch::phase;

/// What stands behind a layer: real values become codes, and gradients come back.
class quantized_output {
public:
    std::unique_ptr<activation_quantizer> quantizer;  ///< of the outputs
    std::function<void(const activation&)> on_output; ///< called in phase::calibrate

protected:
    /// layer(y) is the float forward. codes: whether the output is to be quantized.
    template <class Forward>
    void run(activation& y, phase p, bool training, bool codes, const context& ctx, const Forward& layer) {
        trained_ = p == phase::quantized && codes;
        if (!trained_) {
            layer(y);
            if (p == phase::calibrate && on_output) on_output(y);
            return;
        }
        if (!quantizer) notch::fail(notch::errc::invalid_argument, "ablation: a layer has no quantizer of its outputs");
        layer(real_);
        y.reshape(real_.n, real_.h, real_.w, real_.c);
        quantizer->forward(real_.values, y, training, ctx);
    }
    void gradient(std::span<float> dy) {
        if (trained_) quantizer->backward(real_.values, dy);
    }

private:
    activation real_;
    bool trained_ = false; ///< the last forward was quantized
};

/// A layer with weights. Its outputs are codes unless it was made with float_output.
template <class Layer> class quantized_layer : public Layer, public quantized_output {
public:
    using Layer::Layer;
    std::function<void(const activation&)> on_input; ///< called in phase::calibrate

    void forward(const activation& x, activation& y, phase p, bool training, const context& ctx) {
        if (p == phase::calibrate && on_input) on_input(x);
        run(y, p, training, !last_, ctx, [&](activation& to) { Layer::forward(x, to, p, training, ctx); });
    }
    void backward(std::span<float> dy, std::span<float> dx, const context& ctx) {
        gradient(dy);
        Layer::backward(dy, dx, ctx);
    }
    template <class F> void parameters(const F& f) {
        Layer::parameters(f);
        (*this->weight_quantizer).parameters(f);
        if (quantizer) quantizer->parameters(f);
    }
    void after_step() { (*this->weight_quantizer).after_step(this->weight); }

    /// Makes a layer with a bias of one with batch norm: what it computes in inference stays.
    void fold_batch_norm() {
        if (!this->norm) return;
        const auto [w, b] = this->folded();
        std::copy(w.begin(), w.end(), this->weight.begin());
        this->bias = buffer<float>(static_cast<index_t>(b.size()));
        std::copy(b.begin(), b.end(), this->bias.begin());
        this->bias_gradient = buffer<float>(this->bias.size());
        this->norm.reset();
        own_options().batch_norm = false;
    }
    void replace_function(notch::nonlinearity f) { own_options().function = f; }
    [[nodiscard]] bool is_last() const { return last_; }

private:
    /// The options of notch's layer: this one gives them other values than it was made with.
    [[nodiscard]] notch::layer_options& own_options() {
        using math = std::remove_cvref_t<decltype(this->math())>;
        return this->notch::template layer_weights<math, any_weights>::options_;
    }
    bool last_ = std::exchange(own_options().float_output, true);
};

/// A layer without weights that takes codes and computes with their real values: residual add, global average.
template <class Layer> class quantized_plain : public Layer, public quantized_output {
public:
    using Layer::Layer;
    /// inputs..., y, phase, training, ctx
    void forward(const activation& x, activation& y, phase p, bool training, const context& ctx) {
        run(y, p, training, true, ctx, [&](activation& to) { Layer::forward(x, to, phase::fp32, training, ctx); });
    }
    void forward(const activation& a, const activation& b, activation& y, phase p, bool training, const context& ctx) {
        run(y, p, training, true, ctx, [&](activation& to) { Layer::forward(a, b, to, phase::fp32, training, ctx); });
    }
    void backward(std::span<float> dy) {
        gradient(dy);
        Layer::backward(dy);
    }
    void backward(std::span<float> dy, std::span<float> dx, index_t channels) {
        gradient(dy);
        Layer::backward(dy, dx, channels);
    }
    template <class F> void parameters(const F& f) {
        if (quantizer) quantizer->parameters(f);
    }
};

/// The scheme of a network whose quantizers are chosen at run time.
struct any_scheme {
    template <int> using weight = any_weights;
    template <int> using kept = any_weights;
    template <class Weights> using conv2d = quantized_layer<notch::conv2d_layer<Weights>>;
    template <class Weights> using depthwise = quantized_layer<notch::depthwise_layer<Weights>>;
    template <class Weights> using linear = quantized_layer<notch::linear_layer<Weights>>;
    using add = quantized_plain<notch::add_layer>;
    using global_average = quantized_plain<notch::global_average_layer>;
};

/// The float state of one network into another: as it was trained, or folded and changed by post-training methods.
template <class Net> void copy_float_state(Net& to, Net& from) {
    to.layers(
        [](const char*, auto& layer, auto& source) {
            if (!source.norm) layer.fold_batch_norm();
            layer.copy_from(source);
            layer.replace_function(source.options().function);
        },
        from);
}

} // namespace ablation
