// SPDX-License-Identifier: Apache-2.0
//
// The elementwise kernels, on every instruction set of this CPU: quantize, fake-quantize (codes,
// values and mask in one pass) and its backward pass, dequantize, requantize, the range of values, add and
// pooling. Sizes that fit L1, L2 and neither. items_per_second counts elements, bytes_per_second what is read
// and written. of_read is bytes_per_second over the bandwidth of loads alone in a working set of the same
// size, of_copy over that of the best copy; both are measured in this process right before the loop.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include "bandwidth.hpp"

#include <notch/kernels/gemm.hpp>
#include <notch/kernels/quantize.hpp>

namespace {

using notch::index_t;
const notch::quant_params params{0.02f, 128};

/// What all benchmarks here work on.
struct data {
    std::vector<float> x, values;
    std::vector<std::uint8_t> codes, mask;
    explicit data(std::size_t n) : x(n), values(n), codes(n), mask(n) {
        for (std::size_t i = 0; i < n; ++i) {
            x[i] = static_cast<float>(i % 701) * 0.01f - 3.5f; // some values are clipped
            codes[i] = static_cast<std::uint8_t>(i * 97);
        }
    }
};

template <class F> void loop(benchmark::State& state, index_t n, index_t bytes_each, const F& f) {
    const auto bytes = static_cast<std::size_t>(n * bytes_each);
    const double read = bandwidth::read_bandwidth(bytes), copy = bandwidth::copy_bandwidth(bytes);
    for (auto _ : state) {
        f();
        benchmark::ClobberMemory();
    }
    state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * n);
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * n * bytes_each);
    const auto processed = static_cast<double>(state.iterations()) * static_cast<double>(bytes);
    state.counters["of_read"] = benchmark::Counter(processed / read, benchmark::Counter::kIsRate);
    state.counters["of_copy"] = benchmark::Counter(processed / copy, benchmark::Counter::kIsRate);
}

void quantize(benchmark::State& state, notch::isa isa, index_t n) {
    data d(static_cast<std::size_t>(n));
    loop(state, n, 5, [&, ctx = notch::context(isa)] { notch::quantize<notch::affine<8>>(d.x, params, d.codes, ctx); });
}

void fake_quantize(benchmark::State& state, notch::isa isa, index_t n) {
    data d(static_cast<std::size_t>(n));
    notch::quantize_args q; // what notch/qat/fake_quant.hpp passes for each run of equal parameters
    q.x = d.x.data();
    q.n = n;
    q.params = params;
    q.range = {0, 255};
    q.codes = d.codes.data();
    q.values = d.values.data();
    q.mask = d.mask.data();
    loop(state, n, 10, [&, k = &notch::detail::kernels_for(notch::detail::quantize_tables, isa)] { k->quantize(q); });
}

void dequantize(benchmark::State& state, notch::isa isa, index_t n) {
    data d(static_cast<std::size_t>(n));
    loop(state, n, 5,
         [&, ctx = notch::context(isa)] { notch::dequantize<std::uint8_t>(d.codes, params, d.values, ctx); });
}

void requantize(benchmark::State& state, notch::isa isa, index_t n) {
    const index_t cols = 64, rows = n / cols;
    data d(static_cast<std::size_t>(n));
    std::vector<std::int32_t> acc(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < acc.size(); ++i) acc[i] = static_cast<std::int32_t>(i * 7919 % 40001) - 20000;
    const std::vector<std::int8_t> weights(static_cast<std::size_t>(cols) * 64, 1); // the epilogue needs some
    const std::vector<float> scales(static_cast<std::size_t>(cols), 0.01f);
    const auto w = notch::pack({weights.data(), cols, 64});
    const auto ep = notch::make_epilogue(w, notch::stage::requantize{params, scales, params});
    loop(state, n, 5, [&, ctx = notch::context(isa)] {
        notch::requantize(notch::matrix_view<const std::int32_t>(acc.data(), rows, cols), ep,
                          notch::matrix_view<std::uint8_t>(d.codes.data(), rows, cols), {}, ctx);
    });
}

void value_range(benchmark::State& state, notch::isa isa, index_t n) {
    data d(static_cast<std::size_t>(n));
    loop(state, n, 4, [&, ctx = notch::context(isa)] { benchmark::DoNotOptimize(notch::value_range(d.x, ctx)); });
}

} // namespace

int main(int argc, char** argv) {
    using function = void (*)(benchmark::State&, notch::isa, index_t);
    const std::pair<const char*, function> kernels[] = {
        {"quantize", quantize},     {"fake_quantize", fake_quantize}, {"dequantize", dequantize},
        {"requantize", requantize}, {"value_range", value_range},
    };
    for (notch::isa isa : notch::available_isas())
        for (const auto& [name, f] : kernels)
            for (index_t n : {index_t{2048}, index_t{32768}, index_t{4194304}})
                benchmark::RegisterBenchmark(
                    (std::string(name) + "__" + to_string(isa) + "/" + std::to_string(n)).c_str(),
                    [isa, n, f = f](benchmark::State& state) { f(state, isa, n); });
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::RunSpecifiedBenchmarks();
}
