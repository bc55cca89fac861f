// SPDX-License-Identifier: Apache-2.0
#include "../catch.hpp"

#include <limits>
#include <numeric>

#include <notch/kernels/aggregate.hpp>

#include "../guard_page.hpp"
#include "team.hpp"

using namespace notch;
using u8 = std::uint8_t;

namespace {

struct graph_case {
    std::vector<index_t> offsets{0};
    std::vector<std::int32_t> neighbours;
    std::vector<std::int8_t> weights;
    std::vector<float> scales;

    [[nodiscard]] neighbourhood view(reduction how = reduction::sum) const {
        return {{offsets, neighbours}, weights, scales, how};
    }
};

/// Rows of 0 ... most neighbours, many of them empty.
graph_case random_graph(std::mt19937& g, index_t rows, index_t x_rows, index_t most, bool weighted, bool per_row) {
    graph_case c;
    for (index_t i = 0; i < rows; ++i) {
        const index_t degree = g() % 4 == 0 ? 0 : static_cast<index_t>(g() % static_cast<unsigned>(most + 1));
        for (index_t e = 0; e < degree; ++e)
            c.neighbours.push_back(static_cast<std::int32_t>(g() % static_cast<unsigned>(x_rows)));
        c.offsets.push_back(static_cast<index_t>(c.neighbours.size()));
    }
    if (!weighted) return c;
    c.weights = random_codes<std::int8_t>(g, c.neighbours.size(), -128, 127, true);
    c.scales.resize(static_cast<std::size_t>(per_row ? rows : 1));
    for (float& s : c.scales) s = 0.001f * static_cast<float>(1 + g() % 1000);
    return c;
}

void check(std::mt19937& g, index_t rows, index_t x_rows, index_t cols, index_t most, bool weighted) {
    const graph_case c = random_graph(g, rows, x_rows, most, weighted, g() % 2);
    const guarded<std::int32_t> neighbours(c.neighbours);
    const guarded<std::int8_t> weights(c.weights);
    neighbourhood n = c.view(g() % 2 ? reduction::sum : reduction::mean);
    n.graph.neighbours = {neighbours.data(), neighbours.size()};
    if (weighted) n.weights = {weights.data(), weights.size()};
    const index_t ldx = cols + static_cast<index_t>(g() % 3), ldy = cols + static_cast<index_t>(g() % 3);
    const bool at_front = g() % 2;
    const guard side = at_front ? guard::before : guard::after;
    const guarded<u8> codes(random_codes<u8>(g, static_cast<std::size_t>((x_rows - 1) * ldx + cols), 0, 255, true),
                            side);
    const matrix_view<const u8> x(codes.data(), x_rows, cols, ldx);
    const quant_params xq{0.013f, static_cast<std::int32_t>(g() % 256)},
        yq{0.0021f * static_cast<float>(1 + g() % 1000), static_cast<std::int32_t>(g() % 256)};
    const code_range range = g() % 2 ? code_range{0, 255} : code_range{yq.zero_point, 255};
    const auto size = static_cast<std::size_t>(rows > 0 ? (rows - 1) * ldy + cols : 0);
    const auto view = [&](auto* p) { return matrix_view(p, rows, cols, ldy); };
    std::vector<u8> want(size, 77);
    std::vector<std::int32_t> want_sums(size, 77);
    std::vector<float> want_values(size, 77.0f);
    ref::aggregate(n, x, xq, yq, range, view(want.data()));
    ref::aggregate(n, x, xq.zero_point, view(want_sums.data()));
    ref::aggregate(n, x, xq, view(want_values.data()));
    for (isa i : available_isas())
        for (index_t threads : {1, 2, 3}) {
            if (threads > 1 && static_cast<index_t>(c.neighbours.size()) * cols < 10000) continue;
            const thread_team team{threads};
            const context ctx(i, team);
            INFO(to_string(i) << " " << rows << " rows of " << x_rows << " x " << cols << " threads " << threads);
            guarded<u8> y(std::vector<u8>(size, 77), side);
            aggregate(n, x, xq, yq, range, view(y.data()), ctx);
            CHECK(std::vector<u8>(y.begin(), y.end()) == want);
            guarded<std::int32_t> sums(std::vector<std::int32_t>(size, 77), side);
            aggregate(n, x, xq.zero_point, view(sums.data()), ctx);
            CHECK(std::vector<std::int32_t>(sums.begin(), sums.end()) == want_sums);
            guarded<float> values(std::vector<float>(size, 77.0f), side);
            aggregate(n, x, xq, view(values.data()), ctx);
            CHECK(std::vector<float>(values.begin(), values.end()) == want_values);
        }
}

} // namespace

TEST_CASE("aggregate agrees with ref on every instruction set") {
    std::mt19937 g(1);
    for (index_t cols = 0; cols <= 133; ++cols)
        for (bool weighted : {false, true}) check(g, 7, 9, cols, 6, weighted);
    for (bool weighted : {false, true}) {
        check(g, 1, 1, 17, 5, weighted);      // one node
        check(g, 0, 3, 5, 5, weighted);       // no row
        check(g, 4, 3, 20, 0, weighted);      // no edge
        check(g, 2, 700, 100, 999, weighted); // hubs
        check(g, 300, 200, 64, 20, weighted);
    }
}

