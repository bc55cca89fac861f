// SPDX-License-Identifier: Apache-2.0
//
// Channels with weights near zero, as weight decay and batch norm leave them: what remains of such a channel is its
// bias, and it must come through, without harm to the channels beside it.
#include "../catch.hpp"

#include <cmath>
#include <utility>
#include <vector>

#include <notch/layers/train.hpp>

using namespace notch;

namespace {

/// One image of 1 x 4 pixels: 0, 1, 2, 3.
activation ramp() {
    activation x;
    x.reshape(1, 1, 4, 1);
    x.values = buffer<float>(4);
    for (index_t i = 0; i < 4; ++i) x.values[i] = static_cast<float>(i);
    return x;
}
/// The outputs of the integer layer as real numbers; the frozen layer must give the same codes.
template <class L> std::vector<float> static_outputs(L& layer, bool training) {
    activation x = ramp(), y;
    layer.forward(x, y, phase::calibrate, false, context{});
    quantize_input(x, {3.0f / 255.0f, 0});
    layer.forward(x, y, phase::quantized, training, context{});
    const auto frozen = freeze(layer, x.params);
    std::vector<float> out;
    if (layer.options().float_output) {
        buffer<float> same(y.size());
        frozen.forward(std::as_const(x).code_view(), nhwc_view<float>(same.data(), y.n, y.h, y.w, y.c), context{});
        for (index_t i = 0; i < y.size(); ++i) CHECK(same[i] == y.values[i]);
        return {y.values.begin(), y.values.end()};
    }
    buffer<std::uint8_t> same(y.size());
    frozen.forward(std::as_const(x).code_view(), nhwc_view<std::uint8_t>(same.data(), y.n, y.h, y.w, y.c), context{});
    for (index_t i = 0; i < y.size(); ++i) {
        CHECK(same[i] == y.codes[i]);
        out.push_back(static_cast<float>(y.codes[i] - y.params.zero_point) * y.params.scale);
    }
    return out;
}
template <class L> std::vector<float> dynamic_outputs(L& layer) {
    const activation x = ramp();
    activation y;
    layer.forward(x, y, phase::dynamic, false, context{});
    auto frozen = freeze_dynamic(layer);
    buffer<std::byte> memory(frozen.workspace_size(1, 1, 4));
    buffer<float> same(y.size());
    frozen.forward(x.value_view(), nhwc_view<float>(same.data(), y.n, y.h, y.w, y.c), context(memory));
    for (index_t i = 0; i < y.size(); ++i) CHECK(same[i] == y.values[i]);
    return {y.values.begin(), y.values.end()};
}
/// Channel 0 is x / 2, channel 1 the bias 0.4. Steps of 1.5 / 255, and weights rounded to 127ths.
void check_outputs(const std::vector<float>& y) {
    REQUIRE(y.size() == 8);
    for (std::size_t i = 0; i < 4; ++i) {
        CHECK(y[2 * i] == Approx(0.5 * static_cast<double>(i)).margin(0.01));
        CHECK(y[2 * i + 1] == Approx(0.4).margin(0.004));
    }
}

} // namespace

TEST_CASE("a channel of small weights keeps its bias, and its neighbours their values") {
    for (float tiny : {1e-4f, 1e-6f, 1e-9f, 1e-20f, 1e-38f, 1e-45f, 0.0f})
        for (bool float_output : {false, true}) {
            conv2d_layer<> layer(1, 2, window::square(1), {.float_output = float_output});
            layer.weight[0] = 0.5f;
            layer.weight[1] = tiny;
            layer.bias[1] = 0.4f;
            INFO("weight " << tiny << " float output " << float_output);
            for (bool training : {false, true}) check_outputs(static_outputs(layer, training));
            check_outputs(dynamic_outputs(layer));
        }
}

TEST_CASE("a channel that batch norm has switched off keeps its beta") {
    for (float gamma : {1e-9f, 1e-38f, 0.0f}) {
        conv2d_layer<> layer(1, 2, window::square(1), {.batch_norm = true});
        layer.weight[0] = layer.weight[1] = 0.5f;
        layer.norm->gamma[1] = gamma;
        layer.norm->beta[1] = 0.4f;
        INFO("gamma " << gamma);
        for (bool training : {false, true}) check_outputs(static_outputs(layer, training));
        check_outputs(dynamic_outputs(layer));
    }
}

