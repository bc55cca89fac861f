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
//     Q(d)  = code of q(d) by symmetric<16>, scale qs                       one scale a head
//     S(j)  = sum over d of Q(d) * K(j, d)                                  exact int32
//     t(j)  = trunc(S(j) * (qs * scale * log2(e) * 2^15 * ks[j]))           within +-2^30
//     E(j)  = floor(2^30 * 2^-(u / 2^15)), u = max t - t(j)                 2^(...) by detail::exp2_q30
//     W(j)  = floor((trunc(E(j) * vs[j] * (2 * 65535 / T)) + 1) / 2)        0..65535, T = max of E(j) * vs[j]
//     y(d)  = sum over j of W(j) * V(j, d) * (T / 65535 / sum of E)         the sums are exact
//
// t, W and y are computed in double, products and quotients alone, so that no compiler contracts them: all results are
// the same on every instruction set and for any number of threads.
//
// Q + 2^15 and W are 256 * a + b with bytes a, b: two rows of codes, whose product with the cache reads it once, in the
// layout of packed weights (kernels/pack.hpp). Of each head, keys have a column a token, values a column a d:
//
//     K  [capacity/16][head_size/4][16 tokens][4 of d]       V  [head_size/16][capacity/4][16 of d][4 tokens]
//
// Against attention in real numbers on the stored codes: the exponents of e are off by less than
// qs / 2 * scale * sum over d of |k(j, d)| + 2^-15.5, E by 2^-14.38 of itself and 1 of 2^30, and y by
// T / 65535 / 2 * sum over j of |V(j, d)| / sum of E more.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>

#include <notch/core/workspace.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/kernels/quantize.hpp>
#include <notch/ref/softmax.hpp>

NOTCH_NAMESPACE_BEGIN

