// SPDX-License-Identifier: Apache-2.0
//
// Products with group-wise weights (groups of 32 and 128), on every vector instruction set of this CPU.
//   OP/s           2 * M * N * K / time
//   bytes/s        codes, scales and zero_points read (M = 1)
//   of_bandwidth   its share of the read bandwidth of the level that holds them, measured just before
//   of_peak        the share of the vpdpbusd peak (M > 1, 8-bit activations, VNNI)
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include <notch/kernels/weight_only.hpp>

#include "bandwidth.hpp"
#include "peak.hpp"

namespace {

enum class form { real, codes, dynamic };

struct setting {
    notch::index_t m, n, k, group;
    int bits;
    notch::scale_format format;
    form f;
};

void run(benchmark::State& state, notch::isa isa, setting s) {
    std::vector<std::int8_t> codes(static_cast<std::size_t>(s.n * s.k)), xc(static_cast<std::size_t>(s.m * s.k));
    const int range = s.bits == 4 ? 16 : 256;
    for (std::size_t i = 0; i < codes.size(); ++i)
        codes[i] = static_cast<std::int8_t>(static_cast<int>(i * 89 % static_cast<std::size_t>(range)) - range / 2);
    for (std::size_t i = 0; i < xc.size(); ++i) xc[i] = static_cast<std::int8_t>(i * 37 % 255);
    const std::vector<float> scales(static_cast<std::size_t>(s.n * ((s.k + s.group - 1) / s.group)), 0.01f);
    std::vector<float> x(xc.begin(), xc.end()), y(static_cast<std::size_t>(s.m * s.n)), x_scale{0.02f};
    const auto w = notch::pack_groups({codes.data(), s.n, s.k}, s.bits, s.group, scales, {}, s.format);
    std::vector<std::byte> memory(static_cast<std::size_t>(notch::gemm_group_a8_workspace_size(w, s.m)));
    const notch::context ctx(isa, {}, memory);
    const double level = s.m == 1 ? bandwidth::read_bandwidth(static_cast<std::size_t>(w.bytes())) : 0;
    const double peak = s.m > 1 && s.f != form::real ? vnni_peak(isa) : 0;
    const notch::matrix_view<float> yv(y.data(), s.m, s.n);
    for (auto _ : state) {
        if (s.f == form::real)
            notch::gemm_weight_only(notch::matrix_view<const float>(x.data(), s.m, s.k), w, yv, {}, ctx);
        else if (s.f == form::codes)
            notch::gemm_group_a8(notch::matrix_view<const std::int8_t>(xc.data(), s.m, s.k), x_scale, w, yv, {}, ctx);
        else
            notch::gemm_group_a8_dynamic(notch::matrix_view<const float>(x.data(), s.m, s.k), w, yv, {}, ctx);
        benchmark::DoNotOptimize(y.data());
        benchmark::ClobberMemory();
    }
    const double calls = static_cast<double>(state.iterations());
    const double operations = 2.0 * static_cast<double>(s.m * s.n * s.k) * calls,
                 bytes = static_cast<double>(w.bytes()) * calls;
    state.counters["OP/s"] = benchmark::Counter(operations, benchmark::Counter::kIsRate);
    if (s.m == 1) state.counters["bytes/s"] = benchmark::Counter(bytes, benchmark::Counter::kIsRate);
    if (level > 0) state.counters["of_bandwidth"] = benchmark::Counter(bytes / level, benchmark::Counter::kIsRate);
    if (peak > 0) state.counters["of_peak"] = benchmark::Counter(operations / peak, benchmark::Counter::kIsRate);
}

} // namespace

int main(int argc, char** argv) {
    const notch::index_t shapes[][3] = {{1, 768, 768}, {1, 4096, 4096}, {8, 4096, 4096}, {128, 768, 768}};
    const std::pair<const char*, form> forms[] = {
        {"f32", form::real}, {"a8", form::codes}, {"a8_dynamic", form::dynamic}};
    for (notch::isa isa : notch::available_isas()) {
        if (isa == notch::isa::scalar) continue;
        for (const auto& [name, f] : forms)
            for (int bits : {4, 8})
                for (const auto& d : shapes)
                    for (notch::index_t group : {32, 128})
                        for (notch::scale_format format : {notch::scale_format::f32, notch::scale_format::f16}) {
                            if (d[0] > 1 && (group == 32 || format == notch::scale_format::f16)) continue;
                            const setting s{d[0], d[1], d[2], group, bits, format, f};
                            const std::string label = std::string("group_w") + std::to_string(bits) + "_" + name +
                                                      "__" + notch::to_string(isa) + "/" + std::to_string(d[0]) + "x" +
                                                      std::to_string(d[1]) + "x" + std::to_string(d[2]) + "/g" +
                                                      std::to_string(group) +
                                                      (format == notch::scale_format::f32 ? "/scale32" : "/scale16");
                            benchmark::RegisterBenchmark(label.c_str(),
                                                         [isa, s](benchmark::State& state) { run(state, isa, s); });
                        }
    }
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::RunSpecifiedBenchmarks();
}
