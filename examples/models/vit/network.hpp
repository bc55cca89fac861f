// SPDX-License-Identifier: Apache-2.0
//
// A small vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929) for the digits, with the norms before the
// branches and the mean of the tokens instead of a class token:
//
//     28 x 28 -> patches by a strided convolution, plus learned positions
//     blocks times:  x += out(attention(q, k, v of norm(x))),  x += down(gelu(up(norm(x))))
//     norm -> mean over the tokens -> 10 logits
//
// The stream x is u8 codes throughout, with a grid of its own behind each sum. vit trains; frozen_vit ships.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <notch/kernels/pool.hpp>
#include <notch/layers/attention_layer.hpp>
#include <notch/layers/layer_norm.hpp>
#include <notch/layers/lookup.hpp>
#include <notch/layers/pool.hpp>
#include <notch/layers/train.hpp>

namespace vit {

using notch::activation;
using notch::buffer;
using notch::context;
using notch::index_t;
using notch::phase;
using notch::quant_params;

struct shape {
    index_t patch = 7, width = 64, heads = 4, hidden = 128, blocks = 2;

    [[nodiscard]] index_t side() const { return 28 / patch; }
    [[nodiscard]] index_t tokens() const { return side() * side(); }
    [[nodiscard]] notch::window patches() const {
        notch::window w;
        w.kernel_h = w.kernel_w = w.stride_h = w.stride_w = patch;
        return w;
    }
};
inline constexpr index_t classes = 10;

/// y = x + a learned vector for each token, whose grid spans its values.
class position_layer {
public:
    struct parameter {
        const char* name;
        std::span<float> value, gradient;
        bool decay;
    };
    notch::add_layer sum;
    buffer<float> value, gradient;

    position_layer(index_t tokens, index_t width) : value(tokens * width), gradient(tokens * width) {}

