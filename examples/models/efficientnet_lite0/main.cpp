// SPDX-License-Identifier: Apache-2.0
//
// EfficientNet-Lite0 on labelled ImageNet images: the pretrained network in fp32, quantized after training in several
// ways, and frozen. Fails if a frozen network gives another code than the training layers' quantized forward, on any
// instruction set. scripts/efficientnet_lite0.py makes the files that this reads.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <map>
#include <optional>
#include <random>
#include <type_traits>

#include <notch/io/safetensors.hpp>
#include <notch/observe/histogram.hpp>
#include <notch/ptq/adaround.hpp>
#include <notch/ptq/bias_correction.hpp>
#include <notch/ptq/calibrate.hpp>
#include <notch/ptq/equalize.hpp>
#include <notch/ptq/gptq.hpp>

#include "../distill.hpp"
#include "../results.hpp"
#include "../timing.hpp"
#include "images.hpp"
#include "network.hpp"

namespace efficientnet {
namespace {

template <class Layer> constexpr bool has_weights = requires(Layer& l) { l.weight; };

/// The training network that holds the floats; how it would quantize its weights does not matter.
using float_network = network<training_layers<notch::symmetric<8>>>;

void load_weights(float_network& net, const notch::safetensors& file) {
    net.each(activation{}, [&](const std::string& name, auto& layer, auto&...) {
        if constexpr (has_weights<std::remove_cvref_t<decltype(layer)>>) {
            const auto fill = [&](const std::string& key, buffer<float>& to) {
                const auto from = file.tensor<float>(key);
                notch::detail::check_equal(key, "the number of values", static_cast<index_t>(from.size()), to.size());
                std::copy(from.begin(), from.end(), to.begin());
            };
            fill(name + ".weight", layer.weight);
            fill(name + ".bias", layer.bias);
        }
    });
}

/// Random weights of a usual size.
void initialize(float_network& net) {
    std::mt19937 random(1);
    net.each(activation{}, [&](const auto&, auto& layer, auto&...) {
        if constexpr (has_weights<std::remove_cvref_t<decltype(layer)>>)
            layer.initialize([&] { return static_cast<double>(random()) / 4294967296.0; });
    });
}

/// What the calibration images showed of a layer.
struct statistics {
    notch::histogram output{4096};
    std::vector<double> input_sums; ///< by channel
    index_t pixels = 0;
    std::optional<notch::input_moments> moments; ///< of the inputs of a pointwise layer
    [[nodiscard]] std::vector<float> input_means() const {
        std::vector<float> means;
        for (double s : input_sums) means.push_back(static_cast<float>(s / static_cast<double>(pixels)));
        return means;
    }
};

/// A float network and what was seen of it.
struct calibrated {
    float_network net;
    std::map<std::string, statistics> seen;

