// SPDX-License-Identifier: Apache-2.0
//
// notch/ptq/smooth_quant.hpp: SmoothQuant (Xiao et al. 2022, arXiv:2211.10438, eq. 4): a part of what
// makes activations hard to quantize, channels much larger than the others, moves to the weights:
//
//     s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)          for each input channel j, over all layers that read X
//     X_j / s_j,  W_j * s_j                                compute the same
//
// The division of X goes into what makes X: the gamma and beta of a norm, or the rows of a linear layer.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/ptq/weight_shape.hpp>

NOTCH_KEYED_BEGIN

/// The s_j from the largest magnitudes of the channels of activations and weights, as abs_max observers per
/// channel give them. alpha is in [0, 1]; 0.5 is the paper's choice, more for activations with stronger
/// outliers. A channel that is 0 in one of the two keeps s_j = 1; s_j is kept within normal floats.
inline void smooth_factors(std::span<const float> x_magnitudes, std::span<const float> w_magnitudes, double alpha,
                           std::span<float> s) {
    constexpr const char* where = "smooth_factors";
    const auto n = static_cast<index_t>(x_magnitudes.size());
    detail::check_equal(where, "the size of w_magnitudes", static_cast<index_t>(w_magnitudes.size()), n);
    detail::check_equal(where, "the size of s", static_cast<index_t>(s.size()), n);
    if (!(alpha >= 0.0 && alpha <= 1.0))
        fail(errc::invalid_argument, detail::cat(where, ": alpha is ", alpha, ", must be in [0, 1]"));
    for (std::size_t j = 0; j < s.size(); ++j) {
        const auto x = static_cast<double>(x_magnitudes[j]), w = static_cast<double>(w_magnitudes[j]);
        if (!(x >= 0.0 && std::isfinite(x) && w >= 0.0 && std::isfinite(w)))
            fail(errc::invalid_argument,
                 detail::cat(where, ": channel ", static_cast<index_t>(j), " has the magnitudes ", x, " and ", w));
        const double factor = x > 0.0 && w > 0.0 ? std::pow(x, alpha) / std::pow(w, 1.0 - alpha) : 1.0;
        s[j] = static_cast<float>(factor < static_cast<double>(FLT_MIN)   ? static_cast<double>(FLT_MIN)
                                  : factor > static_cast<double>(FLT_MAX) ? static_cast<double>(FLT_MAX)
                                                                          : factor);
    }
}

/// The largest magnitude of each input channel of weights, raised to what magnitudes already hold: call it for
/// each layer that reads the same activations.
inline void widen_input_magnitudes(std::span<const float> w, const weight_shape& shape, std::span<float> magnitudes) {
    constexpr const char* where = "widen_input_magnitudes";
    detail::check_weights(where, w.size(), shape);
    detail::check_equal(where, "the size of magnitudes", static_cast<index_t>(magnitudes.size()),
                        shape.inputs.channels);
    detail::check_finite(where, "w", w);
    const buffer<float> m = detail::channel_magnitudes(w, shape.inputs);
    for (std::size_t j = 0; j < magnitudes.size(); ++j) magnitudes[j] = std::max(magnitudes[j], m.span()[j]);
}

/// W_j *= s_j, for each layer that reads the activations. Every s_j is finite and > 0.
inline void smooth_weights(std::span<float> w, const weight_shape& shape, std::span<const float> s) {
    constexpr const char* where = "smooth_weights";
    detail::check_weights(where, w.size(), shape);
    detail::check_equal(where, "the size of s", static_cast<index_t>(s.size()), shape.inputs.channels);
    for (float f : s) detail::check_scale(where, "s", f);
    detail::scale_channels(w, shape.inputs, s);
}

/// x[i] /= s of its channel: for the gamma and beta of a norm ({1, n, 1}), or for the weights and the bias of
/// the layer that makes the activations, by their output channels.
inline void smooth_source(std::span<float> x, const channel_layout& layout, std::span<const float> s) {
    constexpr const char* where = "smooth_source";
    detail::check_channel_layout(where, layout);
    detail::check_equal(where, "the size of x", static_cast<index_t>(x.size()), layout.size());
    detail::check_equal(where, "the size of s", static_cast<index_t>(s.size()), layout.channels);
    for (float f : s) detail::check_scale(where, "s", f);
    for (index_t i = 0; i < layout.size(); ++i) x[static_cast<std::size_t>(i)] /= s[detail::channel_of(layout, i)];
}

NOTCH_KEYED_END
