// SPDX-License-Identifier: Apache-2.0
//
// Node classification with a graph convolutional network: fp32, INT8 after training, and trained with quantization.
// Fails if the frozen network gives another code than the training forward, or INT8 loses more than one point.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <random>

#include "../../mnist/training.hpp"
#include "../results.hpp"
#include "layers.hpp"

namespace gnn {
namespace {

constexpr notch::quant_params pixel{1.0f / 255.0f, 0};
template <int Bits> using per_channel_q = notch::fake_quant<notch::symmetric<Bits>, notch::per_channel<0>>;
using per_tensor_q = notch::fake_quant<notch::symmetric<8>, notch::per_tensor>;

activation input(const graph& g, bool codes, const context& ctx) {
    activation x;
    x.reshape(g.nodes, 1, 1, g.features);
    x.values = notch::buffer<float>(x.size());
    for (index_t i = 0; i < x.size(); ++i)
        x.values[i] = static_cast<float>(g.x[static_cast<std::size_t>(i)]) * pixel.scale;
    if (codes) notch::quantize_input(x, pixel, ctx);
    return x;
}

/// Top-1 in percent over the nodes that were not trained on.
double top1(const graph& g, const float* logits) {
    index_t right = 0, all = 0;
    for (index_t i = 0; i < g.nodes; ++i) {
        if (g.trained[static_cast<std::size_t>(i)]) continue;
        const float* z = logits + i * g.classes;
        right += std::max_element(z, z + g.classes) - z == g.labels[static_cast<std::size_t>(i)];
        ++all;
    }
    return 100.0 * static_cast<double>(right) / static_cast<double>(all);
}

/// Full-batch steps of Adam on the cross-entropy of the labelled nodes.
template <class Net> void train(Net& net, const graph& g, phase p, int steps, float rate) {
    const context ctx;
    const activation x = input(g, p == phase::quantized, ctx);
    const auto labelled = static_cast<float>(std::count(g.trained.begin(), g.trained.end(), 1));
    mnist::adam optimizer;
    notch::buffer<float> gradient;
    for (int s = 0; s < steps; ++s) {
        const activation& logits = net.forward(x, p, true, ctx);
        gradient = notch::buffer<float>(logits.size());
        for (index_t i = 0; i < g.nodes; ++i) {
            if (!g.trained[static_cast<std::size_t>(i)]) continue;
            const float* z = logits.values.data() + i * g.classes;
            const float top = *std::max_element(z, z + g.classes);
            float sum = 0;
            for (index_t k = 0; k < g.classes; ++k) sum += std::exp(z[k] - top);
            for (index_t k = 0; k < g.classes; ++k)
                gradient[i * g.classes + k] =
                    (std::exp(z[k] - top) / sum - (k == g.labels[static_cast<std::size_t>(i)] ? 1.0f : 0.0f)) /
                    labelled;
        }
        net.backward(gradient, ctx);
        optimizer.step(net, rate * 0.5f *
                                (1.0f + std::cos(3.14159265f * static_cast<float>(s) / static_cast<float>(steps))));
    }
}

struct report {
    std::vector<models::result> rows;
    std::int64_t different = 0;
    bool lost = false;
};

/// Freezes net, compares it with the training network on every instruction set, and notes its accuracy.
template <class Net>
void add_row(report& to, const char* model, const char* method, const char* bits, int weight_bits, Net& net,
             const graph& g, double fp32, double allowed) {
    const context ctx;
    const activation x = input(g, true, ctx);
    net.forward(x, phase::quantized, false, ctx);
    const frozen_gcn frozen(net, pixel);
    std::int64_t different = 0;
    for (notch::isa i : notch::available_isas()) {
        const frozen_gcn::outputs o = frozen.run(g, context(i));
        const auto count = [&](const auto& a, const auto& b) {
            for (std::size_t k = 0; k < a.size(); ++k) different += a[k] != b[static_cast<index_t>(k)];
        };
        count(o.a1, net.a1.codes);
        count(o.h, net.h.codes);
        count(o.a2, net.a2.codes);
        count(o.logits, net.logits.values);
    }
    const double accuracy = top1(g, net.logits.values.data());
    std::int64_t bytes = 0;
    for (const notch::layer_spec* s : {&frozen.lin1.spec(), &frozen.lin2.spec()})
        bytes += (s->weights.size() * weight_bits + 7) / 8 + 4 * (s->w_scales.size() + s->bias.size());
    std::printf("%-7s %-22s %-5s %6.2f %%   %lld codes differ\n", model, method, bits, accuracy,
                static_cast<long long>(different));
    to.different += different;
    to.lost = to.lost || accuracy < fp32 - allowed;
    to.rows.push_back({model, method, bits, "top1 %", accuracy, fp32, bytes, {}, {}, {}});
}

void experiment(report& to, const char* model, const graph& g, index_t hidden, int steps, unsigned seed,
                double allowed) {
    const context ctx;
    const edge_codes by_row(g, true), one_scale(g, false);
    gcn<per_channel_q<8>> net(g, by_row, hidden);
    std::mt19937 random(seed);
    const auto uniform = [&] { return static_cast<double>(random()) / 4294967296.0; };
    net.lin1.initialize(uniform);
    net.lin2.initialize(uniform);
    train(net, g, phase::fp32, steps, 0.01f);
    net.forward(input(g, false, ctx), phase::calibrate, false, ctx);
    const double fp32 = top1(g, net.logits.values.data());
    const index_t values = g.features * hidden + hidden + hidden * g.classes + g.classes;
    std::printf("%-7s %-22s %-5s %6.2f %%\n", model, "", "fp32", fp32);
    to.rows.push_back({model, "", "fp32", "top1 %", fp32, fp32, 4 * values, {}, {}, {}});

    gcn<per_tensor_q> tensor(g, one_scale, hidden);
    tensor.copy_from(net);
    add_row(to, model, "static, per tensor", "w8a8", 8, tensor, g, fp32, 100.0);
    add_row(to, model, "static, per channel", "w8a8", 8, net, g, fp32, allowed);
    gcn<per_channel_q<8>> qat8(g, by_row, hidden);
    qat8.copy_from(net);
    train(qat8, g, phase::quantized, steps / 4, 0.002f);
    add_row(to, model, "trained, per channel", "w8a8", 8, qat8, g, fp32, allowed);
    gcn<per_channel_q<4>> qat4(g, by_row, hidden);
    qat4.copy_from(net);
    add_row(to, model, "static, per channel", "w4a8", 4, qat4, g, fp32, 100.0);
    train(qat4, g, phase::quantized, steps / 4, 0.002f);
    add_row(to, model, "trained, per channel", "w4a8", 4, qat4, g, fp32, 100.0);
}

} // namespace
} // namespace gnn

