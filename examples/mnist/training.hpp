// SPDX-License-Identifier: Apache-2.0
//
// The training loop that the programs of these examples share: batches, the loss, Adam, and what is done with a network
// of any structure whose layers, observed() and forward are those of networks.hpp. Data is a set of labelled images:
//
//     count, labels[i]                             how many there are, and their classes
//     load_batch(data, order, first, n, x, random) images order[first ... first + n) as real values, which are
//     multiples
//                                                  of pixel_params; augmented if random is not null
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <notch/layers/activation.hpp>
#include <notch/layers/train.hpp>

#include "idx.hpp"
#include "networks.hpp"
#include "progress.hpp"

namespace mnist {

using notch::buffer;

inline constexpr index_t image_size = digit_side * digit_side;
inline constexpr notch::quant_params pixel_params{1.0f / 255.0f, 0};

/// Adam with decoupled weight decay (Kingma & Ba 2015; Loshchilov & Hutter 2019), over the
/// parameters that the layers show. A parameter that has a rate is moved by that multiple of the common one.
class adam {
public:
    template <class Net> void step(Net& net, float rate) {
        ++t_;
        const float c1 = 1.0f - std::pow(0.9f, static_cast<float>(t_)),
                    c2 = 1.0f - std::pow(0.999f, static_cast<float>(t_));
        std::size_t slot = 0;
        const auto move = [&](const auto& p) {
            float own_rate = rate;
            if constexpr (requires { p.rate; }) own_rate *= p.rate;
            if (slot == state_.size())
                state_.push_back({buffer<float>(static_cast<index_t>(p.value.size())),
                                  buffer<float>(static_cast<index_t>(p.value.size()))});
            auto& [m, v] = state_[slot++];
            for (std::size_t i = 0; i < p.value.size(); ++i) {
                const auto at = static_cast<index_t>(i);
                const float g = p.gradient[i];
                m[at] = 0.9f * m[at] + 0.1f * g;
                v[at] = 0.999f * v[at] + 0.001f * g * g;
                const float decay = p.decay ? 1e-2f * p.value[i] : 0.0f;
                p.value[i] -= own_rate * (m[at] / c1 / (std::sqrt(v[at] / c2) + 1e-8f) + decay);
                p.gradient[i] = 0.0f;
            }
        };
        net.layers([&](const char*, auto& layer) { layer.parameters(move); });
        net.observed([&](const char*, auto& layer) {
            if constexpr (requires { layer.parameters(move); }) layer.parameters(move);
        });
    }

private:
    int t_ = 0;
    std::vector<std::pair<buffer<float>, buffer<float>>> state_;
};

/// The random of a load_batch that does not augment.
inline constexpr std::mt19937* not_augmented = nullptr;

/// Images [first, first + n) of order as a batch; shifted by up to one pixel when augmenting.
template <class Random>
void load_batch(const dataset& d, const std::vector<index_t>& order, index_t first, index_t n, activation& x,
                Random* random) {
    x.reshape(n, 28, 28, 1);
    x.quantized = false;
    x.values.resize_discard(n * image_size);
    for (index_t i = 0; i < n; ++i) {
        const std::uint8_t* from = d.pixels.data() + order[static_cast<std::size_t>(first + i)] * image_size;
        const index_t dy = random ? static_cast<index_t>((*random)() % 3) - 1 : 0,
                      dx = random ? static_cast<index_t>((*random)() % 3) - 1 : 0;
        for (index_t r = 0; r < 28; ++r)
            for (index_t c = 0; c < 28; ++c) {
                const index_t sr = r + dy, sc = c + dx;
                const bool inside = sr >= 0 && sr < 28 && sc >= 0 && sc < 28;
                x.values[i * image_size + r * 28 + c] =
                    inside ? static_cast<float>(from[sr * 28 + sc]) * pixel_params.scale : 0.0f;
            }
    }
}

/// Softmax cross-entropy: the mean loss, and its gradient with respect to the logits.
template <class Data>
float cross_entropy(const activation& logits, const Data& d, const std::vector<index_t>& order, index_t first,
                    buffer<float>& gradient) {
    gradient.resize_discard(logits.size());
    const index_t classes = logits.c;
    double loss = 0;
    for (index_t i = 0; i < logits.n; ++i) {
        const float* z = logits.values.data() + i * classes;
        const float top = *std::max_element(z, z + classes);
        float sum = 0;
        for (index_t k = 0; k < classes; ++k) sum += std::exp(z[k] - top);
        const int label = d.labels[static_cast<std::size_t>(order[static_cast<std::size_t>(first + i)])];
        for (index_t k = 0; k < classes; ++k)
            gradient[i * classes + k] =
                (std::exp(z[k] - top) / sum - (k == label ? 1.0f : 0.0f)) / static_cast<float>(logits.n);
        loss -= static_cast<double>(z[label] - top - std::log(sum));
    }
    return static_cast<float>(loss / static_cast<double>(logits.n));
}

inline std::vector<index_t> in_order(index_t n) {
    std::vector<index_t> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), index_t{0});
    return order;
}