    template <class F> void parameters(F&& f) { f(parameter{"positions", value, gradient, false}); }
    void copy_from(const position_layer& o) {
        value = o.value;
        sum.output_observer = o.sum.output_observer;
    }
    [[nodiscard]] quant_params params() const {
        const auto [lo, hi] = std::minmax_element(value.begin(), value.end());
        notch::real_range r;
        r.min = *lo;
        r.max = *hi;
        return notch::params_from_range<notch::affine<8>>(r);
    }
    void forward(const activation& x, activation& y, phase p, bool training, const context& ctx) {
        repeated_.reshape(x.n, x.h, x.w, x.c);
        repeated_.quantized = false;
        repeated_.values.resize_discard(x.size());
        for (index_t i = 0; i < x.n; ++i)
            std::copy(value.begin(), value.end(), repeated_.values.data() + i * value.size());
        if (p == phase::quantized) notch::quantize_input(repeated_, params(), ctx);
        sum.forward(x, repeated_, y, p, training, ctx);
    }
    /// dy becomes the gradient of x.
    void backward(std::span<float> dy) {
        sum.backward(dy);
        for (std::size_t i = 0; i < dy.size(); ++i) gradient[static_cast<index_t>(i) % value.size()] += dy[i];
    }

private:
    activation repeated_;
};

template <class Weights> struct block {
    using linear = notch::linear_layer<Weights>;
    notch::layer_norm_layer<> norm1, norm2;
    linear q, k, v, out, up, down;
    notch::attention_layer<> attention;
    notch::gelu_layer<> gelu;
    notch::add_layer add1, add2;
    activation n1, aq, ak, av, a, o, x1, n2, u, g, d, x2;

    explicit block(const shape& s)
        : norm1(s.width), norm2(s.width), q(s.width, s.width), k(s.width, s.width), v(s.width, s.width),
          out(s.width, s.width), up(s.width, s.hidden), down(s.hidden, s.width), attention(s.heads) {}

    const activation& forward(const activation& x, phase p, bool training, const context& ctx) {
        norm1.forward(x, n1, p, training, ctx);
        q.forward(n1, aq, p, training, ctx);
        k.forward(n1, ak, p, training, ctx);
        v.forward(n1, av, p, training, ctx);
        attention.forward(aq, ak, av, a, p, training, ctx);
        out.forward(a, o, p, training, ctx);
        add1.forward(x, o, x1, p, training, ctx);
        norm2.forward(x1, n2, p, training, ctx);
        up.forward(n2, u, p, training, ctx);
        gelu.forward(u, g, p, training, ctx);
        down.forward(g, d, p, training, ctx);
        add2.forward(x1, d, x2, p, training, ctx);
        return x2;
    }
    /// dx: gradient of the output, becomes that of the input.
    void backward(std::span<float> dx, const context& ctx) {
        const auto n = static_cast<index_t>(dx.size());
        for (buffer<float>* b : {&branch_, &dq_, &dk_, &dv_, &dn_}) b->resize_discard(n);
        dh_.resize_discard(g.size());
        add2.backward(dx);
        std::copy(dx.begin(), dx.end(), branch_.begin());
        down.backward(branch_, dh_, ctx);
        gelu.backward(dh_, dh_);
        up.backward(dh_, dn_, ctx);
        norm2.backward(dn_, branch_, ctx);
        add(dx, branch_);
        add1.backward(dx);
        std::copy(dx.begin(), dx.end(), branch_.begin());
        out.backward(branch_, dn_, ctx);
        attention.backward(dn_, dq_, dk_, dv_, ctx);
        q.backward(dq_, dn_, ctx);
        k.backward(dk_, branch_, ctx);
        add(dn_, branch_);
        v.backward(dv_, branch_, ctx);
        add(dn_, branch_);
        norm1.backward(dn_, branch_, ctx);
        add(dx, branch_);
    }
    template <class F, class... Others> void layers(F&& f, Others&... others) {
        f("norm1", norm1, others.norm1...);
        f("q", q, others.q...);
        f("k", k, others.k...);
        f("v", v, others.v...);
        f("out", out, others.out...);
        f("norm2", norm2, others.norm2...);
        f("up", up, others.up...);
        f("down", down, others.down...);
    }
    template <class F, class... Others> void observed(F&& f, Others&... others) {
        f("attention", attention, others.attention...);
        f("add1", add1, others.add1...);
        f("gelu", gelu, others.gelu...);
        f("add2", add2, others.add2...);
    }
    template <class F> void activations(F&& f) const {
        for (const activation* t : {&n1, &aq, &ak, &av, &a, &o, &x1, &n2, &u, &g, &d, &x2}) f(*t);
    }

private:
    static void add(std::span<float> to, std::span<const float> from) {
        for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
    }
    buffer<float> branch_, dq_, dk_, dv_, dn_, dh_;
};

template <class Weights> struct network {
    shape form;
    notch::conv2d_layer<Weights> embed;
    position_layer positions;
    std::vector<std::unique_ptr<block<Weights>>> blocks; // their layers point to their activations
    notch::layer_norm_layer<> norm;
    notch::global_average_layer mean;
    notch::linear_layer<Weights> head;
    activation e, x0, n, m, logits;

    explicit network(const shape& s)
        : form(s), embed(1, s.width, s.patches()), positions(s.tokens(), s.width), norm(s.width),
          head(s.width, classes, {.float_output = true}) {
        for (index_t i = 0; i < s.blocks; ++i) blocks.push_back(std::make_unique<block<Weights>>(s));
    }
    /// Weights of variance 1 / inputs, the last ones of the branches smaller, as there are 2 * blocks of them;
    /// positions of deviation 0.02.
    template <class Uniform> void initialize(const Uniform& next) {
        layers([&](const char* name, auto& layer) {
            if constexpr (requires { layer.initialize(next); }) {
                layer.initialize(next);
                const bool last = std::string_view(name) == "out" || std::string_view(name) == "down";
                const float gain = 0.7071068f / (last ? std::sqrt(2.0f * static_cast<float>(form.blocks)) : 1.0f);
                for (float& w : layer.weight) w *= gain;
            }
        });
        for (float& v : positions.value) v = 0.07f * (static_cast<float>(next()) - 0.5f);
    }
    const activation& forward(const activation& x, phase p, bool training, const context& ctx) {
        embed.forward(x, e, p, training, ctx);
        positions.forward(e, x0, p, training, ctx);
        const activation* stream = &x0;
        for (const auto& b : blocks) stream = &b->forward(*stream, p, training, ctx);
        norm.forward(*stream, n, p, training, ctx);
        mean.forward(n, m, p, training, ctx);
        head.forward(m, logits, p, training, ctx);
        return logits;
    }
    void backward(std::span<float> gradient, const context& ctx) {
        dm_.resize_discard(m.size());
        dn_.resize_discard(n.size());
        dx_.resize_discard(n.size());
        head.backward(gradient, dm_, ctx);
        mean.backward(dm_, dn_, n.c);
        norm.backward(dn_, dx_, ctx);
        for (std::size_t i = blocks.size(); i-- > 0;) blocks[i]->backward(dx_, ctx);
        positions.backward(dx_);
        embed.backward(dx_, {}, ctx);
    }
    template <class F, class... Others> void layers(F&& f, Others&... others) {
        f("embed", embed, others.embed...);
        f("positions", positions, others.positions...);
        for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i]->layers(f, *others.blocks[i]...);
        f("norm", norm, others.norm...);
        f("head", head, others.head...);
    }
    template <class F, class... Others> void observed(F&& f, Others&... others) {
        for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i]->observed(f, *others.blocks[i]...);
        f("mean", mean, others.mean...);
    }
    /// Calls f(activation) for every tensor but the logits, in the order of frozen_network::run.
    template <class F> void activations(F&& f) const {
        f(e);
        f(x0);
        for (const auto& b : blocks) b->activations(f);
        f(n);
        f(m);
    }