TEST_CASE("a depthwise channel of small weights, and a learned step") {
    depthwise_layer<> layer(1, window::square(1));
    linear_layer<learned_step<symmetric<8>, per_channel<0>>> learned(1, 2);
    layer.weight[0] = 1e-12f;
    layer.bias[0] = 0.4f;
    for (float v : static_outputs(layer, true)) CHECK(v == Approx(0.4).margin(0.004));
    for (float v : dynamic_outputs(layer)) CHECK(v == Approx(0.4).margin(1e-6));
    learned.weight[0] = 0.5f;
    learned.weight[1] = 1e-12f;
    learned.bias[1] = 0.4f;
    activation x = ramp(), y;
    x.reshape(4, 1, 1, 1);
    learned.forward(x, y, phase::calibrate, false, context{});
    quantize_input(x, {3.0f / 255.0f, 0});
    learned.forward(x, y, phase::quantized, true, context{});
    for (index_t i = 0; i < 4; ++i)
        CHECK(static_cast<float>(y.codes[2 * i + 1] - y.params.zero_point) * y.params.scale ==
              Approx(0.4).margin(0.004));
}

TEST_CASE("a tensor of weights that are all zero keeps its biases") {
    conv2d_layer<fake_quant<symmetric<8>, per_tensor>> layer(1, 2, window::square(1));
    layer.bias[0] = -0.205f; // 17.4 steps of x: with a scale of 1 it would be 17
    layer.bias[1] = 0.4f;
    for (bool training : {false, true}) {
        const std::vector<float> y = static_outputs(layer, training);
        CHECK(y[0] == Approx(-0.205).margin(0.002));
        CHECK(y[1] == Approx(0.4).margin(0.002));
    }
}

TEST_CASE("a channel of zeros, whose scale says nothing, takes no part in the largest scale") {
    // Beside a scale of 1 those below 2^-64 would be raised to that, and their weights would be lost.
    conv2d_layer<> layer(1, 2, window::square(1));
    layer.weight[0] = 1e-25f;
    for (bool training : {false, true}) {
        const std::vector<float> y = static_outputs(layer, training);
        for (std::size_t i = 0; i < 4; ++i) {
            CHECK(y[2 * i] == Approx(1e-25 * static_cast<double>(i)).margin(2e-27));
            CHECK(y[2 * i + 1] == 0.0f);
        }
    }
    CHECK(layer.weight_quantizer.params()[0].scale == 1e-25f / 127.0f);
}

TEST_CASE("scales that are powers of two stay so") {
    conv2d_layer<fake_quant<power_of_two<symmetric<8>>, per_channel<0>>> layer(1, 2, window::square(1));
    layer.weight[0] = 0.5f;
    layer.weight[1] = 1e-9f;
    layer.bias[1] = 0.4f;
    for (bool training : {false, true}) check_outputs(static_outputs(layer, training));
    int exponent = 0;
    for (const quant_params& p : layer.weight_quantizer.params()) CHECK(std::frexp(p.scale, &exponent) == 0.5f);
}

TEST_CASE("quantizers take scales for one call") {
    fake_quant<symmetric<8>, per_channel<0>> q({2, 2});
    const std::vector<float> x{1.0f, -3.0f, 0.25f, 0.5f}, scales{1.0f, 0.25f};
    q.observe(x);
    (void)q.forward(x, scales);
    CHECK(std::vector<int>(q.codes().begin(), q.codes().end()) == std::vector<int>{1, -3, 1, 2});
    CHECK(q.params()[1].scale == 0.25f);
    (void)q.forward(x);
    CHECK(q.params()[0].scale == 3.0f / 127.0f);
    CHECK_THROWS_WITH(q.forward(x, std::vector<float>{1.0f}), contains_text("number of scales"));
    CHECK_THROWS_AS(q.forward(x, std::vector<float>{1.0f, 0.0f}), error);
}
