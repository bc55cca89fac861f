// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/epilogue.hpp: what happens to an accumulator before it is stored. The caller lists
// stages; they are reduced once to a normal form that the kernels apply in registers:
//
//     auto ep = notch::make_epilogue(weights, stage::bias{b}, stage::requantize{x, w_scales, y},
//                                    stage::relu{});
//
// kernels/stages.hpp lists the stages and their formulas.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include <notch/core/buffer.hpp>
#include <notch/kernels/args.hpp>
#include <notch/kernels/epilogue_plan.hpp>
#include <notch/kernels/pack.hpp>
#include <notch/kernels/pack_depthwise.hpp>
#include <notch/kernels/stages.hpp>
#include <notch/scheme/fixed_point.hpp>

NOTCH_NAMESPACE_BEGIN

/// The normal form with the arrays it needs; built by make_epilogue. Immutable, safe to share.
template <class Out, class F = no_functor> struct epilogue {
    using output_type = Out;
    epilogue_args form;        ///< without pointers; args() sets them
    buffer<std::int32_t> bias; ///< folded: bias[c] - x_zero_point * sum of weights
    buffer<float> multiplier;
    buffer<float> real_bias; ///< empty if there is none
    buffer<fixed_multiplier> fixed;
    buffer<std::int32_t> fixed_lanes;      ///< the same for vectors: all mantissas, then all shifts
    buffer<std::int32_t> bias_interleaved; ///< depthwise order
    buffer<float> multiplier_interleaved;
    buffer<float> multiplier_words; ///< if form.words: the same, negated if the zero point is odd
    /// Of the u8 codes that kernels compute with: for s8 inputs 128 more than the caller's.
    std::int32_t x_zero_point = 0;
    bool x_signed = false;
    bool rows = false; ///< made for gemm_dynamic
    index_t outputs = 0;
    [[no_unique_address]] F functor;

    NOTCH_INLINE_SPECIAL_MEMBERS(epilogue);
    NOTCH_INLINE explicit epilogue(const F& f) : functor(f) {}

    /// The plain struct for a kernel; refers to this epilogue.
    [[nodiscard]] NOTCH_INLINE epilogue_args args() const noexcept {
        epilogue_args a = form;
        a.bias = bias.data();
        a.multiplier = multiplier.data();
        a.f_bias = real_bias.data();
        a.fixed = fixed.data();
        a.mantissa = fixed_lanes.data();
        a.shift = fixed_lanes.data() + fixed_lanes.size() / 2;
        if constexpr (!std::is_same_v<F, no_functor>) {
            a.context = const_cast<void*>(static_cast<const void*>(&functor));
            a.on_tile = [](void* context, const tile_args& t) noexcept {
                (*static_cast<const F*>(context))(
                    tile<Out>{static_cast<Out*>(t.data), t.row, t.col, t.rows, t.cols, t.stride});
            };
        }
        return a;
    }
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// Only gemm_dynamic gives rows their scales.
inline void check_no_rows(std::string_view where, bool rows) {
    if (rows)
        fail(errc::invalid_argument,
             cat(where, ": the epilogue has stage::dequantize_rows, which is for gemm_dynamic"));
}

/// The arrays of an epilogue are there: moving from one leaves it without.
template <class Out, class F> void check_epilogue(std::string_view where, const epilogue<Out, F>& ep) {
    const bool scaled = !std::is_same_v<Out, std::int32_t>, fixed = ep.form.mode != requant_mode::float_scale;
    const index_t scales = !scaled ? ep.outputs : fixed ? ep.fixed.size() : ep.multiplier.size();
    if (ep.bias.size() < ep.outputs || scales < ep.outputs)
        fail(errc::invalid_argument, cat(where, ": the epilogue was moved from"));
}

/// Whether codes of this type are what the epilogue was made for.
template <class Code> void check_input_type(std::string_view where, bool x_signed) {
    if (std::is_signed_v<Code> == x_signed) return;
    fail(errc::invalid_argument, cat(where, x_signed ? ": x holds uint8 codes, but the epilogue has stage::s8_input"
                                                     : ": x holds int8 codes; give the epilogue stage::s8_input"));
}

template <class Out, class F, class Packed>
void build_epilogue(epilogue<Out, F>& e, const Packed& w, const epilogue_plan& plan) {
    constexpr const char* where = "make_epilogue";
    // Whole panels can be read from any channel on: a block of a convolution with groups may begin anywhere.
    const index_t n = w.outputs(), padded = round_up(n + panel_width - 1, depthwise_width);
    if (w.sums.all.size() < n) fail(errc::invalid_argument, cat(where, ": the weights were moved from"));
    e.outputs = n;
    e.x_signed = plan.x_signed;
    e.rows = plan.rows;
    if (plan.rows && (plan.x_signed || !plan.bias.empty()))
        fail(errc::invalid_argument, cat(where, ": stage::dequantize_rows goes with stage::real_bias, not with ",
                                         plan.x_signed ? "stage::s8_input" : "stage::bias"));
    const std::int32_t least_code = plan.x_signed ? -128 : 0;
    if (plan.x.zero_point < least_code || plan.x.zero_point > least_code + 255)
        fail(errc::invalid_argument,
             cat(where, ": x.zero_point is ", plan.x.zero_point, ", must be ", plan.x_signed ? "-128..127" : "0..255"));
    e.x_zero_point = plan.x.zero_point - least_code;
    check_span(where, "the bias", plan.bias);
    check_span(where, "the real bias", plan.real_bias);
    check_span(where, "w_scales", plan.w_scales);
    if (!plan.bias.empty()) check_equal(where, "the number of biases", static_cast<index_t>(plan.bias.size()), n);
    if (plan.has_scale) {
        check_scale(where, "x.scale", plan.x.scale);
        const auto count = static_cast<index_t>(plan.w_scales.size());
        if (count != 1 && count != n)
            fail(errc::shape_mismatch, cat(where, ": ", count, " weight scales for ", n, " output channels"));
        for (index_t c = 0; c < count; ++c)
            check_scale(where, {"w_scales", c}, plan.w_scales[static_cast<std::size_t>(c)]);
    }
    epilogue_args& form = e.form;
    form.store = store_kind_of<Out>();
    form.mode = plan.mode;
    form.relu = plan.relu;
    form.f_lo = plan.real_lo;
    form.f_hi = plan.real_hi;
    form.bounded = true;
    constexpr bool is_depthwise = std::is_same_v<Packed, packed_depthwise>;
    form.words = is_depthwise && plan.mode == requant_mode::float_scale &&
                 (form.store == store_kind::u8 || form.store == store_kind::s8);
    if (plan.has_y) {
        check_params(where, "y", plan.y, plan.qmin, plan.qmax);
        form.zero_point = plan.y.zero_point;
        form.lo = bound_code(plan.real_lo, plan.y, plan.qmin, plan.qmax);
        form.hi = bound_code(plan.real_hi, plan.y, plan.qmin, plan.qmax);
    }
    // Sizes that fit already are kept, so that a rebuilt epilogue does not allocate.
    e.bias.resize_discard(padded);
    if (plan.mode == requant_mode::float_scale)
        e.multiplier.resize_discard(padded);
    else {
        e.fixed.resize_discard(padded);
        e.fixed_lanes.resize_discard(2 * padded);
    }
    e.real_bias.resize_discard(plan.real_bias.empty() ? 0 : padded);
    if (!plan.real_bias.empty())
        check_equal(where, "the number of real biases", static_cast<index_t>(plan.real_bias.size()), n);
    for (index_t c = 0; c < n && !plan.real_bias.empty(); ++c) {
        e.real_bias[c] = plan.real_bias[static_cast<std::size_t>(c)];
        if (!std::isfinite(e.real_bias[c]))
            fail(errc::invalid_argument, cat(where, ": real bias ", c, " is ", e.real_bias[c]));
    }
    for (index_t c = 0; c < n; ++c) {
        const std::int64_t bias = plan.bias.empty() ? 0 : plan.bias[static_cast<std::size_t>(c)];
        const std::int64_t folded = bias - std::int64_t{e.x_zero_point} * w.sums.all[c];
        const std::int64_t least = folded + std::int64_t{255} * w.sums.negative[c];
        const std::int64_t most = folded + std::int64_t{255} * w.sums.positive[c];
        constexpr std::int64_t limit = std::numeric_limits<std::int32_t>::max();
        if (least < -limit || most > limit || folded < -limit || folded > limit)
            fail(errc::overflow, cat(where, ": the accumulator of output channel ", c, " could reach [", least, ", ",
                                     most, "], beyond int32"));
        e.bias[c] = static_cast<std::int32_t>(folded);
        if (!plan.has_scale) continue;
        const float m = output_multiplier(plan, c);
        if (!(m > 0.0f) || !std::isfinite(m))
            fail(errc::invalid_argument, cat(where, ": x.scale * w_scale / y.scale of output channel ", c, " is ", m));
        if (plan.mode == requant_mode::float_scale) {
            e.multiplier[c] = m;
            const double reach = static_cast<double>(-least > most ? -least : most) * static_cast<double>(m);
            if (!(reach < 2147480000.0)) form.bounded = false;
            if (!(reach < 32000.0)) form.words = false;
        } else {
            const float ws = plan.w_scales.size() == 1 ? plan.w_scales[0] : plan.w_scales[static_cast<std::size_t>(c)];
            e.fixed[c] = to_fixed_multiplier(static_cast<double>(plan.x.scale) * static_cast<double>(ws) /
                                             static_cast<double>(plan.y.scale));
            e.fixed_lanes[c] = e.fixed[c].mantissa;
            e.fixed_lanes[padded + c] = e.fixed[c].shift;
            const int shift = e.fixed[c].shift;
            if ((-least > most ? -least : most) >= std::int64_t{1} << 30 || shift > 0) form.bounded = false;
        }
    }
    if constexpr (is_depthwise) {
        const float sign = form.zero_point % 2 != 0 ? -1.0f : 1.0f; // see kernels/arch/depthwise_ops.inl
        e.bias_interleaved.resize_discard(padded);
        e.multiplier_interleaved.resize_discard(e.multiplier.size());
        e.multiplier_words.resize_discard(form.words ? padded : 0);
        for (auto& v : e.bias_interleaved.span()) v = 0;
        for (auto& v : e.multiplier_interleaved.span()) v = 0.0f;
        for (auto& v : e.multiplier_words.span()) v = 0.0f;
        for (index_t c = 0; c < n; ++c)
            for_depthwise_places(c, n, [&](index_t dword) {
                const index_t at = c / depthwise_width * depthwise_width + dword;
                e.bias_interleaved[at] = e.bias[c];
                if (!e.multiplier.empty()) e.multiplier_interleaved[at] = e.multiplier[c];
                if (form.words) e.multiplier_words[at] = sign * e.multiplier[c];
            });
    }
}

/// e for inputs with parameters x, the rest being as in unit, which was built for a scale and a zero_point of 1 and
/// without an integer bias: every multiplier and every bias is a product, a multiplier at most the largest float.
/// Nothing is checked: the accumulators of e must be proved for zero_points 0 and 255.
inline void set_input_params(epilogue<float>& e, const epilogue<float>& unit, quant_params x) {
    const auto multiply = [](auto factor, const auto& from, auto& to) {
        const auto* in = from.data();
        auto* out = to.data();
        constexpr auto most = std::numeric_limits<decltype(factor)>::max();
        // Whole groups of 16, and as many in both: see build_epilogue. The constant trip count is vectorized.
        for (index_t i = 0; i < to.size(); i += 16)
            for (index_t j = i; j < i + 16; ++j) {
                const auto v = factor * in[j];
                out[j] = v < most ? v : most;
            }
    };
    e.x_zero_point = x.zero_point;
    multiply(x.zero_point, unit.bias, e.bias);
    multiply(x.zero_point, unit.bias_interleaved, e.bias_interleaved);
    multiply(x.scale, unit.multiplier, e.multiplier); // as output_multiplier: a product of floats is exact in double
    multiply(x.scale, unit.multiplier_interleaved, e.multiplier_interleaved);
}

} // namespace detail

