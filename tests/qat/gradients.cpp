// SPDX-License-Identifier: Apache-2.0
#include "../catch.hpp"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <notch/observe/moving_average.hpp>
#include <notch/qat/batch_norm.hpp>
#include <notch/qat/fake_quant.hpp>
#include <notch/qat/learned_step.hpp>

using namespace notch;

namespace {
std::vector<float> randoms(std::mt19937& g, std::size_t n, float scale = 1.0f) {
    std::vector<float> v(n);
    for (float& x : v) x = scale * (static_cast<float>(g() % 20001) / 10000.0f - 1.0f);
    return v;
}
} // namespace

TEST_CASE("fake_quant gives quantize then dequantize, and the clipping mask") {
    std::mt19937 g(1);
    const auto x = randoms(g, 60, 2.0f);
    fake_quant<affine<8>> q({60});
    const std::vector<float> range{-1.0f, 1.0f};
    q = fake_quant<affine<8>>({2});
    q.observe(range);
    const quant_params p = q.params()[0];
    std::vector<std::uint8_t> codes(60), mask(60);
    std::vector<float> values(60), dx(60);
    fake_quantize<affine<8>>(x, {1, 1, 60}, std::span(&p, 1), codes, values, mask);
    straight_through(x, mask, dx);
    for (std::size_t i = 0; i < 60; ++i) {
        const float steps = std::nearbyint(x[i] / p.scale) + static_cast<float>(p.zero_point);
        CHECK(codes[i] == ref::quantize(x[i], p, {0, 255}));
        CHECK(values[i] == ref::dequantize(codes[i], p));
        CHECK(mask[i] == (steps >= 0.0f && steps <= 255.0f ? 1 : 0));
        CHECK(dx[i] == (mask[i] ? x[i] : 0.0f));
    }
}

TEST_CASE("per channel on any axis equals one quantizer for each channel") {
    std::mt19937 g(2);
    const auto x = randoms(g, 2 * 3 * 4);
    const auto check = [&](auto q, const channel_layout& layout) {
        const auto values = q.forward(x);
        for (index_t i = 0; i < 24; ++i) {
            const index_t c = i / layout.inner % layout.channels;
            float top = 0;
            for (index_t j = 0; j < 24; ++j)
                if (j / layout.inner % layout.channels == c)
                    top = std::max(top, std::fabs(x[static_cast<std::size_t>(j)]));
            const quant_params p{static_cast<float>(static_cast<double>(top) / 127.0), 0};
            CHECK(values[static_cast<std::size_t>(i)] ==
                  ref::dequantize(ref::quantize(x[static_cast<std::size_t>(i)], p, {-127, 127}), p));
        }
    };
    check(fake_quant<symmetric<8>, per_channel<0>>({2, 3, 4}), {1, 2, 12});
    check(fake_quant<symmetric<8>, per_channel<1>>({2, 3, 4}), {2, 3, 4});
    check(fake_quant<symmetric<8>, per_channel<2>>({2, 3, 4}), {6, 4, 1});
}

