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
#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include <notch/report/probe_rows.hpp>

NOTCH_KEYED_BEGIN

/// Lines end with a newline; the first is the heading. Names keep their bytes but for control characters.
[[nodiscard]] inline std::string to_text(const probe& p) {
    const auto rows = detail::probe_rows(p);
    std::array<std::size_t, detail::probe_headings.size()> widths = {5, 14, 9, 9, 11, 7, 7, 10, 9, 8, 0};
    for (const detail::probe_row& row : rows) widths[0] = std::max(widths[0], row.cells[0].size());
    std::string text;
    const auto line = [&](const auto& cells) {
        for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
            const std::string_view cell = cells[i];
            const std::string blanks(widths[i] - std::min(widths[i], cell.size()), ' ');
            if (i == 1) text += "  ";
            if (i < 2)
                text.append(cell).append(blanks);
            else
                text.append(blanks).append(cell);
        }
        if (const std::string_view last = cells.back(); !last.empty()) text.append("  ").append(last);
        text += '\n';
    };
    line(detail::probe_headings);
    for (const detail::probe_row& row : rows) line(row.cells);
    return text;
}

NOTCH_KEYED_END
