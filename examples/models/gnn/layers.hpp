// SPDX-License-Identifier: Apache-2.0
//
// A graph convolutional network (Kipf & Welling 2017, arXiv:1609.02907), composed from notch's pieces:
//
//     h = relu((A x) W1 + b1),  logits = (A h) W2 + b2,  A = D^-1/2 (adjacency + I) D^-1/2
//
// The linear layers are notch's. The aggregation A x is here: in phase::quantized it runs on the integer kernel, so the
// trained codes are the shipped ones; backward is straight-through, with the weights that the forward pass used.
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include <notch/kernels/aggregate.hpp>
#include <notch/layers/train.hpp>

#include "graph.hpp"

namespace gnn {

using notch::activation;
using notch::context;
using notch::phase;

/// The edge weights of a graph as 8-bit codes: one scale, or one for the edges into each node (hubs have small ones).
struct edge_codes {
    std::vector<std::int8_t> codes;
    std::vector<float> scales, values;

    edge_codes(const graph& g, bool per_row) : codes(g.weights.size()), values(codes.size()) {
        using range = notch::symmetric<8>;
        const auto quantize = [&](std::size_t first, std::size_t n) {
            const std::span<const float> w(g.weights.data() + first, n);
            const auto p = notch::params_from_range<range>(notch::value_range(w));
            notch::quantize<range>(w, p, std::span(codes).subspan(first, n));
            notch::dequantize<std::int8_t>(std::span<const std::int8_t>(codes).subspan(first, n), p,
                                           std::span(values).subspan(first, n));
            scales.push_back(p.scale);
        };
        if (!per_row) quantize(0, g.weights.size());
        for (std::size_t i = 0; per_row && i + 1 < g.offsets.size(); ++i)
            quantize(static_cast<std::size_t>(g.offsets[i]), static_cast<std::size_t>(g.offsets[i + 1] - g.offsets[i]));
    }
};

/// y = A x. g and e outlive it.
struct aggregation {
    const graph* g;
    const edge_codes* e;
    notch::moving_average output_observer{0.9f};
    notch::buffer<float> real{};
    notch::buffer<std::uint8_t> mask{};

