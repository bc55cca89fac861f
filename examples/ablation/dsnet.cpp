// SPDX-License-Identifier: Apache-2.0
//
// A depthwise network on CIFAR-10, trained here.
#include "dsnet.hpp"
#include "cifar.hpp"
#include "experiment.hpp"

namespace ablation {

void add_dsnet(std::vector<job>& jobs, const settings& how, results& to) {
    const cifar& data = cifar::read(how.cifar);
    add_jobs<dsnet>(jobs, subject<dsnet, images>{"CIFAR-10", data.train, data.test, 20, 1, 4e-3f, 1e-3f}, how, to);
}

} // namespace ablation
