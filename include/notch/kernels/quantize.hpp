// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/quantize.hpp: float to codes and back on spans, by the numeric contract (definitions
// in ref/quantize.hpp), on the best instruction set of the CPU, at the speed of memory.
//
//   quantize, dequantize      one pair of parameters, or one for each channel
//   quantize_rows_dynamic     each row of a matrix by its own range
//   requantize_codes          codes of one grid to codes of another
//   requantize                accumulators to what an epilogue makes of them
//   value_range               the finite minimum and maximum
//
// All functions are thread-safe. They run on the calling thread, except quantize_rows_dynamic, which
// uses the context's executor. They allocate nothing.
#pragma once

#include <cfloat>
#include <cstdint>
#include <span>
#include <type_traits>

#include <notch/core/view.hpp>
#include <notch/kernels/elementwise.hpp>
#include <notch/kernels/epilogue.hpp>
#include <notch/kernels/table.hpp>
#include <notch/ref/quantize.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/range.hpp>
#include <notch/scheme/reciprocal.hpp>
#include <notch/simd/cache.hpp>

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

/// params has one entry or layout.channels entries; all are valid for codes lo ... hi.
inline void check_channel_params(const char* where, const channel_layout& layout, index_t size,
                                 std::span<const quant_params> params, std::int32_t lo, std::int32_t hi) {
    check_layout(where, layout);
    check_equal(where, "the number of elements", size, layout.size());
    const auto count = static_cast<index_t>(params.size());
    if (count != 1 && count != layout.channels)
        fail(errc::shape_mismatch, cat(where, ": ", count, " params for ", layout.channels, " channels"));
    for (const quant_params& p : params) check_params(where, "params", p, lo, hi);
}

