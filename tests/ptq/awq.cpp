// SPDX-License-Identifier: Apache-2.0
//
// AWQ: by hand, against the grid of the paper over the inputs themselves, and with inputs that have outliers.
#include "../catch.hpp"
#include "values.hpp"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <notch/ptq/awq.hpp>
#include <notch/ptq/calibrate.hpp>
#include <notch/ptq/smooth_quant.hpp>

using namespace notch;

namespace {

using s3 = symmetric<3>;
using s4 = symmetric<4>;

/// Rows of inputs, every 16th of them 30 times larger than the others.
std::vector<float> outlying_inputs(index_t rows, index_t n, unsigned seed) {
    std::vector<float> x = normal_values(static_cast<std::size_t>(rows * n), seed);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] *= i % static_cast<std::size_t>(n) % 16 == 5 ? 30.0f : 1.0f;
    return x;
}

/// Sum over the rows of x of |W x - Q (x / s)|^2, Q the dequantized codes.
template <class Code>
double direct_error(const std::vector<float>& w, const std::vector<Code>& codes, const std::vector<quant_params>& p,
                    const std::vector<float>& s, const std::vector<float>& x, std::size_t n, std::size_t group) {
    const std::size_t groups = (n + group - 1) / group;
    double sum = 0;
    for (std::size_t row = 0; row < x.size(); row += n)
        for (std::size_t r = 0; r < w.size() / n; ++r) {
            double y = 0;
            for (std::size_t c = 0; c < n; ++c) {
                const quant_params q = p[r * groups + c / group];
                const double back = static_cast<double>(codes[r * n + c] - q.zero_point) * static_cast<double>(q.scale);
                y += static_cast<double>(w[r * n + c]) * static_cast<double>(x[row + c]) -
                     back * (static_cast<double>(x[row + c]) / static_cast<double>(s[c]));
            }
            sum += y * y;
        }
    return sum;
}

} // namespace

TEST_CASE("input moments: mean magnitudes") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> x{1, -2, nan, 9, -4, 0}, more{4, 4};
    input_moments h(2), other(2);
    CHECK(h.mean_magnitudes() == Eigen::VectorXd::Zero(2));
    h.observe({x.data(), 3, 2}); // the second row has a NaN
    CHECK(h.mean_magnitudes() == Eigen::Vector2d(2.5, 1));
    other.observe({more.data(), 1, 2});
    h.merge(other);
    CHECK(h.mean_magnitudes() == Eigen::Vector2d(3, 2));
}

TEST_CASE("awq by hand") {
    // mean|x| = 1 and 4, H = diag(4, 64). Plain: scale 1, codes 3 and 1, error 0.4^2 * 64. With alpha = 1: s = 1/2 and
    // 2, weights 1.5 and 2.8 on the scale 2.8 / 3, codes 2 and 3: the first is back as 2 * 2.8 / 3 / 0.5 = 3 + 11/15.
    std::vector<float> w{3, 1.4f}, s(2);
    const std::vector<float> x{1, 4, -1, 4, 1, -4, -1, -4};
    input_moments h(2);
    h.observe({x.data(), 4, 2});
    std::vector<std::int8_t> codes(2);
    std::vector<quant_params> p(1);
    awq_options o;
    o.steps = 1;
    o.clip_steps = 0;
    const awq_result found = awq<s3>({w.data(), 1, 2}, h, s, {codes.data(), 1, 2}, p, o);
    CHECK(found.alpha == 1.0);
    CHECK(found.plain == Approx(0.4 * 0.4 * 64));
    CHECK(found.error == Approx(4.0 * 121 / 225));
    CHECK(s == std::vector<float>{0.5f, 2});
    CHECK(w == std::vector<float>{1.5f, 2.8f});
    CHECK(codes == std::vector<std::int8_t>{2, 3});
    CHECK(p[0] == quant_params{2.8f / 3, 0});
}

