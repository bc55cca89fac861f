// SPDX-License-Identifier: Apache-2.0
//
// all-MiniLM-L6-v2, a BERT encoder for sentence embeddings (Wang et al. 2020, arXiv:2002.10957; Reimers and Gurevych
// 2019, arXiv:1908.10084), one sentence at a time:
//
//     x = norm(word[id] + position + type)
//     6 times:  x = norm(x + out(attention(qkv(x)))),  x = norm(x + down(gelu(up(x))))
//     embedding = mean of x over the tokens, divided by its length
//
// float_network has real numbers between its products, which are in fp32 or quantized on their own; integer_network has
// codes everywhere.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <notch/io/safetensors.hpp>
#include <notch/kernels/add.hpp>
#include <notch/kernels/embedding.hpp>
#include <notch/kernels/gemm_dynamic.hpp>
#include <notch/kernels/lookup.hpp>
#include <notch/kernels/norm.hpp>
#include <notch/kernels/weight_only.hpp>
#include <notch/layers/attention.hpp>
#include <notch/observe/histogram.hpp>
#include <notch/ptq/calibrate.hpp>
#include <notch/ptq/gptq.hpp>
#include <notch/ptq/smooth_quant.hpp>

#include "float_ops.hpp"

namespace minilm {

using notch::buffer;
using notch::context;
using notch::index_t;
using notch::matrix_view;
using notch::quant_params;

constexpr index_t layers = 6, heads = 12, head_size = 32, width = 384, inner = 1536;
constexpr float epsilon = 1e-12f;

template <class T> matrix_view<T> rows_of(buffer<T>& b, index_t rows, index_t cols) { return {b.data(), rows, cols}; }
inline buffer<float> copy(std::span<const float> x) {
    buffer<float> b(static_cast<index_t>(x.size()));
    std::copy(x.begin(), x.end(), b.begin());
    return b;
}

// ---- weights ------------------------------------------------------------------------------------------------------

/// y = x w^T + b: n x k.
struct linear_weights {
    index_t n = 0, k = 0;
    buffer<float> w, b;
};
struct norm_weights {
    buffer<float> gamma, beta;
};
struct layer_weights {
    linear_weights qkv, out, up, down; ///< queries, keys and values are rows of one matrix
    norm_weights norm1, norm2;
};
struct weights {
    buffer<float> words;     ///< vocabulary x width
    buffer<float> positions; ///< with the type of every token added
    norm_weights norm;
    std::vector<layer_weights> layer;