/// What a cache is made for.
struct kv_cache_spec {
    index_t heads = 1;     ///< of queries, at most 65536; a multiple of kv_heads
    index_t kv_heads = 1;  ///< of keys and values
    index_t head_size = 1; ///< at most 512: S fits int32
    index_t capacity = 0;  ///< tokens, at most 65536: the sums of bytes times V fit int32
    float scale = 0;       ///< of the scores, > 0; 0: 1 / sqrt(head_size)
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN

/// attend is const and safe to call from several threads, each with a workspace of its own; append and truncate are
/// not. Making or copying one allocates; nothing else does. All errors leave it as it was.
class kv_cache {
public:
    explicit kv_cache(const kv_cache_spec& s) : spec_(s) {
        constexpr const char* where = "kv_cache";
        constexpr index_t most = 65536;
        if (s.kv_heads < 1 || s.heads < 1 || s.heads > most || s.heads % s.kv_heads != 0)
            fail(errc::invalid_argument, detail::cat(where, ": ", s.heads, " heads of queries on ", s.kv_heads,
                                                     " of keys and values; must be a multiple, at most ", most));
        if (s.head_size < 1 || s.head_size > 512)
            fail(errc::invalid_argument, detail::cat(where, ": head_size is ", s.head_size, ", must be 1..512"));
        if (s.capacity < 0 || s.capacity > most)
            fail(errc::invalid_argument, detail::cat(where, ": capacity is ", s.capacity, ", must be 0..", most));
        if (s.scale == 0.0f) spec_.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(s.head_size)));
        detail::check_scale(where, "scale", spec_.scale);
        // No power of two: panels side by side would share sets of the caches.
        k_panel_ = detail::round_up(s.head_size, 4) * panel_width + 64;
        v_panel_ = detail::round_up(s.capacity, 4) * panel_width + 64;
        tokens_room_ = detail::round_up(s.capacity, panel_width);
        k_ = buffer<std::int8_t>(s.kv_heads * (tokens_room_ / panel_width * k_panel_));
        v_ = buffer<std::int8_t>(s.kv_heads * (detail::round_up(s.head_size, panel_width) / panel_width * v_panel_));
        k_sums_ = buffer<std::int32_t>(s.kv_heads * tokens_room_);
        k_scales_ = buffer<float>(s.kv_heads * tokens_room_);
        v_scales_ = buffer<float>(s.kv_heads * tokens_room_);
        zeros_ = buffer<std::int32_t>(detail::round_up(s.head_size, panel_width));
        row_ = buffer<std::int8_t>(s.kv_heads * s.head_size);
        params_ = buffer<quant_params>(s.kv_heads);
    }

    [[nodiscard]] const kv_cache_spec& spec() const noexcept { return spec_; }
    /// Tokens that it holds.
    [[nodiscard]] index_t size() const noexcept { return tokens_; }
    /// Bytes of codes, sums and scales of these tokens, each of which attend reads once.
    [[nodiscard]] index_t bytes() const noexcept { return tokens_ * spec_.kv_heads * (2 * spec_.head_size + 12); }

    /// Forgets all but the first n tokens; an error unless n is 0..size().
    void truncate(index_t n) {
        if (n < 0 || n > tokens_)
            fail(errc::invalid_argument, detail::cat("kv_cache.truncate: ", n, " of ", tokens_, " tokens"));
        tokens_ = n;
    }

    /// Adds tokens: k and v have a row for each, kv_heads * head_size columns, any row strides. NaN becomes 0,
    /// infinities the last code of the finite range. More tokens than there is room for are an error. Runs on the
    /// calling thread; needs no workspace.
    void append(matrix_view<const float> k, matrix_view<const float> v, const context& ctx = {}) {
        constexpr const char* where = "kv_cache.append";
        check_alive(where);
        const index_t size = spec_.head_size, heads = spec_.kv_heads;
        detail::check_view(where, "k", k);
        detail::check_view(where, "v", v);
        detail::check_equal(where, "the number of columns of k", k.cols, heads * size);
        detail::check_equal(where, "the number of columns of v", v.cols, heads * size);
        detail::check_equal(where, "the number of rows of v", v.rows, k.rows);
        if (k.rows > spec_.capacity - tokens_)
            fail(errc::overflow,
                 detail::cat(where, ": ", tokens_, " tokens and ", k.rows, " more; the capacity is ", spec_.capacity));
        const context serial(ctx.target);
        const auto quantize_heads = [&](const float* from) {
            quantize_rows_dynamic<symmetric<8>>({from, heads, size}, {row_.data(), heads, size}, params_.span(),
                                                serial);
        };
        for (index_t t = 0; t < k.rows; ++t, ++tokens_) {
            quantize_heads(k.data + t * k.stride);
            for (index_t h = 0; h < heads; ++h) append_key(h, row_.data() + h * size, params_[h].scale);
            quantize_heads(v.data + t * v.stride);
            for (index_t h = 0; h < heads; ++h) append_value(h, row_.data() + h * size, params_[h].scale);
        }
    }

    /// Bytes of workspace that attend needs, however many tokens there are.
    [[nodiscard]] index_t workspace_size(const context& ctx = {}) const {
        return detail::workspace_bytes(plan().bytes * threads(ctx));
    }

    /// y = attention of the query q over all tokens; both have heads * head_size elements. NaN and infinities in q are
    /// taken as in append; y is finite. Without tokens y is 0. Threads share the heads of the cache. y may be q, and
    /// must not overlap it otherwise. Sizes that differ and a workspace that is too small are errors.
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
        std::byte* memory = detail::workspace_begin(where, "kv_cache.workspace_size", ctx.workspace,
                                                    detail::workspace_bytes(l.bytes * tasks));
        detail::parallel(ctx.executor, tasks, [&](index_t t) {
            for (index_t h = t; h < spec_.kv_heads; h += tasks)
                attend_group(q.data(), y.data(), h, memory + t * l.bytes, l, ctx.target);
        });
    }

