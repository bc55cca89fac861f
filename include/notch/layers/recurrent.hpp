// SPDX-License-Identifier: Apache-2.0
//
// notch/layers/recurrent.hpp: LSTM and GRU for training, in fp32 and through their integer kernels. x is n x 1 x steps
// x channels, y the h of every step, n x 1 x steps x hidden; sequences start at 0.
//
//     notch::lstm_layer<> lstm(channels, hidden);
//     lstm.forward(x, h, phase::quantized, true, ctx);     // codes of h: those of freeze(lstm, x.params)
//     lstm.backward(dh, dx, ctx);
//
// phase::quantized runs frozen_recurrent itself. backward is back-propagation through time (Werbos 1990) with the
// values that forward used: dequantized gates, states and codes of h, and quantized weights. Straight-through: rounding
// has slope 1; an h whose code is clamped passes nothing on; a gate whose input saturates at 8 needs no mask, its own
// slope is below 2^-11 there. The range of h follows what forward has seen, from the next forward on.
#pragma once

#include <Eigen/Core>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>

#include <notch/eigen/map.hpp>
#include <notch/layers/float_math.hpp>
#include <notch/layers/frozen_recurrent.hpp>
#include <notch/layers/layer_weights.hpp>
#include <notch/layers/recurrent_math.hpp>
#include <notch/observe/min_max.hpp>
#include <notch/observe/moving_average.hpp>
#include <notch/qat/fake_quant.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// The weights of one of the two products.
template <symmetric_quantizer Quantizer> struct gate_weights : layer_weights<conv_math, Quantizer> {
    using base = layer_weights<conv_math, Quantizer>;
    using base::check_parameters, base::quantize_weights, base::integer_bias, base::w_scales_, base::math_;
    using base::weight, base::weight_gradient, base::bias_gradient, base::weight_quantizer;

    gate_weights(index_t in, index_t out)
        : base({window{}, in, out, {}, {}, {}}, std::array<index_t, 4>{out, 1, 1, in}, layer_options{}) {}

    /// The weights that the last forward used.
    [[nodiscard]] matrix_view<const float> effective(bool quantized) const {
        return {quantized ? weight_quantizer.values().data() : weight.data(), math_.out, math_.in};
    }
    [[nodiscard]] auto bias_row() const { return Eigen::Map<const Eigen::RowVectorXf>(this->bias.data(), math_.out); }

    /// Adds the gradients of weights and bias for inputs x and gradients dz of the outputs.
    void add_gradients(matrix_view<const float> dz, matrix_view<const float> x, bool quantized) {
        Eigen::Map<Eigen::RowVectorXf>(bias_gradient.data(), math_.out) += as_eigen(dz).colwise().sum();
        if (!quantized) {
            as_eigen(matrix_view<float>(weight_gradient.data(), math_.out, math_.in)).noalias() +=
                as_eigen(dz).transpose() * as_eigen(x);
            return;
        }
        dw_.resize_discard(weight.size());
        as_eigen(matrix_view<float>(dw_.data(), math_.out, math_.in)).noalias() =
            as_eigen(dz).transpose() * as_eigen(x);
        const std::span<const float> dw = weight_quantizer.backward(weight, dw_);
        for (index_t i = 0; i < weight.size(); ++i) weight_gradient[i] += dw[static_cast<std::size_t>(i)];
    }

private:
    buffer<float> dw_;
};

} // namespace detail

/// Cell: lstm_cell or gru_cell. Not thread-safe. The activation given to forward must live until backward.
template <class Cell, symmetric_quantizer WeightQuantizer = fake_quant<symmetric<8>, per_channel<0>>,
          observer OutputObserver = moving_average>
