// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/quantize.hpp: the definition of quantize and dequantize. Plain loops; the kernels are
// tested against these bit for bit.
//
//   quantize     code = clamp(round(x / scale) + zero_point, lo, hi)
//                the division correctly rounded in float32, round = half_even by default (ONNX
//                QuantizeLinear); NaN -> zero_point, +-Inf and overflow saturate
//   dequantize   x = float(code - zero_point) * scale
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

/// The code of one value.
template <class Rounding = half_even>
[[nodiscard]] std::int32_t quantize(float x, quant_params p, code_range range) noexcept {
    if (x != x) return p.zero_point < range.lo   ? range.lo
                       : p.zero_point > range.hi ? range.hi
                                                 : p.zero_point;
    const float y = Rounding::round(x / p.scale);
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
[[nodiscard]] inline std::int32_t requantize_code(std::int32_t code, quant_params x, quant_params y, code_range range) noexcept {
    return requantize_float(code - x.zero_point, codes_multiplier(x, y), y.zero_point, range);
}

/// Quantizes x to codes; per channel when params has layout.channels entries, per tensor when one.
template <class Rounding = half_even, class Code>
void quantize(std::span<const float> x, const channel_layout& layout,
              std::span<const quant_params> params, code_range range, std::span<Code> codes) {
    detail::check_layout("ref::quantize", layout);
    const auto n = static_cast<index_t>(x.size());
    detail::check_equal("ref::quantize", "the size of codes", static_cast<index_t>(codes.size()), n);
    if (params.size() != 1) {
        detail::check_equal("ref::quantize", "the size of x", n, layout.size());
        detail::check_equal("ref::quantize", "the number of params", static_cast<index_t>(params.size()), layout.channels);
    }
    for (const quant_params& p : params) detail::check_scale("ref::quantize", "scale", p.scale);
    for (index_t i = 0; i < static_cast<index_t>(x.size()); ++i) {
        const index_t c = params.size() == 1 ? 0 : i / layout.inner % layout.channels;
        codes[static_cast<std::size_t>(i)] = static_cast<Code>(
            quantize<Rounding>(x[static_cast<std::size_t>(i)], params[static_cast<std::size_t>(c)], range));
    }
}

} // namespace ref
NOTCH_KEYED_END