TEST_CASE("aggregate: values by hand") {
    // Row 0: neighbours 0 and 2 with weights 2 and -1; row 1: none; row 2: neighbour 1, twice.
    const index_t offsets[] = {0, 2, 2, 4};
    const std::int32_t neighbours[] = {0, 2, 1, 1};
    const std::int8_t weights[] = {2, -1, 3, 4};
    const float scales[] = {0.5f, 1.0f, 0.25f};
    const u8 x[] = {10, 12, 20, 8, 0, 255};
    const matrix_view<const u8> xv(x, 3, 2);
    const neighbourhood weighted{{offsets, neighbours}, weights, scales};
    const neighbourhood mean{{offsets, neighbours}, {}, {}, reduction::mean};
    for (isa i : available_isas()) {
        const context ctx(i);
        std::int32_t sums[6];
        aggregate(weighted, xv, 10, matrix_view<std::int32_t>(sums, 3, 2), ctx);
        const std::int32_t want[] = {10, 4 - 245, 0, 0, 70, -14}; // 2 * 0 - (0 - 10), ...
        for (int k = 0; k < 6; ++k) CHECK(sums[k] == want[k]);
        float values[6];
        aggregate(weighted, xv, {2.0f, 10}, matrix_view<float>(values, 3, 2), ctx);
        const float want_values[] = {10, -241, 0, 0, 35, -7};
        for (int k = 0; k < 6; ++k) CHECK(values[k] == want_values[k]);
        u8 y[6];
        aggregate(weighted, xv, {2.0f, 10}, {4.0f, 3}, {2, 10}, matrix_view<u8>(y, 3, 2), ctx);
        const int want_codes[] = {5, 2, 3, 3, 10, 2}; // 2.5 is a tie, to even; -1.75 + 3 is below 2
        for (int k = 0; k < 6; ++k) CHECK(int{y[k]} == want_codes[k]);
        aggregate(mean, xv, {2.0f, 10}, matrix_view<float>(values, 3, 2), ctx);
        const float want_means[] = {-10, 247, 0, 0, 20, -4};
        for (int k = 0; k < 6; ++k) CHECK(values[k] == want_means[k]);
    }
}

TEST_CASE("aggregate: a mean with the params of its inputs never clips") {
    std::mt19937 g(3);
    const graph_case c = random_graph(g, 40, 30, 9, false, false);
    const auto codes = random_codes<u8>(g, 30 * 8, 0, 255, true);
    const matrix_view<const u8> x(codes.data(), 30, 8);
    const quant_params q{0.37f, 100};
    std::vector<u8> y(40 * 8);
    std::vector<float> values(y.size());
    aggregate(c.view(reduction::mean), x, q, q, matrix_view<u8>(y.data(), 40, 8));
    aggregate(c.view(reduction::mean), x, q, matrix_view<float>(values.data(), 40, 8));
    for (std::size_t i = 0; i < y.size(); ++i)
        CHECK(std::abs(values[i] / q.scale + 100.0f - static_cast<float>(y[i])) < 0.501f);
}

TEST_CASE("aggregate refuses sums that could leave int32, and no others") {
    const u8 x[] = {0};
    const matrix_view<const u8> xv(x, 1, 1);
    const index_t most = std::numeric_limits<std::int32_t>::max() / 255; // 8421504 neighbours
    std::vector<std::int32_t> neighbours(static_cast<std::size_t>(most) + 1);
    std::int32_t y = 0;
    const matrix_view<std::int32_t> yv(&y, 1, 1);
    index_t offsets[] = {0, most};
    const std::span<const std::int32_t> all(neighbours);
    aggregate({{offsets, all.first(static_cast<std::size_t>(most))}, {}, {}}, xv, 255, yv);
    CHECK(y == -255 * most);
    offsets[1] = most + 1;
    CHECK_THAT(error_text(errc::overflow,
                          [&] {
                              aggregate({{offsets, all}, {}, {}}, xv, 255, yv);
                          }),
               contains_text("row 0 has 8421505 neighbours whose weights add up to 8421505, at most 8421504"));
    aggregate({{offsets, all}, {}, {}}, xv, 100, yv); // |x - 100| is at most 155
    CHECK(y == -100 * (most + 1));

    // 65793 weights of -128 are 8421504, one more of 1 is too many.
    const float scale[] = {1.0f};
    std::vector<std::int8_t> weights(65794, -128);
    weights.back() = 0;
    offsets[1] = 65794;
    aggregate({{offsets, all.first(65794)}, weights, scale}, xv, 255, yv);
    CHECK(y == 65793 * 128 * 255);
    weights.back() = 1;
    CHECK_THAT(error_text(errc::overflow,
                          [&] {
                              aggregate({{offsets, all.first(65794)}, weights, scale}, xv, 255, yv);
                          }),
               contains_text("whose weights add up to 8421505"));
}

