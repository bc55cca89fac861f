// SPDX-License-Identifier: Apache-2.0
//
// notch/qat/fake_quant.hpp: quantize and dequantize in one pass, with the mask for the backward
// pass, for training loops of one's own.
//
//   forward    code = quantize(x), value = float(code - zero_point) * scale
//   mask       1 where the unclamped code lies in the range, else 0
//   backward   straight-through: dx = dy * mask (Bengio et al. 2013, arXiv:1308.3432; with the
//              clipping mask of Jacob et al. 2018, arXiv:1712.05877)
#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>
#include <span>

#include <notch/core/buffer.hpp>
#include <notch/core/view.hpp>
#include <notch/kernels/quantize.hpp>
#include <notch/observe/min_max.hpp>
#include <notch/ref/quantize.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/range.hpp>

NOTCH_KEYED_BEGIN

/// params has one entry (per tensor) or layout.count() entries (scheme/granularity.hpp). Any of codes, values and
/// mask may be empty; the others have the size of x.
template <range_type Range>
void fake_quantize(std::span<const float> x, const channel_layout& layout, std::span<const quant_params> params,
                   std::span<typename Range::code_type> codes, std::span<float> values, std::span<std::uint8_t> mask,
                   const context& ctx = {}) {
    constexpr const char* where = "fake_quantize";
    detail::check_channel_params(where, layout, static_cast<index_t>(x.size()), params, Range::qmin, Range::qmax);
    const auto check_size = [&](const char* name, std::size_t size) {
        if (size != 0) detail::check_equal(where, name, static_cast<index_t>(size), static_cast<index_t>(x.size()));
    };
    check_size("the size of codes", codes.size());
    check_size("the size of values", values.size());
    check_size("the size of mask", mask.size());
    detail::check_span(where, "x", x);
    detail::check_span(where, "codes", codes);
    detail::check_span(where, "values", values);
    detail::check_span(where, "mask", mask);
    if (x.empty()) return;
    constexpr code_range range{Range::qmin, Range::qmax};
    if constexpr (Range::bits > 8) {
        ref::fake_quantize(x, layout, params, range, codes, values, mask);
    } else {
        constexpr store_kind store = detail::code_kind<typename Range::code_type>();
        const quantize_kernels& k = detail::kernels_for(detail::quantize_tables, ctx.target);
        const auto from = [](auto span, index_t at) { return span.empty() ? nullptr : span.data() + at; };
        detail::for_each_part(
            layout, params,
            [&](index_t at, index_t n, quant_params p) {
                k.quantize({x.data() + at, n, p, range, store, from(codes, at), from(values, at), from(mask, at)});
            },
            [&](index_t at, index_t rows, index_t cols, const quant_params* p) {
                k.quantize_columns(
                    {x.data() + at, rows, cols, p, range, store, from(codes, at), from(values, at), from(mask, at)});
            });
    }
}

/// dx[i] = mask[i] ? dy[i] : 0. dx may be dy.
inline void straight_through(std::span<const float> dy, std::span<const std::uint8_t> mask, std::span<float> dx,
                             const context& ctx = {}) {
    detail::check_equal("straight_through", "the size of mask", static_cast<index_t>(mask.size()),
                        static_cast<index_t>(dy.size()));
    detail::check_equal("straight_through", "the size of dx", static_cast<index_t>(dx.size()),
                        static_cast<index_t>(dy.size()));
    detail::check_span("straight_through", "dy", dy);
    detail::check_span("straight_through", "mask", mask);
    detail::check_span("straight_through", "dx", dx);
    detail::kernels_for(detail::quantize_tables, ctx.target)
        .straight_through({dy.data(), mask.data(), dx.data(), static_cast<index_t>(dy.size())});
}