private:
    void append_key(index_t head, const std::int8_t* codes, float scale) {
        const index_t size = spec_.head_size, at = head * tokens_room_ + tokens_;
        std::int8_t* to = k_.data() + at / panel_width * k_panel_ + at % panel_width * 4;
        std::int32_t sum = 0;
        for (index_t d = 0; d < size; ++d) {
            to[d / 4 * 64 + d % 4] = codes[d];
            sum += codes[d];
        }
        k_sums_[at] = -128 * sum;
        k_scales_[at] = scale;
    }
    void append_value(index_t head, const std::int8_t* codes, float scale) {
        const index_t size = spec_.head_size, panels = zeros_.size() / panel_width;
        std::int8_t* to = v_.data() + head * panels * v_panel_ + tokens_ / 4 * 64 + tokens_ % 4;
        for (index_t d = 0; d < size; ++d) to[d / panel_width * v_panel_ + d % panel_width * 4] = codes[d];
        v_scales_[head * tokens_room_ + tokens_] = scale;
    }

    /// The parts of a thread's workspace, in bytes from its start; first the products. Rows come in pairs a, b.
    struct layout {
        index_t exponentials, query, units, rows, bytes;
        index_t row; ///< bytes from one row to the next
    };
    [[nodiscard]] layout plan() const {
        const index_t queries = spec_.heads / spec_.kv_heads, size = spec_.head_size;
        const index_t columns = tokens_room_ > size ? tokens_room_ : size;
        const auto next = [](index_t at, index_t bytes) { return detail::round_up(at + bytes, 64); };
        layout l{};
        l.row = detail::round_up(columns, 64) + 64;
        l.exponentials = next(0, 2 * queries * columns * 4);
        l.query = next(l.exponentials, tokens_room_ * 4);
        l.units = next(l.query, size * 2);
        l.rows = next(l.units, queries * 8);
        l.bytes = next(l.rows, 2 * queries * l.row);
        return l;
    }
    [[nodiscard]] index_t threads(const context& ctx) const {
        const index_t n = ctx.executor.concurrency();
        return n < spec_.kv_heads ? n : spec_.kv_heads;
    }
    void check_alive(const char* where) const {
        if (params_.empty()) fail(errc::invalid_argument, detail::cat(where, ": the cache was moved from"));
    }

    /// c = bias + a * panels: m rows of k bytes, n columns.
    static void multiply(const std::uint8_t* a, index_t lda, index_t m, index_t k, const std::int8_t* panels,
                         index_t panel_stride, index_t n, const std::int32_t* bias, std::int32_t* c, isa target) {
        const index_t whole = 0;
        gemm_args g;
        g.a = a;
        g.lda = lda;
        g.m = m;
        g.segment = &whole;
        g.k4 = k / 4;
        g.tail = k % 4;
        g.segment_bytes = k;
        g.b = panels;
        g.panel_stride = panel_stride;
        g.n = n;
        g.ep.bias = bias;
        g.c = c;
        g.ldc = n;
        detail::kernels_for(detail::gemm_tables, target).gemm_u8s8(g);
    }

    /// All queries of one head of the cache.
    void attend_group(const float* q, float* y, index_t head, std::byte* memory, const layout& l, isa target) const {
        const index_t size = spec_.head_size, keys = tokens_, queries = spec_.heads / spec_.kv_heads;
        const index_t first = head * queries * size, from = head * tokens_room_;
        if (keys == 0) {
            for (index_t d = 0; d < queries * size; ++d) y[first + d] = 0.0f;
            return;
        }
        auto* products = reinterpret_cast<std::int32_t*>(memory);
        auto* e = reinterpret_cast<std::int32_t*>(memory + l.exponentials);
        auto* query = reinterpret_cast<std::int16_t*>(memory + l.query);
        auto* units = reinterpret_cast<double*>(memory + l.units); // of the codes of a query, then of its result
        auto* rows = reinterpret_cast<std::uint8_t*>(memory + l.rows);
        const auto length = static_cast<std::size_t>(size);
        for (index_t i = 0; i < queries; ++i) {
            const std::span<const float> row(q + first + i * size, length);
            const quant_params p = params_from_range<symmetric<16>>(value_range(row, context(target)));
            quantize<symmetric<16>>(row, p, {query, length}, context(target));
            units[i] = static_cast<double>(p.scale) * static_cast<double>(spec_.scale);
            std::uint8_t *a = rows + 2 * i * l.row, *b = a + l.row;
            for (index_t d = 0; d < size; ++d) {
                const auto code = static_cast<std::uint32_t>(query[d] + 32768);
                a[d] = static_cast<std::uint8_t>(code >> 8);
                b[d] = static_cast<std::uint8_t>(code & 255u);
            }
        }
        // The zero point of a is 128. The bias takes it off, off b too, to which weigh gives it back.
        const std::int32_t* bias = k_sums_.data() + from;
        multiply(rows, l.row, 2 * queries, size, k_.data() + from / panel_width * k_panel_, k_panel_, keys, bias,
                 products, target);
        for (index_t i = 0; i < queries; ++i)
            units[i] = weigh(products + 2 * i * keys, bias, keys, units[i], k_scales_.data() + from,
                             v_scales_.data() + from, e, rows + 2 * i * l.row, rows + (2 * i + 1) * l.row);
        multiply(rows, l.row, 2 * queries, keys, v_.data() + head * (zeros_.size() / panel_width) * v_panel_, v_panel_,
                 size, zeros_.data(), products, target);
        for (index_t i = 0; i < queries; ++i)
            for (index_t d = 0; d < size; ++d) {
                const std::int32_t* sums = products + 2 * i * size + d;
                const double v = static_cast<double>(std::int64_t{256} * sums[0] + sums[size]) * units[i];
                constexpr double most = static_cast<double>(FLT_MAX); // rounded weights may reach beyond all values
                y[first + i * size + d] = static_cast<float>(v > most ? most : v < -most ? -most : v);
            }
    }

    /// Products of a query to its codes W, as rows of bytes; returns T / 65535 / sum of E. e: room for a value a token.
    /// Loops that compilers turn into vectors.
    [[nodiscard]] static double weigh(const std::int32_t* products, const std::int32_t* bias, index_t keys,
                                      double scale, const float* ks, const float* vs, std::int32_t* e, std::uint8_t* a,
                                      std::uint8_t* b) {
        constexpr double limit = 1 << 30, step = 47274.23109984955; // log2(e) * 2^15
        const double factor = scale * step;
        std::int32_t top = -(1 << 30);
        for (index_t j = 0; j < keys; ++j) {
            const std::int32_t s = 256 * products[j] + products[keys + j] - bias[j];
            double t = static_cast<double>(s) * (factor * static_cast<double>(ks[j]));
            t = t > limit ? limit : t;
            t = t < -limit ? -limit : t;
            e[j] = static_cast<std::int32_t>(t);
            top = e[j] > top ? e[j] : top;
        }
        std::int64_t sum = 0;
        for (index_t j = 0; j < keys; ++j) {
            const std::uint32_t u = static_cast<std::uint32_t>(top) - static_cast<std::uint32_t>(e[j]);
            const std::uint32_t whole = u >> 15 < 31 ? u >> 15 : 31; // 2^30 >> 31 is 0
            e[j] = detail::exp2_q30(static_cast<std::int32_t>(u & 32767u)) >> whole;
            sum += e[j];
        }
        double largest = 0;
        for (index_t j = 0; j < keys; ++j) {
            const double w = static_cast<double>(e[j]) * static_cast<double>(vs[j]);
            largest = w > largest ? w : largest;
        }
        const double twice = 2 * 65535 / largest;
        for (index_t j = 0; j < keys; ++j) {
            const double w = static_cast<double>(e[j]) * static_cast<double>(vs[j]) * twice;
            const auto code = static_cast<std::uint32_t>(static_cast<std::int32_t>(w) + 1) >> 1;
            a[j] = static_cast<std::uint8_t>(code >> 8);
            b[j] = static_cast<std::uint8_t>(code & 255u);
        }
        return largest / 65535 / static_cast<double>(sum);
    }

    kv_cache_spec spec_;
    index_t tokens_ = 0;
    index_t tokens_room_ = 0; ///< the capacity in whole panels
    index_t k_panel_ = 0, v_panel_ = 0;
    buffer<std::int8_t> k_, v_;
    buffer<std::int32_t> k_sums_;       ///< [kv_heads][tokens_room_]: -128 * sum over d of K
    buffer<float> k_scales_, v_scales_; ///< likewise
    buffer<std::int32_t> zeros_;        ///< for whole panels of d
    buffer<std::int8_t> row_;           ///< one token
    buffer<quant_params> params_;       ///< of one token
};

NOTCH_KEYED_END
