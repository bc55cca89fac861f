// SPDX-License-Identifier: Apache-2.0
//
// notch/layers/kv_cache.hpp: keys and values of earlier tokens in 8 bits, and attention of one new token over them
// (Vaswani et al. 2017, arXiv:1706.03762, eq. 1), as a decoder needs it at each step. Several heads of queries may
// share one head of keys and values (grouped queries, Ainslie et al. 2023, arXiv:2305.13245): head h reads head h /
// (heads / kv_heads) of the cache.
//
//     notch::kv_cache cache({32, 8, 128, 2048});              // 32 heads on 8, of 128, at most 2048 tokens
//     cache.append(k, v, ctx);                                // floats, one row a token
//     cache.attend(q, y, ctx);                                // floats; sees all tokens of the cache
//
// Each token and head has a scale of its own, found when the token comes: k = ks[j] * K(j, d), v = vs[j] * V(j, d) with
// K, V of -127..127 by params_from_range<symmetric<8>>. No calibration, and what is stored is never touched again. The
// rest keeps 16 bits, so that the error is that of the stored codes:
//
//     Q(d)  = code of q(d) in -32639..32639, scale qs                       one scale a head
//     S(j)  = sum over d of Q(d) * K(j, d)                                  exact int32
//     t(j)  = round(S(j) * qs * ks[j] * scale * log2(e) * 2^15)             within +-2^30
//     E(j)  = 2^30 * 2^-(u / 2^15), u = max t - t(j)                        by detail::exp2_q30, 0 from 31 * 2^15 on
//     W(j)  = round(E(j) * vs[j] * 32639 / T), T = max of E(j) * vs[j]
//     y(d)  = sum over j of W(j) * V(j, d) * T / 32639 / sum of E           the sums are exact
//
// Q and W are 256 * a + b with a, b of 8 bits: two columns of one product of codes (kernels/gemm_batched.hpp) whose
// left side is the cache itself, K by rows of tokens and V by rows of d. So the cache is read once, in place, and a few
// columns cost what one does. t, W and y are computed in double, one operation at a time: all results are the same on
// every instruction set and for any number of threads.
//
// Against attention in real numbers on the stored codes: the exponents are off by at most
// qs / 2 * scale * sum of |k(j, d)| + 2^-16, E by 2^-14.1 of itself, and y by T / 32639 / 2 * sum of |V(j, d)| / sum of
// E more.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include <notch/kernels/gemm_batched.hpp>
#include <notch/kernels/quantize.hpp>
#include <notch/ref/softmax.hpp>

NOTCH_NAMESPACE_BEGIN

/// What a cache is made for.
struct kv_cache_spec {
    index_t heads = 1;     ///< of queries; a multiple of kv_heads
    index_t kv_heads = 1;  ///< of keys and values
    index_t head_size = 1; ///< at most 512
    index_t capacity = 0;  ///< tokens, at most 33,025
    float scale = 0;       ///< of the scores, > 0; 0: 1 / sqrt(head_size)
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// Codes that are 256 * a + b with a and b of 8 bits.
struct two_bytes {
    using code_type = std::int16_t;
    static constexpr int bits = 16;
    static constexpr std::int32_t qmin = -32639, qmax = 32639;
    static constexpr bool has_zero_point = false;

    static void split(std::int32_t code, std::int8_t& high, std::int8_t& low) {
        low = static_cast<std::int8_t>(code);
        high = static_cast<std::int8_t>((code - low) / 256);
    }
};

} // namespace detail

