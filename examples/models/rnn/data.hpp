// SPDX-License-Identifier: Apache-2.0
//
// Labelled sequences: the rows of handwritten digits, and the frames of spoken ones (scripts/fsdd_features.py).
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <notch/io/safetensors.hpp>
#include <notch/layers/activation.hpp>

#include "../../mnist/idx.hpp"

namespace rnn {

using notch::activation;
using notch::context;
using notch::index_t;

/// frames: [count][steps][channels], of which lengths[i] count for sequence i. x: how the frames become codes.
struct sequences {
    index_t count = 0, steps = 0, channels = 0;
    std::vector<float> frames;
    std::vector<index_t> lengths;
    std::vector<std::uint8_t> labels;
    notch::quant_params x;

    void add(const float* sequence, index_t length, std::uint8_t label) {
        frames.insert(frames.end(), sequence, sequence + steps * channels);
        lengths.push_back(length);
        labels.push_back(label);
        ++count;
    }
};

/// Each row of an image is a step: the first `most` digits.
inline sequences digit_rows(const std::string& folder, const std::string& part, index_t most) {
    const auto d = mnist::read_digits(folder, part);
    sequences s;
    s.steps = d.height;
    s.channels = d.width;
    s.x = {1.0f / 255.0f, 0};
    std::vector<float> image(static_cast<std::size_t>(s.steps * s.channels));
    for (index_t i = 0; i < std::min(most, d.count); ++i) {
        for (std::size_t k = 0; k < image.size(); ++k) image[k] = static_cast<float>(d.image(i)[k]) * s.x.scale;
        s.add(image.data(), s.steps, d.labels[static_cast<std::size_t>(i)]);
    }
    return s;
}

/// The training and the test part of a file of scripts/fsdd_features.py.
inline std::pair<sequences, sequences> spoken_digits(const std::string& path) {
    const auto file = notch::safetensors::load(path);
    const auto features = file.tensor<float>("features", {-1, -1, -1});
    const auto& shape = file.info("features").shape;
    const auto lengths = file.tensor<std::int32_t>("lengths", {shape[0]});
    const auto labels = file.tensor<std::uint8_t>("labels", {shape[0]});
    const auto test = file.tensor<std::uint8_t>("test", {shape[0]});
    std::pair<sequences, sequences> parts;
    for (sequences* s : {&parts.first, &parts.second}) {
        s->steps = shape[1];
        s->channels = shape[2];
    }
    for (index_t i = 0; i < shape[0]; ++i) {
        const auto at = static_cast<std::size_t>(i);
        if (lengths[at] < 1 || lengths[at] > shape[1] || labels[at] > 9)
            notch::fail(notch::errc::corrupt, path + ": recording " + std::to_string(i) + " has " +
                                                  std::to_string(lengths[at]) + " frames and the label " +
                                                  std::to_string(labels[at]));
        (test[at] ? parts.second : parts.first).add(features.data() + i * shape[1] * shape[2], lengths[at], labels[at]);
    }
    if (parts.first.count == 0 || parts.second.count == 0)
        notch::fail(notch::errc::invalid_argument, path + ": needs recordings to train on and to test with");
    // The 0.01 % that are louder or quieter are clamped.
    std::vector<float> sorted = parts.first.frames;
    std::sort(sorted.begin(), sorted.end());
    const std::size_t outside = sorted.size() / 10000;
    parts.first.x = parts.second.x =
        notch::params_from_range<notch::affine<8>>({sorted[outside], sorted[sorted.size() - 1 - outside]});
    return parts;
}

/// Sequences order[first ... first + n) as a batch, as long as the longest of them; lengths receives theirs.
inline void load_batch(const sequences& s, const std::vector<index_t>& order, index_t first, index_t n, bool codes,
                       activation& x, std::vector<index_t>& lengths, const context& ctx) {
    lengths.clear();
    for (index_t i = first; i < first + n; ++i)
        lengths.push_back(s.lengths[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])]);
    const index_t steps = *std::max_element(lengths.begin(), lengths.end());
    x.reshape(n, 1, steps, s.channels);
    x.quantized = false;
    x.values.resize_discard(x.size());
    for (index_t i = 0; i < n; ++i)
        std::copy_n(s.frames.data() + order[static_cast<std::size_t>(first + i)] * s.steps * s.channels,
                    steps * s.channels, x.values.data() + i * steps * s.channels);
    if (codes) notch::quantize_input(x, s.x, ctx);
}

} // namespace rnn
