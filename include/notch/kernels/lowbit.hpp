// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/lowbit.hpp: matrix products with weights of one and two bits.
//
//   gemm_bits   binary activations x binary or ternary weights, ternary x ternary:
//               exclusive or, and, and counting of bits; 32 products in one lane of a register
//   gemm_int2   u8 activations x 2-bit weights (-2..1; ternary ones are among them): weights are
//               unpacked in registers, products as for 8 bits
//   binarize, ternarize   real activations to bits
//
// Definitions: ref/lowbit.hpp and ref/gemm.hpp. Accumulators are exact int32 and go through the same
// epilogues as those of 8-bit products; the same results on every instruction set, for any number of
// threads. Convolutions: kernels/lowbit_conv.hpp.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <notch/core/view.hpp>
#include <notch/kernels/epilogue.hpp>
#include <notch/kernels/pack_lowbit.hpp>
#include <notch/kernels/split.hpp>
#include <notch/kernels/table.hpp>

NOTCH_NAMESPACE_BEGIN

/// Rows of words of bits. Row m, segment s, position w: x[m * ldx + segment[s] + w]; for ternary
/// activations the plane `negative` of a segment lies `words` words behind its plane `nonzero`.
struct bits_args {
    const std::uint32_t* x = nullptr;
    index_t ldx = 0, m = 0;
    const index_t* segment = nullptr;
    index_t segments = 1, words = 0;
    std::uint32_t last_mask = ~0u; ///< the bits of the last word of a segment that count
    bool x_ternary = false, w_ternary = false;
    bool popcnt = false; ///< the CPU has vpopcntd on zmm registers
    const std::uint32_t* w = nullptr;
    index_t panel_stride = 0;
    index_t n = 0, first_col = 0, cols = 0; ///< the part of N to compute; first_col is a multiple of 16
    const std::int32_t* base = nullptr;
    /// Convolutions padded with 0: the sums of the weights of each tap ([kernel_h * kernel_w][tap_stride]),
    /// or null. Taps outside rows tap_row[0]..tap_row[1]-1 and columns tap_col[0].. of the kernel read
    /// words of 0, which mean -1: their sums are added back.
    const std::int32_t* tap_sums = nullptr;
    index_t tap_stride = 0, kernel_h = 0, kernel_w = 0;
    index_t tap_row[2] = {0, 0}, tap_col[2] = {0, 0};
    epilogue_args ep;
    void* c = nullptr;
    index_t ldc = 0, row = 0;
};
/// Rows of bytes: blocks of 16 and tail (0..15) further ones in each segment.
struct int2_args {
    const std::uint8_t* x = nullptr;
    index_t ldx = 0, m = 0;
    const index_t* segment = nullptr;
    index_t segments = 1, blocks = 0, tail = 0;
    const std::uint8_t* w = nullptr;
    index_t panel_stride = 0;
    index_t n = 0, first_col = 0, cols = 0;
    epilogue_args ep;
    void* c = nullptr;
    index_t ldc = 0, row = 0;
};
struct sign_args {
    const float* x = nullptr;
    index_t ldx = 0, rows = 0, cols = 0;
    float threshold = 0;
    bool ternary = false;
    std::uint32_t* bits = nullptr;
    index_t ldb = 0;
};
struct lowbit_kernels {
    void (*gemm_bits)(const bits_args&);
    void (*gemm_int2)(const int2_args&);
    void (*sign_bits)(const sign_args&);
};

NOTCH_NAMESPACE_END

#define NOTCH_BODY <notch/kernels/body/lowbit_ops.inl>
#define NOTCH_BODY_DOT
#include <notch/kernels/arch/for_each.inl>
#define NOTCH_BODY <notch/kernels/body/lowbit.inl>
#define NOTCH_BODY_DOT
#include <notch/kernels/arch/for_each.inl>