int main(int argc, char** argv) {
    std::string data = NOTCH_DEMO_DATA, out;
    unsigned seed = 1;
    bool quick = false;
    CLI::App app("Node classification with a graph convolutional network in INT8");
    app.add_option("--data", data, "folder of the IDX files of the digits")->capture_default_str();
    app.add_option("--out", out, "file of the results");
    app.add_option("--seed", seed, "of the weights")->capture_default_str();
    app.add_flag("--quick", quick, "fewer nodes and steps");
    CLI11_PARSE(app, argc, argv);
    try {
        gnn::report r;
        const auto digits = mnist::read_digits(data, "train");
        gnn::experiment(r, "karate", gnn::karate_club(), 16, 100, seed, 3.2); // one node is 3.1 points
        gnn::experiment(r, "gcn", gnn::digits_graph(digits, quick ? 800 : 3000, 8, quick ? 200 : 600), 32,
                        quick ? 40 : 80, seed, 1.0);
        if (!out.empty()) models::write_results(out, r.rows);
        if (r.different == 0 && !r.lost) return 0;
        std::fprintf(stderr, "models_gnn: %lld codes differ%s\n", static_cast<long long>(r.different),
                     r.lost ? ", and INT8 lost more than a point" : "");
    } catch (const std::exception& e) {
        std::fprintf(stderr, "models_gnn: %s\n", e.what());
    }
    return 1;
}
