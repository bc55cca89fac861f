// SPDX-License-Identifier: Apache-2.0
//
// Two graph networks, composed from notch's pieces, of two layers each:
//
//     h = relu(G(x) W1 + b1),  logits = G(h) W2 + b2
//
//     convolution   G(x) = A x,  A = D^-1/2 (adjacency + I) D^-1/2   (Kipf & Welling 2017, arXiv:1609.02907, eq. 2)
//     sage          G(x) = [x, mean of x over the neighbours]        (Hamilton, Ying & Leskovec 2017, arXiv:1706.02216,
//                   algorithm 1, lines 4 and 5 with the mean aggregator; without the normalization of line 7)
//
// What is here is G, the order of the layers, and what ships.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <notch/kernels/concat.hpp>
#include <notch/layers/aggregation.hpp>
#include <notch/layers/train.hpp>

#include "degree_quant.hpp"
#include "graph.hpp"

namespace gnn {

using notch::context;
using notch::matrix_view;
using notch::phase;
using notch::quant_params;
using u8 = std::uint8_t;

/// The edge weights of a graph as 8-bit codes: one scale, or one for the edges into each node (those of hubs are
/// small).
struct edge_codes {
    std::vector<std::int8_t> codes;
    std::vector<float> scales;

    edge_codes(const graph& g, bool per_row) : codes(g.weights.size()) {
        using range = notch::symmetric<8>;
        const auto quantize = [&](index_t first, index_t n) {
            const auto at = static_cast<std::size_t>(first), size = static_cast<std::size_t>(n);
            const auto w = std::span<const float>(g.weights).subspan(at, size);
            const quant_params p = notch::params_from_range<range>(notch::value_range(w));
            notch::quantize<range>(w, p, std::span(codes).subspan(at, size));
            scales.push_back(p.scale);
        };
        if (!per_row) quantize(0, static_cast<index_t>(g.weights.size()));
        for (index_t i = 0; per_row && i < g.nodes; ++i)
            quantize(g.with_self.offsets[static_cast<std::size_t>(i)], g.with_self.degree(i));
    }
};

/// G(x) = A x, in codes with a range of their own.
template <class Observer> struct convolution {
    static constexpr const char* name = "gcn";
    static constexpr index_t width = 1; ///< channels of G(x) for each of x
    notch::aggregation_layer<Observer> sum;

    convolution(const graph& g, const edge_codes& e)
        : sum({g.with_self.view(), e.codes, e.scales, notch::reduction::sum}, g.weights) {}

    void forward(const activation& x, activation& y, phase p, bool training, const context& ctx) {
        sum.forward(x, y, p, training, ctx);
    }
    void backward(std::span<float> dy, std::span<float> dx, index_t) const { sum.backward(dy, dx); }
    void protect(activation& y, quant_params, protected_activations& q, const std::vector<char>& is_protected) {
        q.forward(y, sum.output_observer, is_protected);
    }
    [[nodiscard]] quant_params params(quant_params) const { return sum.output_params(); }

    /// G on codes.
    static void run(const notch::neighbourhood& n, matrix_view<const u8> x, quant_params xq, quant_params yq,
                    matrix_view<u8> y, const context& ctx) {
        notch::aggregate(n, x, xq, yq, y, ctx);
    }
};

/// G(x) = [x, mean]. A mean lies in the range of what it is the mean of, so both halves have the params of x, and
/// joining them copies bytes.
template <class Observer> struct sage {
    static constexpr const char* name = "graphsage";
    static constexpr index_t width = 2;
    notch::aggregation_layer<Observer> sum;
    activation mean{};
    mutable notch::buffer<float> d_mean{};

    sage(const graph& g, const edge_codes&) : sum({g.others.view(), {}, {}, notch::reduction::mean}) {}

    void forward(const activation& x, activation& y, phase p, bool training, const context& ctx) {
        if (p == phase::quantized) sum.fixed_params = x.params;
        sum.forward(x, mean, p, training, ctx);
        y.reshape(x.n, 1, 1, 2 * x.c);
        y.quantized = x.quantized;
        if (y.quantized) {
            y.params = x.params;
            y.codes.resize_discard(y.size());
            join({x.codes.data(), x.n, x.c}, {mean.codes.data(), x.n, x.c}, x.params, {y.codes.data(), x.n, y.c}, ctx);
            return;
        }
        y.values.resize_discard(y.size());
        for (index_t i = 0; i < x.n; ++i) {
            std::copy_n(x.values.data() + i * x.c, x.c, y.values.data() + i * y.c);
            std::copy_n(mean.values.data() + i * x.c, x.c, y.values.data() + i * y.c + x.c);
        }
    }
    void backward(std::span<float> dy, std::span<float> dx, index_t channels) const {
        const auto c = static_cast<std::size_t>(channels);
        d_mean.resize_discard(static_cast<index_t>(dx.size()));
        for (std::size_t i = 0; i < dx.size() / c; ++i)
            std::copy_n(dy.data() + (2 * i + 1) * c, c, d_mean.data() + i * c);
        sum.backward(d_mean, dx);
        for (std::size_t i = 0; i < dx.size(); ++i) dx[i] += dy[i / c * 2 * c + i % c];
    }
    void protect(activation& y, quant_params x, protected_activations& q, const std::vector<char>& is_protected) {
        q.quantize(y, x, is_protected);
    }
    [[nodiscard]] quant_params params(quant_params x) const { return x; }

    /// The mean goes to the right half of y at once.
    static void run(const notch::neighbourhood& n, matrix_view<const u8> x, quant_params xq, quant_params yq,
                    matrix_view<u8> y, const context& ctx) {
        const matrix_view<u8> right(y.data + x.cols, y.rows, x.cols, y.stride), left(y.data, y.rows, x.cols, y.stride);
        notch::aggregate(n, x, xq, yq, right, ctx);
        const auto copy = notch::make_concat<u8>(xq, yq);
        notch::concat<u8>(std::span(&x, 1), std::span(&copy, 1), left, ctx);
    }

private:
    static void join(matrix_view<const u8> a, matrix_view<const u8> b, quant_params p, matrix_view<u8> y,
                     const context& ctx) {
        const matrix_view<const u8> parts[] = {a, b};
        const notch::concat_params<u8> copies[] = {notch::make_concat<u8>(p, p), notch::make_concat<u8>(p, p)};
        notch::concat<u8>(parts, copies, y, ctx);
    }
};

/// Gather: convolution or sage. Weights: a quantizer of the weights [out][in].
template <template <class> class Gather, class Weights, class Observer = notch::moving_average> struct network {
    using gather = Gather<Observer>;
    gather g1, g2;
    notch::linear_layer<Weights, Observer> lin1, lin2;
    activation a1{}, h{}, a2{}, logits{};
    notch::buffer<float> d_a1{}, d_a2{}, d_h{};
    phase last = phase::fp32;
    protected_activations q_a1{}, q_h{}, q_a2{}; ///< of protected steps

    network(const graph& g, const edge_codes& e, index_t hidden)
        : g1(g, e), g2(g, e), lin1(gather::width * g.features, hidden, {.function = notch::nonlinearity::relu}),
          lin2(gather::width * hidden, g.classes, {.float_output = true}) {}

    const activation& forward(const activation& x, phase p, bool training, const context& ctx) {
        g1.forward(x, a1, p, training, ctx);
        lin1.forward(a1, h, p, training, ctx);
        g2.forward(h, a2, p, training, ctx);
        lin2.forward(a2, logits, p, training, ctx);
        return logits;
    }
    void backward(std::span<float> gradient, const context& ctx) {
        d_a2.resize_discard(a2.size());
        d_h.resize_discard(h.size());
        lin2.backward(gradient, d_a2, ctx);
        g2.backward(d_a2, d_h, h.c);
        lin1.backward(d_h, {}, ctx);
    }

    /// One training step of Degree-Quant: loss(logits) gives their gradient. The parameters' gradients are those with
    /// respect to the quantized weights, passed on straight-through.
    template <class Loss>
    void protected_step(const activation& x, quant_params xq, const std::vector<char>& is_protected, const Loss& loss,
                        const context& ctx) {
        const notch::buffer<float> w1 = lin1.weight, w2 = lin2.weight;
        const auto quantize = [&](auto& layer) {
            const auto values = layer.weight_quantizer.forward(layer.weight, ctx);
            std::copy(values.begin(), values.end(), layer.weight.begin());
        };
        quantize(lin1);
        quantize(lin2);
        g1.forward(x, a1, phase::fp32, true, ctx);
        g1.protect(a1, xq, q_a1, is_protected);
        lin1.forward(a1, h, phase::fp32, true, ctx);
        q_h.forward(h, lin1.output_observer, is_protected);
        g2.forward(h, a2, phase::fp32, true, ctx);
        g2.protect(a2, lin1.output_params(), q_a2, is_protected);
        lin2.forward(a2, logits, phase::fp32, true, ctx);
        const std::span<float> gradient = loss(logits);
        d_a2.resize_discard(a2.size());
        d_h.resize_discard(h.size());
        lin2.backward(gradient, d_a2, ctx);
        q_a2.backward(d_a2);
        g2.backward(d_a2, d_h, h.c);
        q_h.backward(d_h);
        lin1.backward(d_h, {}, ctx);
        lin1.weight = w1;
        lin2.weight = w2;
    }

    template <class F> void layers(F&& f) {
        f("lin1", lin1);
        f("lin2", lin2);
    }
    template <class F> void observed(F&&) {}
    /// Of a network with other quantizers; ranges too if it has the same observers.
    template <class Other> void copy_from(const Other& o) {
        if constexpr (std::same_as<typename Other::gather, gather>) {
            lin1.copy_from(o.lin1);
            lin2.copy_from(o.lin2);
            g1.sum.output_observer = o.g1.sum.output_observer;
            g2.sum.output_observer = o.g2.sum.output_observer;
        } else {
            lin1.weight = o.lin1.weight;
            lin1.bias = o.lin1.bias;
            lin2.weight = o.lin2.weight;
            lin2.bias = o.lin2.bias;
        }
    }
};

/// What ships: two integer layers and the params between them; no observer, no float but the logits.
template <template <class> class Gather> struct frozen_network {
    notch::neighbourhood edges;
    quant_params x, a1, h, a2;
    notch::frozen_linear lin1, lin2;

    template <class Weights, class Observer>
    frozen_network(network<Gather, Weights, Observer>& net, quant_params input)
        : edges(net.g1.sum.edges()), x(input), a1(net.g1.params(x)), h(net.lin1.output_params()), a2(net.g2.params(h)),
          lin1(net.lin1.spec(a1)), lin2(net.lin2.spec(a2)) {}

    /// The codes of each step, the logits, and memory of the layers.
    struct outputs {
        std::vector<u8> a1, h, a2;
        std::vector<float> logits;
        std::vector<std::byte> memory;
    };
    [[nodiscard]] outputs make_outputs(const graph& g, const context& ctx) const {
        const auto size = [&](index_t c) { return static_cast<std::size_t>(g.nodes * c); };
        const notch::layer_spec &s1 = lin1.spec(), &s2 = lin2.spec();
        return {std::vector<u8>(size(s1.in_channels)), std::vector<u8>(size(s1.out_channels)),
                std::vector<u8>(size(s2.in_channels)), std::vector<float>(size(s2.out_channels)),
                std::vector<std::byte>(static_cast<std::size_t>(
                    std::max(lin1.workspace_size(g.nodes, 1, 1, ctx), lin2.workspace_size(g.nodes, 1, 1, ctx))))};
    }
    void run(const graph& g, outputs& o, context ctx) const {
        using gather = Gather<notch::moving_average>;
        using notch::nhwc_view;
        const index_t n = g.nodes, wide = lin1.spec().in_channels, mid = lin1.spec().out_channels,
                      joined = lin2.spec().in_channels;
        ctx.workspace = o.memory;
        gather::run(edges, {g.x.data(), n, g.features}, x, a1, {o.a1.data(), n, wide}, ctx);
        lin1.forward(nhwc_view<const u8>(o.a1.data(), n, 1, 1, wide), nhwc_view<u8>(o.h.data(), n, 1, 1, mid), ctx);
        gather::run(edges, {o.h.data(), n, mid}, h, a2, {o.a2.data(), n, joined}, ctx);
        lin2.forward(nhwc_view<const u8>(o.a2.data(), n, 1, 1, joined),
                     nhwc_view<float>(o.logits.data(), n, 1, 1, g.classes), ctx);
    }

    /// Weights, scales, zero points and biases, densely packed. The graph, its edge weights and their scales are data.
    [[nodiscard]] std::int64_t bytes() const {
        std::vector<quant_params> between;
        for (quant_params p : {x, a1, h, a2})
            if (std::find(between.begin(), between.end(), p) == between.end()) between.push_back(p);
        auto sum = static_cast<std::int64_t>(5 * between.size()); // a float and a byte
        for (const notch::layer_spec* s : {&lin1.spec(), &lin2.spec()})
            sum += (s->weights.size() * s->weight_bits + 7) / 8 + 4 * (s->w_scales.size() + s->bias.size());
        return sum;
    }
};

} // namespace gnn