struct nothing_more {
    template <class Net> void operator()(Net&) const {}
};

/// Epochs, or a part of one, of batches of 64, the rate along a cosine. after_step(net) is called after each step of
/// the optimizer.
template <class Net, class Data, class AfterStep = nothing_more>
void train(Net& net, const Data& d, phase p, double epochs, float rate, unsigned seed, const std::string& label,
           const AfterStep& after_step = {}) {
    const context ctx;
    constexpr index_t batch = 64;
    std::mt19937 random(seed);
    std::vector<index_t> order = in_order(d.count);
    adam optimizer;
    activation x;
    buffer<float> gradient;
    const index_t steps = d.count / batch, total = std::llround(static_cast<double>(steps) * epochs);
    progress bar(label, total);
    index_t step = 0;
    while (step < total) {
        for (std::size_t i = order.size() - 1; i > 0; --i) std::swap(order[i], order[random() % (i + 1)]);
        for (index_t b = 0; b < steps && step < total; ++b, ++step) {
            load_batch(d, order, b * batch, batch, x, &random);
            if (p == phase::quantized) notch::quantize_input(x, pixel_params, ctx);
            const activation& logits = net.forward(x, p, true, ctx);
            cross_entropy(logits, d, order, b * batch, gradient);
            net.backward(gradient, ctx);
            const float progress_made = static_cast<float>(step) / static_cast<float>(total);
            const float warm = std::min(1.0f, static_cast<float>(step + 1) / 50.0f);
            optimizer.step(net, rate * warm * 0.5f * (1.0f + std::cos(3.14159265f * progress_made)));
            after_step(net);
            bar.step();
        }
    }
    bar.finish();
}

/// Runs all test images; returns the top-1 accuracy in percent, and the codes if wanted.
template <class Net, class Data>
double evaluate(Net& net, const Data& test, phase p, std::vector<std::uint8_t>* codes = nullptr) {
    const context ctx;
    const std::vector<index_t> order = in_order(test.count);
    activation x;
    index_t right = 0;
    constexpr index_t batch = 100;
    for (index_t first = 0; first < test.count; first += batch) {
        load_batch(test, order, first, std::min(batch, test.count - first), x, not_augmented);
        if (p == phase::quantized) notch::quantize_input(x, pixel_params, ctx);
        const activation& logits = net.forward(x, p, false, ctx);
        for (index_t i = 0; i < logits.n; ++i) {
            const float* z = logits.values.data() + i * logits.c;
            right += std::max_element(z, z + logits.c) - z == test.labels[static_cast<std::size_t>(first + i)];
        }
        if (!codes) continue;
        append_codes(*codes, net, ctx);
        if (first == 0) codes->reserve(codes->size() * static_cast<std::size_t>((test.count + batch - 1) / batch));
    }
    return 100.0 * static_cast<double>(right) / static_cast<double>(test.count);
}

/// Shows the outputs for the first images to the observers.
template <class Net, class Data> void calibrate(Net& net, const Data& d, index_t images = 1000) {
    const context ctx;
    const std::vector<index_t> order = in_order(d.count);
    activation x;
    for (index_t first = 0; first + 100 <= std::min(images, d.count); first += 100) {
        load_batch(d, order, first, 100, x, not_augmented);
        net.forward(x, phase::calibrate, false, ctx);
    }
}

/// The trained state of one network into another of the same structure with other quantizers.
template <class To, class From> void copy_network(To& to, From& from) {
    to.layers([](const char*, auto& layer, auto& source) { layer.copy_from(source); }, from);
    to.observed([](const char*, auto& layer, auto& source) { layer.output_observer = source.output_observer; }, from);
}

} // namespace mnist
