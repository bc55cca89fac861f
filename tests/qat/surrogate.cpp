// SPDX-License-Identifier: Apache-2.0
#include "../catch.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include <notch/qat/batch_norm.hpp>
#include <notch/qat/learned_step.hpp>

using namespace notch;

TEST_CASE("learned_step: the gradient is the derivative of the surrogate, per channel") {
    // Inside: value = x + r * s with the rounding residue r = code - x / s held constant. Clipped:
    // value = +-Q * s. Both are smooth in t = log s.
    std::mt19937 g(1);
    const channel_layout layout{2, 3, 5};
    std::vector<float> x(30), dy(30);
    for (float& v : x) v = static_cast<float>(g() % 20001) / 10000.0f - 1.0f;
    for (float& v : dy) v = static_cast<float>(g() % 20001) / 10000.0f - 1.0f;
    learned_step<symmetric<3>, per_channel<1>> q({2, 3, 5});
    q.initialize(x);
    q.forward(x);
    q.backward(x, dy);
    for (index_t c = 0; c < 3; ++c) {
        const double t = static_cast<double>(q.log_step()[static_cast<std::size_t>(c)]);
        const double s0 = static_cast<double>(q.params()[static_cast<std::size_t>(c)].scale);
        const auto loss = [&](double log_step) {
            double sum = 0;
            for (index_t i = 0; i < 30; ++i) {
                if (i / layout.inner % layout.channels != c) continue;
                const auto at = static_cast<std::size_t>(i);
                const double v = static_cast<double>(x[at]) / s0, s = std::exp(log_step);
                const double residue = std::nearbyint(v) - v;
                sum += static_cast<double>(dy[at]) * (v < -3.0  ? -3.0 * s
                                                      : v > 3.0 ? 3.0 * s
                                                                : static_cast<double>(x[at]) + residue * s);
            }
            return sum;
        };
        const double slope = (loss(t + 1e-5) - loss(t - 1e-5)) / 2e-5, g_scale = 1.0 / std::sqrt(10.0 * 3.0);
        CHECK(static_cast<double>(q.log_step_gradient()[static_cast<std::size_t>(c)]) ==
              Approx(g_scale * slope).epsilon(1e-3).margin(1e-5));
    }
}

TEST_CASE("folding refuses a layout that does not describe the weights") {
    batch_norm norm(3);
    std::vector<float> w(24), b(3), out(24), bias(3);
    CHECK_THROWS_AS(norm.fold(w, channel_layout{-2, 3, -4}, b, out, bias), error);
    CHECK_THROWS_AS(norm.fold(w, channel_layout{2, 4, 3}, b, out, bias), error);
    CHECK_THROWS_AS(norm.fold(w, channel_layout{2, 3, 4}, b, std::span(out).first(23), bias), error);
    CHECK_THROWS_AS(norm.fold(w, channel_layout{2, 3, 4}, std::span(b).first(2), out, bias), error);
    CHECK_THROWS_AS(norm.backward({out.data(), 2, 3}), error); // no forward before it
    CHECK_THROWS_AS(batch_norm(3, 0.0f), error);
    CHECK_THROWS_AS(batch_norm(3, 0.1f, std::nanf("")), error);
}

TEST_CASE("fold_backward refuses gradients of another size than the weights and the bias") {
    batch_norm norm(4);
    const std::vector<float> w(8, 1.0f), dwf(8, 1.0f), dbf(4, 1.0f);
    std::vector<float> memory(64); // large enough for a mistake
    const std::span<float> all(memory);
    const channel_layout layout{1, 4, 2};
    CHECK_THROWS_WITH(norm.fold_backward(w, layout, {}, dwf, dbf, all.first(1), all.first(4)),
                      contains_text("size of dw is 1, expected 8"));
    CHECK_THROWS_WITH(norm.fold_backward(w, layout, {}, dwf, dbf, all.first(9), all.first(4)),
                      contains_text("size of dw"));
    CHECK_THROWS_WITH(norm.fold_backward(w, layout, {}, dwf, dbf, {}, all.first(4)), contains_text("size of dw"));
    CHECK_THROWS_WITH(norm.fold_backward(w, layout, {}, dwf, dbf, all.first(8), all.first(3)),
                      contains_text("size of db is 3, expected 4"));
    for (float v : memory) CHECK(v == 0.0f);
    for (float v : norm.gamma_gradient) CHECK(v == 0.0f);
    CHECK_NOTHROW(norm.fold_backward(w, layout, {}, dwf, dbf, all.first(8), {}));
}

