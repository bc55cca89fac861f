// SPDX-License-Identifier: Apache-2.0
//
// Quantizers refuse what they cannot do, and stay as they were.
#include "../catch.hpp"

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

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
