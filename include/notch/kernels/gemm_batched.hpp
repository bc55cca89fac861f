// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/gemm_batched.hpp: batches of products whose two sides are both activations, as in
// attention. The right side is packed on the fly into the caller's workspace.
//
//   rhs::transposed   y[b][m][n] = epilogue( sum_k (x[b][m][k] - x_zp) * (z[b][n][k] - z_zp) )    Q K^T
//   rhs::plain        y[b][m][n] = epilogue( sum_k (x[b][m][k] - x_zp) * (z[b][k][n] - z_zp) )    P V
//
// Exact int32 sums; the same codes on every instruction set and for any number of threads.
#pragma once

#include <cstdint>
#include <type_traits>

#include <notch/core/workspace.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/kernels/split.hpp>

NOTCH_NAMESPACE_BEGIN

/// A batch of row-major matrices: element (b, i, j) is data[b * batch_stride + i * stride + j]. A stride
/// of 0 between the matrices repeats one of them.
template <class T> struct batch_view {
    T* data = nullptr;
    index_t batches = 0, rows = 0, cols = 0;
    index_t stride = 0, batch_stride = 0;

    NOTCH_INLINE constexpr batch_view() noexcept {}
    NOTCH_INLINE constexpr batch_view(T* d, index_t b, index_t r, index_t c) noexcept
        : data(d), batches(b), rows(r), cols(c), stride(c),
          batch_stride(static_cast<index_t>(static_cast<std::uint64_t>(r) * static_cast<std::uint64_t>(c))) {}
    NOTCH_INLINE constexpr batch_view(T* d, index_t b, index_t r, index_t c, index_t s, index_t bs) noexcept
        : data(d), batches(b), rows(r), cols(c), stride(s), batch_stride(bs) {}

    NOTCH_INLINE constexpr matrix_view<T> operator[](index_t b) const noexcept {
        return {data + b * batch_stride, rows, cols, stride};
    }
};

/// How the right side of a product lies in memory: N x K, or K x N.
enum class rhs { transposed, plain };

/// What make_epilogue needs to know of a right side that is not there yet: N columns of K codes with
/// zero point 0..255 (u8) or -128..127 (s8). The overflow proof takes the worst case: K <= 33,025.
struct activation_operand {
    index_t n = 0, k = 0;
    std::int32_t zero_point = 0;
    bool is_signed = false;
    weight_sums sums;

    NOTCH_INLINE_SPECIAL_MEMBERS(activation_operand);
    [[nodiscard]] NOTCH_INLINE index_t outputs() const noexcept { return n; }
};

struct pack_args {
    const std::uint8_t* b = nullptr;
    index_t ldb = 0, n = 0, k = 0;
    bool rows_are_columns = true, flip = false; ///< flip: u8 codes, stored 128 less
    std::int8_t* panels = nullptr;              ///< [n/16][k/4][16][4]
    std::int32_t* sums = nullptr;               ///< of the stored columns, whole panels
};
struct pack_kernels {
    void (*pack_operand)(const pack_args&) = nullptr;
};

NOTCH_NAMESPACE_END

#define NOTCH_BODY <notch/kernels/body/pack.inl>
#define NOTCH_BODY_DOT
#include <notch/kernels/arch/for_each.inl>

NOTCH_KEYED_BEGIN

/// The right side of a batched product, for make_epilogue. Code is std::uint8_t or std::int8_t.
template <class Code> [[nodiscard]] activation_operand make_operand(index_t n, index_t k, std::int32_t zero_point) {
    static_assert(std::is_same_v<Code, std::uint8_t> || std::is_same_v<Code, std::int8_t>,
                  "notch::make_operand<Code>: codes are std::uint8_t or std::int8_t");
    detail::check_extent("make_operand", "n", n);
    detail::check_extent("make_operand", "k", k);
    if (n > detail::max_extent) fail(errc::overflow, detail::cat("make_operand: n = ", n, " is too large"));
    constexpr bool is_signed = std::is_signed_v<Code>;
    if (zero_point < (is_signed ? -128 : 0) || zero_point > (is_signed ? 127 : 255))
        fail(errc::invalid_argument,
             detail::cat("make_operand: zero_point is ", zero_point, ", must be ", is_signed ? "-128..127" : "0..255"));
    if (k > 2147483647 / (255 * 255))
        fail(errc::overflow,
             detail::cat("make_operand: K = ", k,
                         " could overflow int32; at most 33025 products of two activations can be added"));
    activation_operand o;
    o.n = n;
    o.k = k;
    o.zero_point = zero_point;
    o.is_signed = is_signed;
    o.sums = detail::make_sums(n);
    for (index_t c = 0; c < n; ++c) {
        o.sums.positive[c] = static_cast<std::int32_t>(255 * k);
        o.sums.negative[c] = -o.sums.positive[c];
    }
    return o;
}

