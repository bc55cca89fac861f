// SPDX-License-Identifier: Apache-2.0
#include "timing.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>

namespace bench {
namespace {

/// Collects the time of each repetition; the names of the benchmarks are the candidates' numbers.
class collector final : public benchmark::BenchmarkReporter {
public:
    explicit collector(std::size_t n) : times(n) {}
    bool ReportContext(const Context&) override { return true; }
    void ReportRuns(const std::vector<Run>& runs) override {
        for (const Run& r : runs) {
            if (r.run_type != Run::RT_Iteration || r.iterations == 0) continue;
            times[std::stoul(r.run_name.function_name)].push_back(r.real_accumulated_time /
                                                                  static_cast<double>(r.iterations));
        }
    }
    std::vector<std::vector<double>> times;
};

void run(benchmark::State& state, const candidate& c) {
    using clock = std::chrono::steady_clock;
    if (!c.before) {
        // The caches hold what another candidate left, and the threads of its library may still spin.
        const auto start = clock::now();
        do c.run();
        while (clock::now() - start < std::chrono::milliseconds(2));
        for (auto _ : state) {
            c.run();
            benchmark::ClobberMemory();
        }
        return;
    }
    for (auto _ : state) {
        c.before();
        const auto begin = clock::now();
        c.run();
        benchmark::ClobberMemory();
        state.SetIterationTime(std::chrono::duration<double>(clock::now() - begin).count());
    }
}

} // namespace

std::vector<timing> measure(const std::vector<candidate>& candidates, int repetitions, double seconds) {
    static const bool initialized = [] {
        static char name[] = "bench", interleave[] = "--benchmark_enable_random_interleaving=true";
        char* argv[] = {name, interleave, nullptr};
        int argc = 2;
        benchmark::Initialize(&argc, argv);
        return true;
    }();
    (void)initialized;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
        auto* b = benchmark::RegisterBenchmark(std::to_string(i).c_str(),
                                               [&c = candidates[i]](benchmark::State& state) { run(state, c); });
        b->Repetitions(repetitions);
        if (candidates[i].before)
            b->UseManualTime()->Iterations(10); // what comes before may take long
        else
            b->UseRealTime()->MinTime(seconds);
    }
    collector c(candidates.size());
    benchmark::RunSpecifiedBenchmarks(&c);
    benchmark::ClearRegisteredBenchmarks();
    std::vector<timing> all;
    for (std::vector<double>& times : c.times) {
        std::sort(times.begin(), times.end());
        all.push_back(times.empty() ? timing{} : timing{times.front(), times[times.size() / 2]});
    }
    return all;
}

} // namespace bench
