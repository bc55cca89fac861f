// SPDX-License-Identifier: Apache-2.0
//
// notch/io/probe_json.hpp: what a probe saw (observe/probe.hpp) as JSON, for tools. Format version 1:
//
//     {"batches":2,"layers":[
//       {"channels":8,"mismatch":{...},"name":"conv1","versions":{"fake_quantized":{...},"integer":{...},"real":{...}}}
//     ],"notch_probe":1}
//
//   versions   those that were shown: batches, dead_channels, max, min, nonfinite, values; for codes at_hi, at_lo,
//              clip_rate, codes, scale, zero_point, of the last batch; where it was compared with the real version
//              clipped, compared, cosine, max_error, noise, signal, sqnr_db
//   mismatch   null if nothing was compared; else compared, different, other_grids; and first, null or batch,
//              fake_quantized, index, integer
//
// A number that is not finite is null: sqnr_db is null if noise or signal is 0. Bytes of names that are not UTF-8
// become U+FFFD. The same content gives the same bytes. Needs nlohmann-json.
#pragma once

#include <string>
#include <utility>

#include <notch/io/detail/safetensors_header.hpp>
#include <notch/observe/probe.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

inline json_value version_json(const probed_version& v) {
    json_value j = json_value::object();
    j["batches"] = v.batches;
    j["values"] = v.values;
    j["nonfinite"] = v.nonfinite;
    j["dead_channels"] = v.dead_channels();
    j["min"] = v.range.empty() ? json_value() : json_value(v.range.min);
    j["max"] = v.range.empty() ? json_value() : json_value(v.range.max);
    if (v.codes > 0) {
        j["codes"] = v.codes;
        j["at_lo"] = v.at_lo;
        j["at_hi"] = v.at_hi;
        j["clip_rate"] = v.clip_rate();
        j["scale"] = v.params.scale;
        j["zero_point"] = v.params.zero_point;
    }
    if (const divergence_sums& s = v.error.statistics(); s.compared + s.nonfinite > 0) {
        if (v.codes > 0) j["clipped"] = v.clipped;
        j["compared"] = s.compared;
        j["signal"] = s.signal;
        j["noise"] = s.noise;
        j["max_error"] = s.max_error;
        j["sqnr_db"] = v.error.sqnr_db(); // null where it is not finite
        j["cosine"] = v.error.cosine();
    }
    return j;
}
inline json_value mismatch_json(const probed_mismatch& m) {
    if (m.compared == 0) return {};
    json_value j = {{"compared", m.compared}, {"different", m.different}, {"other_grids", m.other_grids}};
    j["first"] = nullptr;
    if (m.index >= 0)
        j["first"] = {
            {"batch", m.batch}, {"index", m.index}, {"fake_quantized", m.fake_quantized}, {"integer", m.integer}};
    return j;
}

} // namespace detail

/// One line of JSON, in ASCII.
[[nodiscard]] inline std::string to_json(const probe& p) {
    detail::json_value layers = detail::json_value::array();
    for (index_t i = 0; i < p.size(); ++i) {
        const probed_layer& l = p[i];
        detail::json_value versions = detail::json_value::object();
        if (l.real.batches > 0) versions["real"] = detail::version_json(l.real);
        if (l.fake_quantized.batches > 0) versions["fake_quantized"] = detail::version_json(l.fake_quantized);
        if (l.integer.batches > 0) versions["integer"] = detail::version_json(l.integer);
        layers.push_back({{"name", l.name},
                          {"channels", l.channels},
                          {"versions", std::move(versions)},
                          {"mismatch", detail::mismatch_json(l.mismatch)}});
    }
    const detail::json_value all = {{"notch_probe", 1}, {"batches", p.batches()}, {"layers", std::move(layers)}};
    return all.dump(-1, ' ', true, detail::json_value::error_handler_t::replace);
}

NOTCH_KEYED_END
