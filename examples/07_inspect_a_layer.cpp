// SPDX-License-Identifier: Apache-2.0
//
// What went wrong in a layer? Run the network in float and in INT8 side by side and look, layer by
// layer, at three things: the signal-to-quantization-noise ratio (SQNR), how many values the grid
// clips, and the range of the grid beside the range of the values. Here the second of three layers
// was calibrated on data of the wrong scale, and the table says so.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include <notch/layers/train.hpp>

using notch::activation;
using notch::phase;
using layer = notch::linear_layer<>;

struct findings {
    double sqnr_db = 0, clipped_percent = 0;
    notch::real_range grid, values;
};

/// real: the output of the layer in float arithmetic; quantized: the same layer, the same input, INT8.
findings inspect(const activation& real, const activation& quantized) {
    findings f;
    const notch::quant_params p = quantized.params;
    f.grid = notch::range_of<notch::affine<8>>(p);
    f.values = notch::value_range(real.values);
    std::vector<float> back(static_cast<std::size_t>(real.size()));
    notch::dequantize<std::uint8_t>(quantized.codes, p, back);
    double signal = 0, noise = 0;
    for (notch::index_t i = 0; i < real.size(); ++i) {
        const auto v = static_cast<double>(real.values[i]),
                   e = static_cast<double>(back[static_cast<std::size_t>(i)]) - v;
        signal += v * v;
        noise += e * e;
        // A step or more outside the grid. (A code at its end says less: a ReLU puts many at 0.)
        if (real.values[i] > f.grid.max + p.scale || real.values[i] < f.grid.min - p.scale) f.clipped_percent += 1;
    }
    f.sqnr_db = 10.0 * std::log10(signal / noise);
    f.clipped_percent *= 100.0 / static_cast<double>(real.size());
    return f;
}

int main() {
    const notch::context ctx;
    std::mt19937 random(1);
    const auto uniform = [&] { return static_cast<double>(random()) / 4294967296.0; };
    const char* names[3] = {"first", "second", "third"};
    std::vector<layer> net;
    for (int i = 0; i < 3; ++i) {
        net.emplace_back(64, 64, notch::layer_options{.function = notch::nonlinearity::relu});
        net.back().initialize(uniform);
    }
    const auto batch = [&] {
        activation x;
        x.reshape(200, 1, 1, 64);
        x.values = notch::buffer<float>(x.size());
        for (float& v : x.values) v = static_cast<float>(2.0 * uniform() - 1.0);
        return x;
    };

    // Calibration, with the mistake: the second layer sees inputs four times too small.
    activation x = batch(), calibrated[3];
    for (std::size_t i = 0; i < 3; ++i) {
        activation wrong = i ? calibrated[i - 1] : x;
        if (i == 1)
            for (float& v : wrong.values) v *= 0.25f;
        activation ignored;
        net[i].forward(wrong, ignored, phase::calibrate, false, ctx);
        net[i].forward(i ? calibrated[i - 1] : x, calibrated[i], phase::fp32, false, ctx);
    }

    // Inspection, on new data. Each layer gets the float output of the layer before it, on a grid that
    // fits: so an error shows in the layer that makes it, not in those after it.
    x = batch();
    std::printf("%-8s %9s %10s %22s %22s\n", "layer", "SQNR dB", "clipped %", "grid", "values");
    findings found[3];
    activation real[3], codes[3];
    for (std::size_t i = 0; i < 3; ++i) {
        activation input = i ? real[i - 1] : x;
        net[i].forward(input, real[i], phase::fp32, false, ctx);
        notch::quantize_input(input, notch::params_from_range<notch::affine<8>>(notch::value_range(input.values)), ctx);
        net[i].forward(input, codes[i], phase::quantized, false, ctx);
        const findings& f = found[i] = inspect(real[i], codes[i]);
        std::printf("%-8s %9.1f %10.2f %10.2f ... %7.2f %10.2f ... %7.2f\n", names[i], f.sqnr_db, f.clipped_percent,
                    static_cast<double>(f.grid.min), static_cast<double>(f.grid.max), static_cast<double>(f.values.min),
                    static_cast<double>(f.values.max));
    }
    const auto worst =
        std::min_element(found, found + 3, [](const auto& a, const auto& b) { return a.sqnr_db < b.sqnr_db; });
    std::printf("look at the %s layer: its grid ends at %.2f, its values at %.2f\n", names[worst - found],
                static_cast<double>(worst->grid.max), static_cast<double>(worst->values.max));
    return worst == found + 1 && worst->clipped_percent > 5 && found[0].sqnr_db > 30 && found[2].sqnr_db > 30 ? 0 : 1;
}
