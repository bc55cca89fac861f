// SPDX-License-Identifier: Apache-2.0
//
// LSTM and GRU in integers: handwritten digits, a row a step, and spoken digits, a frame a step: fp32, quantized after
// training, and trained with quantization; and Silero VAD, quantized after training (vad.hpp). Fails if the frozen
// network gives another code than the training forward, or INT8 loses more than one point.
#include <CLI/CLI.hpp>

#include <cmath>
#include <cstdio>
#include <exception>
#include <numeric>
#include <random>
#include <type_traits>

#include "../../mnist/training.hpp"
#include "../results.hpp"
#include "../timing.hpp"
#include "network.hpp"
#include "vad.hpp"

namespace rnn {
namespace {

template <int Bits> using per_channel_q = notch::fake_quant<notch::symmetric<Bits>, notch::per_channel<0>>;
using per_tensor_q = notch::fake_quant<notch::symmetric<8>, notch::per_tensor>;
constexpr index_t batch = 64, classes = 10;

/// Keeps the norm of all gradients at most 1: a long sequence may have very large ones (Pascanu et al. 2013).
template <class Net> void clip_gradients(Net& net) {
    double sum = 0;
    const auto each = [&](const auto& f) { net.layers([&](const char*, auto& layer) { layer.parameters(f); }); };
    each([&](const auto& p) {
        for (float g : p.gradient) sum += static_cast<double>(g) * static_cast<double>(g);
    });
    if (sum <= 1.0) return;
    const auto factor = static_cast<float>(1.0 / std::sqrt(sum));
    each([&](const auto& p) {
        for (float& g : p.gradient) g *= factor;
    });
}

/// Epochs of Adam, the rate along a cosine. Batches are of sequences of similar length.
template <class Net> void train(Net& net, const sequences& s, phase p, int epochs, float rate, unsigned seed) {
    const context ctx;
    std::mt19937 random(seed);
    std::vector<index_t> order = mnist::in_order(s.count), lengths;
    mnist::adam optimizer;
    activation x;
    buffer<float> gradient;
    const index_t steps = s.count / batch;
    for (int e = 0; e < epochs; ++e) {
        for (std::size_t i = order.size() - 1; i > 0; --i) std::swap(order[i], order[random() % (i + 1)]);
        for (std::size_t first = 0; first < order.size(); first += 8 * batch)
            std::stable_sort(order.begin() + static_cast<std::ptrdiff_t>(first),
                             order.begin() + static_cast<std::ptrdiff_t>(std::min(order.size(), first + 8 * batch)),
                             [&](index_t a, index_t b) {
                                 return s.lengths[static_cast<std::size_t>(a)] < s.lengths[static_cast<std::size_t>(b)];
                             });
        for (index_t b = 0; b < steps; ++b) {
            load_batch(s, order, b * batch, batch, p == phase::quantized, x, lengths, ctx);
            const activation& logits = net.forward(x, lengths, p, true, ctx);
            mnist::cross_entropy(logits, s, order, b * batch, gradient);
            net.backward(gradient, ctx);
            clip_gradients(net);
            const float done = static_cast<float>(e * steps + b) / static_cast<float>(epochs * steps);
            optimizer.step(net, rate * 0.5f * (1.0f + std::cos(3.14159265f * done)));
        }
    }
}

/// Runs f(batch, lengths, first, logits) for all sequences; returns the top-1 in percent.
template <class Net, class F> double evaluate(Net& net, const sequences& s, phase p, index_t most, const F& f) {
    const context ctx;
    const std::vector<index_t> order = mnist::in_order(s.count);
    std::vector<index_t> lengths;
    activation x;
    index_t right = 0;
    const index_t count = std::min(s.count, most);
    for (index_t first = 0; first < count; first += batch) {
        load_batch(s, order, first, std::min(batch, count - first), p == phase::quantized, x, lengths, ctx);
        const activation& logits = net.forward(x, lengths, p, false, ctx);
        f(x, lengths, first, logits);
        for (index_t i = 0; i < logits.n; ++i) {
            const float* z = logits.values.data() + i * classes;
            right += std::max_element(z, z + classes) - z == s.labels[static_cast<std::size_t>(first + i)];
        }
    }
    return 100.0 * static_cast<double>(right) / static_cast<double>(count);
}
constexpr auto ignore = [](auto&&...) {};

/// One sequence of median length.
struct example {
    activation x;
    std::vector<index_t> lengths;

