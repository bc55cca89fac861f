// SPDX-License-Identifier: Apache-2.0
//
// The float models of MLPerf Tiny, quantized after training by notch: each in fp32, compared with LiteRT's float
// kernels, and frozen in INT8, on the inputs that scripts/mlperf_tiny_inputs.py prepares. Fails if a frozen network
// gives another code than the training layers' quantized forward, on any instruction set.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <notch/io/safetensors.hpp>
#include <notch/observe/histogram.hpp>
#include <notch/observe/min_max.hpp>
#include <notch/ptq/calibrate.hpp>

#include "../results.hpp"
#include "network.hpp"

namespace tiny {
namespace {

/// The inputs of one model, as real values, with the parameters of their codes if they came as such.
struct input_set {
    std::vector<float> inputs, calibration, reference;
    std::vector<std::int32_t> labels;
    std::optional<notch::quant_params> params;
    index_t h = 1, w = 1, c = 0, count = 0, calibration_count = 0, reference_count = 0;

    [[nodiscard]] index_t size() const { return h * w * c; }
    void get(std::span<const float> from, index_t i, activation& x) const {
        x.reshape(1, h, w, c);
        x.quantized = false;
        x.values.resize_discard(size());
        std::copy_n(from.begin() + i * size(), size(), x.values.begin());
    }
};

/// shape: of the model's input, with a batch of 1.
input_set load(const std::string& path, const std::vector<index_t>& shape, index_t most) {
    input_set s;
    if (shape.size() != 2 && shape.size() != 4)
        notch::fail(notch::errc::unsupported, path + ": the model's input is no image and no vector");
    if (shape.size() == 4) {
        s.h = shape[1];
        s.w = shape[2];
    }
    s.c = shape.back();
    const auto file = notch::safetensors::load(path);
    if (file.contains("input_scale"))
        s.params = {file.tensor<float>("input_scale", {1})[0], file.tensor<std::int32_t>("input_zero_point", {1})[0]};
    std::vector<index_t> batch = shape;
    batch[0] = -1;
    const auto read = [&](const char* name, std::vector<float>& to) {
        if (s.params) {
            for (std::uint8_t q : file.tensor<std::uint8_t>(name, batch))
                to.push_back(static_cast<float>(q - s.params->zero_point) * s.params->scale);
        } else {
            const auto from = file.tensor<float>(name, batch);
            to.assign(from.begin(), from.end());
        }
        return static_cast<index_t>(to.size()) / s.size();
    };
    const index_t all = read("inputs", s.inputs);
    s.count = std::min(all, most);
    s.calibration_count = std::min(read("calibration", s.calibration), most);
    if (s.count == 0 || s.calibration_count == 0) notch::fail(notch::errc::invalid_argument, path + ": no inputs");
    if (file.contains("labels")) {
        const auto labels = file.tensor<std::int32_t>("labels", {all});
        s.labels.assign(labels.begin(), labels.end());
    }
    if (file.contains("reference")) {
        const auto reference = file.tensor<float>("reference");
        s.reference.assign(reference.begin(), reference.end());
    }
    return s;
}

/// The outputs of one network for all inputs.
struct outputs {
    std::vector<std::vector<float>> values;
    double latency_ms = 0;
};

template <class Prepare, class Run> outputs run_all(const input_set& s, activation& x, Prepare prepare, Run run) {
    outputs o;
    std::vector<double> times;
    for (index_t i = 0; i < s.count; ++i) {
        s.get(s.inputs, i, x);
        prepare(x);
        const auto begin = std::chrono::steady_clock::now();
        const activation& y = run();
        times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
        o.values.emplace_back(y.values.begin(), y.values.end());
    }
    std::nth_element(times.begin(), times.begin() + s.count / 2, times.end());
    o.latency_ms = times[static_cast<std::size_t>(s.count / 2)];
    return o;
}

index_t best(const std::vector<float>& z) { return std::max_element(z.begin(), z.end()) - z.begin(); }

std::vector<float> softmax(const std::vector<float>& z) {
    std::vector<float> p;
    const float most = *std::max_element(z.begin(), z.end());
    float sum = 0;
    for (float v : z) sum += p.emplace_back(std::exp(v - most));
    for (float& v : p) v /= sum;
    return p;
}

/// The largest difference from LiteRT, and the largest value there.
struct difference {
    float most = 0, scale = 0;
};
difference from_reference(const input_set& s, const outputs& fp32, bool ends_in_softmax) {
    difference d;
    std::size_t at = 0;
    for (const auto& z : fp32.values) {
        if (at + z.size() > s.reference.size()) break;
        for (float v : ends_in_softmax ? softmax(z) : z) {
            const float diff = std::abs(v - s.reference[at]);
            d.most = diff <= d.most ? d.most : diff; // a NaN stays
            d.scale = std::max(d.scale, std::abs(s.reference[at++]));
        }
    }
    return d;
}

double percent(index_t part, index_t all) {
    return all == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(all);
}
double top1(const input_set& s, const outputs& o, index_t first) {
    index_t right = 0;
    for (index_t i = first; i < s.count; ++i)
        right += best(o.values[static_cast<std::size_t>(i)]) == s.labels[static_cast<std::size_t>(i)];
    return percent(right, s.count - first);
}
double agreement(const outputs& a, const outputs& b) {
    index_t same = 0;
    for (std::size_t i = 0; i < a.values.size(); ++i) same += best(a.values[i]) == best(b.values[i]);
    return percent(same, static_cast<index_t>(a.values.size()));
}
/// The mean over the inputs of the cosine between two networks' outputs.
double cosine(const outputs& a, const outputs& b) {
    double mean = 0;
    for (std::size_t i = 0; i < a.values.size(); ++i) {
        double ab = 0, aa = 0, bb = 0;
        for (std::size_t j = 0; j < a.values[i].size(); ++j) {
            const double u = a.values[i][j], v = b.values[i][j];
            ab += u * v;
            aa += u * u;
            bb += v * v;
        }
        mean += ab / std::sqrt(std::max(aa * bb, 1e-300)) / static_cast<double>(a.values.size());
    }
    return mean;
}
/// Anomaly scores: the mean squared error of the reconstruction.
std::vector<double> scores(const input_set& s, const outputs& o) {
    std::vector<double> all;
    for (std::size_t i = 0; i < o.values.size(); ++i) {
        double sum = 0;
        for (std::size_t j = 0; j < o.values[i].size(); ++j) {
            const double d = static_cast<double>(o.values[i][j]) - s.inputs[i * o.values[i].size() + j];
            sum += d * d;
        }
        all.push_back(sum / static_cast<double>(o.values[i].size()));
    }
    return all;
}
/// The pairs of inputs that two lists of scores put in the same order.
double same_order(const std::vector<double>& a, const std::vector<double>& b) {
    index_t same = 0, all = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        for (std::size_t j = 0; j < i; ++j, ++all) same += (a[i] < a[j]) == (b[i] < b[j]);
    return percent(same, all);
}

class experiment {
public:
    experiment(std::string name, const tflite::model& m, input_set inputs, index_t compared)
        : name_(std::move(name)), model_(m), inputs_(std::move(inputs)), compared_(compared) {}

