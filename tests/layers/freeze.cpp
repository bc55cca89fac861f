// SPDX-License-Identifier: Apache-2.0
//
// What is trained is what is shipped: the codes of a training layer's forward pass and of the layer
// frozen from it agree bit for bit; and the backward passes agree with finite differences where they
// are differentiable, and with the straight-through formula where they are not.
#include "../catch.hpp"

#include <random>
#include <vector>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <notch/layers/pool.hpp>
#include <notch/layers/train.hpp>

using namespace notch;

namespace {

activation random_input(std::mt19937& g, index_t n, index_t h, index_t w, index_t c) {
    activation x;
    x.reshape(n, h, w, c);
    x.values = buffer<float>(x.size());
    for (float& v : x.values) v = static_cast<float>(g() % 2001) / 1000.0f - 1.0f;
    return x;
}

template <class L> void randomize(L& layer, std::mt19937& g) {
    layer.initialize([&] { return static_cast<double>(g()) / 4294967296.0; });
    for (float& b : layer.bias) b = static_cast<float>(g() % 100) / 100.0f - 0.5f;
    if (layer.norm)
        for (index_t c = 0; c < layer.norm->channels(); ++c) {
            layer.norm->gamma[c] = 0.5f + static_cast<float>(g() % 100) / 100.0f;
            layer.norm->beta[c] = static_cast<float>(g() % 100) / 100.0f - 0.5f;
            layer.norm->running_mean[c] = static_cast<float>(g() % 100) / 200.0f;
            layer.norm->running_var[c] = 0.3f + static_cast<float>(g() % 100) / 100.0f;
        }
}

/// Codes of the training forward (evaluating and training) against the frozen layer on every ISA.
template <class L> void check_freeze(L layer, activation x, std::mt19937& g) {
    randomize(layer, g);
    const context ctx;
    activation y;
    layer.forward(x, y, phase::calibrate, false, ctx);
    quantize_input(x, params_from_range<affine<8>>({-1.0f, 1.0f}), ctx);
    for (bool training : {false, true}) {
        layer.forward(x, y, phase::quantized, training, ctx);
        const auto frozen = freeze(layer, x.params);
        for (isa i : available_isas()) {
            buffer<std::byte> memory(frozen.workspace_size(x.n, x.h, x.w));
            const context on(i, {}, memory);
            INFO(to_string(i) << " training " << training);
            const auto xv = std::as_const(x).code_view();
            activation z;
            frozen.forward(x, z, on);
            CHECK((z.n == y.n && z.h == y.h && z.w == y.w && z.c == y.c && z.quantized == y.quantized));
            if (y.quantized) CHECK(z.params == y.params);
            CHECK(std::ranges::equal(z.codes, y.quantized ? y.codes.span() : std::span<std::uint8_t>()));
            CHECK(std::ranges::equal(z.values, y.quantized ? std::span<float>() : y.values.span()));
            if (layer.options().float_output) {
                buffer<float> out(y.size());
                frozen.forward(xv, nhwc_view<float>(out.data(), y.n, y.h, y.w, y.c), on);
                index_t wrong = 0;
                for (index_t k = 0; k < y.size(); ++k) wrong += out[k] != y.values[k];
                CHECK(wrong == 0);
            } else {
                // After a training forward the ranges have moved; the spec has the new ones.
                CHECK(frozen.spec().y == y.params);
                buffer<std::uint8_t> out(y.size());
                frozen.forward(xv, nhwc_view<std::uint8_t>(out.data(), y.n, y.h, y.w, y.c), on);
                index_t wrong = 0;
                for (index_t k = 0; k < y.size(); ++k) wrong += out[k] != y.codes[k];
                CHECK(wrong == 0);
            }
        }
    }
}

template <class L> void check_dynamic(L layer, const activation& x, std::mt19937& g) {
    randomize(layer, g);
    activation y;
    layer.forward(x, y, phase::dynamic, false, context{});
    auto frozen = freeze_dynamic(layer);
    for (isa i : available_isas()) {
        buffer<std::byte> memory(frozen.workspace_size(x.n, x.h, x.w));
        buffer<float> out(y.size());
        frozen.forward(nhwc_view<const float>(x.values.data(), x.n, x.h, x.w, x.c),
                       nhwc_view<float>(out.data(), y.n, y.h, y.w, y.c), context(i, {}, memory));
        index_t wrong = 0;
        for (index_t k = 0; k < y.size(); ++k) wrong += out[k] != y.values[k];
        INFO(to_string(i));
        CHECK(wrong == 0);
        activation z;
        frozen.forward(x, z, context(i, {}, memory));
        CHECK((z.n == y.n && z.h == y.h && z.w == y.w && z.c == y.c && !z.quantized));
        CHECK(std::ranges::equal(z.values, y.values));
    }
}

/// Sum of y * weights: a loss whose gradient with respect to y is known.
template <class Net> double loss(Net& layer, const activation& x, const std::vector<float>& r) {
    activation y;
    layer.forward(x, y, phase::fp32, true, context{});
    double sum = 0;
    for (index_t i = 0; i < y.size(); ++i)
        sum += static_cast<double>(y.values[i]) * static_cast<double>(r[static_cast<std::size_t>(i)]);
    return sum;
}

template <class Make> void check_fp32_gradients(Make make, activation x, std::mt19937& g) {
    auto layer = make();
    randomize(layer, g);
    activation y;
    layer.forward(x, y, phase::fp32, true, context{});
    std::vector<float> r(static_cast<std::size_t>(y.size()));
    for (float& v : r) v = static_cast<float>(g() % 2001) / 1000.0f - 1.0f;
    std::vector<float> dy = r, dx(static_cast<std::size_t>(x.size()));
    layer.backward(dy, dx, context{});
    const auto check = [&](float& v, float analytic, const char* what) {
        const float before = v;
        constexpr float h = 1e-2f;
        v = before + h;
        const double up = loss(layer, x, r);
        v = before - h;
        const double down = loss(layer, x, r);
        v = before;
        INFO(what);
        // Central differences of float32 sums of some hundreds of terms: about 1e-4 of noise / h.
        CHECK(static_cast<double>(analytic) ==
              Approx((up - down) / (2.0 * static_cast<double>(h))).epsilon(0.02).margin(0.02));
    };
    for (int k = 0; k < 10; ++k) {
        const auto at = static_cast<index_t>(g() % static_cast<unsigned>(layer.weight.size()));
        check(layer.weight[at], layer.weight_gradient[at], "weight");
        const auto ix = static_cast<index_t>(g() % static_cast<unsigned>(x.size()));
        check(x.values[ix], dx[static_cast<std::size_t>(ix)], "x");
        if (layer.norm) {
            const auto c = static_cast<index_t>(g() % static_cast<unsigned>(layer.norm->channels()));
            check(layer.norm->gamma[c], layer.norm->gamma_gradient[c], "gamma");
            check(layer.norm->beta[c], layer.norm->beta_gradient[c], "beta");
        } else {
            const auto c = static_cast<index_t>(g() % static_cast<unsigned>(layer.bias.size()));
            check(layer.bias[c], layer.bias_gradient[c], "bias");
        }
    }
}

using int4_step = learned_step<symmetric<4>, per_channel<0>>;
using int8_tensor = fake_quant<symmetric<8>, per_tensor>;

} // namespace