TEST_CASE("aggregate checks before it writes") {
    const std::vector<u8> codes(12, 1);
    const matrix_view<const u8> x(codes.data(), 3, 4);
    std::vector<u8> y(8, 9);
    const matrix_view<u8> out(y.data(), 2, 4);
    const quant_params q{0.5f, 3};
    const float one[] = {1.0f}, bad[] = {1.0f, 0.0f}, three[] = {1.0f, 1.0f, 1.0f}, huge[] = {3e38f};
    const std::int8_t weights[] = {1, 2, 3};
    const errc invalid = errc::invalid_argument, shape = errc::shape_mismatch;
    const auto text = [&](errc code, std::vector<index_t> offsets, std::vector<std::int32_t> neighbours,
                          std::span<const std::int8_t> w = {}, std::span<const float> s = {},
                          quant_params xq = {0.5f, 3}, quant_params yq = {0.5f, 3}, code_range range = {0, 255}) {
        std::string other = error_text(code, [&] {
            ref::aggregate({{offsets, neighbours}, w, s}, x, xq, yq, range, out);
        });
        const std::string found = error_text(code, [&] {
            aggregate({{offsets, neighbours}, w, s}, x, xq, yq, range, out);
        });
        CHECK(other == "ref::" + found);
        return found;
    };
    CHECK_THAT(text(invalid, {}, {}), contains_text("no offsets"));
    CHECK_THAT(text(invalid, {1, 2, 3}, {0, 1, 2}), contains_text("offsets[0] is 1"));
    CHECK_THAT(text(invalid, {0, 3, 2}, {0, 1}), contains_text("offsets[2] is 2, less than the one before, 3"));
    CHECK_THAT(text(shape, {0, 1, 2}, {0, 1, 2}), contains_text("the last offset is 2, expected 3"));
    CHECK_THAT(text(shape, {0, 1, 4}, {0, 1, 2}), contains_text("the last offset is 4, expected 3"));
    CHECK_THAT(text(invalid, {0, 1, 3}, {0, 1, 3}), contains_text("neighbours[2] is 3, x has 3 rows"));
    CHECK_THAT(text(invalid, {0, 1, 3}, {0, -1, 2}), contains_text("neighbours[1] is -1"));
    CHECK_THAT(text(shape, {0, 1, 1, 3}, {0, 1, 2}), contains_text("rows of y is 2, expected 3"));
    CHECK_THAT(text(shape, {0, 1, 2}, {0, 1}, weights, one), contains_text("number of weights is 3, expected 2"));
    CHECK_THAT(text(shape, {0, 1, 3}, {0, 1, 2}, weights), contains_text("number of w_scales is 0"));
    CHECK_THAT(text(shape, {0, 1, 3}, {0, 1, 2}, weights, three), contains_text("number of w_scales is 3, expected 2"));
    CHECK_THAT(text(invalid, {0, 1, 3}, {0, 1, 2}, weights, bad), contains_text("w_scales[1] is 0"));
    CHECK_THAT(text(invalid, {0, 1, 3}, {0, 1, 2}, weights, huge, {10.0f, 3}), contains_text("overflows float"));
    CHECK_THAT(text(invalid, {0, 1, 3}, {0, 1, 2}, {}, {}, {0.5f, 256}), contains_text("x.zero_point is 256"));
    CHECK_THAT(text(invalid, {0, 1, 3}, {0, 1, 2}, {}, {}, {0.0f, 3}), contains_text("x.scale is 0"));
    CHECK_THAT(text(invalid, {0, 1, 3}, {0, 1, 2}, {}, {}, q, {0.5f, -1}), contains_text("y_params.zero_point is -1"));
    CHECK_THAT(text(invalid, {0, 1, 3}, {0, 1, 2}, {}, {}, q, {std::numeric_limits<float>::infinity(), 0}),
               contains_text("y_params.scale is inf"));
    CHECK_THAT(text(invalid, {0, 1, 3}, {0, 1, 2}, {}, {}, q, q, {3, 256}), contains_text("codes is 3..256"));
    CHECK_THAT(text(invalid, {0, 1, 3}, {0, 1, 2}, {}, {}, q, q, {5, 4}), contains_text("codes is 5..4"));
    const index_t offsets[] = {0, 1, 3};
    const std::int32_t neighbours[] = {0, 1, 2};
    const neighbourhood strange{{offsets, neighbours}, {}, {}, static_cast<reduction>(7)};
    CHECK_THAT(error_text(invalid, [&] { aggregate(strange, x, q, q, out); }), contains_text("the reduction is 7"));
    const neighbourhood n{{offsets, neighbours}, {}, {}};
    CHECK_THAT(error_text(shape, [&] { aggregate(n, x, q, q, matrix_view<u8>(y.data(), 2, 3)); }),
               contains_text("columns of y is 3, expected 4"));
    CHECK_THAT(error_text(invalid, [&] { aggregate(n, matrix_view<const u8>(nullptr, 3, 4), q, q, out); }),
               contains_text("x is null"));
    CHECK(y == std::vector<u8>(8, 9));
}