    explicit weights(const std::string& path) {
        const auto file = notch::safetensors::load(path);
        const auto get = [&](const std::string& name, const std::vector<index_t>& shape) {
            return copy(file.tensor<float>(name, shape));
        };
        const auto norm_of = [&](const std::string& name) {
            return norm_weights{get(name + ".weight", {width}), get(name + ".bias", {width})};
        };
        const auto linear = [&](const std::string& name, index_t n, index_t k) {
            return linear_weights{n, k, get(name + ".weight", {n, k}), get(name + ".bias", {n})};
        };
        const std::string e = "embeddings.";
        words = get(e + "word_embeddings.weight", {-1, width});
        positions = get(e + "position_embeddings.weight", {-1, width});
        const buffer<float> types = get(e + "token_type_embeddings.weight", {-1, width});
        for (index_t i = 0; i < positions.size(); ++i) positions[i] += types[i % width];
        norm = norm_of(e + "LayerNorm");
        for (index_t l = 0; l < layers; ++l) {
            const std::string p = "encoder.layer." + std::to_string(l) + ".", self = p + "attention.self.";
            layer_weights w;
            w.qkv = {3 * width, width, buffer<float>(3 * width * width), buffer<float>(3 * width)};
            index_t part = 0;
            for (const char* name : {"query", "key", "value"}) {
                const linear_weights one = linear(self + name, width, width);
                std::copy(one.w.begin(), one.w.end(), w.qkv.w.begin() + part * width * width);
                std::copy(one.b.begin(), one.b.end(), w.qkv.b.begin() + part++ * width);
            }
            w.out = linear(p + "attention.output.dense", width, width);
            w.norm1 = norm_of(p + "attention.output.LayerNorm");
            w.up = linear(p + "intermediate.dense", inner, width);
            w.down = linear(p + "output.dense", width, inner);
            w.norm2 = norm_of(p + "output.LayerNorm");
            layer.push_back(std::move(w));
        }
    }
    [[nodiscard]] std::int64_t values() const {
        std::int64_t n = words.size() + positions.size() + 2 * width;
        for (const layer_weights& l : layer)
            n += l.qkv.w.size() + l.qkv.b.size() + l.out.w.size() + l.out.b.size() + l.up.w.size() + l.up.b.size() +
                 l.down.w.size() + l.down.b.size() + 4 * width;
        return n;
    }
};

/// Symmetric codes of weights, one scale for each channel of the layout.
struct weight_codes {
    buffer<std::int8_t> codes;
    buffer<float> scales;
};
/// group: weights of a row that share a scale. inputs: for GPTQ; null rounds to nearest.
template <int Bits>
weight_codes quantize_weights(const linear_weights& w, index_t group, const notch::input_moments* inputs = nullptr) {
    using range = notch::symmetric<Bits>;
    const notch::channel_layout layout{1, w.n * w.k / group, group};
    std::vector<quant_params> params(static_cast<std::size_t>(layout.count()));
    // At 8 bits the largest weight is kept; at 4 bits the least squared error clips it.
    notch::calibrate<range>(w.w.span(), layout, Bits < 8 ? notch::clip::error() : notch::clip::min_max(), params);
    weight_codes q{buffer<std::int8_t>(w.w.size()), buffer<float>(layout.count())};
    if (inputs)
        notch::gptq<range>({w.w.data(), w.n, w.k}, *inputs, params, {q.codes.data(), w.n, w.k}, {.group = group});
    else
        notch::quantize<range>(w.w.span(), layout, params, q.codes.span());
    for (index_t i = 0; i < q.scales.size(); ++i) q.scales[i] = params[static_cast<std::size_t>(i)].scale;
    return q;
}
inline weight_codes quantize_weights(int bits, const linear_weights& w, index_t group,
                                     const notch::input_moments* inputs) {
    return bits == 8 ? quantize_weights<8>(w, group, inputs) : quantize_weights<4>(w, group, inputs);
}
/// The bytes of codes and scales, densely packed.
inline std::int64_t bytes_of(const weight_codes& q, int bits) {
    return (q.codes.size() * bits + 7) / 8 + 4 * q.scales.size();
}

/// The embedding table with a scale for each word, in INT8.
struct word_table {
    weight_codes q;
    explicit word_table(const buffer<float>& words)
        : q(quantize_weights<8>({words.size() / width, width, words, {}}, width)) {}
};

inline void check_ids(std::span<const std::int32_t> ids, index_t vocabulary, index_t longest) {
    const auto n = static_cast<index_t>(ids.size());
    if (n < 1 || n > longest)
        notch::fail(notch::errc::invalid_argument, notch::detail::cat("minilm: a sentence of ", n, " tokens"));
    for (std::int32_t id : ids)
        if (id < 0 || id >= vocabulary)
            notch::fail(notch::errc::invalid_argument, notch::detail::cat("minilm: there is no word ", id));
}

/// sum / |sum|, the mean having the same direction.
inline void normalize(std::span<const double> sum, float* embedding) {
    double length = 0;
    for (double v : sum) length += v * v;
    length = std::sqrt(length);
    for (double v : sum) *embedding++ = static_cast<float>(v / length);
}

/// Memory for scratch that grows.
class scratch_memory {
public:
    context with(const context& ctx, index_t bytes) {
        if (static_cast<index_t>(memory_.size()) < bytes) memory_.resize(static_cast<std::size_t>(bytes));
        context c = ctx;
        c.workspace = memory_;
        return c;
    }

private:
    std::vector<std::byte> memory_;
};

// ---- real numbers between the products ------------------------------------------------------------------------------

/// How float_network computes a product. Group-wise codes have one scale for 64 weights.
enum class product_kind { fp32, dynamic, group8, group4, group4_a8 };

class float_linear {
public:
    float_linear(const linear_weights& w, product_kind kind, const notch::input_moments* inputs) : kind_(kind), w_(&w) {
        constexpr index_t group = 64;
        bytes_ = 4 * w.b.size();
        switch (kind) {
        case product_kind::fp32: bytes_ += 4 * w.w.size(); break;
        case product_kind::dynamic: {
            const weight_codes q = quantize_weights<8>(w, w.k);
            packed_ = notch::pack(matrix_view<const std::int8_t>(q.codes.data(), w.n, w.k));
            epilogue_ = notch::make_epilogue(packed_, notch::stage::dequantize_rows{q.scales.span()},
                                             notch::stage::real_bias{w.b.span()});
            bytes_ += bytes_of(q, 8);
            break;
        }
        default: {
            const int bits = kind == product_kind::group8 ? 8 : 4;
            const weight_codes q = quantize_weights(bits, w, group, inputs);
            groups_ = notch::pack_groups({q.codes.data(), w.n, w.k}, bits, group, q.scales.span());
            bytes_ += bytes_of(q, bits);
        }
        }
    }
    void run(const buffer<float>& x, index_t rows, buffer<float>& y, scratch_memory& scratch,
             const context& ctx) const {
        const matrix_view<const float> in(x.data(), rows, w_->k);
        const matrix_view<float> out(y.data(), rows, w_->n);
        switch (kind_) {
        case product_kind::fp32:
            fp32::product(x.data(), rows, w_->k, w_->w.data(), w_->n, w_->b.data(), y.data());
            break;
        case product_kind::dynamic:
            notch::gemm_dynamic<notch::affine<8>>(in, packed_, epilogue_, out,
                                                  scratch.with(ctx, notch::gemm_dynamic_workspace_size(rows, w_->k)));
            break;
        case product_kind::group4_a8:
            notch::gemm_group_a8_dynamic(in, groups_, out, w_->b.span(),
                                         scratch.with(ctx, notch::gemm_group_a8_workspace_size(groups_, rows)));
            break;
        default: notch::gemm_weight_only(in, groups_, out, w_->b.span(), ctx);
        }
    }
    [[nodiscard]] std::int64_t bytes() const { return bytes_; }

private:
    product_kind kind_;
    const linear_weights* w_;
    notch::packed_weights packed_;
    notch::epilogue<float> epilogue_;
    notch::packed_group_weights groups_;
    std::int64_t bytes_ = 0;
};

/// What a network shows on its way: where it is, and real values.
enum class place { sum0, x, qkv, attention, out, sum1, norm1, up, gelu, down, sum2, count };

class float_network {
public:
    /// w must outlive the network. inputs: of the products of all layers, for GPTQ of group-wise weights; empty: none.
    float_network(const weights& w, product_kind kind, std::span<const notch::input_moments> inputs = {}) : w_(&w) {
        for (const layer_weights& l : w.layer)
            for (const linear_weights* p : {&l.qkv, &l.out, &l.up, &l.down}) {
                products_.emplace_back(*p, kind, inputs.empty() ? nullptr : &inputs[products_.size()]);
                bytes_ += products_.back().bytes();
            }
        if (kind != product_kind::fp32) words_ = std::make_unique<word_table>(w.words);
        bytes_ += words_ ? bytes_of(words_->q, 8) : 4 * w.words.size();
        bytes_ += 4 * (w.positions.size() + (2 + 4 * layers) * width);
    }
    /// tap(layer, place, values) sees every tensor.
    template <class Tap>
    void run(std::span<const std::int32_t> ids, float* embedding, const context& ctx, const Tap& tap) {
        const auto n = static_cast<index_t>(ids.size());
        check_ids(ids, w_->words.size() / width, w_->positions.size() / width);
        for (buffer<float>* b : {&x_, &y_, &c_}) b->resize_discard(n * width);
        qkv_.resize_discard(n * 3 * width);
        h_.resize_discard(n * inner);
        if (words_)
            notch::embedding<std::int8_t>(
                notch::embedding_table<std::int8_t>{
                    {words_->q.codes.data(), words_->q.scales.size(), width}, words_->q.scales.span(), {}},
                ids, rows_of(x_, n, width), ctx);
        else
            for (index_t i = 0; i < n; ++i)
                std::copy_n(w_->words.data() + ids[static_cast<std::size_t>(i)] * width, width, x_.data() + i * width);
        std::copy_n(w_->positions.data(), n * width, y_.data());
        const auto add_norm = [&](const norm_weights& p, index_t l, place sum) {
            fp32::add_norm(y_.data(), x_.data(), n, width, p.gamma.data(), p.beta.data(), epsilon, ctx.executor);
            tap(l, sum, y_.span());
        };
        add_norm(w_->norm, 0, place::sum0);
        for (index_t l = 0; l < layers; ++l) {
            const layer_weights& w = w_->layer[static_cast<std::size_t>(l)];
            const float_linear* p = products_.data() + 4 * l;
            tap(l, place::x, x_.span());
            p[0].run(x_, n, qkv_, scratch_, ctx);
            tap(l, place::qkv, qkv_.span());
            fp32::attention(qkv_.data(), n, heads, head_size, c_.data(), ctx.executor);
            tap(l, place::attention, c_.span());
            p[1].run(c_, n, y_, scratch_, ctx);
            tap(l, place::out, y_.span());
            add_norm(w.norm1, l, place::sum1);
            tap(l, place::norm1, x_.span());
            p[2].run(x_, n, h_, scratch_, ctx);
            tap(l, place::up, h_.span());
            fp32::gelu(h_.data(), h_.size(), ctx.executor);
            tap(l, place::gelu, h_.span());
            p[3].run(h_, n, y_, scratch_, ctx);
            tap(l, place::down, y_.span());
            add_norm(w.norm2, l, place::sum2);
        }
        tap(layers, place::x, x_.span());
        double sum[width] = {};
        for (index_t i = 0; i < n * width; ++i) sum[i % width] += static_cast<double>(x_[i]);
        normalize(sum, embedding);
    }
    void run(std::span<const std::int32_t> ids, float* embedding, const context& ctx) {
        run(ids, embedding, ctx, [](index_t, place, std::span<const float>) {});
    }
    [[nodiscard]] std::int64_t bytes() const { return bytes_; }

private:
    const weights* w_;
    std::vector<float_linear> products_;
    std::unique_ptr<word_table> words_;
    std::int64_t bytes_ = 0;
    buffer<float> x_, y_, c_, qkv_, h_;
    scratch_memory scratch_;
};

// ---- calibration ----------------------------------------------------------------------------------------------------

/// The factors of SmoothQuant of the inputs of a layer's products; empty: none.
struct smoothing {
    buffer<float> qkv, up, out;
};

/// What the tensors of the fp32 network look like.
class statistics {
public:
    /// The inputs of products, which SmoothQuant divides by its factors.
    enum input { of_qkv, of_up, of_out };