TEST_CASE("a frozen layer gives the codes of the training layer") {
    std::mt19937 g(1);
    for (nonlinearity f : {nonlinearity::none, nonlinearity::relu, nonlinearity::relu6})
        for (bool norm : {false, true}) {
            const layer_options o{.function = f, .batch_norm = norm};
            check_freeze(conv2d_layer<>(3, 20, window::square(3, 2, 1), o), random_input(g, 2, 9, 8, 3), g);
            check_freeze(conv2d_layer<int8_tensor>(1, 33, window::square(3), o), random_input(g, 2, 9, 8, 1), g);
            check_freeze(conv2d_layer<int4_step>(16, 17, window::square(1), o), random_input(g, 2, 5, 5, 16), g);
            check_freeze(depthwise_layer<>(70, window::square(3, 1, 1), o), random_input(g, 2, 6, 5, 70), g);
            check_freeze(depthwise_layer<learned_step<symmetric<4>, per_channel<2>>>(16, window::square(5, 2, 2), o),
                         random_input(g, 2, 7, 7, 16), g);
            check_freeze(linear_layer<>(50, 10, o), random_input(g, 7, 1, 1, 50), g);
        }
    check_freeze(linear_layer<int4_step>(500, 10, {.float_output = true}), random_input(g, 7, 1, 1, 500), g);
}

