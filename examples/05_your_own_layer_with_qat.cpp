// SPDX-License-Identifier: Apache-2.0
//
// A layer of your own with quantization-aware training, from notch's pieces: fake_quant for inputs
// and weights, the integer gemm for the forward pass, your own backward pass and your own update.
// Because the forward pass already runs on the integer kernel, what you ship gives the same codes.
#include <algorithm>
#include <cstdio>
#include <random>
#include <vector>

#include <notch/kernels/gemm.hpp>
#include <notch/observe/moving_average.hpp>
#include <notch/qat/fake_quant.hpp>

constexpr notch::index_t batch = 32, in = 8, out = 3;

/// y = relu(x W^T): 4-bit weights, a scale for each output; 8-bit inputs and outputs.
struct my_layer {
    std::vector<float> w = std::vector<float>(out * in, 0.1f);
    notch::fake_quant<notch::affine<8>> input_q{{batch, in}};
    notch::fake_quant<notch::symmetric<4>, notch::per_channel<0>> weight_q{{out, in}};
    notch::moving_average output_range{0.9f};

    notch::quant_params y_q;
    std::vector<std::uint8_t> y_codes = std::vector<std::uint8_t>(batch * out), y_mask = y_codes;
    std::vector<float> y = std::vector<float>(batch * out);

    [[nodiscard]] std::vector<float> weight_scales() const {
        std::vector<float> s;
        for (const notch::quant_params& p : weight_q.params()) s.push_back(p.scale);
        return s;
    }
    void forward(std::span<const float> x) {
        input_q.observe(x);
        input_q.forward(x); // keeps codes, values and mask
        weight_q.forward(w);
        const auto packed = notch::pack({weight_q.codes().data(), out, in});
        const auto scales = weight_scales();
        const notch::quant_params x_q = input_q.params()[0];
        const notch::matrix_view<const std::uint8_t> codes(input_q.codes().data(), batch, in);

        // The accumulators first: the range of the outputs follows them, then they become codes. The
        // mask tells where the gradient passes: inside the range, and above 0 for the ReLU.
        std::vector<std::int32_t> acc(batch * out);
        notch::gemm(codes, packed, notch::make_epilogue(packed, notch::stage::accumulators{x_q.zero_point}),
                    notch::matrix_view<std::int32_t>(acc.data(), batch, out));
        const notch::matrix_view<const std::int32_t> a(acc.data(), batch, out);
        const auto real = notch::make_epilogue(packed, notch::stage::dequantize{x_q, scales}, notch::stage::relu{});
        notch::requantize(a, real, notch::matrix_view<float>(y.data(), batch, out));
        output_range.observe(y);
        y_q = notch::params_from_range<notch::affine<8>>(output_range.range());
        const auto ep = notch::make_epilogue(packed, notch::stage::requantize{x_q, scales, y_q}, notch::stage::relu{});
        notch::requantize(a, ep, notch::matrix_view<std::uint8_t>(y_codes.data(), batch, out), y_mask);
        notch::dequantize<std::uint8_t>(y_codes, y_q, y);
    }
    void backward(std::vector<float> dy, float rate) {
        notch::straight_through(dy, y_mask, dy);
        std::vector<float> dwq(out * in); // the product rule, with the values the forward pass used
        for (std::size_t b = 0; b < batch; ++b)
            for (std::size_t o = 0; o < out; ++o)
                for (std::size_t i = 0; i < in; ++i) dwq[o * in + i] += dy[b * out + o] * input_q.values()[b * in + i];
        const auto dw = weight_q.backward(dwq);
        for (std::size_t i = 0; i < w.size(); ++i) w[i] -= rate * dw[i];
    }
};

int main() {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> truth(out * in), x(batch * in);
    for (float& v : truth) v = normal(random);
    my_layer layer;
    float first = 0, last = 0; // mean loss of the first and of the last 20 steps
    for (int step = 0; step < 400; ++step) {
        for (float& v : x) v = normal(random);
        layer.forward(x);
        std::vector<float> dy(layer.y.size());
        float loss = 0;
        for (std::size_t b = 0; b < batch; ++b)
            for (std::size_t o = 0; o < out; ++o) {
                float target = 0;
                for (std::size_t i = 0; i < in; ++i) target += x[b * in + i] * truth[o * in + i];
                const float d = layer.y[b * out + o] - std::max(target, 0.0f);
                dy[b * out + o] = 2.0f * d / batch;
                loss += d * d / batch;
            }
        (step < 20 ? first : last) += step < 20 || step >= 380 ? loss / 20.0f : 0.0f;
        if (step < 399) layer.backward(dy, 0.05f);
    }
    std::printf("loss %.3f -> %.3f with 4-bit weights\n", static_cast<double>(first), static_cast<double>(last));

    // Ship it: the trained codes, one fused kernel, every instruction set of this CPU.
    const auto packed = notch::pack({layer.weight_q.codes().data(), out, in});
    const auto scales = layer.weight_scales();
    const auto ep = notch::make_epilogue(packed, notch::stage::requantize{layer.input_q.params()[0], scales, layer.y_q},
                                         notch::stage::relu{});
    bool same = true;
    for (notch::isa i : notch::available_isas()) {
        std::vector<std::uint8_t> shipped(batch * out);
        notch::gemm(notch::matrix_view<const std::uint8_t>(layer.input_q.codes().data(), batch, in), packed, ep,
                    notch::matrix_view<std::uint8_t>(shipped.data(), batch, out), notch::context(i));
        std::size_t different = 0;
        for (std::size_t k = 0; k < shipped.size(); ++k) different += shipped[k] != layer.y_codes[k];
        std::printf("%-10s %zu of %zu codes differ from the training forward\n", to_string(i), different,
                    shipped.size());
        same = same && different == 0;
    }
    return same && last < 0.1f * first ? 0 : 1;
}
