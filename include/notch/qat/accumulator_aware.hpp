// SPDX-License-Identifier: Apache-2.0
//
// notch/qat/accumulator_aware.hpp: weights whose products are proved to fit an accumulator of P bits, whatever the
// input (A2Q; Colbert, Pappalardo and Petri-Koenig 2023, arXiv:2308.13504, section 4).
//
//   bound      sum over k of x_k * q_k lies within 2^(P-1) - 1 in magnitude for every x with |x_k| <= M if
//              sum |q_k| <= L = floor((2^(P-1) - 1) / M)
//   forward    u = w * g / (|w|_1 * s), code = clamp(trunc(u), -Qn, Qp), value = code * s
//              g = min(exp(n), L * s): the 1-norm of the values, at most what the bound allows. Rounding toward zero
//              lets no code be larger than its u, so sum |code| <= g / s <= L
//   to w       with d = dy where the code is not clamped, else 0:
//              dw_i = g / |w|_1 * (d_i - sign(w_i) * sum d w / |w|_1)
//   to n       dn = sum d * u * s where exp(n) < L * s, else 0
//   to t       t = log(s): dt = sum { dy * (value - u * s) inside, dy * value where clamped }; where g = L * s, dn is
//              added, since g moves with s
//   penalty    sum over channels of max(n - log(L * s), 0) joins the loss, so that n comes back to where it counts
//
// The input's codes count as they are multiplied: 0..255 (M = 255) for u8, whose zero point the kernels fold into the
// bias, or -128..127 (M = 128). The paper's t and d are n and t to base 2.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/qat/fake_quant.hpp>
#include <notch/qat/log_parameter.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/range.hpp>

NOTCH_KEYED_BEGIN

/// A symmetric_quantizer, so the training layers take it, but without batch_norm: the norm of the values is n's, not
/// that of the weights. Each channel must hold all weights of one output: per_channel of the output axis, or per_tensor
/// for weights of one output. Weights that are not finite have the code 0. Not thread-safe.
template <int AccumulatorBits, range_type Range = symmetric<8>, class Granularity = per_channel<0>,
          int InputMagnitude = 255>
class accumulator_aware : public detail::quantizer<Range> {
    static_assert(!Range::has_zero_point,
                  "notch::accumulator_aware: the range must be symmetric; use notch::symmetric<Bits>");
    static_assert(AccumulatorBits >= 2 && AccumulatorBits <= 32 && InputMagnitude >= 1 && InputMagnitude <= 255,
                  "notch::accumulator_aware<AccumulatorBits, Range, Granularity, InputMagnitude>: 2 to 32 bits, and "
                  "input codes of a magnitude of 1 to 255");
    using base = detail::quantizer<Range>;
    using base::check, base::for_channel;
    using base::layout_, base::params_, base::codes_, base::values_, base::gradient_, base::mask_;

public:
    static constexpr bool fixed_magnitude = true; ///< has_fixed_magnitude
    /// L: the largest sum of the magnitudes of an output's codes.
    static constexpr index_t largest_norm = ((index_t{1} << (AccumulatorBits - 1)) - 1) / InputMagnitude;
    static_assert(largest_norm >= 1, "notch::accumulator_aware: an accumulator of AccumulatorBits holds no product of "
                                     "an input code with a weight of 1");

    explicit accumulator_aware(std::initializer_list<index_t> extents)
        : accumulator_aware(std::span<const index_t>(extents.begin(), extents.size())) {}
    explicit accumulator_aware(std::span<const index_t> extents)
        : base(layout_of<Granularity>(extents), {1.0f, 0}),
          log_step_(detail::trained_numbers(layout_.count(), detail::unset_log)), log_step_gradient_(layout_.count()),
          log_norm_(detail::trained_numbers(layout_.count(), detail::unset_log)), log_norm_gradient_(layout_.count()) {}

    /// Starts from weights: the norm is theirs, and the step the least one with which the largest weight has a code and
    /// the norm keeps within the bound.
    void initialize(std::span<const float> w) {
        check("accumulator_aware.initialize", w);
        for (index_t c = 0; c < layout_.count(); ++c) {
            start_step(c, w);
            start_norm(c, w);
        }
    }
    [[nodiscard]] bool initialized() const noexcept {
        return detail::all_set(log_step_, detail::unset_log) && detail::all_set(log_norm_, detail::unset_log);
    }

    /// What is unset is first set from w, as initialize does. A NaN in log_step or log_norm is an error, and nothing
    /// changes.
    std::span<const float> forward(std::span<const float> w, const context& = {}) {
        check("accumulator_aware.forward", w);
        detail::check_trained("accumulator_aware.forward", "log_step", log_step_);
        detail::check_trained("accumulator_aware.forward", "log_norm", log_norm_);
        for (index_t c = 0; c < layout_.count(); ++c) {
            if (log_step_[c] == detail::unset_log) start_step(c, w);
            if (log_norm_[c] == detail::unset_log) start_norm(c, w);
            params_[c] = {detail::step_from_log<Range>(log_step_[c]), 0};
        }
        return run(w);
    }
    /// The same with given scales instead of the steps, one for each entry of params(), for this call only. backward
    /// then gives the gradient of the step as if it had this value.
    std::span<const float> forward(std::span<const float> w, std::span<const float> scales, const context& = {}) {
        check("accumulator_aware.forward", w);
        this->take_scales("accumulator_aware.forward", scales);
        detail::check_trained("accumulator_aware.forward", "log_norm", log_norm_);
        for (index_t c = 0; c < layout_.count(); ++c)
            if (log_norm_[c] == detail::unset_log) start_norm(c, w);
        return run(w);
    }