class recurrent_layer {
    using math = detail::cell_math<Cell>;
    using weights = detail::gate_weights<WeightQuantizer>;
    static constexpr index_t gates = Cell::gates;

public:
    /// W and b, U and b': weight, bias, their gradients and weight_quantizer, as in the other training layers. Rows are
    /// gates x hidden in the order of PyTorch (recurrent_spec).
    weights input, recurrent;
    /// The range of h.
    OutputObserver output_observer;
    /// If set, the parameters of h instead of the observer's: scale 2^-15 ... 1.
    std::optional<quant_params> fixed_params;
    /// The range of c, and whether it has 16 bits, in units of the least power of two that covers the range, instead of
    /// 31: of an LSTM only.
    min_max cell_observer;
    bool int16_cell = false;

    recurrent_layer(index_t in, index_t hidden)
        : input(in, checked_rows(in, hidden)), recurrent(hidden, gates * hidden), hidden_(hidden) {}

    [[nodiscard]] index_t hidden() const noexcept { return hidden_; }

    /// Uniform in +-1 / sqrt(hidden), as is usual, with a bias of 1 for the forget gate of an LSTM (Jozefowicz et al.
    /// 2015). next() gives uniforms in [0, 1).
    template <class Uniform> void initialize(Uniform&& next) {
        const float bound = 1.0f / std::sqrt(static_cast<float>(hidden_));
        for (buffer<float>* all : {&input.weight, &recurrent.weight})
            for (float& v : *all) v = bound * (2.0f * static_cast<float>(next()) - 1.0f);
        if constexpr (gates == 4) std::fill_n(input.bias.data() + hidden_, hidden_, 1.0f);
    }
    /// Calls f(parameter) for every group of trainable values.
    template <class F> void parameters(F&& f) {
        input.parameters(f);
        recurrent.parameters(f);
    }
    /// Copies weights, biases and ranges from a layer with another quantizer.
    template <class Other> void copy_from(const Other& o) {
        detail::check_equal("recurrent_layer.copy_from", "the number of weights", o.input.weight.size(),
                            input.weight.size());
        detail::check_equal("recurrent_layer.copy_from", "the hidden size", o.hidden(), hidden_);
        input.weight = o.input.weight;
        input.bias = o.input.bias;
        recurrent.weight = o.recurrent.weight;
        recurrent.bias = o.recurrent.bias;
        output_observer = o.output_observer;
        fixed_params = o.fixed_params;
        cell_observer = o.cell_observer;
        int16_cell = o.int16_cell;
    }

    /// The parameters of h that the next quantized forward takes.
    [[nodiscard]] quant_params output_params() const {
        quant_params p = detail::output_params_of("recurrent_layer", fixed_params, output_observer.range());
        p.scale = std::clamp(p.scale, 0x1p-15f, 1.0f);
        return p;
    }
    /// The unit of c that the next quantized forward takes; 0 for 31 bits.
    [[nodiscard]] float cell_scale() const {
        if (!int16_cell) return 0.0f;
        if (gates != lstm_cell::gates) fail(errc::invalid_argument, "recurrent_layer: int16_cell is of an LSTM only");
        const real_range r = cell_observer.range();
        if (r.empty())
            fail(errc::invalid_argument,
                 "recurrent_layer: the range of c was never observed; run phase::calibrate first");
        float scale = 0x1p-15f;
        while (scale < 0x1p-8f && std::max(-r.min, r.max) > 32767.0f * scale) scale *= 2.0f;
        return scale;
    }
    /// y is reshaped as needed. training keeps what backward needs, and lets the ranges follow (quantized). There is no
    /// phase::dynamic.
    void forward(const activation& x, activation& y, phase p, bool training, const context& ctx) {
        constexpr const char* where = "recurrent_layer";
        detail::check_phase(where, p);
        if (p == phase::dynamic) fail(errc::invalid_argument, "recurrent_layer: has no phase::dynamic");
        detail::check_equal(where, "the number of channels of x", x.c, input.math_.in);
        detail::check_equal(where, "the height of x", x.h, 1);
        detail::check_activation(where, x);
        input.check_parameters();
        recurrent.check_parameters();
        if (x.quantized != (p == phase::quantized))
            fail(errc::invalid_argument, p == phase::quantized
                                             ? "recurrent_layer: quantized arithmetic needs an input with codes"
                                             : "recurrent_layer: float arithmetic needs an input with real values");
        detail::shape_output(where, y, {&x}, x.n, 1, x.w, hidden_);
        trained_ = false;
        x_ = &x;
        n_ = x.n;
        steps_ = x.w;
        quantized_ = p == phase::quantized;
        y.quantized = quantized_;
        if (quantized_)
            forward_quantized(x, y, training, ctx);
        else
            forward_float(x, y, p);
        trained_ = training;
    }

