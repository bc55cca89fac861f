// SPDX-License-Identifier: Apache-2.0
//
// Node classification with a graph convolutional network and with GraphSAGE: fp32, INT8 after training, trained with
// quantization, and trained by Degree-Quant. Fails if a frozen network gives another code than the training forward, or
// if INT8 loses more than one point.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <random>
#include <string>
#include <vector>

#include "../../mnist/training.hpp"
#include "../results.hpp"
#include "../timing.hpp"
#include "layers.hpp"

namespace gnn {
namespace {

constexpr quant_params pixel{1.0f / 255.0f, 0};
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

/// Of the mean cross-entropy of the labelled nodes.
void loss_gradient(const graph& g, const activation& logits, notch::buffer<float>& gradient) {
    const auto labelled = static_cast<float>(std::count(g.trained.begin(), g.trained.end(), 1));
    gradient.resize_discard(logits.size());
    std::fill(gradient.begin(), gradient.end(), 0.0f);
    for (index_t i = 0; i < g.nodes; ++i) {
        if (!g.trained[static_cast<std::size_t>(i)]) continue;
        const float* z = logits.values.data() + i * g.classes;
        const float top = *std::max_element(z, z + g.classes);
        float sum = 0;
        for (index_t k = 0; k < g.classes; ++k) sum += std::exp(z[k] - top);
        for (index_t k = 0; k < g.classes; ++k)
            gradient[i * g.classes + k] =
                (std::exp(z[k] - top) / sum - (k == g.labels[static_cast<std::size_t>(i)] ? 1.0f : 0.0f)) / labelled;
    }
}

/// Full-batch steps of Adam; with masks, those of Degree-Quant.
template <class Net>
void train(Net& net, const graph& g, phase p, int steps, float rate, protective_masks* masks = nullptr) {
    const context ctx;
    const activation x = input(g, p == phase::quantized && !masks, ctx);
    mnist::adam optimizer;
    notch::buffer<float> gradient;
    const auto loss = [&](const activation& logits) {
        loss_gradient(g, logits, gradient);
        return gradient.span();
    };
    for (int s = 0; s < steps; ++s) {
        if (masks)
            net.protected_step(x, pixel, masks->draw(), loss, ctx);
        else
            net.backward(loss(net.forward(x, p, true, ctx)), ctx);
        const float turn = 3.14159265f * static_cast<float>(s) / static_cast<float>(steps);
        optimizer.step(net, rate * 0.5f * (1.0f + std::cos(turn)));
    }
}

/// The median of some runs of each of two functions, taken in turns, in milliseconds; nothing for 0 rounds.
template <class A, class B>
std::pair<std::optional<double>, std::optional<double>> medians(int rounds, const A& a, const B& b) {
    if (rounds == 0) return {};
    std::vector<double> ta, tb;
    const auto time = [](const auto& f, std::vector<double>& to) {
        const auto begin = std::chrono::steady_clock::now();
        f();
        to.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
    };
    for (int r = 0; r <= rounds; ++r) {
        time(a, ta);
        time(b, tb);
    }
    const auto median = [](std::vector<double>& t) { // without the first run
        std::sort(t.begin() + 1, t.end());
        return t[1 + (t.size() - 1) / 2];
    };
    return {median(ta), median(tb)};
}

/// What was measured of one network on one graph: a row for each method, means over the seeds.
struct report {
    std::string model;
    int seeds = 0, rounds = 0;
    std::vector<models::result> rows;
    std::int64_t different = 0;