    example(const sequences& s, bool codes) {
        std::vector<index_t> order = mnist::in_order(s.count);
        std::stable_sort(order.begin(), order.end(), [&](index_t a, index_t b) {
            return s.lengths[static_cast<std::size_t>(a)] < s.lengths[static_cast<std::size_t>(b)];
        });
        load_batch(s, order, s.count / 2, 1, codes, x, lengths, context());
    }
};

/// Freezes net, compares it with the training network on every instruction set, and notes its accuracy.
template <class Cell, class Weights>
void add_row(report& to, const std::string& model, const char* method, const char* bits, classifier<Cell, Weights>& net,
             const sequences& test, double fp32, double allowed) {
    frozen_classifier<Cell> frozen(net, test.x);
    std::int64_t different = 0;
    std::vector<std::uint8_t> codes;
    float logits[classes];
    const double accuracy =
        evaluate(net, test, phase::quantized, test.count,
                 [&](const activation& x, const std::vector<index_t>& lengths, index_t first, const activation& z) {
                     for (notch::isa i : notch::available_isas()) {
                         frozen.run(x, codes, context(i));
                         for (std::size_t k = 0; k < codes.size(); ++k)
                             different += codes[k] != net.h.codes[static_cast<index_t>(k)];
                         for (index_t r = 0; r < x.n; ++r) {
                             if (first > 0 || r >= 8) // step by step only some
                                 frozen.logits_of(codes.data() + net.end_of(r), logits, context(i));
                             else
                                 frozen.stream(x.codes.data() + r * x.w * x.c, lengths[static_cast<std::size_t>(r)],
                                               logits, context(i), [&](index_t t, const std::uint8_t* h) {
                                                   for (index_t j = 0; j < net.h.c; ++j)
                                                       different += h[j] != net.h.codes[(r * x.w + t) * net.h.c + j];
                                               });
                             for (index_t k = 0; k < classes; ++k) different += logits[k] != z.values[r * classes + k];
                         }
                     }
                 });
    const example one(test, true);
    const context ctx;
    const double ms = median_ms([&] {
        frozen.run(one.x, codes, ctx);
        frozen.logits_of(codes.data() + codes.size() - static_cast<std::size_t>(frozen.cell.spec().hidden), logits,
                         ctx);
    });
    std::printf("%-10s %-20s %-5s %6.2f %%  %7.4f ms  %6lld bytes  %lld codes differ\n", model.c_str(), method, bits,
                accuracy, ms, static_cast<long long>(frozen.bytes), static_cast<long long>(different));
    std::fflush(stdout);
    to.different += different;
    to.lost = to.lost || accuracy < fp32 - allowed;
    to.rows.push_back({model, method, bits, "top1 %", accuracy, fp32, frozen.bytes, ms, {}, {}});
}

struct plan {
    index_t hidden;
    int epochs, qat_epochs;
    double allowed; ///< points that INT8 may lose
};

template <class Cell>
void experiment(report& to, const std::string& model, const sequences& data, const sequences& test, const plan& p,
                unsigned seed) {
    classifier<Cell, per_channel_q<8>> net(data.channels, p.hidden, classes);
    std::mt19937 random(seed);
    const auto uniform = [&] { return static_cast<double>(random()) / 4294967296.0; };
    net.cell.initialize(uniform);
    net.head.initialize(uniform);
    train(net, data, phase::fp32, p.epochs, 0.005f, seed);
    evaluate(net, data, phase::calibrate, 1024, ignore);
    const double fp32 = evaluate(net, test, phase::fp32, test.count, ignore);
    const example one(test, false);
    const double ms = median_ms([&] { net.forward(one.x, one.lengths, phase::fp32, false, context()); });
    index_t values = 0;
    net.layers([&](const char*, auto& l) {
        l.parameters([&](const auto& v) { values += static_cast<index_t>(v.value.size()); });
    });
    std::printf("%-10s %-20s %-5s %6.2f %%  %7.4f ms  %6lld bytes\n", model.c_str(), "", "fp32", fp32, ms,
                static_cast<long long>(4 * values));
    std::fflush(stdout);
    to.rows.push_back({model, "", "fp32", "top1 %", fp32, fp32, 4 * values, ms, {}, {}});

    const auto copy = [&](auto& other) -> auto& {
        other.copy_from(net);
        return other;
    };
    classifier<Cell, per_tensor_q> tensor(data.channels, p.hidden, classes);
    add_row(to, model, "static, per tensor", "w8a8", copy(tensor), test, fp32, 100.0);
    add_row(to, model, "static, per channel", "w8a8", net, test, fp32, p.allowed);
    if constexpr (std::is_same_v<Cell, notch::lstm_cell>) {
        net.cell.int16_cell = true;
        add_row(to, model, "static, int16 cell", "w8a8", net, test, fp32, p.allowed);
        net.cell.int16_cell = false;
    }
    classifier<Cell, per_channel_q<4>> four(data.channels, p.hidden, classes);
    add_row(to, model, "static, per channel", "w4a8", copy(four), test, fp32, 100.0);
    train(four, data, phase::quantized, p.qat_epochs, 0.002f, seed + 1);
    add_row(to, model, "trained, per channel", "w4a8", four, test, fp32, 100.0);
    classifier<Cell, per_channel_q<2>> two(data.channels, p.hidden, classes);
    add_row(to, model, "static, per channel", "w2a8", copy(two), test, fp32, 100.0);
    train(two, data, phase::quantized, p.qat_epochs, 0.002f, seed + 1);
    add_row(to, model, "trained, per channel", "w2a8", two, test, fp32, 100.0);
    train(net, data, phase::quantized, p.qat_epochs, 0.001f, seed + 1);
    add_row(to, model, "trained, per channel", "w8a8", net, test, fp32, p.allowed);
}

void experiments(report& r, const std::string& data, const std::string& fsdd, const std::string& vad, unsigned seed,
                 bool quick) {
    const auto train = digit_rows(data, "train", quick ? 4096 : 100000),
               test = digit_rows(data, "test", quick ? 500 : 100000);
    const plan p = quick ? plan{32, 8, 1, 3.0} : plan{64, 12, 4, 1.0};
    experiment<notch::lstm_cell>(r, "lstm rows", train, test, p, seed);
    experiment<notch::gru_cell>(r, "gru rows", train, test, p, seed);
    if (fsdd.empty()) {
        std::printf("no --fsdd: spoken digits are skipped\n");
    } else {
        const auto [spoken, unheard] = spoken_digits(fsdd);
        const plan q{64, quick ? 4 : 30, quick ? 1 : 8, quick ? 3.0 : 1.0};
        experiment<notch::lstm_cell>(r, "lstm fsdd", spoken, unheard, q, seed);
        experiment<notch::gru_cell>(r, "gru fsdd", spoken, unheard, q, seed);
    }
    if (vad.empty())
        std::printf("no --vad: Silero VAD is skipped\n");
    else
        vad_experiment(r, vad);
}

/// The latency of an LSTM of Silero VAD's size in INT8, untrained, over one sequence: real values in, real values out.
double latency_ms(index_t steps, int threads, double seconds, unsigned seed) {
    constexpr index_t size = 128;
    notch::lstm_layer<per_channel_q<8>> lstm(size, size);
    std::mt19937 random(seed);
    const auto uniform = [&] { return static_cast<double>(random()) / 4294967296.0; };
    lstm.initialize(uniform);
    activation x, h;
    x.reshape(1, 1, steps, size);
    x.values.resize_discard(x.size());
    for (float& v : x.values) v = static_cast<float>(2 * uniform() - 1);
    lstm.forward(x, h, phase::calibrate, false, context());
    const auto input = notch::params_from_range<notch::affine<8>>({-1, 1});
    const notch::frozen_lstm frozen(lstm.spec(input));
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(h.size()));
    std::vector<std::byte> memory(static_cast<std::size_t>(frozen.workspace_size(1, steps)));
    return models::median_ms(seconds, threads, [&](context ctx) {
        ctx.workspace = memory;
        notch::quantize_input(x, input, ctx);
        frozen.forward(x.code_view(), notch::nhwc_view<std::uint8_t>(codes.data(), 1, 1, steps, size), ctx);
        notch::dequantize<std::uint8_t>(codes, frozen.spec().h, h.values, ctx);
    });
}

} // namespace
} // namespace rnn