    void run() {
        auto net = builder<training_layers<true>>(model_).build();
        fp32_ = run_all(
            inputs_, net.values[net.input], [](const auto&) {},
            [&]() -> const activation& { return net.forward(phase::fp32); });
        bytes_ = 0;
        for (auto& n : net.nodes)
            std::visit(
                [&](auto& layer) {
                    if constexpr (requires { layer.weight; }) bytes_ += 4 * (layer.weight.size() + layer.bias.size());
                },
                n.layer);
        watch(net);
        std::printf("%s: %zu layers, %lld inputs, %lld for calibration\n", name_.c_str(), net.nodes.size(),
                    static_cast<long long>(inputs_.count), static_cast<long long>(inputs_.calibration_count));
        if (!inputs_.reference.empty()) {
            const bool ends = model_.main().operators.back().code == tflite::op_code::softmax;
            const difference d = from_reference(inputs_, fp32_, ends);
            std::printf("  fp32: the largest difference from LiteRT is %.2g, of outputs up to %.3g\n",
                        static_cast<double>(d.most), static_cast<double>(d.scale));
            if (!(d.most <= 1e-4f * std::max(d.scale, 1.0f)))
                notch::fail(notch::errc::invalid_argument, name_ + ": fp32 is not what LiteRT gives");
        }
        report("fp32", "fp32", fp32_, bytes_);
        row<false>("static, per tensor", notch::clip::min_max());
        row<true>("static, per channel", notch::clip::min_max());
        row<true>("percentile 99.99", notch::clip::percentile(99.99));
        row<true>("least squared error", notch::clip::error());
    }
    [[nodiscard]] index_t different_codes() const { return different_; }
    [[nodiscard]] const std::vector<models::result>& rows() const { return rows_; }

private:
    /// Histograms of what each layer gives for the calibration inputs.
    void watch(network<training_layers<true>>& net) {
        seen_.assign(net.values.size(), notch::histogram(4096));
        for (index_t i = 0; i < inputs_.calibration_count; ++i) {
            inputs_.get(inputs_.calibration, i, net.values[net.input]);
            net.forward(phase::fp32);
            for (std::size_t v = 0; v < net.values.size(); ++v) seen_[v].observe(net.values[v].values);
        }
    }

