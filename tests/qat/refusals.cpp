// SPDX-License-Identifier: Apache-2.0
//
// Quantizers refuse what they cannot do, and stay as they were.
#include "../catch.hpp"

#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <notch/qat/batch_norm.hpp>
#include <notch/qat/fake_quant.hpp>
#include <notch/qat/learned_step.hpp>

using namespace notch;

TEST_CASE("a quantizer that was moved from is refused") {
    const std::vector<float> x(4, 0.5f);
    fake_quant<symmetric<8>, per_channel<0>> q({2, 2}), seen({2, 2});
    learned_step<symmetric<8>, per_channel<0>> s({2, 2}), started({2, 2});
    seen.observe(x);
    started.initialize(x);
    const auto q2 = std::move(q), seen2 = std::move(seen);
    const auto s2 = std::move(s), started2 = std::move(started);
    CHECK_THROWS_WITH(q.forward(x), contains_text("fake_quant.forward: the quantizer was moved from"));
    CHECK_THROWS_WITH(q.observe(x), contains_text("moved from"));
    CHECK_THROWS_WITH(seen.forward(x), contains_text("moved from"));
    CHECK_THROWS_WITH(s.initialize(x), contains_text("moved from"));
    CHECK_THROWS_WITH(s.forward(x), contains_text("moved from"));
    CHECK_THROWS_WITH(started.forward(x), contains_text("moved from"));
    CHECK_THROWS_WITH(s.step(0), contains_text("channel 0 of 0"));
    CHECK_THROWS_WITH(s2.step(2), contains_text("channel 2 of 2"));
    CHECK_THROWS_WITH(s2.step(-1), contains_text("channel -1"));
}

TEST_CASE("a forward that was refused is no forward before a backward") {
    const std::vector<float> four(4, 1.0f), three(3, 1.0f);
    fake_quant<symmetric<8>> q({4});
    q.observe(four);
    CHECK_THROWS_WITH(q.forward(three), contains_text("fake_quant.forward: the size of x is 3"));
    CHECK_THROWS_WITH(q.forward(four, std::vector<float>{-1.0f}), contains_text("scales[0]"));
    CHECK_THROWS_WITH(q.backward(four), contains_text("needs a forward"));
    q.forward(four);
    CHECK_NOTHROW(q.backward(four));
}

TEST_CASE("learned_step: a NaN among the values spoils neither the step nor its gradient") {
    // Step 1, codes -7..7: 0.75 rounds to 1, so its slope is 0.25; 9 is clipped, its slope is 7; NaN counts for
    // nothing.
    learned_step<symmetric<4>> q({3});
    const std::vector<float> x{0.75f, 9.0f, std::numeric_limits<float>::quiet_NaN()}, dy{2.0f, 1.0f, 5.0f};
    q.initialize(x);
    q.log_step()[0] = 0.0f;
    q.forward(x);
    const auto dx = q.backward(x, dy);
    CHECK(std::vector<float>(dx.begin(), dx.end()) == std::vector<float>{2.0f, 0.0f, 0.0f});
    CHECK(q.log_step_gradient()[0] == Approx((2.0 * 0.25 + 7.0) / std::sqrt(3.0 * 7.0)));
}

TEST_CASE("values at null are refused by the name of the argument") {
    const std::span<const float> null(static_cast<const float*>(nullptr), 4);
    std::vector<float> four(4, 1.0f), two(2, 1.0f);
    fake_quant<symmetric<8>> q({4});
    CHECK_THROWS_WITH(q.forward(null), contains_text("fake_quant.forward: x is null"));
    CHECK_THROWS_WITH(q.observe(null), contains_text("fake_quant.observe: x is null"));
    learned_step<symmetric<8>> s({4});
    CHECK_THROWS_WITH(s.initialize(null), contains_text("learned_step.initialize: x is null"));
    CHECK_THROWS_WITH(s.forward(null), contains_text("learned_step.forward: x is null"));
    s.forward(four);
    CHECK_THROWS_WITH(s.backward(null, four), contains_text("learned_step.backward: x is null"));
    CHECK_THROWS_WITH(s.backward(four, null), contains_text("dy is null"));

    // Each argument in turn.
    batch_norm norm(2);
    const channel_layout layout{1, 2, 2};
    const auto at = [](std::vector<float>& v, bool there) {
        return std::span<float>(there ? v.data() : nullptr, v.size());
    };
    const char* fold[] = {"w", "b", "w_folded", "b_folded"};
    const char* backward[] = {"w", "b", "dw_folded", "db_folded", "dw", "db"};
    for (int i = 0; i < 4; ++i)
        CHECK_THROWS_WITH(norm.fold(at(four, i != 0), layout, at(two, i != 1), at(four, i != 2), at(two, i != 3)),
                          contains_text("batch_norm.fold: " + std::string(fold[i]) + " is null"));
    for (int i = 0; i < 6; ++i)
        CHECK_THROWS_WITH(norm.fold_backward(at(four, i != 0), layout, at(two, i != 1), at(four, i != 2),
                                             at(two, i != 3), at(four, i != 4), at(two, i != 5)),
                          contains_text("batch_norm.fold_backward: " + std::string(backward[i]) + " is null"));
}

TEST_CASE("fake_quant: a gradient in place, what is not finite, and gradients that do not last") {
    fake_quant<symmetric<8>, per_channel<0>> q({2, 40});
    std::vector<float> x(80, 0.5f), dy(80);
    for (std::size_t i = 0; i < dy.size(); ++i) dy[i] = static_cast<float>(i) - 7.0f;
    CHECK_THROWS_AS(q.backward_in_place(dy), error); // no forward before it
    q.forward(x);
    CHECK(q.nonfinite() == 0);
    std::vector<float> in_place = dy, temporary = dy;
    q.backward_in_place(in_place);
    CHECK(in_place == dy); // the range is that of x: nothing is clipped
    const std::span<const float> dx = q.backward(temporary);
    std::fill(temporary.begin(), temporary.end(), 0.0f);
    CHECK(std::vector<float>(dx.begin(), dx.end()) == dy);
    CHECK_THROWS_AS(q.backward_in_place(std::span<float>(in_place).first(79)), error);
    CHECK_THROWS_AS(q.backward(std::span<const float>(static_cast<const float*>(nullptr), 80)), error);
    const std::vector<float> scales(2, 0.5f / 127.0f);
    x[79] = 3.0f; // the last alone is clipped
    q.forward(x, scales);
    CHECK(q.nonfinite() == -1); // it did not have to look
    q.backward_in_place(in_place);
    CHECK(in_place[79] == 0.0f);
    in_place[79] = dy[79];
    CHECK(in_place == dy);
    x[3] = std::numeric_limits<float>::infinity();
    x[79] = std::numeric_limits<float>::quiet_NaN();
    x[78] = -x[3];
    q.forward(x);
    CHECK(q.nonfinite() == 3);
    min_max used;
    used.observe(x);
    fake_quant<symmetric<8>, per_channel<0>> later({2, 40}, used);
    later.forward(x);
    CHECK(later.nonfinite() == 3);
}
