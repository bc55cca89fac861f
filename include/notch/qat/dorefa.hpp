// SPDX-License-Identifier: Apache-2.0
//
// notch/qat/dorefa.hpp: weights, activations and gradients of few bits (DoReFa-Net, Zhou et al. 2016,
// arXiv:1606.06160). With q_k(r) = round((2^k - 1) * r) / (2^k - 1) for r in [0, 1]:
//
//   weights       u = tanh(w) / max|tanh(w)|,  value = 2 * q_k(u / 2 + 1 / 2) - 1
//                 du = dy (straight-through), dw through tanh and the maximum: with M = |tanh(w_m)| the maximum,
//                 dw_i = dy_i * (1 - tanh(w_i)^2) / M - [i = m] * sign(w_m) * (1 - M^2) / M^2 * sum dy * tanh(w)
//   activations   value = q_k(clamp(x, 0, 1)),  dx = dy where 0 <= x <= 1, else 0
//   gradients     value = 2 * M * (q_k(dy / (2 * M) + 1 / 2 + noise) - 1 / 2), M = max|dy| of a sample; noise, uniform
//                 within half a step, is stochastic rounding: the expectation of value is dy
//
// Weights take the values (2 * j - (2^k - 1)) / (2^k - 1), j = 0 ... 2^k - 1. They have no 0, so their codes
// are the odd integers from -(2^k - 1) to 2^k - 1, on a grid of 1 / (2^k - 1): int8 weights with zero point 0,
// which every kernel takes. For one bit the paper has sign(w) * mean|w|: qat/binary_weights.hpp.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/qat/fake_quant.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/range.hpp>
#include <notch/scheme/rounding.hpp>

NOTCH_KEYED_BEGIN

/// Weights of 2 to 7 bits; a symmetric_quantizer, so the training layers take it, but without batch_norm. One scale, 1
/// / (2^Bits - 1), for the tensor; codes() are odd. A NaN counts as a weight of 0. mask() is 1 everywhere. Not
/// thread-safe.
///
/// The last weights of a saturated tanh have a gradient of 0: weights should begin within a few units of 0.
template <int Bits> class dorefa_weights : public detail::quantizer<symmetric<8>> {
    static_assert(Bits >= 2 && Bits <= 7, "notch::dorefa_weights<Bits>: Bits must be 2..7; its codes are odd int8");

public:
    static constexpr bool fixed_magnitude = true; ///< has_fixed_magnitude
    /// The number of steps between the least and the largest weight.
    static constexpr int steps = (1 << Bits) - 1;

    explicit dorefa_weights(std::initializer_list<index_t> extents)
        : dorefa_weights(std::span<const index_t>(extents.begin(), extents.size())) {}
    explicit dorefa_weights(std::span<const index_t> extents)
        : quantizer(layout_of<per_tensor>(extents), {1.0f / static_cast<float>(steps), 0}) {}

    std::span<const float> forward(std::span<const float> w, const context& = {}) {
        check("dorefa_weights.forward", w);
        params_[0] = {1.0f / static_cast<float>(steps), 0};
        return run(w);
    }
    /// The same codes on a grid of the given scale, for this call only.
    std::span<const float> forward(std::span<const float> w, std::span<const float> scales, const context& = {}) {
        check("dorefa_weights.forward", w);
        take_scales("dorefa_weights.forward", scales);
        return run(w);
    }
    /// dw for the w of the last forward. Of several largest weights the first one counts as the maximum.
    std::span<const float> backward(std::span<const float> w, std::span<const float> dy) {
        check_backward("dorefa_weights.backward", w, dy);
        gradient_.resize_discard(layout_.size());
        const top largest = find_top(w);
        const double m = largest.tanh;
        double sum = 0;
        for (index_t i = 0; i < layout_.size(); ++i) {
            const auto at = static_cast<std::size_t>(i);
            const double t = tanh_of(w[at]), d = static_cast<double>(dy[at]);
            sum += d * t;
            gradient_[i] = std::isnan(w[at]) ? 0.0f : static_cast<float>(d * (1.0 - t * t) / m);
        }
        if (largest.at >= 0) {
            const double sign = w[static_cast<std::size_t>(largest.at)] < 0.0f ? -1.0 : 1.0;
            const double own = static_cast<double>(dy[static_cast<std::size_t>(largest.at)]) / m;
            gradient_[largest.at] = static_cast<float>((1.0 - m * m) * (own - sign * sum / (m * m)));
        }
        return gradient_;
    }

private:
    static double tanh_of(float w) { return std::isnan(w) ? 0.0 : std::tanh(static_cast<double>(w)); }
    struct top {
        index_t at = -1;   ///< -1 where all weights are 0
        double tanh = 1.0; ///< its magnitude, or 1
    };
    static top find_top(std::span<const float> w) {
        top t;
        float largest = 0.0f;
        for (std::size_t i = 0; i < w.size(); ++i)
            if (std::fabs(w[i]) > largest) {
                largest = std::fabs(w[i]);
                t.at = static_cast<index_t>(i);
            }
        if (t.at >= 0) t.tanh = std::tanh(static_cast<double>(largest));
        return t;
    }
    std::span<const float> run(std::span<const float> w) {
        resize();
        const double m = find_top(w).tanh;
        for (index_t i = 0; i < layout_.size(); ++i) {
            const double r = tanh_of(w[static_cast<std::size_t>(i)]) / m / 2.0 + 0.5;
            codes_[i] = static_cast<std::int8_t>(2 * static_cast<int>(std::nearbyint(r * steps)) - steps);
            values_[i] = static_cast<float>(codes_[i]) * params_[0].scale;
            mask_[i] = 1;
        }
        return values_;
    }
};