/// Calls run(at, n, p) for each run of n elements from at on that share parameters p.
template <class Run> void for_each_channel_run(const channel_layout& layout, std::span<const quant_params> params, const Run& run) {
    const bool one = params.size() == 1;
    const index_t n = one ? layout.size() : layout.inner, runs = one ? 1 : layout.outer * layout.channels;
    for (index_t r = 0; r < runs; ++r) run(r * n, n, params[static_cast<std::size_t>(one ? 0 : r % layout.channels)]);
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

/// The same with one pair of parameters for each channel of a tensor seen as [outer][channels][inner], or
/// one for all: params has layout.channels entries or one. With inner = 1 the channels are the columns of
/// a matrix outer x channels.
template <range_type Range>
void quantize(std::span<const float> x, const channel_layout& layout, std::span<const quant_params> params,
              std::span<typename Range::code_type> codes, const context& ctx = {}) {
    const auto n = static_cast<index_t>(x.size());
    detail::check_channel_params("quantize", layout, n, params, Range::qmin, Range::qmax);
    detail::check_equal("quantize", "the size of codes", static_cast<index_t>(codes.size()), n);
    const quantize_kernels& k = detail::kernels_for(detail::quantize_tables, ctx.target);
    if (n == 0) return;
    if (params.size() != 1 && layout.inner == 1) {
        k.quantize_columns({x.data(), layout.outer, layout.channels, params.data(), {Range::qmin, Range::qmax},
                            detail::code_kind<typename Range::code_type>(), codes.data()});
        return;
    }
    detail::for_each_channel_run(layout, params, [&](index_t at, index_t count, quant_params p) {
        k.quantize({x.data() + at, count, p, {Range::qmin, Range::qmax}, detail::code_kind<typename Range::code_type>(),
                    codes.data() + at});
    });
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

/// The same with one pair of parameters for each channel, as for quantize.
template <class Code>
void dequantize(std::span<const Code> codes, const channel_layout& layout, std::span<const quant_params> params,
                std::span<float> x, const context& ctx = {}) {
    const auto n = static_cast<index_t>(codes.size());
    detail::check_channel_params("dequantize", layout, n, params, -128, 255);
    detail::check_equal("dequantize", "the size of x", static_cast<index_t>(x.size()), n);
    const quantize_kernels& k = detail::kernels_for(detail::quantize_tables, ctx.target);
    if (n == 0) return;
    if (params.size() != 1 && layout.inner == 1) {
        k.dequantize_columns({codes.data(), detail::code_kind<Code>(), layout.outer, layout.channels, params.data(), x.data()});
        return;
    }
    detail::for_each_channel_run(layout, params, [&](index_t at, index_t count, quant_params p) {
        k.dequantize({codes.data() + at, detail::code_kind<Code>(), count, p, x.data() + at});
    });
}

/// Codes of the grid x_params to codes of the grid y_params, as a concatenation needs them:
///     y[i] = clamp(round(float(x[i] - x_params.zero_point) * m) + y_params.zero_point, Range::qmin, Range::qmax)
/// with m = x_params.scale / y_params.scale in double, rounded once to float; it must be finite. With equal
/// parameters, codes within the range of Range stay what they are. y may be x if both are of one type.
template <range_type Range, class Code>
void requantize_codes(std::span<const Code> x, quant_params x_params, std::span<typename Range::code_type> y,
                      quant_params y_params, const context& ctx = {}) {
    detail::check_params("requantize_codes", "x_params", x_params, -128, 255);
    detail::check_params("requantize_codes", "y_params", y_params, Range::qmin, Range::qmax);
    detail::check_equal("requantize_codes", "the size of y", static_cast<index_t>(y.size()), static_cast<index_t>(x.size()));
    const float m = ref::codes_multiplier(x_params, y_params);
    if (!(m <= FLT_MAX)) fail(errc::invalid_argument, "requantize_codes: x_params.scale / y_params.scale is too large for a float");
    detail::kernels_for(detail::quantize_tables, ctx.target)
        .requantize_codes({x.data(), detail::code_kind<Code>(), static_cast<index_t>(x.size()), x_params.zero_point, m,
                           y_params.zero_point, {Range::qmin, Range::qmax}, detail::code_kind<typename Range::code_type>(), y.data()});
}

/// Each row of x by its own range, at run time (for a transformer: each token). For row i,
///     params[i] = params_from_range<Range>(value_range(row i)),   codes(i, .) = quantize(row i, params[i])
/// A row is quantized right after its range was found, while it is in the nearest caches. The rows are split
/// over the context's executor.
template <range_type Range>
void quantize_rows_dynamic(matrix_view<const float> x, matrix_view<typename Range::code_type> codes,
                           std::span<quant_params> params, const context& ctx = {}) {
    detail::check_view("quantize_rows_dynamic", "x", x);
    detail::check_view("quantize_rows_dynamic", "codes", codes);
    detail::check_equal("quantize_rows_dynamic", "the number of rows of codes", codes.rows, x.rows);
    detail::check_equal("quantize_rows_dynamic", "the number of columns of codes", codes.cols, x.cols);
    detail::check_equal("quantize_rows_dynamic", "the number of params", static_cast<index_t>(params.size()), x.rows);
    struct job {
        const matrix_view<const float>& x;
        const matrix_view<typename Range::code_type>& codes;
        quant_params* params;
        const quantize_kernels& k;
        index_t tasks;
    } j{x, codes, params.data(), detail::kernels_for(detail::quantize_tables, ctx.target), ctx.executor.concurrency()};
    ctx.executor.run(j.tasks, {[](void* p, index_t t) {
        const job& d = *static_cast<const job*>(p);
        for (index_t i = d.x.rows * t / d.tasks; i < d.x.rows * (t + 1) / d.tasks; ++i) {
            const float* row = d.x.data + i * d.x.stride;
            real_range r;
            if (d.x.cols > 0) d.k.range({row, d.x.cols, &r.min, &r.max});
            d.params[i] = params_from_range<Range>(r);
            d.k.quantize({row, d.x.cols, d.params[i], {Range::qmin, Range::qmax},
                          detail::code_kind<typename Range::code_type>(), d.codes.data + i * d.codes.stride});
        }
    }, &j});
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
    detail::check_epilogue("requantize", ep);
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