/// attend is const and safe to call from several threads, each with a workspace of its own; append and truncate are
/// not. Making one allocates; nothing else does.
class kv_cache {
public:
    explicit kv_cache(const kv_cache_spec& s) : spec_(s) {
        constexpr const char* where = "kv_cache";
        if (s.kv_heads < 1 || s.heads < 1 || s.heads % s.kv_heads != 0)
            fail(errc::invalid_argument,
                 detail::cat(where, ": ", s.heads, " heads of queries on ", s.kv_heads, " of keys and values"));
        if (s.head_size < 1 || s.head_size > 512)
            fail(errc::invalid_argument, detail::cat(where, ": head_size is ", s.head_size, ", must be 1..512"));
        detail::check_extent(where, "capacity", s.capacity);
        if (s.scale == 0.0f) spec_.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(s.head_size)));
        detail::check_scale(where, "scale", spec_.scale);
        const index_t columns = 2 * (s.heads / s.kv_heads);
        (void)detail::checked_product(where, detail::checked_product(where, columns, s.kv_heads), s.head_size);
        scores_ = make_operand<std::int8_t>(columns, s.head_size, 0);
        values_ = make_operand<std::int8_t>(columns, s.capacity, 0); // refuses a capacity whose sums could overflow
        score_ = make_epilogue(scores_, stage::s8_input{}, stage::accumulators{0});
        value_ = make_epilogue(values_, stage::s8_input{}, stage::accumulators{0});
        values_.k = 0;
        value_stride_ = detail::round_up(s.capacity, 64) + 64; // no power of two: rows would share sets of the caches
        const index_t width = s.kv_heads * s.head_size;
        k_ = buffer<std::int8_t>(detail::checked_product(where, width, s.capacity));
        v_ = buffer<std::int8_t>(detail::checked_product(where, width, value_stride_));
        k_scales_ = buffer<float>(s.kv_heads * s.capacity);
        v_scales_ = buffer<float>(s.kv_heads * s.capacity);
        row_ = buffer<std::int8_t>(width);
        params_ = buffer<quant_params>(s.kv_heads);
    }

    [[nodiscard]] const kv_cache_spec& spec() const noexcept { return spec_; }
    /// Tokens that it holds.
    [[nodiscard]] index_t size() const noexcept { return values_.k; }
    /// Bytes of codes and scales of these tokens, each of which attend reads once.
    [[nodiscard]] index_t bytes() const noexcept { return size() * spec_.kv_heads * (2 * spec_.head_size + 8); }

    /// Forgets all but the first n tokens.
    void truncate(index_t n) {
        if (n < 0 || n > size())
            fail(errc::invalid_argument, detail::cat("kv_cache.truncate: ", n, " of ", size(), " tokens"));
        values_.k = n;
    }

    /// Adds tokens: k and v have a row for each, kv_heads * head_size columns, any row strides. NaN becomes 0,
    /// infinities the last code of the finite range. More tokens than the capacity are an error, and none of them is
    /// added.
    void append(matrix_view<const float> k, matrix_view<const float> v, const context& ctx = {}) {
        constexpr const char* where = "kv_cache.append";
        check_alive(where);
        const index_t size = spec_.head_size, heads = spec_.kv_heads;
        detail::check_view(where, "k", k);
        detail::check_view(where, "v", v);
        detail::check_equal(where, "the number of columns of k", k.cols, heads * size);
        detail::check_equal(where, "the number of columns of v", v.cols, heads * size);
        detail::check_equal(where, "the number of rows of v", v.rows, k.rows);
        if (k.rows > spec_.capacity - values_.k)
            fail(errc::overflow, detail::cat(where, ": ", values_.k, " tokens and ", k.rows, " more; the capacity is ",
                                             spec_.capacity));
        const context alone(ctx.target);
        for (index_t t = 0; t < k.rows; ++t) {
            const index_t at = values_.k;
            quantize_rows_dynamic<symmetric<8>>(
                {k.data + t * k.stride, heads, size},
                matrix_view<std::int8_t>(k_.data() + at * size, heads, size, spec_.capacity * size), params_.span(),
                alone);
            for (index_t h = 0; h < heads; ++h) k_scales_[h * spec_.capacity + at] = params_[h].scale;
            quantize_rows_dynamic<symmetric<8>>({v.data + t * v.stride, heads, size},
                                                matrix_view<std::int8_t>(row_.data(), heads, size), params_.span(),
                                                alone);
            for (index_t h = 0; h < heads; ++h) v_scales_[h * spec_.capacity + at] = params_[h].scale;
            for (index_t d = 0; d < heads * size; ++d) v_[d * value_stride_ + at] = row_[d];
            ++values_.k;
        }
    }

    /// Bytes of workspace that attend needs.
    [[nodiscard]] index_t workspace_size(const context& ctx = {}) const {
        return detail::workspace_bytes(detail::checked_product("kv_cache", plan().bytes, threads(ctx)));
    }

    /// y = attention of the query q over all tokens; both have heads * head_size elements. NaN and infinities in q are
    /// taken as in append. Without tokens y is 0. Threads share the heads of the cache. y may be q.
    void attend(std::span<const float> q, std::span<float> y, const context& ctx) const {
        constexpr const char* where = "kv_cache.attend";
        check_alive(where);
        const index_t width = spec_.heads * spec_.head_size;
        detail::check_span(where, "q", q);
        detail::check_span(where, "y", y);
        detail::check_equal(where, "the size of q", static_cast<index_t>(q.size()), width);
        detail::check_equal(where, "the size of y", static_cast<index_t>(y.size()), width);
        const layout l = plan();
        const index_t tasks = threads(ctx);
        std::byte* memory =
            detail::workspace_begin(where, "kv_cache.workspace_size", ctx.workspace,
                                    detail::workspace_bytes(detail::checked_product(where, l.bytes, tasks)));
        detail::parallel(ctx.executor, tasks, [&](index_t t) {
            for (index_t h = t; h < spec_.kv_heads; h += tasks)
                attend_group(q.data(), y.data(), h, memory + t * l.bytes, l, ctx);
        });
    }

