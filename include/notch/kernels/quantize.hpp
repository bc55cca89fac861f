// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/quantize.hpp: float to codes and back on spans, by the numeric contract (definitions
// in ref/quantize.hpp), on the best instruction set of the CPU, at the speed of memory.
//
//   quantize, dequantize      one pair of parameters, or one for each channel, group, block, ... of a layout
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
#include <notch/kernels/quantize_stochastic.hpp>
#include <notch/kernels/split.hpp>
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

NOTCH_KERNELS(quantize_kernels, quantize_tables[isa_count], NOTCH_KERNEL_TABLES(quantize_table));

template <class Code> constexpr store_kind code_kind() {
    static_assert(std::is_same_v<Code, std::uint8_t> || std::is_same_v<Code, std::int8_t>,
                  "notch: codes are std::uint8_t or std::int8_t");
    return std::is_same_v<Code, std::uint8_t> ? store_kind::u8 : store_kind::s8;
}

/// What zero points dequantize takes: any code of 8 bits, signed or not; of 16 bits likewise.
template <class Code> constexpr std::int32_t lowest_code() { return sizeof(Code) == 1 ? -128 : -32768; }
template <class Code> constexpr std::int32_t highest_code() { return sizeof(Code) == 1 ? 255 : 65535; }

/// params has one entry or layout.count() entries; all are valid for codes lo ... hi.
inline void check_channel_params(const char* where, const channel_layout& layout, index_t size,
                                 std::span<const quant_params> params, std::int32_t lo, std::int32_t hi) {
    check_layout(where, layout);
    check_equal(where, "the number of elements", size, layout.size());
    check_span(where, "params", params);
    const auto count = static_cast<index_t>(params.size());
    if (count != 1 && count != layout.count())
        fail(errc::shape_mismatch,
             cat(where, ": ", count, " params for ", layout.count(), layout.is_by_channel() ? " channels" : " groups"));
    for (const quant_params& p : params) check_params(where, "params", p, lo, hi);
}

/// Cuts a layout into parts: run(at, n, p) gets n elements from at on that share parameters p, and
/// columns(at, rows, cols, p) a dense rows x cols matrix from at on whose columns have parameters p[0 .. cols).
template <class Run, class Columns>
void for_each_part(const channel_layout& l, std::span<const quant_params> params, const Run& run,
                   const Columns& columns) {
    if (params.size() == 1) {
        run(index_t{0}, l.size(), params[0]);
    } else if (l.is_by_channel()) {
        if (l.inner == 1) return columns(index_t{0}, l.outer, l.channels, params.data());
        for (index_t r = 0; r < l.outer * l.channels; ++r)
            run(r * l.inner, l.inner, params[static_cast<std::size_t>(r % l.channels)]);
    } else if (l.inner_group == 1 && l.inner > 1) { // groups along an axis that is not the last
        const index_t step = l.channel_group == 0 ? l.channels : l.channel_group;
        const index_t groups = channel_layout::groups(l.channels, l.channel_group);
        for (index_t o = 0; o < l.outer; ++o)
            for (index_t c = 0, g = 0; c < l.channels; c += step, ++g)
                columns((o * l.channels + c) * l.inner, l.channels - c < step ? l.channels - c : step, l.inner,
                        params.data() + ((l.outer_group == 0 ? 0 : o / l.outer_group) * groups + g) * l.inner);
    } else {
        for (index_t p = 0; p < static_cast<index_t>(params.size()); ++p)
            for_each_run_of(l, p, [&](index_t at, index_t n) { run(at, n, params[static_cast<std::size_t>(p)]); });
    }
}

} // namespace detail

/// codes[i] = clamp(round_half_even(x[i] / p.scale) + p.zero_point, Range::qmin, Range::qmax).
/// NaN gives zero_point, infinities saturate. (Codes of 16 bits have no kernel of their own: a plain loop.)
template <range_type Range>
void quantize(std::span<const float> x, quant_params p, std::span<typename Range::code_type> codes,
              const context& ctx = {}) {
    detail::check_span("quantize", "x", x);
    detail::check_span("quantize", "codes", codes);
    if constexpr (Range::bits > 8) {
        ref::quantize(x, {1, 1, static_cast<index_t>(x.size())}, {&p, 1}, {Range::qmin, Range::qmax}, codes);
    } else {
        detail::check_params("quantize", "params", p, Range::qmin, Range::qmax);
        detail::check_equal("quantize", "the size of codes", static_cast<index_t>(codes.size()),
                            static_cast<index_t>(x.size()));
        quantize_args q;
        q.x = x.data();
        q.n = static_cast<index_t>(x.size());
        q.params = p;
        q.range = {Range::qmin, Range::qmax};
        q.store = detail::code_kind<typename Range::code_type>();
        q.codes = codes.data();
        detail::kernels_for(detail::quantize_tables, ctx.target).quantize(q);
    }
}

