// SPDX-License-Identifier: Apache-2.0
//
// GPTQ: against the algorithm without blocks, without Cholesky factors; and its error against rounding.
#include "../catch.hpp"

#include <Eigen/LU>

#include <random>
#include <vector>

#include <notch/ptq/calibrate.hpp>
#include <notch/ptq/gptq.hpp>

using namespace notch;

namespace {

/// Inputs that depend on each other: sums of a few common sources, and noise.
std::vector<float> inputs(index_t rows, index_t n, unsigned seed) {
    std::mt19937 g(seed);
    std::normal_distribution<float> d;
    std::vector<float> mix(static_cast<std::size_t>(4 * n)), x;
    for (float& v : mix) v = d(g);
    for (index_t r = 0; r < rows; ++r) {
        float source[4];
        for (float& v : source) v = d(g);
        for (index_t c = 0; c < n; ++c) {
            float v = 0.3f * d(g);
            for (std::size_t k = 0; k < 4; ++k)
                v += source[k] * mix[k * static_cast<std::size_t>(n) + static_cast<std::size_t>(c)];
            x.push_back(v);
        }
    }
    return x;
}

/// Optimal brain quantization in the fixed order of columns (Frantar et al. 2022, eq. 2 and 3): after each
/// column the weight is taken out of the inverse.
template <class Range>
std::vector<int> plain_obq(const Eigen::MatrixXd& w, Eigen::MatrixXd h, double damping,
                           std::span<const quant_params> params) {
    h.diagonal().array() += damping * h.diagonal().mean();
    const auto rows = w.rows(), n = w.cols();
    std::vector<int> codes(static_cast<std::size_t>(rows * n));
    for (Eigen::Index r = 0; r < rows; ++r) {
        Eigen::MatrixXd inverse = h.inverse();
        Eigen::RowVectorXd rest = w.row(r);
        const quant_params p = params[static_cast<std::size_t>(r)];
        for (Eigen::Index k = 0; k < n; ++k) {
            const int code = ref::quantize(static_cast<float>(rest(k)), p, {Range::qmin, Range::qmax});
            codes[static_cast<std::size_t>(r * n + k)] = code;
            const double e =
                (rest(k) - static_cast<double>(code - p.zero_point) * static_cast<double>(p.scale)) / inverse(k, k);
            rest -= e * inverse.row(k);
            const Eigen::VectorXd column = inverse.col(k);
            inverse -= column * column.transpose() / inverse(k, k);
        }
    }
    return codes;
}

std::vector<float> back(const std::vector<std::int8_t>& codes, std::span<const quant_params> p, std::size_t n,
                        std::size_t group) {
    std::vector<float> w(codes.size());
    const std::size_t groups = (n + group - 1) / group;
    for (std::size_t i = 0; i < w.size(); ++i)
        w[i] = static_cast<float>(codes[i]) * p[i / n * groups + i % n / group].scale;
    return w;
}

} // namespace

TEST_CASE("gptq: the same codes as without blocks and factors; less error than rounding") {
    const index_t out = 7, n = 29, rows = 200;
    std::mt19937 g(1);
    std::normal_distribution<float> d;
    std::vector<float> w(static_cast<std::size_t>(out * n));
    for (float& v : w) v = d(g);
    const std::vector<float> x = inputs(rows, n, 2);
    input_moments h(n), left(n), right(n);
    h.observe({x.data(), rows, n});
    left.observe({x.data(), 77, n});
    right.observe({x.data() + 77 * n, rows - 77, n});
    left.merge(right);
    CHECK(left.rows() == rows);
    CHECK((left.matrix() - h.matrix()).norm() <= 1e-12 * h.matrix().norm());
    Eigen::MatrixXd sum = Eigen::MatrixXd::Zero(n, n);
    for (index_t r = 0; r < rows; ++r) {
        const Eigen::VectorXd row = Eigen::Map<const Eigen::VectorXf>(x.data() + r * n, n).cast<double>();
        sum += row * row.transpose();
    }
    CHECK((sum - h.matrix()).norm() <= 1e-12 * sum.norm());

    using s4 = symmetric<4>;
    std::vector<quant_params> params(static_cast<std::size_t>(out));
    calibrate<s4>(w, {1, out, n}, clip::error(), params);
    const Eigen::MatrixXd wd =
        Eigen::Map<const Eigen::Matrix<float, -1, -1, Eigen::RowMajor>>(w.data(), out, n).cast<double>();
    const std::vector<int> want = plain_obq<s4>(wd, sum, 0.01, params);
    const matrix_view<const float> weights(w.data(), out, n);
    for (const index_t block : {1, 5, 128}) {
        std::vector<std::int8_t> codes(w.size());
        index_t last = 0;
        gptq<s4>(weights, h, params, {codes.data(), out, n}, {0.01, block, false, 0}, [&](index_t done, index_t all) {
            CHECK(done > last);
            CHECK(all == n);
            last = done;
        });
        CHECK(last == n);
        CHECK(std::equal(codes.begin(), codes.end(), want.begin()));
    }
    const auto error_of = [&](bool order) {
        std::vector<std::int8_t> codes(w.size());
        gptq<s4>(weights, h, params, {codes.data(), out, n}, {0.01, 8, order, 0});
        const auto q = back(codes, params, static_cast<std::size_t>(n), static_cast<std::size_t>(n));
        return output_error(weights, {q.data(), out, n}, h);
    };
    std::vector<std::int8_t> nearest(w.size());
    ref::quantize<half_even, std::int8_t>(w, {1, out, n}, params, {-7, 7}, nearest);
    const auto q = back(nearest, params, static_cast<std::size_t>(n), static_cast<std::size_t>(n));
    const double plain = output_error(weights, {q.data(), out, n}, h);
    CHECK(error_of(false) < 0.5 * plain);
    CHECK(error_of(true) < 0.5 * plain);
    // The trace is the sum over the inputs themselves.
    double direct = 0;
    for (index_t r = 0; r < rows; ++r)
        for (index_t o = 0; o < out; ++o) {
            double y = 0;
            for (index_t k = 0; k < n; ++k)
                y += static_cast<double>(w[static_cast<std::size_t>(o * n + k)] -
                                         q[static_cast<std::size_t>(o * n + k)]) *
                     static_cast<double>(x[static_cast<std::size_t>(r * n + k)]);
            direct += y * y;
        }
    CHECK(plain == Approx(direct).epsilon(1e-6));
}