TEST_CASE("learned_step: the gradients of Esser et al., equations 3 and 5") {
    std::mt19937 g(3);
    const std::size_t n = 40;
    const auto x = randoms(g, n), dy = randoms(g, n);
    learned_step<symmetric<4>> q({static_cast<index_t>(n)});
    q.initialize(x);
    double mean = 0;
    for (float v : x) mean += std::fabs(static_cast<double>(v)) / static_cast<double>(n);
    CHECK(static_cast<double>(q.step(0)) == Approx(2.0 * mean / std::sqrt(7.0)).epsilon(1e-5));
    q.forward(x);
    const float s = q.params()[0].scale;
    const auto dx = q.backward(x, dy);
    double ds = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const double v = static_cast<double>(x[i] / s);
        const bool inside = std::fabs(std::nearbyint(v)) <= 7.0;
        CHECK(dx[i] == (inside ? dy[i] : 0.0f));
        ds += static_cast<double>(dy[i]) * (v < -7.0 ? -7.0 : v > 7.0 ? 7.0 : std::nearbyint(v) - v);
    }
    const double scale = 1.0 / std::sqrt(static_cast<double>(n) * 7.0);
    CHECK(static_cast<double>(q.log_step_gradient()[0]) ==
          Approx(scale * ds * static_cast<double>(s)).epsilon(1e-4).margin(1e-6));

    // Where the codes do not change, value = code * s is differentiable in log s: d value = code * s.
    // The estimator's derivative, (code - v) * s, adds that of -x: it treats round(v) - v as it is.
    for (float bad :
         {std::numeric_limits<float>::quiet_NaN(), -1e9f, 1e9f, std::numeric_limits<float>::infinity(), 0.0f}) {
        q.log_step()[0] = bad;
        CHECK(q.step(0) > 0.0f);
        CHECK(std::isfinite(q.step(0)));
        if (std::isnan(bad)) {
            CHECK_THROWS_WITH(q.forward(x), contains_text("log_step of channel 0 is NaN"));
            continue;
        }
        q.forward(x);
        for (float v : q.values()) CHECK(std::isfinite(v));
    }
}

