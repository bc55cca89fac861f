// SPDX-License-Identifier: Apache-2.0
//
// Products and convolutions with weights of one and two bits, int32 out, on every vector instruction
// set of this CPU.
//   OP/s      2 * products / time
//   of_int8   the speed of the same shape with u8 activations and 8-bit weights (gemm, conv2d) on the
//             same instruction set, measured just before: 2 means twice as fast
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <notch/kernels/conv.hpp>
#include <notch/kernels/lowbit_conv.hpp>

namespace {

enum class kind { binary, ternary_weights, ternary, int2 };

using clock_type = std::chrono::steady_clock;

template <class F> double seconds(F&& f) {
    f();
    double best = 1e9;
    for (int r = 0; r < 7; ++r) {
        const auto begin = clock_type::now();
        int calls = 0;
        do {
            f();
            ++calls;
        } while (clock_type::now() - begin < std::chrono::milliseconds(4));
        best = std::min(best, std::chrono::duration<double>(clock_type::now() - begin).count() / calls);
    }
    return best;
}

std::vector<std::int8_t> weights(notch::index_t count, kind k) {
    std::vector<std::int8_t> w(static_cast<std::size_t>(count));
    std::uint32_t state = 1;
    for (auto& c : w) {
        state = state * 1664525u + 1013904223u;
        const int r = static_cast<int>(state >> 24);
        c = static_cast<std::int8_t>(k == kind::binary ? r % 2 * 2 - 1 : k == kind::int2 ? r % 4 - 2 : r % 3 - 1);
    }
    return w;
}

void report(benchmark::State& state, double operations, double int8_seconds) {
    const double calls = static_cast<double>(state.iterations());
    state.counters["OP/s"] = benchmark::Counter(operations * calls, benchmark::Counter::kIsRate);
    state.counters["of_int8"] = benchmark::Counter(int8_seconds * calls, benchmark::Counter::kIsRate);
}

void gemm(benchmark::State& state, notch::isa isa, kind f, notch::index_t m, notch::index_t n, notch::index_t k) {
    const auto w = weights(n * k, f);
    const notch::index_t words = notch::packed_bits_size(k) * (f == kind::ternary ? 2 : 1);
    std::vector<std::uint32_t> bits(static_cast<std::size_t>(m * words), 0x5a3c9671u);
    std::vector<std::uint8_t> x(static_cast<std::size_t>(m * k), 77);
    std::vector<std::int32_t> y(static_cast<std::size_t>(m * n));
    const notch::context ctx(isa);
    const notch::matrix_view<std::int32_t> yv(y.data(), m, n);
    const notch::matrix_view<const std::uint8_t> xv(x.data(), m, k);
    const auto p8 = notch::pack({w.data(), n, k});
    const auto ep8 = notch::make_epilogue(p8, notch::stage::accumulators{});
    const double int8 = seconds([&] { notch::gemm(xv, p8, ep8, yv, ctx); });
    if (f == kind::int2) {
        const auto p = notch::pack_int2_weights({w.data(), n, k});
        const auto ep = notch::make_epilogue(p, notch::stage::accumulators{});
        for (auto _ : state) {
            notch::gemm_int2(xv, p, ep, yv, ctx);
            benchmark::ClobberMemory();
        }
    } else {
        const auto p = f == kind::binary ? notch::pack_binary({w.data(), n, k}) : notch::pack_ternary({w.data(), n, k});
        const auto ep = notch::make_epilogue(p, notch::stage::accumulators{});
        const auto codes = f == kind::ternary ? notch::bit_codes::ternary : notch::bit_codes::binary;
        for (auto _ : state) {
            notch::gemm_bits(notch::matrix_view<const std::uint32_t>(bits.data(), m, words), codes, p, ep, yv, ctx);
            benchmark::ClobberMemory();
        }
    }
    report(state, 2.0 * static_cast<double>(m * n * k), int8);
}

void conv(benchmark::State& state, notch::isa isa, kind f, notch::index_t size, notch::index_t c, notch::index_t out) {
    const notch::window s = notch::window::square(3, 1, 1);
    const auto w = weights(out * 9 * c, f);
    const notch::index_t words = notch::packed_bits_size(c) * (f == kind::ternary ? 2 : 1);
    std::vector<std::uint32_t> bits(static_cast<std::size_t>(size * size * words), 0x5a3c9671u);
    std::vector<std::uint8_t> x(static_cast<std::size_t>(size * size * c), 77);
    std::vector<std::int32_t> y(static_cast<std::size_t>(size * size * out));
    std::vector<std::byte> memory(std::size_t{1} << 22);
    const notch::context ctx(isa, {}, memory);
    const notch::nhwc_view<std::int32_t> yv(y.data(), 1, size, size, out);
    const notch::nhwc_view<const std::uint8_t> xv(x.data(), 1, size, size, c);
    const auto p8 = notch::pack_conv2d(w, out, c, s);
    const auto ep8 = notch::make_epilogue(p8, notch::stage::accumulators{});
    const double int8 = seconds([&] { notch::conv2d(xv, p8, ep8, yv, ctx); });
    if (f == kind::int2) {
        const auto p = notch::pack_int2_conv2d(w, out, c, s);
        const auto ep = notch::make_epilogue(p, notch::stage::accumulators{});
        for (auto _ : state) {
            notch::conv2d_int2(xv, p, ep, yv, ctx);
            benchmark::ClobberMemory();
        }
    } else {
        const auto p =
            f == kind::binary ? notch::pack_binary_conv2d(w, out, c, s) : notch::pack_ternary_conv2d(w, out, c, s);
        const auto ep = notch::make_epilogue(p, notch::stage::accumulators{});
        const auto codes = f == kind::ternary ? notch::bit_codes::ternary : notch::bit_codes::binary;
        for (auto _ : state) {
            notch::conv2d_bits(notch::nhwc_view<const std::uint32_t>(bits.data(), 1, size, size, words), codes, p, ep,
                               yv, notch::bit_padding::zero, ctx);
            benchmark::ClobberMemory();
        }
    }
    report(state, 2.0 * static_cast<double>(size * size * out * 9 * c), int8);
}

} // namespace

