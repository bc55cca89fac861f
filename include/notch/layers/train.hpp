// SPDX-License-Identifier: Apache-2.0
//
// notch/layers/train.hpp: training layers: convolution, depthwise, linear; with optional batch norm
// and nonlinearity. In phase::quantized the forward pass runs on the integer kernels themselves, so
// it gives the codes of the frozen layer by construction. The backward pass is fp32 (Eigen), or, as an option, has its
// products in integers too:
//
//   forward    w' , b'  = batch norm folded into w, b (running statistics)
//              wq       = WeightQuantizer(w')             codes, values, mask
//              acc      = integer kernel(x codes, wq codes) + round(b' / (x.scale * wq.scale))
//              y codes  = requantize(acc), clamped by the nonlinearity
//   backward   dz = dy * mask of the requantization       straight-through
//              dwq = dz^T * x,   dx = dz * wq values,  db' = sum dz
//              dw', dw, dgamma, dbeta through the weight quantizer and the folding
//
// WeightQuantizer is fake_quant<Range, Granularity> or learned_step<Range, Granularity> with a symmetric range, or
// another symmetric_quantizer. The layers are thin compositions, meant to be copied and changed.
#pragma once

#include <array>
#include <cmath>
#include <optional>
#include <span>
#include <utility>

#include <notch/eigen/map.hpp>
#include <notch/layers/activation.hpp>
#include <notch/layers/float_math.hpp>
#include <notch/layers/frozen.hpp>
#include <notch/layers/layer_outputs.hpp>
#include <notch/layers/layer_weights.hpp>
#include <notch/observe/moving_average.hpp>
#include <notch/qat/batch_norm.hpp>
#include <notch/qat/fake_quant.hpp>
#include <notch/qat/learned_step.hpp>

