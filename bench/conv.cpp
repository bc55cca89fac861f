// SPDX-License-Identifier: Apache-2.0
//
// conv2d and depthwise, u8 x s8 -> u8, one NHWC image with a zero point and padding, on every
// instruction set of this CPU. Layers of ResNet-50 and MobileNet v2. Workspace is taken once.
//   OP/s      2 * multiplications / time (those with padding count)
//   of_peak   with VNNI: its share of the vpdpbusd peak, measured just before in the same run
//             (1 is all of it; like every rate it is printed with "/s")
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <notch/kernels/conv.hpp>
#include <notch/kernels/depthwise.hpp>

#include "peak.hpp"

namespace {

struct layer {
    const char* name;
    notch::index_t size, in, out, kernel, stride, pad; ///< out = 0: depthwise
    [[nodiscard]] notch::window window() const { return notch::window::square(kernel, stride, pad); }
};

template <class Packed> struct problem {
    const layer& l;
    const Packed& w;
    notch::index_t out, products; ///< channels; products of one output value
};

template <class Packed, class Workspace, class Run>
void measure(benchmark::State& state, notch::isa isa, const problem<Packed>& p, const Workspace& workspace_size,
             const Run& run) {
    const layer& l = p.l;
    const notch::index_t side = l.window().out_h(l.size);
    std::vector<std::uint8_t> x(static_cast<std::size_t>(l.size * l.size * l.in)),
        y(static_cast<std::size_t>(side * side * p.out));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<std::uint8_t>(i * 97);
    const std::vector<float> scales(static_cast<std::size_t>(p.out), 0.01f);
    const std::vector<std::int32_t> bias(static_cast<std::size_t>(p.out), 5);
    const notch::quant_params x_q{0.02f, 113}, y_q{0.5f, 7};
    const auto ep = notch::make_epilogue(p.w, notch::stage::bias{bias}, notch::stage::requantize{x_q, scales, y_q},
                                         notch::stage::relu{});
    std::vector<std::byte> memory(static_cast<std::size_t>(workspace_size(p.w, 1, l.size, l.size)));
    const notch::context ctx(isa, {}, memory);
    const notch::nhwc_view<const std::uint8_t> from(x.data(), 1, l.size, l.size, l.in);
    const notch::nhwc_view<std::uint8_t> to(y.data(), 1, side, side, p.out);
    const double peak = vnni_peak(isa);
    for (auto _ : state) {
        run(from, p.w, ep, to, ctx);
        benchmark::DoNotOptimize(y.data());
        benchmark::ClobberMemory();
    }
    const double operations =
        2.0 * static_cast<double>(side * side * p.out * p.products) * static_cast<double>(state.iterations());
    state.counters["OP/s"] = benchmark::Counter(operations, benchmark::Counter::kIsRate);
    if (peak > 0) state.counters["of_peak"] = benchmark::Counter(operations / peak, benchmark::Counter::kIsRate);
}

void run(benchmark::State& state, notch::isa isa, const layer& l) {
    const bool depthwise = l.out == 0;
    const notch::index_t products = l.kernel * l.kernel * (depthwise ? 1 : l.in), out = depthwise ? l.in : l.out;
    std::vector<std::int8_t> codes(static_cast<std::size_t>(out * products));
    for (std::size_t i = 0; i < codes.size(); ++i)
        codes[i] = static_cast<std::int8_t>(static_cast<int>(i * 89 % 255) - 127);
    if (depthwise) {
        const notch::packed_depthwise w = notch::pack_depthwise(codes, out, l.window());
        measure(
            state, isa, problem<notch::packed_depthwise>{l, w, out, products},
            [](auto&&... a) { return notch::depthwise_workspace_size(a...); },
            [](auto&&... a) { notch::depthwise(a...); });
    } else {
        const notch::packed_weights w = notch::pack_conv2d(codes, out, l.in, l.window());
        measure(
            state, isa, problem<notch::packed_weights>{l, w, out, products},
            [](auto&&... a) { return notch::conv2d_workspace_size(a...); }, [](auto&&... a) { notch::conv2d(a...); });
    }
}

} // namespace

int main(int argc, char** argv) {
    static const layer layers[] = {
        {"resnet_stem", 224, 3, 64, 7, 2, 3},    {"resnet", 56, 64, 64, 3, 1, 1},
        {"resnet", 28, 128, 128, 3, 1, 1},       {"resnet", 14, 256, 256, 3, 1, 1},
        {"resnet", 7, 512, 512, 3, 1, 1},        {"mobilenet_stem", 224, 3, 32, 3, 2, 1},
        {"mobilenet_1x1", 28, 32, 192, 1, 1, 0}, {"mobilenet", 112, 32, 0, 3, 1, 1},
        {"mobilenet", 56, 144, 0, 3, 2, 1},      {"mobilenet", 14, 384, 0, 3, 1, 1},
        {"mobilenet", 7, 960, 0, 3, 1, 1},
    };
    for (notch::isa isa : notch::available_isas())
        for (const layer& l : layers) {
            const std::string kernel = l.out ? notch::gemm_kernels_of(isa).name
                                             : std::string("depthwise_u8s8__") + notch::to_string(isa);
            std::string label = (l.out ? "conv2d/" : "") + kernel + "/" + l.name + "/" + std::to_string(l.size) + "x" +
                                std::to_string(l.size) + "x" + std::to_string(l.in) + "_k" + std::to_string(l.kernel) +
                                "s" + std::to_string(l.stride);
            if (l.out) label += "_to" + std::to_string(l.out);
            benchmark::RegisterBenchmark(label.c_str(), [isa, &l](benchmark::State& state) { run(state, isa, l); });
        }
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::RunSpecifiedBenchmarks();
}