    template <bool PerChannel> void row(const char* method, const notch::clip& how) {
        auto net = builder<training_layers<PerChannel>>(model_).build();
        const auto params = [&](std::size_t v) { return notch::calibrate<notch::affine<8>>(seen_[v], how); };
        for (auto& n : net.nodes) std::visit([&](auto& layer) { layer.fixed_params = params(n.y); }, n.layer);
        const notch::quant_params x = inputs_.params ? *inputs_.params : params(net.input);
        auto frozen = freeze(net, x);
        compare(net, frozen, x);
        const outputs o = run_all(
            inputs_, frozen.values[frozen.input], [&](activation& a) { notch::quantize_input(a, x); },
            [&]() -> const activation& { return frozen.infer(); });
        std::int64_t bytes = 0;
        for (auto& n : frozen.nodes)
            std::visit(
                [&](auto& layer) {
                    bytes += 5; // scale and zero point of its output
                    if constexpr (requires { layer.spec(); }) {
                        const notch::layer_spec& s = layer.spec();
                        bytes += s.weights.size() + 4 * (s.w_scales.size() + s.bias.size());
                    }
                },
                n.layer);
        report(method, "w8a8", o, bytes);
    }

    template <class Layers> void compare(network<Layers>& net, network<frozen_layers>& frozen, notch::quant_params x) {
        for (index_t i = 0; i < std::min(compared_, inputs_.count); ++i) {
            for (activation* a : {&net.values[net.input], &frozen.values[frozen.input]}) {
                inputs_.get(inputs_.inputs, i, *a);
                notch::quantize_input(*a, x);
            }
            net.forward(phase::quantized);
            for (notch::isa isa : notch::available_isas()) {
                frozen.infer(context(isa));
                for (const auto& n : net.nodes) different_ += models::different(net.values[n.y], frozen.values[n.y]);
            }
        }
    }

