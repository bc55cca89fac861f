// SPDX-License-Identifier: Apache-2.0
//
// notch/qat/learned_affine.hpp: LSQ+, a learned step and a learned offset for activations that are not
// symmetric (Bhalgat et al. 2020, arXiv:2004.09576).
//
//   forward    v = (x - b) / s, value = round(clamp(v, n, p)) * s + b
//   to x       dx = dy where n < v < p, else 0
//   to s       ds = g * sum of dy * { n  where v <= n,  p  where v >= p,  round(v) - v  else }
//   to b       db = g * sum of dy * { 0  where n < v < p,  1  else }
//              g = 1 / sqrt(N * (p - n)), N values to a step: that of learned_step
//   start      s = (max - min) / (p - n), b = min - n * s; or the s and b of the least squared error
//
// n and p are the first and the last code. What differs from the paper: real 0 must be a code, as integer
// kernels need it (padding, sums of weights). So b is used as its nearest multiple of s, b = -zero_point * s, and
// the rounding counts as the identity. And s is trained as t = log(s), dt = ds * s, which keeps it positive: plain
// descent then moves the step by about s^2 times what descent in s moves it by, and small steps hardly move. Train t
// with Adam, or at a rate divided by s^2; b is trained as it is.
#pragma once

#include <cmath>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/observe/min_max.hpp>
#include <notch/qat/fake_quant.hpp>
#include <notch/qat/log_parameter.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/range.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// Sums over the values of one channel: dy times the derivative of the value by the step, and by the offset.
struct affine_slopes {
    double step = 0, offset = 0;
    index_t n = 0; ///< values
};

/// What quantizers with a learned scale and zero point have in common.
template <range_type Range> class affine_quantizer : public quantizer<Range> {
    static_assert(Range::has_zero_point, "notch: a learned offset needs a range with a zero point; use notch::affine");

protected:
    using quantizer<Range>::quantizer;

    /// min-max parameters for each channel; the finite values count.
    buffer<quant_params> min_max_params(std::span<const float> x) const {
        channel_observer<min_max> seen(this->layout_.count());
        seen.observe(x, this->layout_);
        buffer<quant_params> p(this->layout_.count());
        for (index_t c = 0; c < p.size(); ++c) p[c] = params_from_range<Range>(seen.range(c));
        return p;
    }
    /// Writes dx of channel c into gradient_ and returns the sums. NaN counts for nothing.
    affine_slopes differentiate(index_t c, std::span<const float> x, std::span<const float> dy) {
        const quant_params p = this->params_[c];
        const float lo = static_cast<float>(Range::qmin - p.zero_point);
        const float hi = static_cast<float>(Range::qmax - p.zero_point);
        affine_slopes sums;
        this->for_channel(c, [&](index_t i) {
            ++sums.n;
            const auto at = static_cast<std::size_t>(i);
            const float v = x[at] / p.scale; // (x - b) / s less the zero point
            this->gradient_[i] = v > lo && v < hi ? dy[at] : 0.0f;
            const auto d = static_cast<double>(dy[at]);
            if (v <= lo || v >= hi) {
                sums.step += d * static_cast<double>(v <= lo ? Range::qmin : Range::qmax);
                sums.offset += d;
            } else if (!std::isnan(v)) {
                sums.step += d * static_cast<double>(static_cast<float>(this->codes_[i] - p.zero_point) - v);
            }
        });
        return sums;
    }
};

} // namespace detail

/// Range is affine<Bits> or affine_signed<Bits>. params() are those of the last forward, or of initialize; before
/// either scale 1 and zero point qmin. Not thread-safe.
///
///     notch::learned_affine<notch::affine<4>> q({batch, features});
///     q.initialize(x);                              // min-max; or from parameters, e.g. of notch::calibrate
///     auto xq = q.forward(x);
///     dx = q.backward(x, dy);                       // and log_step_gradient(), offset_gradient()
template <range_type Range, class Granularity = per_tensor>
class learned_affine : public detail::affine_quantizer<Range> {
    using base = detail::affine_quantizer<Range>;
    using base::check, base::quantize, base::layout_, base::params_, base::gradient_;

public:
    explicit learned_affine(std::initializer_list<index_t> extents)
        : learned_affine(std::span<const index_t>(extents.begin(), extents.size())) {}
    explicit learned_affine(std::span<const index_t> extents)
        : base(layout_of<Granularity>(extents), {1.0f, Range::qmin}),
          log_step_(detail::trained_numbers(layout_.count(), detail::unset_log)), log_step_gradient_(layout_.count()),
          offset_(layout_.count()), offset_gradient_(layout_.count()), outside_(layout_.count()) {}

