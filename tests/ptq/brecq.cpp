// SPDX-License-Identifier: Apache-2.0
//
// Block reconstruction: against trying all roundings of a small block, against rounding and AdaRound of one layer at a
// time, and the properties it promises.
#include "../catch.hpp"
#include "values.hpp"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <notch/ptq/adaround.hpp>
#include <notch/ptq/brecq.hpp>
#include <notch/ptq/calibrate.hpp>

using namespace notch;

namespace {

using s3 = symmetric<3>;
using weight_views = std::span<const matrix_view<const float>>;

/// z = x + W2 relu(W1 x), or without "x +" where W2 has not the outputs of x.
struct residual_block {
    std::vector<std::vector<float>> x; ///< batches of rows of `in` values
    index_t in = 0;
    int forwards = 0, backwards = 0;
    std::vector<index_t> order{};

    static double hidden(const float* row, const matrix_view<const float>& w1, index_t k) {
        double h = 0;
        for (index_t c = 0; c < w1.cols; ++c) h += static_cast<double>(w1(k, c)) * static_cast<double>(row[c]);
        return h;
    }
    void forward(index_t b, weight_views w, matrix_view<float> z) {
        ++forwards;
        for (index_t r = 0; r < z.rows; ++r) {
            const float* row = x[static_cast<std::size_t>(b)].data() + r * in;
            for (index_t j = 0; j < z.cols; ++j) {
                double sum = z.cols == in ? static_cast<double>(row[j]) : 0.0;
                for (index_t k = 0; k < w[0].rows; ++k)
                    sum += static_cast<double>(w[1](j, k)) * std::max(hidden(row, w[0], k), 0.0);
                z(r, j) = static_cast<float>(sum);
            }
        }
    }
    void backward(index_t b, weight_views w, matrix_view<const float> dz, std::span<const matrix_view<float>> dw) {
        ++backwards;
        order.push_back(b);
        for (index_t r = 0; r < dz.rows; ++r) {
            const float* row = x[static_cast<std::size_t>(b)].data() + r * in;
            for (index_t k = 0; k < w[0].rows; ++k) {
                const double h = hidden(row, w[0], k);
                if (h <= 0) continue;
                double dh = 0;
                for (index_t j = 0; j < dz.cols; ++j) {
                    dw[1](j, k) += static_cast<float>(static_cast<double>(dz(r, j)) * h);
                    dh += static_cast<double>(dz(r, j)) * static_cast<double>(w[1](j, k));
                }
                for (index_t c = 0; c < in; ++c) dw[0](k, c) += static_cast<float>(dh * static_cast<double>(row[c]));
            }
        }
    }
};

/// A block, its weights and what brecq is to be given.
struct problem {
    index_t in, mid, out, rows;
    residual_block block;
    std::vector<float> w1, w2;
    std::vector<quant_params> p1, p2;
    std::vector<std::int8_t> c1, c2;
    std::vector<std::vector<float>> z;
    std::vector<matrix_view<const float>> targets;

