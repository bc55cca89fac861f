// SPDX-License-Identifier: Apache-2.0
//
// notch/qat/binary_weights.hpp: weights of one bit.
//
//   forward    code = w >= 0 ? 1 : -1,  value = alpha * code
//
//   binary_connect   alpha = 1, dw = dy, and the real weights are clipped to [-1, 1] after every step of the
//                    optimizer: clip_weights             (Courbariaux et al. 2015, arXiv:1511.00363, algorithm 1)
//   xnor_weights     alpha = mean|w| of n weights, dw = dy * (1 / n + alpha * [|w| <= 1])
//                                                        (Rastegari et al. 2016, arXiv:1603.05279, section 3.1)
//
// The 1 / n is the paper's share of d alpha: it counts a weight's own dy alone. xnor_weights are those of the paper's
// Binary-Weight-Networks (section 3.1), which its XNOR-Networks share; the scaling of binary inputs by K, the means of
// their magnitudes around each place (section 3.2), is not there: inputs are -1 and 1.
//
// A trained layer ships as codes() in pack_binary, and alpha, params()[c].scale, as the scale of the weights of its
// epilogue; its activations are those of qat/sign_activation.hpp.
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
namespace detail {

/// The codes are -1 and 1: those of symmetric<2> without 0. NaN has -1. mask() is 1 everywhere.
class binary_quantizer : public quantizer<symmetric<2>> {
protected:
    using quantizer::quantizer;

    std::span<const float> binarize(std::span<const float> w) {
        resize();
        ref::binary(w, 0.0f, codes_);
        for (index_t c = 0; c < layout_.count(); ++c)
            for_channel(c, [&](index_t i) { values_[i] = static_cast<float>(codes_[i]) * params_[c].scale; });
        for (std::uint8_t& m : mask_) m = 1;
        return values_;
    }
};

} // namespace detail

/// Weights -1 and 1. A symmetric_quantizer, so the training layers take it, but without batch_norm. Not thread-safe.
class binary_connect : public detail::binary_quantizer {
public:
    static constexpr bool fixed_magnitude = true; ///< has_fixed_magnitude

    explicit binary_connect(std::initializer_list<index_t> extents)
        : binary_connect(std::span<const index_t>(extents.begin(), extents.size())) {}
    explicit binary_connect(std::span<const index_t> extents)
        : binary_quantizer(layout_of<per_tensor>(extents), {1.0f, 0}) {}

    std::span<const float> forward(std::span<const float> w, const context& = {}) {
        check("binary_connect.forward", w);
        params_[0] = {1.0f, 0};
        return binarize(w);
    }
    /// The same with the given scale, for this call only.
    std::span<const float> forward(std::span<const float> w, std::span<const float> scales, const context& = {}) {
        check("binary_connect.forward", w);
        take_scales("binary_connect.forward", scales);
        return binarize(w);
    }
    /// dw for the w of the last forward: dy.
    std::span<const float> backward(std::span<const float> w, std::span<const float> dy) {
        check_backward("binary_connect.backward", w, dy);
        gradient_.resize_discard(layout_.size());
        for (index_t i = 0; i < layout_.size(); ++i) gradient_[i] = dy[static_cast<std::size_t>(i)];
        return gradient_;
    }
};

/// Clips real weights to [-1, 1], in place: a weight beyond has no further influence on its sign and would only be
/// slow to come back. NaN stays.
inline void clip_weights(std::span<float> w) {
    for (float& v : w) v = v < -1.0f ? -1.0f : v > 1.0f ? 1.0f : v;
}

/// Weights -alpha and alpha, one alpha for each channel or group (an output channel in the paper). A
/// symmetric_quantizer, so the training layers take it. Values that are not finite count for no mean; alpha is at
/// least FLT_MIN. Not thread-safe.
template <class Granularity = per_channel<0>> class xnor_weights : public detail::binary_quantizer {
public:
    explicit xnor_weights(std::initializer_list<index_t> extents)
        : xnor_weights(std::span<const index_t>(extents.begin(), extents.size())) {}
    explicit xnor_weights(std::span<const index_t> extents)
        : binary_quantizer(layout_of<Granularity>(extents), {1.0f, 0}) {}

    std::span<const float> forward(std::span<const float> w, const context& = {}) {
        check("xnor_weights.forward", w);
        for (index_t c = 0; c < layout_.count(); ++c) {
            double sum = 0;
            index_t n = 0;
            for_channel(c, [&](index_t i) {
                const float v = w[static_cast<std::size_t>(i)];
                if (!std::isfinite(v)) return;
                sum += std::fabs(static_cast<double>(v));
                ++n;
            });
            const float alpha = n == 0 ? 0.0f : static_cast<float>(sum / static_cast<double>(n));
            params_[c] = {alpha < FLT_MIN ? FLT_MIN : alpha, 0};
        }
        return binarize(w);
    }
    /// The same codes with the given scales instead of alpha, for this call only.
    std::span<const float> forward(std::span<const float> w, std::span<const float> scales, const context& = {}) {
        check("xnor_weights.forward", w);
        take_scales("xnor_weights.forward", scales);
        return binarize(w);
    }
    /// dw for the w of the last forward.
    std::span<const float> backward(std::span<const float> w, std::span<const float> dy) {
        check_backward("xnor_weights.backward", w, dy);
        gradient_.resize_discard(layout_.size());
        for (index_t c = 0; c < layout_.count(); ++c) {
            index_t n = 0;
            for_channel(c, [&](index_t) { ++n; });
            const float share = n == 0 ? 0.0f : 1.0f / static_cast<float>(n), alpha = params_[c].scale;
            for_channel(c, [&](index_t i) {
                const auto at = static_cast<std::size_t>(i);
                gradient_[i] = dy[at] * (std::fabs(w[at]) <= 1.0f ? share + alpha : share);
            });
        }
        return gradient_;
    }
};

NOTCH_KEYED_END