    void watch(const image_set& images) {
        activation x;
        const context ctx;
        for (index_t i = 0; i < images.count; ++i) {
            images.get(i, 1, false, x);
            net.each(x, [&](const std::string& name, auto& layer, const activation& in, auto&... rest) {
                layer.forward(in, rest..., phase::fp32, false, ctx);
                statistics& s = seen[name];
                const activation& y = std::get<sizeof...(rest) - 1>(std::tie(rest...));
                s.output.observe(y.values);
                s.input_sums.resize(static_cast<std::size_t>(in.c));
                for (index_t p = 0; p < in.pixels(); ++p)
                    for (index_t c = 0; c < in.c; ++c)
                        s.input_sums[static_cast<std::size_t>(c)] += static_cast<double>(in.values[p * in.c + c]);
                s.pixels += in.pixels();
                if constexpr (has_weights<std::remove_cvref_t<decltype(layer)>>)
                    if (layer.weight.size() == layer.math().out * in.c) observe_moments(s, in);
            });
        }
    }

private:
    /// At most 49 pixels of an image, spread evenly: they are alike.
    static void observe_moments(statistics& s, const activation& x) {
        if (!s.moments) s.moments.emplace(x.c);
        const index_t n = std::min<index_t>(x.pixels(), 49);
        std::vector<float> rows;
        for (index_t k = 0; k < n; ++k) {
            const float* from = x.values.data() + k * x.pixels() / n * x.c;
            rows.insert(rows.end(), from, from + x.c);
        }
        s.moments->observe({rows.data(), n, x.c});
    }
};

template <class Layer> notch::weight_shape shape_of(const Layer& layer) {
    const index_t out = layer.math().out, taps = layer.math().geometry.kernel_h * layer.math().geometry.kernel_w;
    if constexpr (std::remove_cvref_t<decltype(layer.math())>::depthwise) return notch::depthwise_weights(taps, out);
    return notch::conv_weights(out, taps, layer.math().in);
}

/// Cross-layer equalization; a network with ReLU instead of ReLU6.
void equalize(float_network& net) {
    std::vector<notch::layer_pair> pairs;
    net.chains([&](auto& first, auto& second) {
        pairs.push_back({first.weight, shape_of(first), first.bias, second.weight, shape_of(second)});
    });
    notch::cross_layer_equalize(pairs);
}

/// How long a quantized network is trained, and on crops of which size.
struct training {
    models::distillation how;
    index_t batch = 8, side = 160;
};

/// How weights become codes.
enum class rounding { nearest, gptq, adaround };

/// How a network is quantized after training.
struct recipe {
    const char* bits;
    notch::clip activations = notch::clip::min_max();
    notch::clip weights = notch::clip::min_max();
    rounding pointwise = rounding::nearest; ///< of the pointwise layers, after the ranges
    index_t iterations = 1000;              ///< of AdaRound
};

/// Ranges of weights, by layer or by channel as its quantizer has them, and codes: what the layer will take for its
/// weights and quantize without further error.
template <class Layer> void quantize_weights(Layer& layer, const recipe& r, const statistics& s) {
    using range = typename std::remove_cvref_t<decltype(layer.weight_quantizer)>::range;
    const notch::channel_layout layout = layer.weight_quantizer.layout();
    std::vector<notch::quant_params> params(static_cast<std::size_t>(layout.count()));
    notch::calibrate<range>(layer.weight, layout, r.weights, params);
    buffer<float> clipped = layer.weight;
    for (index_t i = 0; i < clipped.size(); ++i) {
        const notch::real_range bounds = notch::range_of<range>(params[static_cast<std::size_t>(layout.index_of(i))]);
        clipped[i] = std::clamp(clipped[i], bounds.min, bounds.max);
    }
    layer.weight_quantizer.observe(clipped); // from now on these are its ranges
    if (r.pointwise == rounding::nearest || !s.moments) return;
    const auto scales = layer.weight_quantizer.params();
    const index_t in = s.moments->inputs(), out = layer.math().out;
    std::vector<std::int8_t> codes(static_cast<std::size_t>(layer.weight.size()));
    const notch::matrix_view<const float> w(layer.weight.data(), out, in);
    const notch::matrix_view<std::int8_t> to(codes.data(), out, in);
    if (r.pointwise == rounding::gptq)
        notch::gptq<range>(w, *s.moments, scales, to);
    else
        notch::adaround<range>(w, *s.moments, scales, to, {.iterations = r.iterations});
    for (index_t k = 0; k < layer.weight.size(); ++k) {
        const float scale = scales[static_cast<std::size_t>(layout.index_of(k))].scale;
        layer.weight[k] = static_cast<float>(codes[static_cast<std::size_t>(k)]) * scale;
    }
}

/// The floats of a network into another of any quantizers.
template <class From, class Layers> void copy_weights(network<From>& from, network<Layers>& to) {
    std::map<std::string, std::pair<const buffer<float>*, const buffer<float>*>> floats;
    from.each(activation{}, [&](const std::string& name, auto& layer, auto&...) {
        if constexpr (has_weights<std::remove_cvref_t<decltype(layer)>>) floats[name] = {&layer.weight, &layer.bias};
    });
    to.each(activation{}, [&](const std::string& name, auto& layer, auto&...) {
        if constexpr (has_weights<std::remove_cvref_t<decltype(layer)>>) {
            layer.weight = *floats.at(name).first;
            layer.bias = *floats.at(name).second;
        }
    });
}

template <class Layers> network<Layers> quantize(calibrated& from, const recipe& r, nonlinearity function) {
    auto net = make_network<Layers>(function);
    copy_weights(from.net, net);
    net.each(activation{}, [&](const std::string& name, auto& layer, auto&...) {
        const statistics& s = from.seen.at(name);
        layer.fixed_params = notch::calibrate<notch::affine<8>>(s.output, r.activations);
        if constexpr (has_weights<std::remove_cvref_t<decltype(layer)>>) quantize_weights(layer, r, s);
    });
    return net;
}

/// Biases against the shift that the quantized weights of net make in the means.
template <class Layers> void correct_biases(calibrated& from, network<Layers>& net) {
    std::map<std::string, const buffer<float>*> real;
    from.net.each(activation{}, [&](const std::string& name, auto& layer, auto&...) {
        if constexpr (has_weights<std::remove_cvref_t<decltype(layer)>>) real[name] = &layer.weight;
    });
    net.each(activation{}, [&](const std::string& name, auto& layer, auto&...) {
        if constexpr (has_weights<std::remove_cvref_t<decltype(layer)>>)
            notch::correct_bias(*real.at(name), layer.weight_quantizer.forward(layer.weight), shape_of(layer),
                                from.seen.at(name).input_means(), layer.bias);
    });
}

/// A network with learned steps that starts from one quantized after training, trained on images without labels: the
/// outputs of blocks, head and classifier are to be those of the floats.
template <class Learned, class Layers>
network<Learned> train(float_network& teacher, network<Layers>& start, const training& t, const image_set& images) {
    auto net = make_network<Learned>();
    copy_weights(start, net);
    std::map<std::string, std::pair<notch::quant_params, std::span<const notch::quant_params>>> found;
    start.each(activation{}, [&](const std::string& name, auto& layer, auto&...) {
        found[name].first = layer.output_params();
        if constexpr (has_weights<std::remove_cvref_t<decltype(layer)>>)
            found[name].second = layer.weight_quantizer.params();
    });
    net.each(activation{}, [&](const std::string& name, auto& layer, auto&...) {
        layer.fixed_params = found.at(name).first;
        if constexpr (has_weights<std::remove_cvref_t<decltype(layer)>>)
            layer.weight_quantizer.initialize(found.at(name).second);
    });
    crop_mixer crops(images, t.batch, t.side);
    models::distill(
        teacher, net, t.how, [&](activation& real, activation& codes) { crops.next(real, codes); },
        [](const std::string& name) {
            return name == "head" || name == "classifier" || name.ends_with(".project") || name.ends_with(".residual");
        });
    return net;
}

struct measured {
    double top1 = 0, agreement = 0, latency_ms = 0;
    std::vector<index_t> predictions;
};

/// Runs the images one by one. forward(x) gives the logits; reference are the predictions to agree with.
template <class Forward>
measured evaluate(const image_set& images, bool codes, const std::vector<index_t>& reference, const Forward& forward) {
    measured m;
    std::vector<double> times;
    activation x;
    index_t right = 0, same = 0;
    for (index_t i = 0; i < images.count; ++i) {
        images.get(i, 1, codes, x);
        const auto begin = std::chrono::steady_clock::now();
        const activation& z = forward(x);
        times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
        m.predictions.push_back(std::max_element(z.values.begin(), z.values.end()) - z.values.begin());
        right += m.predictions.back() == images.labels[static_cast<std::size_t>(i)];
        same += !reference.empty() && m.predictions.back() == reference[static_cast<std::size_t>(i)];
    }
    std::nth_element(times.begin(), times.begin() + images.count / 2, times.end());
    m.latency_ms = times[static_cast<std::size_t>(images.count / 2)];
    m.top1 = 100.0 * static_cast<double>(right) / static_cast<double>(images.count);
    m.agreement = 100.0 * static_cast<double>(same) / static_cast<double>(images.count);
    return m;
}

/// The outputs in which the frozen network differs from the training layers on the first images.
template <class Layers>
index_t compare(network<Layers>& net, network<frozen_layers>& frozen, const image_set& images, index_t count) {
    activation x;
    images.get(0, std::min(count, images.count), true, x);
    return models::different(net, frozen, x);
}

/// Weights densely packed, scales and biases.
std::int64_t bytes_of(network<frozen_layers>& net) {
    std::int64_t bytes = 0;
    net.each(activation{}, [&](const auto&, auto& layer, auto&...) {
        if constexpr (requires { layer.spec(); }) {
            const notch::layer_spec& s = layer.spec();
            bytes += (s.weights.size() * s.weight_bits + 7) / 8 + 4 * (s.w_scales.size() + s.bias.size()) + 2 * 5;
        } else {
            bytes += 5; // scale and zero point of its output
        }
    });
    return bytes;
}

/// Weights and biases in fp32.
std::int64_t bytes_of(float_network& net) {
    std::int64_t bytes = 0;
    net.each(activation{}, [&](const auto&, auto& layer, auto&...) {
        if constexpr (has_weights<std::remove_cvref_t<decltype(layer)>>)
            bytes += 4 * (layer.weight.size() + layer.bias.size());
    });
    return bytes;
}

constexpr const char* all_methods[] = {"static", "gptq", "adaround", "qat", "equalized"};

class experiment {
public:
    /// net: with ReLU6. compared: so many images are compared code by code.
    experiment(float_network net, image_set images, image_set calibration, index_t compared)
        : images_(std::move(images)), calibration_(std::move(calibration)),
          compared_(compared), plain_{std::move(net), {}} {
        fp32_ = fp32(plain_.net, {});
        add("", "fp32", fp32_, bytes_of(plain_.net));
    }
    /// methods: of all_methods. iterations: of AdaRound.
    void run(const std::vector<std::string>& methods, const training& t, index_t iterations) {
        using notch::symmetric;
        using per_channel = training_layers<symmetric<8>>;
        using per_tensor = training_layers<symmetric<8>, symmetric<8>, false>;
        // Four bits for the pointwise layers and the classifier, where nearly all weights are.
        using four_bits = training_layers<symmetric<4>, symmetric<8>>;
        const auto wanted = [&](const char* method) {
            return std::find(methods.begin(), methods.end(), method) != methods.end();
        };
        const auto min_max = notch::clip::min_max(), error = notch::clip::error();
        plain_.watch(calibration_);
        if (wanted("static")) {
            rows<per_tensor>({"w8a8"}, "static, per tensor", "bias correction, per tensor");
            rows<per_channel>({"w8a8"}, "static, per channel", "bias correction");
            rows<per_channel>({"w8a8", notch::clip::percentile(99.99)}, "percentile 99.99 of activations");
            rows<per_channel>({"w8a8", error}, "least squared error of activations");
            rows<four_bits>({"w4a8"}, "static, per channel");
            rows<four_bits>({"w4a8", min_max, error}, "least squared error", "least squared error + bias correction");
        }
        if (wanted("gptq")) rows<four_bits>({"w4a8", min_max, error, rounding::gptq}, "GPTQ", "GPTQ + bias correction");
        if (wanted("adaround"))
            rows<four_bits>({"w4a8", min_max, error, rounding::adaround, iterations}, "AdaRound",
                            "AdaRound + bias correction");
        if (wanted("qat")) {
            trained<models::learned_layers<symmetric<8>, symmetric<8>, false>, per_tensor>("trained, per tensor",
                                                                                           {"w8a8", min_max, error}, t);
            trained<models::learned_layers<symmetric<4>, symmetric<8>>, four_bits>(
                "trained", {"w4a8", min_max, error, rounding::gptq}, t);
        }
        if (!wanted("equalized")) return;
        // Factors do not commute with the upper bound of ReLU6.
        calibrated equal{make_network<per_channel>(nonlinearity::relu), {}};
        copy_weights(plain_.net, equal.net);
        equalize(equal.net);
        add("equalized, ReLU for ReLU6", "fp32", fp32(equal.net, fp32_.predictions), bytes_of(equal.net));
        equal.watch(calibration_);
        rows<per_tensor>({"w8a8"}, "equalized, per tensor", "equalized + bias correction, per tensor", &equal);
    }
    [[nodiscard]] const std::vector<models::result>& results() const { return results_; }
    [[nodiscard]] index_t different_codes() const { return different_; }

private:
    measured fp32(float_network& net, const std::vector<index_t>& reference) const {
        const context ctx;
        return evaluate(images_, false, reference, [&](const activation& x) -> const activation& {
            return net.forward(x, phase::fp32, false, ctx);
        });
    }
    /// A network quantized after training, and if `corrected` names that, the same with corrected biases.
    template <class Layers>
    void rows(const recipe& r, const char* method, const char* corrected = nullptr, calibrated* from = nullptr) {
        auto net =
            from ? quantize<Layers>(*from, r, nonlinearity::relu) : quantize<Layers>(plain_, r, nonlinearity::relu6);
        ship(net, method, r.bits);
        if (!corrected) return;
        correct_biases(from ? *from : plain_, net);
        ship(net, corrected, r.bits);
    }
    /// r: what training starts from.
    template <class Learned, class Layers> void trained(const char* method, const recipe& r, const training& t) {
        auto start = quantize<Layers>(plain_, r, nonlinearity::relu6);
        correct_biases(plain_, start);
        auto net = train<Learned>(plain_.net, start, t, calibration_);
        ship(net, method, r.bits);
    }
    template <class Layers> void ship(network<Layers>& net, const char* method, const char* bits) {
        auto frozen = freeze(net);
        different_ += compare(net, frozen, images_, compared_);
        const context ctx;
        const measured m = evaluate(images_, true, fp32_.predictions,
                                    [&](const activation& x) -> const activation& { return frozen.forward(x, ctx); });
        add(method, bits, m, bytes_of(frozen));
    }
    void add(const char* method, const char* bits, const measured& m, std::int64_t bytes) {
        const bool quantized = *method != '\0';
        std::printf("%-39s %-5s  top-1 %6.2f %%", method, bits, m.top1);
        if (quantized) std::printf("  agreement %6.2f %%", m.agreement);
        std::printf("  %8.2f ms  %9lld bytes\n", m.latency_ms, static_cast<long long>(bytes));
        std::fflush(stdout);
        const auto note = [&](const char* metric, double value, double fp32) {
            results_.push_back({"efficientnet-lite0", method, bits, metric, value, fp32, bytes, m.latency_ms, {}, {}});
        };
        note("top1 %", m.top1, fp32_.top1);
        if (quantized) note("agreement %", m.agreement, 100.0);
    }

