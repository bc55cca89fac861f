// SPDX-License-Identifier: Apache-2.0
//
// A small vision transformer on handwritten digits: trained in fp32, quantized after training, and trained with
// quantization. Fails if the frozen network gives another code than the training forward, or INT8 loses more than one
// point.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <random>
#include <string>
#include <vector>

#include "../../mnist/training.hpp"
#include "../results.hpp"
#include "../timing.hpp"
#include "network.hpp"

namespace vit {
namespace {

template <int Bits> using per_channel_q = notch::fake_quant<notch::symmetric<Bits>, notch::per_channel<0>>;
using per_tensor_q = notch::fake_quant<notch::symmetric<8>, notch::per_tensor>;

using models::median_ms, models::report;

/// Images first ... first + n, as they are; as codes if wanted.
void images(const mnist::dataset& d, index_t first, index_t n, bool codes, activation& x) {
    mnist::load_batch(d, mnist::in_order(d.count), first, n, x, mnist::not_augmented);
    if (codes) notch::quantize_input(x, mnist::pixel_params);
}

/// Top-1 in percent; f(x, logits) sees every batch.
template <class Net, class F> double evaluate(Net& net, const mnist::dataset& d, phase p, const F& f) {
    activation x;
    index_t right = 0;
    for (index_t first = 0; first < d.count; first += 100) {
        images(d, first, std::min<index_t>(100, d.count - first), p == phase::quantized, x);
        const activation& logits = net.forward(x, p, false, context());
        f(x, logits);
        for (index_t i = 0; i < logits.n; ++i) {
            const float* z = logits.values.data() + i * classes;
            right += std::max_element(z, z + classes) - z == d.labels[static_cast<std::size_t>(first + i)];
        }
    }
    return 100.0 * static_cast<double>(right) / static_cast<double>(d.count);
}

/// Freezes net, compares every tensor with the training network's on every instruction set, and notes its accuracy.
template <class Weights>
void add_row(report& to, const char* method, const char* bits, network<Weights>& net, const mnist::dataset& test,
             double fp32, double allowed) {
    frozen_network frozen(net, mnist::pixel_params);
    std::int64_t different = 0;
    std::vector<float> out;
    const double accuracy = evaluate(net, test, phase::quantized, [&](const activation& x, const activation& logits) {
        std::vector<const activation*> want;
        net.activations([&](const activation& t) { want.push_back(&t); });
        out.resize(static_cast<std::size_t>(logits.size()));
        for (notch::isa i : notch::available_isas()) {
            std::size_t at = 0;
            frozen.run(x, out, context(i), [&](std::span<const std::uint8_t> codes) {
                const buffer<std::uint8_t>& w = want[at++]->codes;
                different += static_cast<index_t>(codes.size()) != w.size();
                for (index_t k = 0; k < std::min<index_t>(w.size(), static_cast<index_t>(codes.size())); ++k)
                    different += codes[static_cast<std::size_t>(k)] != w[k];
            });
            different += at != want.size();
            for (std::size_t k = 0; k < out.size(); ++k) different += out[k] != logits.values[static_cast<index_t>(k)];
        }
    });
    activation one;
    images(test, 0, 1, true, one);
    const double ms = median_ms([&] { frozen.run(one, std::span(out).first(classes), context(), [](auto&&) {}); });
    std::printf("%-20s %-5s %6.2f %%  %7.4f ms  %7lld bytes  %lld codes differ\n", method, bits, accuracy, ms,
                static_cast<long long>(frozen.bytes()), static_cast<long long>(different));
    std::fflush(stdout);
    to.different += different;
    to.lost = to.lost || accuracy < fp32 - allowed;
    to.rows.push_back({"vit", method, bits, "top1 %", accuracy, fp32, frozen.bytes(), ms, {}, {}});
}

/// Signal to noise of the stream behind the positions and behind each block, quantized against fp32, in dB.
template <class Weights> void print_stream(network<Weights>& net, const mnist::dataset& test) {
    activation x;
    const auto stream = [&] {
        std::vector<buffer<float>> all;
        buffer<float> scratch;
        const auto take = [&](const activation& a) {
            const std::span<const float> v = notch::real_values(a, scratch, context());
            all.emplace_back(a.size());
            std::copy(v.begin(), v.end(), all.back().begin());
        };
        take(net.x0);
        for (const auto& b : net.blocks) take(b->x2);
        return all;
    };
    const index_t n = std::min<index_t>(200, test.count);
    images(test, 0, n, false, x);
    net.forward(x, phase::fp32, false, context());
    const auto want = stream();
    images(test, 0, n, true, x);
    net.forward(x, phase::quantized, false, context());
    const auto got = stream();
    std::printf("stream, signal to noise:");
    for (std::size_t s = 0; s < want.size(); ++s) {
        double signal = 0, noise = 0;
        for (index_t i = 0; i < want[s].size(); ++i) {
            const double v = static_cast<double>(want[s][i]), e = static_cast<double>(got[s][i]) - v;
            signal += v * v;
            noise += e * e;
        }
        std::printf(" %.1f", 10.0 * std::log10(signal / noise));
    }
    std::printf(" dB\n");
}

struct plan {
    shape form;
    int epochs, qat_epochs;
    double allowed; ///< points that INT8 may lose
};

void experiment(report& to, const mnist::dataset& data, const mnist::dataset& test, const plan& p, unsigned seed) {
    network<per_channel_q<8>> net(p.form);
    std::mt19937 random(seed);
    net.initialize([&] { return static_cast<double>(random()) / 4294967296.0; });
    mnist::train(net, data, phase::fp32, p.epochs, 0.002f, seed, "fp32");
    mnist::calibrate(net, data);
    const double fp32 = evaluate(net, test, phase::fp32, [](auto&&...) {});
    activation one;
    images(test, 0, 1, false, one);
    const double ms = median_ms([&] { net.forward(one, phase::fp32, false, context()); });
    std::int64_t bytes = 0;
    net.layers([&](const char*, auto& l) {
        l.parameters([&](const auto& v) { bytes += 4 * static_cast<std::int64_t>(v.value.size()); });
    });
    std::printf("%-20s %-5s %6.2f %%  %7.4f ms  %7lld bytes\n", "", "fp32", fp32, ms, static_cast<long long>(bytes));
    std::fflush(stdout);
    to.rows.push_back({"vit", "", "fp32", "top1 %", fp32, fp32, bytes, ms, {}, {}});

    network<per_tensor_q> tensor(p.form);
    mnist::copy_network(tensor, net);
    add_row(to, "static, per tensor", "w8a8", tensor, test, fp32, 100.0);
    add_row(to, "static, per channel", "w8a8", net, test, fp32, p.allowed);
    print_stream(net, test);
    network<per_channel_q<4>> four(p.form);
    mnist::copy_network(four, net);
    add_row(to, "static, per channel", "w4a8", four, test, fp32, 100.0);
    mnist::train(four, data, phase::quantized, p.qat_epochs, 0.0005f, seed + 1, "w4a8");
    add_row(to, "trained, per channel", "w4a8", four, test, fp32, 100.0);
    network<per_channel_q<2>> two(p.form);
    mnist::copy_network(two, net);
    add_row(to, "static, per channel", "w2a8", two, test, fp32, 100.0);
    mnist::train(two, data, phase::quantized, p.qat_epochs, 0.001f, seed + 1, "w2a8");
    add_row(to, "trained, per channel", "w2a8", two, test, fp32, 100.0);
    mnist::train(net, data, phase::quantized, p.qat_epochs, 0.0003f, seed + 1, "w8a8");
    add_row(to, "trained, per channel", "w8a8", net, test, fp32, p.allowed);
}

} // namespace
} // namespace vit

