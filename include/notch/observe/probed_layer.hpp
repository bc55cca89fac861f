// SPDX-License-Identifier: Apache-2.0
//
// notch/observe/probed_layer.hpp: what a probe (observe/probe.hpp) has seen of a layer.
#pragma once

#include <cstdint>
#include <string>

#include <notch/core/buffer.hpp>
#include <notch/core/types.hpp>
#include <notch/observe/divergence.hpp>

NOTCH_KEYED_BEGIN

/// What one version of a layer showed. Counts are of values, over all batches.
struct probed_version {
    std::int64_t batches = 0;
    std::int64_t values = 0;    ///< shown
    std::int64_t nonfinite = 0; ///< of them NaN or infinite
    std::int64_t codes = 0;     ///< shown as codes
    std::int64_t at_lo = 0;     ///< codes at the lower end of their range. Behind a ReLU these are its zeros
    std::int64_t at_hi = 0;     ///< at the upper end
    std::int64_t clipped = 0;   ///< real values more than half a step outside the grid of the codes
    quant_params params;        ///< of the last codes
    real_range range;           ///< of the finite values
    divergence error;           ///< against the real version; empty for that itself
    buffer<float> channel_min, channel_max; ///< of the finite values of each channel; min > max if there are none

    /// The share of codes at the ends of their range; 0 without codes.
    [[nodiscard]] double clip_rate() const noexcept {
        return codes == 0 ? 0.0 : static_cast<double>(at_lo + at_hi) / static_cast<double>(codes);
    }
    /// How many channels had the same value throughout.
    [[nodiscard]] index_t dead_channels() const noexcept {
        index_t n = 0;
        for (index_t c = 0; c < channel_min.size(); ++c) n += channel_min[c] == channel_max[c];
        return n;
    }
};

/// The integer version against the fake-quantized one. Codes are compared where either shows codes: values
/// without codes are put on the grid of the other version. Else values are, which agree if equal or both NaN.
struct probed_mismatch {
    std::int64_t compared = 0, different = 0;
    std::int64_t other_grids = 0;           ///< batches in which the two had different scales or zero points
    std::int64_t batch = -1, index = -1;    ///< where the first difference was; -1 if nowhere
    double fake_quantized = 0, integer = 0; ///< what was there
};

/// What a probe knows of a layer.
struct probed_layer {
    std::string name;
    index_t channels = 0; ///< the last axis
    probed_version real, fake_quantized, integer;
    probed_mismatch mismatch;
};

NOTCH_KEYED_END