private:
    /// The parts of a thread's workspace, in bytes from its start; first the scores.
    struct layout {
        index_t exponentials, query, units, columns, weights, sums, rest, bytes;
    };
    [[nodiscard]] layout plan() const {
        constexpr const char* where = "kv_cache";
        const index_t n = scores_.n, size = spec_.head_size, keys = detail::round_up(spec_.capacity, 16);
        const auto next = [](index_t at, index_t bytes) { return detail::round_up(at + bytes, 64); };
        layout l{};
        l.exponentials = next(0, detail::checked_product(where, keys, 4 * n));
        l.query = next(l.exponentials, 4 * keys);
        l.units = next(l.query, 2 * size);
        l.columns = next(l.units, 4 * n);
        l.weights = next(l.columns, n * size);
        l.sums = next(l.weights, n * keys);
        l.rest = next(l.sums, 4 * n * size);
        const index_t a = detail::batched_scratch::of(n, size).bytes(),
                      b = detail::batched_scratch::of(n, spec_.capacity).bytes();
        l.bytes = l.rest + detail::workspace_bytes(a > b ? a : b);
        return l;
    }
    [[nodiscard]] index_t threads(const context& ctx) const {
        const index_t n = ctx.executor.concurrency();
        return n < spec_.kv_heads ? n : spec_.kv_heads;
    }
    void check_alive(const char* where) const {
        if (params_.empty()) fail(errc::invalid_argument, detail::cat(where, ": the cache was moved from"));
    }

    /// All queries of one head of the cache.
    void attend_group(const float* q, float* y, index_t head, std::byte* memory, const layout& l,
                      const context& ctx) const {
        using detail::two_bytes;
        const index_t n = scores_.n, size = spec_.head_size, keys = values_.k, queries = n / 2;
        const index_t first = head * queries * size, stride = detail::round_up(spec_.capacity, 16);
        if (keys == 0) {
            for (index_t d = 0; d < queries * size; ++d) y[first + d] = 0.0f;
            return;
        }
        auto* scores = reinterpret_cast<std::int32_t*>(memory);
        auto* e = reinterpret_cast<std::int32_t*>(memory + l.exponentials);
        auto* query = reinterpret_cast<std::int16_t*>(memory + l.query);
        auto* units = reinterpret_cast<double*>(memory + l.units); // of the codes of a query, then of its result
        auto* columns = reinterpret_cast<std::int8_t*>(memory + l.columns);
        auto* weights = reinterpret_cast<std::int8_t*>(memory + l.weights);
        auto* sums = reinterpret_cast<std::int32_t*>(memory + l.sums);
        const context inner(ctx.target, {}, {memory + l.rest, static_cast<std::size_t>(l.bytes - l.rest)});
        const float* ks = k_scales_.data() + head * spec_.capacity;
        const float* vs = v_scales_.data() + head * spec_.capacity;
        // From here on every query is two columns: 2 * i the high bytes, 2 * i + 1 the low ones.
        const auto length = static_cast<std::size_t>(size);
        for (index_t i = 0; i < queries; ++i) {
            const std::span<const float> row(q + first + i * size, length);
            const quant_params p = params_from_range<two_bytes>(value_range(row, inner));
            quantize<two_bytes>(row, p, {query, length}, inner);
            units[i] = static_cast<double>(p.scale);
            for (index_t d = 0; d < size; ++d)
                two_bytes::split(query[d], columns[2 * i * size + d], columns[(2 * i + 1) * size + d]);
        }
        gemm_batched<rhs::transposed>(
            batch_view<const std::int8_t>(k_.data() + head * spec_.capacity * size, 1, keys, size),
            batch_view<const std::int8_t>(columns, 1, n, size), scores_, score_,
            batch_view<std::int32_t>(scores, 1, keys, n), inner);
        for (index_t i = 0; i < queries; ++i)
            units[i] = weigh(scores + 2 * i, n, keys, units[i] * static_cast<double>(spec_.scale), ks, vs, e,
                             weights + 2 * i * stride, weights + (2 * i + 1) * stride);
        gemm_batched<rhs::transposed>(
            batch_view<const std::int8_t>(v_.data() + head * size * value_stride_, 1, size, keys, value_stride_, 0),
            batch_view<const std::int8_t>(weights, 1, n, keys, stride, 0), values_, value_,
            batch_view<std::int32_t>(sums, 1, size, n), inner);
        for (index_t i = 0; i < queries; ++i)
            for (index_t d = 0; d < size; ++d) {
                const std::int64_t sum = std::int64_t{256} * sums[d * n + 2 * i] + sums[d * n + 2 * i + 1];
                y[first + i * size + d] = static_cast<float>(static_cast<double>(sum) * units[i]);
            }
    }

    /// Scores to the codes W of one query, as two bytes; returns T / 32639 / sum of E. e: room for a value a token.
    [[nodiscard]] static double weigh(const std::int32_t* scores, index_t n, index_t keys, double scale,
                                      const float* ks, const float* vs, std::int32_t* e, std::int8_t* high,
                                      std::int8_t* low) {
        constexpr double limit = 1 << 30, step = 47274.23109984955; // log2(e) * 2^15
        std::int32_t top = -(1 << 30);
        const double factor = scale * step;
        for (index_t j = 0; j < keys; ++j) {
            const std::int32_t s = 256 * scores[j * n] + scores[j * n + 1];
            double t = std::nearbyint(static_cast<double>(s) * (factor * static_cast<double>(ks[j])));
            t = t > limit ? limit : t < -limit ? -limit : t;
            e[j] = static_cast<std::int32_t>(t);
            top = e[j] > top ? e[j] : top;
        }
        std::int64_t sum = 0;
        double largest = 0;
        for (index_t j = 0; j < keys; ++j) {
            const std::uint32_t u = static_cast<std::uint32_t>(top) - static_cast<std::uint32_t>(e[j]);
            e[j] = u < 31u << 15 ? detail::exp2_q30(static_cast<std::int32_t>(u & 32767u)) >> (u >> 15) : 0;
            sum += e[j];
            const double w = static_cast<double>(e[j]) * static_cast<double>(vs[j]);
            largest = w > largest ? w : largest;
        }
        const double codes = detail::two_bytes::qmax / largest;
        for (index_t j = 0; j < keys; ++j) {
            const double w = static_cast<double>(e[j]) * static_cast<double>(vs[j]);
            detail::two_bytes::split(static_cast<std::int32_t>(std::nearbyint(w * codes)), high[j], low[j]);
        }
        return largest / detail::two_bytes::qmax / static_cast<double>(sum);
    }

    kv_cache_spec spec_;
    activation_operand scores_, values_; ///< values_.k: the tokens
    epilogue<std::int32_t> score_, value_;
    index_t value_stride_ = 0;
    buffer<std::int8_t> k_, v_;         ///< [kv_heads][capacity][head_size], [kv_heads][head_size][value_stride_]
    buffer<float> k_scales_, v_scales_; ///< [kv_heads][capacity]
    buffer<std::int8_t> row_;           ///< one token
    buffer<quant_params> params_;       ///< of one token
};

NOTCH_KEYED_END
