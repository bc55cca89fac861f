// SPDX-License-Identifier: Apache-2.0
//
// Training layers on values worked out by hand.
#include "../catch.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <vector>

#include <notch/layers/train.hpp>

using namespace notch;

namespace {

/// Four rows: -1, 0.5, 2, 7.
activation four() {
    activation x;
    x.reshape(4, 1, 1, 1);
    x.values = buffer<float>(4);
    const float values[] = {-1.0f, 0.5f, 2.0f, 7.0f};
    std::copy(std::begin(values), std::end(values), x.values.begin());
    return x;
}
/// y = f(x), then the gradients for dy = 1: of x, and of the weight, which is 1.
struct gradients {
    std::vector<float> dx;
    float dw;
};
gradients of(nonlinearity f, phase p) {
    linear_layer<> layer(1, 1, {.function = f, .float_output = p == phase::quantized});
    layer.weight[0] = 1.0f;
    activation x = four(), y;
    if (p == phase::quantized) quantize_input(x, {0.5f, 10}); // every value is a code
    layer.forward(x, y, p, true, context{});
    std::vector<float> dy(4, 1.0f), dx(4);
    layer.backward(dy, dx, context{});
    return {dx, layer.weight_gradient[0]};
}

} // namespace

TEST_CASE("the gradient ends where ReLU and ReLU6 are flat") {
    for (phase p : {phase::fp32, phase::quantized}) {
        INFO("phase " << static_cast<int>(p));
        const gradients none = of(nonlinearity::none, p), relu = of(nonlinearity::relu, p),
                        relu6 = of(nonlinearity::relu6, p);
        const float want[3][4] = {{1, 1, 1, 1}, {0, 1, 1, 1}, {0, 1, 1, 0}};
        for (std::size_t i = 0; i < 4; ++i) {
            CHECK(none.dx[i] == Approx(want[0][i]));
            CHECK(relu.dx[i] == Approx(want[1][i]));
            CHECK(relu6.dx[i] == Approx(want[2][i]));
        }
        CHECK(none.dw == Approx(8.5f));
        CHECK(relu.dw == Approx(9.5f));
        CHECK(relu6.dw == Approx(2.5f));
    }
}

TEST_CASE("the gradient of real outputs ends at the bounds themselves: at 0, and for ReLU6 at 6") {
    using quantizer = fake_quant<power_of_two<symmetric<8>>>; // a weight of 1 is exact
    const nonlinearity functions[] = {nonlinearity::none, nonlinearity::relu, nonlinearity::relu6};
    const std::vector<float> want[] = {{1, 1, 1, 1}, {0, 1, 1, 1}, {0, 1, 1, 0}};
    for (phase p : {phase::fp32, phase::quantized})
        for (std::size_t f = 0; f < 3; ++f) {
            INFO("phase " << static_cast<int>(p) << " function " << f);
            linear_layer<quantizer> layer(1, 1, {.function = functions[f], .float_output = p == phase::quantized});
            layer.weight[0] = 1.0f;
            activation x = four(), y;
            const float values[] = {0.0f, 0.5f, 5.5f, 6.0f};
            std::copy(std::begin(values), std::end(values), x.values.begin());
            if (p == phase::quantized) quantize_input(x, {0.5f, 10});
            layer.forward(x, y, p, true, context{});
            CHECK(std::equal(std::begin(values), std::end(values), y.values.begin()));
            std::vector<float> dy(4, 1.0f), dx(4);
            layer.backward(dy, dx, context{});
            CHECK(dx == want[f]);
        }
}

TEST_CASE("copy_from copies weights, bias, batch norm and the range of the outputs") {
    using int4 = conv2d_layer<learned_step<symmetric<4>, per_channel<0>>>;
    conv2d_layer<> from(1, 2, window{}), normed(1, 2, window{}, {.batch_norm = true});
    from.weight[0] = 3.0f;
    from.weight[1] = -4.0f;
    from.bias[1] = 5.0f;
    from.output_observer.observe(std::vector<float>{-2.0f, 9.0f});
    int4 to(1, 2, window{}), to_normed(1, 2, window{}, {.batch_norm = true});
    to.copy_from(from);
    CHECK(to.weight[0] == 3.0f);
    CHECK(to.weight[1] == -4.0f);
    CHECK(to.bias[1] == 5.0f);
    CHECK(to.output_observer.range() == real_range{-2.0f, 9.0f});
    normed.norm->gamma[1] = 6.0f;
    normed.norm->running_mean[0] = 7.0f;
    to_normed.copy_from(normed);
    CHECK(to_normed.norm->gamma[1] == 6.0f);
    CHECK(to_normed.norm->running_mean[0] == 7.0f);
}

TEST_CASE("a spec says how many bits its weights have") {
    CHECK(linear_layer<>(4, 3).dynamic_spec().weight_bits == 8);
    CHECK(linear_layer<fake_quant<symmetric<4>, per_tensor>>(4, 3).dynamic_spec().weight_bits == 4);
    CHECK(
        depthwise_layer<learned_step<symmetric<2>, per_channel<2>>>(3, window::square(3)).dynamic_spec().weight_bits ==
        2);
}

TEST_CASE("initialize: uniform in +-sqrt(6 / fan_in)") {
    // Three quarters of the way from -bound to bound is bound / 2; fan_in is 3 * 3 * 2, depthwise 3 * 3.
    conv2d_layer<> conv(2, 1, window::square(3));
    depthwise_layer<> depthwise(2, window::square(3));
    conv.initialize([] { return 0.75; });
    depthwise.initialize([] { return 0.75; });
    for (float w : conv.weight) CHECK(w == Approx(0.28867513));
    for (float w : depthwise.weight) CHECK(w == Approx(0.40824829));
}

TEST_CASE("weights decay; biases, batch norm and steps do not") {
    const auto decaying = [](auto layer) {
        std::string names;
        layer.parameters([&](const auto& p) {
            names += p.decay ? std::string("+") + p.name : std::string("-") + p.name;
            CHECK(p.value.size() == p.gradient.size());
        });
        return names;
    };
    CHECK(decaying(linear_layer<>(2, 3)) == "+weight-bias");
    CHECK(decaying(linear_layer<>(2, 3, {.batch_norm = true})) == "+weight-gamma-beta");
    linear_layer<learned_step<symmetric<4>>> learned(2, 3);
    CHECK(decaying(learned) == "+weight-bias-log_step");
}