TEST_CASE("batch_norm refuses buffers of another size and running variances that are none") {
    std::vector<float> x(64, 1.0f), w(8, 1.0f), wf(8), bf(4), dw(8);
    const matrix_view<float> rows(x.data(), 2, 4);
    const channel_layout layout{1, 4, 2};
    struct member {
        const char* name;
        buffer<float> batch_norm::*at;
    };
    for (const member& m :
         {member{"gamma", &batch_norm::gamma}, member{"beta", &batch_norm::beta},
          member{"gamma_gradient", &batch_norm::gamma_gradient}, member{"beta_gradient", &batch_norm::beta_gradient},
          member{"running_mean", &batch_norm::running_mean}, member{"running_var", &batch_norm::running_var}})
        for (index_t size : {0, 1, 8}) {
            batch_norm norm(4), ready(4);
            norm.*m.at = buffer<float>(size);
            ready.forward_training(rows);
            ready.*m.at = buffer<float>(size);
            const auto names = contains_text(detail::cat("the size of ", m.name, " is ", size, ", expected 4"));
            CHECK_THROWS_WITH(norm.forward_training(rows), names);
            CHECK_THROWS_WITH(norm.forward_inference(rows), names);
            CHECK_THROWS_WITH(ready.backward(rows), names);
            CHECK_THROWS_WITH(norm.fold(w, layout, {}, wf, bf), names);
            CHECK_THROWS_WITH(norm.fold_backward(w, layout, {}, wf, bf, dw, {}), names);
            CHECK(norm.channels() == 4);
        }
    for (float bad : {-5.0f, -0x1p-149f, std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
        batch_norm norm(4);
        norm.running_var[2] = bad;
        const auto names = contains_text("running_var[2] is");
        CHECK_THROWS_WITH(norm.forward_inference(rows), names);
        CHECK_THROWS_WITH(norm.fold(w, layout, {}, wf, bf), names);
        CHECK_THROWS_WITH(norm.fold_backward(w, layout, {}, wf, bf, dw, {}), names);
    }
    batch_norm constant(4);
    std::fill(constant.running_var.begin(), constant.running_var.end(), 0.0f); // what a constant channel has
    CHECK_NOTHROW(constant.fold(w, layout, {}, wf, bf));
}

TEST_CASE("learned_step starts each channel from the mean of its own values") {
    // 2 * mean|x| / sqrt(Qp), Qp = 1 for 2 bits: twice the means 1, 0.5 and 3. Non-finite values count
    // for nothing, a channel without any starts at 1.
    const float nan = std::nanf("");
    learned_step<symmetric<2>, per_channel<0>> rows({4, 2});
    rows.initialize(std::vector<float>{1.5f, -0.5f, 0.25f, 0.75f, nan, -3.0f, nan, HUGE_VALF});
    const float by_row[] = {2.0f, 1.0f, 6.0f, 1.0f};
    for (index_t c = 0; c < 4; ++c) CHECK(rows.step(c) == Approx(by_row[c]).epsilon(1e-6));
    learned_step<symmetric<2>, per_channel<1>> columns({2, 2});
    columns.initialize(std::vector<float>{1.0f, 8.0f, -3.0f, 0.0f});
    CHECK(columns.step(0) == Approx(4.0).epsilon(1e-6));
    CHECK(columns.step(1) == Approx(8.0).epsilon(1e-6));
}

TEST_CASE("a learned step set by hand is used as it is, and its gradient adds up by channel") {
    // Before the first forward: initialize, then set. Steps of 1 and 2; the first channel lies inside,
    // the second is clipped above. g = 1 / sqrt(2 * 7) for 2 values a channel.
    learned_step<symmetric<4>, per_channel<0>> q({2, 2});
    const std::vector<float> x{1.25f, -2.25f, 15.0f, 40.0f}, dy{1.0f, 2.0f, 3.0f, 4.0f};
    q.initialize(x);
    q.log_step()[0] = 0.0f;
    q.log_step()[1] = std::log(2.0f);
    const auto values = q.forward(x);
    CHECK(q.step(0) == 1.0f);
    CHECK(q.step(1) == Approx(2.0).epsilon(1e-6));
    CHECK(q.codes()[0] == 1);
    CHECK(q.codes()[1] == -2);
    CHECK(q.codes()[2] == 7);
    CHECK(q.codes()[3] == 7);
    CHECK(values[3] == 7.0f * q.step(1));
    q.log_step()[0] = 3.0f; // after forward: the gradient belongs to the steps that forward used
    for (int calls = 1; calls <= 2; ++calls) {
        const auto dx = q.backward(x, dy);
        CHECK(dx[0] == 1.0f);
        CHECK(dx[1] == 2.0f);
        CHECK(dx[3] == 0.0f);
        const double first = 1.0 * (1.0 - 1.25) + 2.0 * (-2.0 + 2.25), second = (3.0 + 4.0) * 7.0 * 2.0;
        CHECK(static_cast<double>(q.log_step_gradient()[0]) == Approx(calls * first / std::sqrt(14.0)).epsilon(1e-5));
        CHECK(static_cast<double>(q.log_step_gradient()[1]) == Approx(calls * second / std::sqrt(14.0)).epsilon(1e-5));
    }
    // Steps beyond the normal floats are kept within them.
    q.log_step()[0] = -1000.0f;
    CHECK(q.step(0) == Approx(std::exp(-87.0f)));
    q.log_step()[0] = 1000.0f;
    CHECK(q.step(0) == Approx(std::exp(69.0f)));
}
