// SPDX-License-Identifier: Apache-2.0
//
// How the networks of this folder train: the backward pass through any of them, an optimizer for weights that are
// quantized, and self-distillation, which needs no labels: a quantized network learns to give what its own floats give.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "layers.hpp"

namespace models {

/// The backward pass of a network of training layers. Where several layers read an activation, as beside a residual,
/// their gradients are added.
class backward_pass {
public:
    /// Adds to the gradient of a loss with respect to a, an output of a layer or one of several.
    void add(const activation& a, std::span<const float> gradient) {
        slot& s = slots_[&a];
        if (!s.set) {
            s.gradient.resize_discard(a.size());
            std::copy(gradient.begin(), gradient.end(), s.gradient.begin());
        } else {
            for (index_t i = 0; i < s.gradient.size(); ++i) s.gradient[i] += gradient[static_cast<std::size_t>(i)];
        }
        s.set = true;
    }
    /// After a forward pass of x with training = true: adds to the gradients of the parameters, and forgets those of
    /// the activations.
    template <class Network> void run(Network& net, const activation& x, const context& ctx) {
        std::vector<std::function<void()>> steps;
        net.each(x, [&](const auto&, auto& layer, auto&... a) {
            const std::array all{static_cast<const activation*>(&a)...};
            steps.push_back([this, &x, &ctx, all, l = &layer] { step(*l, all, &x, ctx); });
        });
        for (std::size_t i = steps.size(); i-- > 0;) steps[i]();
    }

private:
    struct slot {
        buffer<float> gradient;
        bool set = false;
    };
    template <class Layer, std::size_t N>
    void step(Layer& layer, const std::array<const activation*, N>& a, const activation* first, const context& ctx) {
        slot& y = slots_[a.back()];
        if (!y.set) return; // the loss does not see it
        y.set = false;
        const std::span<float> dy = y.gradient;
        if constexpr (N == 3) {
            layer.backward(dy);
            add(*a[0], dy);
            add(*a[1], dy);
        } else {
            slot& x = slots_[a[0]];
            const bool wanted = a[0] != first;
            buffer<float>& dx = x.set ? more_ : x.gradient;
            dx.resize_discard(wanted ? a[0]->size() : 0);
            if constexpr (requires { layer.weight; })
                layer.backward(dy, dx, ctx);
            else if constexpr (requires { layer.backward(dy, dx, a[0]->c); })
                layer.backward(dy, dx, a[0]->c);
            else
                layer.backward(dy, dx);
            if (x.set)
                add(*a[0], dx);
            else
                x.set = wanted;
        }
    }
    std::map<const activation*, slot> slots_;
    buffer<float> more_;
};

/// Adam (Kingma and Ba 2014, arXiv:1412.6980) in the units of the codes: at a rate of 1 a step moves a weight by its
/// quantization step, a bias by that of the layer's output, a learned step by a twentieth of itself. So one rate serves
/// channels that folded batch norms have spread over orders of magnitude.
class code_adam {
public:
    /// Descends, and sets the gradients to 0.
    template <class Network> void step(Network& net, const activation& x, float rate) {
        ++t_;
        std::size_t slot = 0;
        net.each(x, [&](const auto&, auto& layer, auto&...) {
            if constexpr (requires { layer.weight; }) {
                const auto scales = layer.weight_quantizer.params();
                layer.parameters([&](const auto& p) {
                    if (slot == state_.size())
                        state_.push_back({buffer<float>(static_cast<index_t>(p.value.size())),
                                          buffer<float>(static_cast<index_t>(p.value.size()))});
                    moments& s = state_[slot++];
                    if (p.value.data() == layer.weight.data())
                        move(p.value, p.gradient, s, layer.weight_quantizer.layout(),
                             [&](index_t c) { return rate * scales[static_cast<std::size_t>(c)].scale; });
                    else
                        move(p.value, p.gradient, s, {1, 1, static_cast<index_t>(p.value.size())}, [&](index_t) {
                            return rate * (p.value.data() == layer.bias.data() ? layer.output_params().scale : 0.05f);
                        });
                });
            }
        });
    }

private:
    struct moments {
        buffer<float> first, second;
    };
    template <class Rate>
    void move(std::span<float> value, std::span<float> gradient, moments& s, const notch::channel_layout& l,
              const Rate& rate) const {
        const auto t = static_cast<float>(t_);
        const float unbias1 = 1.0f / (1.0f - std::pow(0.9f, t)), unbias2 = 1.0f / (1.0f - std::pow(0.999f, t));
        float *w = value.data(), *g = gradient.data(), *m = s.first.data(), *v = s.second.data();
        for (index_t o = 0; o < l.outer; ++o)
            for (index_t c = 0; c < l.channels; ++c) {
                const float r = rate(c) * unbias1;
                for (index_t i = 0; i < l.inner; ++i, ++w, ++g, ++m, ++v) {
                    *m = 0.9f * *m + 0.1f * *g;
                    *v = 0.999f * *v + 0.001f * *g * *g;
                    *w -= r * *m / (std::sqrt(*v * unbias2) + 1e-12f);
                    *g = 0.0f;
                }
            }
    }
    int t_ = 0;
    std::vector<moments> state_;
};

struct distillation {
    index_t steps = 400;
    float rate = 0.005f; ///< of code_adam at first; falls along a cosine
};

/// Trains net in phase::quantized towards the outputs of teacher in fp32. The loss is the sum of |y - z|^2 / |z -
/// mean(z)|^2 over the layers with matched(name), y and z being the outputs of both for a batch. next(real, codes)
/// gives the batches. Ranges of activations are fixed_params, or follow.
template <class Teacher, class Network, class Next, class Matched>
void distill(Teacher& teacher, Network& net, const distillation& o, Next&& next, Matched&& matched) {
    const context ctx;
    const auto last = [](const auto&... a) -> const activation& { return std::get<sizeof...(a) - 1>(std::tie(a...)); };
    activation real, codes;
    backward_pass backward;
    code_adam optimizer;
    buffer<float> scratch, gradient;
    for (index_t t = 0; t < o.steps; ++t) {
        next(real, codes);
        teacher.forward(real, phase::fp32, false, ctx);
        net.forward(codes, phase::quantized, true, ctx);
        std::map<std::string, const activation*> targets;
        teacher.each(real, [&](const std::string& name, auto&, auto&... a) {
            if (matched(name)) targets[name] = &last(a...);
        });
        net.each(codes, [&](const std::string& name, auto&, auto&... a) {
            const auto found = targets.find(name);
            if (found == targets.end()) return;
            const activation& out = last(a...);
            const std::span<const float> y = notch::real_values(out, scratch, ctx), z = found->second->values;
            double sum = 0, squares = 0;
            for (std::size_t i = 0; i < z.size(); ++i) {
                const auto v = static_cast<double>(z[i]);
                sum += v;
                squares += v * v;
            }
            const double spread = squares - sum * sum / static_cast<double>(z.size());
            if (!(spread > 0.0)) return;
            gradient.resize_discard(out.size());
            const auto factor = static_cast<float>(2.0 / spread);
            for (std::size_t i = 0; i < z.size(); ++i) gradient[static_cast<index_t>(i)] = factor * (y[i] - z[i]);
            backward.add(out, gradient);
        });
        backward.run(net, codes, ctx);
        const float part = static_cast<float>(t) / static_cast<float>(o.steps),
                    warm = std::min(1.0f, static_cast<float>(t + 1) / 20.0f);
        optimizer.step(net, codes, o.rate * warm * 0.5f * (1.0f + std::cos(3.14159265f * part)));
    }
}

} // namespace models
