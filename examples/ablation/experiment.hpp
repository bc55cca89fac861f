// SPDX-License-Identifier: Apache-2.0
//
// All rows of one network and one seed: it is trained in fp32, from weights of others if there are any (or read, if an
// earlier run has trained it), quantized by every post-training method, and trained again by every training method from
// the same fp32 weights.
#pragma once

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "../mnist/float_file.hpp"
#include "../mnist/progress.hpp"
#include "../mnist/training.hpp"
#include "layers.hpp"
#include "methods.hpp"
#include "post_training.hpp"
#include "results.hpp"

namespace ablation {

struct settings {
    std::string data, out;
    std::string cifar, resnet;         ///< the files of CIFAR-10 and of the float ResNet-8; empty: they are left out
    std::vector<std::string> networks; ///< which are run; none: all whose data is there
    unsigned seeds = 3;                ///< 1, 2, ... seeds
    bool quick = false;
    std::vector<std::string> filters; ///< parts of "network/method/W4A8"; none: everything
    int threads = 1;

    [[nodiscard]] bool wants(const std::string& network) const {
        return networks.empty() || std::find(networks.begin(), networks.end(), network) != networks.end();
    }
    [[nodiscard]] bool wants(const std::string& network, const method& m, const widths& w) const {
        if (quick && !in_quick_run(m, w)) return false;
        const std::string name = network + "/" + m.name + "/" + to_string(w);
        return filters.empty() || std::any_of(filters.begin(), filters.end(),
                                              [&](const std::string& f) { return name.find(f) != std::string::npos; });
    }
};

/// A network with its data, and how long it is trained.
template <template <class> class Net, class Data> struct subject {
    std::string data_name;
    const Data& train_set;
    const Data& test_set;
    double fp32_epochs = 8, epochs = 1;
    float fp32_rate = 2e-3f, rate = 1e-3f;                 ///< rate: of training with few bits; a fifth of it with 8
    std::function<void(Net<any_scheme>&)> pretrained = {}; ///< the weights that fp32 training starts from; none: random
};

/// The training images as the networks of one seed see them; data with more images than are used has an overload.
template <class Data> const Data& train_set_of(const Data& all, unsigned) { return all; }

/// A piece of work for one thread.
using job = std::function<void()>;

template <template <class> class Net, class Data> class experiment {
public:
    using network = Net<any_scheme>;
    experiment(const subject<Net, Data>& s, const settings& how, results& to) : s_(s), how_(how), results_(to) {
        network net;
        net.layers([&](const char*, auto& layer) { traits_.batch_norm = traits_.batch_norm || layer.norm; });
        net.chains([&](auto&, auto&) { traits_.chains = true; });
        for (const method& m : methods)
            for (const widths& w : all_widths())
                if (const auto reason = why_not(m, w, traits_))
                    results_.leave_out(network::name, s_.data_name, m.name, w, *reason);
    }

    void run(unsigned seed) {
        std::vector<std::pair<const method*, widths>> todo;
        for (const method& m : methods)
            for (const widths& w : all_widths())
                if (!why_not(m, w, traits_) && how_.wants(network::name, m, w) &&
                    !results_.has(network::name, s_.data_name, m.name, w, seed))
                    todo.emplace_back(&m, w);
        const bool need_row = !results_.has(network::name, s_.data_name, "fp32", {32, 32}, seed);
        const bool need_longer = s_.pretrained && how_.wants(network::name, longer, {32, 32}) &&
                                 !results_.has(network::name, s_.data_name, longer.name, {32, 32}, seed);
        if (todo.empty() && !need_row && !need_longer) return;

        const auto& train_set = train_set_of(s_.train_set, seed);
        network net;
        result row;
        row.network = network::name;
        row.data = s_.data_name;
        row.seed = seed;
        stopwatch watch;
        train_float(net, train_set, seed);
        row.fp32_top1 = row.top1 = mnist::evaluate(net, s_.test_set, phase::fp32);
        if (need_row) {
            row.method = "fp32";
            row.title = "float32";
            row.family = "float";
            row.bits = {32, 32};
            net.layers([&](const char*, auto& layer) { row.bytes += (layer.weight.size() + layer.math().out) * 4; });
            row.minutes = watch.minutes();
            add(row);
        }
        if (need_longer) train_on(net, train_set, row);
        post_training<network, Data> after(net, train_set, s_.test_set);
        std::map<std::string, notch::histogram> seen;
        for (const auto& [m, w] : todo) {
            row.method = m->name;
            row.title = m->title;
            row.bits = w;
            row.start_top1.reset();
            watch = {};
            outcome found;
            if (m->when == family::post_training) {
                row.family = "post-training";
                found = after.run(*m, w);
            } else {
                row.family = "training";
                if (seen.empty()) observe_outputs(net, train_set, seen);
                double start = 0;
                found = train_quantized(net, train_set, seen, *m, w, seed, start);
                row.start_top1 = start;
            }
            row.top1 = found.top1;
            row.bytes = found.bytes;
            row.minutes = watch.minutes();
            add(row);
        }
    }

private:
    struct stopwatch {
        std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
        [[nodiscard]] double minutes() const {
            return std::chrono::duration<double, std::ratio<60>>(std::chrono::steady_clock::now() - start).count();
        }
    };

    static constexpr method longer{"fp32_longer", "float32, trained on", family::training};

    void add(const result& r) {
        results_.add(r);
        char line[160];
        std::snprintf(line, sizeof line, "%-11s seed %u  %-42s %-14s top-1 %6.2f%%", r.network.c_str(), r.seed,
                      r.title.c_str(), r.family == "float" ? "" : to_string(r.bits).c_str(), r.top1);
        std::string text = line;
        if (r.start_top1) {
            std::snprintf(line, sizeof line, ", before training %6.2f%%", *r.start_top1);
            text += line;
        }
        mnist::progress::print(text);
    }

    void train_float(network& net, const Data& train_set, unsigned seed) {
        const std::string file =
            how_.out + "/" + network::name + "." + s_.data_name + "." + std::to_string(seed) + ".fp32";
        if (std::filesystem::exists(file)) {
            mnist::load_float_network(net, file);
            return;
        }
        std::mt19937 random(seed);
        if (s_.pretrained) {
            s_.pretrained(net);
            char line[96];
            std::snprintf(line, sizeof line, "%-11s seed %u  pretrained: top-1 %6.2f%%", network::name, seed,
                          mnist::evaluate(net, s_.test_set, phase::fp32));
            mnist::progress::print(line);
        } else
            net.layers([&](const char*, auto& layer) {
                layer.initialize([&] { return static_cast<double>(random()) / 4294967296.0; });
            });
        mnist::train(net, train_set, phase::fp32, s_.fp32_epochs, s_.fp32_rate, seed,
                     std::string(network::name) + ", seed " + std::to_string(seed) + ": fp32");
        mnist::save_float_network(net, network::name, notch::dtype::f32, file);
    }

    /// What the training of the training methods gains without any quantization: an fp32 network of others may not have
    /// been trained to its end.
    void train_on(network& fp32, const Data& train_set, result row) {
        const stopwatch watch;
        network net;
        copy_float_state(net, fp32);
        mnist::train(net, train_set, phase::fp32, s_.epochs, s_.rate, row.seed + 1000,
                     std::string(network::name) + ", seed " + std::to_string(row.seed) + ": " + longer.title);
        row.method = longer.name;
        row.title = longer.title;
        row.family = "float";
        row.bits = {32, 32};
        row.start_top1 = row.fp32_top1;
        row.top1 = mnist::evaluate(net, s_.test_set, phase::fp32);
        row.minutes = watch.minutes();
        add(row);
    }

    void observe_outputs(network& net, const Data& train_set, std::map<std::string, notch::histogram>& seen) {
        const auto watch = [&](const std::string& name, auto& layer) {
            auto& h = seen.try_emplace(name, 4096).first->second;
            layer.on_output = [&h](const activation& y) { h.observe(y.values); };
        };
        const auto stop = [](const char*, auto& layer) { layer.on_output = nullptr; };
        net.layers(watch);
        net.observed(watch);
        mnist::calibrate(net, train_set);
        net.layers(stop);
        net.observed(stop);
    }

    struct rules {
        weight_rule weights;
        activation_rule activations;
    };
    static rules rules_of(std::string_view name) {
        if (name == "learned_range") return {weight_rule::min_max, activation_rule::range};
        if (name == "lsq") return {weight_rule::learned_step, activation_rule::lsq};
        if (name == "lsq_error") return {weight_rule::least_error_step, activation_rule::lsq};
        if (name == "lsq_plus") return {weight_rule::least_error_step, activation_rule::lsq_plus};
        if (name == "tqt") return {weight_rule::learned_threshold, activation_rule::threshold};
        if (name == "pact") return {weight_rule::min_max, activation_rule::pact};
        if (name == "pact_dorefa") return {weight_rule::dorefa, activation_rule::pact};
        if (name == "twn") return {weight_rule::ternary, activation_rule::straight};
        if (name == "binary_connect") return {weight_rule::binary, activation_rule::straight};
        if (name == "xnor") return {weight_rule::xnor, activation_rule::straight};
        return {weight_rule::min_max, activation_rule::straight};
    }

    outcome train_quantized(network& fp32, const Data& train_set, const std::map<std::string, notch::histogram>& seen,
                            const method& m, const widths& w, unsigned seed, double& start) {
        const rules how = rules_of(m.name);
        network net;
        copy_float_state(net, fp32);
        net.layers([&](const std::string& name, auto& layer) {
            const auto folded = layer.folded().first;
            layer.weight_quantizer.use(
                make_weights(how.weights, static_cast<int>(w.weights), layer.weight_layout(), folded));
            if (!layer.is_last()) layer.quantizer = make_activation(how.activations, w.activations, seen.at(name));
        });
        net.observed([&](const std::string& name, auto& layer) {
            layer.quantizer = make_activation(how.activations, w.activations, seen.at(name));
        });
        start = mnist::evaluate(net, s_.test_set, phase::quantized);
        const bool few_bits = w.weights < 8 || w.activations < 8;
        mnist::train(net, train_set, phase::quantized, s_.epochs, few_bits ? s_.rate : s_.rate / 5, seed + 1000,
                     std::string(network::name) + ", seed " + std::to_string(seed) + ": " + m.title + " " +
                         to_string(w),
                     [](network& n) { n.layers([](const char*, auto& layer) { layer.after_step(); }); });
        const double top1 = mnist::evaluate(net, s_.test_set, phase::quantized);
        return {top1, packed_bytes(net, w.weights, false)};
    }

    subject<Net, Data> s_;
    const settings& how_;
    results& results_;
    network_traits traits_;
};

/// One job for each seed.
template <template <class> class Net, class Data>
void add_jobs(std::vector<job>& jobs, const subject<Net, Data>& s, const settings& how, results& to) {
    if (!how.wants(Net<any_scheme>::name)) return;
    const auto e = std::make_shared<experiment<Net, Data>>(s, how, to);
    for (unsigned seed = 1; seed <= how.seeds; ++seed) jobs.push_back([e, seed] { e->run(seed); });
}

/// Each data set, or network that takes long to compile, is one file with such a function, which adds its jobs.
void add_digits(std::vector<job>& jobs, const settings& how, results& to);
void add_resnet8(std::vector<job>& jobs, const settings& how, results& to); ///< needs how.cifar and how.resnet
void add_dsnet(std::vector<job>& jobs, const settings& how, results& to);   ///< needs how.cifar

} // namespace ablation
