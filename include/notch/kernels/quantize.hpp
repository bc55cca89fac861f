// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/quantize.hpp: float to codes and back on spans, by the numeric contract (definition
// in ref/quantize.hpp), on the best instruction set of the CPU.
#pragma once

#include <cstdint>
#include <span>
#include <type_traits>

#include <notch/core/view.hpp>
#include <notch/kernels/epilogue.hpp>
#include <notch/kernels/table.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/range.hpp>

#define NOTCH_BODY <notch/kernels/body/quantize.inl>
#include <notch/kernels/arch/for_each.inl>

NOTCH_KEYED_BEGIN
namespace detail {

inline constexpr const quantize_kernels* quantize_tables[isa_count] = NOTCH_KERNEL_TABLES(quantize_table);

template <class Code> constexpr store_kind code_kind() {
    static_assert(std::is_same_v<Code, std::uint8_t> || std::is_same_v<Code, std::int8_t>,
                  "notch: codes are std::uint8_t or std::int8_t");
    return std::is_same_v<Code, std::uint8_t> ? store_kind::u8 : store_kind::s8;
}

} // namespace detail

/// codes[i] = clamp(round_half_even(x[i] / p.scale) + p.zero_point, Range::qmin, Range::qmax).
/// NaN gives zero_point, infinities saturate.
template <range_type Range>
void quantize(std::span<const float> x, quant_params p, std::span<typename Range::code_type> codes,
              const context& ctx = {}) {
    detail::check_params("quantize", "params", p, Range::qmin, Range::qmax);
    detail::check_equal("quantize", "the size of codes", static_cast<index_t>(codes.size()), static_cast<index_t>(x.size()));
    quantize_args q;
    q.x = x.data();
    q.n = static_cast<index_t>(x.size());
    q.params = p;
    q.range = {Range::qmin, Range::qmax};
    q.store = detail::code_kind<typename Range::code_type>();
    q.codes = codes.data();
    detail::kernels_for(detail::quantize_tables, ctx.target).quantize(q);
}

/// The range of the finite values of x, for quantizing at run time; empty if there are none.
[[nodiscard]] inline real_range value_range(std::span<const float> x, const context& ctx = {}) {
    real_range r;
    if (!x.empty()) detail::kernels_for(detail::quantize_tables, ctx.target).range({x.data(), static_cast<index_t>(x.size()), &r.min, &r.max});
    return r;
}

/// x[i] = float(codes[i] - p.zero_point) * p.scale.
template <class Code>
void dequantize(std::span<const Code> codes, quant_params p, std::span<float> x, const context& ctx = {}) {
    detail::check_params("dequantize", "params", p, -128, 255);
    detail::check_equal("dequantize", "the size of x", static_cast<index_t>(x.size()), static_cast<index_t>(codes.size()));
    detail::kernels_for(detail::quantize_tables, ctx.target).dequantize({codes.data(), detail::code_kind<Code>(), static_cast<index_t>(codes.size()), p, x.data()});
}

/// Accumulators that a kernel stored with stage::accumulators (bias and zero points included) ->
/// what the epilogue's output stage makes of them. Gives exactly what the fused kernel gives.
/// mask, if not empty, is dense rows x cols: 1 where the gradient of the straight-through estimator
/// passes (the unclamped code or value lies in the range; for a ReLU, acc > 0), else 0.
/// A functor sees the whole of y at once, after it is done.
template <class Out, class F>
void requantize(matrix_view<const std::int32_t> acc, const epilogue<Out, F>& ep, matrix_view<Out> y,
                std::span<std::uint8_t> mask = {}, const context& ctx = {}) {
    detail::check_view("requantize", "acc", acc);
    detail::check_view("requantize", "y", y);
    detail::check_equal("requantize", "the number of columns of acc", acc.cols, ep.outputs);
    detail::check_equal("requantize", "the number of columns of y", y.cols, acc.cols);
    detail::check_equal("requantize", "the number of rows of y", y.rows, acc.rows);
    if (!mask.empty())
        detail::check_equal("requantize", "the size of mask", static_cast<index_t>(mask.size()), acc.rows * acc.cols);
    requantize_args r;
    r.acc = acc.data;
    r.rows = acc.rows;
    r.cols = acc.cols;
    r.lda = acc.stride;
    r.ep = ep.args();
    r.out = y.data;
    r.ldc = y.stride;
    r.mask = mask.empty() ? nullptr : mask.data();
    detail::kernels_for(detail::quantize_tables, ctx.target).requantize(r);
    if (r.ep.on_tile && acc.rows > 0 && acc.cols > 0)
        r.ep.on_tile(r.ep.context, {y.data, 0, 0, y.rows, y.cols, y.stride});
}

NOTCH_KEYED_END
