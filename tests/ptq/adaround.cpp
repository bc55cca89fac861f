// SPDX-License-Identifier: Apache-2.0
//
// AdaRound: against trying all roundings of a small layer, and the properties it promises.
#include "../catch.hpp"
#include "values.hpp"

#include <limits>
#include <random>
#include <vector>

#include <notch/ptq/adaround.hpp>
#include <notch/ptq/calibrate.hpp>
#include <notch/ptq/gptq.hpp>

using namespace notch;

namespace {

using s4 = symmetric<4>;

/// Rows of inputs with one source in common.
std::vector<float> inputs(index_t rows, index_t n, unsigned seed) {
    std::vector<float> x = normal_values(static_cast<std::size_t>(rows * (n + 1)), seed), y;
    for (index_t r = 0; r < rows; ++r)
        for (index_t c = 0; c < n; ++c)
            y.push_back(x[static_cast<std::size_t>(r * (n + 1) + n)] +
                        0.4f * x[static_cast<std::size_t>(r * (n + 1) + c)]);
    return y;
}

double error_of(const std::vector<float>& w, const std::vector<std::int8_t>& codes, std::span<const quant_params> p,
                index_t rows, const input_moments& h) {
    std::vector<float> q(w.size());
    const std::size_t n = w.size() / static_cast<std::size_t>(rows);
    for (std::size_t i = 0; i < w.size(); ++i)
        q[i] = static_cast<float>(codes[i] - p[i / n].zero_point) * p[i / n].scale;
    return output_error({w.data(), rows, static_cast<index_t>(n)}, {q.data(), rows, static_cast<index_t>(n)}, h);
}

} // namespace

TEST_CASE("adaround: near the best of all roundings, never worse than the nearest, each code one of two") {
    const index_t rows = 6, n = 10;
    const std::vector<float> w = normal_values(60, 1), x = inputs(100, n, 2);
    input_moments h(n);
    h.observe({x.data(), 100, n});
    std::vector<quant_params> p(6);
    for (quant_params& q : p) q.scale = 0.4f;
    std::vector<std::int8_t> codes(60), again(60), nearest(60);
    index_t calls = 0;
    adaround<s4>({w.data(), rows, n}, h, p, {codes.data(), rows, n}, {}, [&](index_t done, index_t) { calls = done; });
    adaround<s4>({w.data(), rows, n}, h, p, {again.data(), rows, n});
    CHECK(calls == 1000);
    CHECK(codes == again);
    ref::quantize<half_even, std::int8_t>(w, {1, rows, n}, p, {-7, 7}, nearest);
    double best_sum = 0;
    for (index_t r = 0; r < rows; ++r) {
        // All 1024 ways to round a row.
        const std::vector<float> row(w.begin() + r * n, w.begin() + (r + 1) * n);
        double best = std::numeric_limits<double>::infinity();
        for (unsigned way = 0; way < 1024; ++way) {
            std::vector<std::int8_t> q(10);
            for (unsigned c = 0; c < 10; ++c)
                q[c] = static_cast<std::int8_t>(
                    std::clamp(std::floor(row[c] / 0.4f) + static_cast<float>(way >> c & 1), -7.0f, 7.0f));
            best = std::min(best, error_of(row, q, std::span(p).first(1), 1, h));
        }
        best_sum += best;
        for (index_t c = 0; c < n; ++c) {
            const float real = row[static_cast<std::size_t>(c)] / 0.4f;
            const auto code = static_cast<float>(codes[static_cast<std::size_t>(r * n + c)]);
            CHECK((code == std::clamp(std::floor(real), -7.0f, 7.0f) ||
                   code == std::clamp(std::floor(real) + 1, -7.0f, 7.0f)));
        }
    }
    const double learned = error_of(w, codes, p, rows, h), plain = error_of(w, nearest, p, rows, h);
    CAPTURE(best_sum, learned, plain);
    CHECK(learned >= best_sum * (1 - 1e-9));
    CHECK(learned < 0.5 * plain);
    CHECK(learned < 2.0 * best_sum);
}

