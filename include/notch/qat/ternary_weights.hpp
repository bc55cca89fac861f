// SPDX-License-Identifier: Apache-2.0
//
// notch/qat/ternary_weights.hpp: ternary weight networks (Li and Liu 2016, arXiv:1605.04711).
//
//   forward    delta = 0.7 * mean|w|,  code = w > delta ? 1 : w < -delta ? -1 : 0
//              alpha = mean of |w| where |w| > delta,  value = alpha * code
//   backward   dw = dy (straight-through)
//
// A trained layer ships as codes() in pack_ternary (binary or ternary activations) or pack_int2_weights
// (u8 activations), and alpha, params()[c].scale, as the scale of the weights of its epilogue.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/qat/fake_quant.hpp>
#include <notch/ref/lowbit.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/range.hpp>

NOTCH_KEYED_BEGIN

/// One delta and one alpha for each channel or group, for the whole tensor as in the paper. A symmetric_quantizer, so
/// the training layers take it. Values that are not finite count for no mean: infinities have codes of their sign, NaN
/// has 0. alpha is 1 where no finite weight is beyond delta, else at least FLT_MIN. mask() is 1 everywhere. Not
/// thread-safe.
template <class Granularity = per_tensor> class ternary_weights : public detail::quantizer<symmetric<2>> {
public:
    explicit ternary_weights(std::initializer_list<index_t> extents)
        : ternary_weights(std::span<const index_t>(extents.begin(), extents.size())) {}
    explicit ternary_weights(std::span<const index_t> extents)
        : quantizer(layout_of<Granularity>(extents), {1.0f, 0}), threshold_(layout_.count()) {}

    /// delta of each channel or group, of the last forward: ternarize with it gives the same codes.
    [[nodiscard]] std::span<const float> thresholds() const noexcept { return threshold_; }

    std::span<const float> forward(std::span<const float> w, const context& = {}) {
        check("ternary_weights.forward", w);
        ternarize(w);
        for (index_t c = 0; c < layout_.count(); ++c) {
            const float alpha = mean_beyond(w, c, threshold_[c], 1.0);
            params_[c] = {alpha == 0.0f ? 1.0f : alpha < FLT_MIN ? FLT_MIN : alpha, 0};
        }
        return dequantize();
    }
    /// The same codes with the given scales instead of alpha, for this call only.
    std::span<const float> forward(std::span<const float> w, std::span<const float> scales, const context& = {}) {
        check("ternary_weights.forward", w);
        take_scales("ternary_weights.forward", scales);
        ternarize(w);
        return dequantize();
    }
    /// dw for the w of the last forward: dy.
    std::span<const float> backward(std::span<const float> w, std::span<const float> dy) {
        check_backward("ternary_weights.backward", w, dy);
        gradient_.resize_discard(layout_.size());
        for (index_t i = 0; i < layout_.size(); ++i) gradient_[i] = dy[static_cast<std::size_t>(i)];
        return gradient_;
    }

private:
    /// factor times the mean magnitude of the finite values of channel c with |w| > above; 0 where there are none.
    float mean_beyond(std::span<const float> w, index_t c, float above, double factor) const {
        double sum = 0;
        index_t n = 0;
        for_channel(c, [&](index_t i) {
            const float v = std::fabs(w[static_cast<std::size_t>(i)]);
            if (!(v > above) || !std::isfinite(v)) return;
            sum += static_cast<double>(v);
            ++n;
        });
        return n == 0 ? 0.0f : static_cast<float>(factor * sum / static_cast<double>(n));
    }
    void ternarize(std::span<const float> w) {
        resize();
        for (index_t c = 0; c < layout_.count(); ++c) {
            threshold_[c] = mean_beyond(w, c, -1.0f, 0.7);
            detail::for_each_run_of(layout_, c, [&](index_t at, index_t n) {
                ref::ternary(w.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(n)), threshold_[c],
                             codes_.span().subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(n)));
            });
        }
    }
    std::span<const float> dequantize() {
        for (index_t c = 0; c < layout_.count(); ++c)
            for_channel(c, [&](index_t i) { values_[i] = static_cast<float>(codes_[i]) * params_[c].scale; });
        for (std::uint8_t& m : mask_) m = 1;
        return values_;
    }
    buffer<float> threshold_;
};

NOTCH_KEYED_END
