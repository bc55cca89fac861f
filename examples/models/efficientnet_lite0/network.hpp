// SPDX-License-Identifier: Apache-2.0
//
// EfficientNet-Lite0 (the integer-friendly variant of Tan and Le 2019, arXiv:1905.11946: ReLU6, no squeeze and
// excitation) for 224 x 224 images, composed from notch's layers:
//
//     stem      3 x 3 convolution, stride 2, 32 channels
//     16 blocks of MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381):
//               1 x 1 to `expand` times the channels, depthwise, 1 x 1 down, plus its input where the shapes agree
//     head      1 x 1 to 1280 channels, mean of all pixels, classifier
//
// One template is both networks: of training layers, and of the frozen ones that ship.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../layers.hpp"

namespace efficientnet {

using models::frozen_layers, models::training_layers;
using models::image_classes, models::image_size;
using notch::activation;
using notch::buffer;
using notch::context;
using notch::index_t;
using notch::nonlinearity;
using notch::phase;

/// Pixels are codes already: the network was trained on (pixel - 127) / 128.
inline constexpr notch::quant_params pixel{1.0f / 128.0f, 127};

/// TensorFlow's padding: outputs = ceil(inputs / stride), an odd pixel below and to the right.
inline notch::window same(index_t kernel, index_t stride, index_t size) {
    notch::window w = notch::window::square(kernel, stride);
    const index_t pad = ((size + stride - 1) / stride - 1) * stride + kernel - size;
    w.pad_top = w.pad_left = pad / 2;
    w.pad_bottom = w.pad_right = pad - pad / 2;
    return w;
}

template <class Layers> struct block {
    std::optional<typename Layers::pointwise> expand;
    typename Layers::depthwise depthwise;
    typename Layers::pointwise project;
    std::optional<notch::add_layer> residual;
    activation expanded, filtered, projected, sum;
    buffer<float> d_expanded, d_filtered, d_projected;

    [[nodiscard]] const activation& output() const { return residual ? sum : projected; }
    /// run(name, layer, inputs..., output) for each layer.
    template <class Run> const activation& each(const std::string& name, const activation& x, Run&& run) {
        if (expand) run(name + ".expand", *expand, x, expanded);
        run(name + ".depthwise", depthwise, expand ? expanded : x, filtered);
        run(name + ".project", project, filtered, projected);
        if (residual) run(name + ".residual", *residual, x, projected, sum);
        return output();
    }
};

template <class Layers> struct network : models::forward_passes<network<Layers>, Layers> {
    typename Layers::stem stem;
    std::vector<block<Layers>> blocks;
    typename Layers::pointwise head;
    notch::global_average_layer average;
    typename Layers::linear classifier;
    activation stem_out, head_out, mean, logits;

    /// Calls run(name, layer, inputs..., output) for each layer in order: a forward pass, or whatever else run does.
    template <class Run> const activation& each(const activation& image, Run&& run) {
        run("stem", stem, image, stem_out);
        const activation* x = &stem_out;
        for (std::size_t i = 0; i < blocks.size(); ++i) x = &blocks[i].each("block" + std::to_string(i), *x, run);
        run("head", head, *x, head_out);
        run("average", average, head_out, mean);
        run("classifier", classifier, mean, logits);
        return logits;
    }
    /// f(first, second) for layers in a row: nothing else reads the first, and what stands between commutes with
    /// factors > 0 of its channels (ReLU6 only where its upper bound is given up).
    template <class F> void chains(F&& f) {
        f(stem, blocks[0].depthwise);
        for (auto& b : blocks) {
            if (b.expand) f(*b.expand, b.depthwise);
            f(b.depthwise, b.project);
        }
        f(head, classifier);
    }
};

/// Blocks in a row.
struct stage {
    index_t kernel, stride, expand, in, out, repeats;
};
inline constexpr stage lite0_stages[] = {{3, 1, 1, 32, 16, 1},  {3, 2, 6, 16, 24, 2},  {5, 2, 6, 24, 40, 2},
                                         {3, 2, 6, 40, 80, 3},  {5, 1, 6, 80, 112, 3}, {5, 2, 6, 112, 192, 4},
                                         {3, 1, 6, 192, 320, 1}};
/// MobileNetV2 with a width of 1: table 2 of its paper.
inline constexpr stage mobilenet_v2_stages[] = {{3, 1, 1, 32, 16, 1},  {3, 2, 6, 16, 24, 2}, {3, 2, 6, 24, 32, 3},
                                                {3, 2, 6, 32, 64, 4},  {3, 1, 6, 64, 96, 3}, {3, 2, 6, 96, 160, 3},
                                                {3, 1, 6, 160, 320, 1}};

/// An untrained network; function replaces ReLU6.
template <class Layers>
network<Layers> make_network(nonlinearity function = nonlinearity::relu6,
                             std::span<const stage> stages = lite0_stages) {
    const notch::layer_options clamped{.function = function};
    const notch::window one = notch::window::square(1);
    index_t size = image_size / 2;
    std::vector<block<Layers>> blocks;
    for (const stage& s : stages)
        for (index_t i = 0; i < s.repeats; ++i) {
            const index_t in = i == 0 ? s.in : s.out, stride = i == 0 ? s.stride : 1, wide = in * s.expand;
            block<Layers> b{
                {}, {wide, same(s.kernel, stride, size), clamped}, {wide, s.out, one}, {}, {}, {}, {}, {}, {}, {}, {}};
            if (s.expand != 1) b.expand.emplace(in, wide, one, clamped);
            if (stride == 1 && in == s.out) b.residual.emplace();
            blocks.push_back(std::move(b));
            size /= stride;
        }
    return {{},
            {3, 32, same(3, 2, image_size), clamped},
            std::move(blocks),
            {320, 1280, one, clamped},
            notch::global_average_layer{},
            {1280, image_classes, {.float_output = true}},
            {},
            {},
            {},
            {}};
}

/// What ships of a calibrated or trained network.
template <class Layers> network<frozen_layers> freeze(network<Layers>& net) {
    models::freezer f(pixel);
    network<frozen_layers> to;
    to.stem = f.weights(net.stem);
    for (auto& b : net.blocks) {
        block<frozen_layers> twin;
        if (b.expand) twin.expand = f.weights(*b.expand);
        twin.depthwise = f.weights(b.depthwise);
        twin.project = f.weights(b.project);
        if (b.residual) twin.residual = f.plain(*b.residual);
        to.blocks.push_back(std::move(twin));
    }
    to.head = f.weights(net.head);
    to.average = f.plain(net.average);
    to.classifier = f.weights(net.classifier);
    return to;
}

} // namespace efficientnet