TEST_CASE("awq: the least error of the grid, measured on the inputs themselves") {
    const index_t out = 9, n = 44, rows = 60;
    const std::vector<float> w = normal_values(static_cast<std::size_t>(out * n), 1), x = outlying_inputs(rows, n, 2);
    std::vector<double> mean(44);
    for (std::size_t i = 0; i < x.size(); ++i) mean[i % 44] += std::fabs(static_cast<double>(x[i])) / 60;
    input_moments h(n);
    h.observe({x.data(), rows, n});
    using u3 = affine<3>;
    for (const index_t group : {16, 0}) {
        const auto size = static_cast<std::size_t>(group == 0 ? n : group);
        double least = std::numeric_limits<double>::infinity(), plain = 0, best = 0;
        for (int i = 0; i <= 10; ++i) {
            std::vector<float> s(44), scaled = w;
            const double lo = *std::min_element(mean.begin(), mean.end()),
                         hi = *std::max_element(mean.begin(), mean.end());
            for (std::size_t c = 0; c < 44; ++c)
                s[c] = static_cast<float>(std::pow(mean[c], i / 10.0) /
                                          std::sqrt(std::pow(lo, i / 10.0) * std::pow(hi, i / 10.0)));
            for (std::size_t k = 0; k < w.size(); ++k) scaled[k] *= s[k % 44];
            const channel_layout layout{out, 1, n, 1, 1, static_cast<index_t>(size)};
            std::vector<quant_params> p(static_cast<std::size_t>(layout.count()));
            calibrate<u3>(scaled, layout, clip::min_max(), p);
            std::vector<std::uint8_t> codes(w.size());
            ref::quantize<half_even, std::uint8_t>(scaled, layout, p, {0, 7}, codes);
            const double e = direct_error(w, codes, p, s, x, 44, size);
            if (i == 0) plain = e;
            if (e < least) {
                least = e;
                best = i / 10.0;
            }
        }
        std::vector<float> mine = w, s(44);
        std::vector<std::uint8_t> codes(w.size());
        std::vector<quant_params> p(9 * ((44 + size - 1) / size));
        awq_options o;
        o.group = group;
        o.steps = 10;
        o.clip_steps = 0;
        index_t calls = 0, last = 0;
        const awq_result found = awq<u3>({mine.data(), out, n}, h, s, {codes.data(), out, n}, p, o,
                                         [&](index_t done, index_t of) { ++calls, last = done == of ? of : last; });
        CAPTURE(group, best, least, plain);
        CHECK(best > 0.0);
        CHECK(found.alpha == best);
        CHECK(found.plain == Approx(plain));
        CHECK(found.error == Approx(least));
        CHECK(direct_error(w, codes, p, s, x, 44, size) == Approx(least));
        CHECK(calls == 11);
        CHECK(last == 11);
        for (std::size_t k = 0; k < w.size(); ++k) CHECK(mine[k] == w[k] * s[k % 44]);

        // Cutting ranges: less again, and its error is told truly.
        mine = w;
        o.clip_steps = 10;
        const awq_result cut = awq<u3>({mine.data(), out, n}, h, s, {codes.data(), out, n}, p, o);
        CHECK(cut.alpha == best);
        CHECK(cut.error < 0.95 * found.error);
        CHECK(direct_error(w, codes, p, s, x, 44, size) == Approx(cut.error));
    }
}