TEST_CASE("gptq: independent inputs leave nothing to make good, dead ones get 0, groups have parameters of their own") {
    const index_t out = 3, n = 8;
    std::vector<float> w(24), x(64);
    for (std::size_t i = 0; i < 24; ++i) w[i] = static_cast<float>(i) * 0.37f - 4.1f;
    for (std::size_t k = 0; k < 8; ++k)
        x[k * 8 + k] = k == 5 ? 0.0f : 1.0f + static_cast<float>(k); // one input at a time
    input_moments h(n);
    h.observe({x.data(), 8, 8});
    using s8 = symmetric<8>;
    std::vector<quant_params> params(6);
    for (std::size_t i = 0; i < 6; ++i) params[i].scale = 0.1f + 0.01f * static_cast<float>(i);
    std::vector<std::int8_t> codes(24);
    for (const bool order : {false, true}) {
        gptq<s8>({w.data(), out, n}, h, params, {codes.data(), out, n}, {0.01, 3, order, 4});
        for (std::size_t i = 0; i < 24; ++i) {
            const quant_params p = params[i / 8 * 2 + i % 8 / 4];
            CHECK(codes[i] == (i % 8 == 5 ? 0 : ref::quantize(w[i], p, {-127, 127})));
        }
    }
    const quant_params one{0.1f, 0};
    gptq<s8>({w.data(), out, n}, h, {&one, 1}, {codes.data(), out, n});
    CHECK(codes[0] == -41);
}

TEST_CASE("gptq: bad input") {
    std::vector<float> w(6, 1.0f), x(6, 1.0f);
    std::vector<std::int8_t> codes(6);
    std::vector<quant_params> p(2);
    using s8 = symmetric<8>;
    input_moments h(3), other(2);
    x[1] = std::numeric_limits<float>::quiet_NaN();
    h.observe({x.data(), 2, 3});
    CHECK(h.rows() == 1);
    CHECK(h.skipped() == 1);
    const matrix_view<const float> weights(w.data(), 2, 3);
    const matrix_view<std::int8_t> out(codes.data(), 2, 3);
    CHECK_NOTHROW(gptq<s8>(weights, h, p, out));
    CHECK_THROWS_WITH(gptq<s8>(weights, other, p, out), contains_text("columns of w"));
    CHECK_THROWS_WITH(gptq<s8>(weights, h, std::vector<quant_params>(3), out), contains_text("number of params"));
    CHECK_THROWS_WITH(gptq<s8>(weights, h, p, out, {0.0}), contains_text("damping"));
    CHECK_THROWS_WITH(gptq<s8>(weights, h, p, out, {0.01, 0}), contains_text("block"));
    CHECK_THROWS_WITH(h.merge(other), contains_text("number of inputs"));
    p[1].scale = std::numeric_limits<float>::quiet_NaN();
    CHECK_THROWS_WITH(gptq<s8>(weights, h, p, out), contains_text("scale"));
    p[1].scale = 1.0f;
    w[4] = std::numeric_limits<float>::infinity();
    CHECK_THROWS_WITH(gptq<s8>(weights, h, p, out), contains_text("w(1, 1)"));
}
