// SPDX-License-Identifier: Apache-2.0
//
// notch/layers/lookup.hpp: smooth activation functions between layers for training, in fp32 and through a table of
// codes (kernels/lookup.hpp):
//
//   forward    y = f(x);  quantized: table[code of x]         the codes of notch::lookup with freeze(layer, x.params)
//   backward   dx = dy f'(x), of the dequantized code of x;  0 where the code of y was clipped (straight-through)
//
// A function is a type with static double value(double) and static double slope(double), such as gelu_function. With it
// phase::quantized costs two tables of 256 floats a forward, whatever f costs.
#pragma once

#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <optional>
#include <span>

#include <notch/kernels/lookup.hpp>
#include <notch/layers/activation.hpp>
#include <notch/observe/moving_average.hpp>
#include <notch/ref/functions.hpp>

NOTCH_KEYED_BEGIN

/// x Phi(x) (Hendrycks and Gimpel 2016, arXiv:1606.08415). The fp32 phases use the float functions of the C library;
/// the table is made with functions::gelu, which has the same bits on every machine.
struct gelu_function {
    static double value(double x) { return functions::gelu(x); }
    static double slope(double x) {
        return 0.5 * functions::erfc(-0.70710678118654752 * x) + 0.3989422804014327 * x * functions::exp(-0.5 * x * x);
    }
    static float value(float x) { return 0.5f * x * (1.0f + std::erf(0.70710678f * x)); }
    static float slope(float x) {
        return 0.5f * (1.0f + std::erf(0.70710678f * x)) + 0.39894228f * x * std::exp(-0.5f * x * x);
    }
};
/// x / (1 + e^-x).
struct silu_function {
    static double value(double x) { return functions::silu(x); }
    static double slope(double x) {
        const double s = functions::sigmoid(x);
        return s * (1.0 + x * (1.0 - s));
    }
    static float value(float x) { return x / (1.0f + std::exp(-x)); }
    static float slope(float x) {
        const float s = 1.0f / (1.0f + std::exp(-x));
        return s * (1.0f + x * (1.0f - s));
    }
};

/// What lookup_layer computes: in double for tables, in float for the fp32 phases.
template <class F>
concept smooth_function = requires(double x, float y) {
    { F::value(x) } -> std::same_as<double>;
    { F::slope(x) } -> std::same_as<double>;
    { F::value(y) } -> std::same_as<float>;
    { F::slope(y) } -> std::same_as<float>;
};

/// Has no parameters. Not thread-safe. The activation given to forward must live until backward.
template <smooth_function Function, observer OutputObserver = moving_average> class lookup_layer {
public:
    OutputObserver output_observer;
    std::optional<quant_params> fixed_params; ///< if set, instead of the observer's, which then sees nothing

    explicit lookup_layer(const OutputObserver& o = OutputObserver{}) : output_observer(o) {}

    [[nodiscard]] quant_params output_params() const {
        return detail::output_params_of("lookup_layer", fixed_params, output_observer.range());
    }
    /// The table that gives the codes of this layer, for inputs with parameters x.
    [[nodiscard]] lookup_table<std::uint8_t, std::uint8_t> table(quant_params x) const {
        return make_lookup<std::uint8_t, std::uint8_t>([](double v) { return Function::value(v); }, x, output_params());
    }

    /// y is reshaped as needed. training keeps what backward needs, and lets the range follow (quantized). There is no
    /// phase::dynamic.
    void forward(const activation& x, activation& y, phase p, bool training, const context& ctx) {
        constexpr const char* where = "lookup_layer";
        detail::check_phase(where, p);
        if (p == phase::dynamic) fail(errc::invalid_argument, "lookup_layer: there is no phase::dynamic");
        detail::check_activation(where, x);
        if (x.quantized != (p == phase::quantized))
            fail(errc::invalid_argument, "lookup_layer: x has codes where values are needed, or the reverse");
        detail::shape_output(where, y, {&x}, x.n, x.h, x.w, x.c);
        trained_ = false; // until this forward has succeeded
        y.quantized = x.quantized;
        if (!y.quantized) {
            y.values.resize_discard(y.size());
            for (index_t i = 0; i < y.size(); ++i) y.values[i] = Function::value(x.values[i]);
            if (p == phase::calibrate && !fixed_params) output_observer.observe(y.values);
        } else {
            forward_codes(x, y, training, ctx);
        }
        x_ = &x;
        size_ = x.size();
        trained_ = training;
    }

    /// dy: gradient of y. dx: gradient of x, written; it may be dy.
    void backward(std::span<const float> dy, std::span<float> dx) const {
        constexpr const char* where = "lookup_layer.backward";
        if (!trained_)
            fail(errc::invalid_argument, "lookup_layer: backward needs a forward with training = true before it");
        detail::check_activation(where, *x_);
        detail::check_equal(where, "the size of the input of the last forward", x_->size(), size_);
        detail::check_equal(where, "the size of dy", static_cast<index_t>(dy.size()), size_);
        detail::check_equal(where, "the size of dx", static_cast<index_t>(dx.size()), size_);
        for (std::size_t i = 0; i < dx.size(); ++i) {
            const auto at = static_cast<index_t>(i);
            dx[i] = dy[i] * (x_->quantized ? slopes_[x_->codes[at]] : Function::slope(x_->values[at]));
        }
    }

private:
    void forward_codes(const activation& x, activation& y, bool training, const context& ctx) {
        std::array<float, 256> values{};
        const auto real = [&](std::size_t code) {
            return static_cast<double>(static_cast<std::int32_t>(code) - x.params.zero_point) *
                   static_cast<double>(x.params.scale);
        };
        if (training) {
            for (std::size_t code = 0; code < 256; ++code)
                values[code] = static_cast<float>(Function::value(real(code)));
            if (!fixed_params) {
                y_real_.resize_discard(y.size());
                for (index_t i = 0; i < y.size(); ++i) y_real_[i] = values[x.codes[i]];
                output_observer.observe(y_real_);
            }
        }
        const lookup_table<std::uint8_t, std::uint8_t> codes = table(x.params);
        y.params = output_params();
        y.codes.resize_discard(y.size());
        lookup(x.codes, codes, y.codes, ctx);
        if (!training) return;
        const auto zero = static_cast<float>(y.params.zero_point);
        for (std::size_t code = 0; code < 256; ++code) {
            const float out = std::nearbyint(values[code] / y.params.scale) + zero;
            const bool inside = out >= 0.0f && out <= 255.0f;
            slopes_[code] = inside ? static_cast<float>(Function::slope(real(code))) : 0.0f;
        }
    }

    const activation* x_ = nullptr;
    index_t size_ = 0; ///< of the last forward
    bool trained_ = false;
    std::array<float, 256> slopes_{}; ///< of the codes of x
    buffer<float> y_real_;
};

template <observer OutputObserver = moving_average> using gelu_layer = lookup_layer<gelu_function, OutputObserver>;
template <observer OutputObserver = moving_average> using silu_layer = lookup_layer<silu_function, OutputObserver>;

/// The inference twin: notch::lookup with this table gives the same codes for inputs with parameters x.
template <class F, observer O>
[[nodiscard]] lookup_table<std::uint8_t, std::uint8_t> freeze(const lookup_layer<F, O>& layer, quant_params x) {
    return layer.table(x);
}

NOTCH_KEYED_END
