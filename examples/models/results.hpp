// SPDX-License-Identifier: Apache-2.0
//
// What the programs of this folder measure: rows of a JSON file, which scripts/models.sh joins.
//
//     {"model": "gcn", "method": "static, per channel", "bits": "w8a8", "metric": "top1 %", "value": 91.2,
//      "fp32_value": 91.3, "bytes": 1234, "latency_ms": 0.12, "peer": null, "peer_latency_ms": null}
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "../mnist/files.hpp"

namespace models {

/// One way to run one model.
struct result {
    std::string model;                     ///< "efficientnet-lite0"
    std::string method;                    ///< "static, per channel"
    std::string bits;                      ///< "fp32", "w8a8", "w4a8": of weights and activations
    std::string metric;                    ///< what value is: "top1 %", "cosine", ...
    double value = 0;                      ///< of this method
    double fp32_value = 0;                 ///< of the same model in fp32, on the same data
    std::int64_t bytes = 0;                ///< of weights, scales, zero points and biases, densely packed
    std::optional<double> latency_ms;      ///< median of one inference, batch 1, one thread
    std::string peer;                      ///< another library on the same model; empty: none was run
    std::optional<double> peer_latency_ms; ///< its median, taken in turns with ours
};

/// Writes the rows, the whole file or nothing of it; a notch::error (errc::io) otherwise.
inline void write_results(const std::string& path, const std::vector<result>& rows) {
    using json = nlohmann::ordered_json;
    const auto number = [](const std::optional<double>& x) { return x ? json(*x) : json(); };
    json out = json::array();
    for (const result& r : rows)
        out.push_back({{"model", r.model},
                       {"method", r.method},
                       {"bits", r.bits},
                       {"metric", r.metric},
                       {"value", r.value},
                       {"fp32_value", r.fp32_value},
                       {"bytes", r.bytes},
                       {"latency_ms", number(r.latency_ms)},
                       {"peer", r.peer.empty() ? json() : json(r.peer)},
                       {"peer_latency_ms", number(r.peer_latency_ms)}});
    mnist::write_file(path, out.dump(1) + "\n");
}

/// What a program has found.
struct report {
    std::vector<result> rows;
    std::int64_t different = 0; ///< codes of frozen networks that training does not give
    bool lost = false;          ///< INT8 was worse than it may be
};

} // namespace models
