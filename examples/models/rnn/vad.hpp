// SPDX-License-Identifier: Apache-2.0
//
// Silero VAD (PyPI silero-vad), pretrained: is there speech in a chunk of 32 ms? Four convolutions over the magnitudes
// of four spectra, an LSTM over the chunks, a linear layer on relu(h):
//
//     magnitudes 4 x 129 -> 4 x 128 -> 2 x 64 -> 1 x 64 -> 1 x 128 -> LSTM 128 -> relu -> 1 -> sigmoid
//
// Quantized after training, with streams of scripts/silero_frames.py: the first half for the ranges, the second half to
// compare frame by frame with fp32. All of it in integers, only the LSTM and what follows, or a single layer.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include <notch/io/safetensors.hpp>
#include <notch/layers/recurrent.hpp>
#include <notch/layers/train.hpp>
#include <notch/observe/histogram.hpp>
#include <notch/observe/min_max.hpp>
#include <notch/observe/probe.hpp>
#include <notch/ptq/calibrate.hpp>
#include <notch/ptq/smooth_quant.hpp>

#include "../results.hpp"
#include "../timing.hpp"
#include "saved.hpp"

namespace rnn {

using models::median_ms, models::report;
using notch::activation;
using notch::context;
using notch::index_t;
using notch::phase;

inline notch::window taps_of_three(index_t stride) {
    notch::window w;
    w.kernel_w = 3;
    w.pad_left = w.pad_right = 1;
    w.stride_w = stride;
    return w;
}

/// How its layers become integers.
struct vad_recipe {
    const char* method;
    bool smooth; ///< SmoothQuant between all layers
    notch::clip ranges;
    bool int16_cell = false; ///< c of the LSTM in 16 bits instead of 31
};

inline const char* const vad_layers[] = {"conv1", "conv2", "conv3", "conv4", "lstm", "head"};
/// Sets of layers.
inline constexpr unsigned no_layer = 0, all_layers = 0x3f;
inline constexpr unsigned layers_from(index_t first) { return all_layers & ~((1u << first) - 1); }

template <class Weights> struct vad {
    using conv = notch::conv2d_layer<Weights, notch::histogram>;
    conv convs[4] = {conv(129, 128, taps_of_three(1), {.function = notch::nonlinearity::relu}),
                     conv(128, 64, taps_of_three(2), {.function = notch::nonlinearity::relu}),
                     conv(64, 64, taps_of_three(2), {.function = notch::nonlinearity::relu}),
                     conv(64, 128, taps_of_three(1), {.function = notch::nonlinearity::relu})};
    notch::lstm_layer<Weights, notch::min_max> lstm{128, 128};
    notch::linear_layer<Weights> head{128, 1, {.float_output = true}};
    notch::histogram input;
    /// Each frequency of the magnitudes is divided by its factor: in the rows of the transform, at no cost.
    notch::buffer<float> factors{129};
    notch::quant_params input_params;
    activation x, a[4], h, logits;

    explicit vad(const notch::safetensors& file) {
        const auto copy = [&](const std::string& name, const std::vector<index_t>& shape, notch::buffer<float>& to) {
            const auto from = file.tensor<float>(name, shape);
            std::copy(from.begin(), from.end(), to.begin());
        };
        for (index_t k = 0; k < 4; ++k) {
            const std::string name = "conv" + std::to_string(k + 1);
            conv& c = convs[k];
            const index_t in = c.math().in, out = c.math().out;
            const auto w = file.tensor<float>(name + ".weight", {out, in, 3});
            for (index_t o = 0; o < out; ++o) // [out][in][tap] to [out][tap][in]
                for (index_t i = 0; i < in; ++i)
                    for (index_t t = 0; t < 3; ++t)
                        c.weight[(o * 3 + t) * in + i] = w[static_cast<std::size_t>((o * in + i) * 3 + t)];
            copy(name + ".bias", {out}, c.bias);
        }
        copy("lstm_cell.weight_ih", {512, 128}, lstm.input.weight);
        copy("lstm_cell.weight_hh", {512, 128}, lstm.recurrent.weight);
        copy("lstm_cell.bias_ih", {512}, lstm.input.bias);
        copy("lstm_cell.bias_hh", {512}, lstm.recurrent.bias);
        copy("final_conv.weight", {1, 128, 1}, head.weight);
        copy("final_conv.bias", {1}, head.bias);
        std::fill(factors.begin(), factors.end(), 1.0f);
    }

    /// The probabilities of one stream: the layers of integers on codes, the others in phase p, which is of floats.
    std::vector<float> run(std::span<const float> magnitudes, phase p, unsigned integers, const context& ctx,
                           notch::tap tap = {}) {
        x.reshape(static_cast<index_t>(magnitudes.size()) / (4 * 129), 1, 4, 129);
        x.quantized = false;
        x.values.resize_discard(x.size());
        for (index_t i = 0; i < x.size(); ++i) x.values[i] = magnitudes[static_cast<std::size_t>(i)] / factors[i % 129];
        if (p == phase::calibrate) input.observe(x.values);
        tap("input", x);
        const auto layer = [&](index_t k, auto& l, activation& from, const auto& params, activation& to) {
            const bool codes = (integers >> k & 1u) != 0;
            if (codes && !from.quantized) notch::quantize_input(from, params(), ctx);
            if (!codes) {
                (void)notch::real_values(from, from.values, ctx);
                from.quantized = false;
            }
            l.forward(from, to, codes ? phase::quantized : p, false, ctx);
            tap(vad_layers[k], to);
        };
        for (index_t k = 0; k < 4; ++k)
            layer(
                k, convs[k], k ? a[k - 1] : x, [&] { return k ? convs[k - 1].output_params() : input_params; }, a[k]);
        a[3].reshape(1, 1, a[3].n, 128); // the chunks are the steps
        layer(
            4, lstm, a[3], [&] { return convs[3].output_params(); }, h);
        h.reshape(h.w, 1, 1, 128);
        for (index_t i = 0; i < h.size(); ++i)
            if (h.quantized)
                h.codes[i] = std::max(h.codes[i], static_cast<std::uint8_t>(h.params.zero_point));
            else
                h.values[i] = std::max(h.values[i], 0.0f);
        layer(
            5, head, h, [&] { return lstm.output_params(); }, logits);
        std::vector<float> probability;
        for (float z : logits.values) probability.push_back(1.0f / (1.0f + std::exp(-z)));
        return probability;
    }

    /// The ranges, from streams in fp32.
    void calibrate(std::span<const std::span<const float>> streams, const vad_recipe& how, const context& ctx) {
        if (how.smooth) {
            notch::probe seen;
            for (const auto& s : streams) {
                (void)run(s, phase::fp32, no_layer, ctx, seen.real());
                seen.next_batch();
            }
            smooth(seen);
        }
        for (const auto& s : streams) (void)run(s, phase::calibrate, no_layer, ctx);
        lstm.int16_cell = how.int16_cell;
        input_params = notch::calibrate<notch::affine<8>>(input, how.ranges);
        for (conv& c : convs) c.fixed_params = notch::calibrate<notch::affine<8>>(c.output_observer, how.ranges);
    }

private:
    /// Each channel between two layers is divided where it leaves the first, and its weights of the second multiplied.
    void smooth(const notch::probe& seen) {
        for (index_t k = 0; k <= 4; ++k) {
            const notch::weight_shape to = k < 4 ? shape(k) : notch::linear_weights(512, 128);
            const std::span<float> w = k < 4 ? convs[k].weight : lstm.input.weight;
            notch::buffer<float> most(to.inputs.channels), s(to.inputs.channels);
            notch::widen_input_magnitudes(w, to, most);
            notch::smooth_factors(seen[k ? vad_layers[k - 1] : "input"].real.channel_max, most, 0.5, s); // all are >= 0
            notch::smooth_weights(w, to, s);
            if (k == 0) {
                factors = s;
            } else {
                notch::smooth_source(convs[k - 1].weight, shape(k - 1).outputs, s);
                notch::smooth_source(convs[k - 1].bias, {1, s.size(), 1}, s);
            }
        }
    }
    [[nodiscard]] notch::weight_shape shape(index_t k) const {
        return notch::conv_weights(convs[k].math().out, 3, convs[k].math().in);
    }
};

/// What ships: one chunk after the other, in the memory of this object.
struct frozen_vad {
    using u8 = std::uint8_t;
    notch::frozen_conv2d convs[4];
    notch::frozen_lstm lstm;
    notch::frozen_linear head;
    notch::quant_params x[5]; ///< of what each convolution and the LSTM take
    std::vector<u8> codes, a, b, h, positive;
    std::vector<std::int32_t> state;
    std::vector<std::byte> memory;
    std::int64_t bytes = 0, bytes_from_lstm = 0;

