// SPDX-License-Identifier: Apache-2.0
//
// Graphs for node classification: the k nearest neighbours among handwritten digits, and Zachary's karate club.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include <notch/kernels/aggregate.hpp>

#include "../../mnist/idx.hpp"

namespace gnn {

using notch::index_t;

/// Edges by the node that they lead to.
struct edge_list {
    std::vector<index_t> offsets;
    std::vector<std::int32_t> neighbours;

    [[nodiscard]] index_t rows() const { return static_cast<index_t>(offsets.size()) - 1; }
    [[nodiscard]] index_t degree(index_t i) const {
        return offsets[static_cast<std::size_t>(i) + 1] - offsets[static_cast<std::size_t>(i)];
    }
    [[nodiscard]] notch::csr_graph view() const { return {offsets, neighbours}; }

    /// Pairs (to, from), sorted.
    static edge_list of(const std::vector<std::pair<int, int>>& edges, index_t nodes) {
        edge_list list;
        list.offsets.assign(static_cast<std::size_t>(nodes) + 1, 0);
        for (const auto& [to, from] : edges) {
            ++list.offsets[static_cast<std::size_t>(to) + 1];
            list.neighbours.push_back(from);
        }
        for (std::size_t i = 1; i < list.offsets.size(); ++i) list.offsets[i] += list.offsets[i - 1];
        return list;
    }
};

/// Nodes with features (u8 codes that stand for code / 255), classes, and undirected edges in both directions.
struct graph {
    index_t nodes = 0, features = 0, classes = 0;
    std::vector<std::uint8_t> x; ///< [nodes][features]
    std::vector<int> labels;
    std::vector<char> trained; ///< 1: its label is used in training
    edge_list others;          ///< of GraphSAGE: without the node itself
    edge_list with_self;       ///< of graph convolutions: and with it
    std::vector<float>
        weights; ///< of with_self: 1 / sqrt(d_i d_j), d with the node itself (Kipf & Welling 2017, eq. 2)

    void connect(std::vector<std::pair<int, int>> edges) {
        const auto tidy = [&] {
            std::sort(edges.begin(), edges.end());
            edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
        };
        for (std::size_t e = 0, n = edges.size(); e < n; ++e) edges.emplace_back(edges[e].second, edges[e].first);
        tidy();
        others = edge_list::of(edges, nodes);
        for (int i = 0; i < static_cast<int>(nodes); ++i) edges.emplace_back(i, i);
        tidy();
        with_self = edge_list::of(edges, nodes);
        for (const auto& [to, from] : edges)
            weights.push_back(1.0f / std::sqrt(static_cast<float>(with_self.degree(to)) *
                                               static_cast<float>(with_self.degree(from))));
    }
};

/// Digits [0, nodes) with an edge to each of their k nearest by squared distance of the pixels, in integers: the same
/// graph on every machine. The labels of the first `labelled` are used in training.
inline graph digits_graph(const mnist::dataset& d, index_t nodes, index_t k, index_t labelled) {
    graph g;
    g.nodes = nodes;
    g.features = d.height * d.width;
    g.classes = 10;
    g.x.assign(d.pixels.begin(), d.pixels.begin() + nodes * g.features);
    g.labels.assign(d.labels.begin(), d.labels.begin() + nodes);
    for (index_t i = 0; i < nodes; ++i) g.trained.push_back(i < labelled);
    std::vector<std::pair<int, int>> edges;
    std::vector<std::pair<int, int>> near(static_cast<std::size_t>(nodes));
    for (index_t i = 0; i < nodes; ++i) {
        const std::uint8_t* a = d.image(i);
        for (index_t j = 0; j < nodes; ++j) {
            const std::uint8_t* b = d.image(j);
            int sum = 0;
            for (index_t p = 0; p < g.features; ++p) sum += (a[p] - b[p]) * (a[p] - b[p]);
            near[static_cast<std::size_t>(j)] = {j == i ? -1 : sum, static_cast<int>(j)};
        }
        std::partial_sort(near.begin(), near.begin() + k + 1, near.end());
        for (index_t e = 1; e <= k; ++e)
            edges.emplace_back(static_cast<int>(i), near[static_cast<std::size_t>(e)].second);
    }
    g.connect(std::move(edges));
    return g;
}

/// The 34 members of a karate club and their 78 ties, which split into two (W. W. Zachary, An information flow model
/// for conflict and fission in small groups, Journal of Anthropological Research 33, 1977). A feature for each member;
/// one label of each side is known, those of the two leaders.
inline graph karate_club() {
    static constexpr int ties[][2] = {
        {2, 1},   {3, 1},   {3, 2},   {4, 1},   {4, 2},   {4, 3},   {5, 1},   {6, 1},   {7, 1},   {7, 5},
        {7, 6},   {8, 1},   {8, 2},   {8, 3},   {8, 4},   {9, 1},   {9, 3},   {10, 3},  {11, 1},  {11, 5},
        {11, 6},  {12, 1},  {13, 1},  {13, 4},  {14, 1},  {14, 2},  {14, 3},  {14, 4},  {17, 6},  {17, 7},
        {18, 1},  {18, 2},  {20, 1},  {20, 2},  {22, 1},  {22, 2},  {26, 24}, {26, 25}, {28, 3},  {28, 24},
        {28, 25}, {29, 3},  {30, 24}, {30, 27}, {31, 2},  {31, 9},  {32, 1},  {32, 25}, {32, 26}, {32, 29},
        {33, 3},  {33, 9},  {33, 15}, {33, 16}, {33, 19}, {33, 21}, {33, 23}, {33, 24}, {33, 30}, {33, 31},
        {33, 32}, {34, 9},  {34, 10}, {34, 14}, {34, 15}, {34, 16}, {34, 19}, {34, 20}, {34, 21}, {34, 23},
        {34, 24}, {34, 27}, {34, 28}, {34, 29}, {34, 30}, {34, 31}, {34, 32}, {34, 33}};
    static_assert(std::size(ties) == 78);
    static constexpr int first_side[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 17, 18, 20, 22};
    graph g;
    g.nodes = g.features = 34;
    g.classes = 2;
    g.x.assign(34 * 34, 0);
    for (std::size_t i = 0; i < 34; ++i) g.x[i * 34 + i] = 255;
    g.labels.assign(34, 1);
    for (int i : first_side) g.labels[static_cast<std::size_t>(i) - 1] = 0;
    g.trained.assign(34, 0);
    g.trained[0] = g.trained[33] = 1;
    std::vector<std::pair<int, int>> edges;
    for (const auto& t : ties) edges.emplace_back(t[0] - 1, t[1] - 1);
    g.connect(std::move(edges));
    return g;
}

} // namespace gnn
