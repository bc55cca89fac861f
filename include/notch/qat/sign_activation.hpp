// SPDX-License-Identifier: Apache-2.0
//
// notch/qat/sign_activation.hpp: activations of one bit.
//
//   forward     code = x >= 0 ? 1 : -1, which is its value: what kernels' binarize(x, 0) makes
//   backward    dx = dy * slope(x)
//
//   approx_sign   slope = 2 - 2|x| for |x| < 1, else 0: the derivative of a piecewise quadratic
//                 (Bi-Real Net, Liu et al. 2018, arXiv:1808.00278)
//   hard_tanh     slope = 1 for |x| <= 1, else 0 (Courbariaux et al. 2016, arXiv:1602.02830)
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include <notch/core/config.hpp>
#include <notch/qat/binary_weights.hpp>
#include <notch/scheme/granularity.hpp>

NOTCH_NAMESPACE_BEGIN

/// A slope for the sign is any type with such a static function; NaN has slope 0 here.
struct approx_sign {
    [[nodiscard]] NOTCH_INLINE static float slope(float x) noexcept {
        const float a = std::fabs(x);
        return a < 1.0f ? 2.0f - 2.0f * a : 0.0f;
    }
};
struct hard_tanh {
    [[nodiscard]] NOTCH_INLINE static float slope(float x) noexcept { return std::fabs(x) <= 1.0f ? 1.0f : 0.0f; }
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN

/// The sign with a slope for the way back; params() is scale 1. Not thread-safe.
template <class Slope = approx_sign> class sign_activation : public detail::binary_quantizer {
public:
    explicit sign_activation(std::initializer_list<index_t> extents)
        : sign_activation(std::span<const index_t>(extents.begin(), extents.size())) {}
    explicit sign_activation(std::span<const index_t> extents)
        : binary_quantizer(layout_of<per_tensor>(extents), {1.0f, 0}) {}

    std::span<const float> forward(std::span<const float> x, const context& = {}) {
        check("sign_activation.forward", x);
        return binarize(x);
    }
    /// dx for the x of the last forward.
    std::span<const float> backward(std::span<const float> x, std::span<const float> dy) {
        check_backward("sign_activation.backward", x, dy);
        gradient_.resize_discard(layout_.size());
        for (index_t i = 0; i < layout_.size(); ++i) {
            const auto at = static_cast<std::size_t>(i);
            gradient_[i] = dy[at] * Slope::slope(x[at]);
        }
        return gradient_;
    }
};

NOTCH_KEYED_END
