// SPDX-License-Identifier: Apache-2.0
//
// notch/layers/layer_weights.hpp: the trainable parameters of a layer, and what its forward pass makes of them: batch
// norm folded in, quantized, biases on the grid of the accumulators. layers/train.hpp trains with them.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include <notch/core/buffer.hpp>
#include <notch/core/shape.hpp>
#include <notch/layers/frozen.hpp>
#include <notch/layers/scales.hpp>
#include <notch/qat/batch_norm.hpp>
#include <notch/qat/fake_quant.hpp>
#include <notch/simd/elementwise.hpp>

NOTCH_KEYED_BEGIN
/// What a layer is made of besides its extents.
struct layer_options {
    nonlinearity function = nonlinearity::none;
    bool batch_norm = false;     ///< instead of a bias; not with a quantizer that has_fixed_magnitude
    bool float_output = false;   ///< the last layer: real outputs instead of codes
    float range_momentum = 0.9f; ///< of the observer of the outputs, if that is a moving_average
};

/// Weights, and biases or a batch norm, with their gradients and the quantizer of the weights. Not thread-safe.
template <class Math, symmetric_quantizer WeightQuantizer> class layer_weights {
public:
    /// One group of trainable values, as parameters() shows it to an optimizer.
    struct parameter {
        const char* name;
        std::span<float> value, gradient;
        bool decay; ///< whether weight decay is customary
    };

    buffer<float> weight, bias, weight_gradient, bias_gradient;
    std::optional<notch::batch_norm> norm;
    WeightQuantizer weight_quantizer;

    [[nodiscard]] const Math& math() const noexcept { return math_; }
    [[nodiscard]] const layer_options& options() const noexcept { return options_; }
    [[nodiscard]] channel_layout weight_layout() const noexcept { return math_.layout(); }

    /// Uniform He initialization (He et al. 2015): variance 2 / fan_in. next() gives uniforms in [0, 1).
    template <class Uniform> void initialize(Uniform&& next) {
        const float bound = std::sqrt(6.0f / static_cast<float>(math_.fan_in()));
        for (float& v : weight) v = bound * (2.0f * static_cast<float>(next()) - 1.0f);
    }

    /// Calls f(parameter) for every group: all that a checkpoint of the weights has to keep, but for the running
    /// statistics of norm. Learned steps and thresholds are -infinity until a quantized forward sets them, or until
    /// they are restored.
    template <class F> void parameters(F&& f) {
        f(parameter{"weight", weight, weight_gradient, true});
        if (norm) {
            f(parameter{"gamma", norm->gamma, norm->gamma_gradient, false});
            f(parameter{"beta", norm->beta, norm->beta_gradient, false});
        } else {
            f(parameter{"bias", bias, bias_gradient, false});
        }
        if constexpr (requires { weight_quantizer.log_step(); })
            f(parameter{"log_step", weight_quantizer.log_step(), weight_quantizer.log_step_gradient(), false});
        if constexpr (requires { weight_quantizer.log2_threshold(); })
            f(parameter{"log2_threshold", weight_quantizer.log2_threshold(), weight_quantizer.log2_threshold_gradient(),
                        false});
        if constexpr (requires { weight_quantizer.log_norm(); })
            f(parameter{"log_norm", weight_quantizer.log_norm(), weight_quantizer.log_norm_gradient(), false});
    }

    /// Weights and bias with the batch norm folded in: what float inference uses.
    std::pair<std::span<const float>, std::span<const float>> folded() {
        check_parameters();
        fold();
        return {norm ? w_folded_ : weight, norm ? b_folded_ : bias};
    }

protected:
    layer_weights(Math math, std::span<const index_t> weight_extents, const layer_options& o)
        : weight(checked_weights(math)), bias(o.batch_norm ? 0 : math.out), weight_gradient(math.layout().size()),
          bias_gradient(o.batch_norm ? 0 : math.out), weight_quantizer(weight_extents), math_(std::move(math)),
          options_(o) {
        if (o.function < nonlinearity::none || o.function > nonlinearity::relu6)
            fail(errc::invalid_argument, detail::cat("train_layer: the nonlinearity is ", static_cast<int>(o.function),
                                                     ", not one of the enumeration"));
        if (has_fixed_magnitude<WeightQuantizer> && o.batch_norm)
            fail(errc::invalid_argument,
                 "train_layer: batch_norm with a quantizer of weights of a fixed magnitude (binary_connect, "
                 "dorefa_weights, accumulator_aware), which loses what a folded batch norm scales; use xnor_weights, "
                 "ternary_weights or another one whose scale follows the weights, or no batch_norm");
        if (o.batch_norm) norm.emplace(math_.out);
    }
    /// The number of weights, after a look at everything that it is computed from.
    static index_t checked_weights(const Math& m) {
        constexpr const char* where = "train_layer";
        detail::check_window(where, m.geometry);
        if (m.in < 1 || m.in > detail::max_extent || m.out < 1 || m.out > detail::max_extent)
            fail(errc::invalid_argument,
                 detail::cat(where, ": ", m.in, " input and ", m.out, " output channels, must be >= 1"));
        const index_t taps = m.geometry.kernel_h * m.geometry.kernel_w;
        return detail::checked_product(where, detail::checked_product(where, m.out, Math::depthwise ? 1 : m.in), taps);
    }
    /// The parameters and the quantizer are public: they may have been replaced, but not by others of another size.
    void check_parameters() const {
        constexpr const char* where = "train_layer";
        if (options_.batch_norm != norm.has_value())
            fail(errc::invalid_argument,
                 "train_layer: norm must be there exactly if the layer was made with batch_norm");
        const index_t weights = math_.layout().size(), biases = norm ? 0 : math_.out;
        detail::check_equal(where, "the number of weights", weight.size(), weights);
        detail::check_equal(where, "the size of weight_gradient", weight_gradient.size(), weights);
        detail::check_equal(where, "the number of biases", bias.size(), biases);
        detail::check_equal(where, "the size of bias_gradient", bias_gradient.size(), biases);
        if (norm) detail::check_equal(where, "the number of channels of the batch norm", norm->channels(), math_.out);
        const channel_layout& l = weight_quantizer.layout();
        if (l.size() != weights || (l.count() != 1 && l != math_.layout()))
            fail(errc::shape_mismatch,
                 detail::cat("train_layer: weight_quantizer is for [", l.outer, "][", l.channels, "][", l.inner,
                             "], neither one tensor nor the channels of the weights"));
    }
    void fold() {
        if (!norm) return;
        w_folded_.resize_discard(weight.size());
        b_folded_.resize_discard(math_.out);
        norm->fold(weight, math_.layout(), {}, w_folded_, b_folded_);
    }
    [[nodiscard]] float effective_bias(index_t c) const noexcept { return norm ? b_folded_[c] : bias[c]; }
    [[nodiscard]] std::span<const float> effective_biases() const noexcept { return norm ? b_folded_ : bias; }
    void quantize_weights(float x_scale, const context& ctx) {
        fold();
        const buffer<float>& w = norm ? w_folded_ : weight;
        const auto check_finite = [&] {
            if (scan_range(w).nonfinite > 0)
                for (index_t i = 0; i < w.size(); ++i)
                    if (!std::isfinite(w[i]))
                        fail(errc::invalid_argument, detail::cat("train_layer: weight ", i, " is ", w[i]));
        };
        for (index_t c = 0; c < math_.out; ++c)
            if (!std::isfinite(effective_bias(c)))
                fail(errc::invalid_argument,
                     detail::cat("train_layer: the bias of channel ", c, " is ", effective_bias(c)));
        if constexpr (detail::is_fake_quant<WeightQuantizer>) { // it has scanned them itself
            weight_quantizer.forward(w, ctx);
            if (weight_quantizer.nonfinite() != 0) check_finite();
        } else {
            check_finite();
            weight_quantizer.forward(w, ctx);
        }
        const auto params = weight_quantizer.params();
        w_scales_.resize_discard(static_cast<index_t>(params.size()));
        for (std::size_t c = 0; c < params.size(); ++c) w_scales_[static_cast<index_t>(c)] = params[c].scale;
        if (!detail::fit_scales(w, math_.layout(), effective_biases(), x_scale, w_scales_)) return;
        if constexpr (has_power_of_two_scale<typename WeightQuantizer::range>)
            for (float& s : w_scales_) s = ceil_to_power_of_two(s);
        weight_quantizer.forward(w, w_scales_, ctx);
    }
    [[nodiscard]] buffer<std::int32_t> integer_bias(quant_params x) const {
        buffer<std::int32_t> b(math_.out);
        for (index_t c = 0; c < math_.out; ++c)
            b[c] = quantize_bias(effective_bias(c), x.scale, w_scales_[w_scales_.size() == 1 ? 0 : c]);
        return b;
    }
    [[nodiscard]] layer_spec common_spec() const {
        layer_spec s;
        s.geometry = math_.geometry;
        s.in_channels = math_.in;
        s.out_channels = math_.out;
        s.depthwise = Math::depthwise;
        const auto codes = weight_quantizer.codes();
        s.weights = buffer<std::int8_t>(static_cast<index_t>(codes.size()));
        std::copy(codes.begin(), codes.end(), s.weights.begin());
        s.w_scales = w_scales_;
        s.weight_bits = WeightQuantizer::range::bits;
        s.function = options_.function;
        return s;
    }

    Math math_;
    layer_options options_;
    buffer<float> w_scales_, w_folded_, b_folded_;
};

NOTCH_KEYED_END