/// The same for a tensor whose elements share parameters as the layout says (scheme/granularity.hpp): params has
/// layout.count() entries, for a plain layout one for each channel, or one for all.
template <range_type Range>
void quantize(std::span<const float> x, const channel_layout& layout, std::span<const quant_params> params,
              std::span<typename Range::code_type> codes, const context& ctx = {}) {
    const auto n = static_cast<index_t>(x.size());
    detail::check_channel_params("quantize", layout, n, params, Range::qmin, Range::qmax);
    detail::check_equal("quantize", "the size of codes", static_cast<index_t>(codes.size()), n);
    detail::check_span("quantize", "x", x);
    detail::check_span("quantize", "codes", codes);
    if (n == 0) return;
    constexpr code_range range{Range::qmin, Range::qmax};
    if constexpr (Range::bits > 8) {
        ref::quantize(x, layout, params, range, codes);
    } else {
        constexpr store_kind store = detail::code_kind<typename Range::code_type>();
        const quantize_kernels& k = detail::kernels_for(detail::quantize_tables, ctx.target);
        detail::for_each_part(
            layout, params,
            [&](index_t at, index_t count, quant_params p) {
                k.quantize({x.data() + at, count, p, range, store, codes.data() + at});
            },
            [&](index_t at, index_t rows, index_t cols, const quant_params* p) {
                k.quantize_columns({x.data() + at, rows, cols, p, range, store, codes.data() + at});
            });
    }
}

/// The same by another rounding policy (scheme/rounding.hpp), element i by rounding.at(i): half_away{},
/// toward_zero{}, stochastic{seed}, ... Plain loops, but for half_even.
template <range_type Range, rounding_policy Rounding>
void quantize(std::span<const float> x, const channel_layout& layout, std::span<const quant_params> params,
              std::span<typename Range::code_type> codes, const Rounding& rounding) {
    constexpr code_range range{Range::qmin, Range::qmax};
    if constexpr (std::is_same_v<Rounding, half_even>) {
        quantize<Range>(x, layout, params, codes);
    } else if constexpr (std::is_same_v<Rounding, stochastic> && Range::bits <= 8) {
        constexpr const char* where = "quantize";
        detail::check_channel_params(where, layout, static_cast<index_t>(x.size()), params, range.lo, range.hi);
        detail::check_equal(where, "the size of codes", static_cast<index_t>(codes.size()),
                            static_cast<index_t>(x.size()));
        detail::check_span(where, "x", x);
        detail::check_span(where, "codes", codes);
        const index_t runs = params.size() == 1 ? 1 : layout.is_by_channel() ? layout.outer * layout.channels : 0;
        const index_t length = runs > 0 ? layout.size() / runs : 0;
        if (length < detail::draws_at_once / 2) { // most random numbers would serve no element
            ref::quantize(x, layout, params, range, codes, rounding);
            return;
        }
        for (index_t r = 0; r < runs; ++r)
            detail::quantize_stochastic(x.data(), r * length, length,
                                        params[static_cast<std::size_t>(runs == 1 ? 0 : r % layout.channels)], range,
                                        codes.data(), rounding);
    } else {
        ref::quantize(x, layout, params, range, codes, rounding);
    }
}
template <range_type Range, rounding_policy Rounding>
void quantize(std::span<const float> x, quant_params p, std::span<typename Range::code_type> codes,
              const Rounding& rounding) {
    quantize<Range>(x, {1, 1, static_cast<index_t>(x.size())}, {&p, 1}, codes, rounding);
}

/// The range of the finite values of x, for quantizing at run time; empty if there are none.
[[nodiscard]] inline real_range value_range(std::span<const float> x, const context& ctx = {}) {
    detail::check_span("value_range", "x", x);
    real_range r;
    if (!x.empty())
        detail::kernels_for(detail::quantize_tables, ctx.target)
            .range({x.data(), static_cast<index_t>(x.size()), &r.min, &r.max});
    return r;
}

/// x[i] = float(codes[i] - p.zero_point) * p.scale.
template <class Code>
void dequantize(std::span<const Code> codes, quant_params p, std::span<float> x, const context& ctx = {}) {
    detail::check_params("dequantize", "params", p, detail::lowest_code<Code>(), detail::highest_code<Code>());
    detail::check_equal("dequantize", "the size of x", static_cast<index_t>(x.size()),
                        static_cast<index_t>(codes.size()));
    detail::check_span("dequantize", "codes", codes);
    detail::check_span("dequantize", "x", x);
    if constexpr (sizeof(Code) > 1)
        ref::dequantize(codes, {1, 1, static_cast<index_t>(codes.size())}, {&p, 1}, x);
    else
        detail::kernels_for(detail::quantize_tables, ctx.target)
            .dequantize({codes.data(), detail::code_kind<Code>(), static_cast<index_t>(codes.size()), p, x.data()});
}

