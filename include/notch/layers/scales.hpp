// SPDX-License-Identifier: Apache-2.0
//
// notch/layers/scales.hpp: which scales of weights and inputs go together. A bias is put on the grid of their product,
// so channels whose weights are next to nothing, as weight decay and batch norm leave them, need care.
#pragma once

#include <cfloat>
#include <cmath>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/range.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// The smallest scale that goes with `other`, the scale on the other side of a product: with it the bias stays within
/// +-2^29 steps of the accumulator, and the product of the scales is a normal float.
inline float least_scale(float bias, float other) {
    const double steps = std::fabs(static_cast<double>(bias)) / 536870912.0,
                 normal = 2.0 * static_cast<double>(FLT_MIN);
    const double least = (steps > normal ? steps : normal) / static_cast<double>(other);
    return least < 1.0e36 ? least > static_cast<double>(FLT_MIN) ? static_cast<float>(least) : FLT_MIN : 1.0e36f;
}

/// The least scale of the inputs of a dynamic layer: its bias is real, only the products of the scales must be normal.
inline float least_dynamic_scale(std::span<const float> w_scales) {
    float smallest = w_scales[0];
    for (float w : w_scales) smallest = w < smallest ? w : smallest;
    return least_scale(0.0f, smallest);
}
/// The parameters of one image of a dynamic layer.
inline quant_params dynamic_params(real_range range, float least) {
    quant_params p = params_from_range<affine<8>>(range);
    if (p.scale < least) p.scale = least;
    return p;
}

/// For inputs whose scale is known only at run time: the bias stays real.
inline constexpr float unknown_scale = 0.0f;

/// Whether the weights of channels first ... last - 1 are all zero.
inline bool all_zero(std::span<const float> w, const channel_layout& l, index_t first, index_t last) {
    for (index_t o = 0; o < l.outer; ++o)
        for (index_t i = (o * l.channels + first) * l.inner; i < (o * l.channels + last) * l.inner; ++i)
            if (w[static_cast<std::size_t>(i)] != 0.0f) return false;
    return true;
}

/// Fits the scales of weights, one or one for each output channel, to the biases and to the scale of the inputs.
/// Weights so small that the bias has no place on the grid of x_scale * w_scale get a larger scale; weights that are
/// all zero, which have no scale of their own, the one that keeps the bias most exact. And a scale is at least 2^-64 of
/// the largest, so that its product with a scale of inputs that is not known is a normal float. Returns whether one
/// changed.
inline bool fit_scales(std::span<const float> w, const channel_layout& layout, std::span<const float> bias,
                       float x_scale, buffer<float>& scales) {
    const index_t channels = scales.size() == 1 ? layout.channels : 1; // of one scale
    const auto is_zero = [&](index_t e) { return all_zero(w, layout, e * channels, (e + 1) * channels); };
    float largest = 0;
    for (index_t e = 0; e < scales.size(); ++e)
        if (scales[e] > largest && !is_zero(e)) largest = scales[e];
    bool changed = false;
    for (index_t e = 0; e < scales.size(); ++e) {
        float least = 0x1p-64f * largest;
        bool biased = false;
        for (index_t c = e * channels; c < (e + 1) * channels && x_scale != unknown_scale; ++c) {
            const float b = bias[static_cast<std::size_t>(c)], need = least_scale(b, x_scale);
            least = need > least ? need : least;
            biased = biased || b != 0.0f;
        }
        if (scales[e] < least || (scales[e] > least && biased && is_zero(e))) {
            scales[e] = least;
            changed = true;
        }
    }
    return changed;
}

} // namespace detail
NOTCH_KEYED_END
