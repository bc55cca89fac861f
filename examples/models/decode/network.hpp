// SPDX-License-Identifier: Apache-2.0
//
// A decoder as of Llama (Touvron et al. 2023, arXiv:2302.13971) at one token a step. Each block:
//
//     x += W_out attention(rotated q, rotated k, v),   [q, k, v] = W_qkv rms_norm(x)
//     x += W_down (silu(g) * u),                       [g, u]    = W_gate_up rms_norm(x)
//
// with RMS norm (Zhang & Sennrich 2019, arXiv:1910.07467), rotary embedding (Su et al. 2021, arXiv:2104.09864, the
// halves of a head rotated as pairs), SwiGLU (Shazeer 2020, arXiv:2002.05202) and, if kv_heads < heads, grouped
// queries. The four products of a block and its cache of keys and values are what takes memory and time, and they alone
// are quantized.
#pragma once

#include <Eigen/Core>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include <notch/kernels/weight_only.hpp>
#include <notch/layers/kv_cache.hpp>

namespace decode {

using notch::context;
using notch::index_t;
using vector_map = Eigen::Map<Eigen::ArrayXf>;
using const_vector = Eigen::Map<const Eigen::ArrayXf>;
using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct shape {
    index_t width, heads, kv_heads, head_size, inner, blocks;

    [[nodiscard]] index_t queries() const { return heads * head_size; }
    [[nodiscard]] index_t keys() const { return kv_heads * head_size; }
    /// Outputs and inputs of the products of a block: qkv, out, gate and up, down.
    [[nodiscard]] std::array<std::array<index_t, 2>, 4> products() const {
        return {{{queries() + 2 * keys(), width}, {width, queries()}, {2 * inner, width}, {width, inner}}};
    }
};
enum product { qkv, out, gate_up, down };

/// Random weights of variance 2 / inputs.
struct real_weights {
    shape s;
    std::vector<std::array<std::vector<float>, 4>> blocks;
    std::vector<std::array<std::vector<float>, 2>> gamma; ///< of the norms, near 1

    real_weights(const shape& of, unsigned seed) : s(of) {
        std::mt19937 random(seed);
        for (index_t b = 0; b < s.blocks; ++b) {
            auto& block = blocks.emplace_back();
            for (std::size_t p = 0; p < 4; ++p) {
                const auto [n, k] = s.products()[p];
                std::normal_distribution<float> draw(0.0f, std::sqrt(2.0f / static_cast<float>(k)));
                block[p].resize(static_cast<std::size_t>(n * k));
                for (float& w : block[p]) w = draw(random);
            }
            std::normal_distribution<float> draw(1.0f, 0.1f);
            for (auto& g : gamma.emplace_back()) {
                g.resize(static_cast<std::size_t>(s.width));
                for (float& x : g) x = draw(random);
            }
        }
    }
    [[nodiscard]] std::int64_t bytes() const {
        std::size_t n = 0;
        for (const auto& block : blocks)
            for (const auto& w : block) n += w.size();
        return static_cast<std::int64_t>(4 * n);
    }
};

/// The same in groups of 64 along the inputs: symmetric codes by the largest magnitude, scales of 16 bits.
struct group_weights {
    static constexpr index_t group = 64;
    std::vector<std::array<notch::packed_group_weights, 4>> blocks;

    template <int Bits> static group_weights of(const real_weights& w) {
        group_weights r;
        std::vector<std::int8_t> codes;
        std::vector<notch::quant_params> params;
        std::vector<float> scales;
        for (const auto& block : w.blocks) {
            auto& to = r.blocks.emplace_back();
            for (std::size_t p = 0; p < 4; ++p) {
                const auto [n, k] = w.s.products()[p];
                const index_t groups = n * k / group;
                codes.resize(block[p].size());
                params.resize(static_cast<std::size_t>(groups));
                notch::quantize_rows_dynamic<notch::symmetric<Bits>>({block[p].data(), groups, group},
                                                                     {codes.data(), groups, group}, params);
                scales.clear();
                for (const auto& q : params) scales.push_back(q.scale);
                to[p] = notch::pack_groups({codes.data(), n, k}, Bits, group, scales, {}, notch::scale_format::f16);
            }
        }
        return r;
    }
    [[nodiscard]] std::int64_t bytes() const {
        std::int64_t n = 0;
        for (const auto& block : blocks)
            for (const auto& w : block) n += w.bytes();
        return n;
    }
};

/// What notch::kv_cache does, in fp32.
struct real_cache {
    shape s;
    std::vector<float> k, v; ///< [kv_heads][capacity][head_size]
    Eigen::VectorXf scores;
    index_t capacity, tokens = 0;