TEST_CASE("a dynamic layer gives the outputs of the training layer") {
    std::mt19937 g(2);
    check_dynamic(conv2d_layer<>(3, 20, window::square(3, 1, 1), {.function = nonlinearity::relu, .batch_norm = true}),
                  random_input(g, 3, 6, 6, 3), g);
    check_dynamic(depthwise_layer<>(20, window::square(3, 2, 1), {.function = nonlinearity::relu6}),
                  random_input(g, 3, 6, 6, 20), g);
    check_dynamic(linear_layer<int8_tensor>(100, 10), random_input(g, 5, 1, 1, 100), g);
}

TEST_CASE("fp32 gradients agree with finite differences") {
    std::mt19937 g(3);
    for (bool norm : {false, true}) {
        const layer_options o{.batch_norm = norm};
        check_fp32_gradients([&] { return conv2d_layer<>(3, 5, window::square(3, 2, 1), o); },
                             random_input(g, 2, 6, 5, 3), g);
        check_fp32_gradients([&] { return conv2d_layer<>(4, 6, window::square(1), o); }, random_input(g, 2, 4, 4, 4),
                             g);
        check_fp32_gradients([&] { return depthwise_layer<>(5, window::square(3, 1, 1), o); },
                             random_input(g, 2, 5, 4, 5), g);
        check_fp32_gradients([&] { return linear_layer<>(12, 5, o); }, random_input(g, 8, 1, 1, 12), g);
    }
}

TEST_CASE("the quantized backward pass is the straight-through estimator") {
    // y = clamp(x * w): dx = (dy . mask) * wq, dw = mask_w . (dy . mask)^T * x, db = sum of dy . mask
    std::mt19937 g(4);
    const index_t n = 6, in = 9, out = 4;
    linear_layer<> layer(in, out, {.function = nonlinearity::relu});
    randomize(layer, g);
    activation x = random_input(g, n, 1, 1, in), y;
    layer.forward(x, y, phase::calibrate, false, context{});
    quantize_input(x, params_from_range<affine<8>>({-1.0f, 1.0f}));
    layer.forward(x, y, phase::quantized, true, context{});
    const layer_spec spec = layer.spec(x.params);
    std::vector<float> r(static_cast<std::size_t>(n * out));
    for (float& v : r) v = static_cast<float>(g() % 2001) / 1000.0f - 1.0f;
    std::vector<float> dy = r, dx(static_cast<std::size_t>(n * in));
    layer.backward(dy, dx, context{});
    for (index_t i = 0; i < n; ++i)
        for (index_t k = 0; k < in; ++k) {
            double want = 0;
            for (index_t o = 0; o < out; ++o) {
                std::int64_t acc = spec.bias[o];
                for (index_t j = 0; j < in; ++j)
                    acc += std::int64_t{x.codes[i * in + j] - x.params.zero_point} * spec.weights[o * in + j];
                // The mask: positive before the ReLU, and not clipped at the top code.
                const float m =
                    static_cast<float>(static_cast<double>(x.params.scale) * static_cast<double>(spec.w_scales[o]) /
                                       static_cast<double>(y.params.scale));
                const bool passes =
                    acc > 0 &&
                    std::nearbyint(static_cast<float>(acc) * m) + static_cast<float>(y.params.zero_point) <= 255.0f;
                if (passes)
                    want += static_cast<double>(r[static_cast<std::size_t>(i * out + o)]) * spec.weights[o * in + k] *
                            static_cast<double>(spec.w_scales[o]);
            }
            CHECK(static_cast<double>(dx[static_cast<std::size_t>(i * in + k)]) == Approx(want).margin(1e-5));
        }
}