NOTCH_KEYED_BEGIN
namespace detail {

NOTCH_KERNELS(lowbit_kernels, lowbit_tables[isa_count], NOTCH_KERNEL_TABLES_DOT(lowbit_table));

/// Splits the rows (or, for few rows, the panels) over the threads of the executor. Args: bits_args or int2_args.
/// size: bytes of one result.
template <class Args> void run_lowbit(const Args& args, void (*kernel)(const Args&), index_t size, const context& ctx) {
    if (args.m == 0 || args.n == 0) return;
    const index_t threads = ctx.executor.concurrency();
    const bool by_rows = args.m >= 2 * threads;
    const index_t step = by_rows ? (args.m + threads - 1) / threads : round_up((args.n + threads - 1) / threads, 32);
    parallel(ctx.executor, ((by_rows ? args.m : args.n) + step - 1) / step, [&](index_t t) {
        Args part = args;
        const index_t begin = t * step;
        if (by_rows) {
            part.m = part.m - begin < step ? part.m - begin : step;
            part.x += begin * part.ldx;
            part.c = static_cast<char*>(part.c) + begin * part.ldc * size;
            part.row += begin;
            part.cols = part.n;
        } else {
            part.first_col = begin;
            part.cols = part.n - begin < step ? part.n - begin : step;
        }
        kernel(part);
    });
}

/// The epilogue was made for unsigned codes without scales of their own for rows.
template <class Out, class F>
void check_lowbit_epilogue(std::string_view where, const epilogue<Out, F>& ep, index_t outputs) {
    check_equal(where, "the number of channels of the epilogue", ep.outputs, outputs);
    check_no_rows(where, ep.rows);
    if (ep.x_signed) fail(errc::invalid_argument, cat(where, ": the epilogue has stage::s8_input"));
}

/// What all products of bits with these weights have in common; checks them and the epilogue.
template <class Out, class F>
bits_args make_bits_args(std::string_view where, const packed_bits& w, const epilogue<Out, F>& ep) {
    check_lowbit_epilogue(where, ep, w.n);
    if (ep.x_zero_point != 0)
        fail(errc::invalid_argument,
             cat(where, ": the epilogue has x.zero_point ", ep.x_zero_point, ", bits have none"));
    const index_t panels = (w.n + panel_width - 1) / panel_width;
    if (w.data.size() < panels * w.panel_stride() || w.base.size() < w.n || ep.bias.size() < w.n)
        fail(errc::invalid_argument, cat(where, ": the packed weights or the epilogue were moved from"));
    bits_args g;
    g.segments = w.segments;
    g.words = w.words;
    g.last_mask = w.last_bits == 32 ? ~0u : (1u << w.last_bits) - 1u;
    g.w_ternary = w.ternary;
    g.popcnt = cpu().avx512vpopcntdq;
    g.w = w.data.data();
    g.panel_stride = w.panel_stride();
    g.n = g.cols = w.n;
    g.base = w.base.data();
    g.ep = ep.args();
    return g;
}
template <class Out, class F>
int2_args make_int2_args(std::string_view where, const packed_int2& w, const epilogue<Out, F>& ep) {
    check_lowbit_epilogue(where, ep, w.n);
    if (w.data.size() < (w.n + panel_width - 1) / panel_width * w.panel_stride() || ep.bias.size() < w.n)
        fail(errc::invalid_argument, cat(where, ": the packed weights or the epilogue were moved from"));
    int2_args g;
    g.segments = w.segments;
    g.blocks = w.segment_bytes / 16;
    g.tail = w.segment_bytes % 16;
    g.w = w.data.data();
    g.panel_stride = w.panel_stride();
    g.n = g.cols = w.n;
    g.ep = ep.args();
    return g;
}

inline void run_sign(std::string_view where, matrix_view<const float> x, float threshold, bool ternary,
                     matrix_view<std::uint32_t> bits, const context& ctx) {
    check_view(where, "x", x);
    check_view(where, "bits", bits);
    check_equal(where, "the number of rows of bits", bits.rows, x.rows);
    check_equal(where, "the number of columns of bits", bits.cols, packed_bits_size(x.cols) * (ternary ? 2 : 1));
    if (!std::isfinite(threshold) || (ternary && threshold < 0.0f))
        fail(errc::invalid_argument,
             cat(where, ": threshold is ", threshold, ternary ? ", must be finite and >= 0" : ", must be finite"));
    kernels_for(lowbit_tables, ctx.target)
        .sign_bits({x.data, x.stride, x.rows, x.cols, threshold, ternary, bits.data, bits.stride});
}

} // namespace detail