int main(int argc, char** argv) {
    std::string data = NOTCH_DEMO_DATA, out;
    unsigned seed = 1;
    bool quick = false;
    vit::plan p{{}, 40, 8, 1.0};
    CLI::App app("A small vision transformer in INT8: handwritten digits");
    app.add_option("--data", data, "folder of the IDX files of the digits")->capture_default_str();
    app.add_option("--out", out, "file of the results");
    app.add_option("--seed", seed, "of the weights")->capture_default_str();
    app.add_option("--patch", p.form.patch, "side of a patch")->check(CLI::IsMember({4, 7, 14}))->capture_default_str();
    app.add_option("--blocks", p.form.blocks, "")->check(CLI::Range(1, 12))->capture_default_str();
    app.add_option("--epochs", p.epochs, "of training in fp32")->check(CLI::Range(1, 1000))->capture_default_str();
    app.add_option("--qat-epochs", p.qat_epochs, "with quantization")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    app.add_flag("--quick", quick, "fewer digits and epochs");
    CLI11_PARSE(app, argc, argv);
    try {
        auto train = mnist::read_digits(data, "train"), test = mnist::read_digits(data, "test");
        if (quick) {
            train.count = std::min<notch::index_t>(train.count, 4096);
            test.count = std::min<notch::index_t>(test.count, 500);
            p.epochs = 6;
            p.qat_epochs = 1;
            p.allowed = 3.0;
        }
        vit::report r;
        vit::experiment(r, train, test, p, seed);
        if (!out.empty()) models::write_results(out, r.rows);
        if (r.different == 0 && !r.lost) return 0;
        std::fprintf(stderr, "models_vit: %lld codes differ%s\n", static_cast<long long>(r.different),
                     r.lost ? ", and INT8 lost too much" : "");
    } catch (const std::exception& e) {
        std::fprintf(stderr, "models_vit: %s\n", e.what());
    }
    return 1;
}