namespace {
/// Without clipping in the output, the straight-through gradients are those of the float layer whose
/// weights are the quantized ones; batch norm passes them on through the folding.
template <class Make> void check_straight_through(const Make& make, index_t channels, std::mt19937& g) {
    const context ctx;
    for (bool norm : {false, true}) {
        auto layer = make(layer_options{.batch_norm = norm});
        auto plain = make(layer_options{});
        randomize(layer, g);
        activation wide = random_input(g, 2, 6, 5, channels), x = random_input(g, 2, 6, 5, channels), y, real_y;
        for (float& v : wide.values) v *= 4.0f; // a range of outputs that nothing leaves
        layer.forward(wide, y, phase::calibrate, false, ctx);
        quantize_input(x, params_from_range<affine<8>>({-1.0f, 1.0f}), ctx);
        layer.forward(x, y, phase::quantized, true, ctx);
        activation real_x = x;
        real_x.quantized = false;
        dequantize<std::uint8_t>(x.codes, x.params, real_x.values, ctx);
        std::copy(layer.weight_quantizer.values().begin(), layer.weight_quantizer.values().end(), plain.weight.begin());
        plain.forward(real_x, real_y, phase::fp32, true, ctx);
        std::vector<float> dy(static_cast<std::size_t>(y.size()));
        for (float& v : dy) v = static_cast<float>(g() % 2001) / 1000.0f - 1.0f;
        std::vector<float> same = dy, dx(static_cast<std::size_t>(x.size())), want(dx.size());
        layer.backward(dy, dx, ctx);
        plain.backward(same, want, ctx);
        for (std::size_t i = 0; i < dx.size(); ++i) CHECK(dx[i] == Approx(want[i]).margin(1e-4));
        const channel_layout layout = layer.weight_layout();
        std::vector<double> dgamma(static_cast<std::size_t>(layout.channels));
        for (index_t i = 0; i < layout.size(); ++i) {
            const index_t c = i / layout.inner % layout.channels;
            const double sigma = norm ? std::sqrt(static_cast<double>(layer.norm->running_var[c]) + 1e-5) : 1.0;
            const double factor = norm ? static_cast<double>(layer.norm->gamma[c]) / sigma : 1.0;
            CHECK(static_cast<double>(layer.weight_gradient[i]) ==
                  Approx(static_cast<double>(plain.weight_gradient[i]) * factor).margin(1e-3));
            dgamma[static_cast<std::size_t>(c)] +=
                static_cast<double>(plain.weight_gradient[i]) * static_cast<double>(layer.weight[i]) / sigma;
        }
        for (index_t c = 0; c < layout.channels; ++c) {
            if (!norm) {
                CHECK(layer.bias_gradient[c] == Approx(plain.bias_gradient[c]).margin(1e-3));
                continue;
            }
            const double sigma = std::sqrt(static_cast<double>(layer.norm->running_var[c]) + 1e-5);
            const double shift =
                static_cast<double>(plain.bias_gradient[c]) * static_cast<double>(layer.norm->running_mean[c]) / sigma;
            CHECK(static_cast<double>(layer.norm->gamma_gradient[c]) ==
                  Approx(dgamma[static_cast<std::size_t>(c)] - shift).margin(1e-3));
            CHECK(layer.norm->beta_gradient[c] == Approx(plain.bias_gradient[c]).margin(1e-3));
        }
    }
}
} // namespace

TEST_CASE("the quantized backward of convolutions, with and without batch norm, is straight-through") {
    std::mt19937 g(11);
    check_straight_through([](const layer_options& o) { return conv2d_layer<>(3, 5, window::square(3, 2, 1), o); }, 3,
                           g);
    check_straight_through([](const layer_options& o) { return conv2d_layer<>(2, 4, window::square(1), o); }, 2, g);
    check_straight_through([](const layer_options& o) { return depthwise_layer<>(4, window::square(3, 1, 1), o); }, 4,
                           g);
    check_straight_through(
        [](const layer_options& o) {
            return conv2d_layer<fake_quant<symmetric<4>, per_tensor>>(3, 5, window::square(3), o);
        },
        3, g);
}

