// SPDX-License-Identifier: Apache-2.0
//
// notch/layers/attention.hpp: scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, eq. 1) of all heads
// in integers, composed from kernels/gemm_batched.hpp and kernels/softmax.hpp. With the codes q, k, v of head h:
//
//     S(i, j) = sum over d of (q(i, d) - q_zp) * (k(j, d) - k_zp)                     exact int32
//     P(i, j) = code of softmax over j of S(i, j) * q.scale * k.scale * scale         u8, 256 times the probability
//     y(i, d) = requantize(sum over j of P(i, j) * (v(j, d) - v_zp))                  u8
//
// Causal attention leaves out the keys of later tokens: those with j > i + keys - queries.
//
// Heads lie side by side in the columns, as the products before and after want them: head h of a row is columns
// h * head_size ... (h + 1) * head_size - 1. Queries, keys and values may be columns of one matrix.
//
//     const notch::attention a({12, 32, tokens, q_params, k_params, v_params, y_params});
//     a.run(q, k, v, y, ctx);
//
// Training: layers/attention_layer.hpp.
//
// Against attention in real numbers on the same codes an element of y is off by at most 0.502 steps of y plus what
// the codes of probabilities are off: sum over j of 2^-8 * e_j * |real v(j, d)|, with e_j < 0.508 + keys * 2^-22
// (ref/softmax.hpp; 1 for a probability above 255 / 256).
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include <notch/kernels/gemm_batched.hpp>
#include <notch/kernels/softmax.hpp>

NOTCH_NAMESPACE_BEGIN

/// What an attention is made for. q, k and v are grids of s8 codes (zero points -128..127), or of u8 codes (0..255) if
/// is_signed is false; y of u8 codes.
struct attention_spec {
    index_t heads = 1, head_size = 1;
    index_t keys = 0; ///< rows of k and v, at most 33,025
    quant_params q, k, v, y;
    float scale = 0; ///< of the scores, > 0; 0: 1 / sqrt(head_size)
    bool causal = false;
    bool is_signed = true;
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN

/// Immutable; safe to share between threads, each with a workspace of its own. Making one allocates a little.
class attention {
public:
    explicit attention(const attention_spec& s) : spec_(s) {
        constexpr const char* where = "attention";
        if (s.heads < 1 || s.head_size < 1)
            fail(errc::invalid_argument, detail::cat(where, ": ", s.heads, " heads of ", s.head_size));
        (void)detail::checked_product(where, s.heads, s.head_size);
        if (s.scale == 0.0f) spec_.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(s.head_size)));
        const std::int32_t lo = s.is_signed ? -128 : 0, hi = s.is_signed ? 127 : 255;
        detail::check_params(where, "q", s.q, lo, hi);
        detail::check_params(where, "k", s.k, lo, hi);
        detail::check_params(where, "v", s.v, lo, hi);
        detail::check_params(where, "y", s.y, 0, 255);
        detail::check_scale(where, "scale", spec_.scale);
        const double step = static_cast<double>(s.q.scale) * static_cast<double>(s.k.scale);
        softmax_ = make_softmax_s32(static_cast<float>(step), spec_.scale);
        const auto operand = s.is_signed ? make_operand<std::int8_t> : make_operand<std::uint8_t>;
        scores_ = operand(s.keys, s.head_size, s.k.zero_point);
        values_ = operand(s.head_size, s.keys, s.v.zero_point);
        const float v_scale[] = {s.v.scale};
        const stage::accumulators sums{s.q.zero_point};
        score_ = s.is_signed ? make_epilogue(scores_, stage::s8_input{}, sums) : make_epilogue(scores_, sums);
        value_ = make_epilogue(values_, stage::requantize<affine<8>>{{1.0f / 256.0f, 0}, v_scale, s.y});
    }

    [[nodiscard]] const attention_spec& spec() const noexcept { return spec_; }

    /// Bytes of workspace that run needs for so many queries.
    [[nodiscard]] index_t workspace_size(index_t queries, const context& ctx = {}) const {
        detail::check_extent("attention", "queries", queries);
        return detail::workspace_bytes(plan(queries, ctx).bytes);
    }

    /// q, y: queries x heads * head_size; k, v: keys x heads * head_size; any row strides. y must not overlap the
    /// others. Threads share the heads. Causal attention has at most as many queries as keys. Without keys y is real 0.
    /// probabilities, if not empty, receives the codes P: heads x queries x keys.
    void run(matrix_view<const std::int8_t> q, matrix_view<const std::int8_t> k, matrix_view<const std::int8_t> v,
             matrix_view<std::uint8_t> y, const context& ctx, std::span<std::uint8_t> probabilities = {}) const {
        run_codes(true, q, k, v, y, ctx, probabilities);
    }
    void run(matrix_view<const std::uint8_t> q, matrix_view<const std::uint8_t> k, matrix_view<const std::uint8_t> v,
             matrix_view<std::uint8_t> y, const context& ctx, std::span<std::uint8_t> probabilities = {}) const {
        run_codes(false, q, k, v, y, ctx, probabilities);
    }