TEST_CASE(
    "adaround: every rounding is decided in the default number of iterations, so the error is below that of gptq") {
    const index_t rows = 16, n = 96;
    const std::vector<float> w = normal_values(static_cast<std::size_t>(rows * n), 5), x = inputs(1000, n, 6);
    input_moments h(n);
    h.observe({x.data(), 1000, n});
    using s3 = symmetric<3>;
    std::vector<quant_params> p(static_cast<std::size_t>(rows));
    calibrate<s3>(w, {1, rows, n}, clip::error(), p);
    std::vector<std::int8_t> learned(w.size()), compensated(w.size());
    adaround<s3>({w.data(), rows, n}, h, p, {learned.data(), rows, n});
    gptq<s3>({w.data(), rows, n}, h, p, {compensated.data(), rows, n});
    CHECK(error_of(w, learned, p, rows, h) < error_of(w, compensated, p, rows, h));
}

TEST_CASE("adaround: independent inputs are rounded to the nearest; zero points; no inputs at all") {
    const index_t n = 12;
    const std::vector<float> w = normal_values(24, 3);
    std::vector<float> x(144);
    for (std::size_t k = 0; k < 12; ++k) x[k * 13] = 1.0f;
    input_moments h(n), none(n);
    h.observe({x.data(), n, n});
    using u4 = affine_signed<4>;
    const std::vector<quant_params> p{{0.3f, 2}, {0.25f, -3}};
    std::vector<std::int8_t> codes(24), nearest(24);
    ref::quantize<half_even, std::int8_t>(w, {1, 2, n}, p, {-8, 7}, nearest);
    adaround<u4>({w.data(), 2, n}, h, p, {codes.data(), 2, n});
    CHECK(codes == nearest);
    adaround<u4>({w.data(), 2, n}, none, p, {codes.data(), 2, n}, {5});
    for (std::size_t i = 0; i < 24; ++i) CHECK(std::abs(codes[i] - nearest[i]) <= 1);
    const std::vector<float> far(12, 1e30f);
    adaround<u4>({far.data(), 1, n}, h, std::span(p).first(1), {codes.data(), 1, n}, {5});
    for (std::size_t i = 0; i < 12; ++i) CHECK(codes[i] == 7);
}

TEST_CASE("adaround: bad input") {
    std::vector<float> w(6, 1.0f);
    std::vector<std::int8_t> codes(6);
    std::vector<quant_params> p(2);
    input_moments h(3), other(2);
    const matrix_view<const float> weights(w.data(), 2, 3);
    const matrix_view<std::int8_t> out(codes.data(), 2, 3);
    CHECK_THROWS_WITH(adaround<s4>(weights, other, p, out), contains_text("columns of w"));
    CHECK_THROWS_WITH(adaround<s4>(weights, h, std::vector<quant_params>(3), out), contains_text("number of params"));
    CHECK_THROWS_WITH(adaround<s4>(weights, h, p, out, {0}), contains_text("iterations 0"));
    CHECK_THROWS_WITH(adaround<s4>(weights, h, p, out, {10, -1.0f}), contains_text("learning_rate -1"));
    CHECK_THROWS_WITH(adaround<s4>(weights, h, p, out, {10, 0.1f, std::numeric_limits<float>::quiet_NaN()}),
                      contains_text("lambda nan"));
    CHECK_THROWS_WITH(adaround<s4>(weights, h, p, out, {10, 0.1f, 0.1f, 0.5f}), contains_text("beta_begin 0.5"));
    CHECK_THROWS_WITH(adaround<s4>(weights, h, p, out, {10, 0.1f, 0.1f, 20, 2, 1.0f}), contains_text("warm_up 1"));
    w[5] = std::numeric_limits<float>::quiet_NaN();
    CHECK_THROWS_WITH(adaround<s4>(weights, h, p, out), contains_text("w(1, 2)"));
}