    template <class Weights> frozen_vad(vad<Weights>& net) {
        notch::model_writer out("silero-vad");
        x[0] = net.input_params;
        for (index_t k = 0; k < 4; ++k) {
            notch::save_layer(out, vad_layers[k], net.convs[k].spec(x[k]));
            x[k + 1] = net.convs[k].output_params();
        }
        notch::save_recurrent<notch::lstm_cell>(out, "lstm", net.lstm.spec(x[4]));
        notch::save_layer(out, "head", net.head.spec(net.lstm.output_params()));
        const auto file = notch::model_file::parse(out.to_bytes());
        bytes = tensor_bytes(file);
        bytes_from_lstm = tensor_bytes(file, "conv");
        index_t need = 0, width = 4;
        for (index_t k = 0; k < 4; ++k) {
            convs[k] = notch::frozen_conv2d(notch::load_layer(file, vad_layers[k]));
            need = std::max(need, convs[k].workspace_size(1, 1, width));
            width = convs[k].spec().geometry.out_w(width);
        }
        lstm = notch::frozen_lstm(notch::load_recurrent<notch::lstm_cell>(file, "lstm"));
        head = notch::frozen_linear(notch::load_layer(file, "head"));
        need = std::max({need, lstm.workspace_size(1, 1), head.workspace_size(1, 1, 1)});
        memory.resize(static_cast<std::size_t>(need));
        codes.resize(4 * 129);
        a = b = codes;
        h.resize(128);
        positive.resize(128);
        state.resize(128);
        start();
    }
    void start() { lstm.start({state.data(), 1, 128}, {h.data(), 1, 128}); }
    /// What the layer `first` takes, in real values: 4 x 129 magnitudes (divided by factors) for the first; the logit.
    float step(std::span<const float> values, index_t first, context ctx) {
        ctx.workspace = memory;
        notch::quantize<notch::affine<8>>(values, x[first], std::span<u8>(codes).first(values.size()), ctx);
        const u8* from = codes.data();
        index_t width = first < 2 ? 4 : first == 2 ? 2 : 1;
        for (index_t k = first; k < 4; ++k) {
            const notch::layer_spec& s = convs[k].spec();
            u8* to = k % 2 ? b.data() : a.data();
            const index_t out_width = s.geometry.out_w(width);
            convs[k].forward(notch::nhwc_view<const u8>(from, 1, 1, width, s.in_channels),
                             notch::nhwc_view<u8>(to, 1, 1, out_width, s.out_channels), ctx);
            from = to;
            width = out_width;
        }
        lstm.step({from, 1, 128}, {state.data(), 1, 128}, {h.data(), 1, 128}, ctx);
        for (std::size_t j = 0; j < 128; ++j) positive[j] = std::max(h[j], static_cast<u8>(lstm.spec().h.zero_point));
        float logit = 0;
        head.forward(notch::nhwc_view<const u8>(positive.data(), 1, 1, 1, 128),
                     notch::nhwc_view<float>(&logit, 1, 1, 1, 1), ctx);
        return logit;
    }
};

/// A file of scripts/silero_frames.py.
struct vad_data {
    notch::safetensors file;
    index_t frames = 0;
    std::vector<std::span<const float>> known, unheard; ///< streams for the ranges; to measure with