int main(int argc, char** argv) {
    const std::pair<const char*, kind> kinds[] = {
        {"b1b1", kind::binary}, {"b1t2", kind::ternary_weights}, {"t2t2", kind::ternary}, {"u8w2", kind::int2}};
    const notch::index_t products[][3] = {{1, 4096, 4096}, {128, 768, 768}, {512, 1024, 1024}};
    const notch::index_t images[][3] = {{56, 64, 64}, {14, 256, 256}, {7, 512, 512}};
    for (notch::isa isa : notch::available_isas()) {
        if (isa == notch::isa::scalar) continue;
        for (const auto& [name, f] : kinds) {
            const std::string suffix = std::string(name) + "__" + notch::to_string(isa) + "/";
            for (const auto& d : products)
                benchmark::RegisterBenchmark(
                    ("gemm_" + suffix + std::to_string(d[0]) + "x" + std::to_string(d[1]) + "x" + std::to_string(d[2]))
                        .c_str(),
                    [isa, f = f, &d](benchmark::State& state) { gemm(state, isa, f, d[0], d[1], d[2]); });
            for (const auto& d : images)
                benchmark::RegisterBenchmark(
                    ("conv3x3_" + suffix + std::to_string(d[0]) + "x" + std::to_string(d[0]) + "x" +
                     std::to_string(d[1]) + "-" + std::to_string(d[2]))
                        .c_str(),
                    [isa, f = f, &d](benchmark::State& state) { conv(state, isa, f, d[0], d[1], d[2]); });
        }
    }
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::RunSpecifiedBenchmarks();
}