/// Activations of 1 to 8 bits, clipped to [0, 1]: codes of affine<Bits> with scale 1 / (2^Bits - 1) and zero point 0.
/// Not thread-safe.
template <int Bits> class dorefa_activations : public detail::quantizer<affine<Bits>> {
    static_assert(Bits >= 1 && Bits <= 8, "notch::dorefa_activations<Bits>: Bits must be 1..8");
    using base = detail::quantizer<affine<Bits>>;
    using base::layout_, base::gradient_;

public:
    explicit dorefa_activations(std::initializer_list<index_t> extents)
        : dorefa_activations(std::span<const index_t>(extents.begin(), extents.size())) {}
    explicit dorefa_activations(std::span<const index_t> extents)
        : base(layout_of<per_tensor>(extents), {1.0f / static_cast<float>(affine<Bits>::qmax), 0}) {}

    std::span<const float> forward(std::span<const float> x, const context& ctx = {}) {
        this->check("dorefa_activations.forward", x);
        return this->quantize(x, ctx);
    }
    /// dx for the x of the last forward.
    std::span<const float> backward(std::span<const float> x, std::span<const float> dy) {
        this->check_backward("dorefa_activations.backward", x, dy);
        gradient_.resize_discard(layout_.size());
        for (index_t i = 0; i < layout_.size(); ++i) {
            const auto at = static_cast<std::size_t>(i);
            gradient_[i] = x[at] >= 0.0f && x[at] <= 1.0f ? dy[at] : 0.0f;
        }
        return gradient_;
    }
};

/// Gradients of Bits bits: dx[i] is one of 2^Bits values from -M to M, M the largest finite |dy| among those that share
/// parameters in layout (the paper has one M for each sample: layout_of<per_token> of rows). Drawn by
/// rounding.at(i): the same on every machine; give each tensor and each training step its own stream. A dy that is not
/// finite stays, so that the caller sees it. dx may be dy.
template <int Bits>
void dorefa_gradient(std::span<const float> dy, const channel_layout& layout, const stochastic& rounding,
                     std::span<float> dx) {
    static_assert(Bits >= 1 && Bits <= 16, "notch::dorefa_gradient<Bits>: Bits must be 1..16");
    constexpr const char* where = "dorefa_gradient";
    constexpr float steps = static_cast<float>((1 << Bits) - 1);
    detail::check_layout(where, layout);
    detail::check_equal(where, "the size of dy", static_cast<index_t>(dy.size()), layout.size());
    detail::check_equal(where, "the size of dx", static_cast<index_t>(dx.size()), layout.size());
    for (index_t p = 0; p < layout.count(); ++p) {
        float largest = 0.0f;
        detail::for_each_run_of(layout, p, [&](index_t at, index_t n) {
            for (const float d : dy.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(n)))
                if (std::isfinite(d) && std::fabs(d) > largest) largest = std::fabs(d);
        });
        detail::for_each_run_of(layout, p, [&](index_t first, index_t n) {
            rounding_walk<stochastic> walk{rounding};
            for (index_t i = first; i < first + n; ++i) {
                const auto at = static_cast<std::size_t>(i);
                const auto draw = walk.at(i);
                if (!std::isfinite(dy[at]) || largest == 0.0f) {
                    dx[at] = dy[at];
                    continue;
                }
                // Within 0 ... steps, since |dy| <= largest; the product by 0.5 and q + q - steps are exact.
                const float q = draw.round((dy[at] / largest * 0.5f + 0.5f) * steps);
                dx[at] = largest * ((q + q - steps) / steps);
            }
        });
    }
}

NOTCH_KEYED_END
