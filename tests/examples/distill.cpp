// SPDX-License-Identifier: Apache-2.0
//
// What trains the image networks of the examples: the backward pass through a network with a residual, the optimizer in
// the units of the codes, and self-distillation.
#include "../catch.hpp"

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "../../examples/models/distill.hpp"

using namespace models;

namespace {

using four_bits = learned_layers<notch::symmetric<4>, notch::symmetric<8>>;

/// Two images of 4 x 4 pixels: what the first layer gives is read by the second and by the sum.
template <class Layers> struct small_network : forward_passes<small_network<Layers>, Layers> {
    typename Layers::stem stem{2, 4, notch::window::square(3, 1, 1), {.function = notch::nonlinearity::relu6}};
    typename Layers::depthwise depthwise{4, notch::window::square(3, 1, 1), {.function = notch::nonlinearity::relu6}};
    typename Layers::pointwise project{4, 4, notch::window::square(1)};
    notch::add_layer residual;
    notch::max_pool_layer pool{notch::window::square(2, 2)};
    notch::global_average_layer average;
    typename Layers::linear classifier{4, 3, {.float_output = true}};
    activation a, b, c, sum, pooled, mean, logits;

    template <class Run> const activation& each(const activation& x, Run&& run) {
        run("stem", stem, x, a);
        run("depthwise", depthwise, a, b);
        run("project", project, b, c);
        run("residual", residual, a, c, sum);
        run("pool", pool, sum, pooled);
        run("average", average, pooled, mean);
        run("classifier", classifier, mean, logits);
        return logits;
    }
    template <class F> void weighted(F&& f) {
        f(stem);
        f(depthwise);
        f(project);
        f(classifier);
    }
};

constexpr notch::quant_params pixel{1.0f / 128.0f, 128};

activation image(std::mt19937& random) {
    activation x;
    x.reshape(2, 4, 4, 2);
    x.values.resize_discard(x.size());
    for (float& v : x.values) v = (static_cast<float>(random() % 256) - 128.0f) * pixel.scale;
    return x;
}
template <class Network> void initialize(Network& net, std::mt19937& random) {
    net.weighted([&](auto& layer) {
        layer.initialize([&] { return static_cast<double>(random()) / 4294967296.0; });
        for (float& v : layer.bias) v = 0.25f + static_cast<float>(random() % 64) / 128.0f;
    });
}
/// Ranges of outputs, from some images.
template <class Network> void calibrate(Network& net, std::mt19937& random) {
    for (int i = 0; i < 8; ++i) net.forward(image(random), phase::calibrate, false, context());
    net.each(activation{}, [](const auto&, auto& layer, auto&...) {
        if constexpr (requires { layer.fixed_params; })
            if (layer.output_observer.batches() > 0) layer.fixed_params = layer.output_params();
    });
}

} // namespace

TEST_CASE("backward_pass adds the gradients of a residual", "[distill]") {
    std::mt19937 random(1);
    small_network<four_bits> net;
    initialize(net, random);
    const activation x = image(random);
    // The loss weighs the logits, and what the depthwise layer gives.
    std::vector<float> dz, db;
    for (int i = 0; i < 6; ++i) dz.push_back(static_cast<float>(i % 4) - 1.0f);
    for (int i = 0; i < 128; ++i) db.push_back(static_cast<float>(i % 7) * 0.01f);
    const auto loss = [&] {
        net.forward(x, phase::fp32, true, context());
        double sum = 0;
        for (std::size_t i = 0; i < dz.size(); ++i)
            sum += static_cast<double>(dz[i]) * static_cast<double>(net.logits.values[static_cast<index_t>(i)]);
        for (std::size_t i = 0; i < db.size(); ++i)
            sum += static_cast<double>(db[i]) * static_cast<double>(net.b.values[static_cast<index_t>(i)]);
        return sum;
    };
    loss();
    backward_pass backward;
    for (int twice = 0; twice < 2; ++twice) { // the second time it has nothing left of the first
        net.weighted([](auto& layer) {
            layer.parameters([](const auto& p) { std::fill(p.gradient.begin(), p.gradient.end(), 0.0f); });
        });
        backward.add(net.logits, dz);
        backward.add(net.b, db);
        backward.run(net, x, context());
    }
    net.weighted([&](auto& layer) {
        for (auto [values, gradients] : {std::pair(layer.weight.span(), layer.weight_gradient.span()),
                                         std::pair(layer.bias.span(), layer.bias_gradient.span())})
            for (std::size_t i = 0; i < values.size(); ++i) {
                const float kept = values[i], h = 1.0f / 1024;
                values[i] = kept + h;
                const double above = loss();
                values[i] = kept - h;
                const double below = loss();
                values[i] = kept;
                CHECK(static_cast<double>(gradients[i]) ==
                      Approx((above - below) / (2.0 * static_cast<double>(h))).margin(0.01));
            }
    });
}

