// SPDX-License-Identifier: Apache-2.0
//
// Shows what the demo measured: a table for the terminal and a web page that needs no network.
//
// Both take the JSON of out/demo/results.json:
//
//     meta    cpu, compiler, notch, isas [..], seed, quick, train_images, test_images
//     rows    one for each network and method: network, network_title, method, title, weights,
//             activations, top1, delta_top1 (percent and points), bytes, size_ratio, isa,
//             latency_us, images_per_s_b1, images_per_s_b64, speedup_b1, speedup_b64 (against fp32
//             of the same instruction set), checked_codes,
//             mismatched_codes, and per_isa: the same measurements with isa and threads, and spread_b1 and
//             spread_b64: by how much the middle half of the repetitions differ, relative to their median
//     layers  network, method, layer, what ("weight" or "activation"), bits, scale, zero_point,
//             qmin, qmax, channels, histogram {min, max, counts [..]} of the values before they are
//             quantized. Weights are in steps of their channel's scale: scale is 1, and scale_min
//             and scale_max tell the scales
//
// A number that was not measured is null or absent and is shown as a dash.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace mnist {

/// Writes the page; a notch::error (errc::io) if path cannot be written.
void write_report(const nlohmann::json& results, const std::string& path);

/// The table for a terminal, at most 150 columns wide.
std::string text_table(const nlohmann::json& results);

} // namespace mnist
