// SPDX-License-Identifier: Apache-2.0
//
// Trained numbers belong to whoever wrote them: what a checkpoint or a calibration set before the first forward is what
// that forward uses, and only what is still unset starts from the values.
#include "../catch.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include <notch/qat/learned_affine.hpp>
#include <notch/qat/learned_range.hpp>
#include <notch/qat/learned_step.hpp>
#include <notch/qat/learned_threshold.hpp>

using namespace notch;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
template <class T> std::vector<T> vec(std::span<const T> s) { return {s.begin(), s.end()}; }

const std::vector<float> x{0.5f, -1.0f, 0.75f, 2.0f, -0.25f, 3.0f, 1.0f, 0.125f};

} // namespace

TEST_CASE("learned_step: a step that was written stays, the others start from the values") {
    using quantizer = learned_step<symmetric<4>, per_channel<0>>;
    quantizer fresh({2, 4}), q({2, 4});
    CHECK(vec<float>(q.log_step()) == std::vector<float>{-infinity, -infinity});
    CHECK(!q.initialized());
    CHECK(q.step(0) == 1.0f);
    fresh.forward(x);
    CHECK(fresh.initialized());
    q.log_step()[1] = std::log(0.3f);
    CHECK(!q.initialized());
    q.forward(x);
    CHECK(q.initialized());
    CHECK(q.log_step()[1] == std::log(0.3f));
    CHECK(q.params()[1].scale == q.step(1));
    CHECK(q.params()[0] == fresh.params()[0]);
    CHECK(q.params()[1].scale == Approx(0.3f).epsilon(1e-6));
    CHECK(q.codes()[5] == 7); // 3 / 0.3, clipped
    quantizer first({2, 4});  // the other one written
    first.log_step()[0] = std::log(0.3f);
    first.forward(x);
    CHECK(first.log_step()[0] == std::log(0.3f));
    CHECK(first.params()[1] == fresh.params()[1]);
    q.log_step()[0] = std::nanf("");
    CHECK_THROWS_WITH(q.forward(x), contains_text("learned_step.forward: log_step of channel 0 is NaN"));
    q.log_step()[0] = infinity;
    q.forward(x);
    CHECK(q.step(0) == Approx(std::exp(69.0f)));

    quantizer given({2, 4});
    given.initialize(std::vector<quant_params>{{0.25f, 0}, {0.5f, 0}});
    CHECK(given.params()[1].scale == Approx(0.5f).epsilon(1e-6));
    given.forward(x);
    CHECK(given.step(0) == Approx(0.25f).epsilon(1e-6));
    CHECK(given.step(1) == Approx(0.5f).epsilon(1e-6));
    CHECK_THROWS_WITH(given.initialize(std::vector<quant_params>(3)),
                      contains_text("learned_step.initialize: the number of params is 3, expected 2"));
    CHECK_THROWS_WITH(given.initialize(std::vector<quant_params>{{1.0f, 0}, {1.0f, 1}}),
                      contains_text("zero_point is 1"));
    CHECK_THROWS_WITH(given.initialize(std::vector<quant_params>{{1.0f, 0}, {0.0f, 0}}), contains_text("scale is 0"));
}

TEST_CASE("learned_threshold: a threshold that was written stays, the others start from the values") {
    using quantizer = learned_threshold<symmetric<4>, per_channel<0>>;
    quantizer fresh({2, 4}), q({2, 4});
    CHECK(vec<float>(q.log2_threshold()) == std::vector<float>{-infinity, -infinity});
    CHECK(!q.initialized());
    CHECK(q.scale(0) == 0.125f); // of t = 1
    fresh.forward(x);
    q.log2_threshold()[0] = 0.5f;
    q.forward(x);
    CHECK(q.initialized());
    CHECK(q.log2_threshold()[0] == 0.5f);
    CHECK(q.params()[0].scale == 0.25f);
    CHECK(q.params()[1] == fresh.params()[1]);

    // Scales of a calibration; one that is no power of two is moved up.
    quantizer given({2, 4});
    given.initialize(std::vector<quant_params>{{0.25f, 0}, {0.3f, 0}});
    CHECK(given.params()[0].scale == 0.25f);
    CHECK(given.params()[1].scale == 0.5f);
    CHECK(given.log2_threshold()[0] == 1.0f); // 0.25 * 2^3
    given.forward(x);
    CHECK(given.params()[0].scale == 0.25f);
    learned_threshold<affine<8>> positive({8});
    for (int e = -80; e <= 60; ++e) {
        INFO(e);
        positive.initialize(std::vector<quant_params>{{std::ldexp(1.0f, e), 0}});
        CHECK(positive.scale(0) == std::ldexp(1.0f, e));
    }
    CHECK_THROWS_WITH(given.initialize(std::vector<quant_params>(1)), contains_text("the number of params is 1"));
    CHECK_THROWS_WITH(positive.initialize(std::vector<quant_params>{{1.0f, 3}}), contains_text("zero_point is 3"));
}

