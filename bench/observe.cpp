// SPDX-License-Identifier: Apache-2.0
//
// Observers, at the flags of this file (the open tier): over one span, and per channel with channels last.
// Sizes that fit L1 and L2 and one that fits neither. bytes_per_second is what is read; of_read is that over
// the bandwidth of loads alone, with the widest vectors of the CPU, in a working set of the same size. The
// histogram writes too: it cannot be faster than one count a cycle or two.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "bandwidth.hpp"

#include <notch/observe/abs_max.hpp>
#include <notch/observe/histogram.hpp>
#include <notch/observe/mean_sigma.hpp>
#include <notch/observe/min_max.hpp>

namespace {

using notch::index_t;

/// Values around 0 with tails, or behind a ReLU: half of them 0, which the histogram counts in one bin.
std::vector<float> values(index_t n, bool relu) {
    std::vector<float> x(static_cast<std::size_t>(n));
    std::uint32_t state = 1;
    for (float& v : x) {
        state = state * 1664525u + 1013904223u;
        const float t = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
        v = t / (1.05f - std::fabs(t));
        if (relu && v < 0.0f) v = 0.0f;
    }
    return x;
}

template <class F> void loop(benchmark::State& state, index_t n, const F& f) {
    const auto bytes = static_cast<std::size_t>(n) * sizeof(float);
    const double read = bandwidth::read_bandwidth(bytes);
    for (auto _ : state) {
        f();
        benchmark::ClobberMemory();
    }
    const auto processed = static_cast<double>(state.iterations()) * static_cast<double>(bytes);
    state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * n);
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(bytes));
    state.counters["of_read"] = benchmark::Counter(processed / read, benchmark::Counter::kIsRate);
}

template <class Observer, bool Relu = false> void whole(benchmark::State& state, index_t n) {
    const std::vector<float> x = values(n, Relu);
    Observer o;
    auto* seen = &o; // from here on anybody may read it
    benchmark::DoNotOptimize(seen);
    loop(state, n, [&] { o.observe(x); });
}

template <class Observer> void channels_last(benchmark::State& state, index_t n) {
    const std::vector<float> x = values(n, false);
    notch::channel_observer<Observer> o(64);
    auto* seen = &o;
    benchmark::DoNotOptimize(seen);
    loop(state, n, [&] { o.observe(x, {n / 64, 64, 1}); });
}

} // namespace

int main(int argc, char** argv) {
    using function = void (*)(benchmark::State&, index_t);
    const std::pair<const char*, function> observers[] = {
        {"min_max", whole<notch::min_max>},
        {"abs_max", whole<notch::abs_max>},
        {"mean_sigma", whole<notch::mean_sigma>},
        {"histogram", whole<notch::histogram>},
        {"histogram_relu", whole<notch::histogram, true>},
        {"min_max_channels", channels_last<notch::min_max>},
        {"mean_sigma_channels", channels_last<notch::mean_sigma>},
        {"histogram_channels", channels_last<notch::histogram>},
    };
    for (const auto& [name, f] : observers)
        for (index_t n : {index_t{4096}, index_t{131072}, index_t{4194304}})
            benchmark::RegisterBenchmark((std::string(name) + "/" + std::to_string(n)).c_str(),
                                         [n, f = f](benchmark::State& state) { f(state, n); });
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::RunSpecifiedBenchmarks();
}
