// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "../common/problem.hpp"

namespace bench {

/// The shapes of the report, by groups: matrices, the layers of ResNet-50, MobileNetV2 and BERT,
/// elementwise kernels within L2 and far beyond it; some on two threads.
std::vector<problem> report_problems();

} // namespace bench