int main(int argc, char** argv) {
    std::string data = NOTCH_DEMO_DATA, fsdd, vad, out;
    unsigned seed = 1;
    bool quick = false;
    int steps = 0, threads = 1;
    double seconds = 1;
    CLI::App app("LSTM and GRU in INT8: written and spoken digits, voice activity");
    app.add_option("--data", data, "folder of the IDX files of the digits")->capture_default_str();
    app.add_option("--fsdd", fsdd, "spoken digits: a file of scripts/fsdd_features.py");
    app.add_option("--vad", vad, "Silero VAD: a file of scripts/silero_frames.py");
    app.add_option("--out", out, "file of the results");
    app.add_option("--seed", seed, "of the weights")->capture_default_str();
    app.add_flag("--quick", quick, "fewer digits and epochs");
    app.add_option("--time", steps, "only the latency of an LSTM, 128 inputs, 128 hidden, in INT8 for so many steps")
        ->check(CLI::Range(1, 100000));
    app.add_option("--threads", threads, "of --time")->check(CLI::Range(1, 256))->capture_default_str();
    app.add_option("--seconds", seconds, "of --time")->check(CLI::Range(0.0, 3600.0))->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    try {
        if (steps > 0) {
            models::print_time("lstm", rnn::latency_ms(steps, threads, seconds, seed));
            return 0;
        }
        rnn::report r;
        rnn::experiments(r, data, fsdd, vad, seed, quick);
        if (!out.empty()) models::write_results(out, r.rows);
        if (r.different == 0 && !r.lost) return 0;
        std::fprintf(stderr, "models_rnn: %lld codes differ%s\n", static_cast<long long>(r.different),
                     r.lost ? ", and INT8 lost too much" : "");
    } catch (const std::exception& e) {
        std::fprintf(stderr, "models_rnn: %s\n", e.what());
    }
    return 1;
}
