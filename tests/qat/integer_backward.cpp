// SPDX-License-Identifier: Apache-2.0
//
// The backward products on the integer kernels: exact where gradients are codes, without bias elsewhere, the same
// everywhere.
#include "../catch.hpp"
#include "../kernels/team.hpp"
#include "values.hpp"

#include <cmath>
#include <random>
#include <vector>

#include <notch/qat/integer_backward.hpp>

using namespace notch;

namespace {

struct problem {
    index_t rows, n, k;
    std::vector<float> dz, w_scales;
    std::vector<std::int8_t> w;
    std::vector<std::uint8_t> x;
    quant_params p{0.5f, 77};

    problem(index_t r, index_t out, index_t in, unsigned seed)
        : rows(r), n(out), k(in), dz(randoms(seed, static_cast<std::size_t>(r * out), -1.0f, 1.0f)),
          w_scales(randoms(seed + 1, static_cast<std::size_t>(out), 0.25f, 2.0f)),
          w(static_cast<std::size_t>(out * in)), x(static_cast<std::size_t>(r * in)) {
        std::mt19937 g(seed + 2);
        for (std::int8_t& c : w) c = static_cast<std::int8_t>(static_cast<int>(g() % 255) - 127);
        for (std::uint8_t& c : x) c = static_cast<std::uint8_t>(g() % 256);
    }
    matrix_view<const float> gradient() const { return {dz.data(), rows, n}; }
    matrix_view<const std::int8_t> weights() const { return {w.data(), n, k}; }
    matrix_view<const std::uint8_t> input() const { return {x.data(), rows, k}; }

    std::vector<double> dx() const {
        std::vector<double> y(static_cast<std::size_t>(rows * k));
        for (index_t r = 0; r < rows; ++r)
            for (index_t c = 0; c < n; ++c)
                for (index_t i = 0; i < k; ++i)
                    y[static_cast<std::size_t>(r * k + i)] +=
                        static_cast<double>(gradient()(r, c)) *
                        static_cast<double>(w_scales[static_cast<std::size_t>(c)]) * weights()(c, i);
        return y;
    }
    std::vector<double> dw() const {
        std::vector<double> y(static_cast<std::size_t>(n * k));
        for (index_t r = 0; r < rows; ++r)
            for (index_t c = 0; c < n; ++c)
                for (index_t i = 0; i < k; ++i)
                    y[static_cast<std::size_t>(c * k + i)] +=
                        static_cast<double>(gradient()(r, c)) * 0.5 * (input()(r, i) - 77);
        return y;
    }
};

} // namespace

TEST_CASE("gradients that are codes give the products themselves") {
    for (index_t k : {1, 5, 16, 33}) {
        problem p(7, 6, k, static_cast<unsigned>(k));
        std::mt19937 g(9);
        for (float& d : p.dz) d = 0.25f * static_cast<float>(static_cast<int>(g() % 255) - 127);
        for (index_t r = 0; r < p.rows; ++r)
            p.dz[static_cast<std::size_t>(r * p.n + r % p.n)] = 0.25f * 127; // each row
        p.dz[static_cast<std::size_t>(6 * p.n + 5)] = -0.25f * 127;          // and column has the largest
        p.w_scales = {1.0f};
        integer_backward b(3);
        std::vector<float> dx(static_cast<std::size_t>(p.rows * k)), dw(static_cast<std::size_t>(p.n * k), 10.0f);
        b.input_gradient(p.gradient(), p.weights(), p.w_scales, {dx.data(), p.rows, k});
        b.weight_gradient(p.gradient(), p.input(), p.p, {dw.data(), p.n, k});
        p.w_scales.assign(6, 1.0f);
        const auto want_dx = p.dx(), want_dw = p.dw();
        for (std::size_t i = 0; i < dx.size(); ++i) CHECK(static_cast<double>(dx[i]) == want_dx[i]);
        for (std::size_t i = 0; i < dw.size(); ++i) CHECK(static_cast<double>(dw[i]) == want_dw[i] + 10.0); // added
    }
}

