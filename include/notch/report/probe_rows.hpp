// SPDX-License-Identifier: Apache-2.0
//
// notch/report/probe_rows.hpp: the cells of the table of a probe (observe/probe.hpp), which report/probe_text.hpp and
// report/probe_html.hpp write out.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <notch/observe/probe.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

inline constexpr std::array<std::string_view, 11> probe_headings = {
    "layer", "version", "SQNR dB", "cosine", "max error", "low %", "high %", "clipped %", "dead", "NaN/Inf", "codes"};

/// A version of a layer.
struct probe_row {
    std::array<std::string, probe_headings.size()> cells; ///< as probe_headings; the name only in a layer's first row
    bool differs = false;                                 ///< its codes are not those of the fake-quantized version
};

/// A number in the given format; - if it is not one.
inline std::string number_text(const char* format, double v) {
    char text[64];
    if (std::isnan(v)) return "-";
    std::snprintf(text, sizeof text, format, v);
    return text;
}
/// What printing would take for more than text, as ?.
inline std::string printable(std::string_view name) {
    std::string text(name);
    for (char& c : text)
        if (static_cast<unsigned char>(c) < 32 || c == 127) c = '?';
    return text;
}
inline std::string percent_text(std::int64_t part, std::int64_t whole) {
    return whole == 0 ? "-" : number_text("%.2f", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}
inline std::string mismatch_text(const probed_mismatch& m) {
    if (m.compared == 0) return "";
    std::string text = "equal";
    if (m.different > 0)
        text = cat(m.different, " of ", m.compared, " differ, first batch ", m.batch, " index ", m.index, ": ",
                   m.integer, " for ", m.fake_quantized);
    if (m.other_grids > 0) text += cat("; other grids in ", m.other_grids, " batches");
    return text;
}

/// A row for each version that was shown, in the order of the layers.
[[nodiscard]] inline std::vector<probe_row> probe_rows(const probe& p) {
    std::vector<probe_row> rows;
    for (index_t i = 0; i < p.size(); ++i) {
        const probed_layer& l = p[i];
        std::string name = printable(l.name);
        const std::pair<const char*, const probed_version*> versions[] = {
            {"real", &l.real}, {"fake-quantized", &l.fake_quantized}, {"integer", &l.integer}};
        for (const auto& [version, v] : versions) {
            if (v->batches == 0) continue;
            const auto& error = v->error; // other headers have a detail::divergence
            const bool integer = v == &l.integer;
            rows.push_back({{std::exchange(name, {}), version, number_text("%.1f", error.sqnr_db()),
                             number_text("%.5f", error.cosine()),
                             error.compared() > 0 ? number_text("%.4g", error.max_error()) : "-",
                             percent_text(v->at_lo, v->codes), percent_text(v->at_hi, v->codes),
                             v->codes > 0 ? percent_text(v->clipped, error.compared() + error.nonfinite()) : "-",
                             cat(v->dead_channels(), "/", l.channels), cat(v->nonfinite),
                             integer ? mismatch_text(l.mismatch) : ""},
                            integer && l.mismatch.different > 0});
        }
    }
    return rows;
}

} // namespace detail
NOTCH_KEYED_END