private:
    buffer<float> dm_, dn_, dx_;
};

/// What ships: codes of images in, logits out; nothing but integer kernels.
class frozen_network {
    using norm_params = notch::norm_params<std::uint8_t, std::uint8_t>;
    using linear = notch::frozen_linear;
    struct frozen_block {
        norm_params norm1, norm2;
        linear q, k, v, out, up, down;
        notch::attention attention;
        notch::lookup_table<std::uint8_t, std::uint8_t> gelu;
        notch::add_params add1, add2;
    };

public:
    template <class Weights>
    frozen_network(network<Weights>& net, quant_params pixels)
        : form_(net.form), embed_(notch::freeze(net.embed, pixels)), positions_(net.positions.value.size()),
          weight_bits_(Weights::range::bits) {
        quant_params x = net.positions.sum.output_params();
        notch::quantize<notch::affine<8>>(net.positions.value, net.positions.params(), positions_);
        add_ = notch::make_add(net.embed.output_params(), net.positions.params(), x);
        for (const auto& b : net.blocks) {
            const quant_params n1 = b->norm1.output_params(), n2 = b->norm2.output_params(),
                               x1 = b->add1.output_params(), x2 = b->add2.output_params();
            blocks_.push_back(std::make_unique<frozen_block>(frozen_block{
                notch::freeze(b->norm1, x), notch::freeze(b->norm2, x1), notch::freeze(b->q, n1),
                notch::freeze(b->k, n1), notch::freeze(b->v, n1), notch::freeze(b->out, b->attention.output_params()),
                notch::freeze(b->up, n2), notch::freeze(b->down, b->gelu.output_params()),
                notch::freeze(b->attention, b->q.output_params(), b->k.output_params(), b->v.output_params(),
                              form_.tokens(), form_.width),
                notch::freeze(b->gelu, b->up.output_params()), notch::make_add(x, b->out.output_params(), x1),
                notch::make_add(x1, b->down.output_params(), x2)}));
            x = x2;
        }
        norm_ = notch::freeze(net.norm, x);
        n_ = net.norm.output_params();
        m_ = net.mean.output_params();
        head_ = std::make_unique<linear>(notch::freeze(net.head, m_));
    }

