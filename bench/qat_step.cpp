// SPDX-License-Identifier: Apache-2.0
//
// What training with quantization costs: one step (forward, backward, plain gradient descent) of a perceptron of
// three layers, 1024 wide, batch 64, one thread. qat runs notch's training layers in phase::quantized, fp32 the
// same step written out in Eigen. The last argument says whether the products of the backward pass are those of
// qat/integer_backward.hpp. Both are compiled at the flags of this file (-march=native), so that Eigen is
// at its best; the two take turns within an iteration, and ratio is qat over fp32, of the best steps.
#include <Eigen/Core>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <limits>
#include <vector>

#include <notch/layers/train.hpp>

namespace {

using notch::index_t;
using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr index_t wide = 1024, batch = 64;
constexpr int depth = 3;
constexpr float rate = 1e-3f;

/// Uniform in [0, 1), the same on every machine.
struct random_numbers {
    std::uint32_t state = 1;
    double operator()() {
        state = state * 1664525u + 1013904223u;
        return static_cast<double>(state >> 8) / 16777216.0;
    }
};

/// z = x w^T + b; ReLU but after the last layer; loss = mean (y - target)^2.
struct fp32_network {
    matrix w[depth], dw[depth], z[depth], dz[depth];
    Eigen::RowVectorXf b[depth], db[depth];

    void step(const matrix& x, const matrix& target) {
        for (int i = 0; i < depth; ++i) {
            z[i].noalias() = (i ? z[i - 1] : x) * w[i].transpose();
            z[i].rowwise() += b[i];
            if (i + 1 < depth) z[i] = z[i].cwiseMax(0.0f);
        }
        dz[depth - 1] = (z[depth - 1] - target) * (2.0f / static_cast<float>(target.size()));
        for (int i = depth - 1; i >= 0; --i) {
            if (i + 1 < depth) dz[i] = (z[i].array() > 0.0f).select(dz[i], 0.0f);
            dw[i].noalias() = dz[i].transpose() * (i ? z[i - 1] : x);
            db[i] = dz[i].colwise().sum();
            if (i) dz[i - 1].noalias() = dz[i] * w[i];
        }
        for (int i = 0; i < depth; ++i) {
            w[i] -= rate * dw[i];
            b[i] -= rate * db[i];
        }
    }
};

struct qat_network {
    std::vector<notch::linear_layer<>> layers;
    notch::activation y[depth];
    notch::buffer<float> dy[depth];
    notch::quant_params input = notch::params_from_range<notch::affine<8>>({-1.0f, 1.0f});

    void step(notch::activation& x, const matrix& target, const notch::context& ctx) {
        notch::quantize_input(x, input, ctx);
        for (int i = 0; i < depth; ++i)
            layers[static_cast<std::size_t>(i)].forward(i ? y[i - 1] : x, y[i], notch::phase::quantized, true, ctx);
        for (notch::buffer<float>& d : dy) d.resize_discard(batch * wide);
        Eigen::Map<matrix>(dy[depth - 1].data(), batch, wide) =
            (Eigen::Map<const matrix>(y[depth - 1].values.data(), batch, wide) - target) *
            (2.0f / static_cast<float>(target.size()));
        for (int i = depth - 1; i >= 0; --i)
            layers[static_cast<std::size_t>(i)].backward(dy[i], i ? dy[i - 1].span() : std::span<float>{}, ctx);
        for (auto& layer : layers)
            layer.parameters([](const auto& p) {
                for (std::size_t i = 0; i < p.value.size(); ++i) {
                    p.value[i] -= rate * p.gradient[i];
                    p.gradient[i] = 0.0f;
                }
            });
    }
};

void step(benchmark::State& state) {
    const bool integer_backward = state.range(0) != 0;
    const notch::context ctx;
    random_numbers random;
    notch::activation x;
    x.reshape(batch, 1, 1, wide);
    x.values = notch::buffer<float>(x.size());
    for (float& v : x.values) v = static_cast<float>(2.0 * random() - 1.0);
    const matrix x_fp32 = Eigen::Map<const matrix>(x.values.data(), batch, wide);
    matrix target(batch, wide);
    for (index_t i = 0; i < target.size(); ++i) target.data()[i] = static_cast<float>(2.0 * random() - 1.0);

    qat_network qat;
    fp32_network fp32;
    for (int i = 0; i < depth; ++i) {
        const bool last = i + 1 == depth;
        qat.layers.emplace_back(
            wide, wide,
            notch::layer_options{.function = last ? notch::nonlinearity::none : notch::nonlinearity::relu,
                                 .float_output = last});
        qat.layers.back().initialize(random);
        if (integer_backward) qat.layers.back().integer_backward.emplace(i);
        fp32.w[i] = Eigen::Map<const matrix>(qat.layers.back().weight.data(), wide, wide);
        fp32.b[i] = Eigen::RowVectorXf::Zero(wide);
    }
    const auto seconds = [](const auto& f) { // of this process: others may use the CPU between
        const std::clock_t start = std::clock();
        f();
        return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    };
    double best_qat = std::numeric_limits<double>::infinity(), best_fp32 = best_qat;
    for (auto _ : state) {
        const double q = seconds([&] { qat.step(x, target, ctx); });
        const double f = seconds([&] { fp32.step(x_fp32, target); });
        best_qat = std::min(best_qat, q);
        best_fp32 = std::min(best_fp32, f);
        state.SetIterationTime(q);
    }
    state.counters["qat_ms"] = 1e3 * best_qat;
    state.counters["fp32_ms"] = 1e3 * best_fp32;
    state.counters["ratio"] = best_qat / best_fp32;
}
BENCHMARK(step)
    ->Name("qat_step/1024x1024x3/batch:64")
    ->ArgName("integer_backward")
    ->Arg(0)
    ->Arg(1)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond)
    ->MinTime(3);

} // namespace