TEST_CASE("backward is refused unless the last forward was for training") {
    std::mt19937 g(12);
    linear_layer<> layer(4, 2);
    randomize(layer, g);
    activation x = random_input(g, 3, 1, 1, 4), y;
    std::vector<float> dy(6);
    layer.forward(x, y, phase::fp32, true, context{});
    layer.backward(dy, {}, context{});
    layer.forward(x, y, phase::fp32, false, context{});
    CHECK_THROWS_AS(layer.backward(dy, {}, context{}), error);
    layer.forward(x, y, phase::dynamic, true, context{});
    CHECK_THROWS_AS(layer.backward(dy, {}, context{}), error);
}

TEST_CASE("a dynamic layer keeps its bias for inputs however small") {
    std::mt19937 g(13);
    linear_layer<> layer(4, 3);
    randomize(layer, g);
    for (index_t c = 0; c < 3; ++c) layer.bias[c] = static_cast<float>(c) - 1.5f;
    const auto frozen = freeze_dynamic(layer);
    buffer<std::byte> memory(frozen.workspace_size(1, 1, 1));
    for (float tiny : {1e-6f, 1e-12f, 1e-30f, 1e-40f, 0.0f}) {
        activation x = random_input(g, 1, 1, 1, 4), y;
        for (float& v : x.values) v *= tiny;
        layer.forward(x, y, phase::dynamic, false, context{});
        buffer<float> out(3);
        auto copy = frozen;
        copy.forward({x.values.data(), 1, 1, 1, 4}, {out.data(), 1, 1, 1, 3}, context{std::span<std::byte>(memory)});
        for (index_t c = 0; c < 3; ++c) {
            INFO("input around " << tiny);
            CHECK(out[c] == y.values[c]);
            CHECK(out[c] == Approx(layer.bias[c]).margin(1e-5));
        }
    }
}

TEST_CASE("poolings and add in integers follow their float forms within a step") {
    std::mt19937 g(5);
    const context ctx;
    activation a = random_input(g, 2, 4, 4, 5), b = random_input(g, 2, 4, 4, 5), sum, mean;
    add_layer add;
    global_average_layer average;
    add.forward(a, b, sum, phase::calibrate, false, ctx);
    average.forward(sum, mean, phase::calibrate, false, ctx);
    const buffer<float> real_sum = sum.values, real_mean = mean.values;
    quantize_input(a, params_from_range<affine<8>>({-1.0f, 1.0f}), ctx);
    quantize_input(b, params_from_range<affine<8>>({-1.0f, 1.1f}), ctx);
    add.forward(a, b, sum, phase::quantized, false, ctx);
    average.forward(sum, mean, phase::quantized, false, ctx);
    for (index_t i = 0; i < sum.size(); ++i)
        CHECK(std::fabs(static_cast<float>(sum.codes[i] - sum.params.zero_point) * sum.params.scale - real_sum[i]) <=
              1.1f * sum.params.scale);
    for (index_t i = 0; i < mean.size(); ++i)
        CHECK(std::fabs(static_cast<float>(mean.codes[i] - mean.params.zero_point) * mean.params.scale -
                        real_mean[i]) <= mean.params.scale + sum.params.scale);
}

TEST_CASE("frozen layers refuse activations of another kind or of other parameters") {
    std::mt19937 g(5);
    conv2d_layer<> layer(3, 4, window::square(1));
    randomize(layer, g);
    activation x = random_input(g, 1, 2, 2, 3), y;
    layer.forward(x, y, phase::calibrate, false, context());
    dynamic_conv2d dynamic = freeze_dynamic(layer);
    const quant_params p = params_from_range<affine<8>>({-1.0f, 1.0f});
    const frozen_conv2d frozen = freeze(layer, p);
    buffer<std::byte> memory(dynamic.workspace_size(1, 2, 2) + frozen.workspace_size(1, 2, 2));
    const context ctx{std::span<std::byte>(memory)};
    CHECK_THROWS_AS(frozen.forward(x, y, ctx), error); // real values
    quantize_input(x, p);
    CHECK_NOTHROW(frozen.forward(x, y, ctx));
    CHECK_THROWS_AS(dynamic.forward(x, y, ctx), error); // codes
    CHECK_THROWS_AS(frozen.forward(x, x, ctx), error);  // in place
    ++x.params.zero_point;
    CHECK_THROWS_AS(frozen.forward(x, y, ctx), error);
    x.params = p;
    ++x.h; // more than there is memory for
    CHECK_THROWS_AS(frozen.forward(x, y, ctx), error);
}

