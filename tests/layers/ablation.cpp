// SPDX-License-Identifier: Apache-2.0
//
// The ablation's layers, whose quantizers are chosen at run time, compute what notch's own compute.
#include "../catch.hpp"

#include <cmath>
#include <random>
#include <vector>

#include "../../examples/ablation/layers.hpp"

using namespace ablation;
using notch::window;

namespace {

activation image_codes(unsigned seed) {
    std::mt19937 random(seed);
    activation x;
    x.reshape(2, 5, 5, 3);
    x.values.resize_discard(x.size());
    for (float& v : x.values) v = static_cast<float>(random() % 256) / 255.0f;
    notch::quantize_input(x, {1.0f / 255.0f, 0});
    return x;
}

template <class Layer> void fill(Layer& layer, unsigned seed) {
    std::mt19937 random(seed);
    layer.initialize([&] { return static_cast<double>(random()) / 4294967296.0; });
    for (float& b : layer.bias) b = static_cast<float>(random() % 100) / 400.0f - 0.1f;
}

using own_layer = notch::conv2d_layer<notch::fake_quant<notch::symmetric<4>, notch::per_channel<0>>>;
using any_layer = quantized_layer<notch::conv2d_layer<any_weights>>;

} // namespace

TEST_CASE("a layer with any quantizers has the codes and the gradients of one with types") {
    own_layer own(3, 4, window::square(3, 1, 1), {.function = notch::nonlinearity::relu, .float_output = true});
    any_layer any(3, 4, window::square(3, 1, 1), {.function = notch::nonlinearity::relu});
    fill(own, 1);
    any.copy_from(own);
    any.weight_quantizer.use(make_weights(weight_rule::min_max, 4, any.weight_layout(), any.weight));
    notch::histogram seen;
    const float range[] = {0.0f, 0.5f}; // clips
    seen.observe(range);
    any.quantizer = make_activation(activation_rule::lsq, 3, seen);

    const activation x = image_codes(2);
    activation y, real;
    own.forward(x, real, phase::quantized, true, {});
    any.forward(x, y, phase::quantized, true, {});
    REQUIRE(y.quantized);
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(y.size()));
    notch::quantize<notch::affine<3>>(real.values, y.params, codes);
    CHECK(std::equal(codes.begin(), codes.end(), y.codes.begin(), y.codes.end()));
    CHECK(*std::max_element(codes.begin(), codes.end()) == 7);

    // dy passes where the quantizer does not clip, then through notch's layer.
    std::vector<float> dy(codes.size()), dx(static_cast<std::size_t>(x.size())), own_dx(dx.size());
    for (std::size_t i = 0; i < dy.size(); ++i) dy[i] = static_cast<float>(i % 7) - 3.0f;
    std::vector<float> passed = dy;
    for (std::size_t i = 0; i < dy.size(); ++i) {
        const float v = real.values[static_cast<index_t>(i)] / y.params.scale;
        if (!(v > 0.0f && v < 7.0f)) passed[i] = 0.0f;
    }
    any.backward(dy, dx, {});
    own.backward(passed, own_dx, {});
    CHECK(dx == own_dx);
    CHECK(std::equal(any.weight_gradient.begin(), any.weight_gradient.end(), own.weight_gradient.begin()));

    int learned = 0;
    any.parameters([&](const auto& p) { learned += std::string(p.name) == "log_step"; });
    CHECK(learned == 1); // of the activations; the offset is not trained, min-max weights learn nothing
}

TEST_CASE("learned activations give in inference the codes of training, for any number of values") {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    notch::histogram both, positive;
    std::vector<float> x(600);
    for (float& v : x) v = normal(random);
    both.observe(x);
    std::vector<float> magnitudes = x;
    for (float& v : magnitudes) v = std::fabs(v);
    positive.observe(magnitudes);
    for (const activation_rule rule : {activation_rule::straight, activation_rule::lsq, activation_rule::lsq_plus,
                                       activation_rule::pact, activation_rule::threshold, activation_rule::range})
        for (const bool is_positive : {true, false})
            for (const int bits : {8, 2}) {
                INFO(static_cast<int>(rule) << " " << is_positive << " " << bits);
                const auto q = make_activation(rule, bits, is_positive ? positive : both);
                const std::vector<float>& values = is_positive ? magnitudes : x;
                activation trained, shipped, part;
                trained.reshape(1, 1, 1, 600);
                shipped.reshape(1, 1, 1, 600);
                part.reshape(1, 1, 1, 100);
                q->forward(values, trained, true, {});
                std::vector<float> dy(600, 1.0f);
                q->backward(values, dy);
                q->parameters([](const trained_group& g) {
                    for (std::size_t i = 0; i < g.value.size(); ++i) g.value[i] += 0.1f;
                });
                q->forward(values, trained, true, {}); // with what an optimizer has changed
                q->forward(values, shipped, false, {});
                q->forward({values.data(), 100}, part, false, {});
                CHECK(trained.params == shipped.params);
                CHECK(std::equal(trained.codes.begin(), trained.codes.end(), shipped.codes.begin()));
                CHECK(std::equal(part.codes.begin(), part.codes.end(), shipped.codes.begin()));
                // Codes are unsigned, and their values near the real ones.
                double error = 0, power = 0;
                for (index_t i = 0; i < 600; ++i) {
                    CHECK(trained.codes[i] < (1 << bits));
                    const double d = static_cast<double>(trained.codes[i] - trained.params.zero_point) *
                                         static_cast<double>(trained.params.scale) -
                                     static_cast<double>(values[static_cast<std::size_t>(i)]);
                    error += d * d;
                    power += static_cast<double>(values[static_cast<std::size_t>(i)]) *
                             static_cast<double>(values[static_cast<std::size_t>(i)]);
                }
                CHECK(error < (bits == 8 ? 0.01 : 0.8) * power);
            }
}

TEST_CASE("folding a batch norm for good leaves what a layer computes") {
    quantized_layer<notch::conv2d_layer<any_weights>> layer(
        3, 4, window::square(3, 1, 1), {.function = notch::nonlinearity::relu6, .batch_norm = true});
    fill(layer, 4);
    for (index_t c = 0; c < 4; ++c) {
        layer.norm->gamma[c] = 0.5f + static_cast<float>(c);
        layer.norm->beta[c] = 0.25f * static_cast<float>(c);
        layer.norm->running_mean[c] = 0.1f;
        layer.norm->running_var[c] = 2.0f;
    }
    activation x = image_codes(5), before, after;
    x.quantized = false;
    layer.forward(x, before, phase::fp32, false, {});
    layer.fold_batch_norm();
    layer.forward(x, after, phase::fp32, false, {});
    CHECK(std::equal(before.values.begin(), before.values.end(), after.values.begin()));
    layer.forward(x, after, phase::fp32, true, {}); // and it can be trained
}