    /// With moments it also keeps what GPTQ needs.
    explicit statistics(std::vector<smoothing> s = {}, bool moments = false) : smooth_(std::move(s)) {
        for (index_t i = 0; i < layers * 4 && moments; ++i) moments_.emplace_back(i % 4 == 3 ? inner : width);
        for (index_t i = 0; i < (layers + 1) * places; ++i) seen_.emplace_back(2048);
        for (index_t i = 0; i < layers * 3; ++i) {
            inputs_.emplace_back(2048);
            parts_.emplace_back(2048);
            magnitudes_.emplace_back(width);
        }
    }
    void observe(index_t layer, place p, std::span<const float> x) {
        if (p == place::qkv) {
            for (index_t part = 0; part < 3; ++part) observe_part(layer, part, x);
            return;
        }
        seen_[at(layer, p)].observe(x);
        if (layer == layers) return;
        const smoothing* s = smooth_.empty() ? nullptr : &smooth_[static_cast<std::size_t>(layer)];
        if (p == place::x) observe_input(layer, of_qkv, x, s ? &s->qkv : nullptr);
        if (p == place::norm1) observe_input(layer, of_up, x, s ? &s->up : nullptr);
        if (p == place::attention) observe_input(layer, of_out, x, s ? &s->out : nullptr);
        if (p == place::gelu) observe_moments(layer, 3, x);
    }
    [[nodiscard]] const notch::histogram& operator()(index_t layer, place p) const { return seen_[at(layer, p)]; }
    [[nodiscard]] const notch::histogram& operator()(index_t layer, input of) const {
        return inputs_[three(layer, of)];
    }
    /// Queries, keys or values.
    [[nodiscard]] const notch::histogram& part(index_t layer, index_t of) const { return parts_[three(layer, of)]; }