    image_set images_, calibration_;
    index_t compared_, different_ = 0;
    calibrated plain_;
    measured fp32_;
    std::vector<models::result> results_;
};

/// The latency of INT8, static and per channel.
double latency_ms(float_network& net, const image_set& images, int threads, double seconds) {
    activation x;
    images.get(0, std::min<index_t>(images.count, 16), false, x);
    net.forward(x, phase::calibrate, false, context());
    auto frozen = freeze(net);
    images.get(0, 1, true, x);
    return models::median_ms(seconds, threads, [&](const context& ctx) { frozen.forward(x, ctx); });
}

} // namespace
} // namespace efficientnet

int main(int argc, char** argv) {
    std::string weights, images, calibration, out;
    bool quick = false, timing = false;
    int threads = 1;
    double seconds = 1;
    std::vector<std::string> methods(std::begin(efficientnet::all_methods), std::end(efficientnet::all_methods));
    efficientnet::training t;
    CLI::App app(
        "EfficientNet-Lite0 on labelled images, in fp32 and quantized. Without files: random weights and noise, "
        "whose codes are compared");
    auto* w = app.add_option("--weights", weights, "weights.safetensors of scripts/efficientnet_lite0.py");
    auto* i = app.add_option("--images", images, "images.safetensors: labelled images")->needs(w);
    auto* c = app.add_option("--calibration", calibration, "calibration.safetensors: other images")->needs(i);
    w->needs(c);
    app.add_option("--out", out, "file of the results")->needs(w);
    app.add_flag("--quick", quick, "50 images, 16 for calibration, 2 steps of training");
    app.add_option("--methods", methods, "which of static, gptq, adaround, qat, equalized (default: all)")
        ->check(CLI::IsMember(methods));
    app.add_option("--steps", t.how.steps, "of training, of 8 crops each (default: 400)")->check(CLI::PositiveNumber);
    app.add_flag("--time", timing, "only the latency of INT8: efficientnet-lite0, tab, ms");
    app.add_option("--threads", threads, "of --time")->check(CLI::Range(1, 256))->capture_default_str();
    app.add_option("--seconds", seconds, "of --time")->check(CLI::Range(0.0, 3600.0))->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    try {
        using namespace efficientnet;
        const index_t all = index_t{1} << 20;
        auto net = make_network<training_layers<notch::symmetric<8>>>();
        image_set test = image_set::noise(2), other = image_set::noise(2);
        if (weights.empty()) {
            initialize(net);
        } else {
            load_weights(net, notch::safetensors::load(weights));
            test = image_set::load(images, quick ? 50 : all);
            other = image_set::load(calibration, quick ? 16 : all);
            if (test.labels.empty()) notch::fail(notch::errc::invalid_argument, images + ": no labels");
        }
        if (timing) {
            models::print_time("efficientnet-lite0", latency_ms(net, other, threads, seconds));
            return 0;
        }
        experiment e(std::move(net), std::move(test), std::move(other), quick || weights.empty() ? 1 : 4);
        if (quick || weights.empty()) {
            t.how.steps = 2;
            t.batch = 1;
        }
        e.run(methods, t, quick || weights.empty() ? 5 : 1000);
        if (!out.empty()) models::write_results(out, e.results());
        if (e.different_codes() == 0) return 0;
        std::fprintf(stderr, "models_efficientnet_lite0: %lld codes differ\n",
                     static_cast<long long>(e.different_codes()));
    } catch (const std::exception& e) {
        std::fprintf(stderr, "models_efficientnet_lite0: %s\n", e.what());
    }
    return 1;
}