    /// dy: gradient of y, overwritten. Writes dx unless it is empty; adds to the gradients of the parameters.
    void backward(std::span<float> dy, std::span<float> dx, const context& ctx) {
        constexpr const char* where = "recurrent_layer.backward";
        if (!trained_)
            fail(errc::invalid_argument, "recurrent_layer: backward needs a forward with training = true before it");
        const index_t rows = n_ * steps_, cols = gates * hidden_;
        detail::check_equal(where, "the size of dy", static_cast<index_t>(dy.size()), rows * hidden_);
        detail::check_activation(where, *x_);
        detail::check_equal(where, "the size of the input of the last forward", x_->size(), rows * input.math_.in);
        if (!dx.empty()) detail::check_equal(where, "the size of dx", static_cast<index_t>(dx.size()), x_->size());
        if (quantized_) straight_through(dy, mask_, dy);
        dzx_.resize_discard(rows * cols);
        if constexpr (!math::shared_gates) dzh_.resize_discard(rows * cols);
        float* const dzh = math::shared_gates ? dzx_.data() : dzh_.data();
        d_state_ = buffer<float>(n_ * hidden_);
        const matrix_view<const float> u = recurrent.effective(quantized_);
        for (index_t t = steps_ - 1; t >= 0; --t) {
            for (index_t i = 0; i < n_; ++i) {
                const index_t row = i * steps_ + t;
                math::backward(kept_.data() + row * math::kept * hidden_,
                               t > 0 ? state_.data() + (row - 1) * hidden_ : zero_.data(), dy.data() + row * hidden_,
                               hidden_, d_state_.data() + i * hidden_, dzx_.data() + row * cols, dzh + row * cols);
            }
            if (t == 0) break;
            // What h of the step before gets back through U, and through its code.
            d_h_.resize_discard(n_ * hidden_);
            as_eigen(matrix_view<float>(d_h_.data(), n_, hidden_)).noalias() =
                as_eigen(matrix_view<const float>(dzh + t * cols, n_, cols, steps_ * cols)) * as_eigen(u);
            for (index_t i = 0; i < n_; ++i) {
                const index_t at = (i * steps_ + t - 1) * hidden_;
                for (index_t j = 0; j < hidden_; ++j)
                    if (!quantized_ || mask_[at + j]) dy[static_cast<std::size_t>(at + j)] += d_h_[i * hidden_ + j];
            }
        }
        const matrix_view<const float> to_x(dzx_.data(), rows, cols), to_h(dzh, rows, cols);
        const std::span<const float> x = real_values(*x_, x_real_, ctx);
        input.add_gradients(to_x, {x.data(), rows, input.math_.in}, quantized_);
        recurrent.add_gradients(to_h, {h_before_.data(), rows, hidden_}, quantized_);
        if (dx.empty()) return;
        as_eigen(matrix_view<float>(dx.data(), rows, input.math_.in)).noalias() =
            as_eigen(to_x) * as_eigen(input.effective(quantized_));
    }

