// SPDX-License-Identifier: Apache-2.0
//
// The usual image networks at 224 x 224 as user code: MobileNetV2, ResNet-18 and ResNet-50, untrained, for their
// latency: fp32 (notch's training layers, on Eigen) and INT8 frozen from it. Fails if a frozen network gives another
// code than the training layers' quantized forward on any instruction set.
//
//     models_cnn --time resnet50 --threads 2     one line, for a script that takes turns with other libraries
#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <random>

#include "../efficientnet_lite0/network.hpp"
#include "../results.hpp"
#include "../timing.hpp"
#include "resnet.hpp"

namespace cnn {
namespace {

using models::activation;
using models::context;
using models::index_t;
using layers = models::training_layers<notch::symmetric<8>>;
constexpr notch::quant_params pixel{1.0f / 128.0f, 127};

struct options {
    std::string only, out;
    double seconds = 1;
    int threads = 1;
    unsigned seed = 1;
    bool quick = false;
};

template <class Network> void initialize(Network& net, std::mt19937& random) {
    const auto uniform = [&] { return static_cast<double>(random()) / 4294967296.0; };
    net.each(activation{}, [&](const auto&, auto& layer, auto&...) {
        if constexpr (requires { layer.weight; }) layer.initialize(uniform);
    });
}

activation random_image(std::mt19937& random) {
    activation x;
    x.reshape(1, models::image_size, models::image_size, 3);
    x.params = pixel;
    x.codes.resize_discard(x.size());
    x.values.resize_discard(x.size());
    for (index_t i = 0; i < x.size(); ++i) {
        x.codes[i] = static_cast<std::uint8_t>(random() >> 24);
        x.values[i] = static_cast<float>(x.codes[i] - pixel.zero_point) * pixel.scale;
    }
    return x;
}

/// Bytes of all weights, scales and biases in 8 bits, and in fp32.
template <class Frozen> std::pair<std::int64_t, std::int64_t> bytes_of(Frozen& frozen) {
    std::int64_t bytes = 0, floats = 0;
    frozen.each(activation{}, [&](const auto&, auto& layer, auto&...) {
        if constexpr (requires { layer.spec(); }) {
            const notch::layer_spec& s = layer.spec();
            bytes += s.weights.size() + 4 * (s.w_scales.size() + s.bias.size()) + 2 * 5;
            floats += 4 * (s.weights.size() + s.bias.size());
        }
    });
    return {bytes, floats};
}

struct report {
    std::vector<models::result> rows;
    index_t different = 0;
};

template <class Net, class Freeze> void run(report& to, const char* name, const options& o, Net net, Freeze&& freeze) {
    if (!o.only.empty() && o.only != name) return;
    std::mt19937 random(o.seed);
    initialize(net, random);
    const activation real = random_image(random);
    activation image = real;
    image.quantized = true;
    net.forward(real, models::phase::calibrate, false, context());
    auto frozen = freeze(net);
    const double ms = models::median_ms(o.seconds, o.threads, [&](const context& ctx) { frozen.forward(image, ctx); });
    if (!o.only.empty()) {
        models::print_time(name, ms);
        return;
    }
    const double fp32 = models::median_ms(o.seconds, [&] { net.forward(real, models::phase::fp32, false, context()); });
    const index_t different = models::different(net, frozen, image);
    const auto [bytes, float_bytes] = bytes_of(frozen);
    std::printf("%-14s fp32 %8.2f ms   w8a8 %8.2f ms, %5.2f times as fast, %4.2f times as small   %lld codes differ\n",
                name, fp32, ms, fp32 / ms, static_cast<double>(float_bytes) / static_cast<double>(bytes),
                static_cast<long long>(different));
    std::fflush(stdout);
    to.different += different;
    to.rows.push_back({name, "", "fp32", "latency", fp32, fp32, float_bytes, fp32, {}, {}});
    to.rows.push_back({name, "static, per channel", "w8a8", "latency", ms, fp32, bytes, ms, {}, {}});
}

} // namespace
} // namespace cnn

int main(int argc, char** argv) {
    cnn::options o;
    CLI::App app("MobileNetV2, ResNet-18 and ResNet-50 at 224 x 224: latency in fp32 and INT8");
    app.add_option("--time", o.only, "only the INT8 latency of this network: mobilenet_v2, resnet18, resnet50");
    app.add_option("--threads", o.threads, "of INT8")->check(CLI::Range(1, 256))->capture_default_str();
    app.add_option("--seconds", o.seconds, "for each latency")->check(CLI::Range(0.0, 3600.0))->capture_default_str();
    app.add_option("--out", o.out, "file of the results");
    app.add_option("--seed", o.seed, "of the weights and the image")->capture_default_str();
    app.add_flag("--quick", o.quick, "MobileNetV2 alone, for a moment");
    CLI11_PARSE(app, argc, argv);
    try {
        if (o.quick) o.seconds = 0;
        cnn::report r;
        cnn::run(r, "mobilenet_v2", o,
                 efficientnet::make_network<cnn::layers>(notch::nonlinearity::relu6, efficientnet::mobilenet_v2_stages),
                 [](auto& net) { return efficientnet::freeze(net); });
        if (!o.quick) {
            const auto freeze = [](auto& net) { return resnet::freeze(net, cnn::pixel); };
            cnn::run(r, "resnet18", o, resnet::make_network<cnn::layers>({2, 2, 2, 2}, false), freeze);
            cnn::run(r, "resnet50", o, resnet::make_network<cnn::layers>({3, 4, 6, 3}, true), freeze);
        }
        if (!o.out.empty()) models::write_results(o.out, r.rows);
        if (r.different == 0) return 0;
        std::fprintf(stderr, "models_cnn: %lld codes differ\n", static_cast<long long>(r.different));
    } catch (const std::exception& e) {
        std::fprintf(stderr, "models_cnn: %s\n", e.what());
    }
    return 1;
}