    /// Of the inputs of qkv, out, up and down of each layer; empty without moments.
    [[nodiscard]] std::span<const notch::input_moments> moments() const { return moments_; }

    /// The factors for these weights by the magnitudes seen.
    [[nodiscard]] std::vector<smoothing> smooth(const weights& w, double alpha) const {
        std::vector<smoothing> all;
        for (index_t l = 0; l < layers; ++l) {
            const layer_weights& of = w.layer[static_cast<std::size_t>(l)];
            const auto factors = [&](const linear_weights& p, input in) {
                buffer<float> m(width), f(width);
                notch::widen_input_magnitudes(p.w.span(), notch::linear_weights(p.n, p.k), m.span());
                notch::smooth_factors(magnitudes_[three(l, in)].span(), m.span(), alpha, f.span());
                return f;
            };
            all.push_back({factors(of.qkv, of_qkv), factors(of.up, of_up), factors(of.out, of_out)});
        }
        return all;
    }

private:
    static constexpr index_t places = static_cast<index_t>(place::count);
    static std::size_t at(index_t layer, place p) {
        return static_cast<std::size_t>(layer * places + static_cast<index_t>(p));
    }
    static std::size_t three(index_t layer, index_t of) { return static_cast<std::size_t>(layer * 3 + of); }

