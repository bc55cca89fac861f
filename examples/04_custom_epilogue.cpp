// SPDX-License-Identifier: Apache-2.0
//
// A custom epilogue: the built-in stages run in registers, then a functor of yours sees each finished
// tile while it is still in L1. Here: leaky ReLU in real units, and the maximum of each row.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include <notch/kernels/gemm.hpp>

int main() {
    const notch::index_t rows = 33, in = 100, out = 70;
    std::vector<std::uint8_t> x(static_cast<std::size_t>(rows * in));
    std::vector<std::int8_t> weights(static_cast<std::size_t>(out * in));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<std::uint8_t>(i * 31 % 256);
    for (std::size_t i = 0; i < weights.size(); ++i)
        weights[i] = static_cast<std::int8_t>(static_cast<int>(i * 17 % 255) - 127);
    const std::vector<float> w_scale{0.003f};
    const notch::quant_params x_q{0.02f, 100};
    const notch::packed_weights w = notch::pack({weights.data(), out, in});

    std::vector<float> row_max(static_cast<std::size_t>(rows), -INFINITY);
    const auto leaky = [&](notch::tile<float> t) {
        for (notch::index_t r = 0; r < t.rows; ++r)
            for (notch::index_t c = 0; c < t.cols; ++c) {
                float& v = t(r, c);
                v = v < 0.0f ? 0.1f * v : v;
                float& top = row_max[static_cast<std::size_t>(t.row + r)]; // one thread: no race
                top = std::max(top, v);
            }
    };
    const auto plain = notch::make_epilogue(w, notch::stage::dequantize{x_q, w_scale});
    const auto fused = notch::make_epilogue(w, notch::stage::dequantize{x_q, w_scale}, notch::stage::on_tile{leaky});

    std::vector<float> y(static_cast<std::size_t>(rows * out)), z(y.size());
    const notch::matrix_view<const std::uint8_t> xv(x.data(), rows, in);
    notch::gemm(xv, w, fused, notch::matrix_view<float>(y.data(), rows, out));
    notch::gemm(xv, w, plain, notch::matrix_view<float>(z.data(), rows, out));

    for (std::size_t i = 0; i < y.size(); ++i)
        if (y[i] != (z[i] < 0.0f ? 0.1f * z[i] : z[i])) return 1;
    for (notch::index_t r = 0; r < rows; ++r)
        if (row_max[static_cast<std::size_t>(r)] != *std::max_element(y.begin() + r * out, y.begin() + (r + 1) * out))
            return 1;
    std::printf("fused leaky ReLU and row maxima agree with separate passes; row 0: max %.4f\n",
                static_cast<double>(row_max[0]));
    return 0;
}