    /// Starts from the minimum and the maximum of values, as params_from_range widens them to 0.
    void initialize(std::span<const float> x) {
        check("learned_affine.initialize", x);
        initialize(this->min_max_params(x).span());
    }
    /// Starts from given parameters, one for each channel. Those of the least squared error, which the paper prefers,
    /// are found by notch::calibrate with clip::error(2) (notch/ptq/calibrate.hpp).
    void initialize(std::span<const quant_params> params) {
        this->check_start("learned_affine.initialize", params, Range::qmin, Range::qmax);
        for (index_t c = 0; c < layout_.count(); ++c) start(c, params[static_cast<std::size_t>(c)]);
        take_params();
    }
    /// Whether every channel has a step: by initialize, by a forward, or written to log_step().
    [[nodiscard]] bool initialized() const noexcept { return detail::all_set(log_step_, detail::unset_log); }

    /// The step of channel (or group) c < layout().count(): exp(t), kept within [FLT_MIN, 2^100]; 1 while t is unset,
    /// or NaN. For a power_of_two range rounded up to a power of two, through which the gradient passes straight.
    [[nodiscard]] float step(index_t c) const {
        if (c < 0 || c >= log_step_.size())
            fail(errc::invalid_argument, detail::cat("learned_affine.step: channel ", c, " of ", log_step_.size()));
        return detail::step_from_log<Range>(log_step_[c]);
    }

    /// Channels whose step is still unset are first set from x, as initialize does, with their offset. A NaN among the
    /// trained numbers is an error, and nothing changes.
    std::span<const float> forward(std::span<const float> x, const context& ctx = {}) {
        constexpr const char* where = "learned_affine.forward";
        check(where, x);
        detail::check_trained(where, "log_step", log_step_);
        detail::check_trained(where, "offset", offset_);
        if (!initialized()) {
            const buffer<quant_params> from = this->min_max_params(x);
            for (index_t c = 0; c < layout_.count(); ++c)
                if (log_step_[c] == detail::unset_log) start(c, from[c]);
        }
        take_params();
        return quantize(x, ctx);
    }
    /// Gradients for the x of the last forward: returns dx, and adds to log_step_gradient() and offset_gradient(). The
    /// gradient of an offset that leaves 0 outside of the codes, and by which descent would move it further away,
    /// counts as 0.
    std::span<const float> backward(std::span<const float> x, std::span<const float> dy) {
        this->check_backward("learned_affine.backward", x, dy);
        gradient_.resize_discard(layout_.size());
        for (index_t c = 0; c < layout_.count(); ++c) {
            const detail::affine_slopes sums = this->differentiate(c, x, dy);
            if (sums.n == 0) continue;
            const double g =
                1.0 / std::sqrt(static_cast<double>(sums.n) * static_cast<double>(Range::qmax - Range::qmin));
            log_step_gradient_[c] += static_cast<float>(g * sums.step * static_cast<double>(params_[c].scale));
            if (!(outside_[c] * sums.offset > 0.0)) offset_gradient_[c] += static_cast<float>(g * sums.offset);
        }
        return gradient_;
    }

    /// What an optimizer trains and a checkpoint keeps, and the gradients: t = log(step) and the offset, in the units
    /// of x, for each channel. t is -infinity while unset, and decides for the pair: what is written to both before the
    /// first forward stays.
    [[nodiscard]] std::span<float> log_step() noexcept { return log_step_; }
    [[nodiscard]] std::span<float> log_step_gradient() noexcept { return log_step_gradient_; }
    [[nodiscard]] std::span<float> offset() noexcept { return offset_; }
    [[nodiscard]] std::span<float> offset_gradient() noexcept { return offset_gradient_; }

private:
    void start(index_t c, quant_params p) {
        log_step_[c] = detail::log_from_step<Range>(static_cast<double>(p.scale));
        offset_[c] = -static_cast<float>(p.zero_point) * step(c);
    }
    void take_params() {
        for (index_t c = 0; c < layout_.count(); ++c) {
            const float s = step(c);
            const double zero = std::nearbyint(-static_cast<double>(offset_[c]) / static_cast<double>(s));
            // Descent along a positive gradient lowers b and raises the zero point.
            outside_[c] = zero > Range::qmax ? 1.0 : zero < Range::qmin ? -1.0 : 0.0;
            params_[c] = {s, outside_[c] > 0   ? Range::qmax
                             : outside_[c] < 0 ? Range::qmin
                                               : static_cast<std::int32_t>(zero)};
        }
    }
    buffer<float> log_step_, log_step_gradient_, offset_, offset_gradient_;
    buffer<double> outside_; ///< 1 or -1 where the zero point was clamped to the last or the first code
};

NOTCH_KEYED_END