namespace detail {
/// The parameters of a quantizer are there: moving from it leaves it without.
inline void check_quantizer(const char* where, index_t params, const channel_layout& layout) {
    if (params != layout.count()) fail(errc::invalid_argument, cat(where, ": the quantizer was moved from"));
}
/// What all quantizers for training have: parameters, and what the last forward made with them.
template <range_type Range> class quantizer {
public:
    using range = Range;
    using code_type = typename Range::code_type;

    /// One entry for each channel or group of layout().
    [[nodiscard]] std::span<const quant_params> params() const noexcept { return params_; }
    /// Of the last forward: codes, their values, and 1 where the gradient passes. Empty before any.
    [[nodiscard]] std::span<const code_type> codes() const noexcept { return codes_; }
    [[nodiscard]] std::span<const float> values() const noexcept { return values_; }
    [[nodiscard]] std::span<const std::uint8_t> mask() const noexcept { return mask_; }
    [[nodiscard]] const channel_layout& layout() const noexcept { return layout_; }

protected:
    quantizer(const channel_layout& layout, quant_params p) : layout_(layout), params_(layout.count()) {
        for (quant_params& each : params_) each = p;
    }
    void check(const char* where, std::span<const float> x) const {
        check_quantizer(where, params_.size(), layout_);
        check_equal(where, "the size of x", static_cast<index_t>(x.size()), layout_.size());
        check_span(where, "x", x);
    }
    /// A backward needs a forward before it, the x of that forward and a gradient of its size.
    void check_backward(const char* where, std::span<const float> x, std::span<const float> dy) const {
        check_equal(where, "the size of x", static_cast<index_t>(x.size()), layout_.size());
        check_equal(where, "the size of dy", static_cast<index_t>(dy.size()), layout_.size());
        if (mask_.size() != layout_.size()) fail(errc::invalid_argument, cat(where, " needs a forward before it"));
    }
    /// Parameters to start from, one for each entry of params(), with zero points in lo..hi.
    void check_start(const char* where, std::span<const quant_params> start, std::int32_t lo, std::int32_t hi) const {
        check_quantizer(where, params_.size(), layout_);
        check_equal(where, "the number of params", static_cast<index_t>(start.size()), params_.size());
        for (const quant_params& p : start) check_params(where, "params", p, lo, hi);
    }
    /// Calls f(i) for each element i that has the parameters c.
    template <class F> void for_channel(index_t c, const F& f) const {
        for_each_run_of(layout_, c, [&](index_t at, index_t n) {
            for (index_t i = at; i < at + n; ++i) f(i);
        });
    }
    /// Scales given by the caller, as symmetric parameters.
    void take_scales(const char* where, std::span<const float> scales) {
        check_equal(where, "the number of scales", static_cast<index_t>(scales.size()), params_.size());
        for (index_t c = 0; c < params_.size(); ++c)
            check_scale(where, {"scales", c}, scales[static_cast<std::size_t>(c)]);
        for (index_t c = 0; c < params_.size(); ++c) params_[c] = {scales[static_cast<std::size_t>(c)], 0};
    }
    void resize() {
        codes_.resize_discard(layout_.size());
        values_.resize_discard(layout_.size());
        mask_.resize_discard(layout_.size());
    }
    std::span<const float> quantize(std::span<const float> x, const context& ctx) {
        resize();
        fake_quantize<Range>(x, layout_, params_, codes_, values_, mask_, ctx);
        return values_;
    }
    channel_layout layout_;
    buffer<quant_params> params_;
    buffer<code_type> codes_;
    buffer<float> values_, gradient_;
    buffer<std::uint8_t> mask_;
};
} // namespace detail

/// What the training layers ask of a quantizer of weights: symmetric codes of int8, as the kernels take them.
///
///     q.forward(x, ctx)           quantizes x, keeps codes() and values()
///     q.forward(x, scales, ctx)   the same with these scales, one for each entry of params()
///     q.backward(x, dy)           dx for the x of the last forward
///     q.layout()                  of params(): one channel, or those of the weights
///     Q::range                    a range_type without a zero point, e.g. symmetric<8>
///
/// and a constructor from the extents of the weights.
template <class Q>
concept symmetric_quantizer =
    std::same_as<typename Q::code_type, std::int8_t> && range_type<typename Q::range> && !Q::range::has_zero_point &&
    std::constructible_from<Q, std::span<const index_t>> &&
    requires(Q & q, const Q& seen, std::span<const float> x, const context& ctx) {
    q.forward(x, ctx);
    q.forward(x, x, ctx);
    { q.backward(x, x) } -> std::convertible_to<std::span<const float>>;
    { seen.params() } -> std::convertible_to<std::span<const quant_params>>;
    { seen.codes() } -> std::convertible_to<std::span<const std::int8_t>>;
    { seen.values() } -> std::convertible_to<std::span<const float>>;
    { seen.layout() } -> std::convertible_to<channel_layout>;
};

/// Whether a quantizer of weights gives values of one magnitude, whatever that of the weights: it says so by
/// `static constexpr bool fixed_magnitude = true`. What a folded batch norm scales is lost in it, so training layers
/// refuse the two together.
template <class Q> inline constexpr bool has_fixed_magnitude = requires { requires Q::fixed_magnitude; };