    /// The plain description of the inference layer that gives the codes of this one, for inputs with parameters x.
    [[nodiscard]] recurrent_spec spec(quant_params x, const context& ctx = {}) {
        detail::check_params("recurrent_layer.spec", "x", x, 0, 255);
        recurrent_spec s;
        s.in_channels = input.math_.in;
        s.hidden = hidden_;
        s.weight_bits = WeightQuantizer::range::bits;
        s.x = x;
        s.h = output_params();
        s.cell_scale = cell_scale();
        const auto fill = [&](weights& w, quant_params in, buffer<std::int8_t>& codes, buffer<float>& scales,
                              buffer<std::int32_t>& bias) {
            w.check_parameters();
            w.quantize_weights(in.scale, ctx);
            const auto from = w.weight_quantizer.codes();
            codes.resize_discard(static_cast<index_t>(from.size()));
            std::copy(from.begin(), from.end(), codes.begin());
            scales = w.w_scales_;
            bias = w.integer_bias(in);
        };
        fill(input, x, s.weights, s.w_scales, s.bias);
        fill(recurrent, s.h, s.recurrent_weights, s.u_scales, s.recurrent_bias);
        return s;
    }

private:
    static index_t checked_rows(index_t in, index_t hidden) {
        if (in < 1 || in > detail::max_channels || hidden < 1 || hidden > detail::max_channels / gates)
            fail(errc::invalid_argument,
                 detail::cat("recurrent_layer: ", in, " input channels and ", hidden, " hidden, must be >= 1"));
        return gates * hidden;
    }
    void resize() {
        const index_t size = n_ * steps_ * hidden_;
        state_.resize_discard(size);
        h_before_.resize_discard(size);
        kept_.resize_discard(math::kept * size);
        zero_ = buffer<float>(hidden_);
    }

    void forward_float(const activation& x, activation& y, phase p) {
        const index_t rows = n_ * steps_, cols = gates * hidden_;
        y.values.resize_discard(y.size());
        resize();
        zx_.resize_discard(rows * cols);
        zh_.resize_discard(n_ * cols);
        const matrix_view<float> zx(zx_.data(), rows, cols), zh(zh_.data(), n_, cols);
        as_eigen(zx).noalias() = as_eigen(matrix_view<const float>(x.values.data(), rows, x.c)) *
                                 as_eigen(input.effective(false)).transpose();
        as_eigen(zx).rowwise() += input.bias_row();
        for (index_t t = 0; t < steps_; ++t) {
            for (index_t i = 0; i < n_; ++i) {
                float* before = h_before_.data() + (i * steps_ + t) * hidden_;
                std::copy_n(t > 0 ? y.values.data() + (i * steps_ + t - 1) * hidden_ : zero_.data(), hidden_, before);
            }
            as_eigen(zh).noalias() =
                as_eigen(matrix_view<const float>(h_before_.data() + t * hidden_, n_, hidden_, steps_ * hidden_)) *
                as_eigen(recurrent.effective(false)).transpose();
            as_eigen(zh).rowwise() += recurrent.bias_row();
            for (index_t i = 0; i < n_; ++i) {
                const index_t row = i * steps_ + t;
                math::forward(&zx(row, 0), &zh(i, 0), t > 0 ? state_.data() + (row - 1) * hidden_ : zero_.data(),
                              hidden_, kept_.data() + row * math::kept * hidden_, state_.data() + row * hidden_,
                              y.values.data() + row * hidden_);
            }
        }
        if (p != phase::calibrate) return;
        if (!fixed_params) output_observer.observe(y.values);
        cell_observer.observe(state_);
    }