TEST_CASE("batch norm: gradients by finite differences, folding equals inference") {
    std::mt19937 g(4);
    const index_t rows = 7, channels = 3;
    auto x = randoms(g, 21);
    const auto r = randoms(g, 21);
    batch_norm norm(channels);
    for (index_t c = 0; c < channels; ++c) {
        norm.gamma[c] = 0.7f + 0.2f * static_cast<float>(c);
        norm.beta[c] = 0.1f * static_cast<float>(c);
    }
    const auto loss = [&] {
        batch_norm copy = norm;
        auto y = x;
        copy.forward_training({y.data(), rows, channels});
        double sum = 0;
        for (std::size_t i = 0; i < y.size(); ++i) sum += static_cast<double>(y[i]) * static_cast<double>(r[i]);
        return sum;
    };
    batch_norm run = norm;
    auto y = x;
    run.forward_training({y.data(), rows, channels});
    auto dx = r;
    run.backward({dx.data(), rows, channels});
    const auto check = [&](float& v, float analytic) {
        const float before = v;
        v = before + 1e-2f;
        const double up = loss();
        v = before - 1e-2f;
        const double down = loss();
        v = before;
        CHECK(static_cast<double>(analytic) == Approx((up - down) / 2e-2).epsilon(0.02).margin(0.005));
    };
    for (std::size_t i = 0; i < x.size(); ++i) check(x[i], dx[i]);
    for (index_t c = 0; c < channels; ++c) {
        check(norm.gamma[c], run.gamma_gradient[c]);
        check(norm.beta[c], run.beta_gradient[c]);
    }

    // Folding: conv by a 3 x 2 matrix, then the norm at inference, against the folded matrix.
    const channel_layout layout{1, channels, 2};
    auto w = randoms(g, 6);
    auto b = randoms(g, 3);
    std::vector<float> wf(6), bf(3);
    run.fold(w, layout, b, wf, bf);
    const float in[2] = {0.3f, -0.8f};
    std::vector<float> z(3);
    for (index_t c = 0; c < channels; ++c)
        z[static_cast<std::size_t>(c)] = w[static_cast<std::size_t>(2 * c)] * in[0] +
                                         w[static_cast<std::size_t>(2 * c + 1)] * in[1] +
                                         b[static_cast<std::size_t>(c)];
    run.forward_inference({z.data(), 1, channels});
    for (index_t c = 0; c < channels; ++c)
        CHECK(wf[static_cast<std::size_t>(2 * c)] * in[0] + wf[static_cast<std::size_t>(2 * c + 1)] * in[1] +
                  bf[static_cast<std::size_t>(c)] ==
              Approx(z[static_cast<std::size_t>(c)]).margin(1e-5));

    // fold_backward by finite differences of sum(wf * u) + sum(bf * v).
    const auto u = randoms(g, 6), v = randoms(g, 3);
    const auto folded_loss = [&] {
        std::vector<float> a(6), o(3);
        run.fold(w, layout, b, a, o);
        double sum = 0;
        for (std::size_t i = 0; i < 6; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(u[i]);
        for (std::size_t i = 0; i < 3; ++i) sum += static_cast<double>(o[i]) * static_cast<double>(v[i]);
        return sum;
    };
    std::vector<float> dw(6), db(3);
    std::fill(run.gamma_gradient.begin(), run.gamma_gradient.end(), 0.0f);
    std::fill(run.beta_gradient.begin(), run.beta_gradient.end(), 0.0f);
    run.fold_backward(w, layout, b, u, v, dw, db);
    const auto check_fold = [&](float& value, float analytic) {
        const float before = value;
        value = before + 1e-2f;
        const double up = folded_loss();
        value = before - 1e-2f;
        const double down = folded_loss();
        value = before;
        CHECK(static_cast<double>(analytic) == Approx((up - down) / 2e-2).epsilon(0.01).margin(0.002));
    };
    for (std::size_t i = 0; i < 6; ++i) check_fold(w[i], dw[i]);
    for (std::size_t i = 0; i < 3; ++i) {
        check_fold(b[i], db[i]);
        check_fold(run.gamma[static_cast<index_t>(i)], run.gamma_gradient[static_cast<index_t>(i)]);
        check_fold(run.beta[static_cast<index_t>(i)], run.beta_gradient[static_cast<index_t>(i)]);
    }
}

TEST_CASE("a learned step has valid parameters before its first forward") {
    notch::learned_step<notch::symmetric<4>, notch::per_channel<0>> q({2, 3});
    for (const notch::quant_params& p : q.params()) CHECK(p.scale == 1.0f);
    const std::vector<float> x{1.0f, -1.0f, 1.0f, 0.5f, 0.5f, -0.5f};
    q.initialize(x);
    for (notch::index_t c = 0; c < 2; ++c) CHECK(q.params()[static_cast<std::size_t>(c)].scale == q.step(c));
}

TEST_CASE("a learned step passes the gradient where the paper does, before rounding") {
    // Esser et al. 2020, eq. 5: v / s strictly between the last codes, so 7.25 is blocked for qmax = 7
    // although it rounds to 7.
    notch::learned_step<notch::symmetric<4>> q({6});
    const std::vector<float> x{-7.25f, -7.0f, -6.9f, 0.0f, 6.9f, 7.25f}, dy{1, 2, 3, 4, 5, 6};
    q.initialize(x);
    q.log_step()[0] = 0.0f; // s = 1
    q.forward(x);
    const auto dx = q.backward(x, dy);
    const std::vector<float> want{0, 0, 3, 4, 5, 0};
    for (std::size_t i = 0; i < 6; ++i) CHECK(dx[i] == want[i]);
    const double ds = 1 * -7.0 + 2 * -7.0 + 3 * (-7.0 + 6.9) + 0 + 5 * (7.0 - 6.9) + 6 * 7.0;
    CHECK(static_cast<double>(q.log_step_gradient()[0]) == Approx(ds / std::sqrt(6.0 * 7.0)).epsilon(1e-5));
}

TEST_CASE("batch_norm: gradients of folding add up, with eps inside the root") {
    batch_norm norm(1, 0.1f, 0.75f);
    norm.gamma[0] = 3.0f;
    norm.running_mean[0] = 2.0f;
    norm.running_var[0] = 0.25f; // factor gamma / sqrt(0.25 + 0.75) = 3
    const std::vector<float> w{5.0f}, b{7.0f}, one{1.0f};
    std::vector<float> dw{10.0f}, db{20.0f};
    norm.gamma_gradient[0] = 30.0f;
    norm.beta_gradient[0] = 40.0f;
    norm.fold_backward(w, {1, 1, 1}, b, one, one, dw, db);
    CHECK(dw[0] == 13.0f);
    CHECK(db[0] == 23.0f);
    CHECK(norm.gamma_gradient[0] == 30.0f + 5.0f + (7.0f - 2.0f)); // w + b - mean
    CHECK(norm.beta_gradient[0] == 41.0f);
}

TEST_CASE("a forward with given scales leaves the observed ones to the next") {
    fake_quant<symmetric<8>> q({4});
    q.observe(std::vector<float>{-12.7f, 1.0f, 2.0f, 3.0f});
    const std::vector<float> x{0.1f, 0.2f, 0.3f, 0.4f}, scale{0.5f};
    const float observed = q.params()[0].scale;
    CHECK(observed == Approx(0.1f));
    q.forward(x, scale);
    CHECK(q.params()[0].scale == 0.5f);
    q.forward(x);
    CHECK(q.params()[0].scale == observed);
    CHECK(q.codes()[0] == 1);
}

TEST_CASE("batch_norm: running variance without bias, eps inside the root") {
    // Two rows, 0 and 2: mean 1, variance 1 of the batch, 2 as an estimate. Momentum 0.25.
    batch_norm norm(1, 0.25f, 0.5f);
    float x[] = {0.0f, 2.0f};
    norm.forward_training(matrix_view<float>(x, 2, 1));
    CHECK(norm.running_mean[0] == 0.25f);
    CHECK(norm.running_var[0] == 1.25f); // 1 + 0.25 * (2 - 1)
    CHECK(x[1] == Approx(1.0 / std::sqrt(1.5)));
    norm.gamma[0] = 3.0f;
    norm.running_var[0] = 1.75f;
    CHECK(norm.fold_factor(0) == 2.0f); // 3 / sqrt(1.75 + 0.5)
}

TEST_CASE("backward before forward says so") {
    const auto says = [](auto call) {
        try {
            call();
        } catch (const error& e) {
            return std::string(e.what()).find("forward") != std::string::npos;
        }
        return false;
    };
    const std::vector<float> dy(4);
    fake_quant<symmetric<8>> fake({4});
    learned_step<symmetric<8>> learned({4});
    CHECK(says([&] { fake.backward(dy); }));
    CHECK(says([&] { learned.backward(dy, dy); }));
}

TEST_CASE("batch_norm: statistics estimated again are those of all rows, whatever the batches") {
    const float x[] = {1.0f, 10.0f, 3.0f, -10.0f, 5.0f, 0.0f}; // three rows of two channels
    for (index_t first : {1, 2, 3}) {
        batch_norm norm(2);
        norm.begin_reestimation();
        norm.reestimate(matrix_view<const float>(x, first, 2));
        norm.reestimate(matrix_view<const float>(x + 2 * first, 3 - first, 2));
        CHECK((norm.running_mean[0] == 0.0f && norm.running_var[0] == 1.0f)); // until the end
        norm.end_reestimation();
        CHECK(!norm.reestimating());
        CHECK((norm.running_mean[0] == 3.0f && norm.running_mean[1] == 0.0f));
        CHECK((norm.running_var[0] == 4.0f && norm.running_var[1] == 100.0f)); // 8 / 2, 200 / 2
    }
    batch_norm norm(2);
    CHECK_THROWS_WITH(norm.reestimate(matrix_view<const float>(x, 3, 2)), contains_text("needs a begin_reestimation"));
    CHECK_THROWS_WITH(norm.end_reestimation(), contains_text("no rows were seen"));
    norm.begin_reestimation();
    CHECK_THROWS_WITH(norm.reestimate(matrix_view<const float>(x, 2, 3)), contains_text("the number of channels of x"));
    CHECK_THROWS_WITH(norm.end_reestimation(), contains_text("no rows were seen"));
    const float bad[] = {1.0f, std::numeric_limits<float>::quiet_NaN()};
    norm.reestimate(matrix_view<const float>(bad, 1, 2));
    CHECK_THROWS_WITH(norm.end_reestimation(), contains_text("the statistics of channel 1 are not finite"));
    CHECK((norm.running_mean[0] == 0.0f && norm.running_var[0] == 1.0f));
    norm.begin_reestimation(); // anew
    norm.reestimate(matrix_view<const float>(x, 1, 2));
    norm.end_reestimation();
    CHECK((norm.running_mean[0] == 1.0f && norm.running_var[0] == 0.0f));
}
