// SPDX-License-Identifier: Apache-2.0
//
// Any observer gives the range of a layer's outputs; moving_average takes its momentum from the options.
#include "../catch.hpp"

#include <cmath>
#include <span>

#include <notch/layers/pool.hpp>
#include <notch/layers/train.hpp>

using namespace notch;

namespace {

/// The largest magnitude, to both sides; built from nothing.
struct largest {
    float most = 0;
    void observe(std::span<const float> x) {
        for (float v : x) most = std::fabs(v) > most ? std::fabs(v) : most;
    }
    void merge(const largest& other) { most = other.most > most ? other.most : most; }
    [[nodiscard]] real_range range() const { return most > 0 ? real_range{-most, most} : real_range{}; }
};

/// Shows a layer of y = x the values a and b, one forward each.
template <class L> real_range range_after(L&& layer, float a, float b) {
    layer.weight[0] = 1.0f;
    activation x, y;
    x.reshape(1, 1, 1, 1);
    x.values = buffer<float>(1);
    for (float v : {a, b}) {
        x.values[0] = v;
        layer.forward(x, y, phase::calibrate, false, context{});
    }
    return layer.output_observer.range();
}

} // namespace

TEST_CASE("layers take any observer of their outputs") {
    using quantizer = fake_quant<symmetric<8>, per_channel<0>>;
    using tensor_quantizer = fake_quant<symmetric<8>, per_tensor>;
    CHECK(range_after(conv2d_layer<quantizer, min_max>(1, 1, window{}), 3.0f, -1.0f) == real_range{-1.0f, 3.0f});
    CHECK(range_after(linear_layer<quantizer, min_max>(1, 1), -2.0f, 1.0f) == real_range{-2.0f, 1.0f});
    CHECK(range_after(depthwise_layer<tensor_quantizer, largest>(1, window{}), -2.0f, 1.0f) == real_range{-2.0f, 2.0f});
}

TEST_CASE("range_momentum is that of the moving average") {
    // 0.75 * 4 + 0.25 * 8 = 5
    CHECK(range_after(linear_layer<>(1, 1, {.range_momentum = 0.75f}), 4.0f, 8.0f) == real_range{5.0f, 5.0f});
    CHECK(range_after(linear_layer<>(1, 1, {.range_momentum = 0.0f}), 4.0f, 8.0f) == real_range{8.0f, 8.0f});
}

TEST_CASE("quantized training lets the ranges of add and of the mean follow") {
    // Momentum 0.5: the range of sums 4, then 8, is 6; that of the means likewise.
    activation a, b, sum, mean;
    for (activation* x : {&a, &b}) {
        x->reshape(1, 1, 1, 1);
        x->values = buffer<float>(1);
    }
    add_layer add(0.5f);
    global_average_layer average(0.5f);
    const auto forward = [&](float value, phase p, bool training) {
        a.values[0] = b.values[0] = value;
        a.quantized = b.quantized = false;
        if (p == phase::quantized)
            for (activation* x : {&a, &b}) quantize_input(*x, {1.0f, 0});
        add.forward(a, b, sum, p, training, context{});
        average.forward(sum, mean, p, training, context{});
    };
    forward(2.0f, phase::calibrate, false);
    CHECK(add.output_observer.range() == real_range{4.0f, 4.0f});
    forward(4.0f, phase::quantized, false); // evaluating: nothing follows
    CHECK(add.output_observer.range() == real_range{4.0f, 4.0f});
    CHECK(average.output_observer.range() == real_range{4.0f, 4.0f});
    forward(4.0f, phase::quantized, true);
    CHECK(add.output_observer.range() == real_range{6.0f, 6.0f});
    // The mean sees the codes of a sum whose range ends at 6: 8 is clipped to 6, to within a step.
    CHECK(average.output_observer.range().max == Approx(5.0f).margin(0.02));
}

namespace {
/// y = x; momentum 0.5. Codes of x have a step of 1.
template <class L> void check_follows(L&& layer) {
    layer.weight[0] = 1.0f;
    activation x, y;
    x.reshape(1, 1, 1, 1);
    x.values = buffer<float>(1);
    const auto range_max = [&](float value, phase p, bool training) {
        x.values[0] = value;
        x.quantized = false;
        if (p == phase::quantized) quantize_input(x, {1.0f, 0});
        layer.forward(x, y, p, training, context{});
        CHECK(layer.output_observer.range().min == layer.output_observer.range().max);
        return layer.output_observer.range().max;
    };
    CHECK(range_max(2.0f, phase::calibrate, false) == 2.0f);
    CHECK(range_max(4.0f, phase::quantized, false) == 2.0f); // evaluating: nothing follows
    CHECK(range_max(4.0f, phase::quantized, true) == Approx(3.0));
    CHECK(y.params.scale == Approx(3.0 / 255.0)); // and the codes already have it
    CHECK(range_max(8.0f, phase::quantized, true) == Approx(5.5));
    CHECK(range_max(1.0f, phase::quantized, true) == Approx(3.25));
}
} // namespace

TEST_CASE("quantized training lets the ranges of layers with weights follow") {
    check_follows(linear_layer<>(1, 1, {.range_momentum = 0.5f}));
    check_follows(conv2d_layer<>(1, 1, window{}, {.range_momentum = 0.5f}));
    check_follows(depthwise_layer<>(1, window{}, {.range_momentum = 0.5f}));
}
