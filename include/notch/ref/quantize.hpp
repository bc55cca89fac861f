// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/quantize.hpp: the definition of quantize and dequantize. Plain loops; the kernels are
// tested against these bit for bit.
//
//   quantize     code = clamp(round(x / scale) + zero_point, lo, hi)
//                the division correctly rounded in float32, round = half_even by default (ONNX
//                QuantizeLinear), or any rounding policy; NaN -> zero_point, +-Inf and overflow saturate
//   dequantize   x = float(code - zero_point) * scale
//   fake_        code as quantize, value = float(code - zero_point) * scale,
//   quantize     mask = lo <= round(x / scale) + zero_point <= hi; 1 for NaN
//   requantize   code = clamp(round(float(x - x_zero_point) * m) + y_zero_point, lo, hi),
//   _codes       m = x_scale / y_scale in double, rounded once to float
#pragma once

#include <cstdint>
#include <span>

#include <notch/core/error.hpp>
#include <notch/core/types.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/range.hpp>
#include <notch/scheme/requantize.hpp>
#include <notch/scheme/rounding.hpp>

NOTCH_KEYED_BEGIN
namespace ref {

/// The code of one value. rounding is an element of a policy: half_even{}, stochastic{seed}.at(i), ...
template <class Rounding = half_even>
[[nodiscard]] std::int32_t quantize(float x, quant_params p, code_range range, Rounding rounding = {}) noexcept {
    if (x != x) return p.zero_point < range.lo ? range.lo : p.zero_point > range.hi ? range.hi : p.zero_point;
    const float y = rounding.round(x / p.scale);
    const float lo = static_cast<float>(range.lo - p.zero_point);
    const float hi = static_cast<float>(range.hi - p.zero_point);
    const float clamped = y < lo ? lo : y > hi ? hi : y;
    return static_cast<std::int32_t>(clamped) + p.zero_point;
}

/// The real value of one code.
[[nodiscard]] inline float dequantize(std::int32_t code, quant_params p) noexcept {
    return static_cast<float>(code - p.zero_point) * p.scale;
}

/// The ratio of two grids.
[[nodiscard]] inline float codes_multiplier(quant_params x, quant_params y) noexcept {
    return static_cast<float>(static_cast<double>(x.scale) / static_cast<double>(y.scale));
}

/// The code on the grid y of a code on the grid x.
[[nodiscard]] inline std::int32_t requantize_code(std::int32_t code, quant_params x, quant_params y,
                                                  code_range range) noexcept {
    return requantize_float(code - x.zero_point, codes_multiplier(x, y), y.zero_point, range);
}

/// Codes, values and mask of x; any of the three may be empty. params has layout.count() entries, or one for all.
template <rounding_policy Rounding = half_even, class Code>
void fake_quantize(std::span<const float> x, const channel_layout& layout, std::span<const quant_params> params,
                   code_range range, std::span<Code> codes, std::span<float> values, std::span<std::uint8_t> mask,
                   const Rounding& rounding = {}) {
    constexpr const char* where = "ref::fake_quantize";
    detail::check_layout(where, layout);
    const auto n = static_cast<index_t>(x.size());
    if (params.size() != 1) detail::check_equal(where, "the size of x", n, layout.size());
    if (!codes.empty()) detail::check_equal(where, "the size of codes", static_cast<index_t>(codes.size()), n);
    if (!values.empty()) detail::check_equal(where, "the size of values", static_cast<index_t>(values.size()), n);
    if (!mask.empty()) detail::check_equal(where, "the size of mask", static_cast<index_t>(mask.size()), n);
    if (params.size() != 1)
        detail::check_equal(where, "the number of params", static_cast<index_t>(params.size()), layout.count());
    for (const quant_params& p : params) detail::check_params(where, "params", p, range.lo, range.hi);
    rounding_walk<Rounding> walk{rounding};
    for (index_t i = 0; i < n; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const quant_params p = params[static_cast<std::size_t>(params.size() == 1 ? 0 : layout.index_of(i))];
        const auto element = walk.at(i);
        const std::int32_t code = quantize(x[at], p, range, element);
        if (!codes.empty()) codes[at] = static_cast<Code>(code);
        if (!values.empty()) values[at] = dequantize(code, p);
        if (mask.empty()) continue;
        const float y = x[at] != x[at] ? 0.0f : element.round(x[at] / p.scale);
        mask[at] = y >= static_cast<float>(range.lo - p.zero_point) && y <= static_cast<float>(range.hi - p.zero_point);
    }
}

/// Quantizes x to codes; params has layout.count() entries, or one for all.
template <rounding_policy Rounding = half_even, class Code>
void quantize(std::span<const float> x, const channel_layout& layout, std::span<const quant_params> params,
              code_range range, std::span<Code> codes, const Rounding& rounding = {}) {
    detail::check_equal("ref::quantize", "the size of codes", static_cast<index_t>(codes.size()),
                        static_cast<index_t>(x.size()));
    fake_quantize<Rounding, Code>(x, layout, params, range, codes, {}, {}, rounding);
}

/// The values of codes; params as for quantize.
template <class Code>
void dequantize(std::span<const Code> codes, const channel_layout& layout, std::span<const quant_params> params,
                std::span<float> x) {
    constexpr const char* where = "ref::dequantize";
    detail::check_layout(where, layout);
    detail::check_equal(where, "the size of codes", static_cast<index_t>(codes.size()), layout.size());
    detail::check_equal(where, "the size of x", static_cast<index_t>(x.size()), layout.size());
    if (params.size() != 1)
        detail::check_equal(where, "the number of params", static_cast<index_t>(params.size()), layout.count());
    for (index_t i = 0; i < layout.size(); ++i)
        x[static_cast<std::size_t>(i)] =
            dequantize(codes[static_cast<std::size_t>(i)],
                       params[static_cast<std::size_t>(params.size() == 1 ? 0 : layout.index_of(i))]);
}

} // namespace ref
NOTCH_KEYED_END
