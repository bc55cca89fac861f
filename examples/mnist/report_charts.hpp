// SPDX-License-Identifier: Apache-2.0
//
// The pictures of the report, as inline SVG: scatter charts with labelled points, and histograms
// with their quantization grid. Colours are CSS classes, so they follow light and dark mode.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "report_text.hpp"

namespace mnist::report {

/// Which colour a method has: 0 float32, 1 other float, 2 post-training, 3 training-aware.
inline int family(const std::string& method) {
    const auto starts = [&](const char* prefix) { return method.rfind(prefix, 0) == 0; };
    if (starts("fp32") || starts("float32")) return 0;
    if (starts("fp16") || starts("float16") || starts("f16") || starts("bf16") || starts("bfloat16")) return 1;
    return starts("qat") ? 3 : 2;
}

inline std::string px(double value) {
    std::string out = fixed(value, 1);
    if (out.size() > 2 && out.compare(out.size() - 2, 2, ".0") == 0) out.resize(out.size() - 2);
    return out;
}

struct chart_point {
    double x = 0, y = 0; ///< in the units of the axes
    std::string label, tip;
    int colour = 0;
};

struct box {
    double x0 = 0, y0 = 0, x1 = 0, y1 = 0;
    [[nodiscard]] bool meets(const box& o) const { return x0 < o.x1 && o.x0 < x1 && y0 < o.y1 && o.y0 < y1; }
};

/// Where a label goes, and where the line that leads to its point ends.
struct label_place {
    box where;
    const char* anchor = "start"; ///< as SVG's text-anchor
    bool lead = false;
    double lead_x = 0, lead_y = 0;
};

/// Finds for each point the nearest free place for its label: no label covers another one, a point,
/// a leading line or the frame, and it covers one of `lines` only if nothing else is free.
inline std::vector<label_place> place_labels(const std::vector<chart_point>& points,
                                             const std::vector<std::array<double, 2>>& at,
                                             const std::vector<box>& lines, const box& frame) {
    constexpr double height = 13, letter = 6.2, radius = 5.5;
    // right, left, above, below first; then the angles between, in steps of 15 degrees
    static constexpr int turns[24] = {0, 12, 6,  18, 3, 21, 9, 15, 1, 23, 11, 13,
                                      2, 22, 10, 14, 4, 20, 8, 16, 5, 19, 7,  17};
    std::vector<label_place> places(points.size());
    std::vector<box> dots, texts, leads;
    for (const auto& p : at) dots.push_back({p[0] - radius, p[1] - radius, p[0] + radius, p[1] + radius});
    const auto meets_any = [](const std::vector<box>& boxes, const box& b) {
        return std::any_of(boxes.begin(), boxes.end(), [&](const box& t) { return t.meets(b); });
    };
    for (std::size_t i = 0; i < points.size(); ++i) {
        const double px0 = at[i][0], py0 = at[i][1];
        const double width = letter * static_cast<double>(columns(points[i].label)) + 4;
        const auto lead_boxes = [&](const label_place& p) {
            std::vector<box> all;
            for (double t = 0; p.lead && t <= 1; t += 0.125) {
                const double x = px0 + t * (p.lead_x - px0), y = py0 + t * (p.lead_y - py0);
                all.push_back({x - 1, y - 1, x + 1, y + 1});
            }
            return all;
        };
        const auto try_ring = [&](double ring, bool over_lines) {
            for (int turn : turns) {
                const double angle = turn * std::numbers::pi / 12;
                const double right = std::cos(angle), up = std::sin(angle);
                const double side = right > 0.5 ? 1 : right < -0.5 ? -1 : 0;
                const double left = px0 + ring * right - width * (1 - side) / 2;
                const double top = py0 - ring * up - height * (1 + up) / 2;
                const box b{left, top, left + width, top + height};
                label_place p{b, side > 0 ? "start" : side < 0 ? "end" : "middle", ring > 8, 0, 0};
                p.lead_x = std::clamp(px0, b.x0 + 2, b.x1 - 2);
                p.lead_y = std::clamp(py0, b.y0 + 2, b.y1 - 2);
                if (b.x0 < frame.x0 || b.x1 > frame.x1 || b.y0 < frame.y0 || b.y1 > frame.y1) continue;
                if (meets_any(dots, b) || meets_any(texts, b) || meets_any(leads, b)) continue;
                if (!over_lines && meets_any(lines, b)) continue;
                const std::vector<box> way = lead_boxes(p);
                if (std::any_of(way.begin(), way.end(), [&](const box& w) { return meets_any(texts, w); })) continue;
                places[i] = p;
                return true;
            }
            return false;
        };
        bool found = false;
        for (bool over_lines : {false, true})
            for (double ring = 8; ring < 100 && !found; ring += 6) found = try_ring(ring, over_lines);
        if (!found) {
            const double left = std::min(px0 + 8, frame.x1 - width);
            places[i].where = {left, py0 - height / 2, left + width, py0 + height / 2};
        }
        texts.push_back(places[i].where);
        for (const box& b : lead_boxes(places[i])) leads.push_back(b);
    }
    return places;
}

/// Steps of 1, 2 or 5 times a power of ten that give about `count` ticks.
inline double nice_step(double span, int count) {
    const double raw = span / count, power = std::pow(10, std::floor(std::log10(raw)));
    const double scaled = raw / power;
    return power * (scaled <= 1 ? 1 : scaled <= 2 ? 2 : scaled <= 5 ? 5 : 10);
}

/// Accuracy (y, in percent) against something that is better when small (x, logarithmic).
inline std::string scatter(const std::vector<chart_point>& points, const std::string& x_title,
                           const std::string& description) {
    constexpr double width = 400, height = 320;
    constexpr box frame{44, 12, width - 10, height - 44};
    if (points.empty()) return "<p class=\"none\">Nothing was measured for this chart.</p>";
    double x0 = points[0].x, x1 = x0, y0 = points[0].y, y1 = y0;
    for (const chart_point& p : points) {
        x0 = std::min(x0, p.x), x1 = std::max(x1, p.x);
        y0 = std::min(y0, p.y), y1 = std::max(y1, p.y);
    }
    const double pad_y = std::max((y1 - y0) * 0.18, 0.1), stretch = std::pow(std::max(x1 / x0, 1.5), 0.14);
    x0 /= stretch, x1 *= stretch, y0 -= pad_y, y1 = std::min(y1 + pad_y, std::max(100.0, y1));
    const auto at_x = [&](double x) { return frame.x0 + (frame.x1 - frame.x0) * std::log(x / x0) / std::log(x1 / x0); };
    const auto at_y = [&](double y) { return frame.y1 - (frame.y1 - frame.y0) * (y - y0) / (y1 - y0); };

    std::string svg = "<svg class=\"chart\" viewBox=\"0 0 " + px(width) + " " + px(height) +
                      "\" role=\"img\" aria-label=\"" + escape(description) + "\">";
    const double step = nice_step(y1 - y0, 6);
    const int decimals = step < 0.1 ? 2 : step < 1 ? 1 : 0;
    for (double y = std::ceil(y0 / step) * step; y <= y1 + step * 1e-6; y += step)
        svg += "<path class=\"rule\" d=\"M" + px(frame.x0) + " " + px(at_y(y)) + "H" + px(frame.x1) +
               "\"/><text class=\"tick\" text-anchor=\"end\" x=\"" + px(frame.x0 - 6) + "\" y=\"" + px(at_y(y) + 3.5) +
               "\">" + fixed(y, decimals) + "</text>";
    double last_tick = -100;
    for (int power = static_cast<int>(std::floor(std::log10(x0))); power <= static_cast<int>(std::log10(x1)) + 1;
         ++power)
        for (double digit : {1.0, 2.0, 5.0}) {
            const double x = digit * std::pow(10, power);
            if (x < x0 || x > x1 || at_x(x) - last_tick < 34) continue;
            last_tick = at_x(x);
            svg += "<path class=\"rule\" d=\"M" + px(at_x(x)) + " " + px(frame.y0) + "V" + px(frame.y1) +
                   "\"/><text class=\"tick\" text-anchor=\"middle\" x=\"" + px(at_x(x)) + "\" y=\"" +
                   px(frame.y1 + 15) + "\">" + (x >= 1 ? grouped(x) : fixed(x, 2)) + "</text>";
        }
    svg += "<path class=\"axis\" d=\"M" + px(frame.x0) + " " + px(frame.y0) + "V" + px(frame.y1) + "H" + px(frame.x1) +
           "\"/><text class=\"axis-title\" text-anchor=\"middle\" x=\"" + px((frame.x0 + frame.x1) / 2) + "\" y=\"" +
           px(height - 8) + "\">" + escape(x_title) + "</text>";
    std::vector<box> lines;
    for (const chart_point& p : points) {
        if (p.colour != 0) continue;
        lines.push_back({frame.x0, at_y(p.y) - 1, frame.x1, at_y(p.y) + 1});
        svg += "<path class=\"base\" d=\"M" + px(frame.x0) + " " + px(at_y(p.y)) + "H" + px(frame.x1) + "\"/>";
    }

    std::vector<std::array<double, 2>> at;
    for (const chart_point& p : points) at.push_back({at_x(p.x), at_y(p.y)});
    const std::vector<label_place> labels = place_labels(points, at, lines, frame);
    std::string texts;
    for (std::size_t i = 0; i < points.size(); ++i) {
        const label_place& place = labels[i];
        const std::string anchor = place.anchor;
        const double x = anchor == "start" ? place.where.x0 + 2
                         : anchor == "end" ? place.where.x1 - 2
                                           : (place.where.x0 + place.where.x1) / 2;
        if (place.lead)
            svg += "<path class=\"lead\" d=\"M" + px(at[i][0]) + " " + px(at[i][1]) + "L" + px(place.lead_x) + " " +
                   px(place.lead_y) + "\"/>";
        texts += "<circle class=\"f" + std::to_string(points[i].colour) + "\" cx=\"" + px(at[i][0]) + "\" cy=\"" +
                 px(at[i][1]) + "\" r=\"4.5\"><title>" + escape(points[i].tip) +
                 "</title></circle><text class=\"label\" text-anchor=\"" + anchor + "\" x=\"" + px(x) + "\" y=\"" +
                 px(place.where.y1 - 3) + "\">" + escape(points[i].label) + "</text>";
    }
    return svg + texts + "</svg>";
}

/// A histogram with the codes of its quantizer as vertical lines; `note` says what was left out.
struct histogram_picture {
    std::string svg, note;
};

inline histogram_picture histogram(const json& layer) {
    const json& data = at(layer, "histogram");
    std::vector<double> counts;
    for (const json& c : list(data, "counts")) counts.push_back(c.is_number() ? std::max(c.get<double>(), 0.0) : 0.0);
    const auto least = number(data, "min"), most = number(data, "max");
    if (counts.empty() || !least || !most) return {"<p class=\"none\">No values were recorded.</p>", ""};
    const double low = *least;
    const double high = *most > low ? *most : low + std::max(std::fabs(low), 1.0) * 1e-6;
    constexpr double width = 340, height = 128, left = 6, right = width - 6, top = 6, bottom = height - 18;

    const auto scale = number(layer, "scale"), qmin = number(layer, "qmin"), qmax = number(layer, "qmax");
    const double zero_point = number(layer, "zero_point").value_or(0);
    const auto is_code = [](double q) { return std::fabs(q) < 4294967296.0; };
    const bool has_grid =
        scale && *scale > 0 && qmin && qmax && *qmax > *qmin && is_code(*qmin) && is_code(*qmax) && is_code(zero_point);
    const double grid_low = has_grid ? *scale * (*qmin - zero_point) : low;
    const double grid_high = has_grid ? *scale * (*qmax - zero_point) : high;
    double x0 = std::min(low, grid_low), x1 = std::max(high, grid_high);
    const double margin = (x1 - x0) * 0.015;
    x0 -= margin, x1 += margin;
    const auto at_x = [&](double v) { return left + (right - left) * (v - x0) / (x1 - x0); };

    std::string svg = "<svg class=\"hist\" viewBox=\"0 0 " + px(width) + " " + px(height) +
                      "\" role=\"img\" aria-label=\"Histogram of the values, with the quantization grid\">";
    std::string note;
    const double bin = (high - low) / static_cast<double>(counts.size());
    double total = 0, clipped = 0;
    const double tallest = std::max(*std::max_element(counts.begin(), counts.end()), 1.0);
    std::string bars = "M" + px(at_x(low)) + " " + px(bottom);
    for (std::size_t i = 0; i < counts.size(); ++i) {
        const double from = low + bin * static_cast<double>(i), centre = from + bin / 2;
        total += counts[i];
        if (has_grid && (centre < grid_low - *scale / 2 || centre > grid_high + *scale / 2)) clipped += counts[i];
        bars += "V" + px(bottom - (bottom - top) * std::sqrt(counts[i] / tallest)) + "H" + px(at_x(from + bin));
    }
    svg += "<path class=\"bars\" d=\"" + bars + "V" + px(bottom) + "Z\"/>";
    if (has_grid) {
        const std::pair<double, double> outside[] = {{low, grid_low - *scale / 2}, {grid_high + *scale / 2, high}};
        for (const auto& [from, to] : outside)
            if (at_x(to) - at_x(from) > 0.5)
                svg += "<rect class=\"clip\" x=\"" + px(at_x(from)) + "\" y=\"" + px(top) + "\" width=\"" +
                       px(at_x(to) - at_x(from)) + "\" height=\"" + px(bottom - top) + "\"/>";
        const double codes = *qmax - *qmin + 1;
        double every = 1;
        while (codes / every > 64) every *= 2;
        // Counted from the zero point, so that zero is always drawn.
        std::string ticks;
        for (double q = zero_point + std::ceil((*qmin - zero_point) / every) * every; q <= *qmax; q += every)
            ticks += "M" + px(at_x(*scale * (q - zero_point))) + " " + px(top) + "V" + px(bottom);
        svg += "<path class=\"grid\" d=\"" + ticks + "\"/>";
        if (every > 1)
            note = "every " + px(every) + (every == 2 ? "nd" : "th") + " of " + px(codes) + " codes drawn";
        else
            note = "all " + px(codes) + " codes drawn";
        if (clipped > 0 && total > 0)
            note += "; " + (clipped / total < 0.0001 ? "under 0.01" : fixed(100 * clipped / total, 2)) + "% clipped";
    }
    if (x0 < 0 && x1 > 0) svg += "<path class=\"zero\" d=\"M" + px(at_x(0)) + " " + px(top) + "V" + px(bottom) + "\"/>";
    svg += "<path class=\"axis\" d=\"M" + px(left) + " " + px(bottom) + "H" + px(right) + "\"/>";
    const auto mark = [&](double value, const char* anchor) {
        svg += "<text class=\"tick\" text-anchor=\"" + std::string(anchor) + "\" x=\"" + px(at_x(value)) + "\" y=\"" +
               px(height - 4) + "\">" + (value == 0 ? "0" : brief_real(value)) + "</text>";
    };
    const double first = std::min(low, grid_low), last = std::max(high, grid_high);
    mark(first, "start");
    mark(last, "end");
    if (at_x(0) - at_x(first) > 50 && at_x(last) - at_x(0) > 50) mark(0, "middle");
    return {svg + "</svg>", note};
}

} // namespace mnist::report
