// SPDX-License-Identifier: Apache-2.0
//
// notch/qat/learned_step.hpp: learned step size quantization (Esser et al. 2020, arXiv:1902.08153).
//
//   forward    v = clamp(x / s, -Qn, Qp), value = round(v) * s
//   to x       dx = dy where -Qn < x / s < Qp, else 0: before rounding                     (eq. 5)
//   to s       ds = g * sum dy * { -Qn            where x / s <= -Qn
//                                  Qp             where x / s >= Qp                        (eq. 3)
//                                  round(v) - v   else }
//              g = 1 / sqrt(N * Qp), N values to a step                        (section 2.2)
//   start      s = 2 * mean|x| / sqrt(Qp)                                      (section 2.1)
//
// The step is stored as its logarithm, t = log(s), so that it stays positive and finite whatever
// the optimizer does: dt = ds * s. Plain descent at a rate lr then moves the step by about lr * s^2 * ds, where descent
// in s itself, as in the paper, moves it by lr * ds; small steps hardly move. Train t with Adam, whose moves do not
// depend on the size of the gradient, or at a rate divided by s^2.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/core/view.hpp>
#include <notch/qat/fake_quant.hpp>
#include <notch/qat/log_parameter.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/range.hpp>

NOTCH_KEYED_BEGIN

/// Symmetric ranges only: there is no zero_point to learn. params() are the steps of the last forward, or of
/// initialize; before either 1. Not thread-safe.
template <range_type Range, class Granularity = per_tensor> class learned_step : public detail::quantizer<Range> {
    static_assert(!Range::has_zero_point, "notch::learned_step learns symmetric ranges; use notch::symmetric<Bits>");

    using base = detail::quantizer<Range>;
    using base::check, base::for_channel, base::quantize;
    using base::layout_, base::params_, base::codes_, base::gradient_, base::mask_;

public:
    explicit learned_step(std::initializer_list<index_t> extents)
        : learned_step(std::span<const index_t>(extents.begin(), extents.size())) {}
    explicit learned_step(std::span<const index_t> extents)
        : base(layout_of<Granularity>(extents), {1.0f, 0}),
          log_step_(detail::trained_numbers(layout_.count(), detail::unset_log)), log_step_gradient_(layout_.count()) {}

    /// Sets the steps from values, as the paper starts training.
    void initialize(std::span<const float> x) {
        check("learned_step.initialize", x);
        for (index_t c = 0; c < layout_.count(); ++c) start(c, x);
    }
    /// Starts from given scales, one for each channel, e.g. of notch::calibrate; zero points are 0.
    void initialize(std::span<const quant_params> params) {
        this->check_start("learned_step.initialize", params, 0, 0);
        for (index_t c = 0; c < layout_.count(); ++c) {
            log_step_[c] = detail::log_from_step<Range>(static_cast<double>(params[static_cast<std::size_t>(c)].scale));
            params_[c] = {step(c), 0};
        }
    }
    /// Whether every channel has a step: by initialize, by a forward, or written to log_step().
    [[nodiscard]] bool initialized() const noexcept { return detail::all_set(log_step_, detail::unset_log); }

    /// The step of channel (or group) c < layout().count(): exp(t), kept within [FLT_MIN, 2^100]; 1 while t is unset,
    /// or NaN. For a power_of_two range rounded up to a power of two, through which the gradient passes straight (Jain
    /// et al. 2020, arXiv:1903.08066).
    [[nodiscard]] float step(index_t c) const {
        if (c < 0 || c >= log_step_.size())
            fail(errc::invalid_argument, detail::cat("learned_step.step: channel ", c, " of ", log_step_.size()));
        return detail::step_from_log<Range>(log_step_[c]);
    }

    /// Steps that are still unset are first set from x, as initialize does. A log_step of NaN is an error, and nothing
    /// changes.
    std::span<const float> forward(std::span<const float> x, const context& ctx = {}) {
        check("learned_step.forward", x);
        detail::check_trained("learned_step.forward", "log_step", log_step_);
        for (index_t c = 0; c < layout_.count(); ++c) {
            if (log_step_[c] == detail::unset_log) start(c, x);
            params_[c] = {step(c), 0};
        }
        return quantize(x, ctx);
    }
    /// The same with given scales instead of the steps, one for each entry of params(), for this call only. backward
    /// then gives the gradient of the step as if it had this value.
    std::span<const float> forward(std::span<const float> x, std::span<const float> scales, const context& ctx = {}) {
        check("learned_step.forward", x);
        this->take_scales("learned_step.forward", scales);
        return quantize(x, ctx);
    }

    /// Gradients for the x of the last forward: returns dx, and adds to log_step_gradient().
    std::span<const float> backward(std::span<const float> x, std::span<const float> dy) {
        detail::check_equal("learned_step.backward", "the size of x", static_cast<index_t>(x.size()), layout_.size());
        detail::check_span("learned_step.backward", "x", x);
        if (mask_.size() != layout_.size())
            fail(errc::invalid_argument, "learned_step: backward needs a forward before it");
        gradient_.resize_discard(layout_.size());
        straight_through(dy, mask_, gradient_);
        // Eq. 5 of the paper blocks from the last codes on, before rounding; the mask a half step later.
        for (index_t c = 0; c < layout_.count(); ++c)
            for_channel(c, [&](index_t i) {
                const float v = x[static_cast<std::size_t>(i)] / params_[c].scale;
                if (!(v > static_cast<float>(Range::qmin) && v < static_cast<float>(Range::qmax))) gradient_[i] = 0.0f;
            });
        for (index_t c = 0; c < layout_.count(); ++c) {
            const float s = params_[c].scale;
            double sum = 0;
            index_t n = 0;
            for_channel(c, [&](index_t i) {
                ++n;
                const auto at = static_cast<std::size_t>(i);
                const float v = x[at] / s;
                if (std::isnan(v)) return; // counts for nothing, as in initialize
                const float slope = v <= static_cast<float>(Range::qmin)   ? static_cast<float>(Range::qmin)
                                    : v >= static_cast<float>(Range::qmax) ? static_cast<float>(Range::qmax)
                                                                           : static_cast<float>(codes_[i]) - v;
                sum += static_cast<double>(dy[at]) * static_cast<double>(slope);
            });
            const double g = n ? 1.0 / std::sqrt(static_cast<double>(n) * static_cast<double>(Range::qmax)) : 0.0;
            log_step_gradient_[c] += static_cast<float>(g * sum * static_cast<double>(s));
        }
        return gradient_;
    }

    /// What an optimizer trains and a checkpoint keeps: one t = log(step) for each channel, and its gradient. t is
    /// -infinity while unset; what is written here before the first forward stays.
    [[nodiscard]] std::span<float> log_step() noexcept { return log_step_; }
    [[nodiscard]] std::span<float> log_step_gradient() noexcept { return log_step_gradient_; }

private:
    void start(index_t c, std::span<const float> x) {
        double sum = 0;
        index_t finite = 0;
        for_channel(c, [&](index_t i) {
            const float v = x[static_cast<std::size_t>(i)];
            if (!std::isfinite(v)) return;
            sum += std::fabs(static_cast<double>(v));
            ++finite;
        });
        const double step =
            finite ? 2.0 * sum / static_cast<double>(finite) / std::sqrt(static_cast<double>(Range::qmax)) : 0.0;
        log_step_[c] = detail::log_from_step<Range>(step);
        params_[c] = {this->step(c), 0};
    }
    buffer<float> log_step_, log_step_gradient_;
};

NOTCH_KEYED_END
