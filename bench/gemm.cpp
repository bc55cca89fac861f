// SPDX-License-Identifier: Apache-2.0
//
// gemm u8 x s8 -> u8 with per-channel requantization and bias, on every instruction set. The counter
// GOP/s is 2 * M * N * K / time; with VNNI, of_peak is its share of the vpdpbusd peak measured in the
// same run just before.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <notch/kernels/gemm.hpp>

#if NOTCH_X86_64
NOTCH_TARGET_BEGIN_AVX512VNNI
/// Twelve independent chains of vpdpbusd: 64 products each.
static __attribute__((noinline)) void spin_vnni(long rounds) {
    __asm__ volatile(
        "1:\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm0\n vpdpbusd %%zmm30, %%zmm31, %%zmm1\n vpdpbusd %%zmm30, %%zmm31, %%zmm2\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm3\n vpdpbusd %%zmm30, %%zmm31, %%zmm4\n vpdpbusd %%zmm30, %%zmm31, %%zmm5\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm6\n vpdpbusd %%zmm30, %%zmm31, %%zmm7\n vpdpbusd %%zmm30, %%zmm31, %%zmm8\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm9\n vpdpbusd %%zmm30, %%zmm31, %%zmm10\n vpdpbusd %%zmm30, %%zmm31, %%zmm11\n"
        "dec %0\n jnz 1b\n"
        : "+r"(rounds)
        :
        : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "cc");
}
NOTCH_TARGET_END
#endif

namespace {

double vnni_peak() {
#if NOTCH_X86_64
    using clock = std::chrono::steady_clock;
    double best = 0;
    for (int r = 0; r < 20; ++r) {
        const auto begin = clock::now();
        spin_vnni(200000);
        const double s = std::chrono::duration<double>(clock::now() - begin).count();
        best = std::max(best, 200000.0 * 12 * 64 * 2 / s);
    }
    return best;
#else
    return 0;
#endif
}

void gemm(benchmark::State& state, notch::isa isa, notch::index_t m, notch::index_t n, notch::index_t k) {
    std::vector<std::uint8_t> x(static_cast<std::size_t>(m * k)), y(static_cast<std::size_t>(m * n));
    std::vector<std::int8_t> w(static_cast<std::size_t>(n * k));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<std::uint8_t>(i * 97);
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<std::int8_t>(static_cast<int>(i * 89 % 255) - 127);
    const std::vector<float> scales(static_cast<std::size_t>(n), 0.01f);
    const std::vector<std::int32_t> bias(static_cast<std::size_t>(n), 5);
    const notch::packed_weights p = notch::pack({w.data(), n, k});
    const auto ep = notch::make_epilogue(p, notch::stage::bias{bias},
                                         notch::stage::requantize{notch::quant_params{0.02f, 0}, scales, notch::quant_params{0.5f, 7}});
    const notch::context ctx(isa);
    const double peak = isa == notch::isa::avx512vnni ? vnni_peak() : 0;
    for (auto _ : state) {
        notch::gemm(notch::matrix_view<const std::uint8_t>(x.data(), m, k), p, ep, notch::matrix_view<std::uint8_t>(y.data(), m, n), ctx);
        benchmark::DoNotOptimize(y.data());
    }
    const double operations = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) * static_cast<double>(state.iterations());
    state.counters["OP/s"] = benchmark::Counter(operations, benchmark::Counter::kIsRate);
    if (peak > 0) state.counters["of_peak"] = benchmark::Counter(operations / peak, benchmark::Counter::kIsRate);
}

} // namespace

int main(int argc, char** argv) {
    struct shape {
        notch::index_t m, n, k;
    };
    for (notch::isa isa : notch::available_isas())
        for (shape s : {shape{64, 64, 64}, {256, 256, 256}, {1024, 1024, 1024}, {128, 768, 768}, {128, 3072, 768}, {1, 768, 768},
                        {12544, 16, 32}, {784, 192, 32}, {196, 384, 64}, {49, 1280, 320}})
            benchmark::RegisterBenchmark((std::string(notch::kernels(isa).gemm_u8s8_name) + "/" + std::to_string(s.m) + "x" +
                                          std::to_string(s.n) + "x" + std::to_string(s.k)).c_str(),
                                         [=](benchmark::State& state) { gemm(state, isa, s.m, s.n, s.k); });
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
}
