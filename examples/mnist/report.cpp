// SPDX-License-Identifier: Apache-2.0
//
// The page of report.hpp and the table for the terminal.
#include "report.hpp"

#include <map>
#include <utility>

#include "files.hpp"
#include "report_charts.hpp"
#include "report_style.hpp"
#include "report_text.hpp"

namespace mnist {
namespace {

using namespace report;

const char* const family_names[] = {"float32", "float16 and bfloat16 weights", "quantized after training",
                                    "quantization-aware training"};

std::string method_title(const json& row) { return text(row, "title", text(row, "method", "?").c_str()); }

std::string dot(int colour) { return "<span class=\"dot f" + std::to_string(colour) + "\"></span>"; }

std::string tile(const std::string& value, const std::string& caption, const char* mood = "") {
    return "<div class=\"card tile " + std::string(mood) + "\"><b>" + escape(value) +
           "</b><span class=\"soft small\">" + escape(caption) + "</span></div>";
}

/// The row with the greatest (sign = 1) or least (-1) value of a key; null if none has it.
const json* extreme(const json& results, const char* key, double sign) {
    const json* best = nullptr;
    for (const json& row : list(results, "rows")) {
        const auto value = number(row, key);
        if (!value || family(text(row, "method")) == 0) continue;
        if (!best || sign * *value > sign * *number(*best, key)) best = &row;
    }
    return best;
}

std::string headline(const json& results, const std::vector<network>& nets) {
    const json& meta = at(results, "meta");
    std::string out = "<h1>The same codes in training and in INT8 inference</h1><p>";
    out += nets.size() == 1 ? "A network was"
                            : (nets.size() == 2 ? "Two" : std::to_string(nets.size())) + " networks were";
    out += " trained on " + grouped(number(meta, "train_images")) +
           " images of handwritten digits, quantized in every basic way, and tested on " +
           grouped(number(meta, "test_images")) +
           " others. Each quantized network was run twice: as the training code computes it and as "
           "the frozen "
           "INT8 network.</p>";
    if (at(meta, "quick") == true)
        out += "<p class=\"soft\">This was a quick run: short training, so accuracies are below "
               "those of a full run.</p>";

    const agreement agree = total_agreement(results);
    out += "<div class=\"tiles\">";
    if (agree.measured)
        out += tile(grouped(agree.mismatched) + (agree.mismatched == 1 ? " mismatched code" : " mismatched codes"),
                    (agree.checked > 0 ? "of " + grouped(agree.checked) + " compared, on " : "on ") + where(agree),
                    agree.mismatched == 0 ? "good" : "bad");
    else
        out += tile(dash, "mismatched codes: not measured");
    if (const json* fast = extreme(results, "speedup_b64", 1))
        out += tile(times(number(*fast, "speedup_b64")) + " faster",
                    "than float32 at batch 64: network " + text(*fast, "network") + ", " + method_title(*fast) + ", " +
                        text(*fast, "isa"));
    if (const json* small = extreme(results, "size_ratio", -1))
        out += tile(fixed(number(*small, "size_ratio").value_or(0) * 100, 1) + "% of the size",
                    "of the float32 model: network " + text(*small, "network") + ", " + method_title(*small) +
                        ", accuracy " + with_sign(number(*small, "delta_top1")) + " points");
    out += "</div><p class=\"soft small\">" + escape(text(meta, "cpu", "unknown CPU")) + " · notch " +
           escape(text(meta, "notch", dash)) + " · " + escape(text(meta, "compiler", "unknown compiler")) + " · seed " +
           fixed(number(meta, "seed"), 0) + "</p>";
    if (const std::string noise = noise_warning(results); !noise.empty()) out += "<p>" + noise + "</p>";
    return out;
}

std::string mismatch_cell(std::optional<double> mismatched) {
    if (!mismatched) return dash;
    return "<span class=\"" + std::string(*mismatched == 0 ? "good-text" : "bad-text") + "\">" + grouped(mismatched) +
           "</span>";
}

std::string result_table(const network& net) {
    std::string out = "<div class=\"scroll\"><table><thead><tr><th>method</th><th>top-1<br>%</th>"
                      "<th>against<br>fp32</th><th>mismatched<br>codes</th><th>size<br>kB</th>"
                      "<th>size<br>× fp32</th><th>latency<br>µs</th><th>images/s<br>batch 1</th>"
                      "<th>images/s<br>batch 64</th><th>speed-up<br>batch 1</th><th>speed-up<br>batch 64</th>"
                      "<th class=\"text\">weights /<br>activations</th>"
                      "<th class=\"text\">ISA</th></tr></thead><tbody>";
    for (const json* row : net.rows) {
        const auto cell = [&](const std::string& value) { out += "<td>" + value + "</td>"; };
        out += "<tr><th scope=\"row\">" + dot(family(text(*row, "method"))) + escape(method_title(*row)) + "</th>";
        cell(fixed(number(*row, "top1"), 2));
        cell(with_sign(number(*row, "delta_top1")));
        cell(mismatch_cell(number(*row, "mismatched_codes")));
        cell(kilobytes(number(*row, "bytes")));
        cell(fixed(number(*row, "size_ratio"), 3));
        cell(brief(number(*row, "latency_us")));
        cell(grouped(number(*row, "images_per_s_b1")));
        cell(grouped(number(*row, "images_per_s_b64")));
        cell(times(number(*row, "speedup_b1")));
        cell(times(number(*row, "speedup_b64")));
        out += "<td class=\"text\">" + escape(text(*row, "weights", dash) + " / " + text(*row, "activations", dash)) +
               "</td>";
        out += "<td class=\"text\">" + escape(text(*row, "isa", dash)) + "</td>";
        out += "</tr>";
    }
    out += "</tbody></table></div><p class=\"soft small\">Latency is the median of one image on one thread; "
           "speed-ups are against fp32 compiled for the same instruction set.</p>";
    return out;
}

std::string isa_table(const network& net) {
    std::vector<std::pair<std::string, int>> runs; // (isa, threads), as they come
    const auto key = [](const json& run) { return std::pair(text(run, "isa", "?"), count(run, "threads", 1)); };
    for (const json* row : net.rows)
        for (const json& run : list(*row, "per_isa"))
            if (std::find(runs.begin(), runs.end(), key(run)) == runs.end()) runs.push_back(key(run));
    if (runs.empty()) return "";
    std::string out = "<details><summary>On each instruction set</summary><div "
                      "class=\"scroll\"><table><thead><tr "
                      "class=\"groups\"><th></th>";
    for (const auto& [isa, threads] : runs)
        out += "<th colspan=\"3\">" + escape(isa) + ", " + std::to_string(threads) +
               (threads == 1 ? " thread" : " threads") + "</th>";
    out += "</tr><tr><th>method</th>";
    for (std::size_t i = 0; i < runs.size(); ++i) out += "<th>µs</th><th>batch 64</th><th>differ</th>";
    out += "</tr></thead><tbody>";
    for (const json* row : net.rows) {
        if (list(*row, "per_isa").empty()) continue;
        out += "<tr><th scope=\"row\">" + dot(family(text(*row, "method"))) + escape(method_title(*row)) + "</th>";
        for (const auto& wanted : runs) {
            const json* found = nullptr;
            for (const json& run : list(*row, "per_isa"))
                if (key(run) == wanted) found = &run;
            const json& run = found ? *found : json();
            out += "<td>" + brief(number(run, "latency_us")) + "</td><td>" + times(number(run, "speedup_b64")) +
                   "</td><td>" + mismatch_cell(number(run, "mismatched_codes")) + "</td>";
        }
        out += "</tr>";
    }
    return out + "</tbody></table></div><p class=\"soft small\">µs: latency of one image. Batch "
                 "64: images a second "
                 "against float32 of the same instruction set. Differ: codes unlike those of the "
                 "training code.</p></details>";
}

std::string charts(const std::vector<network>& nets, const char* key, double unit, const std::string& title,
                   const std::string& x_title) {
    std::string out = "<h2>" + title + "</h2><div class=\"legend\">";
    for (int f = 0; f < 4; ++f) out += "<span>" + dot(f) + family_names[f] + "</span>";
    out += "</div><div class=\"charts\">";
    for (const network& net : nets) {
        std::vector<chart_point> points;
        std::vector<std::string> missing;
        for (const json* row : net.rows) {
            const auto x = number(*row, key), y = number(*row, "top1");
            if (!x || !y || *x < 1e-6 || *x > 1e15 || *y < 0 || *y > 100) {
                missing.push_back(method_title(*row));
                continue;
            }
            points.push_back({*x / unit, *y, method_title(*row),
                              method_title(*row) + ": " + fixed(y, 2) + "%, " + brief(*x / unit) + " (" + x_title + ")",
                              family(text(*row, "method"))});
        }
        out += "<figure class=\"card\"><h3>" + escape(heading(net)) + "</h3>" +
               scatter(points, x_title + ", logarithmic; better to the left", title + ", network " + heading(net)) +
               "<figcaption>Top-1 accuracy in percent. Dashed: float32.";
        if (!missing.empty() && !points.empty()) out += " Not measured: " + escape(join(missing, ", ")) + ".";
        out += "</figcaption></figure>";
    }
    return out + "</div>";
}

/// Of weights: "the scale 0.0123", or "each channel's own scale, of which the 32 lie from 0.01 to 0.02".
std::string scales(const json& layer) {
    const auto channels = number(layer, "channels");
    if (!channels || *channels <= 1) return "the scale " + brief_real(number(layer, "scale_max"));
    return "each channel's own scale (" + fixed(channels, 0) + ", from " + brief_real(number(layer, "scale_min")) +
           " to " + brief_real(number(layer, "scale_max")) + ")";
}

std::string layer_figure(const json& layer) {
    const histogram_picture picture = histogram(layer);
    const auto bits = number(layer, "bits");
    std::string out =
        "<figure class=\"card\"><h4>" + escape(text(layer, "layer", "?")) + " <span>" + escape(text(layer, "what")) +
        (bits ? ", " + fixed(bits, 0) + " bits" : "") + "</span></h4>" + picture.svg + "<figcaption>" +
        (number(layer, "scale_min") ? "in steps of " + scales(layer) : "scale " + brief_real(number(layer, "scale"))) +
        ", zero point " + whole(number(layer, "zero_point")) + ", codes " + whole(number(layer, "qmin")) + " to " +
        whole(number(layer, "qmax"));
    if (!picture.note.empty()) out += "<br>" + escape(picture.note);
    if (const auto sqnr = number(layer, "sqnr_db")) out += "<br>SQNR " + fixed(sqnr, 1) + " dB";
    if (const auto cosine = number(layer, "cosine")) out += ", cosine " + fixed(cosine, 5);
    if (const auto dead = number(layer, "dead_channels"))
        out += "<br>dead channels: " + whole(dead) + " (in float " + whole(number(layer, "real_dead_channels")) + ")";
    return out + "</figcaption></figure>";
}

std::string layer_section(const json& results, const std::vector<network>& nets) {
    const json& layers = list(results, "layers");
    if (layers.empty()) return "";
    std::string out =
        "<h2>The values of each layer and their grid</h2><p class=\"soft\">Values before they are quantized: "
        "weights, and the outputs that the same weights give in float arithmetic for 100 test images. Red lines are "
        "where the codes lie, for outputs as real values, for weights in steps of their scale, so that channels with "
        "different scales share the lines; the dark line is zero. Values in a tinted area are clipped. Heights are "
        "square roots of the counts, so that rare values can be seen. SQNR compares the outputs of the quantized "
        "network with those of the float one; the errors of the layers before are in it. Outputs of dynamic "
        "quantization have a grid of "
        "their own for each image, and are not shown.</p>";
    bool first = true;
    for (const network& net : nets) {
        // The methods of this network, in the order of the table; those without a row come last.
        std::vector<std::pair<std::string, std::string>> methods; // method, title
        for (const json* row : net.rows) methods.emplace_back(text(*row, "method"), method_title(*row));
        std::string body;
        for (const json& layer : layers) {
            const std::string method = text(layer, "method");
            if (text(layer, "network") == net.name &&
                std::none_of(methods.begin(), methods.end(), [&](const auto& m) { return m.first == method; }))
                methods.emplace_back(method, method);
        }
        for (const auto& [method, title] : methods) {
            std::string figures;
            int count = 0;
            for (const json& layer : layers) {
                if (text(layer, "network") != net.name || text(layer, "method") != method) continue;
                figures += layer_figure(layer);
                ++count;
            }
            if (count == 0) continue;
            body += "<details" + std::string(std::exchange(first, false) ? " open" : "") + "><summary>" +
                    dot(family(method)) + escape(title) + " <span class=\"soft small\">" + std::to_string(count) +
                    (count == 1 ? " picture" : " pictures") + "</span></summary><div class=\"layers\">" + figures +
                    "</div></details>";
        }
        if (!body.empty()) out += "<h3 style=\"margin-top:24px\">" + escape(heading(net)) + "</h3>" + body;
    }
    return out;
}

/// Cuts text to so many columns.
void shorten(std::string& s, std::size_t most) {
    if (columns(s) <= most) return;
    while (columns(s) >= most) s.pop_back();
    s += "…";
}

} // namespace

void write_report(const json& results, const std::string& path) {
    const std::vector<network> nets = networks(results);
    std::string page = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
                       "content=\"width=device-width, initial-scale=1\"><title>notch: results</title><style>" +
                       std::string(style) + "</style></head><body><main>" + headline(results, nets);
    for (const network& net : nets)
        page += "<h2>" + escape(heading(net)) + "</h2>" + result_table(net) + isa_table(net);
    page += charts(nets, "bytes", 1000, "Accuracy against the size of the saved model", "kB");
    page += charts(nets, "latency_us", 1, "Accuracy against latency", "µs for one image");
    page += layer_section(results, nets) + "</main></body></html>\n";
    write_file(path, page);
}

std::string text_table(const json& results) {
    const std::vector<std::string> head = {"method", "weights",  "activ.",    "top-1 %", "Δ",   "kB",  "× fp32",
                                           "µs",     "img/s b1", "img/s b64", "b1",      "b64", "ISA", "mismatched"};
    constexpr std::size_t max_width = 150, text_columns[] = {0, 1, 2, 12};
    std::string out;
    for (const network& net : networks(results)) {
        std::vector<std::vector<std::string>> lines = {head};
        for (const json* row : net.rows)
            lines.push_back({method_title(*row), text(*row, "weights", dash), text(*row, "activations", dash),
                             fixed(number(*row, "top1"), 2), with_sign(number(*row, "delta_top1")),
                             kilobytes(number(*row, "bytes")), fixed(number(*row, "size_ratio"), 3),
                             brief(number(*row, "latency_us")), grouped(number(*row, "images_per_s_b1")),
                             grouped(number(*row, "images_per_s_b64")), times(number(*row, "speedup_b1")),
                             times(number(*row, "speedup_b64")), text(*row, "isa", dash),
                             grouped(number(*row, "mismatched_codes"))});
        std::vector<std::size_t> widths(head.size(), 0);
        std::size_t total = 0;
        for (std::size_t c = head.size(); c-- > 0;) { // the method gets what the others leave
            const std::size_t most = c > 0 ? 12 : max_width - std::min(total + 2, max_width - 12);
            for (auto& line : lines) {
                shorten(line[c], most);
                widths[c] = std::max(widths[c], columns(line[c]));
            }
            total += widths[c] + 2;
        }
        out += heading(net) + "\n";
        for (std::size_t l = 0; l < lines.size(); ++l) {
            std::string shown;
            for (std::size_t c = 0; c < head.size(); ++c) {
                const std::string pad(widths[c] - columns(lines[l][c]), ' ');
                const bool left =
                    std::find(std::begin(text_columns), std::end(text_columns), c) != std::end(text_columns);
                shown += "  " + (left ? lines[l][c] + pad : pad + lines[l][c]);
            }
            out += shown.substr(0, shown.find_last_not_of(' ') + 1) + "\n";
            if (l == 0) out += "  " + std::string(total - 2, '-') + "\n";
        }
        out += "\n";
    }
    if (const std::string noise = noise_warning(results); !noise.empty()) out += noise + "\n";
    const agreement agree = total_agreement(results);
    out += "mismatched codes: ";
    if (!agree.measured) return out + "not measured\n";
    return out + grouped(agree.mismatched) + (agree.checked > 0 ? " of " + grouped(agree.checked) : "") + " on " +
           where(agree) + "\n";
}

} // namespace mnist