/// Real numbers to binary codes: bit 1 (+1) where x >= threshold, else 0 (-1; NaN too). x: M x K; bits:
/// M x packed_bits_size(K) words. An image is a matrix with a row for each pixel. One thread.
inline void binarize(matrix_view<const float> x, float threshold, matrix_view<std::uint32_t> bits,
                     const context& ctx = {}) {
    detail::run_sign("binarize", x, threshold, false, bits, ctx);
}
/// Real numbers to ternary codes: +1 where x > threshold, -1 where x < -threshold, else 0 (NaN too).
/// A row of bits is packed_bits_size(K) words of the plane nonzero, then as many of the plane negative.
inline void ternarize(matrix_view<const float> x, float threshold, matrix_view<std::uint32_t> bits,
                      const context& ctx = {}) {
    detail::run_sign("ternarize", x, threshold, true, bits, ctx);
}

/// What the words of activations mean.
enum class bit_codes { binary, ternary };

/// y = epilogue(x * w^T) for binary or ternary codes.
/// x: M rows of packed_bits_size(K) words, binary, or of twice as many, ternary (the planes nonzero and
/// negative one after the other), any row stride; bits beyond K are ignored, a negative bit counts only
/// with its nonzero bit. Ternary activations need ternary weights (pack_ternary takes binary codes as
/// well). w: from pack_binary or pack_ternary; the epilogue was made for it with x.zero_point 0. y: M x N.
/// M = 0, N = 0 and K = 0 are fine. x and y must not overlap. Needs no workspace.
template <class Out, class F, class Y>
void gemm_bits(matrix_view<const std::uint32_t> x, bit_codes codes, const packed_bits& w, const epilogue<Out, F>& ep,
               matrix_view<Y> y, const context& ctx = {}) {
    static_assert(std::is_same_v<Y, Out>, "notch::gemm_bits: the element type of y must be what the epilogue produces");
    constexpr const char* where = "gemm_bits";
    detail::check_view(where, "x", x);
    detail::check_view(where, "y", y);
    const bool ternary = codes == bit_codes::ternary;
    if (w.channels != 0) fail(errc::invalid_argument, "gemm_bits: w was packed for a convolution; use conv2d_bits");
    if (ternary && !w.ternary)
        fail(errc::invalid_argument, "gemm_bits: ternary activations need weights from pack_ternary");
    detail::check_equal(where, "the number of columns (words) of x", x.cols, w.words * (ternary ? 2 : 1));
    detail::check_equal(where, "the number of rows of y", y.rows, x.rows);
    detail::check_equal(where, "the number of columns of y", y.cols, w.n);
    const index_t whole = 0;
    bits_args g = detail::make_bits_args(where, w, ep);
    g.x = x.data;
    g.ldx = x.stride;
    g.m = x.rows;
    g.segment = &whole;
    g.x_ternary = ternary;
    g.c = y.data;
    g.ldc = y.stride;
    detail::run_lowbit(g, detail::kernels_for(detail::lowbit_tables, ctx.target).gemm_bits, sizeof(Out), ctx);
}

/// y = epilogue(x * w^T) for u8 codes and 2-bit weights, as gemm: x is M x K, any row stride; w from
/// pack_int2_weights; the epilogue was made for it and holds x's zero_point. Needs no workspace.
template <class Out, class F, class Y>
void gemm_int2(matrix_view<const std::uint8_t> x, const packed_int2& w, const epilogue<Out, F>& ep, matrix_view<Y> y,
               const context& ctx = {}) {
    static_assert(std::is_same_v<Y, Out>, "notch::gemm_int2: the element type of y must be what the epilogue produces");
    constexpr const char* where = "gemm_int2";
    detail::check_view(where, "x", x);
    detail::check_view(where, "y", y);
    if (w.channels != 0) fail(errc::invalid_argument, "gemm_int2: w was packed for a convolution; use conv2d_int2");
    detail::check_equal(where, "the number of columns of x", x.cols, w.k);
    detail::check_equal(where, "the number of rows of y", y.rows, x.rows);
    detail::check_equal(where, "the number of columns of y", y.cols, w.n);
    const index_t whole = 0;
    int2_args g = detail::make_int2_args(where, w, ep);
    g.x = x.data;
    g.ldx = x.stride;
    g.m = x.rows;
    g.segment = &whole;
    g.c = y.data;
    g.ldc = y.stride;
    detail::run_lowbit(g, detail::kernels_for(detail::lowbit_tables, ctx.target).gemm_int2, sizeof(Out), ctx);
}

NOTCH_KEYED_END
