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

TEST_CASE("add: with a nonlinearity, in float and in codes") {
    const float va[] = {-3, -1, 0, 2, 5, 7}, vb[] = {1, 1, 0, -1, 1, 1}; // sums -2 0 0 1 6 8
    struct expected {
        nonlinearity f;
        std::vector<float> values, gradient;
    };
    for (const expected& e : {expected{nonlinearity::relu, {0, 0, 0, 1, 6, 8}, {0, 0, 0, 4, 5, 6}},
                              expected{nonlinearity::relu6, {0, 0, 0, 1, 6, 6}, {0, 0, 0, 4, 0, 0}}}) {
        add_layer add(e.f);
        activation a, b, y;
        for (activation* x : {&a, &b}) {
            x->reshape(1, 1, 1, 6);
            x->values = buffer<float>(6);
        }
        std::copy(std::begin(va), std::end(va), a.values.begin());
        std::copy(std::begin(vb), std::end(vb), b.values.begin());
        add.forward(a, b, y, phase::calibrate, true, context{});
        CHECK(std::vector<float>(y.values.begin(), y.values.end()) == e.values);
        CHECK(add.output_observer.range().min == 0.0f); // what the nonlinearity leaves
        std::vector<float> dy{1, 2, 3, 4, 5, 6};
        add.backward(dy);
        CHECK(dy == e.gradient);

        quantize_input(a, {1.0f, 128});
        quantize_input(b, {1.0f, 128});
        for (const std::int32_t zero_point : {0, 100}) { // with 100 there are codes below zero, which must not appear
            add.fixed_params = quant_params{0.5f, zero_point};
            for (const bool training : {false, true}) {
                add.forward(a, b, y, phase::quantized, training, context{});
                for (index_t i = 0; i < 6; ++i)
                    CHECK(y.codes[i] == static_cast<int>(2 * e.values[static_cast<std::size_t>(i)]) + zero_point);
            }
            dy = {1, 2, 3, 4, 5, 6};
            add.backward(dy);
            CHECK(dy == e.gradient);
        }
    }
    CHECK_THROWS_AS(add_layer(static_cast<nonlinearity>(3)), notch::error);
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

TEST_CASE("max pooling: the gradients of windows that overlap add up, in every channel") {
    // Windows of two pixels, one apart. Channel 0: 1 5 2, both maxima are the 5; channel 1: 7 3 4, they are 7 and
    // 4; channel 2: 6 6 6, the first of each window.
    window s;
    s.kernel_w = 2;
    activation x, y;
    x.reshape(1, 1, 3, 3);
    x.values = buffer<float>(9);
    const float values[] = {1, 7, 6, 5, 3, 6, 2, 4, 6};
    std::copy(std::begin(values), std::end(values), x.values.begin());
    for (phase p : {phase::fp32, phase::quantized}) {
        INFO("phase " << static_cast<int>(p));
        if (p == phase::quantized) quantize_input(x, {1.0f, 0});
        max_pool_layer pool(s);
        pool.forward(x, y, p, true, context{});
        const std::vector<float> dy{1, 10, 100, 2, 20, 200};
        std::vector<float> dx(9, -1.0f);
        pool.backward(dy, dx);
        CHECK(dx == std::vector<float>{0, 10, 100, 3, 0, 200, 0, 20, 0});
    }
}

TEST_CASE("max pooling: a window without a pixel passes no gradient on, whatever stood there before") {
    const window s = window::square(1, 1, 1); // a ring of windows in the padding
    max_pool_layer pool(s);
    for (index_t edge : {3, 2, 1}) { // each ring lies where the images before had pixels
        activation x, y;
        x.reshape(1, edge, edge, 2);
        x.values = buffer<float>(x.size());
        for (index_t i = 0; i < x.size(); ++i) x.values[i] = static_cast<float>(i - 3);
        pool.forward(x, y, phase::fp32, true, context{});
        std::vector<float> dy(static_cast<std::size_t>(y.size())), dx(static_cast<std::size_t>(x.size())), want;
        for (std::size_t i = 0; i < dy.size(); ++i) dy[i] = static_cast<float>(i + 1);
        for (index_t h = 0; h < edge; ++h)
            for (index_t w = 0; w < edge; ++w)
                for (index_t c = 0; c < 2; ++c)
                    want.push_back(static_cast<float>(((h + 1) * (edge + 2) + w + 1) * 2 + c + 1));
        pool.backward(dy, dx);
        CHECK(dx == want);
        for (index_t i = 0; i < y.size(); ++i) {
            const index_t h = i / 2 / (edge + 2), w = i / 2 % (edge + 2);
            const bool inside = h > 0 && h <= edge && w > 0 && w <= edge;
            CHECK(y.values[i] == (inside ? x.values[((h - 1) * edge + w - 1) * 2 + i % 2] : 0.0f));
        }
    }
}

TEST_CASE("max pooling: a window far larger than the image needs memory for the taps inside") {
    // 2^20 x 2^20 taps, all but one in the padding.
    constexpr index_t edge = index_t{1} << 20;
    const window s = window::square(edge, edge, edge / 2);
    CHECK(pool_workspace_size(s, 1, 1) <= 192);
    CHECK(pool_workspace_size(window::square(3), 9, 9) == pool_workspace_size(window::square(3)));
    CHECK_THROWS_WITH(pool_workspace_size(s, -1, 1), contains_text("h is -1"));
    activation x, y;
    x.reshape(1, 1, 1, 2);
    x.values = buffer<float>(2);
    x.values[0] = -3.0f;
    x.values[1] = 4.0f;
    for (bool training : {false, true}) {
        max_pool_layer pool(s);
        pool.forward(x, y, phase::fp32, training, context{});
        CHECK(std::vector<float>(y.values.begin(), y.values.end()) == std::vector<float>{-3.0f, 4.0f});
    }
    // 5 x 5 taps over 2 x 2 pixels, of which at most four lie inside.
    const window five = window::square(5, 1, 4);
    const std::vector<std::uint8_t> codes{1, 2, 3, 4};
    std::vector<std::uint8_t> pooled(36), want(36);
    buffer<std::byte> memory(pool_workspace_size(five, 2, 2));
    const nhwc_view<const std::uint8_t> in(codes.data(), 1, 2, 2, 1);
    max_pool(in, five, nhwc_view<std::uint8_t>(pooled.data(), 1, 6, 6, 1), context(memory));
    ref::max_pool(in, five, nhwc_view<std::uint8_t>(want.data(), 1, 6, 6, 1));
    CHECK(pooled == want);
}

TEST_CASE("a dynamic layer: an image of next to nothing has the least scale") {
    // The least scale is 2^-125 / 2^-20 = 2^-105. The values are 0.5 and 1.5 steps of it, the codes 0 and 2; their
    // own range would have given 1 * 2 + 3 * 3 halves instead of 2 * 3.
    layer_spec s;
    s.in_channels = 3;
    s.out_channels = 1;
    s.weights = buffer<std::int8_t>(3);
    for (index_t i = 0; i < 3; ++i) s.weights[i] = static_cast<std::int8_t>(i + 1);
    s.w_scales = buffer<float>(1);
    s.w_scales[0] = 0x1p-20f;
    s.float_output = true;
    dynamic_linear layer(s);
    buffer<std::byte> memory(layer.workspace_size(1, 1, 1));
    const float x[] = {0.0f, 0x1p-106f, 0x3p-106f};
    float y = -1.0f;
    layer.forward({x, 1, 1, 1, 3}, {&y, 1, 1, 1, 1}, context(memory));
    CHECK(y == 6 * 0x1p-125f);
}
