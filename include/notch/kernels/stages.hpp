// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/stages.hpp: the stages of an epilogue, plain aggregates that a caller lists for
// make_epilogue (kernels/epilogue.hpp). In all of them acc = bias[c] + sum (x - x.zero_point) * w,
// exact; spans are read when the epilogue is made and not kept.
//
//   stage                              formula                                             output
//   accumulators{x_zero_point}         acc                                                 int32
//   dequantize{x, w_scales}            float(acc) * (x.scale * w_scale[c])                 float
//   dequantize_bf16{x, w_scales}       the same, rounded to bfloat16                    bfloat16
//   dequantize_rows{w_scales}          float(acc) * (s[m] * w_scale[c]), for gemm_dynamic: rows of x   float
//                                      have a scale s[m] and a zero point each, found at run time
//   requantize<Range>{x, w_scales, y}  clamp(round_half_even(float(acc) * m[c]) + y.zero_point)
//                                      m[c] = x.scale * w_scale[c] / y.scale    uint8, int8, int16
//   requantize_fixed<Range>{...}       the same with a fixed_point multiplier (TFLite, gemmlowp)
//   bias{b}                            acc + b[c], int32 on the grid x.scale * w_scale[c]
//   real_bias{b}                       the float of dequantize + b[c], rounded twice (no FMA)
//   s8_input{}                         x holds int8 codes, x.zero_point is -128..127; else uint8
//   relu{}, relu6{}, clamp{lo, hi}     bounds in real units, applied to the codes
//   on_tile{f}                         f(tile) for each finished rectangle, still hot in L1
//
// Exactly one of the first six is needed; w_scales has one entry or one for each output channel.
#pragma once

#include <cstdint>
#include <span>

#include <notch/core/config.hpp>
#include <notch/core/types.hpp>
#include <notch/scheme/half.hpp>
#include <notch/scheme/range.hpp>
#include <notch/scheme/requantize.hpp>

NOTCH_NAMESPACE_BEGIN

/// A finished rectangle of the output, as a user's functor sees it; it may change the values.
/// Element (i, j) is data[i * stride + j], at row + i, col + j of the output matrix (for images the
/// rows are the pixels in n, h, w order).
template <class T> struct tile {
    T* data;
    index_t row, col, rows, cols, stride;
    NOTCH_INLINE T& operator()(index_t i, index_t j) const noexcept { return data[i * stride + j]; }
};

namespace stage {

struct bias {
    std::span<const std::int32_t> values;
};
struct real_bias {
    std::span<const float> values;
};
struct s8_input {};
struct accumulators {
    std::int32_t x_zero_point = 0;
};
struct dequantize {
    quant_params x;
    std::span<const float> w_scales;
};
struct dequantize_bf16 {
    quant_params x;
    std::span<const float> w_scales;
};
struct dequantize_rows {
    std::span<const float> w_scales;
};
template <range_type Range = affine<8>> struct requantize {
    quant_params x;
    std::span<const float> w_scales;
    quant_params y;
};
template <range_type Range = affine<8>> struct requantize_fixed {
    quant_params x;
    std::span<const float> w_scales;
    quant_params y;
    requant_mode mode = requant_mode::fixed_point_double_rounding;
};
// Deduction guides: clang before 17 does not deduce for aggregates.
requantize(quant_params, std::span<const float>, quant_params)->requantize<affine<8>>;
requantize_fixed(quant_params, std::span<const float>, quant_params)->requantize_fixed<affine<8>>;
requantize_fixed(quant_params, std::span<const float>, quant_params, requant_mode)->requantize_fixed<affine<8>>;
struct relu {};
struct relu6 {};
struct clamp {
    float lo, hi;
};
/// f is called as f(notch::tile<Out>) from any thread of the executor; it must be const-callable and must not
/// throw: a task of an executor cannot hand an exception on, so that one ends the program (std::terminate), for a
/// serial call too.
template <class F> struct on_tile { F f; };
template <class F> on_tile(F) -> on_tile<F>;

} // namespace stage

NOTCH_NAMESPACE_END
