// SPDX-License-Identifier: Apache-2.0
//
// notch/report/probe_text.hpp: what a probe saw (observe/probe.hpp) as a table to print, a row for each version of
// each layer.
//
//   low %, high %    codes at the ends of their range; behind a ReLU its zeros are at the lower one
//   clipped %        values of the real version more than half a step outside the grid
//   dead             channels that had one value throughout
//   NaN/Inf          values that were not finite
//   codes            the integer version against the fake-quantized one
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include <notch/observe/probe.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

inline std::string padded(std::string_view text, std::size_t width, bool right) {
    const std::string blanks(width > text.size() ? width - text.size() : 0, ' ');
    return right ? blanks + std::string(text) : std::string(text) + blanks;
}
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

} // namespace detail

/// Lines end with a newline; the first is the heading. Names keep their bytes but for control characters.
[[nodiscard]] inline std::string to_text(const probe& p) {
    std::size_t width = 5;
    for (index_t i = 0; i < p.size(); ++i) width = std::max(width, p[i].name.size());
    const auto line = [width](std::string_view name, std::string_view version, std::string_view sqnr,
                              std::string_view cosine, std::string_view error, std::string_view low,
                              std::string_view high, std::string_view clipped, std::string_view dead,
                              std::string_view nonfinite, std::string_view codes) {
        std::string text = detail::padded(name, width, false) + "  " + detail::padded(version, 14, false);
        const struct {
            std::string_view text;
            std::size_t width;
        } cells[] = {{sqnr, 9}, {cosine, 9},   {error, 11}, {low, 7},
                     {high, 7}, {clipped, 10}, {dead, 9},   {nonfinite, 8}};
        for (const auto& cell : cells) text += detail::padded(cell.text, cell.width, true);
        if (!codes.empty()) text.append("  ").append(codes);
        return text + "\n";
    };
    std::string text = line("layer", "version", "SQNR dB", "cosine", "max error", "low %", "high %", "clipped %",
                            "dead", "NaN/Inf", "codes");
    for (index_t i = 0; i < p.size(); ++i) {
        const probed_layer& l = p[i];
        std::string name = detail::printable(l.name);
        const struct {
            const char* name;
            const probed_version& v;
        } versions[] = {{"real", l.real}, {"fake-quantized", l.fake_quantized}, {"integer", l.integer}};
        for (const auto& [version, v] : versions) {
            if (v.batches == 0) continue;
            const bool known = v.error.compared() > 0;
            text += line(name, version, detail::number_text("%.1f", v.error.sqnr_db()),
                         detail::number_text("%.5f", v.error.cosine()),
                         known ? detail::number_text("%.4g", v.error.max_error()) : "-",
                         detail::percent_text(v.at_lo, v.codes), detail::percent_text(v.at_hi, v.codes),
                         v.codes > 0 ? detail::percent_text(v.clipped, v.error.compared() + v.error.nonfinite()) : "-",
                         detail::cat(v.dead_channels(), "/", l.channels), detail::cat(v.nonfinite),
                         &v == &l.integer ? detail::mismatch_text(l.mismatch) : "");
            name.clear();
        }
    }
    return text;
}

NOTCH_KEYED_END
