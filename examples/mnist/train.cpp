// SPDX-License-Identifier: Apache-2.0
//
// Trains the two networks of networks.hpp on real digits in fp32, quantizes them in every basic way
// (weights as float16 and bfloat16, dynamic and static post-training quantization, mixed precision,
// quantization-aware training at 8 and at 4 bits), and saves each: the model file, and every
// integer code of the training network's forward pass over the test images, for run.cpp to check in
// a fresh process.
//
// Compiled at plain -O2 for the baseline, so that run.cpp shares its kernels; training then is no faster than Eigen
// is on SSE2. A program of your own may say -march=native: the codes are the same.
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <random>
#include <thread>

#include <notch/io/layer_file.hpp>
#include <notch/observe/probe.hpp>
#include <notch/scheme/half.hpp>

#include "files.hpp"
#include "float_file.hpp"
#include "idx.hpp"
#include "networks.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "training.hpp"

namespace mnist {
namespace {

using json = nlohmann::ordered_json;

#if defined(__clang__)
constexpr const char* compiler_name = __VERSION__; // begins with "Clang"
#else
constexpr const char* compiler_name = "g++ " __VERSION__;
#endif

using digits = dataset;

std::string_view as_text(const std::vector<std::uint8_t>& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

json histogram(std::span<const float> x) {
    const notch::real_range r = notch::scan_range(x).range;
    constexpr int bins = 120;
    std::vector<int> counts(bins);
    const float width = r.empty() || r.max == r.min ? 1.0f : (r.max - r.min) / bins;
    for (float v : x)
        ++counts[static_cast<std::size_t>(std::clamp(static_cast<int>((v - r.min) / width), 0, bins - 1))];
    return {{"min", r.empty() ? 0.0f : r.min}, {"max", r.empty() ? 1.0f : r.max}, {"counts", counts}};
}

/// The rows and histograms of a network, and its files.
class recorder {
public:
    recorder(const options& s, const char* name, const char* title) : s_(s), name_(name), title_(title) {}
    json rows = json::array(), layers = json::array();

protected:
    /// A quantized layer as it is saved.
    struct saved_layer {
        std::string name;
        notch::layer_spec spec;
        std::vector<float> weights;
        notch::channel_layout layout;
    };
    using named_params = std::vector<std::pair<std::string, notch::quant_params>>;
    using named_outputs = std::vector<std::pair<std::string, const activation*>>;

    [[nodiscard]] std::string base(const std::string& method) const { return s_.out + "/" + name_ + "." + method; }

    void save(const std::string& method, const std::vector<saved_layer>& saved, const named_params& observed,
              const std::vector<std::uint8_t>& codes) {
        notch::model_writer w(name_);
        for (const saved_layer& l : saved) {
            notch::save_layer(w, l.name, l.spec);
            add_weights(method, l);
        }
        for (const auto& [name, p] : observed) {
            w.add<float>(name + ".s", {1}, std::span<const float>(&p.scale, 1));
            w.add<std::int32_t>(name + ".z", {1}, std::span<const std::int32_t>(&p.zero_point, 1));
        }
        w.save(base(method) + ".notch");
        write_file(base(method) + ".codes", as_text(codes));
    }

    void row(const std::string& method, const std::string& title, const std::string& weights,
             const std::string& activations, double top1, const std::string& kind) {
        rows.push_back({{"network", name_},
                        {"network_title", title_},
                        {"method", method},
                        {"title", title},
                        {"weights", weights},
                        {"activations", activations},
                        {"kind", kind},
                        {"top1", top1},
                        {"delta_top1", top1 - fp32_top1_},
                        {"bytes", static_cast<std::int64_t>(std::filesystem::file_size(base(method) + ".notch"))}});
        char line[120];
        std::snprintf(line, sizeof line, "%-11s %-40s top-1 %6.2f%%", name_, title.c_str(), top1);
        progress::print(line);
    }

    static notch::quant_params input_of(std::string_view layer, const named_params& params) {
        for (std::size_t i = 1; i < params.size(); ++i)
            if (params[i].first == layer) return params[i - 1].second;
        return params.back().second; // of the last layer, whose own outputs are real
    }
    void add_outputs(const std::string& method, const notch::probe& probe, const named_outputs& outputs,
                     const named_params& grids) {
        for (const auto& [name, a] : outputs) {
            const notch::probed_version& seen = probe[name].fake_quantized;
            for (const auto& [layer, grid] : grids)
                if (layer == name)
                    layers.push_back({{"network", name_},
                                      {"method", method},
                                      {"layer", name},
                                      {"what", "activation"},
                                      {"bits", 8},
                                      {"scale", grid.scale},
                                      {"zero_point", grid.zero_point},
                                      {"qmin", 0},
                                      {"qmax", 255},
                                      {"channels", 1},
                                      {"sqnr_db", seen.error.sqnr_db()},
                                      {"cosine", seen.error.cosine()},
                                      {"dead_channels", seen.dead_channels()},
                                      {"real_dead_channels", probe[name].real.dead_channels()},
                                      {"histogram", histogram(a->values)}});
        }
    }

    /// Weights in steps of their channel's own scale, so that all channels share one grid.
    void add_weights(const std::string& method, const saved_layer& l) {
        const notch::layer_spec& s = l.spec;
        std::vector<float> steps(l.weights.size());
        for (std::size_t i = 0; i < steps.size(); ++i)
            steps[i] =
                l.weights[i] /
                s.w_scales[s.w_scales.size() == 1 ? 0 : static_cast<index_t>(i) / l.layout.inner % l.layout.channels];
        const int top = (1 << (s.weight_bits - 1)) - 1;
        layers.push_back({{"network", name_},
                          {"method", method},
                          {"layer", l.name},
                          {"what", "weight"},
                          {"bits", s.weight_bits},
                          {"scale", 1.0f}, // of the histogram, whose unit is the channel's own scale
                          {"scale_min", *std::min_element(s.w_scales.begin(), s.w_scales.end())},
                          {"scale_max", *std::max_element(s.w_scales.begin(), s.w_scales.end())},
                          {"zero_point", 0},
                          {"qmin", -top},
                          {"qmax", top},
                          {"channels", s.w_scales.size()},
                          {"histogram", histogram(steps)}});
    }

    const options& s_;
    const char *name_, *title_;
    double fp32_top1_ = 0;
};

/// Everything about one network.
template <template <class> class Net> class job : public recorder {
public:
    using fp32_net = Net<int8_per_channel>; // in phase::fp32 the quantizers rest
    job(const options& s, const digits& train_set, const digits& test_set)
        : recorder(s, fp32_net::name, fp32_net::title), train_(train_set), test_(test_set) {}

    void run(int fp32_epochs, int qat8_epochs, int qat4_epochs, float rate) {
        fp32_net net;
        std::mt19937 random(s_.seed);
        net.layers([&](const char*, auto& layer) {
            layer.initialize([&] { return static_cast<double>(random()) / 4294967296.0; });
        });
        train(net, train_, phase::fp32, fp32_epochs, rate, s_.seed, std::string(name_) + ": train fp32");
        fp32_top1_ = evaluate(net, test_, phase::fp32, nullptr);
        save_float(net, "fp32", "fp32", notch::dtype::f32, fp32_top1_);
        half(net, "float16", "weights in float16", notch::dtype::f16);
        half(net, "bfloat16", "weights in bfloat16", notch::dtype::bf16);
        calibrate(net, train_);

        dynamic(net);
        statically<int8_per_tensor>(net, "static_int8_per_tensor", "static PTQ, per tensor", "int8");
        statically<int8_per_channel>(net, "static_int8_per_channel", "static PTQ, per channel", "int8");
        statically<mixed_int4_int8>(net, "mixed_int4_int8", "mixed PTQ: int4, sensitive layers int8", "int4/int8");
        qat<int8_per_channel>(net, "qat_int8", "QAT, 8 bits", "int8", qat8_epochs, 2e-4f);
        qat<int4_learned>(net, "qat_int4", "QAT, 4-bit weights (LSQ)", "int4", qat4_epochs, 1e-3f);
    }

private:
    /// The float network as it was trained: weights, bias or the four arrays of batch norm.
    void save_float(fp32_net& net, const std::string& method, const std::string& title, notch::dtype type,
                    double top1) {
        save_float_network(net, name_, type, base(method) + ".notch");
        row(method, title, method, "fp32", top1, "float");
    }

    void half(fp32_net& net, const std::string& method, const std::string& title, notch::dtype type) {
        fp32_net rounded;
        copy_network(rounded, net);
        const auto round = [&](buffer<float>& v) {
            for (float& f : v)
                f = type == notch::dtype::f16 ? notch::from_float16(notch::to_float16(f))
                                              : notch::from_bfloat16(notch::to_bfloat16(f));
        };
        rounded.layers([&](const char*, auto& layer) {
            round(layer.weight);
            round(layer.bias);
            if (layer.norm) {
                round(layer.norm->gamma);
                round(layer.norm->beta);
                round(layer.norm->running_mean);
                round(layer.norm->running_var);
            }
        });
        save_float(rounded, method, title, type, evaluate(rounded, test_, phase::fp32, nullptr));
    }

    template <class L> static saved_layer make_saved(const char* name, L& layer, notch::layer_spec spec) {
        const std::span<const float> w = layer.folded().first;
        return {name, std::move(spec), {w.begin(), w.end()}, layer.weight_layout()};
    }
    void dynamic(fp32_net& net) {
        std::vector<std::uint8_t> codes;
        const double top1 = evaluate(net, test_, phase::dynamic, &codes);
        std::vector<saved_layer> saved; // their outputs have no grid
        net.layers(
            [&](const char* name, auto& layer) { saved.push_back(make_saved(name, layer, layer.dynamic_spec())); });
        save("dynamic_int8", saved, {}, codes);
        row("dynamic_int8", "dynamic-range PTQ", "int8", "uint8, at run time", top1, "dynamic");
    }

    template <class Scheme>
    void statically(fp32_net& net, const std::string& method, const std::string& title, const std::string& weights) {
        Net<Scheme> q;
        copy_network(q, net);
        save_static(q, method, title, weights);
    }
    template <class Scheme>
    void qat(fp32_net& net, const std::string& method, const std::string& title, const std::string& weights, int epochs,
             float rate) {
        Net<Scheme> q;
        copy_network(q, net);
        train(q, train_, phase::quantized, epochs, rate, s_.seed + 1, std::string(name_) + ": " + title);
        save_static(q, method, title, weights);
    }

    template <class Scheme>
    void save_static(Net<Scheme>& q, const std::string& method, const std::string& title, const std::string& weights) {
        std::vector<std::uint8_t> codes;
        const double top1 = evaluate(q, test_, phase::quantized, &codes);
        // The parameters of a layer's input are those of the outputs() entry before it.
        named_params params{{"input", pixel_params}}, observed;
        for (const auto& [name, a] : outputs_of(q))
            if (a->quantized) params.emplace_back(name, a->params);
        std::vector<saved_layer> saved;
        q.layers([&](const char* name, auto& layer) {
            saved.push_back(make_saved(name, layer, layer.spec(input_of(name, params))));
        });
        q.observed([&](const char* name, auto& layer) { observed.emplace_back(name, layer.output_params()); });
        save(method, saved, observed, codes);
        params.erase(params.begin());
        draw_outputs(method, q, params);
        row(method, title, weights, "uint8", top1, "static");
    }
    template <class Scheme> static named_outputs outputs_of(const Net<Scheme>& q) {
        named_outputs list;
        q.outputs([&](const char* name, const activation& a) { list.emplace_back(name, &a); });
        return list;
    }

    /// Outputs before they become codes, each with the grid of its codes: those of the float forward of the same
    /// weights, for 100 test images. What the grid does not hold is clipped. A probe says how far the quantized
    /// network is from the float one there.
    template <class Scheme> void draw_outputs(const std::string& method, Net<Scheme>& q, const named_params& grids) {
        const context ctx;
        activation x;
        load_batch(test_, in_order(test_.count), 0, 100, x, not_augmented);
        notch::probe probe;
        notch::quantize_input(x, pixel_params, ctx);
        q.forward(x, phase::quantized, false, ctx);
        q.outputs(probe.fake_quantized());
        x.quantized = false;
        q.forward(x, phase::fp32, false, ctx);
        q.outputs(probe.real());
        add_outputs(method, probe, outputs_of(q), grids);
    }
    const digits& train_;
    const digits& test_;
};

int train_and_quantize(const options& s) {
    std::filesystem::create_directories(s.out);
    digits train_set = read_digits(s.data, "train");
    const digits test_set = read_digits(s.data, "test");
    if (s.quick) train_set.count = std::min<index_t>(train_set.count, 3000);
    std::printf("notch %s: %lld digits to train on, %lld to test\n", NOTCH_VERSION_STRING,
                static_cast<long long>(train_set.count), static_cast<long long>(test_set.count));
    std::fflush(stdout); // before the bars
    job<small_cnn> a(s, train_set, test_set);
    job<mobile_net> b(s, train_set, test_set);
    // One thread a network. The results depend on the seed only.
    std::exception_ptr failed[2];
    const auto guarded = [](std::exception_ptr& slot, auto&& work) {
        try {
            work();
        } catch (...) {
            slot = std::current_exception();
        }
    };
    std::thread first([&] { guarded(failed[0], [&] { s.quick ? a.run(4, 1, 1, 3e-3f) : a.run(14, 2, 3, 2e-3f); }); });
    guarded(failed[1], [&] { s.quick ? b.run(3, 1, 1, 6e-3f) : b.run(18, 3, 8, 4e-3f); });
    first.join();
    for (const auto& f : failed)
        if (f) std::rethrow_exception(f);
    json results{{"meta",
                  {{"seed", s.seed},
                   {"quick", s.quick},
                   {"notch", NOTCH_VERSION_STRING},
                   {"compiler", compiler_name},
                   {"train_images", train_set.count},
                   {"test_images", test_set.count}}},
                 {"rows", a.rows},
                 {"layers", a.layers}};
    for (auto& r : b.rows) results["rows"].push_back(r);
    for (auto& l : b.layers) results["layers"].push_back(l);
    write_file(s.out + "/training.json", results.dump(1) + "\n");
    return 0;
}

} // namespace
} // namespace mnist

int main(int argc, char** argv) { return mnist::run_program("mnist_train", argc, argv, mnist::train_and_quantize); }
