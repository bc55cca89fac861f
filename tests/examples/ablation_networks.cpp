// SPDX-License-Identifier: Apache-2.0
//
// The ablation's networks for CIFAR-10: what their backward says against differences of their forward.
#include "../catch.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "../../examples/ablation/dsnet.hpp"
#include "../../examples/ablation/layers.hpp"
#include "../../examples/ablation/resnet8.hpp"

using namespace ablation;

namespace {

/// For each layer the derivative of a weighted sum of the logits along one direction of its weights, batch norm
/// included, and the same by central differences.
template <class Net> void check_gradients(index_t images, index_t side, double h) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    Net net;
    net.layers([&](const char*, auto& layer) {
        layer.initialize([&] { return static_cast<double>(random()) / 4294967296.0; });
        for (float& b : layer.bias) b = 0.1f * normal(random);
    });
    activation x;
    x.reshape(images, side, side, 3);
    x.quantized = false;
    x.values.resize_discard(x.size());
    for (float& v : x.values) v = static_cast<float>(random() % 256) / 255.0f;
    std::vector<float> weight_of(static_cast<std::size_t>(images * 10));
    for (float& v : weight_of) v = normal(random);
    const auto loss = [&] {
        const activation& z = net.forward(x, phase::fp32, true, {});
        REQUIRE(z.size() == images * 10);
        double sum = 0;
        for (index_t i = 0; i < z.size(); ++i)
            sum += static_cast<double>(z.values[i]) * static_cast<double>(weight_of[static_cast<std::size_t>(i)]);
        return sum;
    };
    loss();
    notch::buffer<float> gradient(images * 10);
    std::copy(weight_of.begin(), weight_of.end(), gradient.begin());
    net.backward(gradient, {});

    int layers = 0;
    net.layers([&](const std::string& name, auto& layer) {
        INFO(name);
        ++layers;
        // Mostly along the gradient, so that the difference stands out of the rounding.
        std::vector<float> direction(static_cast<std::size_t>(layer.weight.size()));
        double along = 0, power = 0, size = 0;
        for (float g : layer.weight_gradient) power += static_cast<double>(g) * static_cast<double>(g);
        for (float w : layer.weight) size += static_cast<double>(w) * static_cast<double>(w);
        REQUIRE(power > 0);
        const auto count = static_cast<double>(direction.size());
        for (std::size_t i = 0; i < direction.size(); ++i) {
            const double g = static_cast<double>(layer.weight_gradient[static_cast<index_t>(i)]) / std::sqrt(power);
            direction[i] =
                static_cast<float>(std::sqrt(size) * (g + static_cast<double>(normal(random)) / std::sqrt(count)));
            along += static_cast<double>(direction[i]) * g * std::sqrt(power);
        }
        const std::vector<float> kept(layer.weight.begin(), layer.weight.end());
        double ends[2];
        for (int sign : {0, 1}) {
            for (std::size_t i = 0; i < kept.size(); ++i)
                layer.weight[static_cast<index_t>(i)] = kept[i] + static_cast<float>(sign ? h : -h) * direction[i];
            ends[sign] = loss();
        }
        std::copy(kept.begin(), kept.end(), layer.weight.begin());
        CHECK((ends[1] - ends[0]) / (2 * h) == Approx(along).epsilon(0.05));
    });
    CHECK(layers == (std::string(Net::name) == "dsnet" ? 18 : 10));
}

} // namespace

TEST_CASE("the gradients of ResNet-8 are those of differences") { check_gradients<resnet8<any_scheme>>(4, 8, 1e-3); }

TEST_CASE("the gradients of the depthwise network are those of differences") {
    check_gradients<dsnet<any_scheme>>(8, 32, 2e-5);
}
