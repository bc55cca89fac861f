// SPDX-License-Identifier: Apache-2.0
//
// One INT8 matrix product in an engine of your own: your memory, your threads, one include. The best
// kernel of the CPU is chosen at run time, from a plain -O2 build.
#include <cstdio>
#include <vector>

#include <notch/kernels/gemm.hpp>

int main() {
    const notch::index_t batch = 4, in = 256, out = 64;
    std::vector<std::uint8_t> x(static_cast<std::size_t>(batch * in)); // your activations: codes
    std::vector<std::int8_t> weights(static_cast<std::size_t>(out * in));
    std::vector<float> w_scales(static_cast<std::size_t>(out), 0.004f); // per output channel
    std::vector<std::int32_t> bias(static_cast<std::size_t>(out), 100); // on the grid x.scale * w_scale
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<std::uint8_t>(i * 7);
    for (std::size_t i = 0; i < weights.size(); ++i)
        weights[i] = static_cast<std::int8_t>(static_cast<int>(i * 13 % 255) - 127);

    const notch::quant_params x_q{0.02f, 128}, y_q{0.05f, 10};

    // Once, when the model is loaded. Overflow is ruled out here, for every possible input.
    const notch::packed_weights w = notch::pack({weights.data(), out, in});
    const auto epilogue = notch::make_epilogue(w, notch::stage::bias{bias},
                                               notch::stage::requantize{x_q, w_scales, y_q}, notch::stage::relu{});

    // For each call: no allocation, views of your memory, any row stride.
    std::vector<std::uint8_t> y(static_cast<std::size_t>(batch * out));
    notch::gemm(notch::matrix_view<const std::uint8_t>(x.data(), batch, in), w, epilogue,
                notch::matrix_view<std::uint8_t>(y.data(), batch, out));
    std::printf("kernel %s, y[0] = %d %d %d %d\n", notch::gemm_kernels_of(notch::default_isa()).name, y[0], y[1], y[2],
                y[3]);

    // Every instruction set gives the same codes.
    for (notch::isa i : notch::available_isas()) {
        std::vector<std::uint8_t> other(y.size());
        notch::gemm(notch::matrix_view<const std::uint8_t>(x.data(), batch, in), w, epilogue,
                    notch::matrix_view<std::uint8_t>(other.data(), batch, out), notch::context(i));
        if (other != y) return 1;
        std::printf("%-10s gives the same %zu codes\n", to_string(i), y.size());
    }
    return 0;
}