    real_cache(const shape& of, index_t room)
        : s(of), k(static_cast<std::size_t>(room * of.keys())), v(k.size()), scores(room), capacity(room) {}

    void append(const float* key, const float* value) {
        for (index_t h = 0; h < s.kv_heads; ++h) {
            const index_t at = (h * capacity + tokens) * s.head_size;
            std::copy_n(key + h * s.head_size, s.head_size, k.data() + at);
            std::copy_n(value + h * s.head_size, s.head_size, v.data() + at);
        }
        ++tokens;
    }
    void attend(const float* q, float* y) {
        const index_t group = s.heads / s.kv_heads;
        const float scale = 1.0f / std::sqrt(static_cast<float>(s.head_size));
        auto p = scores.head(tokens);
        for (index_t h = 0; h < s.heads; ++h) {
            const index_t at = h / group * capacity * s.head_size;
            const Eigen::Map<const row_major> keys(k.data() + at, tokens, s.head_size),
                values(v.data() + at, tokens, s.head_size);
            p.noalias() = keys * const_vector(q + h * s.head_size, s.head_size).matrix();
            p = ((p.array() - p.maxCoeff()) * scale).exp();
            vector_map to(y + h * s.head_size, s.head_size);
            to.matrix().noalias() = values.transpose() * p;
            to /= p.sum();
        }
    }
    [[nodiscard]] std::int64_t bytes() const { return 8 * tokens * s.keys(); }
};

/// How the products of a decoder are computed.
enum class arithmetic { fp32, weight_only, codes };

/// One sequence of tokens. The weights must outlive it; groups is null for fp32.
class decoder {
public:
    decoder(const real_weights& w, const group_weights* groups, arithmetic a, bool cache_codes, index_t capacity)
        : w_(w), groups_(groups), arithmetic_(a) {
        const shape& s = w.s;
        for (index_t b = 0; b < s.blocks; ++b) {
            if (cache_codes)
                codes_.emplace_back(notch::kv_cache_spec{s.heads, s.kv_heads, s.head_size, capacity});
            else
                reals_.emplace_back(s, capacity);
        }
        const auto floats = [](index_t n) { return notch::buffer<float>(n); };
        normal_ = floats(s.width);
        qkv_ = floats(s.queries() + 2 * s.keys());
        attended_ = floats(s.queries());
        gate_up_ = floats(2 * s.inner);
        added_ = floats(s.width);
        angles_ = floats(s.head_size);
        for (index_t i = 0; i < s.head_size / 2; ++i)
            frequencies_.push_back(std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(s.head_size / 2)));
    }

    [[nodiscard]] index_t tokens() const { return codes_.empty() ? reals_.front().tokens : codes_.front().size(); }
    void truncate(index_t n) {
        for (auto& c : codes_) c.truncate(n);
        for (auto& c : reals_) c.tokens = n;
    }
    /// Bytes that the next token reads of weights and caches.
    [[nodiscard]] std::int64_t bytes() const {
        std::int64_t n = groups_ ? groups_->bytes() : w_.bytes();
        for (const auto& c : codes_) n += c.bytes();
        for (const auto& c : reals_) n += c.bytes();
        return n;
    }

