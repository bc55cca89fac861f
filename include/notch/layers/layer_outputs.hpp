// SPDX-License-Identifier: Apache-2.0
//
// notch/layers/layer_outputs.hpp: what a training layer (layers/train.hpp) computes from its quantized weights, and
// what it keeps of its outputs: their range, the mask of what backward passes on.
#pragma once

#include <concepts>
#include <limits>
#include <optional>
#include <span>

#include <notch/kernels/quantize.hpp>
#include <notch/layers/activation.hpp>
#include <notch/layers/frozen.hpp>
#include <notch/layers/layer_weights.hpp>
#include <notch/observe/moving_average.hpp>

NOTCH_KEYED_BEGIN

/// Independent of the quantizer of the weights, so that layers that differ in it alone share this. Not thread-safe.
template <class Packed, observer OutputObserver> class layer_outputs {
public:
    OutputObserver output_observer;
    /// If set, the parameters of the output instead of the observer's, which then sees nothing: of a method of
    /// notch/ptq, or output_params() to freeze the range at the end of training.
    std::optional<quant_params> fixed_params;

    [[nodiscard]] quant_params output_params() const {
        return detail::output_params_of("train_layer", fixed_params, output_observer.range());
    }

protected:
    explicit layer_outputs(const layer_options& o) : output_observer(make_observer(o)) {}

    static OutputObserver make_observer(const layer_options& o) {
        // Another observer than moving_average begins as its default constructor leaves it; it may be replaced later.
        if constexpr (std::same_as<OutputObserver, moving_average>)
            return moving_average(o.range_momentum);
        else
            return OutputObserver{};
    }

    /// The nonlinearity of real outputs, in place. training keeps the mask.
    void clamp_outputs(activation& y, nonlinearity f, bool training) {
        const float lo = detail::lower_bound(f), hi = detail::upper_bound(f);
        if (training) keep_inside(y, lo, hi);
        for (index_t i = 0; i < y.size(); ++i) {
            const float v = y.values[i] < lo ? lo : y.values[i];
            y.values[i] = v > hi ? hi : v;
        }
    }

    /// The integer layer on the codes of x: the codes of y, or its values if o.float_output. y has its shape.
    void forward_packed(const Packed& packed, std::span<const std::int32_t> b, std::span<const float> w_scales,
                        const layer_options& o, const activation& x, activation& y, bool training, const context& ctx) {
        const context inner = with_workspace(ctx, detail::convolve_workspace(packed, x.n, x.h, x.w, ctx));
        const auto dequantize_stage = stage::dequantize{x.params, w_scales};
        if (o.float_output) {
            y.quantized = false;
            y.values.resize_discard(y.size());
            detail::convolve(packed, detail::epilogue_with(o.function, packed, stage::bias{b}, dequantize_stage),
                             x.code_view(), y.value_view(), inner);
            if (training) keep_inside(y, detail::lower_bound(o.function), detail::upper_bound(o.function));
            return;
        }
        y.quantized = true;
        y.codes.resize_discard(y.size());
        if (!training) {
            y.params = output_params();
            const auto ep = detail::epilogue_with(o.function, packed, stage::bias{b},
                                                  stage::requantize<affine<8>>{x.params, w_scales, y.params});
            detail::convolve(packed, ep, x.code_view(), y.code_view(), inner);
            return;
        }
        // Training keeps the accumulators: the ranges follow them, and the mask comes from them.
        acc_.resize_discard(y.size());
        const matrix_view<const std::int32_t> acc(acc_.data(), y.pixels(), y.c);
        detail::convolve(packed, make_epilogue(packed, stage::bias{b}, stage::accumulators{x.params.zero_point}),
                         x.code_view(), nhwc_view<std::int32_t>(acc_.data(), y.n, y.h, y.w, y.c), inner);
        if (!fixed_params) {
            y_real_.resize_discard(y.size());
            requantize(acc, detail::epilogue_with(o.function, packed, stage::bias{b}, dequantize_stage),
                       matrix_view<float>(y_real_.data(), y.pixels(), y.c), {}, inner);
            output_observer.observe(y_real_);
        }
        y.params = output_params();
        mask_.resize_discard(y.size());
        requantize(acc,
                   detail::epilogue_with(o.function, packed, stage::bias{b},
                                         stage::requantize<affine<8>>{x.params, w_scales, y.params}),
                   matrix_view<std::uint8_t>(y.codes.data(), y.pixels(), y.c), mask_, inner);
    }

    /// The caller's workspace if it is large enough, else the layer's own.
    context with_workspace(const context& ctx, index_t need) {
        context inner = ctx;
        if (static_cast<index_t>(ctx.workspace.size()) < need) {
            if (workspace_.size() < need) workspace_ = buffer<std::byte>(need);
            inner.workspace = workspace_;
        }
        return inner;
    }

    buffer<float> y_real_;
    buffer<std::uint8_t> mask_;

private:
    /// Outputs that overflowed to infinity pass no gradient on. No branch, which would be taken at random.
    void keep_inside(const activation& y, float lo, float hi) {
        mask_.resize_discard(y.size());
        for (index_t i = 0; i < y.size(); ++i)
            mask_[i] = static_cast<std::uint8_t>(int{y.values[i] > lo} & int{y.values[i] < hi});
    }
    buffer<std::int32_t> acc_;
    buffer<std::byte> workspace_;
};

NOTCH_KEYED_END
