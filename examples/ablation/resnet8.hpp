// SPDX-License-Identifier: Apache-2.0
//
// ResNet-8, the network of MLPerf Tiny for image classification, with its batch norm folded, and the weights of its
// float model.
#pragma once

#include <array>
#include <optional>
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

/// y = relu(x + conv(relu(conv(x)))); where the image is halved, x goes through a pointwise convolution.
template <class Scheme> struct residual_block {
    using conv = typename Scheme::template conv2d<typename Scheme::template weight<0>>;
    conv first, second;
    std::optional<conv> skip;
    typename Scheme::add add{notch::nonlinearity::relu};
    activation between, out, skipped, sum;
    notch::buffer<float> d_sum, d_between, d_out, d_skipped;

    residual_block(index_t from, index_t to, index_t stride)
        : first(from, to, same(stride), {.function = notch::nonlinearity::relu}), second(to, to, same(1)) {
        if (stride != 1) skip.emplace(from, to, notch::window::square(1, stride));
    }
    const activation& forward(const activation& x, phase p, bool training, const context& ctx) {
        first.forward(x, between, p, training, ctx);
        second.forward(between, out, p, training, ctx);
        if (skip) skip->forward(x, skipped, p, training, ctx);
        add.forward(skip ? skipped : x, out, sum, p, training, ctx);
        return sum;
    }
    /// From d_sum, which is overwritten.
    void backward(std::span<float> dx, const context& ctx) {
        add.backward(d_sum);
        d_out = d_sum;
        d_between.resize_discard(between.size());
        second.backward(d_out, d_between, ctx);
        first.backward(d_between, dx, ctx);
        if (skip) {
            d_skipped.resize_discard(static_cast<index_t>(dx.size()));
            skip->backward(d_sum, d_skipped, ctx);
        }
        const auto& other = skip ? d_skipped : d_sum;
        for (index_t i = 0; i < other.size(); ++i) dx[static_cast<std::size_t>(i)] += other[i];
    }

private:
    /// 3 x 3 with the padding SAME of TensorFlow on an even image.
    static notch::window same(index_t stride) {
        notch::window s = notch::window::square(3, stride, 1);
        if (stride == 2) s.pad_top = s.pad_left = 0;
        return s;
    }
};

template <class Scheme> struct resnet8 {
    static constexpr const char* name = "resnet8";

    typename Scheme::template conv2d<typename Scheme::template kept<0>> stem{
        3, 16, notch::window::square(3, 1, 1), {.function = notch::nonlinearity::relu}};
    std::array<residual_block<Scheme>, 3> blocks{{{16, 16, 1}, {16, 32, 2}, {32, 64, 2}}};
    typename Scheme::global_average average;
    typename Scheme::template linear<typename Scheme::template weight<0>> dense{64, 10, {.float_output = true}};
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
        d_stem.resize_discard(stem_out.size());
        for (auto& b : blocks) b.d_sum.resize_discard(b.sum.size());
        average.backward(d_mean, blocks[2].d_sum, mean.c);
        blocks[2].backward(blocks[1].d_sum, ctx);
        blocks[1].backward(blocks[0].d_sum, ctx);
        blocks[0].backward(d_stem, ctx);
        stem.backward(d_stem, {}, ctx);
    }
    /// As the networks of examples/mnist/networks.hpp.
    template <class F, class... Nets> void layers(F&& f, Nets&... others) {
        f("stem", stem, others.stem...);
        for (std::size_t i = 0; i < blocks.size(); ++i) {
            const std::string block = "block" + std::to_string(i + 1);
            f((block + ".first").c_str(), blocks[i].first, others.blocks[i].first...);
            f((block + ".second").c_str(), blocks[i].second, others.blocks[i].second...);
            if (blocks[i].skip) f((block + ".skip").c_str(), *blocks[i].skip, *others.blocks[i].skip...);
        }
        f("dense", dense, others.dense...);
    }
    template <class F, class... Nets> void observed(F&& f, Nets&... others) {
        for (std::size_t i = 0; i < blocks.size(); ++i)
            f(("block" + std::to_string(i + 1) + ".add").c_str(), blocks[i].add, others.blocks[i].add...);
        f("average", average, others.average...);
    }
    template <class F> void chains(F&& f) {
        for (auto& b : blocks) f(b.first, b.second);
    }
    template <class F> void outputs(F&& f) const {
        f("stem", stem_out);
        for (const auto& b : blocks) f("sum", b.sum);
        f("average", mean);
        f("dense", logits);
    }
};

} // namespace ablation
