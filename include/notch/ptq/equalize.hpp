// SPDX-License-Identifier: Apache-2.0
//
// notch/ptq/equalize.hpp: cross-layer equalization and high-bias absorption (Nagel et al. 2019,
// arXiv:1906.04721, sections 4.1.2 and 4.1.3). For float layers with a function f(s x) = s f(x), s > 0,
// between them (ReLU, leaky ReLU, none; not ReLU6, not a sigmoid), channel i may be divided by s_i where
// it leaves the first and multiplied by s_i where it enters the second:
//
//     s_i  = sqrt(r1_i / r2_i),  r1_i = max|W1 of output i|,  r2_i = max|W2 of input i|         (eq. 11)
//     W1_i = W1_i / s_i,  b1_i = b1_i / s_i,  W2_i = W2_i * s_i
//
// Then both have the same range sqrt(r1_i * r2_i) on that channel, and one scale for a whole tensor
// loses less. What the two compute stays the same, but for rounding; with powers of two exactly.
//
// A channel that a ReLU never cuts, because its values lie at least three deviations above 0, can leave
// what is common to them to the next layer:
//
//     c_i = max(0, mean_i - 3 * deviation_i),  b1 = b1 - c,  b2 = b2 + W2 c                (eq. 14, 15)
//
// mean and deviation are those of the first layer's results before the ReLU: beta and |gamma| of a batch
// norm folded into it, or an observer's.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/ptq/weight_shape.hpp>

NOTCH_KEYED_BEGIN

/// Two layers in a row; the outputs of the first are the inputs of the second.
struct layer_pair {
    std::span<float> w1;
    weight_shape shape1;
    std::span<float> b1; ///< may be empty
    std::span<float> w2;
    weight_shape shape2;
};

/// Equalizes one pair. Channels without weights in one of the two stay as they are. factors, if not empty,
/// gets the s_i. powers_of_two rounds log2(s_i), half to even, so that no result changes a bit (but for
/// weights that become subnormal). Returns the largest |log2 s_i|.
inline double cross_layer_equalize(const layer_pair& p, bool powers_of_two = false, std::span<float> factors = {}) {
    constexpr const char* where = "cross_layer_equalize";
    detail::check_weights(where, p.w1.size(), p.shape1);
    detail::check_weights(where, p.w2.size(), p.shape2);
    const index_t n = p.shape1.outputs.channels;
    detail::check_equal(where, "the number of input channels of the second layer", p.shape2.inputs.channels, n);
    if (!p.b1.empty()) detail::check_equal(where, "the size of b1", static_cast<index_t>(p.b1.size()), n);
    if (!factors.empty()) detail::check_equal(where, "the size of factors", static_cast<index_t>(factors.size()), n);
    detail::check_finite(where, "w1", p.w1);
    detail::check_finite(where, "w2", p.w2);
    const buffer<float> r1 = detail::channel_magnitudes(p.w1, p.shape1.outputs);
    const buffer<float> r2 = detail::channel_magnitudes(p.w2, p.shape2.inputs);
    buffer<float> s(n), inverse(n);
    double most = 0;
    for (index_t i = 0; i < n; ++i) {
        double factor =
            r1[i] > 0.0f && r2[i] > 0.0f ? std::sqrt(static_cast<double>(r1[i]) / static_cast<double>(r2[i])) : 1.0;
        if (powers_of_two) factor = std::exp2(std::nearbyint(std::log2(factor)));
        most = std::max(most, std::fabs(std::log2(factor)));
        s[i] = static_cast<float>(factor);
        inverse[i] = static_cast<float>(1.0 / factor);
    }
    detail::scale_channels(p.w1, p.shape1.outputs, inverse.span());
    detail::scale_channels(p.w2, p.shape2.inputs, s.span());
    for (std::size_t i = 0; i < p.b1.size(); ++i) p.b1[i] *= inverse.span()[i];
    for (std::size_t i = 0; i < factors.size(); ++i) factors[i] = s.span()[i];
    return most;
}

/// Equalizes the pairs of a chain of layers in turn, until no s_i leaves 1 by more than tolerance (in log2)
/// or for so many rounds. Returns the largest |log2 s_i| of the last round.
inline double cross_layer_equalize(std::span<const layer_pair> pairs, index_t rounds = 20, double tolerance = 1e-3) {
    if (rounds < 1)
        fail(errc::invalid_argument, detail::cat("cross_layer_equalize: rounds is ", rounds, ", must be >= 1"));
    double most = 0;
    for (index_t r = 0; r < rounds; ++r) {
        most = 0;
        for (const layer_pair& p : pairs) most = std::max(most, cross_layer_equalize(p));
        if (most <= tolerance) break;
    }
    return most;
}

/// High-bias absorption. mean, deviation and b1 have a value for each output of the first layer, b2 one for
/// each of the second. Exact where the ReLU cuts nothing off, except for taps that lie in padding.
inline void absorb_high_bias(std::span<const float> mean, std::span<const float> deviation, std::span<float> b1,
                             std::span<const float> w2, const weight_shape& shape2, std::span<float> b2) {
    constexpr const char* where = "absorb_high_bias";
    detail::check_weights(where, w2.size(), shape2);
    const index_t n = shape2.inputs.channels;
    detail::check_equal(where, "the size of mean", static_cast<index_t>(mean.size()), n);
    detail::check_equal(where, "the size of deviation", static_cast<index_t>(deviation.size()), n);
    detail::check_equal(where, "the size of b1", static_cast<index_t>(b1.size()), n);
    detail::check_equal(where, "the size of b2", static_cast<index_t>(b2.size()), shape2.outputs.channels);
    detail::check_finite(where, "mean", mean);
    detail::check_finite(where, "deviation", deviation);
    buffer<double> c(n), sum(shape2.outputs.channels);
    for (index_t i = 0; i < n; ++i) {
        const auto at = static_cast<std::size_t>(i);
        if (deviation[at] < 0.0f)
            fail(errc::invalid_argument,
                 detail::cat(where, ": deviation[", i, "] is ", deviation[at], ", must be >= 0"));
        c[i] = std::max(0.0, static_cast<double>(mean[at]) - 3.0 * static_cast<double>(deviation[at]));
    }
    for (index_t i = 0; i < shape2.inputs.size(); ++i)
        sum.data()[detail::channel_of(shape2.outputs, i)] +=
            static_cast<double>(w2[static_cast<std::size_t>(i)]) * c.data()[detail::channel_of(shape2.inputs, i)];
    for (index_t i = 0; i < n; ++i) b1[static_cast<std::size_t>(i)] -= static_cast<float>(c[i]);
    for (index_t o = 0; o < sum.size(); ++o) b2[static_cast<std::size_t>(o)] += static_cast<float>(sum[o]);
}

NOTCH_KEYED_END