    /// Inputs have one source in common; every 8th is `outlying` times larger.
    problem(index_t in_, index_t mid_, index_t out_, index_t batches, index_t rows_, float outlying, unsigned seed)
        : in(in_), mid(mid_), out(out_), rows(rows_), block{{}, in_},
          w1(normal_values(static_cast<std::size_t>(mid * in), seed)),
          w2(normal_values(static_cast<std::size_t>(out * mid), seed + 1)), p1(static_cast<std::size_t>(mid)),
          p2(static_cast<std::size_t>(out)), c1(w1.size()), c2(w2.size()) {
        calibrate<s3>(w1, {1, mid, in}, clip::error(), p1);
        calibrate<s3>(w2, {1, out, mid}, clip::error(), p2);
        for (index_t b = 0; b < batches; ++b) {
            std::vector<float> x =
                normal_values(static_cast<std::size_t>(rows * in), seed + 2 + static_cast<unsigned>(b));
            const auto n = static_cast<std::size_t>(in);
            for (std::size_t i = 0; i < x.size(); ++i)
                x[i] = (0.4f * x[i] + x[i / n * n]) * (i % n % 8 == 5 ? outlying : 1.0f);
            block.x.push_back(x);
        }
        for (index_t b = 0; b < batches; ++b) z.push_back(output(w1, w2, b));
        for (const auto& t : z) targets.emplace_back(t.data(), rows, out);
    }
    std::vector<float> output(const std::vector<float>& a, const std::vector<float>& c, index_t b) {
        std::vector<float> y(static_cast<std::size_t>(rows * out));
        const matrix_view<const float> w[] = {{a.data(), mid, in}, {c.data(), out, mid}};
        block.forward(b, w, {y.data(), rows, out});
        return y;
    }
    std::vector<brecq_layer<s3>> layers() {
        return {{{w1.data(), mid, in}, p1, {c1.data(), mid, in}}, {{w2.data(), out, mid}, p2, {c2.data(), out, mid}}};
    }
    static std::vector<float> back(const std::vector<std::int8_t>& codes, const std::vector<quant_params>& p) {
        std::vector<float> w(codes.size());
        for (std::size_t i = 0; i < w.size(); ++i) w[i] = ref::dequantize(codes[i], p[i / (w.size() / p.size())]);
        return w;
    }
    /// Of codes, over all batches, weighted with f if there is one.
    double error(const std::vector<std::int8_t>& a, const std::vector<std::int8_t>& c, const float* f = nullptr) {
        double sum = 0;
        for (std::size_t b = 0; b < z.size(); ++b) {
            const std::vector<float> y = output(back(a, p1), back(c, p2), static_cast<index_t>(b));
            for (std::size_t i = 0; i < y.size(); ++i) {
                const double d = static_cast<double>(y[i]) - static_cast<double>(z[b][i]);
                sum += d * d * (f == nullptr ? 1.0 : static_cast<double>(f[i % static_cast<std::size_t>(out)]));
            }
        }
        return sum;
    }
    double nearest_error(const float* f = nullptr) {
        std::vector<std::int8_t> a(c1.size()), c(c2.size());
        ref::quantize<half_even, std::int8_t>(w1, {1, mid, in}, p1, {-3, 3}, a);
        ref::quantize<half_even, std::int8_t>(w2, {1, out, mid}, p2, {-3, 3}, c);
        return error(a, c, f);
    }
};

} // namespace

TEST_CASE("brecq: near the best of all roundings of a small block") {
    problem p(3, 3, 2, 2, 12, 1, 10);
    const auto layers = p.layers();
    const brecq_result found = brecq<s3>(p.block, layers, p.targets);
    CHECK(found.nearest == Approx(p.nearest_error()));
    CHECK(found.error == Approx(p.error(p.c1, p.c2)));
    // All 2^15 of them.
    double best = std::numeric_limits<double>::infinity();
    for (unsigned way = 0; way < 1u << 15; ++way) {
        std::vector<std::int8_t> a(9), c(6);
        for (std::size_t i = 0; i < 15; ++i) {
            const float w = i < 9 ? p.w1[i] / p.p1[i / 3].scale : p.w2[i - 9] / p.p2[(i - 9) / 3].scale;
            const auto code =
                static_cast<std::int8_t>(std::clamp(std::floor(w) + static_cast<float>(way >> i & 1), -3.0f, 3.0f));
            (i < 9 ? a[i] : c[i - 9]) = code;
        }
        best = std::min(best, p.error(a, c));
    }
    CAPTURE(best, found.error, found.nearest);
    CHECK(found.error >= best * (1 - 1e-9));
    CHECK(found.error < 1.5 * best);
    CHECK(found.error < 0.1 * found.nearest);
}

TEST_CASE("brecq: inputs with outliers, a small part of the error of rounding, less than AdaRound layer by layer") {
    problem p(16, 24, 16, 4, 32, 10, 20);
    const auto layers = p.layers();
    index_t calls = 0, total = 0;
    p.block.forwards = 0;
    const brecq_result found = brecq<s3>(p.block, layers, p.targets, {}, {}, [&](index_t done, index_t of) {
        CHECK(done == ++calls);
        total = of;
    });
    CHECK(calls == 2000);
    CHECK(total == 2000);
    CHECK(p.block.backwards == 2000);
    CHECK(p.block.forwards == 2000 + 2 * 4);
    for (std::size_t t = 0; t < 2000; ++t)
        if (p.block.order[t] != static_cast<index_t>(t % 4)) FAIL("batches are not taken in turn");
    CHECK(found.error == Approx(p.error(p.c1, p.c2)));
    // Each code is one of two.
    for (std::size_t i = 0; i < p.c1.size(); ++i) {
        const float real = p.w1[i] / p.p1[i / 16].scale;
        CHECK((p.c1[i] == std::clamp(std::floor(real), -3.0f, 3.0f) ||
               p.c1[i] == std::clamp(std::floor(real) + 1, -3.0f, 3.0f)));
    }
    // Once more: the same.
    const auto first = p.c1, second = p.c2;
    std::fill(p.c1.begin(), p.c1.end(), std::int8_t{0});
    CHECK(brecq<s3>(p.block, layers, p.targets).error == found.error);
    CHECK(p.c1 == first);
    CHECK(p.c2 == second);

    input_moments of_x(16), of_h(24);
    for (const auto& x : p.block.x) {
        of_x.observe({x.data(), 32, 16});
        std::vector<float> h;
        for (std::size_t r = 0; r < 32; ++r)
            for (index_t k = 0; k < 24; ++k)
                h.push_back(static_cast<float>(
                    std::max(residual_block::hidden(x.data() + r * 16, {p.w1.data(), 24, 16}, k), 0.0)));
        of_h.observe({h.data(), 32, 24});
    }
    adaround<s3>({p.w1.data(), 24, 16}, of_x, p.p1, {p.c1.data(), 24, 16});
    adaround<s3>({p.w2.data(), 16, 24}, of_h, p.p2, {p.c2.data(), 16, 24});
    const double by_layer = p.error(p.c1, p.c2);
    CAPTURE(found.nearest, by_layer, found.error);
    CHECK(found.error < 0.25 * found.nearest);
    CHECK(found.error < 0.5 * by_layer);
}