    void observe_part(index_t layer, index_t part, std::span<const float> qkv) {
        const float* divisor =
            part == 2 && !smooth_.empty() ? smooth_[static_cast<std::size_t>(layer)].out.data() : nullptr;
        values_.clear();
        for (std::size_t row = 0; row < qkv.size(); row += 3 * width)
            for (index_t c = 0; c < width; ++c)
                values_.push_back(qkv[row + static_cast<std::size_t>(part * width + c)] /
                                  (divisor ? divisor[c] : 1.0f));
        parts_[three(layer, part)].observe(values_);
    }
    void observe_input(index_t layer, input of, std::span<const float> x, const buffer<float>* divisor) {
        buffer<float>& m = magnitudes_[three(layer, of)];
        values_.assign(x.begin(), x.end());
        for (std::size_t i = 0; i < x.size(); ++i) {
            const auto c = static_cast<index_t>(i % width);
            m[c] = std::max(m[c], std::fabs(x[i]));
            if (divisor) values_[i] /= (*divisor)[c];
        }
        inputs_[three(layer, of)].observe(values_);
        observe_moments(layer, of == of_qkv ? 0 : of == of_out ? 1 : 2, values_);
    }
    void observe_moments(index_t layer, index_t product, std::span<const float> x) {
        if (moments_.empty()) return;
        notch::input_moments& m = moments_[static_cast<std::size_t>(layer * 4 + product)];
        m.observe({x.data(), static_cast<index_t>(x.size()) / m.inputs(), m.inputs()});
    }