    [[nodiscard]] notch::neighbourhood edges() const { return {{g->offsets, g->neighbours}, e->codes, e->scales}; }
    [[nodiscard]] notch::quant_params params() const {
        return notch::params_from_range<notch::affine<8>>(output_observer.range());
    }
    /// f(to, from, edge) for each edge.
    template <class F> void each(F&& f) const {
        for (index_t i = 0; i < g->nodes; ++i)
            for (index_t k = g->offsets[static_cast<std::size_t>(i)]; k < g->offsets[static_cast<std::size_t>(i) + 1];
                 ++k)
                f(i, static_cast<index_t>(g->neighbours[static_cast<std::size_t>(k)]), static_cast<std::size_t>(k));
    }
    void forward(const activation& x, activation& y, phase p, bool training, const context& ctx) {
        y.reshape(x.n, 1, 1, x.c);
        y.quantized = p == phase::quantized;
        mask.resize_discard(y.size());
        if (!y.quantized) {
            y.values = notch::buffer<float>(y.size());
            each([&](index_t to, index_t from, std::size_t k) {
                for (index_t c = 0; c < x.c; ++c) y.values[to * x.c + c] += g->weights[k] * x.values[from * x.c + c];
            });
            if (p == phase::calibrate) output_observer.observe(y.values);
            std::fill(mask.begin(), mask.end(), std::uint8_t{1});
            return;
        }
        const notch::matrix_view<const std::uint8_t> in(x.codes.data(), x.n, x.c);
        if (training) { // the range follows the sums
            real.resize_discard(y.size());
            notch::aggregate(edges(), in, x.params, notch::matrix_view<float>(real.data(), y.n, y.c), ctx);
            output_observer.observe(real);
        }
        y.params = params();
        y.codes.resize_discard(y.size());
        notch::aggregate(edges(), in, x.params, y.params, notch::matrix_view<std::uint8_t>(y.codes.data(), y.n, y.c),
                         ctx);
        for (index_t i = 0; training && i < y.size(); ++i) {
            const float code = std::nearbyint(real[i] / y.params.scale) + static_cast<float>(y.params.zero_point);
            mask[i] = code >= 0.0f && code <= 255.0f;
        }
    }
    void backward(std::span<float> dy, std::span<float> dx, index_t channels, phase p) const {
        notch::straight_through(dy, mask, dy);
        std::fill(dx.begin(), dx.end(), 0.0f);
        each([&](index_t to, index_t from, std::size_t k) {
            const float w = p == phase::quantized ? e->values[k] : g->weights[k];
            const float* d = dy.data() + to * channels;
            float* out = dx.data() + from * channels;
            for (index_t c = 0; c < channels; ++c) out[c] += w * d[c];
        });
    }
};

/// Weights: a quantizer of the weights [out][in].
template <class Weights> struct gcn {
    aggregation agg1, agg2;
    notch::linear_layer<Weights> lin1, lin2;
    activation a1, h, a2, logits;
    notch::buffer<float> d_a2, d_h;
    phase last = phase::fp32;

    gcn(const graph& g, const edge_codes& e, index_t hidden)
        : agg1{&g, &e}, agg2{&g, &e}, lin1(g.features, hidden, {.function = notch::nonlinearity::relu}),
          lin2(hidden, g.classes, {.float_output = true}) {}

    const activation& forward(const activation& x, phase p, bool training, const context& ctx) {
        last = p;
        agg1.forward(x, a1, p, training, ctx);
        lin1.forward(a1, h, p, training, ctx);
        agg2.forward(h, a2, p, training, ctx);
        lin2.forward(a2, logits, p, training, ctx);
        return logits;
    }
    void backward(std::span<float> gradient, const context& ctx) {
        d_a2.resize_discard(a2.size());
        d_h.resize_discard(h.size());
        lin2.backward(gradient, d_a2, ctx);
        agg2.backward(d_a2, d_h, h.c, last);
        lin1.backward(d_h, {}, ctx);
    }
    template <class F> void layers(F&& f) {
        f("lin1", lin1);
        f("lin2", lin2);
    }
    template <class F> void observed(F&&) {}
    template <class Other> void copy_from(const Other& o) {
        lin1.copy_from(o.lin1);
        lin2.copy_from(o.lin2);
        agg1.output_observer = o.agg1.output_observer;
        agg2.output_observer = o.agg2.output_observer;
    }
};

/// What ships: no observer, no float but the logits.
struct frozen_gcn {
    notch::neighbourhood edges;
    notch::quant_params x, a1, h, a2;
    notch::frozen_linear lin1, lin2;

    template <class Weights>
    frozen_gcn(gcn<Weights>& net, notch::quant_params input)
        : edges(net.agg1.edges()), x(input), a1(net.agg1.params()), h(net.lin1.output_params()), a2(net.agg2.params()),
          lin1(net.lin1.spec(a1)), lin2(net.lin2.spec(a2)) {}

    /// The codes of each step, and the logits.
    struct outputs {
        std::vector<std::uint8_t> a1, h, a2;
        std::vector<float> logits;
    };
    [[nodiscard]] outputs run(const graph& g, context ctx) const {
        using u8 = std::uint8_t;
        const index_t n = g.nodes, in = g.features, mid = lin1.spec().out_channels;
        const auto size = [&](index_t c) { return static_cast<std::size_t>(n * c); };
        outputs o{std::vector<u8>(size(in)), std::vector<u8>(size(mid)), std::vector<u8>(size(mid)),
                  std::vector<float>(size(g.classes))};
        std::vector<std::byte> memory(
            static_cast<std::size_t>(std::max(lin1.workspace_size(n, 1, 1, ctx), lin2.workspace_size(n, 1, 1, ctx))));
        ctx.workspace = memory;
        notch::aggregate(edges, {g.x.data(), n, in}, x, a1, notch::matrix_view<u8>(o.a1.data(), n, in), ctx);
        lin1.forward(notch::nhwc_view<const u8>(o.a1.data(), n, 1, 1, in),
                     notch::nhwc_view<u8>(o.h.data(), n, 1, 1, mid), ctx);
        notch::aggregate(edges, {o.h.data(), n, mid}, h, a2, notch::matrix_view<u8>(o.a2.data(), n, mid), ctx);
        lin2.forward(notch::nhwc_view<const u8>(o.a2.data(), n, 1, 1, mid),
                     notch::nhwc_view<float>(o.logits.data(), n, 1, 1, g.classes), ctx);
        return o;
    }
};

} // namespace gnn
