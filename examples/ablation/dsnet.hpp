// SPDX-License-Identifier: Apache-2.0
//
// A MobileNet like the one of MLPerf Tiny for visual wake words, for images of 32 x 32 pixels: depthwise-separable
// blocks with batch norm and ReLU, 1.3 million multiplications an image.
#pragma once

#include <array>
#include <span>
#include <string>

#include <notch/core/buffer.hpp>
#include <notch/layers/pool.hpp>
#include <notch/layers/train.hpp>

namespace ablation {

using notch::activation;
using notch::context;
using notch::index_t;
using notch::phase;

template <class Scheme> struct separable_block {
    static constexpr notch::layer_options fused{.function = notch::nonlinearity::relu, .batch_norm = true};
    typename Scheme::template depthwise<typename Scheme::template kept<2>> depthwise;
    typename Scheme::template conv2d<typename Scheme::template weight<0>> pointwise;
    activation between, out;
    notch::buffer<float> d_between, d_out;

    separable_block(index_t from, index_t to, index_t stride)
        : depthwise(from, notch::window::square(3, stride, 1), fused),
          pointwise(from, to, notch::window::square(1), fused) {}
    const activation& forward(const activation& x, phase p, bool training, const context& ctx) {
        depthwise.forward(x, between, p, training, ctx);
        pointwise.forward(between, out, p, training, ctx);
        return out;
    }
    /// From d_out, which is overwritten.
    void backward(std::span<float> dx, const context& ctx) {
        d_between.resize_discard(between.size());
        pointwise.backward(d_out, d_between, ctx);
        depthwise.backward(d_between, dx, ctx);
    }
};

template <class Scheme> struct dsnet {
    static constexpr const char* name = "dsnet";

    typename Scheme::template conv2d<typename Scheme::template kept<0>> stem{
        3, 16, notch::window::square(3, 2, 1), separable_block<Scheme>::fused}; // 16 x 16 x 16
    std::array<separable_block<Scheme>, 8> blocks{{{16, 32, 1},
                                                   {32, 64, 2}, //  8 x 8
                                                   {64, 64, 1},
                                                   {64, 128, 2}, // 4 x 4
                                                   {128, 128, 1},
                                                   {128, 128, 1},
                                                   {128, 256, 2}, // 2 x 2
                                                   {256, 256, 1}}};
    typename Scheme::global_average average;
    typename Scheme::template linear<typename Scheme::template weight<0>> dense{256, 10, {.float_output = true}};
    activation stem_out, mean, logits;
    notch::buffer<float> d_mean, d_stem;

    const activation& forward(const activation& x, phase p, bool training, const context& ctx) {
        stem.forward(x, stem_out, p, training, ctx);
        const activation* y = &stem_out;
        for (auto& b : blocks) y = &b.forward(*y, p, training, ctx);
        average.forward(*y, mean, p, training, ctx);
        dense.forward(mean, logits, p, training, ctx);
        return logits;
    }
    /// gradient: of the logits, overwritten.
    void backward(std::span<float> gradient, const context& ctx) {
        d_mean.resize_discard(mean.size());
        dense.backward(gradient, d_mean, ctx);
        for (auto& b : blocks) b.d_out.resize_discard(b.out.size());
        d_stem.resize_discard(stem_out.size());
        average.backward(d_mean, blocks.back().d_out, mean.c);
        for (std::size_t i = blocks.size(); i-- > 0;) blocks[i].backward(i > 0 ? blocks[i - 1].d_out : d_stem, ctx);
        stem.backward(d_stem, {}, ctx);
    }
    /// As the networks of examples/mnist/networks.hpp.
    template <class F, class... Nets> void layers(F&& f, Nets&... others) {
        f("stem", stem, others.stem...);
        for (std::size_t i = 0; i < blocks.size(); ++i) {
            const std::string block = "block" + std::to_string(i + 1);
            f((block + ".depthwise").c_str(), blocks[i].depthwise, others.blocks[i].depthwise...);
            f((block + ".pointwise").c_str(), blocks[i].pointwise, others.blocks[i].pointwise...);
        }
        f("dense", dense, others.dense...);
    }
    template <class F, class... Nets> void observed(F&& f, Nets&... others) {
        f("average", average, others.average...);
    }
    template <class F> void chains(F&& f) {
        f(stem, blocks.front().depthwise);
        for (std::size_t i = 0; i < blocks.size(); ++i) {
            f(blocks[i].depthwise, blocks[i].pointwise);
            if (i + 1 < blocks.size()) f(blocks[i].pointwise, blocks[i + 1].depthwise);
        }
        f(blocks.back().pointwise, dense);
    }
    template <class F> void outputs(F&& f) const {
        f("stem", stem_out);
        for (const auto& b : blocks) {
            f("depthwise", b.between);
            f("pointwise", b.out);
        }
        f("average", mean);
        f("dense", logits);
    }
};

} // namespace ablation