TEST_CASE("learned_affine: a written step keeps its offset, the other channels start from the values") {
    using quantizer = learned_affine<affine<4>, per_channel<0>>;
    quantizer fresh({2, 4}), q({2, 4});
    CHECK(vec<float>(q.log_step()) == std::vector<float>{-infinity, -infinity});
    CHECK(!q.initialized());
    fresh.forward(x);
    q.log_step()[0] = 0.0f;
    q.offset()[0] = -3.0f;
    q.offset()[1] = -5.0f; // of an unset step: counts for nothing
    q.forward(x);
    CHECK(q.initialized());
    CHECK(q.params()[0] == quant_params{1.0f, 3});
    CHECK(q.log_step()[0] == 0.0f);
    CHECK(q.offset()[0] == -3.0f);
    CHECK(q.params()[1] == fresh.params()[1]);
}

TEST_CASE("learned_range: a bound that was written stays, the others start from the values") {
    using quantizer = learned_range<affine<4>, per_channel<0>>;
    quantizer fresh({2, 4}), q({2, 4});
    CHECK(vec<float>(q.min()) == std::vector<float>{infinity, infinity});
    CHECK(vec<float>(q.max()) == std::vector<float>{-infinity, -infinity});
    CHECK(!q.initialized());
    fresh.forward(x);
    q.min()[0] = -5.0f;
    q.max()[0] = 10.0f;
    q.max()[1] = 15.0f;
    q.forward(x);
    CHECK(q.initialized());
    CHECK(q.params()[0] == quant_params{1.0f, 5});
    CHECK(q.min()[0] == -5.0f);
    CHECK(q.max()[0] == 10.0f);
    CHECK(q.min()[1] == fresh.min()[1]);
    CHECK(q.max()[1] == 15.0f);
    // Bounds that have crossed are not unset.
    q.min()[0] = 0.5f;
    q.max()[0] = 0.25f;
    q.forward(x);
    CHECK(q.max()[0] == 0.25f);
    CHECK(q.bounds(0) == real_range{0.0f, 0.25f});
}

TEST_CASE("power_of_two ranges start with the scale that is given, not with twice that") {
    learned_step<power_of_two<symmetric<8>>> step_q({8});
    learned_affine<power_of_two<affine<8>>> affine_q({8});
    for (int e = -100; e <= 60; ++e) {
        INFO(e);
        const float scale = std::ldexp(1.0f, e);
        step_q.initialize(std::vector<quant_params>{{scale, 0}});
        CHECK(step_q.step(0) == scale);
        affine_q.initialize(std::vector<quant_params>{{scale, 100}});
        CHECK(affine_q.step(0) == scale);
        CHECK(affine_q.params()[0] == quant_params{scale, 100});
        // Others are moved up, as step() says.
        step_q.initialize(std::vector<quant_params>{{1.25f * scale, 0}});
        CHECK(step_q.step(0) == 2.0f * scale);
    }
    // From values: 2 * mean|x| / sqrt(1) is the power of two itself.
    learned_step<power_of_two<symmetric<2>>> values_q({2});
    for (int e = -100; e <= 60; ++e) {
        INFO(e);
        const float half = std::ldexp(0.5f, e);
        values_q.initialize(std::vector<float>{half, -half});
        CHECK(values_q.step(0) == std::ldexp(1.0f, e));
    }
}
