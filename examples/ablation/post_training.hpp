// SPDX-License-Identifier: Apache-2.0
//
// The post-training methods on a whole network. Batch norm is folded first; statistics of inputs and outputs come from
// the float network and the 1,000 calibration images; weights get codes, activations get parameters, biases may be
// corrected; then the network runs on the integer kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <notch/observe/histogram.hpp>
#include <notch/ptq/adaround.hpp>
#include <notch/ptq/bias_correction.hpp>
#include <notch/ptq/brecq.hpp>
#include <notch/ptq/calibrate.hpp>
#include <notch/ptq/equalize.hpp>
#include <notch/ptq/gptq.hpp>
#include <notch/ptq/hqq.hpp>
#include <notch/ptq/smooth_quant.hpp>

#include "../mnist/training.hpp"
#include "layers.hpp"
#include "methods.hpp"

namespace ablation {

using notch::matrix_view;

/// What a row of the results says of a quantized network.
struct outcome {
    double top1 = 0;
    std::int64_t bytes = 0;
};

/// Weights densely packed (ternary ones in two bits), scales, zero points and biases of a network that has run.
template <class Net> std::int64_t packed_bytes(Net& net, double weight_bits, bool zero_points) {
    std::int64_t bytes = 0;
    const std::int64_t bits = weight_bits == ternary_bits ? 2 : static_cast<std::int64_t>(weight_bits);
    net.layers([&](const char*, auto& layer) {
        const auto scales = static_cast<std::int64_t>(layer.weight_quantizer.params().size());
        bytes += (layer.weight.size() * bits + 7) / 8 + scales * (zero_points ? 5 : 4) + layer.math().out * 4;
    });
    return bytes;
}

/// Weights as outputs x inputs: those of a depthwise layer [taps][channels] turned.
struct weight_matrix {
    std::vector<float> values;
    index_t rows = 0, cols = 0;
    bool turned = false;

    template <class Layer> explicit weight_matrix(const Layer& layer) {
        rows = layer.math().out;
        cols = layer.weight.size() / rows;
        turned = std::remove_cvref_t<decltype(layer.math())>::depthwise;
        values = in_rows(layer.weight.span());
    }
    [[nodiscard]] matrix_view<const float> view() const { return {values.data(), rows, cols}; }
    [[nodiscard]] std::vector<float> in_rows(std::span<const float> w) const {
        std::vector<float> to(w.size());
        each([&](std::size_t row_major, std::size_t own) { to[row_major] = w[own]; });
        return to;
    }
    /// Back in the order of the layer.
    template <class T> std::vector<T> in_own_order(std::span<const T> row_major) const {
        std::vector<T> to(row_major.size());
        each([&](std::size_t from, std::size_t own) { to[own] = row_major[from]; });
        return to;
    }

private:
    template <class F> void each(const F& f) const {
        for (index_t r = 0; r < rows; ++r)
            for (index_t c = 0; c < cols; ++c)
                f(static_cast<std::size_t>(r * cols + c),
                  static_cast<std::size_t>(turned ? c * rows + r : r * cols + c));
    }
};

/// The channels of weights; inputs: what the shape calls input channels, those of the layer before, which a flattened
/// image repeats.
template <class Layer> notch::weight_shape shape_of(const Layer& layer, index_t inputs) {
    const index_t out = layer.math().out, taps = layer.weight.size() / out;
    if constexpr (std::remove_cvref_t<decltype(layer.math())>::depthwise) return notch::depthwise_weights(taps, out);
    return notch::conv_weights(out, taps / inputs, inputs);
}

/// What the calibration images showed of one layer.
struct layer_statistics {
    notch::histogram output{4096};
    std::vector<float> input_magnitudes;         ///< the largest |x| by input channel
    std::vector<notch::input_moments> moments;   ///< of patches: one, or one for each channel of a depthwise layer
    std::vector<std::vector<double>> patch_sums; ///< the same of their sums, over patches
    index_t patches = 0;