TEST_CASE("training layers refuse inputs of the wrong kind") {
    linear_layer<> layer(4, 2);
    std::mt19937 g(6);
    activation x = random_input(g, 1, 1, 1, 4), wrong = random_input(g, 1, 1, 1, 5), y;
    CHECK_THROWS_AS(layer.forward(wrong, y, phase::fp32, false, context{}), error);
    CHECK_THROWS_AS(layer.forward(x, y, phase::quantized, false, context{}), error);
    std::vector<float> dy(2);
    CHECK_THROWS_AS(layer.backward(dy, {}, context{}), error);
}

// What the layers do beyond their arithmetic, on values that can be checked by eye.
TEST_CASE("phase::calibrate observes the outputs, other float phases do not") {
    conv2d_layer<> layer(1, 1, window{});
    layer.weight[0] = 2.0f;
    layer.bias[0] = 0.5f;
    activation x, y;
    x.reshape(1, 1, 2, 1);
    x.values = buffer<float>(2);
    x.values[0] = -1.0f;
    x.values[1] = 3.0f;
    layer.forward(x, y, phase::fp32, true, context{});
    CHECK(layer.output_observer.range().empty());
    layer.forward(x, y, phase::calibrate, false, context{});
    CHECK(layer.output_observer.range() == real_range{-1.5f, 6.5f});
}

TEST_CASE("backward adds to the gradients in every phase") {
    std::mt19937 g(9);
    for (phase p : {phase::fp32, phase::quantized})
        for (bool batch_norm : {false, true}) {
            conv2d_layer<> layer(2, 3, window::square(2), {.batch_norm = batch_norm});
            randomize(layer, g);
            activation x = random_input(g, 2, 4, 4, 2), y;
            layer.forward(x, y, phase::calibrate, false, context{});
            if (p == phase::quantized) quantize_input(x, params_from_range<affine<8>>({-1.0f, 1.0f}), context{});
            layer.forward(x, y, p, true, context{});
            std::vector<std::vector<float>> once;
            for (int time = 1; time <= 2; ++time) {
                std::vector<float> dy(static_cast<std::size_t>(y.size()), 0.25f);
                layer.backward(dy, {}, context{});
                std::size_t at = 0;
                layer.parameters([&](const auto& group) {
                    const std::vector<float> now(group.gradient.begin(), group.gradient.end());
                    if (time == 1) {
                        once.push_back(now);
                        return;
                    }
                    INFO(group.name << " phase " << static_cast<int>(p));
                    bool any = false;
                    for (std::size_t i = 0; i < now.size(); ++i) {
                        CHECK(now[i] == Approx(2.0f * once[at][i]).margin(1e-4));
                        any = any || std::fabs(now[i]) > 1e-3f;
                    }
                    // The sum of a normalized channel does not depend on its weights or gamma.
                    CHECK((any || batch_norm));
                    ++at;
                });
            }
        }
}

TEST_CASE("max-pool: the gradient goes to the first of equal maxima") {
    max_pool_layer pool(window::square(2, 2));
    activation x, y;
    x.reshape(1, 2, 4, 1);
    x.values = buffer<float>(8);
    const float values[] = {1, 1, 0, 5, 1, 1, 5, 5};
    std::copy(std::begin(values), std::end(values), x.values.begin());
    std::vector<float> dx(8);
    const std::vector<float> dy{2.0f, 3.0f};
    CHECK_THROWS_WITH(pool.backward(dy, dx), contains_text("forward"));
    pool.forward(x, y, phase::fp32, true, context{});
    pool.backward(dy, dx);
    CHECK(dx == std::vector<float>{2, 0, 0, 3, 0, 0, 0, 0});
    quantize_input(x, {1.0f, 0}, context{});
    pool.forward(x, y, phase::quantized, true, context{});
    pool.backward(dy, dx);
    CHECK(dx == std::vector<float>{2, 0, 0, 3, 0, 0, 0, 0});
}