NOTCH_KEYED_BEGIN
/// Common to conv2d_layer, depthwise_layer and linear_layer. Not thread-safe. The activation given
/// to forward must live until backward.
template <class Math, symmetric_quantizer WeightQuantizer, observer OutputObserver>
class train_layer : public layer_weights<Math, WeightQuantizer>,
                    public layer_outputs<typename Math::packed_type, OutputObserver> {
    using base = layer_weights<Math, WeightQuantizer>;
    using outputs = layer_outputs<typename Math::packed_type, OutputObserver>;
    using base::check_parameters, base::common_spec, base::effective_bias, base::effective_biases, base::fold,
        base::integer_bias, base::quantize_weights;
    using base::math_, base::options_, base::w_scales_, base::w_folded_, base::b_folded_;
    using outputs::mask_, outputs::y_real_, outputs::with_workspace;

public:
    using base::weight, base::bias, base::weight_gradient, base::bias_gradient, base::norm, base::weight_quantizer;
    using outputs::output_observer, outputs::fixed_params, outputs::output_params;
    /// If set, the products of the backward pass of phase::quantized run on the integer kernels, with gradients of 8
    /// bits (qat/integer_backward.hpp), for which the dy must be finite. Not for depthwise layers, which have no matrix
    /// products.
    std::optional<notch::integer_backward> integer_backward;

    /// Copies weights, bias, batch norm and output range from a layer with another quantizer.
    template <class Other> void copy_from(const Other& o) {
        detail::check_equal("train_layer.copy_from", "the number of weights", o.weight.size(), weight.size());
        detail::check_equal("train_layer.copy_from", "the number of output channels", o.math().out, math_.out);
        if (o.norm.has_value() != norm.has_value())
            fail(errc::invalid_argument, "train_layer.copy_from: only one of the layers has batch norm");
        weight = o.weight;
        bias = o.bias;
        norm = o.norm;
        output_observer = o.output_observer;
        fixed_params = o.fixed_params;
    }

    /// y is reshaped as needed. training keeps what backward needs, uses batch statistics (fp32) and
    /// lets the output ranges follow (quantized). phase::dynamic is for inference: training is ignored. While norm is
    /// reestimating(), inference in phase::quantized also shows it what the quantized weights give.
    void forward(const activation& x, activation& y, phase p, bool training, const context& ctx) {
        if (x.c != math_.in)
            fail(errc::shape_mismatch,
                 detail::cat("train_layer: x has ", x.c, " channels, the layer expects ", math_.in));
        detail::check_activation("train_layer", x);
        detail::check_phase("train_layer", p);
        const window& s = math_.geometry;
        check_parameters();
        detail::shape_output("train_layer", y, {&x}, x.n, s.out_h(x.h), s.out_w(x.w), math_.out);
        x_ = &x;
        x_shape_ = {x.n, x.h, x.w};
        phase_ = p;
        trained_ = false; // until this forward has succeeded
        if (p == phase::quantized)
            forward_quantized(x, y, training, ctx);
        else if (p == phase::dynamic)
            forward_dynamic(x, y, ctx);
        else
            forward_float(x, y, p, training);
        trained_ = training && p != phase::dynamic;
    }

    /// dy: gradient of y (size of y), overwritten. Writes dx unless it is empty; adds to the
    /// gradients of the parameters.
    void backward(std::span<float> dy, std::span<float> dx, const context& ctx) {
        if (!trained_)
            fail(errc::invalid_argument, "train_layer: backward needs a forward with training = true before it");
        detail::check_equal("train_layer.backward", "the size of dy", static_cast<index_t>(dy.size()), mask_.size());
        detail::check_activation("train_layer.backward", *x_);
        if (x_->n != x_shape_[0] || x_->h != x_shape_[1] || x_->w != x_shape_[2] || x_->c != math_.in)
            fail(errc::shape_mismatch, "train_layer.backward: the input of the last forward has another shape now");
        check_parameters();
        if (phase_ == phase::quantized && static_cast<index_t>(weight_quantizer.values().size()) != weight.size())
            fail(errc::invalid_argument, "train_layer.backward: weight_quantizer is not the one of the last forward");
        if (!dx.empty())
            detail::check_equal("train_layer.backward", "the size of dx", static_cast<index_t>(dx.size()), x_->size());
        straight_through(dy, mask_, dy);
        const matrix_view<float> dz(dy.data(), static_cast<index_t>(dy.size()) / math_.out, math_.out);
        float* to = dx.empty() ? nullptr : dx.data();
        if (phase_ != phase::quantized) {
            if (norm)
                norm->backward(dz);
            else
                add_column_sums(dz, bias_gradient);
            math_.backward(real_values(*x_, x_real_, ctx).data(), *x_, weight, dz, weight_gradient, to);
            return;
        }
        dw_.resize_discard(weight.size());
        db_.resize_discard(math_.out);
        std::fill(dw_.begin(), dw_.end(), 0.0f);
        std::fill(db_.begin(), db_.end(), 0.0f);
        add_column_sums(dz, db_);
        quantized_products(dz, to, ctx);
        const std::span<const float> effective =
            norm ? std::span<const float>(w_folded_) : std::span<const float>(weight);
        std::span<const float> dw = dw_;
        if constexpr (detail::is_fake_quant<WeightQuantizer>)
            weight_quantizer.backward_in_place(dw_);
        else
            dw = weight_quantizer.backward(effective, dw_);
        if (norm) {
            norm->fold_backward(weight, math_.layout(), {}, dw, db_, weight_gradient, {});
        } else {
            for (index_t i = 0; i < weight.size(); ++i) weight_gradient[i] += dw[static_cast<std::size_t>(i)];
            for (index_t c = 0; c < math_.out; ++c) bias_gradient[c] += db_[c];
        }
    }

    /// The plain description of the inference layer that gives the codes of this one, for inputs
    /// with parameters x: a scale finite and > 0, a zero point 0..255.
    [[nodiscard]] layer_spec spec(quant_params x, const context& ctx = {}) {
        detail::check_params("train_layer.spec", "x", x, 0, 255);
        check_parameters();
        quantize_weights(x.scale, ctx);
        layer_spec s = common_spec();
        s.x = x;
        if (!options_.float_output) s.y = output_params();
        s.bias = integer_bias(x);
        s.float_output = options_.float_output;
        return s;
    }
    /// The same for the dynamic-range layer.
    [[nodiscard]] layer_spec dynamic_spec(const context& ctx = {}) {
        check_parameters();
        quantize_weights(detail::unknown_scale, ctx);
        layer_spec s = common_spec();
        s.float_bias = buffer<float>(math_.out);
        for (index_t c = 0; c < math_.out; ++c) s.float_bias[c] = effective_bias(c);
        s.float_output = true;
        return s;
    }

protected:
    train_layer(Math math, std::span<const index_t> weight_extents, const layer_options& o)
        : base(std::move(math), weight_extents, o), outputs(o) {}

private:
    static void add_column_sums(matrix_view<const float> m, std::span<float> sums) {
        Eigen::Map<Eigen::RowVectorXf>(sums.data(), m.cols) += as_eigen(m).colwise().sum();
    }

    void forward_float(const activation& x, activation& y, phase p, bool training) {
        if (x.quantized) fail(errc::invalid_argument, "train_layer: float arithmetic needs an input with real values");
        y.quantized = false;
        y.values.resize_discard(y.size());
        const matrix_view<float> z(y.values.data(), y.pixels(), math_.out);
        if (!training && norm) { // inference as it is shipped: folded
            fold();
            math_.forward(x.values.data(), x, w_folded_, z);
            as_eigen(z).rowwise() += Eigen::Map<const Eigen::RowVectorXf>(b_folded_.data(), math_.out);
        } else {
            math_.forward(x.values.data(), x, weight, z);
            if (norm)
                norm->forward_training(z);
            else
                as_eigen(z).rowwise() += Eigen::Map<const Eigen::RowVectorXf>(bias.data(), math_.out);
        }
        this->clamp_outputs(y, options_.function, training);
        if (p == phase::calibrate && !fixed_params) output_observer.observe(y.values);
    }

    void forward_quantized(const activation& x, activation& y, bool training, const context& ctx) {
        if (!x.quantized) fail(errc::invalid_argument, "train_layer: quantized arithmetic needs an input with codes");
        quantize_weights(x.params.scale, ctx);
        if (norm && norm->reestimating() && !training) reestimate(x, ctx);
        this->forward_packed(math_.pack(weight_quantizer.codes()), integer_bias(x.params), w_scales_, options_, x, y,
                             training, ctx);
    }

    /// dw_ += dz^T * x, and dx = dz * weights, both of the quantized forward.
    void quantized_products(matrix_view<const float> dz, float* dx, const context& ctx) {
        if constexpr (!Math::depthwise)
            if (integer_backward) {
                if (!x_->quantized)
                    fail(errc::invalid_argument,
                         "train_layer.backward: the input of the last forward has no codes now");
                math_.backward(*x_, weight_quantizer.codes(), w_scales_, dz, dw_, dx, *integer_backward, ctx);
                return;
            }
        math_.backward(real_values(*x_, x_real_, ctx).data(), *x_, weight_quantizer.values(), dz, dw_, dx);
    }

    /// The products of the quantized weights without what folding multiplied into them, for norm.
    void reestimate(const activation& x, const context& ctx) {
        const window& s = math_.geometry;
        const index_t pixels = x.n * s.out_h(x.h) * s.out_w(x.w);
        y_real_.resize_discard(pixels * math_.out);
        const matrix_view<float> z(y_real_.data(), pixels, math_.out);
        math_.forward(real_values(x, x_real_, ctx).data(), x, weight_quantizer.values(), z);
        for (index_t c = 0; c < math_.out; ++c) {
            const float folded = norm->fold_factor(c), factor = folded == 0.0f ? 0.0f : 1.0f / folded;
            for (index_t r = 0; r < pixels; ++r) z(r, c) *= factor;
        }
        norm->reestimate(z);
    }

    void forward_dynamic(const activation& x, activation& y, const context& ctx) {
        if (x.quantized)
            fail(errc::invalid_argument, "train_layer: dynamic quantization needs an input with real values");
        dynamic_layer<typename Math::packed_type> twin(dynamic_spec(ctx));
        y.quantized = false;
        y.values.resize_discard(y.size());
        twin.forward(x.value_view(), y.value_view(), with_workspace(ctx, twin.workspace_size(x.n, x.h, x.w, ctx)));
    }

    const activation* x_ = nullptr;
    std::array<index_t, 3> x_shape_{}; ///< n, h, w of the input of the last forward
    phase phase_ = phase::fp32;
    bool trained_ = false; ///< the last forward kept what backward needs
    buffer<float> x_real_, dw_, db_;
};

