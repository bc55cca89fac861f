// SPDX-License-Identifier: Apache-2.0
//
// The file of results, which grows row by row, so that an ablation that was stopped goes on where it was:
//
//     meta      notch, compiler
//     rows      network, data, method, title, family ("float", "post-training" or "training"), weight_bits (8, 4, 3, 2;
//               1.58: ternary; 1: binary; 32: float), activation_bits, seed, top1, fp32_top1 (in percent), start_top1
//               (of training methods: quantized, before training), bytes (weights densely packed, scales, zero points,
//               biases), minutes. Method fp32_longer: a pretrained network after as many steps more as training
//               methods take, in fp32
//     left_out  network, data, method, weight_bits, activation_bits, reason
//     not_compared  method, reason: what the library has besides
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "../mnist/files.hpp"
#include "methods.hpp"

namespace ablation {

using json = nlohmann::ordered_json;

/// Mean and sample deviation (of n - 1; 0 of a single value).
struct mean_deviation {
    double mean = 0, deviation = 0;
    int count = 0;
};
inline mean_deviation summarize(const std::vector<double>& x) {
    mean_deviation s{0, 0, static_cast<int>(x.size())};
    for (double v : x) s.mean += v / static_cast<double>(x.size());
    if (x.size() < 2) return s;
    for (double v : x) s.deviation += (v - s.mean) * (v - s.mean) / static_cast<double>(x.size() - 1);
    s.deviation = std::sqrt(s.deviation);
    return s;
}

struct result {
    std::string network, data, method, title, family;
    widths bits;
    unsigned seed = 0;
    double top1 = 0, fp32_top1 = 0;
    std::optional<double> start_top1;
    std::int64_t bytes = 0;
    double minutes = 0;
};

/// Thread-safe.
class results {
public:
    /// Goes on with the rows of the file, if it has been written with the same meta.
    results(std::string path, json meta) : path_(std::move(path)) {
        content_ = {{"meta", std::move(meta)},
                    {"rows", json::array()},
                    {"left_out", json::array()},
                    {"not_compared", json::array()}};
        for (const absent_method& m : absent_methods)
            content_["not_compared"].push_back({{"method", m.name}, {"reason", m.reason}});
        std::ifstream in(path_);
        if (!in) return;
        json before = json::parse(in, nullptr, false);
        if (before.is_object() && before.value("meta", json()) == content_["meta"] && before.contains("rows"))
            content_["rows"] = before["rows"];
    }
    [[nodiscard]] bool has(const std::string& network, const std::string& data, const std::string& method,
                           const widths& w, unsigned seed) const {
        const std::lock_guard lock(mutex_);
        return std::any_of(content_["rows"].begin(), content_["rows"].end(), [&](const json& r) {
            return r.at("network") == json(network) && r.at("data") == json(data) && r.at("method") == json(method) &&
                   r.at("weight_bits") == w.weights && r.at("activation_bits") == w.activations && r.at("seed") == seed;
        });
    }
    void add(const result& r) {
        const std::lock_guard lock(mutex_);
        content_["rows"].push_back({{"network", r.network},
                                    {"data", r.data},
                                    {"method", r.method},
                                    {"title", r.title},
                                    {"family", r.family},
                                    {"weight_bits", r.bits.weights},
                                    {"activation_bits", r.bits.activations},
                                    {"seed", r.seed},
                                    {"top1", r.top1},
                                    {"fp32_top1", r.fp32_top1},
                                    {"start_top1", r.start_top1 ? json(*r.start_top1) : json()},
                                    {"bytes", r.bytes},
                                    {"minutes", std::round(r.minutes * 1e4) / 1e4}});
        save();
    }
    void leave_out(const std::string& network, const std::string& data, const std::string& method, const widths& w,
                   const std::string& reason) {
        const std::lock_guard lock(mutex_);
        for (const json& r : content_["left_out"])
            if (r["network"] == network && r["data"] == data && r["method"] == method &&
                r["weight_bits"] == w.weights && r["activation_bits"] == w.activations)
                return;
        content_["left_out"].push_back({{"network", network},
                                        {"data", data},
                                        {"method", method},
                                        {"weight_bits", w.weights},
                                        {"activation_bits", w.activations},
                                        {"reason", reason}});
    }
    void save() const { mnist::write_file(path_, content_.dump(1) + "\n"); }
    [[nodiscard]] const json& content() const { return content_; }

private:
    std::string path_;
    json content_;
    mutable std::mutex mutex_;
};

} // namespace ablation