TEST_CASE("add: no gradient where the sum was clipped") {
    add_layer add;
    add.fixed_params = quant_params{0.5f, 100}; // -50 .. 77.5
    activation a, b, y;
    for (activation* x : {&a, &b}) {
        x->reshape(1, 1, 1, 4);
        x->values = buffer<float>(4);
    }
    const float va[] = {-60, 10, 70, -25}, vb[] = {0, 20, 20, -25};
    std::copy(std::begin(va), std::end(va), a.values.begin());
    std::copy(std::begin(vb), std::end(vb), b.values.begin());
    for (activation* x : {&a, &b}) quantize_input(*x, {1.0f, 128}, context{});
    std::vector<float> dy(4, 1.0f);
    CHECK_THROWS_WITH(add.backward(dy), contains_text("forward"));
    add.forward(a, b, y, phase::quantized, true, context{});
    CHECK(std::vector<int>(y.codes.begin(), y.codes.end()) == std::vector<int>{0, 160, 255, 0});
    add.backward(dy);
    CHECK(dy == std::vector<float>{0, 1, 0, 1});
}

TEST_CASE("frozen and dynamic layers go from activation to activation") {
    std::mt19937 g(8);
    const context ctx;
    activation x = random_input(g, 2, 5, 4, 3), y, out, z;
    conv2d_layer<> layer(3, 6, window::square(3, 2, 1), {.function = nonlinearity::relu});
    layer.initialize([&] { return static_cast<double>(g()) / 4294967296.0; });
    layer.forward(x, y, phase::calibrate, false, ctx);
    auto dynamic = freeze_dynamic(layer);
    buffer<std::byte> memory(dynamic.workspace_size(2, 5, 4));
    const context with_memory{std::span<std::byte>(memory)};
    layer.forward(x, y, phase::dynamic, false, ctx);
    dynamic.forward(x, out, with_memory);
    CHECK((out.n == 2 && out.h == 3 && out.w == 2 && out.c == 6 && !out.quantized));
    CHECK(std::equal(y.values.begin(), y.values.end(), out.values.begin(), out.values.end()));

    const activation real = x;
    quantize_input(x, {0.02f, 100});
    CHECK_THROWS_AS(dynamic.forward(x, out, with_memory), notch::error);
    for (const bool floats : {false, true}) {
        linear_layer<> last(3, 2, {.float_output = floats});
        last.initialize([&] { return static_cast<double>(g()) / 4294967296.0; });
        activation row = real;
        row.reshape(40, 1, 1, 3);
        last.forward(row, y, phase::calibrate, false, ctx);
        quantize_input(row, {0.02f, 100});
        last.forward(row, y, phase::quantized, false, ctx);
        const frozen_linear frozen = freeze(last, row.params);
        frozen.forward(row, z, ctx);
        CHECK(z.quantized == !floats);
        CHECK((z.n == 40 && z.h == 1 && z.w == 1 && z.c == 2));
        if (!floats) CHECK(z.params == y.params);
        CHECK(std::equal(y.codes.begin(), y.codes.end(), z.codes.begin(), z.codes.end()));
        if (floats) CHECK(std::equal(y.values.begin(), y.values.end(), z.values.begin(), z.values.end()));
        activation other = row;
        other.params.zero_point = 99; // another grid than the layer was frozen for
        CHECK_THROWS_AS(frozen.forward(other, z, ctx), notch::error);
        other = row;
        other.quantized = false;
        CHECK_THROWS_AS(frozen.forward(other, z, ctx), notch::error);
        CHECK_THROWS_AS(frozen.forward(row, row, ctx), notch::error);
    }
}
