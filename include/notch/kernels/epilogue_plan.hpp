// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/epilogue_plan.hpp: what a list of stages asks for, collected; kernels/epilogue.hpp makes
// the normal form of it.
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include <notch/kernels/args.hpp>
#include <notch/kernels/stages.hpp>
#include <notch/scheme/range.hpp>
#include <notch/scheme/requantize.hpp>

NOTCH_NAMESPACE_BEGIN

struct no_functor {};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

// The kind of output that a list of stages asks for.
template <class S> struct output_of { using type = void; };
template <> struct output_of<stage::accumulators> { using type = std::int32_t; };
template <> struct output_of<stage::dequantize> { using type = float; };
template <> struct output_of<stage::dequantize_bf16> { using type = bfloat16; };
template <> struct output_of<stage::dequantize_rows> { using type = float; };
template <class R> struct output_of<stage::requantize<R>> { using type = typename R::code_type; };
template <class R> struct output_of<stage::requantize_fixed<R>> { using type = typename R::code_type; };

template <class S> struct functor_of { using type = no_functor; };
template <class F> struct functor_of<stage::on_tile<F>> { using type = F; };

template <class S> inline constexpr bool is_output = !std::is_void_v<typename output_of<S>::type>;
template <class S> inline constexpr bool is_functor = !std::is_same_v<typename functor_of<S>::type, no_functor>;
template <class S>
inline constexpr bool is_clamp =
    std::same_as<S, stage::relu> || std::same_as<S, stage::relu6> || std::same_as<S, stage::clamp>;
template <class S>
inline constexpr bool is_stage = is_output<S> || is_functor<S> || is_clamp<S> || std::same_as<S, stage::bias> ||
                                 std::same_as<S, stage::real_bias> || std::same_as<S, stage::s8_input>;

template <template <class> class Pick, class None, class... S> struct first_type { using type = None; };
template <template <class> class Pick, class None, class S, class... Rest> struct first_type<Pick, None, S, Rest...> {
    using rest = typename first_type<Pick, None, Rest...>::type;
    using mine = typename Pick<S>::type;
    using type = std::conditional_t<std::is_same_v<mine, None>, rest, mine>;
};

template <class Out> constexpr store_kind store_kind_of() {
    if constexpr (std::is_same_v<Out, std::uint8_t>)
        return store_kind::u8;
    else if constexpr (std::is_same_v<Out, std::int8_t>)
        return store_kind::s8;
    else if constexpr (std::is_same_v<Out, std::int16_t>)
        return store_kind::s16;
    else if constexpr (std::is_same_v<Out, std::int32_t>)
        return store_kind::s32;
    else if constexpr (std::is_same_v<Out, bfloat16>)
        return store_kind::bf16;
    else
        return store_kind::f32;
}

/// What the stages say, collected.
struct epilogue_plan {
    quant_params x{1.0f, 0}, y{1.0f, 0};
    std::span<const float> w_scales;
    std::span<const std::int32_t> bias;
    std::span<const float> real_bias;
    bool x_signed = false, rows = false;
    requant_mode mode = requant_mode::float_scale;
    bool has_scale = false, has_y = false;
    std::int32_t qmin = 0, qmax = 0;
    float real_lo = -std::numeric_limits<float>::infinity();
    float real_hi = std::numeric_limits<float>::infinity();
    bool relu = false;

    void take(const stage::bias& s) { bias = s.values; }
    void take(const stage::real_bias& s) { real_bias = s.values; }
    void take(const stage::s8_input&) { x_signed = true; }
    void take(const stage::accumulators& s) { x.zero_point = s.x_zero_point; }
    void take(const stage::dequantize& s) {
        x = s.x;
        w_scales = s.w_scales;
        has_scale = true;
    }
    void take(const stage::dequantize_rows& s) {
        take(stage::dequantize{{1.0f, 0}, s.w_scales});
        rows = true;
    }
    void take(const stage::dequantize_bf16& s) { take(stage::dequantize{s.x, s.w_scales}); }
    template <class R> void take(const stage::requantize<R>& s) {
        x = s.x;
        y = s.y;
        w_scales = s.w_scales;
        has_scale = has_y = true;
        qmin = R::qmin;
        qmax = R::qmax;
    }
    template <class R> void take(const stage::requantize_fixed<R>& s) {
        take(stage::requantize<R>{s.x, s.w_scales, s.y});
        if (s.mode == requant_mode::float_scale)
            fail(errc::invalid_argument, "make_epilogue: requantize_fixed with mode float_scale; use requantize");
        if (s.mode != requant_mode::fixed_point_double_rounding && s.mode != requant_mode::fixed_point_single_rounding)
            fail(errc::invalid_argument, cat("make_epilogue: requantize_fixed with mode ",
                                             static_cast<std::int32_t>(s.mode), ", not one of the enumeration"));
        mode = s.mode;
    }
    void take(const stage::relu&) { bound(0.0f, real_hi); }
    void take(const stage::relu6&) { bound(0.0f, 6.0f); }
    void take(const stage::clamp& s) {
        if (!(s.lo <= s.hi)) fail(errc::invalid_argument, cat("make_epilogue: clamp from ", s.lo, " to ", s.hi));
        bound(s.lo, s.hi);
    }
    template <class F> void take(const stage::on_tile<F>&) {}

    void bound(float lo, float hi) {
        real_lo = lo > real_lo ? lo : real_lo;
        real_hi = hi < real_hi ? hi : real_hi;
        if (real_lo > real_hi)
            fail(errc::invalid_argument,
                 cat("make_epilogue: the clamps leave nothing between ", real_lo, " and ", real_hi));
        relu = real_lo == 0.0f;
    }
};

/// The code of a bound in real units, kept inside the range.
inline std::int32_t bound_code(float bound, quant_params y, std::int32_t qmin, std::int32_t qmax) {
    const double code = std::nearbyint(static_cast<double>(bound) / static_cast<double>(y.scale)) + y.zero_point;
    return static_cast<std::int32_t>(code < qmin ? qmin : code > qmax ? qmax : code);
}

/// The multiplier of float_scale and of dequantize: computed in double, rounded once to float.
inline float output_multiplier(const epilogue_plan& plan, index_t c) {
    const float w = plan.w_scales.size() == 1 ? plan.w_scales[0] : plan.w_scales[static_cast<std::size_t>(c)];
    const double product = static_cast<double>(plan.x.scale) * static_cast<double>(w);
    return static_cast<float>(plan.has_y ? product / static_cast<double>(plan.y.scale) : product);
}

} // namespace detail
NOTCH_KEYED_END
