// SPDX-License-Identifier: Apache-2.0
//
// notch/ptq/weight_shape.hpp: which output and which input channel a weight belongs to. Both are layouts
// of the same dense tensor:
//
//   weights                     outputs                          inputs
//   [out][in]                   {1, out, in}                     {out, in, 1}
//   [out][kh][kw][in]           {1, out, kh * kw * in}           {out * kh * kw, in, 1}
//   [out][in][kh][kw]           {1, out, in * kh * kw}           {out, in, kh * kw}
//   [kh][kw][c], depthwise      {kh * kw, c, 1}                  {kh * kw, c, 1}
//
// linear_weights, conv_weights and depthwise_weights make notch's own.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string_view>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/scheme/granularity.hpp>

NOTCH_NAMESPACE_BEGIN

struct weight_shape {
    channel_layout outputs, inputs;
};

/// [out][in]
[[nodiscard]] NOTCH_INLINE constexpr weight_shape linear_weights(index_t out, index_t in) noexcept {
    return {{1, out, in}, {out, in, 1}};
}
/// [out][taps][in]; taps = kernel_h * kernel_w
[[nodiscard]] NOTCH_INLINE constexpr weight_shape conv_weights(index_t out, index_t taps, index_t in) noexcept {
    return {{1, out, taps * in}, {out * taps, in, 1}};
}
/// [taps][channels]
[[nodiscard]] NOTCH_INLINE constexpr weight_shape depthwise_weights(index_t taps, index_t channels) noexcept {
    return {{taps, channels, 1}, {taps, channels, 1}};
}

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

inline void check_weights(std::string_view where, std::size_t size, const weight_shape& s) {
    check_channel_layout(where, s.outputs);
    check_channel_layout(where, s.inputs);
    check_equal(where, "the size of the weights", static_cast<index_t>(size), s.outputs.size());
    check_equal(where, "the size of the inputs' layout", s.inputs.size(), s.outputs.size());
}
inline void check_finite(std::string_view where, std::string_view what, std::span<const float> x) {
    for (std::size_t i = 0; i < x.size(); ++i)
        if (!std::isfinite(x[i]))
            fail(errc::invalid_argument, cat(where, ": ", what, "[", static_cast<index_t>(i), "] is ", x[i]));
}
/// The channel of element i.
inline std::size_t channel_of(const channel_layout& l, index_t i) noexcept {
    return static_cast<std::size_t>(i / l.inner % l.channels);
}

/// The largest magnitude of each channel.
inline buffer<float> channel_magnitudes(std::span<const float> w, const channel_layout& l) {
    buffer<float> m(l.channels);
    for (index_t i = 0; i < l.size(); ++i) {
        float& most = m.data()[channel_of(l, i)];
        most = std::max(most, std::fabs(w[static_cast<std::size_t>(i)]));
    }
    return m;
}
/// w[i] *= factor of its channel.
inline void scale_channels(std::span<float> w, const channel_layout& l, std::span<const float> factor) noexcept {
    for (index_t i = 0; i < l.size(); ++i) w[static_cast<std::size_t>(i)] *= factor[channel_of(l, i)];
}

} // namespace detail
NOTCH_KEYED_END