namespace detail {

NOTCH_KERNELS(pack_kernels, pack_tables[isa_count], NOTCH_KERNEL_TABLES_DOT(pack_table));

/// One thread's part of the workspace: panels, sums of columns, folded bias, zero points.
struct batched_scratch {
    index_t panels, vector;
    static batched_scratch of(index_t n, index_t k) {
        return {round_up(checked_product("gemm_batched", round_up(n, panel_width), round_up(k, 4)), 64),
                round_up(n, panel_width) * 4};
    }
    [[nodiscard]] index_t bytes() const { return round_up(panels + 3 * vector, 64); }
};

/// The workspace of a call with this many threads.
inline index_t batched_bytes(std::string_view where, const activation_operand& z, index_t threads) {
    return workspace_bytes(checked_product(where, batched_scratch::of(z.n, z.k).bytes(), threads));
}

template <class T> void check_batch(std::string_view where, std::string_view name, const batch_view<T>& v) {
    check_extent(where, {name, ".batches"}, v.batches);
    if (v.batches == 0) return;
    check_view(where, name, v[0]);
    if (v.batch_stride < 0) fail(errc::invalid_argument, cat(where, ": ", name, " has a negative batch_stride"));
    if (v.batches > 1) (void)checked_product(where, checked_product(where, v.batches, v.batch_stride), sizeof(T));
}

} // namespace detail

/// Bytes of workspace that gemm_batched needs.
[[nodiscard]] inline index_t gemm_batched_workspace_size(const activation_operand& z, const context& ctx = {}) {
    return detail::batched_bytes("gemm_batched_workspace_size", z, ctx.executor.concurrency());
}