TEST_CASE("awq: less than half the error of plain rounding where some inputs are large; the layer computes the same") {
    const index_t out = 24, n = 128, rows = 256;
    const std::vector<float> w = normal_values(static_cast<std::size_t>(out * n), 3), x = outlying_inputs(rows, n, 4);
    input_moments h(n);
    h.observe({x.data(), rows, n});
    // Views with strides: the weights are the left part of wider rows.
    std::vector<float> wide(static_cast<std::size_t>(out * 150), 7.0f), s(128);
    std::vector<std::int8_t> codes(w.size()), again(w.size());
    for (std::size_t i = 0; i < w.size(); ++i) wide[i / 128 * 150 + i % 128] = w[i];
    std::vector<quant_params> p(static_cast<std::size_t>(out * 2)), q(p.size());
    awq_options o;
    o.group = 64;
    const awq_result found = awq<s4>({wide.data(), out, n, 150}, h, s, {codes.data(), out, n}, p, o);
    CAPTURE(found.alpha, found.plain, found.error);
    CHECK(found.error < 0.4 * found.plain);
    CHECK(found.error == Approx(direct_error(w, codes, p, s, x, 128, 64)));
    CHECK(wide[128] == 7.0f);
    std::vector<float> copy = w, t(128);
    awq<s4>({copy.data(), out, n}, h, t, {again.data(), out, n}, q, o);
    CHECK(codes == again);
    CHECK(s == t);
    CHECK(p == q);
    // The inputs divided, the weights multiplied.
    std::vector<float> divided(x.begin(), x.begin() + 128);
    smooth_source(divided, {1, n, 1}, s);
    for (std::size_t r = 0; r < 24; ++r) {
        double before = 0, after = 0, size = 0;
        for (std::size_t c = 0; c < 128; ++c) {
            before += static_cast<double>(w[r * 128 + c]) * static_cast<double>(x[c]);
            after += static_cast<double>(copy[r * 128 + c]) * static_cast<double>(divided[c]);
            size += std::fabs(static_cast<double>(w[r * 128 + c]) * static_cast<double>(x[c]));
        }
        CHECK(std::fabs(after - before) <= size * 1.2e-7);
    }
}

TEST_CASE("awq: nothing to gain, nothing seen, inputs that are always 0, scales that overflow") {
    const std::vector<float> w = normal_values(3 * 8, 5);
    std::vector<float> mine = w, s(8);
    std::vector<std::int8_t> codes(24);
    std::vector<quant_params> p(3);
    input_moments none(8), same(8), dead(8), huge(8);
    awq_result found = awq<s4>({mine.data(), 3, 8}, none, s, {codes.data(), 3, 8}, p);
    CHECK(found.alpha == 0.0);
    CHECK(found.error == 0.0);
    CHECK(mine == w);
    std::vector<float> x(64);
    for (std::size_t k = 0; k < 8; ++k) x[9 * k] = k % 2 == 0 ? 2.0f : -2.0f; // mean|x| is the same for all
    same.observe({x.data(), 8, 8});
    awq_options whole;
    whole.clip_steps = 0;
    found = awq<s4>({mine.data(), 3, 8}, same, s, {codes.data(), 3, 8}, p, whole);
    CHECK(found.alpha == 0.0);
    CHECK(found.error == Approx(found.plain));
    CHECK(s == std::vector<float>(8, 1.0f));

    x.assign(64, 0.0f);
    for (std::size_t k = 0; k < 7; ++k) x[9 * k] = k == 2 ? 50.0f : 1.0f;
    dead.observe({x.data(), 8, 8});
    found = awq<s4>({mine.data(), 3, 8}, dead, s, {codes.data(), 3, 8}, p);
    CHECK(found.alpha > 0.0);
    CHECK(s[7] == 1.0f);
    CHECK(s[2] > 1.0f);
    CHECK(s[0] < 1.0f);
    CHECK(s[0] * s[2] == Approx(1));

    // s[0] is 1e19 at alpha = 1: such candidates are passed over, not refused.
    for (std::size_t k = 0; k < 8; ++k) x[9 * k] = k == 0 ? 1e25f : 1e-13f;
    huge.observe({x.data(), 8, 8});
    std::vector<float> large(8, 1e30f);
    large[0] = 0.9e30f;
    found = awq<s4>({large.data(), 1, 8}, huge, s, {codes.data(), 1, 8}, std::span(p).first(1));
    CHECK(found.alpha < 1.0);
    for (float v : large) CHECK(std::isfinite(v));
    awq<s4>({nullptr, 0, 8}, none, s, {nullptr, 0, 8}, {});
    awq<s4>({nullptr, 2, 0}, input_moments(0), {}, {nullptr, 2, 0}, {});
}