    void report(const char* method, const char* bits, const outputs& o, std::int64_t bytes) {
        const auto note = [&](const char* metric, double value, double fp32) {
            std::printf("  %s %.6g", metric, value);
            rows_.push_back({name_, method, bits, metric, value, fp32, bytes, o.latency_ms, {}, {}});
        };
        std::printf("  %-20s", method);
        if (!inputs_.labels.empty()) {
            note("top1 %", top1(inputs_, o, 0), top1(inputs_, fp32_, 0));
            // Inputs that begin with those of the calibration: the others count for themselves.
            if (inputs_.calibration_count < inputs_.count &&
                std::equal(inputs_.calibration.begin(),
                           inputs_.calibration.begin() + inputs_.calibration_count * inputs_.size(),
                           inputs_.inputs.begin())) {
                const index_t first = inputs_.calibration_count;
                note("top1 % without calibration inputs", top1(inputs_, o, first), top1(inputs_, fp32_, first));
            }
        }
        if (&o != &fp32_) {
            if (static_cast<index_t>(o.values[0].size()) == inputs_.size()) { // an autoencoder
                const auto a = scores(inputs_, fp32_), b = scores(inputs_, o);
                double worst = 0;
                for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(b[i] / a[i] - 1));
                note("cosine", cosine(fp32_, o), 1);
                note("same order of anomaly scores %", same_order(a, b), 100);
                note("largest change of a score %", 100 * worst, 0);
            } else {
                note("agreement %", agreement(fp32_, o), 100);
            }
        }
        std::printf("  %.4f ms  %lld bytes\n", o.latency_ms, static_cast<long long>(bytes));
        std::fflush(stdout);
    }

    std::string name_;
    const tflite::model& model_;
    input_set inputs_;
    index_t compared_, different_ = 0;
    std::vector<notch::histogram> seen_; ///< by value
    outputs fp32_;
    std::int64_t bytes_ = 0;
    std::vector<models::result> rows_;
};

} // namespace
} // namespace tiny

int main(int argc, char** argv) {
    std::string data, inputs, out;
    bool quick = false;
    CLI::App app("The float models of MLPerf Tiny in fp32 and INT8.");
    app.add_option("--data", data, "folder of the .tflite files (default: the environment's NOTCH_MLPERF_TINY)")
        ->envname("NOTCH_MLPERF_TINY");
    app.add_option("--inputs", inputs, "folder that scripts/mlperf_tiny_inputs.py wrote (default: inputs in --data)");
    app.add_option("--out", out, "file of the results");
    app.add_flag("--quick", quick, "50 inputs of each model");
    CLI11_PARSE(app, argc, argv);
    try {
        namespace fs = std::filesystem;
        using notch::index_t;
        const fs::path folder = inputs.empty() ? fs::path(data) / "inputs" : fs::path(inputs);
        std::vector<models::result> rows;
        index_t different = 0;
        for (const char* name : {"kws_ref_model_float32", "pretrainedResnet", "pretrainedResnet_large_float",
                                 "vww_96_float", "ad01_fp32"}) {
            const fs::path model = fs::path(data) / (std::string(name) + ".tflite");
            const fs::path prepared = folder / (std::string(name) + ".safetensors");
            if (data.empty() || !fs::exists(model) || !fs::exists(prepared)) {
                std::printf("note: %s: not run here: it needs \"%s\" and \"%s\"\n", name, model.c_str(),
                            prepared.c_str());
                continue;
            }
            const auto m = notch::tflite::model::load(model.string());
            if (m.main().inputs.size() != 1) notch::fail(notch::errc::unsupported, model.string() + ": not one input");
            tiny::experiment e(
                name, m, tiny::load(prepared.string(), m.at(m.main().inputs[0]).shape, quick ? 50 : index_t{1} << 20),
                quick ? 2 : 20);
            e.run();
            different += e.different_codes();
            rows.insert(rows.end(), e.rows().begin(), e.rows().end());
        }
        if (!rows.empty()) {
            std::printf("%lld codes differ between the frozen networks and the training layers\n",
                        static_cast<long long>(different));
            if (!out.empty()) models::write_results(out, rows);
        }
        return different == 0 ? 0 : 1;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "models_tiny: %s\n", e.what());
    }
    return 1;
}
