// SPDX-License-Identifier: Apache-2.0
//
// Train, freeze, save, load: two of notch's layers learn a toy problem with quantization in the loop,
// and the loaded INT8 network gives the codes of the trained one, bit for bit.
#include <cstdio>
#include <random>

#include <notch/io/layer_file.hpp>
#include <notch/layers/train.hpp>

using notch::activation;
using notch::phase;

struct net {
    notch::linear_layer<> hidden{2, 32, {.function = notch::nonlinearity::relu}};
    notch::linear_layer<> last{32, 1, {.float_output = true}};
    activation h, y;
    notch::buffer<float> dh;

    void forward(const activation& x, phase p, bool training, const notch::context& ctx) {
        hidden.forward(x, h, p, training, ctx);
        last.forward(h, y, p, training, ctx);
    }
    void step(std::span<float> dy, float rate, const notch::context& ctx) {
        dh.resize_discard(h.size());
        last.backward(dy, dh, ctx);
        hidden.backward(dh, {}, ctx);
        const auto update = [&](const auto& p) { // plain gradient descent
            for (std::size_t i = 0; i < p.value.size(); ++i) {
                p.value[i] -= rate * p.gradient[i];
                p.gradient[i] = 0.0f;
            }
        };
        hidden.parameters(update);
        last.parameters(update);
    }
};

int main() {
    const notch::context ctx;
    const notch::quant_params input_q = notch::params_from_range<notch::affine<8>>({-1.0f, 1.0f});
    std::mt19937 random(1);
    const auto uniform = [&] { return static_cast<double>(random()) / 4294967296.0; };
    net n;
    n.hidden.initialize(uniform);
    n.last.initialize(uniform);

    activation x;
    x.reshape(64, 1, 1, 2);
    x.values = notch::buffer<float>(x.size());
    notch::buffer<float> dy(64);
    float loss = 0;
    for (int step = 0; step < 3000; ++step) {
        const phase p = step < 1500 ? phase::fp32 : step < 1510 ? phase::calibrate : phase::quantized;
        x.quantized = false;
        for (float& v : x.values) v = static_cast<float>(2.0 * uniform() - 1.0);
        notch::buffer<float> target(64);
        for (notch::index_t i = 0; i < 64; ++i)
            target[i] = x.values[2 * i] * x.values[2 * i + 1]; // to learn: a product
        if (p == phase::quantized) notch::quantize_input(x, input_q, ctx);
        n.forward(x, p, true, ctx);
        loss = 0;
        for (notch::index_t i = 0; i < 64; ++i) {
            const float d = n.y.values[i] - target[i];
            dy[i] = 2.0f * d / 64.0f;
            loss += d * d / 64.0f;
        }
        n.step(dy, 0.1f, ctx);
    }
    std::printf("mean squared error %.5f (a constant gives 0.111)\n", static_cast<double>(loss));

    // Freeze and save; the file has a checksum and is never half-written.
    n.forward(x, phase::quantized, false, ctx);
    notch::model_writer file("product");
    notch::save_layer(file, "hidden", n.hidden.spec(input_q));
    notch::save_layer(file, "last", n.last.spec(n.h.params));
    file.save("product.notch");

    const auto loaded = notch::model_file::load("product.notch");
    const notch::frozen_linear hidden(notch::load_layer(loaded, "hidden")), last(notch::load_layer(loaded, "last"));
    notch::buffer<std::uint8_t> h(64 * 32);
    notch::buffer<float> y(64);
    hidden.forward(std::as_const(x).code_view(), notch::nhwc_view<std::uint8_t>(h.data(), 64, 1, 1, 32), ctx);
    last.forward(notch::nhwc_view<const std::uint8_t>(h.data(), 64, 1, 1, 32),
                 notch::nhwc_view<float>(y.data(), 64, 1, 1, 1), ctx);
    int different = 0;
    for (notch::index_t i = 0; i < h.size(); ++i) different += h[i] != n.h.codes[i];
    for (notch::index_t i = 0; i < y.size(); ++i) different += y[i] != n.y.values[i];
    std::printf("%d of %d values differ after saving and loading\n", different, 64 * 33);
    std::remove("product.notch");
    return different == 0 && loss < 0.03f ? 0 : 1;
}
