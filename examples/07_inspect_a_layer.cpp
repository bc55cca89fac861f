// SPDX-License-Identifier: Apache-2.0
//
// What went wrong in a layer? A probe compares the float, the fake-quantized and the integer version of a
// network, layer by layer; the forward functions show it each layer through a tap. Two mistakes are made
// here on purpose, and the table tells them apart:
//   - the second layer was calibrated on data of the wrong scale: its grid is too small, values are clipped,
//     and both quantized versions lose their signal there (the third inherits that, but clips nothing itself)
//   - the third layer was frozen before its last update: there the integer codes are not those of training
#include <cmath>
#include <cstdio>
#include <random>
#include <span>
#include <vector>

#include <notch/layers/train.hpp>
#include <notch/observe/probe.hpp>
#include <notch/report/probe_text.hpp>

using notch::activation;
using notch::phase;

constexpr notch::index_t batch_size = 200, features = 64;
constexpr const char* names[3] = {"first", "second", "third"};

/// Float and fake-quantized: the training layers.
struct network {
    std::vector<notch::linear_layer<>> layers;

    void forward(const activation& x, phase p, const notch::context& ctx, notch::tap tap = {}) {
        activation y[3];
        for (std::size_t i = 0; i < 3; ++i) {
            layers[i].forward(i ? y[i - 1] : x, y[i], p, false, ctx);
            tap(names[i], y[i]); // without a probe this does nothing
        }
    }
};

/// Integer: what ships.
struct frozen_network {
    std::vector<notch::frozen_linear> layers;

    void forward(const activation& x, const notch::context& ctx, notch::tap tap = {}) const {
        std::vector<std::uint8_t> in(x.codes.begin(), x.codes.end()), out(in.size());
        for (std::size_t i = 0; i < 3; ++i) {
            layers[i].forward(notch::nhwc_view<const std::uint8_t>(in.data(), batch_size, 1, 1, features),
                              notch::nhwc_view<std::uint8_t>(out.data(), batch_size, 1, 1, features), ctx);
            tap(names[i], out, layers[i].spec().y, features);
            in.swap(out);
        }
    }
};

int main() {
    const notch::context ctx;
    std::mt19937 random(1);
    const auto uniform = [&] { return static_cast<double>(random()) / 4294967296.0; };
    const auto batch = [&] {
        activation x;
        x.reshape(batch_size, 1, 1, features);
        x.values = notch::buffer<float>(x.size());
        for (float& v : x.values) v = static_cast<float>(2.0 * uniform() - 1.0);
        return x;
    };
    network net;
    for (int i = 0; i < 3; ++i) {
        net.layers.emplace_back(features, features, notch::layer_options{.function = notch::nonlinearity::relu});
        net.layers.back().initialize(uniform);
    }

    // Calibration, with the first mistake: the second layer sees inputs four times too small.
    activation x = batch();
    for (std::size_t i = 0; i < 3; ++i) {
        activation seen = x, y, ignored;
        if (i == 1)
            for (float& v : seen.values) v *= 0.25f;
        net.layers[i].forward(seen, ignored, phase::calibrate, false, ctx);
        net.layers[i].forward(x, y, phase::fp32, false, ctx);
        x = y;
    }

    // Freezing, with the second mistake: a weight of the third layer still changes afterwards.
    notch::quant_params grid = notch::params_from_range<notch::affine<8>>({-1.0f, 1.0f});
    frozen_network frozen;
    for (auto& layer : net.layers) {
        frozen.layers.push_back(notch::freeze(layer, grid, ctx));
        grid = layer.output_params();
    }
    net.layers[2].weight[7 * features + 5] += 0.05f; // output 7, input 5

    // Inspection, on new data. Each version runs freely, so an error is inherited: read from the top.
    notch::probe probe;
    for (int b = 0; b < 3; ++b) {
        x = batch();
        net.forward(x, phase::fp32, ctx, probe.real());
        notch::quantize_input(x, frozen.layers[0].spec().x, ctx);
        net.forward(x, phase::quantized, ctx, probe.fake_quantized());
        frozen.forward(x, ctx, probe.integer());
        probe.next_batch();
    }
    std::printf("%s", notch::to_text(probe).c_str());

    const auto &first = probe["first"], &second = probe["second"], &third = probe["third"];
    std::printf("look at the second layer: its grid ends at %.2f, its values at %.2f\n",
                static_cast<double>(second.integer.range.max), static_cast<double>(second.real.range.max));
    std::printf("look at the third layer: its codes first differ in channel %d\n",
                static_cast<int>(third.mismatch.index % features));
    const bool told_apart = first.integer.error.sqnr_db() > 30 && second.integer.error.sqnr_db() < 20 &&
                            second.integer.clipped > second.integer.codes / 20 &&
                            third.integer.clipped < third.integer.codes / 1000 && first.mismatch.different == 0 &&
                            second.mismatch.different == 0 && third.mismatch.different > 0 &&
                            third.mismatch.index % features == 7;
    return told_apart ? 0 : 1;
}