    void forward_quantized(const activation& x, activation& y, bool training, const context& ctx) {
        const frozen_recurrent<Cell> twin(spec(x.params, ctx));
        context inner = ctx;
        const index_t need = twin.workspace_size(n_, steps_), rows = n_ * steps_;
        if (static_cast<index_t>(ctx.workspace.size()) < need) {
            if (workspace_.size() < need) workspace_ = buffer<std::byte>(need);
            inner.workspace = workspace_;
        }
        y.codes.resize_discard(y.size());
        y.params = twin.spec().h;
        if (!training) {
            twin.forward(x.code_view(), y.code_view(), inner);
            return;
        }
        uh_.resize_discard(rows * gates * hidden_);
        state_codes_.resize_discard(rows * hidden_);
        gate_codes_.resize_discard(rows * Cell::kept * hidden_);
        const recurrent_trace trace{{uh_.data(), rows, gates * hidden_},
                                    {gate_codes_.data(), rows, Cell::kept * hidden_},
                                    {state_codes_.data(), rows, hidden_}};
        twin.forward(x.code_view(), y.code_view(), inner, &trace);
        keep(y, twin.spec());
    }

    /// The values of the quantized forward as floats, the masks, and what the observers see.
    void keep(const activation& y, const recurrent_spec& s) {
        resize();
        mask_.resize_discard(y.size());
        h_real_.resize_discard(y.size());
        const index_t rows = n_ * steps_;
        const float unit = gates == 4 ? 0x1p-23f : 0x1p-30f; // of the state
        for (index_t row = 0; row < rows; ++row) {
            float* k = kept_.data() + row * math::kept * hidden_;
            const std::int16_t* codes = gate_codes_.data() + row * Cell::kept * hidden_;
            for (index_t j = 0; j < Cell::kept * hidden_; ++j) k[j] = static_cast<float>(codes[j]) * 0x1p-15f;
            if constexpr (math::kept > Cell::kept)
                for (index_t j = 0; j < hidden_; ++j)
                    k[Cell::kept * hidden_ + j] =
                        static_cast<float>(uh_[(row * gates + gates - 1) * hidden_ + j]) * gate_params.scale;
            for (index_t j = 0; j < hidden_; ++j) {
                const index_t at = row * hidden_ + j;
                state_[at] = static_cast<float>(state_codes_[at]) * unit;
                h_real_[at] = math::output(k, state_.data() + row * hidden_, hidden_, j);
                const float code = std::nearbyint(h_real_[at] / s.h.scale) + static_cast<float>(s.h.zero_point);
                mask_[at] = code >= 0.0f && code <= 255.0f;
                h_before_[at] =
                    row % steps_ == 0 ? 0.0f : static_cast<float>(y.codes[at - hidden_] - s.h.zero_point) * s.h.scale;
            }
        }
        if (!fixed_params) output_observer.observe(h_real_);
        cell_observer.observe(state_);
    }

    index_t hidden_;
    const activation* x_ = nullptr;
    index_t n_ = 0, steps_ = 0; ///< of the last forward
    bool quantized_ = false, trained_ = false;
    buffer<float> zx_, zh_, kept_, state_, h_before_, h_real_, zero_, x_real_; ///< [n][steps][...]
    buffer<float> dzx_, dzh_, d_state_, d_h_;
    buffer<std::int16_t> uh_, gate_codes_;
    buffer<std::int32_t> state_codes_;
    buffer<std::uint8_t> mask_;
    buffer<std::byte> workspace_;
};

template <symmetric_quantizer WeightQuantizer = fake_quant<symmetric<8>, per_channel<0>>,
          observer OutputObserver = moving_average>
using lstm_layer = recurrent_layer<lstm_cell, WeightQuantizer, OutputObserver>;
template <symmetric_quantizer WeightQuantizer = fake_quant<symmetric<8>, per_channel<0>>,
          observer OutputObserver = moving_average>
using gru_layer = recurrent_layer<gru_cell, WeightQuantizer, OutputObserver>;

/// The inference twin: the same codes for every input with parameters x, bit for bit.
template <class Cell, class Q, class O>
[[nodiscard]] frozen_recurrent<Cell> freeze(recurrent_layer<Cell, Q, O>& layer, quant_params x,
                                            const context& ctx = {}) {
    return frozen_recurrent<Cell>(layer.spec(x, ctx));
}

NOTCH_KEYED_END
