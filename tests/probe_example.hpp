// SPDX-License-Identifier: Apache-2.0
//
// What the tests of a probe's outputs show it.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include <notch/observe/probe.hpp>

/// One layer shown by all three versions, one by two without codes, one by a single version.
inline notch::probe example() {
    notch::probe p;
    const std::vector<float> real{0, 1, 2, 300}, logits{1, 2};
    const std::vector<std::uint8_t> fake{0, 1, 2, 255}, integer{0, 1, 3, 255};
    p.real()("conv1", real, 2);
    p.fake_quantized()("conv1", fake, {1.0f, 0}, 2);
    p.integer()("conv1", integer, {1.0f, 0}, 2);
    p.fake_quantized()("logits", logits, 2);
    p.integer()("logits", logits, 2);
    p.real()("left alone", std::vector<float>{std::numeric_limits<float>::quiet_NaN()}, 1);
    return p;
}
