// SPDX-License-Identifier: Apache-2.0
#include "report.hpp"

#include <cmath>
#include <map>

#include "../mnist/report_charts.hpp"
#include "../mnist/report_style.hpp"
#include "../mnist/report_text.hpp"

namespace ablation {
namespace {

using mnist::report::dash;
using mnist::report::escape;
using mnist::report::fixed;
using mnist::report::px;

/// The rows of one method in one network, by widths.
struct line {
    std::string name, title, family;
    std::vector<std::pair<widths, std::vector<double>>> top1;

    void add(const widths& w, double value) {
        const auto found = std::find_if(top1.begin(), top1.end(), [&](const auto& c) { return c.first == w; });
        (found == top1.end() ? top1.insert(top1.end(), {w, {}}) : found)->second.push_back(value);
    }
    [[nodiscard]] std::optional<mean_deviation> at(const widths& w) const {
        const auto found = std::find_if(top1.begin(), top1.end(), [&](const auto& c) { return c.first == w; });
        return found == top1.end() ? std::nullopt : std::optional(summarize(found->second));
    }
};

/// One network on one data set: its lines in the order of `methods`.
struct block {
    std::string network, data;
    std::vector<double> fp32;
    std::vector<line> lines;

    [[nodiscard]] std::string title() const { return network + " on " + data; }
};

std::vector<block> blocks_of(const json& results) {
    std::vector<block> all;
    for (const json& r : results.at("rows")) {
        const auto same = [&](const block& b) {
            return json(b.network) == r.at("network") && json(b.data) == r.at("data");
        };
        auto b = std::find_if(all.begin(), all.end(), same);
        if (b == all.end()) b = all.insert(all.end(), {r.at("network"), r.at("data"), {}, {}});
        if (r.at("method") == "fp32") {
            b->fp32.push_back(r.at("top1"));
            continue;
        }
        auto l = std::find_if(b->lines.begin(), b->lines.end(),
                              [&](const line& x) { return json(x.name) == r.at("method"); });
        if (l == b->lines.end())
            l = b->lines.insert(b->lines.end(), {r.at("method"), r.at("title"), r.at("family"), {}});
        l->add({r.at("weight_bits"), r.at("activation_bits")}, r.at("top1"));
    }
    const auto place = [](const line& l) {
        const method* m = find_method(l.name);
        return m ? m - methods.data() : static_cast<std::ptrdiff_t>(methods.size());
    };
    for (block& b : all)
        std::stable_sort(b.lines.begin(), b.lines.end(),
                         [&](const line& x, const line& y) { return place(x) < place(y); });
    std::stable_sort(all.begin(), all.end(), [](const block& x, const block& y) { return x.title() > y.title(); });
    return all;
}

/// The widths that lines of a family have, in the order of all_widths().
std::vector<widths> columns_of(const block& b, const std::string& family) {
    std::vector<widths> some;
    for (const widths& w : all_widths())
        if (std::any_of(b.lines.begin(), b.lines.end(),
                        [&](const line& l) { return l.family == family && l.at(w).has_value(); }))
            some.push_back(w);
    return some;
}

std::string cell(const std::optional<mean_deviation>& s) {
    if (!s) return dash;
    return fixed(s->mean, 1) + (s->count > 1 ? " ± " + fixed(s->deviation, 1) : "");
}

constexpr const char* families[] = {"post-training", "training"};

// --- the charts ------------------------------------------------------------------------------------------------------

struct series {
    std::string title;
    std::vector<std::optional<mean_deviation>> points; ///< one for each place on the axis
};

std::string colour(std::size_t i, std::size_t n) {
    return "hsl(" + std::to_string(i * 360 / std::max<std::size_t>(n, 1)) + " 70% 48%)";
}

/// Accuracy (its error on a logarithmic axis, so that 98 and 99 are as far apart as 80 and 90) against places.
std::string line_chart(const std::vector<series>& all, const std::vector<std::string>& places, double fp32,
                       const std::string& description) {
    constexpr double width = 480, height = 330, left = 46, right = width - 12, top = 12, bottom = height - 30;
    const auto depth = [](double top1) { return std::log10(std::clamp(100 - top1, 0.5, 100.0)); };
    double low = depth(fp32), high = low;
    for (const series& s : all)
        for (const auto& p : s.points)
            if (p) low = std::min(low, depth(p->mean)), high = std::max(high, depth(p->mean));
    low -= 0.06, high = std::min(high + 0.06, 2.0);
    const auto at_y = [&](double top1) {
        return top + (bottom - top) * (depth(top1) - low) / std::max(high - low, 0.2);
    };
    const auto at_x = [&](std::size_t i) {
        return left + (right - left) * (static_cast<double>(i) + 0.5) / static_cast<double>(places.size());
    };
    std::string svg = "<svg class=\"chart\" viewBox=\"0 0 " + px(width) + " " + px(height) +
                      "\" role=\"img\" aria-label=\"" + escape(description) + "\">";
    for (double y : {99.5, 99.0, 98.5, 98.0, 97.0, 96.0, 95.0, 90.0, 80.0, 70.0, 50.0, 10.0}) {
        if (at_y(y) < top || at_y(y) > bottom + 0.5) continue;
        svg += "<path class=\"rule\" d=\"M" + px(left) + " " + px(at_y(y)) + "H" + px(right) +
               "\"/><text class=\"tick\" text-anchor=\"end\" x=\"" + px(left - 6) + "\" y=\"" + px(at_y(y) + 3.5) +
               "\">" + fixed(y, y == std::floor(y) ? 0 : 1) + "</text>";
    }
    svg += "<path class=\"base\" d=\"M" + px(left) + " " + px(at_y(fp32)) + "H" + px(right) +
           "\"/><path class=\"axis\" d=\"M" + px(left) + " " + px(top) + "V" + px(bottom) + "H" + px(right) + "\"/>";
    for (std::size_t i = 0; i < places.size(); ++i)
        svg += "<text class=\"tick\" text-anchor=\"middle\" x=\"" + px(at_x(i)) + "\" y=\"" + px(bottom + 17) + "\">" +
               escape(places[i]) + "</text>";
    for (std::size_t k = 0; k < all.size(); ++k) {
        const std::string c = colour(k, all.size());
        std::string path, dots;
        for (std::size_t i = 0; i < places.size(); ++i) {
            const auto& p = all[k].points[i];
            if (!p) continue;
            path += (path.empty() ? "M" : "L") + px(at_x(i)) + " " + px(at_y(p->mean));
            if (p->count > 1)
                dots += "<path style=\"stroke:" + c + ";opacity:.5\" d=\"M" + px(at_x(i)) + " " +
                        px(at_y(p->mean - p->deviation)) + "V" + px(at_y(std::min(p->mean + p->deviation, 100.0))) +
                        "\"/>";
            dots += "<circle style=\"fill:" + c + "\" cx=\"" + px(at_x(i)) + "\" cy=\"" + px(at_y(p->mean)) +
                    "\" r=\"4\"><title>" + escape(all[k].title + ", " + places[i] + ": " + cell(p)) +
                    "</title></circle>";
        }
        svg += "<path style=\"fill:none;stroke:" + c + ";stroke-width:1.8" + (k % 2 ? ";stroke-dasharray:5 3" : "") +
               "\" d=\"" + path + "\"/>" + dots;
    }
    std::string legend = "<div class=\"legend\">";
    for (std::size_t k = 0; k < all.size(); ++k)
        legend += "<span><span class=\"dot\" style=\"background:" + colour(k, all.size()) + "\"></span>" +
                  escape(all[k].title) + "</span>";
    return svg + "</svg>" + legend + "</div>";
}

std::string chart(const block& b, const std::string& family, const std::string& title,
                  const std::vector<widths>& places) {
    std::vector<std::string> names;
    for (const widths& w : places) names.push_back(to_string(w));
    std::vector<series> all;
    for (const line& l : b.lines) {
        if (l.family != family) continue;
        series s{l.title, {}};
        for (const widths& w : places) s.points.push_back(l.at(w));
        if (std::count_if(s.points.begin(), s.points.end(), [](const auto& p) { return p.has_value(); }) > 0)
            all.push_back(std::move(s));
    }
    if (all.empty()) return "";
    return "<figure class=\"card\"><h3>" + escape(title) + "</h3>" +
           line_chart(all, names, summarize(b.fp32).mean, title + ", " + b.title()) +
           "<figcaption>Top-1 accuracy in percent, the axis logarithmic in the error; bars: one deviation over the "
           "seeds; "
           "dashed across: float32.</figcaption></figure>";
}

std::string charts(const block& b) {
    std::string out = "<div class=\"charts\">";
    for (const char* family : families) {
        const std::string of = std::string(family) + ": ";
        out += chart(b, family, of + "weights of fewer bits",
                     {{8, 8}, {4, 8}, {3, 8}, {2, 8}, {ternary_bits, 8}, {binary_bits, 8}});
        out += chart(b, family, of + "weights and activations", {{8, 8}, {4, 4}, {3, 3}, {2, 2}});
    }
    out += chart(b, "post-training", "post-training: activations of fewer bits", {{8, 8}, {8, 4}, {8, 3}, {8, 2}});
    return out + "</div>";
}

std::string html_table(const block& b, const std::string& family) {
    const std::vector<widths> columns = columns_of(b, family);
    if (columns.empty()) return "";
    std::string out = "<div class=\"scroll\"><table><thead><tr><th>" + escape(family) + "</th>";
    for (const widths& w : columns) out += "<th>" + escape(to_string(w)) + "</th>";
    out += "</tr></thead><tbody>";
    for (const line& l : b.lines) {
        if (l.family != family) continue;
        out += "<tr><th scope=\"row\">" + escape(l.title) + "</th>";
        for (const widths& w : columns) out += "<td>" + cell(l.at(w)) + "</td>";
        out += "</tr>";
    }
    return out + "</tbody></table></div>";
}

/// What was left out of a network: the methods that share a reason, with their widths.
std::string left_out_list(const json& results, const block& b) {
    std::vector<std::pair<std::string, std::vector<std::pair<std::string, std::vector<std::string>>>>> reasons;
    for (const json& r : results.at("left_out")) {
        if (r.at("network") != json(b.network) || r.at("data") != json(b.data)) continue;
        const std::string reason = r.at("reason"), name = r.at("method");
        auto at = std::find_if(reasons.begin(), reasons.end(), [&](const auto& x) { return x.first == reason; });
        if (at == reasons.end()) at = reasons.insert(at, {reason, {}});
        auto m = std::find_if(at->second.begin(), at->second.end(), [&](const auto& x) { return x.first == name; });
        if (m == at->second.end()) m = at->second.insert(m, {name, {}});
        m->second.push_back(to_string({r.at("weight_bits"), r.at("activation_bits")}));
    }
    std::string out;
    for (const auto& [reason, list] : reasons) {
        out += "<li>" + escape(reason) + "<br><span class=\"soft small\">";
        for (const auto& [name, all] : list) out += escape(name) + " (" + escape(mnist::report::join(all, ", ")) + ") ";
        out += "</span></li>";
    }
    return out.empty() ? "" : "<details><summary>What was left out, and why</summary><ul>" + out + "</ul></details>";
}

} // namespace

void write_report(const json& results, const std::string& path) {
    std::string page =
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
        "content=\"width=device-width, initial-scale=1\"><title>notch: ablation</title><style>" +
        std::string(mnist::report::style) +
        "</style></head><body><main><h1>Every method, with every number of bits</h1><p>Top-1 accuracy in percent, mean "
        "and deviation over the seeds. All layers are quantized, the first and the last as well; W4A8: weights of 4 "
        "bits, activations of 8. Every network ran on the integer kernels.</p>";
    for (const block& b : blocks_of(results)) {
        page += "<h2>" + escape(b.title()) + "</h2><p>float32: " + cell(summarize(b.fp32)) + "</p>";
        for (const char* family : families) page += html_table(b, family);
        page += charts(b) + left_out_list(results, b);
    }
    page += "<h2>What is not compared</h2><ul>";
    for (const json& m : results.at("not_compared"))
        page += "<li>" + escape(m.at("method").get<std::string>()) + ": " + escape(m.at("reason").get<std::string>()) +
                "</li>";
    mnist::write_file(path, page + "</ul></main></body></html>\n");
}

std::string text_table(const json& results) {
    std::string out;
    for (const block& b : blocks_of(results))
        for (const char* family : families) {
            const std::vector<widths> columns = columns_of(b, family);
            if (columns.empty()) continue;
            out += b.title() + ", " + family + "; float32 " + cell(summarize(b.fp32)) + "\n";
            const auto padded = [](const std::string& s, std::size_t to, bool left) {
                const std::string pad(to > mnist::report::columns(s) ? to - mnist::report::columns(s) : 0, ' ');
                return left ? s + pad : pad + s;
            };
            std::string head = padded("  method", 44, true);
            for (const widths& w : columns) head += padded(to_string(w), 14, false);
            out += head + "\n";
            for (const line& l : b.lines) {
                if (l.family != family) continue;
                out += padded("  " + l.title, 44, true);
                for (const widths& w : columns) out += padded(cell(l.at(w)), 14, false);
                out += "\n";
            }
            out += "\n";
        }
    out += "left out: ";
    for (const json& m : results.at("not_compared"))
        out += std::string(m.at("method")) + " (" + std::string(m.at("reason")) + "); ";
    return out + "and pairs of widths, with a reason each in results.json and report.html\n";
}

} // namespace ablation
