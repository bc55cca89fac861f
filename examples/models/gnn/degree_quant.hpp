// SPDX-License-Identifier: Apache-2.0
//
// Degree-Quant (Tailor, Fernandez-Marques & Lane 2021, arXiv:2008.05000): training for graph networks whose nodes of
// many neighbours have the largest sums, and so both stretch the ranges and have the worst gradients. Two pieces:
//
//   ranges     of percentiles of each step's values, not of their extremes
//   masks      in each step a node is protected with a probability that grows with its degree, from lowest at the node
//              of fewest neighbours to highest at that of most (linear in the rank); the activations of a protected
//              node stay real numbers
//
// Codes cannot be protected, so these steps are in float arithmetic: quantized weights, and activations that are
// fake-quantized but for the protected rows. What ships, and what is measured, runs on codes alone.
#pragma once

#include <algorithm>
#include <array>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include <notch/layers/activation.hpp>
#include <notch/observe/moving_average.hpp>
#include <notch/ptq/clip_percentile.hpp>
#include <notch/qat/fake_quant.hpp>

#include "graph.hpp"

namespace gnn {

using notch::activation;

/// A moving average of the percentiles of each batch (both ends cut equally).
class moving_percentile {
public:
    explicit moving_percentile(double percent = 99.8, float momentum = 0.9f) : percent_(percent), average_(momentum) {}
    void observe(std::span<const float> x) {
        const notch::real_range r = notch::percentile_range(x, percent_);
        if (!r.empty()) average_.observe(std::array{r.min, r.max});
    }
    void merge(const moving_percentile& o) { average_.merge(o.average_); }
    [[nodiscard]] notch::real_range range() const { return average_.range(); }

private:
    double percent_;
    notch::moving_average average_;
};

/// Which nodes a step protects.
class protective_masks {
public:
    protective_masks(const edge_list& edges, double lowest, double highest, unsigned seed)
        : probability_(static_cast<std::size_t>(edges.rows())), random_(seed) {
        std::vector<index_t> order(probability_.size());
        std::iota(order.begin(), order.end(), index_t{0});
        std::stable_sort(order.begin(), order.end(),
                         [&](index_t a, index_t b) { return edges.degree(a) < edges.degree(b); });
        const auto last = static_cast<double>(std::max<std::size_t>(order.size(), 2) - 1);
        for (std::size_t rank = 0; rank < order.size(); ++rank)
            probability_[static_cast<std::size_t>(order[rank])] =
                lowest + (highest - lowest) * static_cast<double>(rank) / last;
    }
    /// A new draw, 1 for each protected node.
    const std::vector<char>& draw() {
        drawn_.resize(probability_.size());
        for (std::size_t i = 0; i < drawn_.size(); ++i)
            drawn_[i] = static_cast<double>(random_()) / 4294967296.0 < probability_[i];
        return drawn_;
    }

private:
    std::vector<double> probability_;
    std::vector<char> drawn_;
    std::mt19937 random_;
};

/// Fake-quantizes the activations of the nodes that are not protected, in place; backward is straight-through.
class protected_activations {
public:
    template <notch::observer Observer>
    void forward(activation& y, Observer& o, const std::vector<char>& is_protected) {
        o.observe(y.values);
        quantize(y, notch::params_from_range<notch::affine<8>>(o.range()), is_protected);
    }
    void quantize(activation& y, notch::quant_params p, const std::vector<char>& is_protected) {
        mask_.resize_discard(y.size());
        values_.resize_discard(y.size());
        notch::fake_quantize<notch::affine<8>>(y.values, {1, 1, y.size()}, std::span(&p, 1), {}, values_, mask_);
        for (std::size_t i = 0; i < is_protected.size(); ++i) {
            const index_t at = static_cast<index_t>(i) * y.c;
            if (is_protected[i])
                std::fill_n(mask_.data() + at, y.c, std::uint8_t{1});
            else
                std::copy_n(values_.data() + at, y.c, y.values.data() + at);
        }
    }
    void backward(std::span<float> dy) const { notch::straight_through(dy, mask_, dy); }

private:
    notch::buffer<std::uint8_t> mask_;
    notch::buffer<float> values_;
};

} // namespace gnn
