// SPDX-License-Identifier: Apache-2.0
//
// Trains the two networks of networks.hpp on real digits in fp32, quantizes them in every basic way
// (weights as float16 and bfloat16, dynamic and static post-training quantization, mixed precision,
// quantization-aware training at 8 and at 4 bits), and saves each: the model file, and every
// integer code of the training network's forward pass over the test images, for run.cpp to check in
// a fresh process.
//
// This program may be compiled with -march=native: training is the user's own loop at the user's
// own flags. run.cpp is compiled at plain -O2 for the baseline; the codes must agree all the same.
#include <CLI/CLI.hpp>
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

struct settings {
    std::string data, out;
    unsigned seed = 1;
    bool quick = false;
};

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

/// Everything about one network; results collects rows and histograms.
template <template <class> class Net> class job {
public:
    using fp32_net = Net<int8_per_channel>; // in phase::fp32 the quantizers rest
    job(const settings& s, const digits& train_set, const digits& test_set)
        : s_(s), train_(train_set), test_(test_set) {}
    json rows = json::array(), layers = json::array();

    void run(int fp32_epochs, int qat8_epochs, int qat4_epochs, float rate) {
        fp32_net net;
        std::mt19937 random(s_.seed);
        net.layers([&](const char*, auto& layer) {
            layer.initialize([&] { return static_cast<double>(random()) / 4294967296.0; });
        });
        train(net, train_, phase::fp32, fp32_epochs, rate, s_.seed,
              std::string(Net<int8_per_channel>::name) + ": train fp32");
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
    std::string base(const std::string& method) const {
        return s_.out + "/" + Net<int8_per_channel>::name + "." + method;
    }

    void row(const std::string& method, const std::string& title, const std::string& weights,
             const std::string& activations, double top1, const std::string& kind) {
        rows.push_back({{"network", Net<int8_per_channel>::name},
                        {"network_title", Net<int8_per_channel>::title},
                        {"method", method},
                        {"title", title},
                        {"weights", weights},
                        {"activations", activations},
                        {"kind", kind},
                        {"top1", top1},
                        {"delta_top1", top1 - fp32_top1_},
                        {"bytes", static_cast<std::int64_t>(std::filesystem::file_size(base(method) + ".notch"))}});
        char line[120];
        std::snprintf(line, sizeof line, "%-11s %-40s top-1 %6.2f%%", Net<int8_per_channel>::name, title.c_str(), top1);
        progress::print(line);
    }

    /// The float network as it was trained: weights, bias or the four arrays of batch norm.
    void save_float(fp32_net& net, const std::string& method, const std::string& title, notch::dtype type,
                    double top1) {
        save_float_network(net, Net<int8_per_channel>::name, type, base(method) + ".notch");
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

    void dynamic(fp32_net& net) {
        std::vector<std::uint8_t> codes;
        const double top1 = evaluate(net, test_, phase::dynamic, &codes);
        notch::model_writer w(Net<int8_per_channel>::name);
        net.layers([&](const std::string& name, auto& layer) {
            const notch::layer_spec spec = layer.dynamic_spec();
            notch::save_layer(w, name, spec);
            draw_weights("dynamic_int8", name, layer, spec); // its outputs have no grid
        });
        w.save(base("dynamic_int8") + ".notch");
        write_file(base("dynamic_int8") + ".codes", as_text(codes));
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
        train(q, train_, phase::quantized, epochs, rate, s_.seed + 1, std::string(Net<Scheme>::name) + ": " + title);
        save_static(q, method, title, weights);
    }

    template <class Scheme>
    void save_static(Net<Scheme>& q, const std::string& method, const std::string& title, const std::string& weights) {
        std::vector<std::uint8_t> codes;
        const double top1 = evaluate(q, test_, phase::quantized, &codes);
        notch::model_writer w(Net<Scheme>::name);
        // The parameters of a layer's input are those of the outputs() entry before it.
        std::vector<std::pair<std::string, notch::quant_params>> params{{"input", pixel_params}};
        q.outputs([&](const char* name, const activation& a) {
            if (a.quantized) params.emplace_back(name, a.params);
        });
        q.layers([&](const std::string& name, auto& layer) {
            notch::quant_params x = params.back().second; // of the last layer, whose own outputs are real
            for (std::size_t i = 1; i < params.size(); ++i)
                if (params[i].first == name) x = params[i - 1].second;
            const notch::layer_spec spec = layer.spec(x);
            notch::save_layer(w, name, spec);
            draw_weights(method, name, layer, spec);
        });
        q.observed([&](const std::string& name, auto& layer) {
            const notch::quant_params p = layer.output_params();
            w.template add<float>(name + ".s", {1}, std::span<const float>(&p.scale, 1));
            w.template add<std::int32_t>(name + ".z", {1}, std::span<const std::int32_t>(&p.zero_point, 1));
        });
        params.erase(params.begin());
        draw_outputs(method, q, params);
        w.save(base(method) + ".notch");
        write_file(base(method) + ".codes", as_text(codes));
        row(method, title, weights, "uint8", top1, "static");
    }

    /// Outputs before they become codes, each with the grid of its codes: those of the float forward of the same
    /// weights, for 100 test images. What the grid does not hold is clipped. A probe says how far the quantized
    /// network is from the float one there.
    template <class Scheme>
    void draw_outputs(const std::string& method, Net<Scheme>& q,
                      const std::vector<std::pair<std::string, notch::quant_params>>& grids) {
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
        q.outputs([&](const std::string& name, const activation& a) {
            for (const auto& [layer, grid] : grids)
                if (layer == name)
                    layers.push_back({{"network", Net<Scheme>::name},
                                      {"method", method},
                                      {"layer", name},
                                      {"what", "activation"},
                                      {"bits", 8},
                                      {"scale", grid.scale},
                                      {"zero_point", grid.zero_point},
                                      {"qmin", 0},
                                      {"qmax", 255},
                                      {"channels", 1},
                                      {"sqnr_db", probe[name].fake_quantized.error.sqnr_db()},
                                      {"histogram", histogram(a.values)}});
        });
    }

    /// Weights in steps of their channel's own scale, so that all channels share one grid.
    template <class L>
    void draw_weights(const std::string& method, const std::string& name, L& layer, const notch::layer_spec& s) {
        const auto w = layer.folded().first;
        const notch::channel_layout layout = layer.weight_layout();
        std::vector<float> steps(w.size());
        for (index_t i = 0; i < layout.size(); ++i)
            steps[static_cast<std::size_t>(i)] =
                w[static_cast<std::size_t>(i)] /
                s.w_scales[s.w_scales.size() == 1 ? 0 : i / layout.inner % layout.channels];
        const int top = (1 << (s.weight_bits - 1)) - 1;
        layers.push_back({{"network", Net<int8_per_channel>::name},
                          {"method", method},
                          {"layer", name},
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

    const settings& s_;
    const digits& train_;
    const digits& test_;
    double fp32_top1_ = 0;
};

int train_and_quantize(const settings& s) {
    std::filesystem::create_directories(s.out);
    const digits train_set = read_digits(s.data, "train"), test_set = read_digits(s.data, "test");
    std::printf("notch %s: %lld digits to train on, %lld to test\n", NOTCH_VERSION_STRING,
                static_cast<long long>(train_set.count), static_cast<long long>(test_set.count));
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
    std::thread first([&] { guarded(failed[0], [&] { s.quick ? a.run(4, 1, 1, 2e-3f) : a.run(14, 2, 3, 2e-3f); }); });
    guarded(failed[1], [&] { s.quick ? b.run(3, 1, 1, 2e-3f) : b.run(18, 2, 8, 4e-3f); });
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

int main(int argc, char** argv) {
    mnist::settings s{NOTCH_DEMO_DATA, "out/demo"};
    CLI::App app("Trains and quantizes the networks of the demo; mnist_run then checks and times them");
    app.add_option("--data", s.data, "folder of the IDX files")->capture_default_str();
    app.add_option("--out", s.out, "folder of the results")->capture_default_str();
    app.add_option("--seed", s.seed, "seed of all random numbers")->capture_default_str();
    app.add_flag("--quick", s.quick, "fewer epochs: a minute in all, lower accuracy");
    CLI11_PARSE(app, argc, argv);
    try {
        return mnist::train_and_quantize(s);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "mnist_train: %s\n", e.what());
        return 1;
    }
}
