// SPDX-License-Identifier: Apache-2.0
//
// The graphs of examples/models/gnn, and the pieces of Degree-Quant.
#include "../catch.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "../../examples/models/gnn/degree_quant.hpp"

using namespace gnn;

TEST_CASE("the karate club has 34 members, 78 ties, and two sides of 17") {
    const graph g = karate_club();
    REQUIRE(g.others.rows() == 34);
    CHECK(g.others.neighbours.size() == 2 * 78);
    CHECK(g.with_self.neighbours.size() == 2 * 78 + 34);
    CHECK(std::count(g.labels.begin(), g.labels.end(), 0) == 17);
    CHECK(g.others.degree(0) == 16); // the two leaders, and the member with one tie
    CHECK(g.others.degree(33) == 17);
    CHECK(g.others.degree(11) == 1);
    CHECK(g.labels[0] != g.labels[33]);
    // Its one tie: 1 / sqrt(2 * 17) to the leader and 1 / 2 to itself.
    const auto at = static_cast<std::size_t>(g.with_self.offsets[11]);
    CHECK(g.weights[at] == Approx(1.0 / std::sqrt(34.0)));
    CHECK(g.weights[at + 1] == Approx(0.5));
}

TEST_CASE("edges go both ways, once") {
    graph g;
    g.nodes = 3;
    g.connect({{0, 2}, {2, 0}, {0, 2}});
    CHECK(g.others.offsets == std::vector<index_t>{0, 1, 1, 2});
    CHECK(g.others.neighbours == std::vector<std::int32_t>{2, 0});
    CHECK(g.with_self.offsets == std::vector<index_t>{0, 2, 3, 5});
    CHECK(g.with_self.neighbours == std::vector<std::int32_t>{0, 2, 1, 0, 2});
}

TEST_CASE("nodes of high degree are protected more often") {
    const graph g = karate_club();
    protective_masks masks(g.others, 0.1, 0.5, 7), again(g.others, 0.1, 0.5, 7);
    std::vector<int> drawn(34);
    for (int i = 0; i < 4000; ++i) {
        const std::vector<char>& m = masks.draw();
        CHECK(m == again.draw());
        for (std::size_t k = 0; k < 34; ++k) drawn[k] += m[k];
    }
    // Ranks 33, 32 and 0 of 33. The deviation of 4000 draws is at most 0.008.
    CHECK(drawn[33] / 4000.0 == Approx(0.5).margin(0.03));
    CHECK(drawn[0] / 4000.0 == Approx(0.1 + 0.4 * 32 / 33).margin(0.03));
    CHECK(drawn[11] / 4000.0 == Approx(0.1).margin(0.03));
    protective_masks none(g.others, 0.0, 0.0, 1), all(g.others, 1.0, 1.0, 1);
    CHECK(none.draw() == std::vector<char>(34, 0));
    CHECK(all.draw() == std::vector<char>(34, 1));
}

TEST_CASE("a protected node keeps its values and its gradient, others get those of codes") {
    activation y;
    y.reshape(2, 1, 1, 3);
    y.values = notch::buffer<float>(6);
    for (index_t i = 0; i < 6; ++i) y.values[i] = i % 3 == 0 ? 0.3f : i % 3 == 1 ? 1.0f : 99.0f;
    protected_activations q;
    q.quantize(y, {0.25f, 0}, {1, 0}); // codes up to 63.75
    CHECK(std::vector<float>(y.values.begin(), y.values.end()) ==
          std::vector<float>{0.3f, 1.0f, 99.0f, 0.25f, 1.0f, 63.75f});
    std::vector<float> dy(6, 2.0f);
    q.backward(dy);
    CHECK(dy == std::vector<float>{2, 2, 2, 2, 2, 0});
}

TEST_CASE("moving percentiles leave the extremes out") {
    std::vector<float> x(1001);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
    moving_percentile o(99.8, 0.5f);
    CHECK(o.range().empty());
    o.observe(x);
    CHECK(o.range().min == Approx(1.0));
    CHECK(o.range().max == Approx(999.0));
    for (float& v : x) v *= 3.0f;
    o.observe(x);
    CHECK(o.range().max == Approx(0.5 * 999.0 + 0.5 * 2997.0));
}