/// x: B x M x K codes (u8, or s8 if the epilogue has stage::s8_input); z: B x N x K (rhs::transposed) or
/// B x K x N (rhs::plain) codes of the type of make_operand; y: B x M x N. ep was made for the operand;
/// w_scales of its stages is the scale of z. on_tile sees row b * M + m. Threads share the batches.
/// Workspace: gemm_batched_workspace_size. y must not overlap x or z, nor its matrices each other; they lie one after
/// the other, or side by side (the heads of attention in the columns of one matrix).
template <rhs Layout, class X, class Z, class Out, class F, class Y>
void gemm_batched(batch_view<X> x, batch_view<Z> z, const activation_operand& operand, const epilogue<Out, F>& ep,
                  batch_view<Y> y, const context& ctx) {
    constexpr std::string_view where = "gemm_batched";
    using code = std::remove_const_t<X>;
    using z_code = std::remove_const_t<Z>;
    static_assert(std::is_same_v<code, std::uint8_t> || std::is_same_v<code, std::int8_t>,
                  "notch::gemm_batched: the elements of x must be codes, std::uint8_t or std::int8_t");
    static_assert(std::is_same_v<z_code, std::uint8_t> || std::is_same_v<z_code, std::int8_t>,
                  "notch::gemm_batched: the elements of z must be codes, std::uint8_t or std::int8_t");
    static_assert(std::is_same_v<Y, Out>,
                  "notch::gemm_batched: the element type of y must be what the epilogue produces");
    constexpr bool transposed = Layout == rhs::transposed;
    detail::check_batch(where, "x", x);
    detail::check_batch(where, "z", z);
    detail::check_batch(where, "y", y);
    detail::check_equal(where, "the number of batches of z", z.batches, x.batches);
    detail::check_equal(where, "the number of batches of y", y.batches, x.batches);
    detail::check_equal(where, "the number of columns of x", x.cols, operand.k);
    detail::check_equal(where, transposed ? "the number of rows of z" : "the number of columns of z",
                        transposed ? z.rows : z.cols, operand.n);
    detail::check_equal(where, transposed ? "the number of columns of z" : "the number of rows of z",
                        transposed ? z.cols : z.rows, operand.k);
    detail::check_equal(where, "the number of rows of y", y.rows, x.rows);
    detail::check_equal(where, "the number of columns of y", y.cols, operand.n);
    detail::check_equal(where, "the number of channels of the epilogue", ep.outputs, operand.n);
    detail::check_no_rows(where, ep.rows);
    detail::check_input_type<code>(where, ep.x_signed);
    if (std::is_signed_v<z_code> != operand.is_signed)
        fail(errc::invalid_argument, "gemm_batched: make_operand was called for another type of codes than z has");
    if (x.batches > 1 && x.rows > 0 && y.cols > 0) {
        const bool behind = y.batch_stride >= (y.rows - 1) * y.stride + y.cols; // one matrix after the other
        const bool beside = y.batch_stride >= y.cols && y.stride >= (y.batches - 1) * y.batch_stride + y.cols;
        if (!behind && !beside) fail(errc::invalid_argument, "gemm_batched: the matrices of y overlap");
    }
    if (x.batches == 0 || x.rows == 0 || operand.n == 0) return;
    const index_t threads = ctx.executor.concurrency();
    std::byte* base = detail::workspace_begin(where, "gemm_batched_workspace_size", ctx.workspace,
                                              detail::batched_bytes(where, operand, threads));
    detail::parallel(ctx.executor, threads, [&](index_t t) {
        const auto scratch = detail::batched_scratch::of(operand.n, operand.k);
        std::byte* mine = base + t * scratch.bytes();
        auto* panels = reinterpret_cast<std::int8_t*>(mine);
        auto* sums = reinterpret_cast<std::int32_t*>(mine + scratch.panels);
        auto* bias = reinterpret_cast<std::int32_t*>(mine + scratch.panels + scratch.vector);
        auto* zeros = reinterpret_cast<std::int32_t*>(mine + scratch.panels + 2 * scratch.vector);
        const std::int32_t zero_point = operand.zero_point - (operand.is_signed ? 0 : 128);
        const index_t padded = scratch.vector / 4, whole = 0;
        for (index_t c = 0; c < padded; ++c) zeros[c] = zero_point;
        const auto k = static_cast<std::int32_t>(operand.k);
        for (index_t b = t; b < x.batches; b += threads) {
            const auto left = x[b];
            const auto right = z[b];
            pack_args pack;
            pack.b = reinterpret_cast<const std::uint8_t*>(right.data);
            pack.ldb = right.stride;
            pack.n = operand.n;
            pack.k = operand.k;
            pack.rows_are_columns = transposed;
            pack.flip = !operand.is_signed;
            pack.panels = panels;
            pack.sums = sums;
            detail::kernels_for(detail::pack_tables, ctx.target).pack_operand(pack);
            const epilogue_args form = ep.args();
            // bias - x_zp * sum (z - z_zp), modulo 2^32: the whole has been proved to fit.
            for (index_t c = 0; c < padded; ++c)
                bias[c] = static_cast<std::int32_t>(
                    static_cast<std::uint32_t>(c < operand.n ? form.bias[c] : 0) -
                    static_cast<std::uint32_t>(ep.x_zero_point) *
                        (static_cast<std::uint32_t>(sums[c]) - static_cast<std::uint32_t>(zero_point * k)));
            gemm_args g;
            g.a = reinterpret_cast<const std::uint8_t*>(left.data);
            g.lda = left.stride;
            g.m = left.rows;
            g.segment = &whole;
            g.k4 = operand.k / 4;
            g.tail = operand.k % 4;
            g.segment_bytes = operand.k;
            g.b = panels;
            g.panel_stride = detail::round_up(operand.k, 4) * 16;
            g.n = operand.n;
            g.flip = std::is_signed_v<code>;
            g.w_zero_point = zero_point == 0 ? nullptr : zeros;
            g.ep = form;
            g.ep.bias = bias;
            g.c = y[b].data;
            g.ldc = y.stride;
            g.row = b * left.rows;
            detail::kernels_for(detail::gemm_tables, ctx.target).gemm_u8s8(g);
        }
    });
}

NOTCH_KEYED_END