/// Reduces stages to the normal form for these packed weights. Proves that no accumulator can
/// overflow for any input, from the sums of the weights and the bias, and refuses otherwise
/// (errc::overflow). Spans in the stages are only read here.
template <class Packed, class... Stages>
[[nodiscard]] auto make_epilogue(const Packed& weights, const Stages&... stages) {
    static_assert((detail::is_stage<Stages> && ...),
                  "notch::make_epilogue: an argument is not a stage; see notch::stage in kernels/stages.hpp");
    static_assert((0 + ... + (detail::is_output<Stages> ? 1 : 0)) == 1,
                  "notch::make_epilogue needs exactly one of stage::requantize, stage::requantize_fixed, "
                  "stage::dequantize, stage::dequantize_bf16, stage::dequantize_rows, stage::accumulators");
    static_assert((0 + ... + (std::is_same_v<Stages, stage::bias> ? 1 : 0)) <= 1,
                  "notch::make_epilogue takes at most one stage::bias");
    static_assert((0 + ... + (detail::is_functor<Stages> ? 1 : 0)) <= 1,
                  "notch::make_epilogue takes at most one stage::on_tile; compose functors in a lambda");
    using out = typename detail::first_type<detail::output_of, void, Stages...>::type;
    using functor = typename detail::first_type<detail::functor_of, no_functor, Stages...>::type;
    static_assert(!(std::is_same_v<out, std::int32_t> && (detail::is_clamp<Stages> || ...)),
                  "notch::make_epilogue: stage::accumulators has no real scale, so it cannot be clamped");
    if constexpr (!std::is_same_v<functor, no_functor>)
        static_assert(std::is_invocable_v<const functor&, tile<out>>,
                      "notch::make_epilogue: the functor of stage::on_tile must be callable as "
                      "f(notch::tile<output type>) and const");
    static_assert(std::is_same_v<out, float> || std::is_same_v<out, bfloat16> ||
                      !(std::is_same_v<Stages, stage::real_bias> || ...),
                  "notch::make_epilogue: stage::real_bias goes with stage::dequantize or stage::dequantize_bf16; "
                  "integer outputs take stage::bias");
    detail::epilogue_plan plan;
    (plan.take(stages), ...);
    auto make = [&]() -> epilogue<out, functor> {
        if constexpr (std::is_same_v<functor, no_functor>) {
            return {};
        } else {
            const functor* f = nullptr;
            auto find = [&](const auto& s) {
                if constexpr (detail::is_functor<std::remove_cvref_t<decltype(s)>>) f = &s.f;
            };
            (find(stages), ...);
            return epilogue<out, functor>(*f);
        }
    };
    epilogue<out, functor> e = make();
    detail::build_epilogue(e, weights, plan);
    return e;
}

NOTCH_KEYED_END
