// SPDX-License-Identifier: Apache-2.0
//
// notch/layers/layer_norm.hpp: layer norm over the channels (Ba et al. 2016, arXiv:1607.06450) for training, in fp32
// and through its integer kernel:
//
//   forward    xhat = (x - mean) / sqrt(variance + epsilon),  y = gamma xhat + beta       of every pixel
//              quantized: notch::norm on the codes          the codes of notch::norm with freeze(layer, x.params)
//   backward   dgamma = sum dz xhat,  dbeta = sum dz,  g = gamma dz
//              dx = (g - mean(g) - xhat mean(g xhat)) / sqrt(variance + epsilon)
//              dz = dy where the code of y was not clipped  straight-through
//
// In phase::quantized xhat is that of the dequantized codes of x. Nothing is folded: statistics are those of the row at
// hand, in training and in inference.
#pragma once

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>

#include <notch/eigen/map.hpp>
#include <notch/kernels/norm.hpp>
#include <notch/layers/activation.hpp>
#include <notch/observe/moving_average.hpp>
#include <notch/qat/fake_quant.hpp>

NOTCH_KEYED_BEGIN

/// Not thread-safe. The activation given to forward must live until backward.
template <observer OutputObserver = moving_average> class layer_norm_layer {
public:
    /// One group of trainable values, as parameters() shows it to an optimizer.
    struct parameter {
        const char* name;
        std::span<float> value, gradient;
        bool decay; ///< whether weight decay is customary
    };
    buffer<float> gamma, beta, gamma_gradient, beta_gradient;
    OutputObserver output_observer;
    std::optional<quant_params> fixed_params; ///< if set, instead of the observer's, which then sees nothing

    /// gamma is 1 and beta 0. epsilon: finite, > 0.
    explicit layer_norm_layer(index_t channels, float epsilon = 1e-5f, const OutputObserver& o = OutputObserver{})
        : gamma(checked(channels, epsilon)), beta(channels), gamma_gradient(channels), beta_gradient(channels),
          output_observer(o), channels_(channels), epsilon_(epsilon) {
        std::fill(gamma.begin(), gamma.end(), 1.0f);
    }

    [[nodiscard]] index_t channels() const noexcept { return channels_; }
    [[nodiscard]] float epsilon() const noexcept { return epsilon_; }
    [[nodiscard]] quant_params output_params() const {
        return detail::output_params_of("layer_norm_layer", fixed_params, output_observer.range());
    }
    /// Calls f(parameter) for every group of trainable values.
    template <class F> void parameters(F&& f) {
        f(parameter{"gamma", gamma, gamma_gradient, false});
        f(parameter{"beta", beta, beta_gradient, false});
    }
    /// Copies gamma, beta and the range from another layer.
    void copy_from(const layer_norm_layer& o) {
        detail::check_equal("layer_norm_layer.copy_from", "the number of channels", o.channels_, channels_);
        gamma = o.gamma;
        beta = o.beta;
        output_observer = o.output_observer;
        fixed_params = o.fixed_params;
    }

    /// y is reshaped as needed. training keeps what backward needs, and lets the range follow (quantized). There is no
    /// phase::dynamic.
    void forward(const activation& x, activation& y, phase p, bool training, const context& ctx) {
        constexpr const char* where = "layer_norm_layer";
        detail::check_phase(where, p);
        if (p == phase::dynamic) fail(errc::invalid_argument, "layer_norm_layer: there is no phase::dynamic");
        detail::check_activation(where, x);
        detail::check_equal(where, "the number of channels of x", x.c, channels_);
        check_parameters();
        if (x.quantized != (p == phase::quantized))
            fail(errc::invalid_argument, "layer_norm_layer: x has codes where values are needed, or the reverse");
        detail::shape_output(where, y, {&x}, x.n, x.h, x.w, x.c);
        trained_ = false; // until this forward has succeeded
        y.quantized = x.quantized;
        if (!y.quantized) {
            y.values.resize_discard(y.size());
            normalize(x.values, y.values, y.pixels());
            if (p == phase::calibrate && !fixed_params) output_observer.observe(y.values);
        } else {
            if (training) {
                y_real_.resize_discard(y.size());
                normalize(real_values(x, x_real_, ctx), y_real_, y.pixels());
                if (!fixed_params) output_observer.observe(y_real_);
            }
            y.params = output_params();
            y.codes.resize_discard(y.size());
            norm(matrix_view<const std::uint8_t>(x.codes.data(), x.pixels(), x.c), constants(x.params),
                 matrix_view<std::uint8_t>(y.codes.data(), x.pixels(), x.c), ctx);
            if (training) {
                mask_.resize_discard(y.size());
                const auto zero = static_cast<float>(y.params.zero_point);
                for (index_t i = 0; i < y.size(); ++i) {
                    const float code = std::nearbyint(y_real_[i] / y.params.scale) + zero;
                    mask_[i] = code >= 0.0f && code <= 255.0f;
                }
            }
        }
        quantized_ = y.quantized;
        size_ = y.size();
        trained_ = training;
    }

    /// dy: gradient of y, overwritten. dx: gradient of x, written, unless it is empty. Adds to the gradients of gamma
    /// and beta.
    void backward(std::span<float> dy, std::span<float> dx, const context& ctx = {}) {
        constexpr const char* where = "layer_norm_layer.backward";
        if (!trained_)
            fail(errc::invalid_argument, "layer_norm_layer: backward needs a forward with training = true before it");
        detail::check_equal(where, "the size of dy", static_cast<index_t>(dy.size()), size_);
        if (!dx.empty()) detail::check_equal(where, "the size of dx", static_cast<index_t>(dx.size()), size_);
        check_parameters();
        if (quantized_) straight_through(dy, mask_, dy, ctx);
        const index_t c = channels_;
        const row g(gamma.data(), c);
        mutable_row dg(gamma_gradient.data(), c), db(beta_gradient.data(), c);
        for (index_t r = 0; r < size_ / c; ++r) {
            const row d(dy.data() + r * c, c), xhat(xhat_.data() + r * c, c);
            dg += d * xhat;
            db += d;
            if (dx.empty()) continue;
            mutable_row to(dx.data() + r * c, c);
            to = g * d;
            const float mean = to.mean(), along = (to * xhat).mean();
            to = inverse_[r] * (to - mean - along * xhat);
        }
    }

    /// What notch::norm needs to give the codes of this layer, for inputs with parameters x.
    [[nodiscard]] norm_params<std::uint8_t, std::uint8_t> constants(quant_params x) const {
        check_parameters();
        return make_layer_norm<std::uint8_t, std::uint8_t>(channels_, x, epsilon_, gamma, beta, output_params());
    }

private:
    using row = Eigen::Map<const Eigen::Array<float, 1, Eigen::Dynamic>>;
    using mutable_row = Eigen::Map<Eigen::Array<float, 1, Eigen::Dynamic>>;

    static index_t checked(index_t channels, float epsilon) {
        if (channels < 1 || channels > max_norm_cols)
            fail(errc::invalid_argument,
                 detail::cat("layer_norm_layer: ", channels, " channels, must be 1..", max_norm_cols));
        if (!(epsilon > 0.0f) || !std::isfinite(epsilon))
            fail(errc::invalid_argument,
                 detail::cat("layer_norm_layer: epsilon is ", epsilon, ", must be finite and > 0"));
        return channels;
    }
    /// They are public: they may have been replaced, but not by others of another size.
    void check_parameters() const {
        for (const buffer<float>* b : {&gamma, &beta, &gamma_gradient, &beta_gradient})
            detail::check_equal("layer_norm_layer", "the size of gamma, beta or a gradient", b->size(), channels_);
    }
    void normalize(std::span<const float> x, std::span<float> y, index_t pixels) {
        const index_t c = channels_;
        xhat_.resize_discard(pixels * c);
        inverse_.resize_discard(pixels);
        for (index_t r = 0; r < pixels; ++r) {
            const row from(x.data() + r * c, c);
            mutable_row xhat(xhat_.data() + r * c, c);
            xhat = from - from.mean();
            inverse_[r] = 1.0f / std::sqrt(xhat.square().mean() + epsilon_);
            xhat *= inverse_[r];
            mutable_row(y.data() + r * c, c) = xhat * row(gamma.data(), c) + row(beta.data(), c);
        }
    }

    index_t channels_ = 0, size_ = 0; ///< size_: of the last forward
    float epsilon_ = 0;
    bool quantized_ = false, trained_ = false;
    buffer<float> xhat_, inverse_, x_real_, y_real_;
    buffer<std::uint8_t> mask_;
};

/// The inference twin: notch::norm with these parameters gives the same codes for inputs with parameters x.
template <observer O>
[[nodiscard]] norm_params<std::uint8_t, std::uint8_t> freeze(const layer_norm_layer<O>& layer, quant_params x) {
    return layer.constants(x);
}

NOTCH_KEYED_END