TEST_CASE("awq: ranges that are good for each group and bad for all together stay whole") {
    // All inputs have one source: the errors of the groups add up, and cutting each may make the sum worse.
    const index_t n = 24, rows = 50;
    const std::vector<float> noise = normal_values(static_cast<std::size_t>(rows * (n + 1)), 8);
    std::vector<float> x(static_cast<std::size_t>(rows * n));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = noise[i / 24] + 0.1f * noise[50 + i];
    input_moments h(n);
    h.observe({x.data(), rows, n});
    int kept = 0;
    for (unsigned seed = 0; seed < 20; ++seed) {
        const std::vector<float> w = normal_values(24, 100 + seed);
        std::vector<float> mine = w, s(24);
        std::vector<std::int8_t> codes(24);
        std::vector<quant_params> p(6);
        awq_options o;
        o.group = 4;
        o.clip_steps = 0;
        const awq_result whole = awq<s3>({mine.data(), 1, n}, h, s, {codes.data(), 1, n}, p, o);
        o.clip_steps = 10;
        mine = w;
        const awq_result cut = awq<s3>({mine.data(), 1, n}, h, s, {codes.data(), 1, n}, p, o);
        CHECK(cut.error <= whole.error);
        CHECK(direct_error(w, codes, p, s, x, 24, 4) == Approx(cut.error));
        kept += cut.error == whole.error ? 1 : 0;
    }
    CHECK(kept > 0);
    CHECK(kept < 20);
}

TEST_CASE("awq: bad input") {
    std::vector<float> w(6, 1.0f), s(3);
    std::vector<std::int8_t> codes(6);
    std::vector<quant_params> p(4);
    const matrix_view<float> weights(w.data(), 2, 3);
    const matrix_view<std::int8_t> out(codes.data(), 2, 3);
    input_moments h(3), other(2);
    const auto with = [](index_t group, index_t steps, index_t clip_steps, double least) {
        awq_options o;
        o.group = group;
        o.steps = steps;
        o.clip_steps = clip_steps;
        o.least_clip = least;
        return o;
    };
    CHECK_THROWS_WITH(awq<s4>(weights, other, s, out, p), contains_text("columns of w"));
    CHECK_THROWS_WITH(awq<s4>(weights, h, std::span(s).first(2), out, p), contains_text("size of s"));
    CHECK_THROWS_WITH(awq<s4>(weights, h, s, {codes.data(), 3, 2}, p), contains_text("rows of codes"));
    CHECK_THROWS_WITH(awq<s4>(weights, h, s, {codes.data(), 2, 2}, p), contains_text("columns of codes"));
    CHECK_THROWS_WITH(awq<s4>(weights, h, s, out, p), contains_text("number of params"));
    CHECK_THROWS_WITH(awq<s4>({nullptr, 2, 3}, h, s, out, p), contains_text("w is null"));
    CHECK_THROWS_WITH(awq<s4>(weights, h, s, out, p, with(-1, 1, 1, 0.5)), contains_text("group -1"));
    CHECK_THROWS_WITH(awq<s4>(weights, h, s, out, p, with(2, 0, 1, 0.5)), contains_text("steps 0"));
    CHECK_THROWS_WITH(awq<s4>(weights, h, s, out, p, with(2, 1, -1, 0.5)), contains_text("clip_steps -1"));
    CHECK_THROWS_WITH(awq<s4>(weights, h, s, out, p, with(2, 1, 1, 0)), contains_text("least_clip 0"));
    CHECK_THROWS_WITH(awq<s4>(weights, h, s, out, p, with(2, 1, 1, std::numeric_limits<double>::quiet_NaN())),
                      contains_text("least_clip nan"));
    w[4] = std::numeric_limits<float>::infinity();
    CHECK_THROWS_WITH(awq<s4>(weights, h, s, out, p, with(2, 1, 1, 0.5)), contains_text("w(1, 1) is inf"));
    CHECK(w[0] == 1.0f);
}
