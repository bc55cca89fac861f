// SPDX-License-Identifier: Apache-2.0
//
// The time of a recurrent layer of any size over one whole sequence, in one call, to compare with other libraries: real
// values in, real values of h out, fp32 and INT8 (which quantizes and dequantizes them), random weights.
#pragma once

#include <cstdio>
#include <random>
#include <string>

#include <notch/layers/recurrent.hpp>
#include <notch/observe/divergence.hpp>

#include "../results.hpp"

namespace rnn {

struct sequence_size {
    notch::index_t steps = 0, in = 128, hidden = 128;
};

template <class Cell> void sequence_time(models::report& to, const char* name, const sequence_size& s, unsigned seed) {
    const notch::context ctx;
    std::mt19937 random(seed);
    const auto uniform = [&] { return static_cast<double>(random()) / 4294967296.0; };
    notch::recurrent_layer<Cell> layer(s.in, s.hidden);
    layer.initialize(uniform);
    notch::activation x, y, codes;
    x.reshape(1, 1, s.steps, s.in);
    x.values = notch::buffer<float>(x.size());
    for (float& v : x.values) v = static_cast<float>(2.0 * uniform() - 1.0);
    layer.forward(x, y, notch::phase::calibrate, false, ctx);
    const double fp32 = models::median_ms([&] { layer.forward(x, y, notch::phase::fp32, false, ctx); });

    const notch::frozen_recurrent<Cell> frozen = notch::freeze(layer, {2.0f / 255.0f, 128});
    notch::buffer<std::byte> memory(frozen.workspace_size(1, s.steps));
    notch::context with_memory;
    with_memory.workspace = memory;
    notch::buffer<float> h(y.size());
    codes.reshape(1, 1, s.steps, s.hidden);
    codes.codes.resize_discard(codes.size());
    const double int8 = models::median_ms([&] {
        notch::quantize_input(x, frozen.spec().x, ctx);
        frozen.forward(x.code_view(), codes.code_view(), with_memory);
        notch::dequantize<std::uint8_t>(codes.codes, frozen.spec().h, h, ctx);
    });
    notch::divergence off;
    off.observe(y.values, h);

    const std::string model = std::string(name) + " " + std::to_string(s.in) + " x " + std::to_string(s.hidden),
                      method = std::to_string(s.steps) + " steps";
    const notch::index_t weights = Cell::gates * s.hidden * (s.in + s.hidden), rows = 2 * Cell::gates * s.hidden;
    const struct {
        const char* bits;
        double ms, cosine;
        std::int64_t bytes;
    } found[] = {{"fp32", fp32, 1.0, 4 * (weights + rows)}, {"w8a8", int8, off.cosine(), weights + 4 * 2 * rows}};
    for (const auto& f : found) {
        std::printf("%-16s %-12s %-5s cosine %.5f  %8.4f ms\n", model.c_str(), method.c_str(), f.bits, f.cosine, f.ms);
        to.rows.push_back({model, method, f.bits, "cosine", f.cosine, 1.0, f.bytes, f.ms, {}, {}});
    }
}

} // namespace rnn