    void add(const char* method, const char* bits, double value, double fp32, std::int64_t bytes,
             std::optional<double> ms) {
        const auto same = [&](const models::result& r) { return r.method == method && r.bits == bits; };
        auto row = std::find_if(rows.begin(), rows.end(), same);
        if (row == rows.end()) row = rows.insert(row, {model, method, bits, "top1 %", 0.0, 0.0, bytes, ms, {}, {}});
        row->value += value / seeds;
        row->fp32_value += fp32 / seeds;
    }
};

/// Freezes net, compares it with the training network on every instruction set, and notes its accuracy.
template <template <class> class Gather, class Weights, class Observer>
void add_row(report& to, const char* method, const char* bits, network<Gather, Weights, Observer>& net, const graph& g,
             double fp32) {
    const context ctx;
    net.forward(input(g, true, ctx), phase::quantized, false, ctx);
    const frozen_network<Gather> frozen(net, pixel);
    auto out = frozen.make_outputs(g, ctx);
    for (notch::isa i : notch::available_isas()) {
        auto o = frozen.make_outputs(g, context(i));
        frozen.run(g, o, context(i));
        const auto count = [&](const auto& a, const auto& b) {
            for (std::size_t k = 0; k < a.size(); ++k) to.different += a[k] != b[static_cast<index_t>(k)];
        };
        count(o.a1, net.a1.codes);
        count(o.h, net.h.codes);
        count(o.a2, net.a2.codes);
        count(o.logits, net.logits.values);
    }
    const double accuracy = top1(g, net.logits.values.data());
    const activation x = input(g, false, ctx);
    const auto [integer, real] = medians(
        to.rounds, [&] { frozen.run(g, out, ctx); }, [&] { net.forward(x, phase::fp32, false, ctx); });
    if (auto& row = to.rows.front(); !row.latency_ms) row.latency_ms = real; // that of fp32
    to.add(method, bits, accuracy, fp32, frozen.bytes(), integer);
}

struct lengths {
    index_t hidden;
    int steps;
};

template <template <class> class Gather> void experiment(report& to, const graph& g, lengths l, unsigned seed) {
    const context ctx;
    const edge_codes by_row(g, true), one_scale(g, false);
    network<Gather, per_channel_q<8>> net(g, by_row, l.hidden);
    std::mt19937 random(seed);
    const auto uniform = [&] { return static_cast<double>(random()) / 4294967296.0; };
    net.lin1.initialize(uniform);
    net.lin2.initialize(uniform);
    train(net, g, phase::fp32, l.steps, 0.01f);
    net.forward(input(g, false, ctx), phase::calibrate, false, ctx);
    const double fp32 = top1(g, net.logits.values.data());
    const index_t values =
        net.lin1.weight.size() + net.lin1.bias.size() + net.lin2.weight.size() + net.lin2.bias.size();
    to.add("", "fp32", fp32, fp32, 4 * values, {});

    network<Gather, per_tensor_q> tensor(g, one_scale, l.hidden);
    tensor.copy_from(net);
    add_row(to, "static, per tensor", "w8a8", tensor, g, fp32);
    add_row(to, "static, per channel", "w8a8", net, g, fp32);

    const int more = l.steps / 4;
    const auto trained = [&](auto other, const char* bits, bool shown_static) {
        other.copy_from(net);
        if (shown_static) add_row(to, "static, per channel", bits, other, g, fp32);
        train(other, g, phase::quantized, more, 0.002f);
        add_row(to, "trained, per channel", bits, other, g, fp32);
    };
    const auto degree_quant = [&](auto other, const char* bits) {
        other.copy_from(net);
        protective_masks masks(g.others, 0.0, 0.2, seed);
        train(other, g, phase::quantized, more, 0.002f, &masks);
        add_row(to, "degree-quant", bits, other, g, fp32);
    };
    trained(network<Gather, per_channel_q<8>>(g, by_row, l.hidden), "w8a8", false);
    degree_quant(network<Gather, per_channel_q<8>, moving_percentile>(g, by_row, l.hidden), "w8a8");
    trained(network<Gather, per_channel_q<4>>(g, by_row, l.hidden), "w4a8", true);
    degree_quant(network<Gather, per_channel_q<4>, moving_percentile>(g, by_row, l.hidden), "w4a8");
}

/// Whether a network held: every code equal, and INT8 but per tensor within allowed points of fp32.
bool show(const report& r, double allowed) {
    bool good = r.different == 0;
    for (const models::result& row : r.rows) {
        std::printf("%-17s %-21s %-5s %6.2f %% %8lld bytes", row.model.c_str(), row.method.c_str(), row.bits.c_str(),
                    row.value, static_cast<long long>(row.bytes));
        if (row.latency_ms) std::printf(" %8.3f ms", *row.latency_ms);
        const bool judged = row.bits == "w8a8" && row.method != "static, per tensor";
        const bool lost = judged && row.value < row.fp32_value - allowed;
        std::printf("%s\n", lost ? "   too much lost" : "");
        good = good && !lost;
    }
    std::printf("%-17s %lld codes differ\n", r.model.c_str(), static_cast<long long>(r.different));
    return good;
}

template <template <class> class Gather>
bool run(std::vector<models::result>& rows, const char* data, const graph& g, lengths l, unsigned seed, int seeds,
         int rounds, double allowed) {
    report r{std::string(Gather<notch::moving_average>::name) + "-" + data, seeds, rounds, {}, 0};
    for (int s = 0; s < seeds; ++s) experiment<Gather>(r, g, l, seed + static_cast<unsigned>(s));
    rows.insert(rows.end(), r.rows.begin(), r.rows.end());
    return show(r, allowed);
}

} // namespace
} // namespace gnn

int main(int argc, char** argv) {
    std::string data = NOTCH_DEMO_DATA, out;
    unsigned seed = 1;
    int seeds = 1, rounds = 21;
    bool quick = false;
    CLI::App app("Node classification with a graph convolutional network and GraphSAGE in INT8");
    app.add_option("--data", data, "folder of the IDX files of the digits")->capture_default_str();
    app.add_option("--out", out, "file of the results");
    app.add_option("--seed", seed, "of the weights")->capture_default_str();
    app.add_option("--seeds", seeds, "means over so many, from --seed on; ten times as many for the karate club")
        ->check(CLI::Range(1, 100))
        ->capture_default_str();
    app.add_option("--rounds", rounds, "runs that are timed")->check(CLI::Range(0, 1000))->capture_default_str();
    app.add_flag("--quick", quick, "fewer nodes and steps");
    CLI11_PARSE(app, argc, argv);
    try {
        const auto digits =
            gnn::digits_graph(mnist::read_digits(data, "train"), quick ? 800 : 3000, 8, quick ? 200 : 600);
        const auto karate = gnn::karate_club();
        const gnn::lengths small{16, 100}, large{32, quick ? 40 : 80};
        constexpr double one_node = 3.2; // of the karate club, in points
        std::vector<models::result> rows;
        bool good = gnn::run<gnn::convolution>(rows, "karate", karate, small, seed, 10 * seeds, rounds, one_node);
        good = gnn::run<gnn::sage>(rows, "karate", karate, small, seed, 10 * seeds, rounds, one_node) && good;
        good = gnn::run<gnn::convolution>(rows, "digits", digits, large, seed, seeds, rounds, 1.0) && good;
        good = gnn::run<gnn::sage>(rows, "digits", digits, large, seed, seeds, rounds, 1.0) && good;
        if (!out.empty()) models::write_results(out, rows);
        if (good) return 0;
        std::fprintf(stderr, "models_gnn: codes differ, or INT8 lost more than a point\n");
    } catch (const std::exception& e) {
        std::fprintf(stderr, "models_gnn: %s\n", e.what());
    }
    return 1;
}
