// SPDX-License-Identifier: Apache-2.0
//
// notch/layers/aggregation.hpp: the layer between the linear layers of a graph network: sums or means over the
// neighbours of each node (kernels/aggregate.hpp), with training.
//
//   forward    y(i, c) = sum over the edges e into i of w[e] * x(neighbours[e], c), over their number for a mean
//              quantized: w are the codes times their scale, and notch::aggregate makes the codes of y
//   backward   dx(j, c) = sum over the edges e from j, into i(e), of w[e] * dz(i(e), c), over i's number for a mean
//              dz = dy where the code of y was not clipped (straight-through)
//
// Frozen it is a call of notch::aggregate with the same edges and output_params(): there is nothing else to ship.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>

#include <notch/kernels/aggregate.hpp>
#include <notch/layers/activation.hpp>
#include <notch/observe/moving_average.hpp>
#include <notch/qat/fake_quant.hpp>

NOTCH_KEYED_BEGIN

/// x has a row for each node, n x 1 x 1 x channels, at least as many as the neighbours name; y a row for each row of
/// the graph. Edge weights are data, not trained. Not thread-safe.
template <observer OutputObserver = moving_average> class aggregation_layer {
public:
    /// edges: what the integer kernel sees. weights: the real weights of the same edges for float arithmetic; none if
    /// edges has none. Both must outlive the layer; they are checked in every forward.
    explicit aggregation_layer(const neighbourhood& edges, std::span<const float> weights = {},
                               const OutputObserver& o = OutputObserver{})
        : output_observer(o), edges_(edges), weights_(weights) {
        detail::check_span("aggregation_layer", "the real weights", weights);
        detail::check_equal("aggregation_layer", "the number of real weights", static_cast<index_t>(weights.size()),
                            static_cast<index_t>(edges.weights.size()));
    }
    OutputObserver output_observer;
    std::optional<quant_params> fixed_params; ///< if set, instead of the observer's, which then sees nothing

    [[nodiscard]] const neighbourhood& edges() const noexcept { return edges_; }
    [[nodiscard]] quant_params output_params() const {
        return detail::output_params_of("aggregation_layer", fixed_params, output_observer.range());
    }

    /// y is reshaped as needed. training keeps what backward needs and, in phase::quantized, lets the range follow the
    /// sums. There is no phase::dynamic.
    void forward(const activation& x, activation& y, phase p, bool training, const context& ctx) {
        constexpr const char* where = "aggregation_layer";
        detail::check_phase(where, p);
        detail::check_activation(where, x);
        if (x.h != 1 || x.w != 1)
            fail(errc::shape_mismatch,
                 detail::cat(where, ": x has images of ", x.h, " x ", x.w, " pixels, a node is one row of channels"));
        if (p == phase::dynamic) fail(errc::invalid_argument, "aggregation_layer: there is no phase::dynamic");
        if (x.quantized != (p == phase::quantized))
            fail(errc::invalid_argument, "aggregation_layer: x has codes where values are needed, or the reverse");
        detail::check_neighbourhood(where, edges_, x.n, 0);
        detail::shape_output(where, y, {&x}, edges_.graph.rows(), 1, 1, x.c);
        trained_ = false; // until this forward has succeeded
        y.quantized = x.quantized;
        if (y.quantized)
            forward_codes(x, y, training, ctx);
        else
            forward_values(x, y, p == phase::calibrate, training);
        trained_ = training;
        x_nodes_ = x.n;
        channels_ = x.c;
        quantized_ = x.quantized;
    }

    /// dy: gradient of y, overwritten. dx: gradient of x, written.
    void backward(std::span<float> dy, std::span<float> dx) const {
        constexpr const char* where = "aggregation_layer.backward";
        if (!trained_)
            fail(errc::invalid_argument, "aggregation_layer: backward needs a forward with training = true before it");
        detail::check_equal(where, "the size of dy", static_cast<index_t>(dy.size()), mask_.size());
        detail::check_equal(where, "the size of dx", static_cast<index_t>(dx.size()), x_nodes_ * channels_);
        straight_through(dy, mask_, dy);
        std::fill(dx.begin(), dx.end(), 0.0f);
        each_edge([&](index_t to, index_t from, index_t e) {
            const float w = quantized_ ? code_value(to, e) : real_value(to, e);
            const float* d = dy.data() + to * channels_;
            float* out = dx.data() + from * channels_;
            for (index_t c = 0; c < channels_; ++c) out[c] += w * d[c];
        });
    }

private:
    template <class F> void each_edge(const F& f) const {
        const csr_graph& g = edges_.graph;
        for (index_t i = 0; i < g.rows(); ++i)
            for (index_t e = g.offsets.data()[i]; e < g.offsets.data()[i + 1]; ++e)
                f(i, static_cast<index_t>(g.neighbours.data()[e]), e);
    }
    /// What an edge multiplies by, in float and in integer arithmetic.
    [[nodiscard]] float real_value(index_t row, index_t e) const {
        const float w = weights_.empty() ? 1.0f : weights_.data()[e];
        return edges_.how == reduction::mean ? w / static_cast<float>(edges_.graph.degree(row)) : w;
    }
    [[nodiscard]] float code_value(index_t row, index_t e) const {
        const double w = edges_.weights.empty() ? 1.0 : static_cast<double>(edges_.weights.data()[e]);
        return static_cast<float>(w * edges_.factor(row));
    }

    void forward_values(const activation& x, activation& y, bool observe, bool training) {
        y.values.resize_discard(y.size());
        std::fill(y.values.begin(), y.values.end(), 0.0f);
        each_edge([&](index_t to, index_t from, index_t e) {
            const float w = real_value(to, e);
            const float* in = x.values.data() + from * x.c;
            float* out = y.values.data() + to * x.c;
            for (index_t c = 0; c < x.c; ++c) out[c] += w * in[c];
        });
        if (observe && !fixed_params) output_observer.observe(y.values);
        if (!training) return;
        mask_.resize_discard(y.size());
        std::fill(mask_.begin(), mask_.end(), std::uint8_t{1});
    }
    void forward_codes(const activation& x, activation& y, bool training, const context& ctx) {
        const matrix_view<const std::uint8_t> in(x.codes.data(), x.n, x.c);
        if (training) {
            sums_.resize_discard(y.size());
            aggregate(edges_, in, x.params, matrix_view<float>(sums_.data(), y.n, y.c), ctx);
            if (!fixed_params) output_observer.observe(sums_);
        }
        y.params = output_params();
        y.codes.resize_discard(y.size());
        aggregate(edges_, in, x.params, y.params, matrix_view<std::uint8_t>(y.codes.data(), y.n, y.c), ctx);
        if (!training) return;
        mask_.resize_discard(y.size());
        for (index_t i = 0; i < y.size(); ++i) {
            const float code = std::nearbyint(sums_[i] / y.params.scale) + static_cast<float>(y.params.zero_point);
            mask_[i] = code >= 0.0f && code <= 255.0f;
        }
    }

    neighbourhood edges_;
    std::span<const float> weights_;
    index_t x_nodes_ = 0, channels_ = 0; ///< of the last forward
    bool quantized_ = false, trained_ = false;
    buffer<float> sums_;
    buffer<std::uint8_t> mask_;
};

NOTCH_KEYED_END