TEST_CASE("brecq: outputs that matter more, groups, one pair of parameters for all, zero points") {
    // Nine outputs share four hidden values; the fifth output is all that matters.
    problem few(8, 4, 9, 2, 30, 1, 30);
    const auto of_few = few.layers();
    std::vector<float> only(9), f;
    only[4] = 50;
    for (int r = 0; r < 30; ++r) f.insert(f.end(), only.begin(), only.end());
    const std::vector<matrix_view<const float>> weights(2, {f.data(), 30, 9});
    brecq<s3>(few.block, of_few, few.targets);
    const double even = few.error(few.c1, few.c2, only.data());
    const brecq_result found = brecq<s3>(few.block, of_few, few.targets, weights);
    CHECK(found.nearest == Approx(few.nearest_error(only.data())));
    CHECK(found.error == Approx(few.error(few.c1, few.c2, only.data())));
    CAPTURE(even, found.error);
    CHECK(found.error < 0.5 * even);

    problem p(8, 12, 3, 2, 30, 1, 30);
    // Groups of 5 of the 8 inputs, an affine type.
    using u3 = affine<3>;
    std::vector<quant_params> grouped(24), one(1);
    calibrate<u3>(p.w1, {12, 1, 8, 1, 1, 5}, clip::min_max(), grouped);
    calibrate<u3>(p.w2, {1, 1, 36}, clip::min_max(), one);
    std::vector<std::uint8_t> a(96), c(36);
    const std::vector<brecq_layer<u3>> other{{{p.w1.data(), 12, 8}, grouped, {a.data(), 12, 8}, 5},
                                             {{p.w2.data(), 3, 12}, one, {c.data(), 3, 12}}};
    const brecq_result cut = brecq<u3>(p.block, other, p.targets);
    CHECK(cut.error < 0.3 * cut.nearest);
    std::vector<float> w1(96), w2(36);
    for (std::size_t i = 0; i < 96; ++i) {
        const quant_params q = grouped[i / 8 * 2 + (i % 8 >= 5 ? 1 : 0)];
        w1[i] = ref::dequantize(a[i], q);
        CHECK(std::abs(a[i] - ref::quantize(p.w1[i], q, {0, 7})) <= 1);
    }
    for (std::size_t i = 0; i < 36; ++i) w2[i] = ref::dequantize(c[i], one[0]);
    double sum = 0;
    for (index_t b = 0; b < 2; ++b) {
        const std::vector<float> y = p.output(w1, w2, b);
        for (std::size_t i = 0; i < y.size(); ++i) {
            const double d = static_cast<double>(y[i]) - static_cast<double>(p.z[static_cast<std::size_t>(b)][i]);
            sum += d * d;
        }
    }
    CHECK(sum == Approx(cut.error));
}

