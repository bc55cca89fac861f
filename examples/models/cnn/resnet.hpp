// SPDX-License-Identifier: Apache-2.0
//
// ResNets (He et al. 2016, arXiv:1512.03385) for 224 x 224 images, composed from notch's layers; batch norms are folded
// into the convolutions. With three convolutions a block (ResNet-50) the stride is in the 3 x 3 one, as in PyTorch.
// One template is both networks: of training layers, and of the frozen ones that ship.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../layers.hpp"

namespace resnet {

using models::frozen_layers;
using notch::activation;
using notch::index_t;
using notch::nonlinearity;
using notch::window;

template <class Layers> struct block {
    std::vector<typename Layers::pointwise> convolutions;
    std::optional<typename Layers::pointwise> shortcut;
    notch::add_layer residual{nonlinearity::relu};
    std::vector<activation> outputs;
    activation side, sum;

    /// run(name, layer, inputs..., output) for each layer.
    template <class Run> const activation& each(const std::string& name, const activation& x, Run&& run) {
        outputs.resize(convolutions.size());
        const activation* from = &x;
        for (std::size_t i = 0; i < convolutions.size(); ++i) {
            run(name + ".convolution" + std::to_string(i), convolutions[i], *from, outputs[i]);
            from = &outputs[i];
        }
        if (shortcut) run(name + ".shortcut", *shortcut, x, side);
        run(name + ".residual", residual, *from, shortcut ? side : x, sum);
        return sum;
    }
};

template <class Layers> struct network : models::forward_passes<network<Layers>, Layers> {
    typename Layers::stem stem;
    notch::max_pool_layer pool;
    std::vector<block<Layers>> blocks;
    notch::global_average_layer average;
    typename Layers::linear classifier;
    activation stem_out, pool_out, mean, logits;

    template <class Run> const activation& each(const activation& image, Run&& run) {
        run("stem", stem, image, stem_out);
        run("pool", pool, stem_out, pool_out);
        const activation* x = &pool_out;
        for (std::size_t i = 0; i < blocks.size(); ++i) x = &blocks[i].each("block" + std::to_string(i), *x, run);
        run("average", average, *x, mean);
        run("classifier", classifier, mean, logits);
        return logits;
    }
};

/// An untrained network: repeats[i] blocks of stage i; bottleneck: of three convolutions, else of two.
template <class Layers> network<Layers> make_network(const std::vector<index_t>& repeats, bool bottleneck) {
    using conv = typename Layers::pointwise;
    const notch::layer_options relu{.function = nonlinearity::relu};
    const auto square = [](index_t kernel, index_t stride) { return window::square(kernel, stride, kernel / 2); };
    std::vector<block<Layers>> blocks;
    index_t in = 64, width = 64;
    for (std::size_t stage = 0; stage < repeats.size(); ++stage, width *= 2)
        for (index_t i = 0; i < repeats[stage]; ++i) {
            const index_t stride = stage > 0 && i == 0 ? 2 : 1, out = bottleneck ? 4 * width : width;
            block<Layers> b;
            if (bottleneck) {
                b.convolutions.push_back(conv(in, width, square(1, 1), relu));
                b.convolutions.push_back(conv(width, width, square(3, stride), relu));
            } else {
                b.convolutions.push_back(conv(in, width, square(3, stride), relu));
            }
            b.convolutions.push_back(conv(width, out, square(bottleneck ? 1 : 3, 1)));
            if (stride != 1 || in != out) b.shortcut.emplace(in, out, square(1, stride));
            blocks.push_back(std::move(b));
            in = out;
        }
    return {{},
            {3, 64, square(7, 2), relu},
            notch::max_pool_layer(square(3, 2)),
            std::move(blocks),
            notch::global_average_layer{},
            {in, models::image_classes, {.float_output = true}},
            {},
            {},
            {},
            {}};
}

/// What ships of a calibrated or trained network, for inputs with parameters x.
template <class Layers> network<frozen_layers> freeze(network<Layers>& net, notch::quant_params x) {
    models::freezer f(x);
    std::vector<block<frozen_layers>> blocks;
    auto stem = f.weights(net.stem);
    for (auto& b : net.blocks) {
        block<frozen_layers> twin;
        const notch::quant_params in = f.params();
        for (auto& c : b.convolutions) twin.convolutions.push_back(f.weights(c));
        if (b.shortcut) {
            f.params() = in;
            twin.shortcut = f.weights(*b.shortcut);
        }
        twin.residual = f.plain(b.residual);
        blocks.push_back(std::move(twin));
    }
    auto average = f.plain(net.average);
    return {{}, std::move(stem), net.pool, std::move(blocks), std::move(average), f.weights(net.classifier), {}, {}, {},
            {}};
}

} // namespace resnet
