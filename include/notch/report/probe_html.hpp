// SPDX-License-Identifier: Apache-2.0
//
// notch/report/probe_html.hpp: what a probe saw (observe/probe.hpp) as an HTML page or, for a page of your own, its
// table alone. The columns are those of report/probe_text.hpp. A cell of codes that differ has the class "differ".
#pragma once

#include <string>
#include <string_view>

#include <notch/report/probe_rows.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

inline void append_escaped(std::string& html, std::string_view text) {
    for (const char c : text) switch (c) {
        case '&': html += "&amp;"; break;
        case '<': html += "&lt;"; break;
        case '>': html += "&gt;"; break;
        case '"': html += "&quot;"; break;
        default: html += c;
        }
}

} // namespace detail

/// The table, an element of class "notch-probe". Names are text: their markup is shown, not obeyed; control characters
/// become ?, other bytes are kept and should be UTF-8.
[[nodiscard]] inline std::string to_html_table(const probe& p) {
    std::string html = "<table class=\"notch-probe\">\n<thead><tr>";
    for (const std::string_view heading : detail::probe_headings) html.append("<th>").append(heading).append("</th>");
    html += "</tr></thead>\n<tbody>\n";
    for (const detail::probe_row& row : detail::probe_rows(p)) {
        html += "<tr>";
        for (const std::string& cell : row.cells) {
            html += row.differs && &cell == &row.cells.back() ? "<td class=\"differ\">" : "<td>";
            detail::append_escaped(html, cell);
            html += "</td>";
        }
        html += "</tr>\n";
    }
    return html + "</tbody>\n</table>\n";
}

/// A page of its own, which needs no other file. title as names.
[[nodiscard]] inline std::string to_html(const probe& p, std::string_view title = "Layers of a quantized network") {
    std::string html = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>";
    const std::string name = detail::printable(title);
    detail::append_escaped(html, name);
    html += "</title>\n<style>\n"
            ":root { color-scheme: light dark; font: 14px/1.4 system-ui, sans-serif; }\n"
            "body { margin: 2em; } .wide { overflow-x: auto; } table { border-collapse: collapse; }\n"
            "th, td { padding: .2em .7em; text-align: right; white-space: nowrap; }\n"
            "th:nth-child(-n+2), td:nth-child(-n+2), th:last-child, td:last-child { text-align: left; }\n"
            "thead th { border-bottom: 1px solid; } td:first-child { font-weight: 600; } .differ { color: #d33; }\n"
            "td { font-variant-numeric: tabular-nums; }\n"
            "</style>\n</head>\n<body>\n<h1>";
    detail::append_escaped(html, name);
    return html + "</h1>\n<div class=\"wide\">\n" + to_html_table(p) + "</div>\n</body>\n</html>\n";
}

NOTCH_KEYED_END
