// SPDX-License-Identifier: Apache-2.0
//
// Quantize a tensor: observe its range, choose the parameters, convert to codes and back.
#include <cmath>
#include <cstdio>
#include <vector>

#include <notch/kernels/quantize.hpp>
#include <notch/observe/min_max.hpp>

int main() {
    std::vector<float> x(1000);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(0.01f * static_cast<float>(i)) * 3.0f + 1.0f;

    notch::min_max observer; // collects statistics, nothing else
    observer.observe(x);
    const notch::quant_params p = notch::params_from_range<notch::affine<8>>(observer.range());

    std::vector<std::uint8_t> codes(x.size());
    std::vector<float> back(x.size());
    notch::quantize<notch::affine<8>>(x, p, codes);
    notch::dequantize<std::uint8_t>(codes, p, back);

    float worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::fabs(back[i] - x[i]));
    std::printf("range [%.3f, %.3f] -> scale %.5f, zero_point %d\n", static_cast<double>(observer.range().min),
                static_cast<double>(observer.range().max), static_cast<double>(p.scale), p.zero_point);
    std::printf("largest error %.5f = %.2f steps\n", static_cast<double>(worst), static_cast<double>(worst / p.scale));

    // Inside the range the error is at most half a step (one at the ends, where zero was moved onto the
    // grid), and real 0 is exactly a code: padding and ReLU rely on it.
    const float zero = 0.0f;
    std::uint8_t zero_code = 0;
    notch::quantize<notch::affine<8>>(std::span(&zero, 1), p, std::span(&zero_code, 1));
    return worst <= p.scale && zero_code == p.zero_point ? 0 : 1;
}