    explicit vad_data(const std::string& path) : file(notch::safetensors::load(path)) {
        const auto& shape = file.info("magnitudes").shape;
        if (shape.size() != 4 || shape[0] < 2 || shape[1] < 1)
            notch::fail(notch::errc::invalid_argument, path + ": needs magnitudes of two streams or more");
        frames = shape[1];
        const auto all = file.tensor<float>("magnitudes", {shape[0], frames, 4, 129});
        const auto size = static_cast<std::size_t>(frames * 4 * 129);
        for (index_t s = 0; s < shape[0]; ++s)
            (s < shape[0] / 2 ? known : unheard).push_back(all.subspan(static_cast<std::size_t>(s) * size, size));
    }
};

/// Frames with the answer of fp32.
struct agreement {
    index_t same = 0, count = 0;
    double difference = 0;

    void add(const std::vector<float>& p, const std::vector<float>& fp32) {
        for (std::size_t t = 0; t < p.size(); ++t) {
            same += (p[t] > 0.5f) == (fp32[t] > 0.5f);
            difference += std::fabs(static_cast<double>(p[t] - fp32[t]));
            ++count;
        }
    }
    [[nodiscard]] double percent() const { return 100.0 * static_cast<double>(same) / static_cast<double>(count); }
    [[nodiscard]] double mean_difference() const { return difference / static_cast<double>(count); }
};

/// What fp32 says of the streams that no range has seen; fails if the file says another thing.
template <class Weights> std::vector<std::vector<float>> vad_fp32(vad<Weights>& net, const vad_data& data) {
    const auto expected = data.file.tensor<float>("probabilities", {-1, data.frames});
    auto want = expected.begin() + static_cast<std::ptrdiff_t>(data.known.size()) * data.frames;
    std::vector<std::vector<float>> all;
    float worst = 0;
    for (const auto& s : data.unheard) {
        all.push_back(net.run(s, phase::fp32, no_layer, {}));
        for (float p : all.back()) worst = std::max(worst, std::fabs(p - *want++));
    }
    if (!(worst < 1e-3f))
        notch::fail(notch::errc::corrupt, data.file.label() + ": the probabilities are not those of the weights: " +
                                              std::to_string(worst) + " apart");
    return all;
}

template <class Weights>
void vad_rows(report& to, const vad_data& data, const vad_recipe& how, const char* bits, double allowed) {
    const context ctx;
    vad<Weights> net(data.file);
    net.calibrate(data.known, how, ctx);
    const std::vector<std::vector<float>> fp32 = vad_fp32(net, data);
    frozen_vad frozen(net);
    const struct {
        index_t first;
        const char* model;
    } parts[] = {{4, "silero lstm"}, {0, "silero-vad"}};
    for (const auto& part : parts) {
        const index_t first = part.first;
        const char* const model = part.model;
        agreement found;
        std::int64_t different = 0;
        const index_t of_frame = first == 0 ? 4 * 129 : 128;
        for (std::size_t s = 0; s < fp32.size(); ++s) {
            found.add(net.run(data.unheard[s], phase::fp32, layers_from(first), ctx), fp32[s]);
            const activation& from = first == 0 ? net.x : net.a[first - 1];
            for (notch::isa i : notch::available_isas()) {
                frozen.start();
                for (index_t t = 0; t < data.frames; ++t) {
                    const float logit = frozen.step(
                        {from.values.data() + t * of_frame, static_cast<std::size_t>(of_frame)}, first, context(i));
                    different += logit != net.logits.values[t];
                    for (index_t j = 0; j < 128; ++j)
                        different += frozen.positive[static_cast<std::size_t>(j)] != net.h.codes[t * 128 + j];
                }
            }
        }
        const std::vector<float> frame(static_cast<std::size_t>(of_frame), 0.1f);
        const double ms = median_ms([&] { frozen.step(frame, first, ctx); });
        const std::int64_t bytes = first == 0 ? frozen.bytes : frozen.bytes_from_lstm;
        std::printf("%-12s %-20s %-5s %6.2f %%  %7.4f ms  %6lld bytes  %lld codes differ, mean difference %.4f\n",
                    model, how.method, bits, found.percent(), ms, static_cast<long long>(bytes),
                    static_cast<long long>(different), found.mean_difference());
        std::fflush(stdout);
        to.different += different;
        to.lost = to.lost || found.percent() < 100.0 - allowed;
        to.rows.push_back({model, how.method, bits, "speech as fp32 %", found.percent(), 100.0, bytes, ms, {}, {}});
    }
}

/// Which layer loses: each alone in integers, and the SQNR of its output where all are.
template <class Weights> void vad_sensitivity(const vad_data& data, const vad_recipe& how) {
    const context ctx;
    vad<Weights> net(data.file);
    net.calibrate(data.known, how, ctx);
    const std::vector<std::vector<float>> fp32 = vad_fp32(net, data);
    notch::probe probe;
    agreement alone[6];
    for (std::size_t s = 0; s < fp32.size(); ++s) {
        for (index_t k = 0; k < 6; ++k) alone[k].add(net.run(data.unheard[s], phase::fp32, 1u << k, ctx), fp32[s]);
        (void)net.run(data.unheard[s], phase::fp32, no_layer, ctx, probe.real());
        (void)net.run(data.unheard[s], phase::fp32, all_layers, ctx, probe.fake_quantized());
        probe.next_batch();
    }
    for (index_t k = 0; k < 6; ++k)
        std::printf("  %-6s alone, %-20s %6.2f %%, mean difference %.4f; all: SQNR %5.1f dB\n", vad_layers[k],
                    how.method, alone[k].percent(), alone[k].mean_difference(),
                    probe[vad_layers[k]].fake_quantized.error.sqnr_db());
}

/// The time of fp32, a chunk at a time.
inline void vad_times(report& to, const notch::safetensors& file) {
    vad<notch::fake_quant<notch::symmetric<8>, notch::per_channel<0>>> net(file);
    const context ctx;
    const std::vector<float> chunk(4 * 129, 0.1f);
    activation frame, h;
    frame.reshape(1, 1, 1, 128);
    frame.values = notch::buffer<float>(128);
    const double all = median_ms([&] { (void)net.run(chunk, phase::fp32, no_layer, ctx); }),
                 lstm = median_ms([&] { net.lstm.forward(frame, h, phase::fp32, false, ctx); });
    index_t of_lstm = 0, of_convs = 0;
    const auto count = [](auto& layer, index_t& n) {
        layer.parameters([&](const auto& p) { n += static_cast<index_t>(p.value.size()); });
    };
    count(net.lstm, of_lstm);
    count(net.head, of_lstm);
    for (auto& c : net.convs) count(c, of_convs);
    const struct {
        const char* model;
        double ms;
        index_t values;
    } rows[] = {{"silero lstm", lstm, of_lstm}, {"silero-vad", all, of_lstm + of_convs}};
    for (const auto& r : rows) {
        std::printf("%-12s %-20s %-5s %6.2f %%  %7.4f ms  %6lld bytes\n", r.model, "", "fp32", 100.0, r.ms,
                    static_cast<long long>(4 * r.values));
        to.rows.push_back({r.model, "", "fp32", "speech as fp32 %", 100.0, 100.0, 4 * r.values, r.ms, {}, {}});
    }
}

inline void vad_experiment(report& to, const std::string& path) {
    using namespace notch;
    using per_channel_8 = fake_quant<symmetric<8>, per_channel<0>>;
    const vad_data data(path);
    const vad_recipe per_tensor_ranges{"static, per tensor", false, clip::min_max()},
        plain{"static, per channel", false, clip::min_max()}, smooth{"static, smoothed", true, clip::percentile()};
    vad_times(to, data.file);
    vad_rows<fake_quant<symmetric<8>, per_tensor>>(to, data, per_tensor_ranges, "w8a8", 100.0);
    vad_rows<per_channel_8>(to, data, plain, "w8a8", 100.0);
    vad_rows<per_channel_8>(to, data, smooth, "w8a8", 1.0);
    vad_rows<per_channel_8>(to, data, {"smoothed, int16 cell", true, clip::percentile(), true}, "w8a8", 100.0);
    vad_rows<fake_quant<symmetric<4>, per_channel<0>>>(to, data, plain, "w4a8", 100.0);
    vad_rows<fake_quant<symmetric<4>, per_channel<0>>>(to, data, smooth, "w4a8", 100.0);
    vad_sensitivity<per_channel_8>(data, plain);
    vad_sensitivity<per_channel_8>(data, smooth);
}

} // namespace rnn