/// y = f(batch_norm(conv(x, w)) or conv(x, w) + b). Weights [out][kernel_h][kernel_w][in].
template <symmetric_quantizer WeightQuantizer = fake_quant<symmetric<8>, per_channel<0>>,
          observer OutputObserver = moving_average>
class conv2d_layer : public train_layer<detail::conv_math, WeightQuantizer, OutputObserver> {
public:
    conv2d_layer(index_t in, index_t out, const window& s, const layer_options& o = {})
        : train_layer<detail::conv_math, WeightQuantizer, OutputObserver>(
              {s, in, out, {}, {}, {}}, std::initializer_list<index_t>{out, s.kernel_h, s.kernel_w, in}, o) {}
};

/// A convolution on 1 x 1 pixels: x and y are n x 1 x 1 x features. Weights [out][in].
template <symmetric_quantizer WeightQuantizer = fake_quant<symmetric<8>, per_channel<0>>,
          observer OutputObserver = moving_average>
class linear_layer : public train_layer<detail::conv_math, WeightQuantizer, OutputObserver> {
public:
    linear_layer(index_t in, index_t out, const layer_options& o = {})
        : train_layer<detail::conv_math, WeightQuantizer, OutputObserver>(
              {window{}, in, out, {}, {}, {}}, std::initializer_list<index_t>{out, 1, 1, in}, o) {}
};

/// One filter for each channel. Weights [kernel_h][kernel_w][channels].
template <symmetric_quantizer WeightQuantizer = fake_quant<symmetric<8>, per_channel<2>>,
          observer OutputObserver = moving_average>
class depthwise_layer : public train_layer<detail::depthwise_math, WeightQuantizer, OutputObserver> {
public:
    depthwise_layer(index_t channels, const window& s, const layer_options& o = {})
        : train_layer<detail::depthwise_math, WeightQuantizer, OutputObserver>(
              {s, channels, channels}, std::initializer_list<index_t>{s.kernel_h, s.kernel_w, channels}, o) {}
};

/// The inference twin: the same codes for every input with parameters x, bit for bit.
template <class Math, class Q, class O>
[[nodiscard]] frozen_layer<typename Math::packed_type> freeze(train_layer<Math, Q, O>& layer, quant_params x,
                                                              const context& ctx = {}) {
    return frozen_layer<typename Math::packed_type>(layer.spec(x, ctx));
}
/// The inference twin with inputs quantized at run time.
template <class Math, class Q, class O>
[[nodiscard]] dynamic_layer<typename Math::packed_type> freeze_dynamic(train_layer<Math, Q, O>& layer,
                                                                       const context& ctx = {}) {
    return dynamic_layer<typename Math::packed_type>(layer.dynamic_spec(ctx));
}

NOTCH_KEYED_END
