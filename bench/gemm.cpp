// SPDX-License-Identifier: Apache-2.0
//
// gemm u8 x s8 -> u8 with bias and per-channel requantization, on every instruction set of this CPU.
//   OP/s      2 * M * N * K / time
//   of_peak   with VNNI: its share of the vpdpbusd peak, measured just before in the same run
//             (1 is all of it; like every rate it is printed with "/s")
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include <notch/kernels/gemm.hpp>

#include "peak.hpp"

namespace {

struct shape {
    notch::index_t m, n, k;
};

void gemm(benchmark::State& state, notch::isa isa, shape s) {
    std::vector<std::uint8_t> x(static_cast<std::size_t>(s.m * s.k)), y(static_cast<std::size_t>(s.m * s.n));
    std::vector<std::int8_t> w(static_cast<std::size_t>(s.n * s.k));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<std::uint8_t>(i * 97);
    // Weights over the whole range, as trained ones are: AVX2 then takes its exact path.
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<std::int8_t>(static_cast<int>(i * 89 % 255) - 127);
    const std::vector<float> scales(static_cast<std::size_t>(s.n), 0.01f);
    const std::vector<std::int32_t> bias(static_cast<std::size_t>(s.n), 5);
    const notch::packed_weights p = notch::pack({w.data(), s.n, s.k});
    const notch::quant_params x_q{0.02f, 0}, y_q{0.5f, 7};
    const auto ep = notch::make_epilogue(p, notch::stage::bias{bias}, notch::stage::requantize{x_q, scales, y_q});
    const notch::context ctx(isa);
    const double peak = vnni_peak(isa);
    for (auto _ : state) {
        notch::gemm(notch::matrix_view<const std::uint8_t>(x.data(), s.m, s.k), p, ep,
                    notch::matrix_view<std::uint8_t>(y.data(), s.m, s.n), ctx);
        benchmark::DoNotOptimize(y.data());
        benchmark::ClobberMemory();
    }
    const double operations = 2.0 * static_cast<double>(s.m * s.n * s.k) * static_cast<double>(state.iterations());
    state.counters["OP/s"] = benchmark::Counter(operations, benchmark::Counter::kIsRate);
    if (peak > 0) state.counters["of_peak"] = benchmark::Counter(operations / peak, benchmark::Counter::kIsRate);
}

} // namespace

int main(int argc, char** argv) {
    const std::pair<const char*, shape> shapes[] = {
        {"square", {64, 64, 64}},       {"square", {256, 256, 256}},   {"square", {1024, 1024, 1024}},
        {"bert_proj", {128, 768, 768}}, {"bert_up", {128, 3072, 768}}, {"bert_down", {128, 768, 3072}},
        {"gemv", {1, 768, 768}},        {"gemv", {1, 4096, 4096}},     {"pointwise", {12544, 16, 32}},
        {"pointwise", {12544, 96, 16}}, {"pointwise", {784, 192, 32}}, {"pointwise", {196, 384, 64}},
        {"pointwise", {49, 1280, 320}},
    };
    for (notch::isa isa : notch::available_isas())
        for (const auto& [name, s] : shapes) {
            const std::string label = std::string(notch::gemm_kernels_of(isa).name) + "/" + name + "/" +
                                      std::to_string(s.m) + "x" + std::to_string(s.n) + "x" + std::to_string(s.k);
            benchmark::RegisterBenchmark(label.c_str(), [isa, s = s](benchmark::State& state) { gemm(state, isa, s); });
        }
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::RunSpecifiedBenchmarks();
}