TEST_CASE("rounded gradients have the expectation of the products, row by row and column by column") {
    const problem p(6, 8, 5, 4);
    const auto want_dx = p.dx(), want_dw = p.dw();
    std::vector<double> dx(want_dx.size()), dw(want_dw.size()), dx2(dx.size()), dw2(dw.size());
    integer_backward b(11);
    constexpr int draws = 400;
    std::vector<float> one_dx(dx.size()), one_dw(dw.size());
    for (int d = 0; d < draws; ++d) {
        b.input_gradient(p.gradient(), p.weights(), p.w_scales, {one_dx.data(), p.rows, p.k});
        std::fill(one_dw.begin(), one_dw.end(), 0.0f);
        b.weight_gradient(p.gradient(), p.input(), p.p, {one_dw.data(), p.n, p.k});
        for (std::size_t i = 0; i < dx.size(); ++i) {
            dx[i] += static_cast<double>(one_dx[i]) / draws;
            dx2[i] += static_cast<double>(one_dx[i]) * static_cast<double>(one_dx[i]) / draws;
        }
        for (std::size_t i = 0; i < dw.size(); ++i) {
            dw[i] += static_cast<double>(one_dw[i]) / draws;
            dw2[i] += static_cast<double>(one_dw[i]) * static_cast<double>(one_dw[i]) / draws;
        }
    }
    // The mean of the draws is within five of its standard deviations, and draws differ.
    for (std::size_t i = 0; i < dx.size(); ++i) {
        const double deviation = std::sqrt(std::fmax(dx2[i] - dx[i] * dx[i], 0.0) / draws);
        CHECK(deviation > 0.0);
        CHECK(std::fabs(dx[i] - want_dx[i]) < 5.0 * deviation);
    }
    for (std::size_t i = 0; i < dw.size(); ++i) {
        const double deviation = std::sqrt(std::fmax(dw2[i] - dw[i] * dw[i], 0.0) / draws);
        CHECK(deviation > 0.0);
        CHECK(std::fabs(dw[i] - want_dw[i]) < 5.0 * deviation);
    }
}

TEST_CASE("one seed gives one gradient, on every instruction set, with strides and many rows") {
    const problem p(20000, 3, 4, 8); // more rows than one accumulator is proved for
    std::vector<float> first_dw, first_dx;
    for (isa i : available_isas()) {
        integer_backward b(5);
        std::vector<float> dw(2 * 12), dx(static_cast<std::size_t>(p.rows) * 6, -1.0f);
        b.weight_gradient(p.gradient(), p.input(), p.p, {dw.data(), 3, 4, 8}, context(i));
        b.input_gradient(p.gradient(), p.weights(), p.w_scales, {dx.data(), p.rows, 4, 6}, context(i));
        CHECK(dw[4] == 0.0f); // between the rows
        CHECK(dx[5] == -1.0f);
        if (first_dw.empty()) {
            first_dw = dw;
            first_dx = dx;
            const auto want = p.dw();
            for (std::size_t c = 0; c < 3; ++c)
                for (std::size_t k = 0; k < 4; ++k) // a part of an 8-bit step for each of 20000 rows
                    CHECK(std::fabs(static_cast<double>(dw[8 * c + k]) - want[4 * c + k]) <
                          128.0 * 0.5 * std::sqrt(20000.0) / 127.0 * 3.0);
        }
        CHECK(dw == first_dw);
        CHECK(dx == first_dx);
        for (index_t threads : {2, 3}) {
            const thread_team team{threads};
            integer_backward same(5);
            std::vector<float> dw2(2 * 12), dx2(dx.size(), -1.0f);
            same.weight_gradient(p.gradient(), p.input(), p.p, {dw2.data(), 3, 4, 8}, context(i, team));
            same.input_gradient(p.gradient(), p.weights(), p.w_scales, {dx2.data(), p.rows, 4, 6}, context(i, team));
            CHECK(dw2 == first_dw);
            CHECK(dx2 == first_dx);
        }
    }
    integer_backward a(5), b(6);
    std::vector<float> da(12), db(12), dc(12);
    a.weight_gradient(p.gradient(), p.input(), p.p, {da.data(), 3, 4});
    b.weight_gradient(p.gradient(), p.input(), p.p, {db.data(), 3, 4});
    a.weight_gradient(p.gradient(), p.input(), p.p, {dc.data(), 3, 4});
    CHECK(da != db); // another seed
    CHECK(da != dc); // another call
}