    void observe_input(const activation& x) {
        const auto channels = static_cast<std::size_t>(x.c);
        input_magnitudes.resize(channels);
        for (index_t i = 0; i < x.size(); ++i) {
            const auto c = static_cast<std::size_t>(i % x.c);
            input_magnitudes[c] = std::max(input_magnitudes[c], std::fabs(x.values[i]));
        }
    }
    template <class Math> void observe_moments(const Math& m, const activation& x) {
        constexpr index_t most = 50000; // patches, enough of small images
        if (!moments.empty() && moments.front().rows() >= most) return;
        for_patches(m, x, [&](std::size_t group, std::size_t groups, matrix_view<const float> rows) {
            if (moments.empty()) moments.assign(groups, notch::input_moments(rows.cols));
            moments[group].observe(rows);
        });
    }
    template <class Math> void observe_patch_means(const Math& m, const activation& x) {
        for_patches(m, x, [&](std::size_t group, std::size_t groups, matrix_view<const float> rows) {
            patch_sums.resize(groups);
            patch_sums[group].resize(static_cast<std::size_t>(rows.cols));
            for (index_t r = 0; r < rows.rows; ++r)
                for (index_t c = 0; c < rows.cols; ++c)
                    patch_sums[group][static_cast<std::size_t>(c)] += static_cast<double>(rows(r, c));
            if (group == 0) patches += rows.rows;
        });
    }
    /// The mean output of weights in rows, without bias.
    [[nodiscard]] std::vector<float> mean_outputs(matrix_view<const float> w) const {
        std::vector<float> y;
        for (index_t r = 0; r < w.rows; ++r) {
            const auto& sums = patch_sums[patch_sums.size() == 1 ? 0 : static_cast<std::size_t>(r)];
            double sum = 0;
            for (index_t c = 0; c < w.cols; ++c)
                sum += static_cast<double>(w(r, c)) * sums[static_cast<std::size_t>(c)];
            y.push_back(static_cast<float>(sum / static_cast<double>(patches)));
        }
        return y;
    }

private:
    /// f(group, groups, patches as rows): one group, or one for each channel of a depthwise layer.
    template <class Math, class F> static void for_patches(const Math& m, const activation& x, const F& f) {
        const notch::window& s = m.geometry;
        const index_t taps = s.kernel_h * s.kernel_w, channels = Math::depthwise ? 1 : m.in;
        const auto groups = static_cast<std::size_t>(Math::depthwise ? m.out : 1);
        const index_t oh = s.out_h(x.h), ow = s.out_w(x.w), rows = x.n * oh * ow;
        std::vector<float> patches(static_cast<std::size_t>(rows * taps * channels));
        for (std::size_t group = 0; group < groups; ++group) {
            float* to = patches.data();
            for (index_t i = 0; i < x.n; ++i)
                for (index_t y = 0; y < oh; ++y)
                    for (index_t xo = 0; xo < ow; ++xo)
                        for (index_t tap = 0; tap < taps; ++tap, to += channels) {
                            const index_t iy = y * s.stride_h - s.pad_top + tap / s.kernel_w * s.dilation_h;
                            const index_t ix = xo * s.stride_w - s.pad_left + tap % s.kernel_w * s.dilation_w;
                            const bool inside = iy >= 0 && iy < x.h && ix >= 0 && ix < x.w;
                            const float* from = x.values.data() + ((i * x.h + iy) * x.w + ix) * x.c +
                                                (Math::depthwise ? static_cast<index_t>(group) : 0);
                            for (index_t c = 0; c < channels; ++c) to[c] = inside ? from[c] : 0.0f;
                        }
            f(group, groups, matrix_view<const float>(patches.data(), rows, taps * channels));
        }
    }
};

/// Codes in the order of the weights, with one scale or one for each output channel.
struct chosen_codes {
    std::vector<std::int8_t> codes;
    std::vector<float> scales;
};

/// The whole network as the block of BRECQ: z are the logits of batches of calibration images.
template <class Net, class Data> class network_block {
public:
    static constexpr index_t batch = 64;
    network_block(Net& net, const Data& d) : net_(net), data_(d), order_(mnist::in_order(d.count)) {}

    const activation& logits(index_t b) {
        load_batch(data_, order_, b * batch, batch, x_, mnist::not_augmented);
        return net_.forward(x_, phase::fp32, true, context());
    }
    void forward(index_t b, std::span<const matrix_view<const float>> w, matrix_view<float> z) {
        std::size_t at = 0;
        net_.layers([&](const char*, auto& layer) {
            const weight_matrix m(layer);
            const auto own = m.in_own_order(std::span<const float>(w[at].data, m.values.size()));
            std::copy(own.begin(), own.end(), layer.weight.begin());
            ++at;
        });
        const activation& y = logits(b);
        std::copy(y.values.begin(), y.values.end(), z.data);
    }
    void backward(index_t, std::span<const matrix_view<const float>>, matrix_view<const float> dz,
                  std::span<const matrix_view<float>> dw) {
        net_.layers([](const char*, auto& layer) {
            std::fill(layer.weight_gradient.begin(), layer.weight_gradient.end(), 0.0f);
        });
        gradient_.resize_discard(dz.rows * dz.cols);
        std::copy_n(dz.data, gradient_.size(), gradient_.begin());
        net_.backward(gradient_, context());
        std::size_t at = 0;
        net_.layers([&](const char*, auto& layer) {
            const auto rows = weight_matrix(layer).in_rows(layer.weight_gradient.span());
            std::copy(rows.begin(), rows.end(), dw[at].data);
            ++at;
        });
    }

private:
    Net& net_;
    const Data& data_;
    std::vector<index_t> order_;
    activation x_;
    buffer<float> gradient_;
};

/// Post-training quantization of one trained network. What methods share is computed once.
template <class Net, class Data> class post_training {
public:
    /// trained: a float network with what it has learned; it is copied.
    post_training(Net& trained, const Data& train_set, const Data& test_set) : train_(train_set), test_(test_set) {
        copy_float_state(plain_.net, trained);
        plain_.net.layers([](const char*, auto& layer) { layer.fold_batch_norm(); });
    }

    outcome run(const method& m, const widths& w) {
        const std::string_view name = m.name;
        variant& from = name == "smooth_quant"            ? smoothed()
                        : name.substr(0, 8) == "equalize" ? equalized()
                                                          : observed(plain_);
        Net net;
        copy_float_state(net, from.net);
        const std::vector<chosen_codes>& codes = choose(name, static_cast<int>(w.weights), from);
        const std::vector<std::vector<float>>* biases =
            name == "equalize_correct" ? &corrected_biases(from, codes, static_cast<int>(w.weights)) : nullptr;
        std::size_t at = 0;
        net.layers([&](const std::string& layer_name, auto& layer) {
            if (biases) std::copy((*biases)[at].begin(), (*biases)[at].end(), layer.bias.begin());
            const chosen_codes& c = codes[at++];
            auto q = std::make_unique<given_weights>(layer.weight_layout(), c.codes, c.scales);
            const layer_statistics& seen = from.statistics.at(layer_name);
            layer.weight_quantizer.use(std::move(q));
            if (!layer.is_last()) layer.quantizer = fix_activation(w.activations, seen.output, activation_clip(name));
        });
        net.observed([&](const std::string& layer_name, auto& layer) {
            layer.quantizer =
                fix_activation(w.activations, from.statistics.at(layer_name).output, activation_clip(name));
        });
        const double top1 = mnist::evaluate(net, test_, phase::quantized);
        return {top1, packed_bytes(net, w.weights, name == "hqq")};
    }

private:
    /// A float network and what was seen of it.
    struct variant {
        Net net;
        std::map<std::string, layer_statistics> statistics;
        bool observed = false, has_means = false;
    };

    static notch::clip activation_clip(std::string_view name) {
        if (name == "percentile") return notch::clip::percentile(99.99);
        if (name == "entropy") return notch::clip::entropy();
        if (name == "mse" || name == "hqq" || name == "gptq" || name == "adaround" || name == "brecq")
            return notch::clip::error();
        return notch::clip::min_max();
    }

    variant& observed(variant& v) {
        if (std::exchange(v.observed, true)) return v;
        watch(v, [](layer_statistics& s, const auto&, const activation& x) { s.observe_input(x); });
        return v;
    }
    const variant& with_patch_means(variant& v) {
        if (std::exchange(v.has_means, true)) return v;
        watch(v, [](layer_statistics& s, const auto& layer, const activation& x) {
            s.observe_patch_means(layer.math(), x);
        });
        return v;
    }
    /// Shows the calibration images: inputs to observe(statistics, layer, x), outputs to the histograms, once.
    template <class Observe> void watch(variant& v, const Observe& observe) {
        const bool first = v.statistics.empty();
        v.net.layers([&](const std::string& name, auto& layer) {
            layer_statistics& s = v.statistics[name];
            layer.on_input = [&s, &layer, &observe](const activation& x) { observe(s, layer, x); };
            if (first) layer.on_output = [&s](const activation& y) { s.output.observe(y.values); };
        });
        v.net.observed([&](const std::string& name, auto& layer) {
            layer_statistics& s = v.statistics[name];
            if (first) layer.on_output = [&s](const activation& y) { s.output.observe(y.values); };
        });
        mnist::calibrate(v.net, train_);
        v.net.layers([](const char*, auto& layer) { layer.on_input = layer.on_output = nullptr; });
        v.net.observed([](const char*, auto& layer) { layer.on_output = nullptr; });
    }

    /// Calls choose(k, layer, statistics) for layer k after the other: choose replaces its float weights by quantized
    /// ones, and observe has been shown what reaches the layer through those before it.
    template <class Observe, class Choose> void one_by_one(Net& net, const Observe& observe, const Choose& choose) {
        std::size_t layers = 0;
        net.layers([&](const char*, auto&) { ++layers; });
        for (std::size_t k = 0; k < layers; ++k) {
            std::size_t at = 0;
            net.layers([&](const char*, auto& layer) {
                if (at++ != k) return;
                layer_statistics seen;
                layer.on_input = [&](const activation& x) { observe(seen, layer, x); };
                // As many images as a dense layer has inputs: moments of fewer have no inverse.
                mnist::calibrate(net, train_, std::max<index_t>(1000, layer.weight.size() / layer.math().out));
                layer.on_input = nullptr;
                choose(k, layer, seen);
            });
        }
    }
    static void use_values(auto& layer, const chosen_codes& c) {
        const given_weights q(layer.weight_layout(), c.codes, c.scales);
        std::copy(q.values().begin(), q.values().end(), layer.weight.begin());
    }
    /// Empirical bias correction: the mean of each output over the calibration images is again that of the float
    /// network, where the inputs of both come from their own layers before.
    const std::vector<std::vector<float>>& corrected_biases(variant& from, const std::vector<chosen_codes>& codes,
                                                            int bits) {
        auto& biases = biases_[bits];
        if (!biases.empty()) return biases;
        with_patch_means(from);
        std::vector<std::vector<float>> wanted;
        from.net.layers([&](const std::string& name, auto& layer) {
            wanted.push_back(from.statistics.at(name).mean_outputs(weight_matrix(layer).view()));
        });
        Net net;
        copy_float_state(net, from.net);
        one_by_one(
            net,
            [](layer_statistics& s, const auto& layer, const activation& x) { s.observe_patch_means(layer.math(), x); },
            [&](std::size_t k, auto& layer, const layer_statistics& seen) {
                use_values(layer, codes[k]);
                const std::vector<float> found = seen.mean_outputs(weight_matrix(layer).view());
                const auto outputs = static_cast<index_t>(found.size());
                notch::correct_bias(matrix_view<const float>(wanted[k].data(), 1, outputs),
                                    matrix_view<const float>(found.data(), 1, outputs), layer.bias);
                biases.emplace_back(layer.bias.begin(), layer.bias.end());
            });
        return biases;
    }

    /// The network without the upper bounds of ReLU6, which factors do not commute with.
    std::unique_ptr<variant> unbounded() {
        auto v = std::make_unique<variant>();
        copy_float_state(v->net, plain_.net);
        v->net.layers([](const char*, auto& layer) {
            if (layer.options().function == notch::nonlinearity::relu6)
                layer.replace_function(notch::nonlinearity::relu);
        });
        return v;
    }
    variant& equalized() {
        if (equalized_) return *equalized_;
        equalized_ = unbounded();
        std::vector<notch::layer_pair> pairs;
        equalized_->net.chains([&](auto& first, auto& second) {
            pairs.push_back({first.weight, shape_of(first, first.math().in), first.bias, second.weight,
                             shape_of(second, first.math().out)});
        });
        notch::cross_layer_equalize(pairs);
        return observed(*equalized_);
    }
    /// Dense and pointwise layers get smoother inputs from the layer before.
    variant& smoothed() {
        if (smoothed_) return *smoothed_;
        auto v = unbounded();
        observed(*v);
        v->net.layers([&](const std::string& name, auto& second) {
            if (std::remove_cvref_t<decltype(second.math())>::depthwise) return;
            v->net.chains([&](auto& first, auto& reader) {
                if (static_cast<const void*>(&reader) != static_cast<const void*>(&second)) return;
                const index_t channels = first.math().out;
                std::vector<float> x(static_cast<std::size_t>(channels)), w(x.size()), s(x.size());
                const auto& seen = v->statistics.at(name).input_magnitudes;
                for (std::size_t i = 0; i < seen.size(); ++i) x[i % x.size()] = std::max(x[i % x.size()], seen[i]);
                const notch::weight_shape shape = shape_of(second, channels);
                notch::widen_input_magnitudes(second.weight, shape, w);
                notch::smooth_factors(x, w, 0.5, s);
                notch::smooth_weights(second.weight, shape, s);
                notch::smooth_source(first.weight, first.weight_layout(), s);
                notch::smooth_source(first.bias, {1, channels, 1}, s);
            });
        });
        v->statistics.clear();
        v->observed = false;
        smoothed_ = std::move(v);
        return observed(*smoothed_);
    }

    /// The codes of all layers, in their order.
    const std::vector<chosen_codes>& choose(std::string_view name, int bits, variant& from) {
        const std::string rule = name == "equalize_correct" ? "equalize"
                                 : name == "entropy"        ? "min_max_channel"
                                                            : std::string(name);
        auto& codes = chosen_[{rule, bits}];
        if (!codes.empty()) return codes;
        with_bits(bits, [&](auto constant) {
            using range = weight_range<decltype(constant)::value>;
            if (name == "brecq") {
                codes = reconstruct<range>(from);
                return;
            }
            if (name == "gptq" || name == "adaround") {
                Net net;
                copy_float_state(net, from.net);
                one_by_one(
                    net,
                    [](layer_statistics& s, const auto& layer, const activation& x) {
                        s.observe_moments(layer.math(), x);
                    },
                    [&](std::size_t, auto& layer, const layer_statistics& seen) {
                        codes.push_back(codes_of<range>(name, layer, seen));
                        use_values(layer, codes.back());
                    });
                return;
            }
            from.net.layers([&](const std::string& layer_name, auto& layer) {
                if constexpr (range::bits < 8)
                    if (name == "hqq") {
                        codes.push_back(half_quadratic<range::bits>(layer));
                        return;
                    }
                codes.push_back(codes_of<range>(name, layer, from.statistics.at(layer_name)));
            });
        });
        return codes;
    }

    template <class Range, class Layer>
    static chosen_codes codes_of(std::string_view name, const Layer& layer, const layer_statistics& seen) {
        const bool per_tensor = name == "min_max_tensor" || name.substr(0, 8) == "equalize";
        const notch::clip how = name == "percentile"                                    ? notch::clip::percentile(99.9)
                                : name == "mse" || name == "gptq" || name == "adaround" ? notch::clip::error()
                                                                                        : notch::clip::min_max();
        const notch::channel_layout layout =
            per_tensor ? notch::channel_layout{1, 1, layer.weight.size()} : layer.weight_layout();
        std::vector<notch::quant_params> params(static_cast<std::size_t>(layout.count()));
        notch::calibrate<Range>(layer.weight, layout, how, params);
        chosen_codes c;
        c.codes.resize(static_cast<std::size_t>(layer.weight.size()));
        for (const auto& p : params) c.scales.push_back(p.scale);
        if (name != "gptq" && name != "adaround") {
            notch::fake_quantize<Range>(layer.weight, layout, params, c.codes, {}, {});
            return c;
        }
        const weight_matrix w(layer);
        std::vector<std::int8_t> rows(c.codes.size());
        // Each moment is that of its rows: all of them, or in a depthwise layer one.
        const index_t step = w.rows / static_cast<index_t>(seen.moments.size());
        for (index_t first = 0; first < w.rows; first += step) {
            const auto& moments = seen.moments[static_cast<std::size_t>(first / step)];
            const matrix_view<const float> part(w.values.data() + first * w.cols, step, w.cols);
            const matrix_view<std::int8_t> to(rows.data() + first * w.cols, step, w.cols);
            const auto scales =
                std::span(params).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(step));
            if (name == "gptq") {
                notch::gptq<Range>(part, moments, scales, to);
            } else {
                // The default of 1,000 leaves a fifth more error in layers of ResNet-8, at 4 bits more than GPTQ does.
                notch::adaround_options options;
                options.iterations = 4000;
                notch::adaround<Range>(part, moments, scales, to, options);
            }
        }
        c.codes = w.in_own_order(std::span<const std::int8_t>(rows));
        return c;
    }

