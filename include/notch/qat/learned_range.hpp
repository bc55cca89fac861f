// SPDX-License-Identifier: Apache-2.0
//
// notch/qat/learned_range.hpp: learned minimum and maximum of activations. The same quantizer as LSQ+
// (learned_affine.hpp) with other parameters, s = (hi - lo) / (p - n) and b = lo - n * s, and so by the
// chain rule:
//
//   forward    value = fake_quantize(x), parameters from [min(lo, 0), max(hi, 0)] by params_from_range
//   to x       dx = dy where v lies between the codes n and p, else 0
//   to hi      dhi = sum of dy * { 0  below,  1  above,   (round(v) - v) / (p - n)  else }
//   to lo      dlo = sum of dy * { 1  below,  0  above,  -(round(v) - v) / (p - n)  else }
//
// No gradient is scaled: each bound has that of the values which it clips. What the rounding of the zero
// point moves, less than half a step, counts as the identity.
#pragma once

#include <cfloat>
#include <cmath>
#include <limits>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/qat/fake_quant.hpp>
#include <notch/qat/learned_affine.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/range.hpp>

NOTCH_KEYED_BEGIN

/// Range is affine<Bits> or affine_signed<Bits>. params() are those of the last forward, or of initialize; before
/// either scale 1 and zero point qmin. Not thread-safe.
template <range_type Range, class Granularity = per_tensor>
class learned_range : public detail::affine_quantizer<Range> {
    using base = detail::affine_quantizer<Range>;
    using base::check, base::quantize, base::layout_, base::params_, base::gradient_;

public:
    explicit learned_range(std::initializer_list<index_t> extents)
        : learned_range(std::span<const index_t>(extents.begin(), extents.size())) {}
    explicit learned_range(std::span<const index_t> extents)
        : base(layout_of<Granularity>(extents), {1.0f, Range::qmin}),
          min_(detail::trained_numbers(layout_.count(), unset.min)), min_gradient_(layout_.count()),
          max_(detail::trained_numbers(layout_.count(), unset.max)), max_gradient_(layout_.count()) {}

    /// Starts from the minimum and the maximum of values, widened to 0.
    void initialize(std::span<const float> x) {
        check("learned_range.initialize", x);
        initialize(this->min_max_params(x).span());
    }
    /// Starts from the ranges of given parameters, one for each channel, e.g. of notch::calibrate.
    void initialize(std::span<const quant_params> params) {
        this->check_start("learned_range.initialize", params, Range::qmin, Range::qmax);
        for (index_t c = 0; c < layout_.count(); ++c) {
            const real_range r = range_of<Range>(params[static_cast<std::size_t>(c)]);
            min_[c] = r.min;
            max_[c] = r.max;
        }
        take_params();
    }
    /// Whether every channel has both bounds: by initialize, by a forward, or written to min() and max().
    [[nodiscard]] bool initialized() const noexcept {
        return detail::all_set(min_, unset.min) && detail::all_set(max_, unset.max);
    }

    /// The range of channel (or group) c < layout().count() as it is used: it holds 0, and its bounds are at most
    /// 2^100. A bound that is unset, or NaN, counts as 0. Where both do, the range is the least one that has a normal
    /// scale: all other values lie outside, and their gradient opens it again.
    [[nodiscard]] real_range bounds(index_t c) const {
        if (c < 0 || c >= min_.size())
            fail(errc::invalid_argument, detail::cat("learned_range.bounds: channel ", c, " of ", min_.size()));
        const float lo = min_[c] < 0.0f ? min_[c] : 0.0f, hi = max_[c] > 0.0f ? max_[c] : 0.0f; // NaN is neither
        if (lo == 0.0f && hi == 0.0f) return {0.0f, static_cast<float>(Range::qmax - Range::qmin) * FLT_MIN};
        return {lo < -0x1p100f ? -0x1p100f : lo, hi > 0x1p100f ? 0x1p100f : hi};
    }

    /// Bounds that are still unset are first set from x, as initialize does. A NaN among the bounds is an error, and
    /// nothing changes.
    std::span<const float> forward(std::span<const float> x, const context& ctx = {}) {
        constexpr const char* where = "learned_range.forward";
        check(where, x);
        detail::check_trained(where, "min", min_);
        detail::check_trained(where, "max", max_);
        if (!initialized()) {
            const buffer<quant_params> from = this->min_max_params(x);
            for (index_t c = 0; c < layout_.count(); ++c) {
                const real_range r = range_of<Range>(from[c]);
                if (min_[c] == unset.min) min_[c] = r.min;
                if (max_[c] == unset.max) max_[c] = r.max;
            }
        }
        take_params();
        return quantize(x, ctx);
    }
    /// Gradients for the x of the last forward: returns dx, and adds to min_gradient() and max_gradient(). The gradient
    /// of a bound on the wrong side of 0, by which descent would move it further away, counts as 0.
    std::span<const float> backward(std::span<const float> x, std::span<const float> dy) {
        this->check_backward("learned_range.backward", x, dy);
        gradient_.resize_discard(layout_.size());
        constexpr double n = Range::qmin, steps = Range::qmax - Range::qmin;
        for (index_t c = 0; c < layout_.count(); ++c) {
            const detail::affine_slopes sums = this->differentiate(c, x, dy);
            // s = (hi - lo) / steps and b = lo - n * s.
            const double by_step = (sums.step - n * sums.offset) / steps;
            const double dlo = sums.offset - by_step, dhi = by_step;
            if (!(min_[c] > 0.0f && dlo < 0.0)) min_gradient_[c] += static_cast<float>(dlo);
            if (!(max_[c] < 0.0f && dhi > 0.0)) max_gradient_[c] += static_cast<float>(dhi);
        }
        return gradient_;
    }

    /// What an optimizer trains and a checkpoint keeps, and the gradients: the bounds of each channel, in the units of
    /// x. An unset minimum is infinity, an unset maximum -infinity, each for itself; what is written here before the
    /// first forward stays.
    [[nodiscard]] std::span<float> min() noexcept { return min_; }
    [[nodiscard]] std::span<float> min_gradient() noexcept { return min_gradient_; }
    [[nodiscard]] std::span<float> max() noexcept { return max_; }
    [[nodiscard]] std::span<float> max_gradient() noexcept { return max_gradient_; }

private:
    static constexpr real_range unset{std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()};

    void take_params() {
        for (index_t c = 0; c < layout_.count(); ++c) params_[c] = params_from_range<Range>(bounds(c));
    }
    buffer<float> min_, min_gradient_, max_, max_gradient_;
};

NOTCH_KEYED_END
