// SPDX-License-Identifier: Apache-2.0
//
// Silero VAD (PyPI silero-vad), pretrained: is there speech in a chunk of 32 ms? Four convolutions over the magnitudes
// of four spectra, an LSTM over the chunks, a linear layer on relu(h):
//
//     magnitudes 4 x 129 -> 4 x 128 -> 2 x 64 -> 1 x 64 -> 1 x 128 -> LSTM 128 -> relu -> 1 -> sigmoid
//
// Quantized after training, with streams of scripts/silero_frames.py: the first half for the ranges, the second half to
// compare frame by frame with fp32. All of it in integers, or without the first convolution, or only the LSTM and what
// follows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include <notch/io/safetensors.hpp>
#include <notch/layers/recurrent.hpp>
#include <notch/layers/train.hpp>
#include <notch/observe/min_max.hpp>

#include "../results.hpp"

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

template <class Weights> struct vad {
    using conv = notch::conv2d_layer<Weights, notch::min_max>;
    conv convs[4] = {conv(129, 128, taps_of_three(1), {.function = notch::nonlinearity::relu}),
                     conv(128, 64, taps_of_three(2), {.function = notch::nonlinearity::relu}),
                     conv(64, 64, taps_of_three(2), {.function = notch::nonlinearity::relu}),
                     conv(64, 128, taps_of_three(1), {.function = notch::nonlinearity::relu})};
    notch::lstm_layer<Weights, notch::min_max> lstm{128, 128};
    notch::linear_layer<Weights> head{128, 1, {.float_output = true}};
    notch::min_max input;
    activation a[4], h, logits;

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
    }

    [[nodiscard]] notch::quant_params input_params() const {
        return notch::params_from_range<notch::affine<8>>(input.range());
    }
    /// The probabilities of one stream. In phase::quantized the first floats convolutions still are in fp32.
    std::vector<float> run(std::span<const float> magnitudes, phase p, index_t floats, const context& ctx) {
        activation x;
        x.reshape(static_cast<index_t>(magnitudes.size()) / (4 * 129), 1, 4, 129);
        x.values = notch::buffer<float>(x.size());
        std::copy(magnitudes.begin(), magnitudes.end(), x.values.begin());
        if (p == phase::calibrate) input.observe(magnitudes);
        const bool quantized = p == phase::quantized;
        if (quantized && floats == 0) notch::quantize_input(x, input_params(), ctx);
        for (index_t k = 0; k < 4; ++k) {
            convs[k].forward(k ? a[k - 1] : x, a[k], quantized && k < floats ? phase::fp32 : p, false, ctx);
            if (quantized && k + 1 == floats) notch::quantize_input(a[k], convs[k].output_params(), ctx);
        }
        activation& frames = a[3];
        frames.reshape(1, 1, frames.n, 128); // the chunks are the steps
        lstm.forward(frames, h, p, false, ctx);
        h.reshape(h.w, 1, 1, 128);
        for (index_t i = 0; i < h.size(); ++i)
            if (h.quantized)
                h.codes[i] = std::max(h.codes[i], static_cast<std::uint8_t>(h.params.zero_point));
            else
                h.values[i] = std::max(h.values[i], 0.0f);
        head.forward(h, logits, p, false, ctx);
        std::vector<float> probability;
        for (float z : logits.values) probability.push_back(1.0f / (1.0f + std::exp(-z)));
        return probability;
    }
};

/// What ships: one chunk after the other, in the memory of this object.
struct frozen_vad {
    using u8 = std::uint8_t;
    notch::frozen_conv2d convs[4];
    notch::frozen_lstm lstm;
    notch::frozen_linear head;
    std::vector<u8> a, b, h, positive;
    std::vector<std::int32_t> state;
    std::vector<std::byte> memory;

    template <class Weights> frozen_vad(vad<Weights>& net) {
        notch::quant_params in = net.input_params();
        index_t need = 0, width = 4;
        for (index_t k = 0; k < 4; ++k) {
            convs[k] = notch::frozen_conv2d(net.convs[k].spec(in));
            in = net.convs[k].output_params();
            need = std::max(need, convs[k].workspace_size(1, 1, width));
            width = convs[k].spec().geometry.out_w(width);
        }
        lstm = notch::frozen_lstm(net.lstm.spec(in));
        head = notch::frozen_linear(net.head.spec(lstm.spec().h));
        need = std::max({need, lstm.workspace_size(1, 1), head.workspace_size(1, 1, 1)});
        memory.resize(static_cast<std::size_t>(need));
        a.resize(4 * 129);
        b = a;
        h.resize(128);
        positive.resize(128);
        state.resize(128);
        start();
    }
    void start() { lstm.start({state.data(), 1, 128}, {h.data(), 1, 128}); }
    /// What the convolution `first` takes, codes of 4 x 129 magnitudes for the first; the logit.
    float step(const u8* from, index_t first, context ctx) {
        ctx.workspace = memory;
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
        return step_lstm(from, ctx);
    }
    /// From the LSTM on: 128 codes.
    float step_lstm(const u8* frame, context ctx) {
        ctx.workspace = memory;
        lstm.step({frame, 1, 128}, {state.data(), 1, 128}, {h.data(), 1, 128}, ctx);
        for (std::size_t j = 0; j < 128; ++j) positive[j] = std::max(h[j], static_cast<u8>(lstm.spec().h.zero_point));
        float logit = 0;
        head.forward(notch::nhwc_view<const u8>(positive.data(), 1, 1, 1, 128),
                     notch::nhwc_view<float>(&logit, 1, 1, 1, 1), ctx);
        return logit;
    }
    [[nodiscard]] std::int64_t bytes(int weight_bits, index_t first) const {
        const notch::recurrent_spec& s = lstm.spec();
        index_t weights = s.weights.size() + s.recurrent_weights.size();
        index_t others = s.w_scales.size() + s.u_scales.size() + s.bias.size() + s.recurrent_bias.size();
        const auto add = [&](const notch::layer_spec& l) {
            weights += l.weights.size();
            others += l.w_scales.size() + l.bias.size();
        };
        add(head.spec());
        for (index_t k = first; k < 4; ++k) add(convs[k].spec());
        return (weights * weight_bits + 7) / 8 + 4 * others;
    }
};

