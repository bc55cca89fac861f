// SPDX-License-Identifier: Apache-2.0
//
// notch/qat/learned_threshold.hpp: TQT, trained quantization thresholds with scales that are powers of
// two (Jain et al. 2019, arXiv:1903.08066).
//
//   forward    s = 2^ceil(log2 t) / 2^(bits - 1), or / 2^bits for codes from 0 on
//              value = clamp(round(x / s), n, p) * s, n and p the first and the last code
//   to x       dx = dy where n <= round(x / s) <= p, else 0
//   to log2 t  d = s * ln 2 * sum of dy * { round(x / s) - x / s   where dx passes
//                                           n below,  p above }
//   start      t = 3 standard deviations around 0, as the paper starts weights
//
// ceil counts as the identity in the backward pass. What is trained is log2 t, in which the size of a step
// of descent does not depend on the scale of the data; the paper trains it by Adam.
#pragma once

#include <cmath>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/qat/fake_quant.hpp>
#include <notch/qat/log_parameter.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/range.hpp>

NOTCH_KEYED_BEGIN

/// Range is symmetric_full<Bits> as in the paper, symmetric<Bits>, which the kernels take for weights, or affine<Bits>
/// for values >= 0; the zero point is 0. Rescaling such codes is a shift. params() are those of the last forward, or of
/// initialize; before either those of t = 1. Not thread-safe.
template <range_type Range, class Granularity = per_tensor> class learned_threshold : public detail::quantizer<Range> {
    static_assert(!Range::has_zero_point || Range::qmin == 0,
                  "notch::learned_threshold has no zero point; use notch::symmetric<Bits> or notch::affine<Bits>");

    using base = detail::quantizer<Range>;
    using base::check, base::for_channel, base::quantize;
    using base::layout_, base::params_, base::codes_, base::gradient_, base::mask_;

public:
    explicit learned_threshold(std::initializer_list<index_t> extents)
        : learned_threshold(std::span<const index_t>(extents.begin(), extents.size())) {}
    explicit learned_threshold(std::span<const index_t> extents)
        : base(layout_of<Granularity>(extents), {1.0f, 0}),
          log2_threshold_(detail::trained_numbers(layout_.count(), detail::unset_log)),
          log2_threshold_gradient_(layout_.count()) {
        take_scales_of_thresholds();
    }

    /// Sets the thresholds from values, 3 * sqrt(mean x^2) over the finite ones; 1 where all are 0.
    void initialize(std::span<const float> x) {
        check("learned_threshold.initialize", x);
        for (index_t c = 0; c < layout_.count(); ++c) start(c, x);
        take_scales_of_thresholds();
    }
    /// Starts from given scales, one for each channel, which are moved up to powers of two; zero points are 0. Those of
    /// the least divergence, from which the paper starts activations, are found by notch::calibrate with clip::entropy.
    void initialize(std::span<const quant_params> params) {
        this->check_start("learned_threshold.initialize", params, 0, 0);
        for (index_t c = 0; c < layout_.count(); ++c)
            log2_threshold_[c] = static_cast<float>(
                std::log2(static_cast<double>(params[static_cast<std::size_t>(c)].scale)) + log2_codes);
        take_scales_of_thresholds();
    }
    /// Whether every channel has a threshold: by initialize, by a forward, or written to log2_threshold().
    [[nodiscard]] bool initialized() const noexcept { return detail::all_set(log2_threshold_, detail::unset_log); }

    /// The scale of channel (or group) c < layout().count(), a power of two. log2 t is kept within [-100, 100]; one
    /// that is unset, or NaN, counts as 0.
    [[nodiscard]] float scale(index_t c) const {
        if (c < 0 || c >= log2_threshold_.size())
            fail(errc::invalid_argument,
                 detail::cat("learned_threshold.scale: channel ", c, " of ", log2_threshold_.size()));
        const float given = log2_threshold_[c], t = std::isnan(given) || given == detail::unset_log ? 0.0f : given;
        const int exponent = static_cast<int>(std::ceil(t < -100.0f ? -100.0f : t > 100.0f ? 100.0f : t));
        return std::ldexp(1.0f, exponent - log2_codes);
    }

    /// Thresholds that are still unset are first set from x, as initialize does. A log2_threshold of NaN is an error,
    /// and nothing changes.
    std::span<const float> forward(std::span<const float> x, const context& ctx = {}) {
        check("learned_threshold.forward", x);
        detail::check_trained("learned_threshold.forward", "log2_threshold", log2_threshold_);
        for (index_t c = 0; c < layout_.count(); ++c)
            if (log2_threshold_[c] == detail::unset_log) start(c, x);
        take_scales_of_thresholds();
        return quantize(x, ctx);
    }
    /// The same with given scales, one for each entry of params(), for this call only. backward then gives the gradient
    /// of the threshold as if it had led to this scale.
    std::span<const float> forward(std::span<const float> x, std::span<const float> scales, const context& ctx = {}) {
        check("learned_threshold.forward", x);
        this->take_scales("learned_threshold.forward", scales);
        return quantize(x, ctx);
    }

    /// Gradients for the x of the last forward: returns dx, and adds to log2_threshold_gradient(). NaN counts for
    /// nothing.
    std::span<const float> backward(std::span<const float> x, std::span<const float> dy) {
        this->check_backward("learned_threshold.backward", x, dy);
        gradient_.resize_discard(layout_.size());
        for (index_t c = 0; c < layout_.count(); ++c) {
            const float s = params_[c].scale;
            double sum = 0;
            for_channel(c, [&](index_t i) {
                const auto at = static_cast<std::size_t>(i);
                const float v = x[at] / s;
                const bool counts = !std::isnan(v), inside = counts && mask_[i] != 0;
                gradient_[i] = inside ? dy[at] : 0.0f;
                // Outside, the code is n or p already.
                const float slope = inside ? static_cast<float>(codes_[i]) - v : static_cast<float>(codes_[i]);
                if (counts) sum += static_cast<double>(dy[at]) * static_cast<double>(slope);
            });
            constexpr double ln2 = 0.693147180559945309417;
            log2_threshold_gradient_[c] += static_cast<float>(sum * static_cast<double>(s) * ln2);
        }
        return gradient_;
    }

    /// What an optimizer trains and a checkpoint keeps: one log2 t for each channel, and its gradient. log2 t is
    /// -infinity while unset; what is written here before the first forward stays.
    [[nodiscard]] std::span<float> log2_threshold() noexcept { return log2_threshold_; }
    [[nodiscard]] std::span<float> log2_threshold_gradient() noexcept { return log2_threshold_gradient_; }

private:
    static constexpr int log2_codes = Range::qmin == 0 ? Range::bits : Range::bits - 1; ///< of t / scale

    void start(index_t c, std::span<const float> x) {
        double sum = 0;
        index_t finite = 0;
        for_channel(c, [&](index_t i) {
            const auto v = static_cast<double>(x[static_cast<std::size_t>(i)]);
            if (!std::isfinite(v)) return;
            sum += v * v;
            ++finite;
        });
        log2_threshold_[c] =
            sum > 0.0 ? static_cast<float>(std::log2(3.0 * std::sqrt(sum / static_cast<double>(finite)))) : 0.0f;
    }
    void take_scales_of_thresholds() {
        for (index_t c = 0; c < layout_.count(); ++c) params_[c] = {scale(c), 0};
    }
    buffer<float> log2_threshold_, log2_threshold_gradient_;
};

NOTCH_KEYED_END
