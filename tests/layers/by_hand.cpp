// SPDX-License-Identifier: Apache-2.0
//
// Layers on values worked out by hand.
#include "../catch.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <span>
#include <vector>

#include <notch/layers/frozen.hpp>
#include <notch/layers/pool.hpp>

using namespace notch;

TEST_CASE("add: the gradient ends half a step outside the codes, ties to even") {
    // The codes cover -25 ... 38.75 in steps of 0.25. The sums lie a quarter, a half and three quarters
    // of a step beyond: the halves are -100.5 and 155.5 steps, to even -100 (a code) and 156 (none).
    add_layer add;
    add.fixed_params = quant_params{0.25f, 100};
    activation a, b, y;
    for (activation* x : {&a, &b}) {
        x->reshape(1, 1, 1, 6);
        x->values = buffer<float>(6);
    }
    const float va[] = {-0.0625f, -0.125f, -0.1875f, 0.8125f, 0.875f, 0.9375f}, vb[] = {-25, -25, -25, 38, 38, 38};
    std::copy(std::begin(va), std::end(va), a.values.begin());
    std::copy(std::begin(vb), std::end(vb), b.values.begin());
    quantize_input(a, {0.0625f, 128});
    quantize_input(b, {0.5f, 128});
    add.forward(a, b, y, phase::quantized, true, context{});
    CHECK(std::vector<int>(y.codes.begin(), y.codes.end()) == std::vector<int>{0, 0, 0, 255, 255, 255});
    std::vector<float> dy{1, 2, 3, 4, 5, 6};
    add.backward(dy);
    CHECK(dy == std::vector<float>{1, 2, 0, 4, 0, 0});
}

TEST_CASE("a dynamic layer: ranges on one side of zero, zeros alone, and nothing finite") {
    layer_spec s;
    s.in_channels = 4;
    s.out_channels = 1;
    s.weights = buffer<std::int8_t>(4);
    for (index_t i = 0; i < 4; ++i) s.weights[i] = static_cast<std::int8_t>(i + 1);
    s.w_scales = buffer<float>(1);
    s.w_scales[0] = 1.0f;
    s.float_bias = buffer<float>(1);
    s.float_output = true;
    const auto run = [&](const std::vector<float>& x, float bias) {
        s.float_bias[0] = bias;
        dynamic_linear layer(s);
        buffer<std::byte> memory(layer.workspace_size(1, 1, 1));
        float out = -1.0f;
        layer.forward({x.data(), 1, 1, 1, 4}, {&out, 1, 1, 1, 1}, context{std::span<std::byte>(memory)});
        return out;
    };
    const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
    // A range of 255 is a scale of 1: everything is an integer. 2 * 51 + 3 * 102 + 4 * 255 = 1428.
    CHECK(run({0.0f, 51.0f, 102.0f, 255.0f}, 2.0f) == 1430.0f);
    CHECK(run({0.0f, -51.0f, -102.0f, -255.0f}, 2.0f) == -1426.0f);
    // Infinities do not widen the range; they saturate. Any NaN counts as 0.
    CHECK(run({nan, inf, 0.0f, 255.0f}, 2.0f) == 2 * 255.0f + 4 * 255.0f + 2.0f);
    // Without a value to set the scale the bias comes through, to 2^-30 of itself.
    CHECK(run({0.0f, 0.0f, 0.0f, 0.0f}, 0.3f) == Approx(0.3).epsilon(1e-7));
    CHECK(run({nan, nan, nan, nan}, 0.3f) == Approx(0.3).epsilon(1e-7));
}

TEST_CASE("a dynamic layer is what docs/numerics.md says of dynamic range, bit for bit") {
    layer_spec s;
    s.in_channels = 5;
    s.out_channels = 3;
    s.weights = buffer<std::int8_t>(15);
    for (index_t i = 0; i < 15; ++i) s.weights[i] = static_cast<std::int8_t>(i * 71 % 255 - 127);
    s.w_scales = buffer<float>(3);
    s.float_bias = buffer<float>(3);
    for (index_t c = 0; c < 3; ++c) {
        s.w_scales[c] = 0.013f * static_cast<float>(c + 1);
        s.float_bias[c] = 0.37f * static_cast<float>(c) - 0.3f;
    }
    s.float_output = true;
    for (nonlinearity f : {nonlinearity::none, nonlinearity::relu6})
        for (float size : {1.0f, 1e-9f, 1e-30f, 0.0f, 1e4f}) {
            s.function = f;
            const std::vector<float> x{0.3f * size, -0.7f * size, 0.11f * size, 0.9f * size, -0.2f * size};
            dynamic_linear layer(s);
            buffer<std::byte> memory(layer.workspace_size(1, 1, 1));
            float y[3];
            layer.forward({x.data(), 1, 1, 1, 5}, {y, 1, 1, 1, 3}, context(memory));
            const quant_params p = params_from_range<affine<8>>({-0.7f * size, 0.9f * size});
            for (index_t c = 0; c < 3; ++c) {
                std::int32_t acc = 0;
                for (index_t k = 0; k < 5; ++k) {
                    float q =
                        std::nearbyint(x[static_cast<std::size_t>(k)] / p.scale) + static_cast<float>(p.zero_point);
                    q = q < 0.0f ? 0.0f : q > 255.0f ? 255.0f : q;
                    acc += (static_cast<std::int32_t>(q) - p.zero_point) * s.weights[c * 5 + k];
                }
                volatile float product = static_cast<float>(acc) * (p.scale * s.w_scales[c]); // rounded: no FMA
                float want = product + s.float_bias[c];
                if (f == nonlinearity::relu6) want = want < 0.0f ? 0.0f : want > 6.0f ? 6.0f : want;
                INFO("size " << size << " channel " << c);
                CHECK(y[c] == want);
            }
        }
}

TEST_CASE("a dynamic layer serves every image of a batch, however large the products of the scales") {
    layer_spec s;
    s.in_channels = 2;
    s.out_channels = 2;
    s.weights = buffer<std::int8_t>(4);
    const int w[] = {1, 2, -3, 0};
    for (index_t i = 0; i < 4; ++i) s.weights[i] = static_cast<std::int8_t>(w[i]);
    s.w_scales = buffer<float>(2);
    s.w_scales[0] = 1e5f;
    s.w_scales[1] = 2.0f;
    s.float_bias = buffer<float>(2);
    s.float_bias[0] = 7.0f;
    s.float_output = true;
    dynamic_linear layer(s);
    buffer<std::byte> memory(layer.workspace_size(3, 1, 1));
    const float big = 3e38f;
    const std::vector<float> x{255.0f, 51.0f, 0.0f,
                               0.0f,   big,   0.0f}; // a scale of 1; nothing; one whose products overflow
    std::vector<float> y(6, -1.0f);
    layer.forward({x.data(), 3, 1, 1, 2}, {y.data(), 3, 1, 1, 2}, context(memory));
    CHECK(y[0] == 357.0f * 1e5f + 7.0f);
    CHECK(y[1] == -765.0f * 2.0f);
    CHECK(y[2] == 7.0f);
    CHECK(y[3] == 0.0f);
    CHECK(y[4] == std::numeric_limits<float>::infinity()); // 255 * FLT_MAX
    const quant_params p = params_from_range<affine<8>>({0.0f, big});
    CHECK(y[5] == -765.0f * (p.scale * 2.0f));
}