private:
    template <class Code>
    void run_codes(bool is_signed, matrix_view<const Code> q, matrix_view<const Code> k, matrix_view<const Code> v,
                   matrix_view<std::uint8_t> y, const context& ctx, std::span<std::uint8_t> probabilities) const {
        constexpr const char* where = "attention";
        const index_t width = spec_.heads * spec_.head_size, rows = q.rows, keys = spec_.keys, size = spec_.head_size;
        if (score_.bias.size() < keys || value_.bias.size() < size)
            fail(errc::invalid_argument, "attention: it was moved from");
        const auto check = [&](const char* name, const auto& m, index_t m_rows) {
            detail::check_view(where, name, m);
            detail::check_equal(where, {"the number of columns of ", name}, m.cols, width);
            detail::check_equal(where, {"the number of rows of ", name}, m.rows, m_rows);
        };
        if (spec_.is_signed != is_signed)
            fail(errc::invalid_argument, detail::cat("attention: the codes of q, k and v are ", is_signed ? "s8" : "u8",
                                                     ", it was made for ", is_signed ? "u8" : "s8"));
        check("q", q, rows);
        check("k", k, keys);
        check("v", v, keys);
        check("y", y, rows);
        if (spec_.causal && rows > keys)
            fail(errc::shape_mismatch, detail::cat(where, ": ", rows, " queries for ", keys, " keys"));
        if (!probabilities.empty()) {
            detail::check_span(where, "probabilities", probabilities);
            detail::check_equal(
                where, "the number of probabilities", static_cast<index_t>(probabilities.size()),
                detail::checked_product(where, detail::checked_product(where, spec_.heads, rows), keys));
        }
        const layout l = plan(rows, ctx);
        std::byte* memory =
            detail::workspace_begin(where, "attention.workspace_size", ctx.workspace, detail::workspace_bytes(l.bytes));
        if (rows == 0) return;
        auto* s = reinterpret_cast<std::int32_t*>(memory);
        context inner = ctx;
        inner.workspace = {memory + l.rest, static_cast<std::size_t>(l.bytes - l.rest)};
        // As many heads at once as there are threads: their scores stay in the caches.
        for (index_t head = 0; head < spec_.heads; head += l.together) {
            const index_t n = spec_.heads - head < l.together ? spec_.heads - head : l.together, at = head * size;
            auto* p = probabilities.empty() ? reinterpret_cast<std::uint8_t*>(memory + l.probabilities)
                                            : probabilities.data() + head * rows * keys;
            const auto part = [&](const auto& m) { return batch_view(m.data + at, n, m.rows, size, m.stride, size); };
            gemm_batched<rhs::transposed>(part(q), part(k), scores_, score_, batch_view<std::int32_t>(s, n, rows, keys),
                                          inner);
            if (spec_.causal)
                for (index_t i = 0; i < n * rows; ++i)
                    for (index_t j = i % rows + keys - rows + 1; j < keys; ++j)
                        s[i * keys + j] = std::numeric_limits<std::int32_t>::min();
            softmax(matrix_view<const std::int32_t>(s, n * rows, keys), softmax_,
                    matrix_view<std::uint8_t>(p, n * rows, keys), inner);
            gemm_batched<rhs::plain>(batch_view<const std::uint8_t>(p, n, rows, keys), part(v), values_, value_,
                                     part(y), inner);
        }
    }

    /// The parts of the workspace: scores, probabilities, and that of the products.
    struct layout {
        index_t together, probabilities, rest, bytes;
    };
    [[nodiscard]] layout plan(index_t queries, const context& ctx) const {
        constexpr const char* where = "attention";
        layout l{};
        const index_t threads = ctx.executor.concurrency();
        l.together = threads < spec_.heads ? threads : spec_.heads;
        const index_t count = detail::checked_product(where, detail::checked_product(where, l.together, queries),
                                                      detail::round_up(spec_.keys, 16));
        l.probabilities = detail::checked_product(where, count, 4);
        l.rest = detail::round_up(l.probabilities + count, 64);
        const index_t a = detail::batched_bytes(where, scores_, threads),
                      b = detail::batched_bytes(where, values_, threads);
        l.bytes = l.rest + (a > b ? a : b);
        return l;
    }

    attention_spec spec_;
    softmax_s32_params softmax_;
    activation_operand scores_, values_;
    epilogue<std::int32_t> score_;
    epilogue<std::uint8_t> value_;
};

NOTCH_KEYED_END