TEST_CASE("brecq: nothing to gain, and what ends worse keeps the nearest codes") {
    problem p(4, 4, 2, 1, 6, 1, 40);
    // Weights on the grid.
    for (std::size_t i = 0; i < p.w1.size(); ++i)
        p.w1[i] = ref::dequantize(ref::quantize(p.w1[i], p.p1[i / 4], {-3, 3}), p.p1[i / 4]);
    for (std::size_t i = 0; i < p.w2.size(); ++i)
        p.w2[i] = ref::dequantize(ref::quantize(p.w2[i], p.p2[i / 4], {-3, 3}), p.p2[i / 4]);
    p.z[0] = p.output(p.w1, p.w2, 0);
    p.targets[0] = {p.z[0].data(), 6, 2};
    const brecq_result exact = brecq<s3>(p.block, p.layers(), p.targets);
    CHECK(exact.nearest == 0.0);
    CHECK(exact.error == 0.0);
    CHECK(problem::back(p.c1, p.p1) == p.w1);
    CHECK(problem::back(p.c2, p.p2) == p.w2);

    // A block with gradients of the wrong sign.
    struct climbing : residual_block {
        void backward(index_t b, weight_views w, matrix_view<const float> dz, std::span<const matrix_view<float>> dw) {
            residual_block::backward(b, w, dz, dw);
            for (const auto& m : dw)
                for (index_t i = 0; i < m.rows * m.cols; ++i) m.data[i] *= -1.0f;
        }
    };
    problem q(8, 8, 4, 2, 20, 1, 50);
    climbing block{{q.block.x, 8}};
    const brecq_result found = brecq<s3>(block, q.layers(), q.targets);
    CHECK(found.error == found.nearest);
    CHECK(q.error(q.c1, q.c2) == Approx(found.nearest));
    CHECK(q.error(q.c1, q.c2) == Approx(q.nearest_error()));
}

TEST_CASE("brecq: bad input") {
    problem p(4, 3, 2, 2, 5, 1, 60);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    auto layers = p.layers();
    const auto with = [&](auto change) {
        auto l = p.layers();
        change(l);
        (void)brecq<s3>(p.block, l, p.targets);
    };
    CHECK_THROWS_WITH(with([](auto& l) { l.clear(); }), contains_text("0 layers and 2 targets"));
    CHECK_THROWS_WITH(brecq<s3>(p.block, layers, {}), contains_text("2 layers and 0 targets"));
    CHECK_THROWS_WITH(with([](auto& l) { l[0].codes.rows = 2; }), contains_text("rows of codes"));
    CHECK_THROWS_WITH(with([](auto& l) { l[1].codes.cols = 2; }), contains_text("columns of codes"));
    CHECK_THROWS_WITH(with([](auto& l) { l[1].w.data = nullptr; }), contains_text("w is null"));
    CHECK_THROWS_WITH(with([](auto& l) { l[1].group = -1; }), contains_text("group is -1"));
    CHECK_THROWS_WITH(with([](auto& l) { l[0].group = 2; }), contains_text("number of params is 3, expected 6"));
    p.p2[1].scale = 0;
    CHECK_THROWS_WITH(brecq<s3>(p.block, layers, p.targets), contains_text("params.scale is 0"));
    p.p2[1].scale = 1;
    std::vector<float> f(10, 1.0f);
    std::vector<matrix_view<const float>> weights(1, {f.data(), 5, 2});
    CHECK_THROWS_WITH(brecq<s3>(p.block, layers, p.targets, weights), contains_text("matrices of f is 1, expected 2"));
    weights.emplace_back(f.data(), 2, 5);
    CHECK_THROWS_WITH(brecq<s3>(p.block, layers, p.targets, weights), contains_text("rows of f"));
    weights[1] = {f.data(), 5, 1};
    CHECK_THROWS_WITH(brecq<s3>(p.block, layers, p.targets, weights), contains_text("columns of f"));
    weights[1] = weights[0];
    f[3] = -1;
    CHECK_THROWS_WITH(brecq<s3>(p.block, layers, p.targets, weights), contains_text("f[0](1, 1) is -1"));
    CHECK_THROWS_WITH(brecq<s3>(p.block, layers, p.targets, {}, {0}), contains_text("iterations 0"));
    CHECK_THROWS_WITH(brecq<s3>(p.block, layers, p.targets, {}, {10, nan}), contains_text("learning_rate nan"));
    p.z[1][9] = nan;
    CHECK_THROWS_WITH(brecq<s3>(p.block, layers, p.targets), contains_text("targets[1](4, 1) is nan"));
    p.z[1][9] = 0;
    p.w2[4] = std::numeric_limits<float>::infinity();
    CHECK_THROWS_WITH(brecq<s3>(p.block, layers, p.targets), contains_text("w(1, 1) of layer 1 is inf"));
    p.w2[4] = 1;
    p.block.x[1][7] = nan;
    CHECK_THROWS_WITH(brecq<s3>(p.block, layers, p.targets), contains_text("output of the block for batch 1"));
    p.block.x[1][7] = 0;
    struct broken : residual_block {
        void backward(index_t, weight_views, matrix_view<const float>, std::span<const matrix_view<float>> dw) {
            dw[1](1, 2) = std::numeric_limits<float>::infinity();
        }
    };
    broken block{{p.block.x, 4}};
    CHECK_THROWS_WITH(brecq<s3>(block, layers, p.targets),
                      contains_text("iteration 0 the block gives a gradient of inf for w(1, 2) of layer 1"));
}