TEST_CASE("code_adam moves weights, biases and steps in units of codes", "[distill]") {
    std::mt19937 random(2);
    small_network<four_bits> net;
    initialize(net, random);
    calibrate(net, random);
    activation x = image(random);
    notch::quantize_input(x, pixel);
    net.forward(x, phase::quantized, true, context());
    std::vector<float> weights(net.project.weight.begin(), net.project.weight.end()),
        biases(net.project.bias.begin(), net.project.bias.end());
    const float log_step = net.project.weight_quantizer.log_step()[1];
    for (index_t i = 0; i < net.project.weight.size(); ++i)
        net.project.weight_gradient[i] = i % 2 == 0 ? 3.0f : -0.5f; // its size does not matter at first
    net.project.bias_gradient[2] = 7.0f;
    net.project.weight_quantizer.log_step_gradient()[1] = -1.0f;
    code_adam optimizer;
    optimizer.step(net, x, 0.25f);
    for (index_t i = 0; i < net.project.weight.size(); ++i) {
        const float step = net.project.weight_quantizer.params()[static_cast<std::size_t>(i / 4)].scale;
        CHECK(net.project.weight[i] - weights[static_cast<std::size_t>(i)] ==
              Approx((i % 2 == 0 ? -0.25f : 0.25f) * step).epsilon(1e-4));
        CHECK(net.project.weight_gradient[i] == 0.0f);
    }
    for (index_t c = 0; c < 4; ++c)
        CHECK(net.project.bias[c] - biases[static_cast<std::size_t>(c)] ==
              Approx(c == 2 ? -0.25f * net.project.output_params().scale : 0.0f).margin(1e-6));
    CHECK(net.project.weight_quantizer.log_step()[1] - log_step == Approx(0.25f * 0.05f).epsilon(1e-3));
}

TEST_CASE("self-distillation brings four bits nearer to the floats, and what is trained is what ships", "[distill]") {
    const auto trained = [](index_t steps) {
        std::mt19937 random(3);
        small_network<four_bits> teacher, net;
        initialize(teacher, random);
        calibrate(teacher, random);
        net.stem.copy_from(teacher.stem);
        net.depthwise.copy_from(teacher.depthwise);
        net.project.copy_from(teacher.project);
        net.classifier.copy_from(teacher.classifier);
        for (float& b : net.project.bias) b += 0.5f; // something to learn beside the rounding
        net.residual = teacher.residual;
        net.average = teacher.average;
        const auto next = [&](activation& real, activation& codes) {
            real = codes = image(random);
            notch::quantize_input(codes, pixel);
        };
        distill(teacher, net, {.steps = steps, .rate = 0.05f}, next,
                [](const std::string& name) { return name == "residual"; });
        std::mt19937 other(4);
        double error = 0;
        for (int i = 0; i < 16; ++i) {
            activation real = image(other), codes = real;
            notch::quantize_input(codes, pixel);
            teacher.forward(real, phase::fp32, false, context());
            net.forward(codes, phase::quantized, false, context());
            buffer<float> scratch;
            const auto y = notch::real_values(net.sum, scratch, context());
            for (std::size_t k = 0; k < y.size(); ++k) {
                const double d =
                    static_cast<double>(y[k]) - static_cast<double>(teacher.sum.values[static_cast<index_t>(k)]);
                error += d * d;
            }
        }
        freezer f(pixel);
        auto stem = f.weights(net.stem);
        activation y, x = image(other);
        notch::quantize_input(x, pixel);
        net.forward(x, phase::quantized, true, context());
        frozen_runner().run(stem, context(), x, y);
        CHECK(different(net.a, y) == 0);
        return error;
    };
    const double before = trained(1), after = trained(150);
    CHECK(after < 0.2 * before);
    CHECK(trained(150) == after);
}