    std::vector<smoothing> smooth_;
    std::vector<notch::histogram> seen_, inputs_, parts_;
    std::vector<buffer<float>> magnitudes_;
    std::vector<notch::input_moments> moments_;
    std::vector<float> values_;
};

// ---- codes everywhere -----------------------------------------------------------------------------------------------

/// How integer_network is made.
struct integer_options {
    int weight_bits = 8;
    notch::clip clip = notch::clip::min_max(); ///< of the activations
    std::vector<smoothing> smooth;             ///< SmoothQuant; empty: none
    bool gptq = false;                         ///< by the moments of the statistics
};

/// Residual: the codes of the sums around each block and of their norms, std::int16_t or std::uint8_t.
template <class Residual> class integer_network {
    static constexpr bool wide = std::is_same_v<Residual, std::int16_t>;
    using residual_range = std::conditional_t<wide, notch::symmetric<16>, notch::affine<8>>;

public:
    /// seen was made with o.smooth.
    integer_network(const weights& w, const statistics& seen, const integer_options& o)
        : words_(w.words), vocabulary_(w.words.size() / width), positions_(w.positions.size()) {
        sum0_ = grid<notch::symmetric<16>>(seen(0, place::sum0).range(), seen(0, place::sum0).range());
        notch::quantize<notch::symmetric<16>>(w.positions.span(), sum0_, positions_.span());
        for (float s : words_.q.scales)
            word_multipliers_.push_back(static_cast<float>(static_cast<double>(s) / static_cast<double>(sum0_.scale)));
        bytes_ = bytes_of(words_.q, 8) + 2 * positions_.size() + 8 * width;
        layer_.resize(w.layer.size());
        final_ = grid<residual_range>(seen(layers, place::x).range(), {});
        for (index_t l = 0; l < layers; ++l) make_layer(l, w.layer[static_cast<std::size_t>(l)], seen, o);
        const layer& first = layer_[0];
        set_norms(norm0_, w.norm, sum0_, first.x, first.x_codes, o.smooth.empty() ? nullptr : &o.smooth[0].qkv);
        for (index_t l = 0; l < layers; ++l) {
            layer& y = layer_[static_cast<std::size_t>(l)];
            const layer_weights& from = w.layer[static_cast<std::size_t>(l)];
            const bool last = l == layers - 1;
            const layer* next = last ? nullptr : &layer_[static_cast<std::size_t>(l + 1)];
            const smoothing* s = o.smooth.empty() ? nullptr : &o.smooth[static_cast<std::size_t>(l)];
            const smoothing* then = o.smooth.empty() || last ? nullptr : &o.smooth[static_cast<std::size_t>(l + 1)];
            set_norms(y.norm1, from.norm1, y.sum1, y.middle, y.middle_codes, s ? &s->up : nullptr);
            set_norms(y.norm2, from.norm2, y.sum2, last ? final_ : next->x, last ? y.middle_codes : next->x_codes,
                      then ? &then->qkv : nullptr);
        }
    }

    /// tap(layer, place, codes, params) sees what goes around the blocks: sum1, norm1, sum2, x.
    template <class Tap>
    void run(std::span<const std::int32_t> ids, float* embedding, const context& ctx, const Tap& tap) {
        const auto n = static_cast<index_t>(ids.size());
        check_ids(ids, vocabulary_, positions_.size() / width);
        for (buffer<Residual>* b : {&x_, &y_}) b->resize_discard(n * width);
        for (buffer<std::uint8_t>* b : {&codes_, &c_}) b->resize_discard(n * width);
        start_.resize_discard(n * width);
        qkv_.resize_discard(n * 3 * width);
        h_.resize_discard(n * inner);
        embed(ids);
        norms(start_, norm0_, n, ctx);
        for (index_t l = 0; l < layers; ++l) {
            layer& p = layer_[static_cast<std::size_t>(l)];
            tap(l, place::x, x_.span(), p.x);
            notch::gemm(rows_of(codes_, n, width), p.qkv.w, p.qkv.ep, rows_of(qkv_, n, 3 * width), ctx);
            const notch::attention& attend = attention_of(p, n);
            const auto part = [&](index_t of) {
                return matrix_view<const std::int8_t>(qkv_.data() + of * width, n, width, 3 * width);
            };
            attend.run(part(0), part(1), part(2), rows_of(c_, n, width),
                       scratch_.with(ctx, attend.workspace_size(n, ctx)));
            notch::gemm(rows_of(c_, n, width), p.out.w, p.out.ep, rows_of(y_, n, width), ctx);
            add(p.add1, ctx);
            tap(l, place::sum1, y_.span(), p.sum1);
            norms(y_, p.norm1, n, ctx);
            tap(l, place::norm1, x_.span(), p.middle);
            notch::gemm(rows_of(codes_, n, width), p.up.w, p.up.ep, rows_of(h_, n, inner), ctx);
            notch::lookup<std::uint8_t, std::uint8_t>(h_.span(), p.gelu, h_.span(), ctx);
            notch::gemm(rows_of(h_, n, inner), p.down.w, p.down.ep, rows_of(y_, n, width), ctx);
            add(p.add2, ctx);
            tap(l, place::sum2, y_.span(), p.sum2);
            norms(y_, p.norm2, n, ctx, l + 1 < layers);
        }
        tap(layers, place::x, x_.span(), final_);
        std::int64_t sum[width] = {};
        for (index_t i = 0; i < n * width; ++i) sum[i % width] += x_[i] - final_.zero_point;
        double real[width];
        for (index_t c = 0; c < width; ++c) real[c] = static_cast<double>(sum[c]);
        normalize(real, embedding);
    }
    void run(std::span<const std::int32_t> ids, float* embedding, const context& ctx) {
        run(ids, embedding, ctx, [](index_t, place, std::span<const Residual>, quant_params) {});
    }
    [[nodiscard]] std::int64_t bytes() const { return bytes_; }

private:
    template <class Out> struct product {
        notch::packed_weights w;
        notch::epilogue<Out> ep;
    };
    /// The norm of one sum twice: around the next block, and into its product, whose SmoothQuant is in gamma and beta.
    template <class From> struct two_norms {
        notch::norm_params<From, Residual> residual;
        notch::norm_params<From, std::uint8_t> codes;
    };
    struct layer {
        quant_params x, x_codes, middle, middle_codes, sum1, sum2;
        product<std::int8_t> qkv;
        product<Residual> out, down;
        product<std::uint8_t> up;
        notch::attention_spec attention;
        std::map<index_t, std::unique_ptr<notch::attention>> by_length;
        notch::add_params add1, add2;
        two_norms<Residual> norm1, norm2;
        notch::lookup_table<std::uint8_t, std::uint8_t> gelu;
    };

    /// The grid of two tensors that are added without rescaling; their sum fits s16 whatever they are within the ranges
    /// seen, with as much again to spare.
    template <class Range> static quant_params grid(notch::real_range a, notch::real_range b) {
        if constexpr (Range::bits == 16) {
            const auto most = [](notch::real_range r) { return r.empty() ? 0.0f : std::max(-r.min, r.max); };
            const float m = 2 * (most(a) + most(b));
            return notch::params_from_range<Range>({-m, m});
        } else {
            return notch::params_from_range<Range>({std::min(a.min, b.min), std::max(a.max, b.max)});
        }
    }

    void make_layer(index_t l, const layer_weights& w, const statistics& seen, const integer_options& o) {
        using notch::stage::bias;
        layer& y = layer_[static_cast<std::size_t>(l)];
        const auto params = [&](const notch::histogram& h) { return notch::calibrate<notch::affine<8>>(h, o.clip); };
        const auto signed_params = [&](index_t part) {
            return notch::calibrate<notch::symmetric<8>>(seen.part(l, part), o.clip);
        };
        y.x_codes = params(seen(l, statistics::of_qkv));
        y.middle_codes = params(seen(l, statistics::of_up));
        const notch::real_range x = seen(l, place::x).range(), middle = seen(l, place::norm1).range();
        if constexpr (wide) { // the input of a sum lies on its grid
            y.x = y.sum1 = grid<residual_range>(x, seen(l, place::out).range());
            y.middle = y.sum2 = grid<residual_range>(middle, seen(l, place::down).range());
        } else {
            y.x = grid<residual_range>(x, x);
            y.middle = grid<residual_range>(middle, middle);
            y.sum1 = notch::calibrate<residual_range>(seen(l, place::sum1), o.clip);
            y.sum2 = notch::calibrate<residual_range>(seen(l, place::sum2), o.clip);
        }
        const quant_params q = signed_params(0), k = signed_params(1), v = signed_params(2),
                           c = params(seen(l, statistics::of_out));
        y.attention = {heads, head_size, 0, q, k, v, c, 0.0f, false};

        linear_weights qkv = w.qkv, out = w.out, up = w.up;
        if (!o.smooth.empty()) {
            const smoothing& s = o.smooth[static_cast<std::size_t>(l)];
            notch::smooth_weights(qkv.w.span(), notch::linear_weights(qkv.n, qkv.k), s.qkv.span());
            notch::smooth_weights(up.w.span(), notch::linear_weights(up.n, up.k), s.up.span());
            notch::smooth_weights(out.w.span(), notch::linear_weights(out.n, out.k), s.out.span());
            notch::smooth_source(qkv.w.span().subspan(2 * width * width), {1, width, width}, s.out.span());
            notch::smooth_source(qkv.b.span().subspan(2 * width), {1, width, 1}, s.out.span());
        }
        // One product, three output grids: what they differ by goes into the scales of the weights.
        const auto fill = [&](index_t number, auto& to, const linear_weights& from, quant_params in, auto output,
                              const auto& factor) {
            const auto at = static_cast<std::size_t>(4 * l + number);
            const weight_codes codes =
                quantize_weights(o.weight_bits, from, from.k, o.gptq ? &seen.moments()[at] : nullptr);
            to.w = notch::pack(matrix_view<const std::int8_t>(codes.codes.data(), from.n, from.k));
            buffer<float> scales(from.n);
            buffer<std::int32_t> b(from.n);
            for (index_t i = 0; i < from.n; ++i) {
                b[i] = static_cast<std::int32_t>(
                    std::nearbyint(static_cast<double>(from.b[i]) /
                                   (static_cast<double>(in.scale) * static_cast<double>(codes.scales[i]))));
                scales[i] = codes.scales[i] * factor(i);
            }
            output.x = in;
            output.w_scales = scales.span();
            to.ep = notch::make_epilogue(to.w, bias{b.span()}, output);
            bytes_ += bytes_of(codes, o.weight_bits) + 4 * b.size();
        };
        const auto none = [](index_t) { return 1.0f; };
        fill(0, y.qkv, qkv, y.x_codes, notch::stage::requantize<notch::symmetric<8>>{{}, {}, {1.0f, 0}},
             [&](index_t i) {
                 return 1.0f / (i < width ? q.scale : i < 2 * width ? k.scale : v.scale);
             });
        using to_residual = notch::stage::requantize<residual_range>;
        const auto out_params = wide ? y.sum1 : params(seen(l, place::out)),
                   down_params = wide ? y.sum2 : params(seen(l, place::down));
        fill(1, y.out, out, c, to_residual{{}, {}, out_params}, none);
        if constexpr (!wide) {
            y.add1 = notch::make_add(y.x, out_params, y.sum1);
            y.add2 = notch::make_add(y.middle, down_params, y.sum2);
        }
        // Below -5 GELU is 0 for all that 8 bits can tell: those codes serve better elsewhere.
        notch::real_range up_range = notch::clip_range<notch::affine<8>>(seen(l, place::up).view(), o.clip);
        up_range.min = std::max(up_range.min, -5.0f);
        const quant_params before = notch::params_from_range<notch::affine<8>>(up_range),
                           after = params(seen(l, place::gelu));
        fill(2, y.up, up, y.middle_codes, notch::stage::requantize<notch::affine<8>>{{}, {}, before}, none);
        y.gelu = notch::make_lookup<std::uint8_t, std::uint8_t>(notch::functions::gelu, before, after);
        fill(3, y.down, w.down, after, to_residual{{}, {}, down_params}, none);
        bytes_ += 4 * 4 * width;
    }

    template <class From>
    void set_norms(two_norms<From>& to, const norm_weights& w, quant_params in, quant_params residual,
                   quant_params codes, const buffer<float>* smooth) {
        to.residual =
            notch::make_layer_norm<From, Residual>(width, in, epsilon, w.gamma.span(), w.beta.span(), residual);
        buffer<float> gamma = w.gamma, beta = w.beta;
        if (smooth) {
            notch::smooth_source(gamma.span(), {1, width, 1}, smooth->span());
            notch::smooth_source(beta.span(), {1, width, 1}, smooth->span());
        }
        to.codes = notch::make_layer_norm<From, std::uint8_t>(width, in, epsilon, gamma.span(), beta.span(), codes);
    }
    template <class From>
    void norms(buffer<From>& from, const two_norms<From>& p, index_t n, const context& ctx, bool both = true) {
        notch::norm(rows_of(from, n, width), p.residual, rows_of(x_, n, width), ctx);
        if (both) notch::norm(rows_of(from, n, width), p.codes, rows_of(codes_, n, width), ctx);
    }
    /// y += x.
    void add(const notch::add_params& p, const context& ctx) {
        if constexpr (wide) {
            for (index_t i = 0; i < y_.size(); ++i)
                y_[i] = static_cast<std::int16_t>(std::clamp(y_[i] + x_[i], -32768, 32767));
        } else {
            notch::add(x_.span(), y_.span(), p, y_.span(), ctx);
        }
    }
    void embed(std::span<const std::int32_t> ids) {
        for (std::size_t i = 0; i < ids.size(); ++i) {
            const auto at = static_cast<index_t>(i) * width, word = static_cast<index_t>(ids[i]);
            const float m = word_multipliers_[static_cast<std::size_t>(word)];
            for (index_t c = 0; c < width; ++c) {
                const std::int32_t code =
                    notch::requantize_float(words_.q.codes[word * width + c], m, 0, {-32767, 32767});
                start_[at + c] = static_cast<std::int16_t>(std::clamp(code + positions_[at + c], -32768, 32767));
            }
        }
    }
    const notch::attention& attention_of(layer& p, index_t n) {
        auto& a = p.by_length[n];
        if (!a) {
            notch::attention_spec s = p.attention;
            s.keys = n;
            a = std::make_unique<notch::attention>(s);
        }
        return *a;
    }

    word_table words_;
    index_t vocabulary_;
    std::vector<float> word_multipliers_;
    quant_params sum0_, final_;
    buffer<std::int16_t> positions_, start_;
    two_norms<std::int16_t> norm0_;
    std::vector<layer> layer_;
    std::int64_t bytes_ = 0;
    buffer<Residual> x_, y_;
    buffer<std::uint8_t> codes_, c_, h_;
    buffer<std::int8_t> qkv_;
    scratch_memory scratch_;
};

} // namespace minilm
