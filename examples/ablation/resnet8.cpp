// SPDX-License-Identifier: Apache-2.0
//
// MLPerf Tiny's pretrained ResNet-8 on CIFAR-10. It is trained on for an epoch first, so that what the methods gain by
// training is not what any training on these images would; what another epoch gains in fp32 is measured besides.
#include "resnet8.hpp"

#include <map>
#include <vector>

#include <notch/io/tflite.hpp>

#include "cifar.hpp"
#include "experiment.hpp"

namespace ablation {
namespace {

/// Fills the network with the weights of a float model of this structure, whose pixels are 0 ... 255; here they are
/// multiples of mnist::pixel_params. A notch::error if it has another structure.
template <class Net> void read_resnet8(Net& net, const std::string& path) {
    namespace tflite = notch::tflite;
    const tflite::model model = tflite::model::load(path);
    // By the shape of their weights, layers of the same shape in the order in which they run.
    std::map<std::vector<index_t>, std::vector<const tflite::op*>> found;
    std::size_t count = 0;
    for (const tflite::op& o : model.main().operators)
        if (o.code == tflite::op_code::conv_2d || o.code == tflite::op_code::fully_connected) {
            if (o.inputs.size() != 3) notch::fail(notch::errc::unsupported, path + ": a layer has no bias");
            found[model.at(o.inputs[1]).shape].push_back(&o);
            ++count;
        }
    net.layers([&](const std::string& name, auto& layer) {
        const notch::window& s = layer.math().geometry;
        auto& same =
            found[name == "dense" ? std::vector<index_t>{layer.math().out, layer.math().in}
                                  : std::vector<index_t>{layer.math().out, s.kernel_h, s.kernel_w, layer.math().in}];
        if (same.empty()) notch::fail(notch::errc::unsupported, path + ": is not ResNet-8: it has no layer " + name);
        const auto w = model.constant<float>(same.front()->inputs[1]),
                   b = model.constant<float>(same.front()->inputs[2]);
        if (static_cast<index_t>(b.size()) != layer.bias.size())
            notch::fail(notch::errc::unsupported, path + ": the biases of " + name + " do not fit");
        std::copy(w.begin(), w.end(), layer.weight.begin());
        std::copy(b.begin(), b.end(), layer.bias.begin());
        same.erase(same.begin());
        --count;
    });
    if (count != 0) notch::fail(notch::errc::unsupported, path + ": is not ResNet-8: it has more layers");
    for (float& w : net.stem.weight) w /= mnist::pixel_params.scale;
}

} // namespace

void add_resnet8(std::vector<job>& jobs, const settings& how, results& to) {
    const cifar& data = cifar::read(how.cifar);
    subject<resnet8, images> s{"CIFAR-10", data.train, data.test, 1, 1, 1e-3f, 1e-3f};
    s.pretrained = [path = how.resnet](auto& net) { read_resnet8(net, path); };
    add_jobs<resnet8>(jobs, s, how, to);
}

} // namespace ablation
