// SPDX-License-Identifier: Apache-2.0
//
// What went wrong in a layer? Run it in float and quantized side by side and look at the numbers:
// signal-to-quantization-noise ratio (SQNR), how many codes sit at the ends of the grid, how many
// codes are used. Here one layer was calibrated on data of the wrong scale, and the table says so.
#include <cmath>
#include <cstdio>
#include <random>
#include <set>

#include <notch/layers/train.hpp>

using notch::activation;
using notch::phase;

struct findings {
    double sqnr_db, clipped_percent;
    std::size_t codes_used;
};

findings inspect(const activation& real, const activation& quantized) {
    double signal = 0, noise = 0, clipped = 0;
    std::set<int> used;
    for (notch::index_t i = 0; i < real.size(); ++i) {
        const int code = quantized.codes[i];
        const double v = static_cast<double>(real.values[i]);
        const double q = static_cast<double>(static_cast<float>(code - quantized.params.zero_point) * quantized.params.scale);
        signal += v * v;
        noise += (q - v) * (q - v);
        clipped += code == 255 || (code == 0 && quantized.params.zero_point != 0);
        used.insert(code);
    }
    return {10.0 * std::log10(signal / noise), 100.0 * clipped / static_cast<double>(real.size()), used.size()};
}

int main() {
    const notch::context ctx;
    std::mt19937 random(1);
    const auto uniform = [&] { return static_cast<double>(random()) / 4294967296.0; };
    const auto batch = [&](float scale) {
        activation x;
        x.reshape(200, 1, 1, 64);
        x.values = notch::buffer<float>(x.size());
        for (float& v : x.values) v = scale * static_cast<float>(2.0 * uniform() - 1.0);
        return x;
    };
    std::printf("%-28s %10s %10s %10s\n", "calibrated on", "SQNR dB", "clipped %", "codes");
    findings found[3];
    const float scales[3] = {1.0f, 0.3f, 20.0f};
    const char* names[3] = {"data like the real ones", "too small values: clips", "too large values: coarse"};
    for (int i = 0; i < 3; ++i) {
        random.seed(7);
        notch::linear_layer<> layer(64, 32, {.function = notch::nonlinearity::relu});
        layer.initialize(uniform);
        activation calibration = batch(scales[i]), x = batch(1.0f), real, quantized, ignored;
        layer.forward(calibration, ignored, phase::calibrate, false, ctx);
        layer.forward(x, real, phase::fp32, false, ctx);
        notch::quantize_input(x, notch::params_from_range<notch::affine<8>>({-1.0f, 1.0f}), ctx);
        layer.forward(x, quantized, phase::quantized, false, ctx);
        found[i] = inspect(real, quantized);
        std::printf("%-28s %10.1f %10.2f %10zu\n", names[i], found[i].sqnr_db, found[i].clipped_percent, found[i].codes_used);
    }
    return found[0].sqnr_db > 30 && found[1].clipped_percent > 5 && found[2].codes_used < 64 ? 0 : 1;
}