    /// Images of codes; logits: images x 10. visit(codes) sees every tensor but the logits.
    template <class Visit>
    void run(const activation& images, std::span<float> logits, const context& ctx, const Visit& visit) {
        reserve(images.n, ctx);
        context inner = ctx;
        inner.workspace = memory_;
        const index_t n = images.n, all = n * form_.tokens() * form_.width;
        const auto view = [&](std::vector<std::uint8_t>& t, index_t c) {
            return notch::nhwc_view<std::uint8_t>(t.data(), n, form_.side(), form_.side(), c);
        };
        const auto codes = [&](std::vector<std::uint8_t>& t, index_t size) {
            return std::span<std::uint8_t>(t.data(), static_cast<std::size_t>(size));
        };
        const auto rows = [&](std::vector<std::uint8_t>& t, index_t first, index_t count) {
            return notch::matrix_view<std::uint8_t>(t.data() + first * form_.width, count, form_.width);
        };
        // Each step writes y, shows it, and gives it back.
        const auto product = [&](linear& layer, std::vector<std::uint8_t>& x, std::vector<std::uint8_t>& y) {
            layer.forward(view(x, layer.spec().in_channels), view(y, layer.spec().out_channels), inner);
            visit(codes(y, n * form_.tokens() * layer.spec().out_channels));
        };
        const auto normalize = [&](const norm_params& p) {
            notch::norm(rows(x_, 0, n * form_.tokens()), p, rows(t_, 0, n * form_.tokens()), inner);
            visit(codes(t_, all));
        };
        const auto add = [&](const notch::add_params& p) {
            notch::add(codes(x_, all), codes(b_, all), p, codes(x_, all), inner);
            visit(codes(x_, all));
        };
        embed_.forward(images.code_view(), view(x_, form_.width), inner);
        visit(codes(x_, all));
        for (index_t i = 0; i < n; ++i) {
            const std::span<std::uint8_t> image = codes(x_, all).subspan(
                static_cast<std::size_t>(i * positions_.size()), static_cast<std::size_t>(positions_.size()));
            notch::add(image, positions_, add_, image, inner);
        }
        visit(codes(x_, all));
        for (const auto& b : blocks_) {
            normalize(b->norm1);
            product(b->q, t_, q_);
            product(b->k, t_, k_);
            product(b->v, t_, v_);
            for (index_t i = 0; i < n; ++i) {
                const auto part = [&](std::vector<std::uint8_t>& t) {
                    return rows(t, i * form_.tokens(), form_.tokens());
                };
                b->attention.run(notch::matrix_view<const std::uint8_t>(part(q_)), part(k_), part(v_), part(t_), inner);
            }
            visit(codes(t_, all));
            product(b->out, t_, b_);
            add(b->add1);
            normalize(b->norm2);
            product(b->up, t_, h_);
            const std::span<std::uint8_t> hidden = codes(h_, n * form_.tokens() * form_.hidden);
            notch::lookup(hidden, b->gelu, hidden, inner);
            visit(hidden);
            product(b->down, h_, b_);
            add(b->add2);
        }
        normalize(norm_);
        const notch::nhwc_view<std::uint8_t> mean(b_.data(), n, 1, 1, form_.width);
        notch::average_pool(view(t_, form_.width), n_, notch::global_window(form_.side(), form_.side()), m_, mean,
                            inner);
        visit(codes(b_, n * form_.width));
        head_->forward(mean, notch::nhwc_view<float>(logits.data(), n, 1, 1, classes), inner);
    }
    /// Densely packed.
    [[nodiscard]] std::int64_t bytes() const {
        std::int64_t sum = positions_.size() + 4 * 2 * form_.width; // the last norm
        const auto add = [&](const linear& l) {
            const notch::layer_spec& s = l.spec();
            sum += (s.weights.size() * weight_bits_ + 7) / 8 + 4 * (s.w_scales.size() + s.bias.size());
        };
        add(embed_);
        add(*head_);
        for (const auto& b : blocks_) {
            for (const linear* l : {&b->q, &b->k, &b->v, &b->out, &b->up, &b->down}) add(*l);
            sum += 2 * 4 * 2 * form_.width + 256;
        }
        return sum;
    }

private:
    void reserve(index_t n, const context& ctx) {
        const index_t side = form_.side(), all = n * form_.tokens() * form_.width;
        if (static_cast<index_t>(x_.size()) < all) {
            for (auto* t : {&x_, &t_, &q_, &k_, &v_, &b_}) t->resize(static_cast<std::size_t>(all));
            h_.resize(static_cast<std::size_t>(n * form_.tokens() * form_.hidden));
        }
        index_t need = std::max({embed_.workspace_size(n, 28, 28, ctx), head_->workspace_size(n, 1, 1, ctx),
                                 notch::pool_workspace_size(notch::global_window(side, side), ctx)});
        for (const auto& b : blocks_) {
            need = std::max(need, b->attention.workspace_size(form_.tokens(), ctx));
            for (const linear* l : {&b->q, &b->k, &b->v, &b->out, &b->up, &b->down})
                need = std::max(need, l->workspace_size(n, side, side, ctx));
        }
        if (static_cast<index_t>(memory_.size()) < need) memory_.resize(static_cast<std::size_t>(need));
    }

    shape form_;
    linear embed_;
    buffer<std::uint8_t> positions_;
    notch::add_params add_;
    std::vector<std::unique_ptr<frozen_block>> blocks_;
    norm_params norm_;
    quant_params n_, m_;
    std::unique_ptr<linear> head_;
    int weight_bits_;
    std::vector<std::uint8_t> x_, t_, q_, k_, v_, b_, h_;
    std::vector<std::byte> memory_;
};

} // namespace vit