    /// The next token: x, of width elements, becomes the output of the last block.
    void step(std::span<float> x, const context& ctx) {
        const shape& s = w_.s;
        vector_map stream(x.data(), s.width), added(added_.data(), s.width);
        set_angles(tokens());
        float *q = qkv_.data(), *k = q + s.queries(), *v = k + s.keys();
        for (std::size_t b = 0; b < w_.blocks.size(); ++b) {
            normalize(x, w_.gamma[b][0]);
            multiply(b, qkv, normal_, qkv_, ctx);
            rotate(q, s.heads);
            rotate(k, s.kv_heads);
            if (codes_.empty()) {
                reals_[b].append(k, v);
                reals_[b].attend(q, attended_.data());
            } else {
                codes_[b].append({k, 1, s.keys()}, {v, 1, s.keys()}, ctx);
                codes_[b].attend({q, static_cast<std::size_t>(s.queries())}, attended_.span(),
                                 with_memory(codes_[b].workspace_size(ctx), ctx));
            }
            multiply(b, out, attended_, added_, ctx);
            stream += added;
            normalize(x, w_.gamma[b][1]);
            multiply(b, gate_up, normal_, gate_up_, ctx);
            vector_map g(gate_up_.data(), s.inner);
            g = g / (1.0f + (-g).exp()) * const_vector(gate_up_.data() + s.inner, s.inner);
            multiply(b, down, gate_up_, added_, ctx);
            stream += added;
        }
    }

private:
    void normalize(std::span<const float> x, const std::vector<float>& gamma) {
        const const_vector from(x.data(), w_.s.width), g(gamma.data(), w_.s.width);
        vector_map(normal_.data(), w_.s.width) = from * (1.0f / std::sqrt(from.square().mean() + 1e-5f)) * g;
    }
    void set_angles(index_t position) {
        const index_t half = w_.s.head_size / 2;
        for (index_t i = 0; i < half; ++i) {
            const double angle = static_cast<double>(position) * frequencies_[static_cast<std::size_t>(i)];
            angles_[i] = static_cast<float>(std::cos(angle));
            angles_[half + i] = static_cast<float>(std::sin(angle));
        }
    }
    void rotate(float* x, index_t heads) const {
        const index_t half = w_.s.head_size / 2;
        for (index_t h = 0; h < heads; ++h, x += 2 * half)
            for (index_t i = 0; i < half; ++i) {
                const float a = x[i], b = x[half + i], c = angles_[i], s = angles_[half + i];
                x[i] = a * c - b * s;
                x[half + i] = b * c + a * s;
            }
    }
    /// x may be longer than the product's inputs.
    void multiply(std::size_t block, product p, const notch::buffer<float>& x, notch::buffer<float>& y,
                  const context& ctx) {
        const auto [n, k] = w_.s.products()[p];
        const notch::matrix_view<const float> from(x.data(), 1, k);
        const notch::matrix_view<float> to(y.data(), 1, n);
        if (arithmetic_ == arithmetic::fp32) {
            vector_map(y.data(), n).matrix().noalias() =
                Eigen::Map<const row_major>(w_.blocks[block][p].data(), n, k) * const_vector(x.data(), k).matrix();
        } else if (const auto& w = groups_->blocks[block][p]; arithmetic_ == arithmetic::weight_only) {
            notch::gemm_weight_only(from, w, to, {}, ctx);
        } else {
            notch::gemm_group_a8_dynamic(from, w, to, {}, with_memory(notch::gemm_group_a8_workspace_size(w, 1), ctx));
        }
    }
    context with_memory(index_t bytes, const context& ctx) {
        if (memory_.size() < bytes) memory_.resize_discard(bytes);
        return context(ctx.target, ctx.executor, memory_.span());
    }

    const real_weights& w_;
    const group_weights* groups_;
    arithmetic arithmetic_;
    std::vector<notch::kv_cache> codes_; ///< one of the two, a cache for each block
    std::vector<real_cache> reals_;
    notch::buffer<float> normal_, qkv_, attended_, gate_up_, added_, angles_;
    std::vector<double> frequencies_; ///< of the rotary embedding
    notch::buffer<std::byte> memory_;
};

} // namespace decode