template <class Weights>
void vad_rows(report& to, const notch::safetensors& file, const char* method, const char* bits, double allowed) {
    const auto& shape = file.info("magnitudes").shape;
    if (shape.size() != 4 || shape[0] < 2 || shape[1] < 1)
        notch::fail(notch::errc::invalid_argument, file.label() + ": needs magnitudes of two streams or more");
    const index_t streams = shape[0], frames = shape[1], chunk = 4 * 129;
    const auto magnitudes = file.tensor<float>("magnitudes", {streams, frames, 4, 129});
    const auto expected = file.tensor<float>("probabilities", {streams, frames});
    const auto stream = [&](index_t s) {
        return magnitudes.subspan(static_cast<std::size_t>(s * frames * chunk),
                                  static_cast<std::size_t>(frames * chunk));
    };
    const context ctx;
    vad<Weights> net(file);
    float worst = 0;
    std::vector<std::vector<float>> fp32;
    for (index_t s = 0; s < streams; ++s) {
        fp32.push_back(net.run(stream(s), s < streams / 2 ? phase::calibrate : phase::fp32, 0, ctx));
        for (index_t t = 0; t < frames; ++t)
            worst = std::max(worst, std::fabs(fp32.back()[static_cast<std::size_t>(t)] -
                                              expected[static_cast<std::size_t>(s * frames + t)]));
    }
    if (!(worst < 1e-3f))
        notch::fail(notch::errc::corrupt, file.label() + ": the probabilities are not those of the weights: " +
                                              std::to_string(worst) + " apart");
    frozen_vad frozen(net);
    const struct {
        index_t first;
        const char* model;
    } parts[] = {{4, "silero lstm"}, {1, "silero but 1"}, {0, "silero-vad"}};
    for (const auto& part : parts) {
        const index_t first = part.first;
        const char* const model = part.model;
        index_t agree = 0, count = 0;
        double difference = 0;
        std::int64_t different = 0;
        std::vector<std::uint8_t> codes(static_cast<std::size_t>(frames * chunk));
        for (index_t s = streams / 2; s < streams; ++s) {
            const std::vector<float> p = net.run(stream(s), phase::quantized, first, ctx);
            for (std::size_t t = 0; t < p.size(); ++t) {
                const float want = fp32[static_cast<std::size_t>(s)][t];
                agree += (p[t] > 0.5f) == (want > 0.5f);
                difference += std::fabs(static_cast<double>(p[t] - want));
                ++count;
            }
            if (first == 0) notch::quantize<notch::affine<8>>(stream(s), net.input_params(), codes);
            const std::uint8_t* const from = first == 0 ? codes.data() : net.a[first - 1].codes.data();
            const index_t of_frame = first == 0 ? chunk : first == 1 ? 4 * 128 : 128;
            for (notch::isa i : notch::available_isas()) {
                frozen.start();
                for (index_t t = 0; t < frames; ++t) {
                    const float logit = frozen.step(from + t * of_frame, first, context(i));
                    different += logit != net.logits.values[t];
                    for (index_t j = 0; j < 128; ++j)
                        different += frozen.positive[static_cast<std::size_t>(j)] != net.h.codes[t * 128 + j];
                }
            }
        }
        const double percent = 100.0 * static_cast<double>(agree) / static_cast<double>(count);
        std::vector<std::uint8_t> frame(static_cast<std::size_t>(chunk), std::uint8_t{9});
        const double ms = median_ms([&] { frozen.step(frame.data(), first, ctx); });
        std::printf("%-12s %-20s %-5s %6.2f %%  %7.4f ms  %6lld bytes  %lld codes differ, mean difference %.4f\n",
                    model, method, bits, percent, ms, static_cast<long long>(frozen.bytes(Weights::range::bits, first)),
                    static_cast<long long>(different), difference / static_cast<double>(count));
        std::fflush(stdout);
        to.different += different;
        to.lost = to.lost || (first == 4 && percent < 100.0 - allowed);
        to.rows.push_back({model,
                           method,
                           bits,
                           "speech as fp32 %",
                           percent,
                           100.0,
                           frozen.bytes(Weights::range::bits, first),
                           ms,
                           {},
                           {}});
    }
}

/// The time of fp32, a chunk at a time.
inline void vad_fp32(report& to, const notch::safetensors& file) {
    vad<notch::fake_quant<notch::symmetric<8>, notch::per_channel<0>>> net(file);
    const context ctx;
    const std::vector<float> chunk(4 * 129, 0.1f);
    activation frame, h;
    frame.reshape(1, 1, 1, 128);
    frame.values = notch::buffer<float>(128);
    const double all = median_ms([&] { (void)net.run(chunk, phase::fp32, 0, ctx); }),
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
    const auto file = safetensors::load(path);
    vad_fp32(to, file);
    vad_rows<fake_quant<symmetric<8>, per_tensor>>(to, file, "static, per tensor", "w8a8", 100.0);
    vad_rows<fake_quant<symmetric<8>, per_channel<0>>>(to, file, "static, per channel", "w8a8", 1.0);
    vad_rows<fake_quant<symmetric<4>, per_channel<0>>>(to, file, "static, per channel", "w4a8", 100.0);
}

} // namespace rnn