TEST_CASE("backward products refuse what does not fit, and gradients that went wrong") {
    problem p(3, 4, 5, 1);
    integer_backward b;
    std::vector<float> out(20), dw(20, 1.0f);
    CHECK_THROWS_WITH(b.input_gradient({p.dz.data(), 4, 3}, p.weights(), p.w_scales, {out.data(), 4, 5}),
                      contains_text("the number of rows of w is 4, expected 3"));
    CHECK_THROWS_WITH(b.input_gradient(p.gradient(), p.weights(), p.w_scales, {out.data(), 3, 4}),
                      contains_text("the number of columns of dx is 4, expected 5"));
    CHECK_THROWS_WITH(b.input_gradient(p.gradient(), p.weights(), std::span(p.w_scales).first(3), {out.data(), 3, 5}),
                      contains_text("the number of w_scales is 3, expected 4"));
    CHECK_THROWS_WITH(b.weight_gradient(p.gradient(), {p.x.data(), 2, 5}, p.p, {dw.data(), 4, 5}),
                      contains_text("the number of rows of x is 2, expected 3"));
    CHECK_THROWS_WITH(b.weight_gradient(p.gradient(), p.input(), {0.5f, 256}, {dw.data(), 4, 5}),
                      contains_text("zero_point"));
    CHECK_THROWS_WITH(b.weight_gradient(p.gradient(), p.input(), {-1.0f, 0}, {dw.data(), 4, 5}),
                      contains_text("scale"));
    p.w_scales[2] = 0.0f;
    CHECK_THROWS_WITH(b.input_gradient(p.gradient(), p.weights(), p.w_scales, {out.data(), 3, 5}),
                      contains_text("w_scales[2] is 0"));
    p.w_scales[2] = 1.0f;
    for (float bad : {not_a_number, infinity, -infinity}) {
        p.dz[7] = bad;
        CHECK_THROWS_WITH(b.input_gradient(p.gradient(), p.weights(), p.w_scales, {out.data(), 3, 5}),
                          contains_text("dz(1, 3) is"));
        CHECK_THROWS_WITH(b.weight_gradient(p.gradient(), p.input(), p.p, {dw.data(), 4, 5}),
                          contains_text("dz(1, 3) is"));
    }
    CHECK(dw == std::vector<float>(20, 1.0f));
    // No rows, no columns; gradients of 0 and of any size.
    b.weight_gradient({nullptr, 0, 4}, {nullptr, 0, 5}, p.p, {dw.data(), 4, 5});
    CHECK(dw == std::vector<float>(20, 1.0f));
    b.input_gradient({nullptr, 3, 0}, {nullptr, 0, 5}, p.w_scales = {1.0f}, {out.data(), 3, 5});
    CHECK(std::vector<float>(out.begin(), out.begin() + 15) == std::vector<float>(15, 0.0f));
    for (float size : {0.0f, 1e-44f, 3e38f}) {
        p.dz.assign(12, size);
        p.w_scales.assign(4, 1.0f);
        b.input_gradient(p.gradient(), p.weights(), p.w_scales, {out.data(), 3, 5});
        b.weight_gradient(p.gradient(), p.input(), {3e38f, 0}, {dw.data(), 4, 5});
        for (float v : dw) CHECK(!std::isnan(v));
        for (float v : out) CHECK(!std::isnan(v));
        std::fill(p.x.begin(), p.x.end(), std::uint8_t{77}); // sums of 0, also times the largest scales
        b.weight_gradient(p.gradient(), p.input(), {3e38f, 77}, {dw.data(), 4, 5});
        for (float v : dw) CHECK(!std::isnan(v));
    }
    // Scales that take a gradient out of the floats, and more columns than an accumulator is proved for.
    p.dz.assign(12, 1.0f);
    p.dz[4] = 3e38f;
    p.w_scales = {10.0f};
    CHECK_THROWS_WITH(b.input_gradient(p.gradient(), p.weights(), p.w_scales, {out.data(), 3, 5}),
                      contains_text("dz(1, 0) * w_scales is inf"));
    const std::vector<float> wide(33026);
    const std::vector<std::int8_t> w(33026);
    CHECK_THROWS_WITH(b.input_gradient({wide.data(), 1, 33026}, {w.data(), 33026, 1}, p.w_scales, {out.data(), 1, 1}),
                      contains_text("dz has 33026 columns, at most 33025"));
    b.input_gradient({wide.data(), 1, 33025}, {w.data(), 33025, 1}, p.w_scales, {out.data(), 1, 1});
    CHECK(out[0] == 0.0f);
}
