// SPDX-License-Identifier: Apache-2.0
//
// A layer of your own with quantization-aware training, from notch's pieces and nothing else: two
// fake_quant objects, a plain float product, your own backward pass and your own update. At the end
// the INT8 kernel reproduces the trained layer.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include <notch/kernels/gemm.hpp>
#include <notch/qat/fake_quant.hpp>

constexpr notch::index_t batch = 32, in = 8, out = 3;

struct my_linear {
    std::vector<float> w = std::vector<float>(out * in);
    notch::fake_quant<notch::symmetric<4>, notch::per_channel<0>> weight_q{{out, in}}; // 4-bit weights
    notch::fake_quant<notch::affine<8>> input_q{{batch, in}};
    std::span<const float> wq, xq;

    std::vector<float> forward(std::span<const float> x) {
        input_q.observe(x);
        xq = input_q.forward(x); // fake-quantized values; codes and mask are kept
        wq = weight_q.forward(w);
        std::vector<float> y(batch * out);
        for (std::size_t b = 0; b < batch; ++b)
            for (std::size_t o = 0; o < out; ++o)
                for (std::size_t i = 0; i < in; ++i) y[b * out + o] += xq[b * in + i] * wq[o * in + i];
        return y;
    }
    void backward(const std::vector<float>& dy, float rate) {
        std::vector<float> dwq(out * in);
        for (std::size_t b = 0; b < batch; ++b)
            for (std::size_t o = 0; o < out; ++o)
                for (std::size_t i = 0; i < in; ++i) dwq[o * in + i] += dy[b * out + o] * xq[b * in + i];
        const auto dw = weight_q.backward(dwq); // straight through, with the clipping mask
        for (std::size_t i = 0; i < w.size(); ++i) w[i] -= rate * dw[i];
    }
};

int main() {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> truth(out * in), x(batch * in);
    for (float& v : truth) v = normal(random);
    my_linear layer;
    float first = 0, loss = 0;
    for (int step = 0; step < 400; ++step) {
        for (float& v : x) v = normal(random);
        const auto y = layer.forward(x);
        std::vector<float> dy(y.size());
        loss = 0;
        for (std::size_t b = 0; b < batch; ++b)
            for (std::size_t o = 0; o < out; ++o) {
                float target = 0;
                for (std::size_t i = 0; i < in; ++i) target += x[b * in + i] * truth[o * in + i];
                const float d = y[b * out + o] - target;
                dy[b * out + o] = 2.0f * d / batch;
                loss += d * d / batch;
            }
        if (step == 0) first = loss;
        layer.backward(dy, 0.05f);
    }
    std::printf("loss %.3f -> %.4f with 4-bit weights\n", static_cast<double>(first), static_cast<double>(loss));

    // Ship it: the codes that training kept go to the integer kernel.
    const auto y = layer.forward(x);
    const notch::packed_weights w = notch::pack({layer.weight_q.codes().data(), out, in});
    std::vector<float> scales;
    for (const notch::quant_params& p : layer.weight_q.params()) scales.push_back(p.scale);
    const auto ep = notch::make_epilogue(w, notch::stage::dequantize{layer.input_q.params()[0], scales});
    std::vector<float> shipped(y.size());
    notch::gemm(notch::matrix_view<const std::uint8_t>(layer.input_q.codes().data(), batch, in), w, ep,
                notch::matrix_view<float>(shipped.data(), batch, out));
    // The float sum rounds at each step, the integer sum never: they agree to float precision. Train on
    // the integer kernels (notch/layers) and they agree bit for bit.
    float worst = 0;
    for (std::size_t i = 0; i < y.size(); ++i) worst = std::max(worst, std::fabs(y[i] - shipped[i]));
    std::printf("INT8 kernel against the training forward: largest difference %.2g\n", static_cast<double>(worst));
    return loss < 0.1f * first && worst < 1e-4f ? 0 : 1;
}