/// The same with parameters by layout, as for quantize.
template <class Code>
void dequantize(std::span<const Code> codes, const channel_layout& layout, std::span<const quant_params> params,
                std::span<float> x, const context& ctx = {}) {
    const auto n = static_cast<index_t>(codes.size());
    detail::check_channel_params("dequantize", layout, n, params, detail::lowest_code<Code>(),
                                 detail::highest_code<Code>());
    detail::check_equal("dequantize", "the size of x", static_cast<index_t>(x.size()), n);
    detail::check_span("dequantize", "codes", codes);
    detail::check_span("dequantize", "x", x);
    if (n == 0) return;
    if constexpr (sizeof(Code) > 1) {
        ref::dequantize(codes, layout, params, x);
    } else {
        const quantize_kernels& k = detail::kernels_for(detail::quantize_tables, ctx.target);
        detail::for_each_part(
            layout, params,
            [&](index_t at, index_t count, quant_params p) {
                k.dequantize({codes.data() + at, detail::code_kind<Code>(), count, p, x.data() + at});
            },
            [&](index_t at, index_t rows, index_t cols, const quant_params* p) {
                k.dequantize_columns({codes.data() + at, detail::code_kind<Code>(), rows, cols, p, x.data() + at});
            });
    }
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
    detail::check_equal("requantize_codes", "the size of y", static_cast<index_t>(y.size()),
                        static_cast<index_t>(x.size()));
    detail::check_span("requantize_codes", "x", x);
    detail::check_span("requantize_codes", "y", y);
    const float m = ref::codes_multiplier(x_params, y_params);
    if (!(m <= FLT_MAX))
        fail(errc::invalid_argument, "requantize_codes: x_params.scale / y_params.scale is too large for a float");
    detail::kernels_for(detail::quantize_tables, ctx.target)
        .requantize_codes({x.data(),
                           detail::code_kind<Code>(),
                           static_cast<index_t>(x.size()),
                           x_params.zero_point,
                           m,
                           y_params.zero_point,
                           {Range::qmin, Range::qmax},
                           detail::code_kind<typename Range::code_type>(),
                           y.data()});
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
    detail::check_span("quantize_rows_dynamic", "params", params);
    const quantize_kernels& k = detail::kernels_for(detail::quantize_tables, ctx.target);
    detail::split(ctx.executor, x.rows, 1, [&](index_t begin, index_t end) {
        for (index_t i = begin; i < end; ++i) {
            const float* row = x.data + i * x.stride;
            real_range r;
            if (x.cols > 0) k.range({row, x.cols, &r.min, &r.max});
            const quant_params p = params_from_range<Range>(r);
            params[static_cast<std::size_t>(i)] = p;
            k.quantize({row,
                        x.cols,
                        p,
                        {Range::qmin, Range::qmax},
                        detail::code_kind<typename Range::code_type>(),
                        codes.data + i * codes.stride});
        }
    });
}

/// Accumulators that a kernel stored with stage::accumulators (bias and zero points included) ->
/// what the epilogue's output stage makes of them. Gives exactly what the fused kernel gives.
/// mask, if not empty, is dense rows x cols: 1 where the gradient of the straight-through estimator
/// passes (the unclamped code, or the value before it is rounded to bfloat16, lies in the range; for a ReLU,
/// acc > 0, of real outputs the value > 0), else 0. Accumulators (int32) are not clamped: all 1.
/// An epilogue of stage::dequantize_rows is an error: what the rows' scales were is not known here.
/// A functor sees the whole of y at once, after it is done.
template <class Out, class F>
void requantize(matrix_view<const std::int32_t> acc, const epilogue<Out, F>& ep, matrix_view<Out> y,
                std::span<std::uint8_t> mask = {}, const context& ctx = {}) {
    detail::check_view("requantize", "acc", acc);
    detail::check_view("requantize", "y", y);
    detail::check_epilogue("requantize", ep);
    detail::check_no_rows("requantize", ep.rows);
    detail::check_equal("requantize", "the number of columns of acc", acc.cols, ep.outputs);
    detail::check_equal("requantize", "the number of columns of y", y.cols, acc.cols);
    detail::check_equal("requantize", "the number of rows of y", y.rows, acc.rows);
    detail::check_span("requantize", "mask", mask);
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