    /// One group a row, so that the kernels for symmetric weights can run it: codes less their zero point.
    template <int Bits, class Layer> static chosen_codes half_quadratic(const Layer& layer) {
        const weight_matrix w(layer);
        std::vector<std::uint8_t> codes(w.values.size());
        std::vector<notch::quant_params> params(static_cast<std::size_t>(w.rows));
        notch::hqq<notch::affine<Bits>>(w.view(), w.cols, {codes.data(), w.rows, w.cols}, params);
        std::vector<std::int8_t> rows(codes.size());
        for (std::size_t i = 0; i < codes.size(); ++i)
            rows[i] = static_cast<std::int8_t>(codes[i] - params[i / static_cast<std::size_t>(w.cols)].zero_point);
        chosen_codes c{w.in_own_order(std::span<const std::int8_t>(rows)), {}};
        for (const auto& p : params) c.scales.push_back(p.scale);
        return c;
    }

    template <class Range> std::vector<chosen_codes> reconstruct(variant& from) {
        constexpr index_t batches = 8;
        Net net;
        copy_float_state(net, from.net);
        network_block<Net, Data> block(net, train_);
        std::vector<weight_matrix> w;
        std::vector<std::vector<notch::quant_params>> params;
        std::vector<std::vector<std::int8_t>> codes;
        net.layers([&](const char*, auto& layer) {
            w.emplace_back(layer);
            params.emplace_back(static_cast<std::size_t>(layer.math().out));
            codes.emplace_back(w.back().values.size());
            notch::calibrate<Range>(w.back().values, {1, w.back().rows, w.back().cols}, notch::clip::error(),
                                    params.back());
        });
        std::vector<notch::brecq_layer<Range>> layers;
        for (std::size_t l = 0; l < w.size(); ++l)
            layers.push_back({w[l].view(), params[l], {codes[l].data(), w[l].rows, w[l].cols}});
        std::vector<std::vector<float>> z;
        std::vector<matrix_view<const float>> targets;
        for (index_t b = 0; b < batches && (b + 1) * block.batch <= train_.count; ++b) {
            const activation& y = block.logits(b);
            z.emplace_back(y.values.begin(), y.values.end());
            targets.push_back({z.back().data(), y.n, y.c});
        }
        // The network is deep and its nearest codes are far off, so the first gradients are large, and Adam remembers
        // them: with the default of lambda the variables would not come to an end in so few iterations.
        notch::brecq_options options;
        options.iterations = 1500;
        options.learning_rate = 0.02f;
        options.lambda = 20;
        notch::brecq<Range>(block, layers, targets, {}, options);
        std::vector<chosen_codes> all;
        for (std::size_t l = 0; l < w.size(); ++l) {
            all.push_back({w[l].in_own_order(std::span<const std::int8_t>(codes[l])), {}});
            for (const auto& p : params[l]) all.back().scales.push_back(p.scale);
        }
        return all;
    }

    const Data& train_;
    const Data& test_;
    variant plain_;
    std::unique_ptr<variant> equalized_, smoothed_;
    std::map<std::pair<std::string, int>, std::vector<chosen_codes>> chosen_;
    std::map<int, std::vector<std::vector<float>>> biases_; ///< of equalize_correct
};

} // namespace ablation
