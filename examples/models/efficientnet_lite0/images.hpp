// SPDX-License-Identifier: Apache-2.0
//
// Images for EfficientNet-Lite0: labelled ones to measure with, and others to calibrate and to train without labels.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <notch/io/safetensors.hpp>
#include <notch/kernels/quantize.hpp>

#include "network.hpp"

namespace efficientnet {

struct image_set {
    std::vector<std::uint8_t> pixels;
    std::vector<std::int32_t> labels; ///< empty: none
    index_t count = 0;

    [[nodiscard]] static image_set load(const std::string& path, index_t most) {
        const auto file = notch::safetensors::load(path);
        constexpr index_t size = image_size * image_size * 3;
        const auto pixels = file.tensor<std::uint8_t>("images", {-1, image_size, image_size, 3});
        image_set s;
        s.count = std::min(static_cast<index_t>(pixels.size()) / size, most);
        if (s.count == 0) notch::fail(notch::errc::invalid_argument, path + ": no images");
        s.pixels.assign(pixels.begin(), pixels.begin() + s.count * size);
        if (file.contains("labels")) {
            const auto labels = file.tensor<std::int32_t>("labels", {static_cast<index_t>(pixels.size()) / size});
            s.labels.assign(labels.begin(), labels.begin() + s.count);
        }
        return s;
    }
    /// Noise, and labels of the first class.
    [[nodiscard]] static image_set noise(index_t count) {
        std::mt19937 random(2);
        image_set s;
        s.count = count;
        s.labels.assign(static_cast<std::size_t>(count), 0);
        s.pixels.resize(static_cast<std::size_t>(count * image_size * image_size * 3));
        for (std::uint8_t& p : s.pixels) p = static_cast<std::uint8_t>(random());
        return s;
    }
    /// n images from the first on, as codes or as real values.
    void get(index_t first, index_t n, bool codes, activation& x) const {
        constexpr index_t size = image_size * image_size * 3;
        x.reshape(n, image_size, image_size, 3);
        x.params = pixel;
        x.quantized = codes;
        const std::uint8_t* from = pixels.data() + first * size;
        if (codes) {
            x.codes.resize_discard(x.size());
            std::copy_n(from, x.size(), x.codes.begin());
            return;
        }
        x.values.resize_discard(x.size());
        for (index_t i = 0; i < x.size(); ++i)
            x.values[i] = static_cast<float>(from[i] - pixel.zero_point) * pixel.scale;
    }
};

/// Batches for training without labels: mixtures of two crops (mixup: Zhang et al. 2017, arXiv:1710.09412) of random
/// size and place, mirrored, their colours permuted. Few photographs make many images, and the teacher has an answer to
/// all of them.
class crop_mixer {
public:
    /// side: of the images of a batch. A network of five halvings pads as for 224 if it is a multiple of 32.
    crop_mixer(const image_set& images, index_t batch, index_t side) : images_(images), batch_(batch), side_(side) {}

    /// The same images as codes and as real values.
    void next(activation& real, activation& codes) {
        for (activation* a : {&real, &codes}) a->reshape(batch_, side_, side_, 3);
        real.quantized = false;
        real.values.resize_discard(real.size());
        std::fill(real.values.begin(), real.values.end(), 0.0f);
        for (index_t b = 0; b < batch_; ++b) {
            float* to = real.values.data() + b * side_ * side_ * 3;
            const float share = uniform();
            add_crop(share, to);
            add_crop(1.0f - share, to);
        }
        codes.quantized = true;
        codes.params = pixel;
        codes.codes.resize_discard(codes.size());
        for (index_t i = 0; i < codes.size(); ++i)
            codes.codes[i] = static_cast<std::uint8_t>(std::nearbyint(std::min(real.values[i], 255.0f)));
        notch::dequantize<std::uint8_t>(codes.codes, pixel, real.values);
    }

private:
    static constexpr float least = 80; ///< pixels of the side of a crop

    float uniform() { return static_cast<float>(static_cast<double>(random_()) / 4294967296.0); }
    index_t below(index_t n) { return static_cast<index_t>(random_() % static_cast<std::uint32_t>(n)); }
    /// Adds share times the pixels of a crop, sampled bilinearly.
    void add_crop(float share, float* to) {
        const std::uint8_t* from = images_.pixels.data() + below(images_.count) * image_size * image_size * 3;
        constexpr auto size = static_cast<float>(image_size);
        const float extent = least + (size - least) * uniform(), step = extent / static_cast<float>(side_);
        const float top = (size - extent) * uniform(), left = (size - extent) * uniform();
        const bool mirrored = below(2) != 0;
        std::array<index_t, 3> colour{0, 1, 2};
        std::swap(colour[0], colour[static_cast<std::size_t>(below(3))]);
        std::swap(colour[1], colour[static_cast<std::size_t>(1 + below(2))]);
        for (index_t y = 0; y < side_; ++y)
            for (index_t x = 0; x < side_; ++x, to += 3) {
                const auto [row, down] = place(top + step * static_cast<float>(y));
                const auto [column, right] = place(left + step * static_cast<float>(mirrored ? side_ - 1 - x : x));
                const std::uint8_t* const at = from + (row * image_size + column) * 3;
                for (std::size_t c = 0; c < 3; ++c) {
                    const auto value = [&](index_t below) { return static_cast<float>(at[colour[c] + below]); };
                    const float upper = value(0) + right * (value(3) - value(0)),
                                lower =
                                    value(image_size * 3) + right * (value(image_size * 3 + 3) - value(image_size * 3));
                    to[c] += share * (upper + down * (lower - upper));
                }
            }
    }
    /// The pixel before a place, which has one behind it, and how far the place is from it.
    static std::pair<index_t, float> place(float at) {
        const index_t i = std::min(static_cast<index_t>(at), image_size - 2);
        return {i, std::min(at - static_cast<float>(i), 1.0f)};
    }

    const image_set& images_;
    index_t batch_, side_;
    std::mt19937 random_{3};
};

} // namespace efficientnet