/// A quantizer for training: parameters from an observer, forward with codes, values and mask kept,
/// straight-through backward.
///
///     notch::fake_quant<notch::symmetric<8>, notch::per_channel<0>> weight_q({out, in});
///     auto wq = weight_q.forward(W);               // fake-quantized values
///     ... dW = weight_q.backward(grad_wrt_wq) ...
///
/// Without a call of observe(), forward takes the range of the very values it is given, as weights
/// need; after observe(), the parameters come from the observer. Not thread-safe.
template <range_type Range, class Granularity = per_tensor, observer Observer = min_max>
class fake_quant : public detail::quantizer<Range> {
    using base = detail::quantizer<Range>;
    using base::check, base::quantize, base::layout_, base::params_, base::gradient_, base::mask_;

public:
    explicit fake_quant(std::initializer_list<index_t> extents, const Observer& o = Observer{})
        : fake_quant(std::span<const index_t>(extents.begin(), extents.size()), o) {}
    explicit fake_quant(std::span<const index_t> extents, const Observer& o = Observer{})
        : base(layout_of<Granularity>(extents), params_from_range<Range>({})), observer_(layout_.count(), o),
          initial_(o) {}

    /// Shows values to the observers and updates the parameters.
    void observe(std::span<const float> x) {
        check("fake_quant.observe", x);
        observer_.observe(x, layout_);
        observed_ = true;
        take_ranges(observer_);
    }
    std::span<const float> forward(std::span<const float> x, const context& ctx = {}) {
        check("fake_quant.forward", x);
        if (!observed_) {
            channel_observer<Observer> fresh(layout_.count(), initial_);
            fresh.observe(x, layout_);
            take_ranges(fresh);
            nonfinite_ = -1;
            if constexpr (std::same_as<Observer, min_max>) {
                nonfinite_ = 0;
                for (index_t c = 0; c < layout_.count(); ++c) nonfinite_ += fresh[c].nonfinite() - initial_.nonfinite();
            }
        } else {
            nonfinite_ = -1;
            take_ranges(observer_); // another forward may have had scales of its own
        }
        return quantize(x, ctx);
    }
    /// The same with given scales, one for each entry of params(), for this call only.
    std::span<const float> forward(std::span<const float> x, std::span<const float> scales,
                                   const context& ctx = {}) requires(!Range::has_zero_point) {
        check("fake_quant.forward", x);
        this->take_scales("fake_quant.forward", scales);
        nonfinite_ = -1;
        return quantize(x, ctx);
    }
    /// How many values of the last forward were NaN or infinite; -1 if it did not have to look.
    [[nodiscard]] std::int64_t nonfinite() const noexcept { return nonfinite_; }
    /// dx for a gradient with respect to the values of the last forward.
    std::span<const float> backward(std::span<const float> dy) {
        if (mask_.size() != layout_.size())
            fail(errc::invalid_argument, "fake_quant: backward needs a forward before it");
        gradient_.resize_discard(layout_.size());
        straight_through(dy, mask_, gradient_);
        return gradient_;
    }
    /// The same, with the signature of learned_step::backward: x is not needed here.
    std::span<const float> backward(std::span<const float>, std::span<const float> dy) { return backward(dy); }
    /// The same in place of dy, which stays as it is if nothing was clipped.
    void backward_in_place(std::span<float> dy) {
        constexpr const char* where = "fake_quant.backward_in_place";
        if (mask_.size() != layout_.size())
            fail(errc::invalid_argument, detail::cat(where, " needs a forward before it"));
        detail::check_equal(where, "the size of dy", static_cast<index_t>(dy.size()), mask_.size());
        detail::check_span(where, "dy", std::span<const float>(dy));
        if (!dy.empty() && std::memchr(mask_.data(), 0, dy.size())) straight_through(dy, mask_, dy);
    }

private:
    void take_ranges(const channel_observer<Observer>& o) {
        for (index_t c = 0; c < layout_.count(); ++c) params_[c] = params_from_range<Range>(o.range(c));
    }
    channel_observer<Observer> observer_;
    Observer initial_;
    std::int64_t nonfinite_ = -1;
    bool observed_ = false;
};

namespace detail {

/// Whether Q is fake_quant itself, not a type derived from it, whose forward and backward may be its own.
template <class Q> inline constexpr bool is_fake_quant = false;
template <class R, class G, class O> inline constexpr bool is_fake_quant<fake_quant<R, G, O>> = true;

} // namespace detail

NOTCH_KEYED_END