    /// Gradients for the w of the last forward: returns dw, and adds to log_step_gradient() and log_norm_gradient().
    std::span<const float> backward(std::span<const float> w, std::span<const float> dy) {
        this->check_backward("accumulator_aware.backward", w, dy);
        gradient_.resize_discard(layout_.size());
        for (index_t c = 0; c < layout_.count(); ++c) {
            const double s = static_cast<double>(params_[c].scale), norm = norm_of(c, w), g = target(c);
            const double factor = norm > 0.0 ? g / norm : 0.0;
            double along = 0, step = 0; // sum d w; dt
            for_channel(c, [&](index_t i) {
                const double d = static_cast<double>(dy[static_cast<std::size_t>(i)]), v = finite(w, i);
                step += d * (static_cast<double>(codes_[i]) * s - (mask_[i] ? v * factor : 0.0));
                if (mask_[i]) along += d * v;
            });
            for_channel(c, [&](index_t i) {
                const double v = finite(w, i), sign = v > 0.0 ? 1.0 : v < 0.0 ? -1.0 : 0.0;
                const double d = mask_[i] ? static_cast<double>(dy[static_cast<std::size_t>(i)]) : 0.0;
                gradient_[i] = norm > 0.0 ? static_cast<float>(factor * (d - sign * along / norm)) : 0.0f;
            });
            const bool bounded = norm_is_bounded(c);
            log_step_gradient_[c] += static_cast<float>(step + (bounded ? along * factor : 0.0));
            if (!bounded) log_norm_gradient_[c] += static_cast<float>(along * factor);
        }
        return gradient_;
    }

    /// The penalty of the last forward; adds weight times its gradients. The paper's weight is 1e-3.
    double penalty(float weight) {
        double sum = 0;
        for (index_t c = 0; c < layout_.count(); ++c) {
            const double over = static_cast<double>(log_norm_[c]) - std::log(bound(c));
            if (!(over > 0.0)) continue;
            sum += over;
            log_norm_gradient_[c] += weight;
            log_step_gradient_[c] -= weight;
        }
        return sum;
    }

    /// What an optimizer trains and a checkpoint keeps: t and n for each channel, and their gradients. Both are
    /// -infinity while unset; what is written here before the first forward stays.
    [[nodiscard]] std::span<float> log_step() noexcept { return log_step_; }
    [[nodiscard]] std::span<float> log_step_gradient() noexcept { return log_step_gradient_; }
    [[nodiscard]] std::span<float> log_norm() noexcept { return log_norm_; }
    [[nodiscard]] std::span<float> log_norm_gradient() noexcept { return log_norm_gradient_; }

private:
    static double finite(std::span<const float> w, index_t i) {
        const float v = w[static_cast<std::size_t>(i)];
        return std::isfinite(v) ? static_cast<double>(v) : 0.0;
    }
    double norm_of(index_t c, std::span<const float> w) const {
        double sum = 0;
        for_channel(c, [&](index_t i) { sum += std::fabs(finite(w, i)); });
        return sum;
    }
    double bound(index_t c) const { return static_cast<double>(largest_norm) * static_cast<double>(params_[c].scale); }
    double wanted(index_t c) const { return static_cast<double>(detail::positive_from_log(log_norm_[c], -87.0f)); }
    bool norm_is_bounded(index_t c) const { return wanted(c) >= bound(c); }
    /// g
    double target(index_t c) const { return norm_is_bounded(c) ? bound(c) : wanted(c); }

    void start_norm(index_t c, std::span<const float> w) { log_norm_[c] = detail::log_of_positive(norm_of(c, w)); }
    void start_step(index_t c, std::span<const float> w) {
        double largest = 0;
        for_channel(c, [&](index_t i) { largest = std::fmax(largest, std::fabs(finite(w, i))); });
        log_step_[c] = detail::log_from_step<Range>(
            std::fmax(largest / static_cast<double>(Range::qmax), norm_of(c, w) / static_cast<double>(largest_norm)));
        params_[c] = {detail::step_from_log<Range>(log_step_[c]), 0};
    }
    /// In double the sum of the u exceeds L by far less than 1, and the codes, integers, by nothing.
    std::span<const float> run(std::span<const float> w) {
        this->resize();
        for (index_t c = 0; c < layout_.count(); ++c) {
            const double s = static_cast<double>(params_[c].scale), norm = norm_of(c, w);
            const double factor = norm > 0.0 ? target(c) / norm / s : 0.0;
            for_channel(c, [&](index_t i) {
                const double u = finite(w, i) * factor;
                const bool inside =
                    u > static_cast<double>(Range::qmin) - 1.0 && u < static_cast<double>(Range::qmax) + 1.0;
                const double kept = inside ? std::trunc(u) : static_cast<double>(u > 0.0 ? Range::qmax : Range::qmin);
                codes_[i] = static_cast<typename Range::code_type>(kept);
                values_[i] = static_cast<float>(codes_[i]) * params_[c].scale;
                mask_[i] = inside;
            });
        }
        return values_;
    }
    buffer<float> log_step_, log_step_gradient_, log_norm_, log_norm_gradient_;
};

NOTCH_KEYED_END
