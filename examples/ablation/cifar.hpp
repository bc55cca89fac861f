// SPDX-License-Identifier: Apache-2.0
//
// CIFAR-10 out of the file that scripts/cifar10.py writes, as data of examples/mnist/training.hpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <notch/io/safetensors.hpp>

#include "../mnist/training.hpp"

namespace ablation {

using notch::activation;
using notch::index_t;

/// Colour images of 32 x 32 pixels and their classes.
struct images {
    static constexpr index_t side = 32, channels = 3, size = side * side * channels;

    std::shared_ptr<const notch::safetensors> file;
    std::span<const std::uint8_t> pixels; ///< [n][32][32][3], in file
    std::vector<index_t> place;           ///< image i stands at place[i] of pixels
    std::vector<std::uint8_t> labels;
    index_t count = 0;

    /// part: "train" or "test". A notch::error if the file has no such images, or classes above 9.
    images(std::shared_ptr<const notch::safetensors> from, const std::string& part) : file(std::move(from)) {
        pixels = file->tensor<std::uint8_t>(part, {-1, side, side, channels});
        count = static_cast<index_t>(pixels.size()) / size;
        for (const std::int32_t label : file->tensor<std::int32_t>(part + "_labels", {count})) {
            if (label < 0 || label > 9) notch::fail(notch::errc::corrupt, part + "_labels: a class is not 0 ... 9");
            labels.push_back(static_cast<std::uint8_t>(label));
        }
        if (count < 1000) notch::fail(notch::errc::invalid_argument, part + ": there are fewer than 1,000 images");
        place = mnist::in_order(count);
    }
    /// The same images in another order, of which methods that calibrate see the first ones.
    [[nodiscard]] images shuffled(unsigned seed) const {
        images other = *this;
        std::mt19937 random(seed);
        for (std::size_t i = place.size() - 1; i > 0; --i) {
            const std::size_t j = random() % (i + 1);
            std::swap(other.place[i], other.place[j]);
            std::swap(other.labels[i], other.labels[j]);
        }
        return other;
    }
};

/// Each seed calibrates on 1,000 other images.
inline images train_set_of(const images& all, unsigned seed) { return all.shuffled(seed); }

/// As mnist::load_batch; augmented: moved by up to four pixels, and mirrored or not.
template <class Random>
void load_batch(const images& d, const std::vector<index_t>& order, index_t first, index_t n, activation& x,
                Random* random) {
    constexpr index_t side = images::side, channels = images::channels;
    x.reshape(n, side, side, channels);
    x.quantized = false;
    x.values.resize_discard(x.size());
    float* to = x.values.data();
    for (index_t i = 0; i < n; ++i) {
        const auto at = static_cast<std::size_t>(order[static_cast<std::size_t>(first + i)]);
        const std::uint8_t* from = d.pixels.data() + d.place[at] * images::size;
        const auto shift = [&] { return random ? static_cast<index_t>((*random)() % 9) - 4 : 0; };
        const index_t dy = shift(), dx = shift();
        const bool mirrored = random && (*random)() % 2 == 1;
        for (index_t r = 0; r < side; ++r)
            for (index_t c = 0; c < side; ++c, to += channels) {
                const index_t sr = r + dy, sc = (mirrored ? side - 1 - c : c) + dx;
                const bool inside = sr >= 0 && sr < side && sc >= 0 && sc < side;
                for (index_t k = 0; k < channels; ++k)
                    to[k] = inside
                                ? static_cast<float>(from[(sr * side + sc) * channels + k]) * mnist::pixel_params.scale
                                : 0.0f;
            }
    }
}

/// The training and test images of how.cifar, read once.
struct cifar {
    images train, test;
    explicit cifar(const std::shared_ptr<const notch::safetensors>& file) : train(file, "train"), test(file, "test") {}
    static const cifar& read(const std::string& path) {
        static const cifar all(std::make_shared<const notch::safetensors>(notch::safetensors::load(path)));
        return all;
    }
};

} // namespace ablation
