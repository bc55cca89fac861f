// SPDX-License-Identifier: Apache-2.0
//
// A float network in a model file: for each layer its weights "name.w", and its bias "name.b" or the arrays of its
// batch norm, "name.g", "name.b", "name.m" and "name.v": gamma, beta, running mean and variance.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <notch/core/buffer.hpp>
#include <notch/io/model_file.hpp>
#include <notch/scheme/half.hpp>

namespace mnist {

/// Calls f(suffix, buffer) for each array of a layer.
template <class Layer, class F> void float_arrays(Layer& layer, const F& f) {
    f(".w", layer.weight);
    if (!layer.norm) {
        f(".b", layer.bias);
        return;
    }
    f(".g", layer.norm->gamma);
    f(".b", layer.norm->beta);
    f(".m", layer.norm->running_mean);
    f(".v", layer.norm->running_var);
}

/// Saves a network as it was trained; type is f32, or f16 or bf16, to which the values are rounded.
template <class Net>
void save_float_network(Net& net, const std::string& architecture, notch::dtype type, const std::string& path) {
    notch::model_writer w(architecture);
    net.layers([&](const std::string& name, auto& layer) {
        float_arrays(layer, [&](const char* suffix, const notch::buffer<float>& v) {
            if (type == notch::dtype::f32) {
                w.add<float>(name + suffix, {v.size()}, v.span());
                return;
            }
            std::vector<std::uint16_t> bits(static_cast<std::size_t>(v.size()));
            for (notch::index_t i = 0; i < v.size(); ++i)
                bits[static_cast<std::size_t>(i)] =
                    type == notch::dtype::f16 ? notch::to_float16(v[i]) : notch::to_bfloat16(v[i]);
            w.add(name + suffix, type, {v.size()}, std::as_bytes(std::span(bits)));
        });
    });
    w.save(path);
}

/// Reads what save_float_network wrote as f32 into a network of the same structure; a notch::error where it differs.
template <class Net> void load_float_network(Net& net, const std::string& path) {
    const notch::model_file file = notch::model_file::load(path);
    net.layers([&](const std::string& name, auto& layer) {
        float_arrays(layer, [&](const char* suffix, notch::buffer<float>& v) {
            const auto stored = file.tensor<float>(name + suffix, {v.size()});
            std::copy(stored.begin(), stored.end(), v.begin());
        });
    });
}

} // namespace mnist
