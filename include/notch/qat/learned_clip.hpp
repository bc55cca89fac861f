// SPDX-License-Identifier: Apache-2.0
//
// notch/qat/learned_clip.hpp: PACT, activations whose clipping level is learned (Choi et al. 2018,
// arXiv:1805.06085).
//
//   forward    y = clamp(x, 0, alpha), value = round(y / s) * s, s = alpha / (2^bits - 1)   (eq. 1, 2)
//   to x       dx = dy where 0 <= x < alpha, else 0                                         (eq. 1)
//   to alpha   dalpha = sum of dy where x >= alpha                                          (eq. 3)
//
// alpha is stored as its logarithm, t = log(alpha), so that it stays positive and finite whatever the
// optimizer does: dt = dalpha * alpha. The paper adds an L2 penalty, lambda * alpha^2, to the loss; in
// t its gradient is 2 * lambda * alpha^2. Plain descent in t moves alpha by about alpha^2 times what descent in alpha
// itself, as in the paper, moves it by: train t with Adam, or at a rate divided by alpha^2.
#pragma once

#include <cmath>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/qat/fake_quant.hpp>
#include <notch/qat/log_parameter.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/range.hpp>

NOTCH_KEYED_BEGIN

/// For activations behind a ReLU, which it replaces. Range is affine<Bits> or affine_signed<Bits>; the zero point is
/// qmin, the code of 0. params() are those of the last forward, or of the first alpha. Not thread-safe.
template <range_type Range, class Granularity = per_tensor> class learned_clip : public detail::quantizer<Range> {
    static_assert(Range::has_zero_point && !has_power_of_two_scale<Range>,
                  "notch::learned_clip clips to [0, alpha]; use notch::affine<Bits> or notch::affine_signed<Bits>");

    using base = detail::quantizer<Range>;
    using base::check, base::for_channel, base::quantize, base::layout_, base::params_, base::gradient_;

public:
    /// alpha: where all channels begin; the paper begins well above the activations. Finite and > 0, in the units of x.
    explicit learned_clip(std::initializer_list<index_t> extents, float alpha = 10.0f)
        : learned_clip(std::span<const index_t>(extents.begin(), extents.size()), alpha) {}
    explicit learned_clip(std::span<const index_t> extents, float alpha = 10.0f)
        : base(layout_of<Granularity>(extents), {1.0f, Range::qmin}), log_clip_(layout_.count()),
          log_clip_gradient_(layout_.count()), clip_(layout_.count()) {
        detail::check_scale("learned_clip", "alpha", alpha);
        for (float& t : log_clip_) t = detail::log_of_positive(static_cast<double>(alpha));
        take_clips();
    }

    /// alpha of channel (or group) c < layout().count(): exp(t), kept within [2^-108, 2^100], so that every scale is a
    /// normal float; 1 for a t of NaN.
    [[nodiscard]] float clip(index_t c) const {
        if (c < 0 || c >= log_clip_.size())
            fail(errc::invalid_argument, detail::cat("learned_clip.clip: channel ", c, " of ", log_clip_.size()));
        return detail::positive_from_log(log_clip_[c], -74.8f);
    }

    /// A log_clip of NaN is an error, and nothing changes.
    std::span<const float> forward(std::span<const float> x, const context& ctx = {}) {
        check("learned_clip.forward", x);
        detail::check_trained("learned_clip.forward", "log_clip", log_clip_);
        take_clips();
        return quantize(x, ctx);
    }
    /// Gradients for the x of the last forward: returns dx, and adds to log_clip_gradient(). NaN counts for nothing.
    std::span<const float> backward(std::span<const float> x, std::span<const float> dy) {
        this->check_backward("learned_clip.backward", x, dy);
        gradient_.resize_discard(layout_.size());
        for (index_t c = 0; c < layout_.count(); ++c) {
            const float alpha = clip_[c];
            double sum = 0;
            for_channel(c, [&](index_t i) {
                const auto at = static_cast<std::size_t>(i);
                gradient_[i] = x[at] >= 0.0f && x[at] < alpha ? dy[at] : 0.0f;
                if (x[at] >= alpha) sum += static_cast<double>(dy[at]);
            });
            log_clip_gradient_[c] += static_cast<float>(sum * static_cast<double>(alpha));
        }
        return gradient_;
    }

    /// What an optimizer trains: one t = log(alpha) for each channel, and its gradient.
    [[nodiscard]] std::span<float> log_clip() noexcept { return log_clip_; }
    [[nodiscard]] std::span<float> log_clip_gradient() noexcept { return log_clip_gradient_; }

private:
    void take_clips() {
        for (index_t c = 0; c < layout_.count(); ++c) {
            clip_[c] = clip(c);
            params_[c] = {clip_[c] / static_cast<float>(Range::qmax - Range::qmin), Range::qmin};
        }
    }
    buffer<float> log_clip_, log_clip_gradient_, clip_;
};

NOTCH_KEYED_END
