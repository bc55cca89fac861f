// SPDX-License-Identifier: Apache-2.0
#include "report.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <ostream>
#include <stdexcept>

#include <nlohmann/json.hpp>

namespace bench {
namespace {

using nlohmann::json;

double rounded(double v) { return static_cast<double>(static_cast<long>(v * 1000 + 0.5)) / 1000; }

std::string text(const char* format, double v) {
    char s[64];
    std::snprintf(s, sizeof s, format, v);
    return s;
}

/// Right-aligned columns, the first one left-aligned.
void print_columns(std::ostream& to, const std::vector<std::vector<std::string>>& lines) {
    std::vector<std::size_t> widths;
    for (const auto& line : lines)
        for (std::size_t i = 0; i < line.size(); ++i) {
            if (i == widths.size()) widths.push_back(0);
            if (line.size() > 1) widths[i] = std::max(widths[i], line[i].size());
        }
    for (const auto& line : lines) {
        for (std::size_t i = 0; i < line.size(); ++i) {
            const std::string fill(widths[i] > line[i].size() ? widths[i] - line[i].size() : 0, ' ');
            to << (i == 0 ? line[i] + (line.size() > 1 ? fill : "") : "  " + fill + line[i]);
        }
        to << '\n';
    }
}

/// The best of the peers with one kind of arithmetic, as a ratio; "-" if there is none.
std::string ratio(const row* mine, const std::vector<const row*>& rows, bool floats) {
    const row* best = nullptr;
    for (const row* r : rows)
        if (r->impl != "notch" && (r->types == "f32") == floats && (!best || r->gops > best->gops)) best = r;
    if (!mine || !best || best->gops <= 0) return "-";
    return text("%.2f", mine->gops / best->gops) + (best->beyond > 0 ? "!" : " ");
}

void print_isa(std::ostream& to, const std::vector<row>& all, const std::string& isa) {
    std::vector<std::string> impls; // in order of appearance
    std::vector<std::vector<const row*>> problems;
    bool wrong = false;
    for (const row& r : all) {
        if (r.isa != isa) continue;
        if (r.impl != "notch" && std::find(impls.begin(), impls.end(), r.impl) == impls.end()) impls.push_back(r.impl);
        const auto same = [&](const std::vector<const row*>& p) {
            return p[0]->kernel == r.kernel && p[0]->shape == r.shape && p[0]->threads == r.threads;
        };
        const auto found = std::find_if(problems.begin(), problems.end(), same);
        if (found == problems.end())
            problems.push_back({&r});
        else
            found->push_back(&r);
        wrong = wrong || r.beyond > 0;
    }
    std::vector<std::vector<std::string>> lines{{isa, "notch", "of peak"}};
    lines[0].insert(lines[0].end(), impls.begin(), impls.end());
    lines[0].insert(lines[0].end(), {"x int8 ", "x f32 "});
    std::string group;
    for (const auto& p : problems) {
        if (p[0]->group != group) lines.push_back({"-- " + (group = p[0]->group)});
        const auto of = [&](const std::string& impl) -> const row* {
            const auto found = std::find_if(p.begin(), p.end(), [&](const row* r) { return r->impl == impl; });
            return found == p.end() ? nullptr : *found;
        };
        const auto speed = [](const row* r) {
            return r ? text(r->gops < 10 ? "%.2f" : "%.0f", r->gops) + (r->beyond > 0 ? "!" : "") : std::string("-");
        };
        const row* mine = of("notch");
        std::string name = p[0]->kernel + " " + p[0]->shape;
        if (p[0]->threads > 1) name += " @" + std::to_string(p[0]->threads);
        std::vector<std::string> line{name, speed(mine),
                                      mine && mine->peak_gops > 0 ? text("%.0f%%", 100 * mine->fraction()) : "-"};
        for (const std::string& impl : impls) line.push_back(speed(of(impl)));
        line.push_back(ratio(mine, p, false));
        line.push_back(ratio(mine, p, true));
        lines.push_back(std::move(line));
    }
    print_columns(to, lines);
    for (const std::string& impl : impls) {
        long results = 0, differ = 0, beyond = 0;
        for (const row& r : all)
            if (r.isa == isa && r.impl == impl) results += r.results, differ += r.differ, beyond += r.beyond;
        if (differ > 0)
            to << impl << ": " << differ << " of " << results << " results differ from ref ("
               << text("%.4f%%", 100.0 * static_cast<double>(differ) / static_cast<double>(results)) << "), " << beyond
               << " by more than one code\n";
    }
    if (wrong)
        to << "!  some of its codes are wrong by more than one: products saturate, or worse; see \"beyond\" in the "
              "file\n";
    to << '\n';
}

} // namespace

void write_report(const std::string& path, const json& head, const std::vector<row>& rows) {
    std::ofstream file(path);
    file << "{\"head\": " << head.dump(1) << ",\n\"rows\": [";
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const row& r = rows[i];
        const json j = {{"kernel", r.kernel},
                        {"shape", r.shape},
                        {"types", r.types},
                        {"isa", r.isa},
                        {"impl", r.impl},
                        {"threads", r.threads},
                        {"gops", rounded(r.gops)},
                        {"gops_median", rounded(r.gops_median)},
                        {"peak_gops", rounded(r.peak_gops)},
                        {"fraction_of_peak", rounded(r.fraction())},
                        {"peak", r.peak},
                        {"detail", r.detail},
                        {"group", r.group},
                        {"results", r.results},
                        {"differ", r.differ},
                        {"beyond", r.beyond}};
        file << (i ? ",\n" : "\n") << j.dump();
    }
    file << "\n]}\n";
    file.close();
    if (!file) throw std::runtime_error("cannot write " + path);
}

void read_report(const std::string& path, json& head, std::vector<row>& rows) {
    try {
        std::ifstream file(path);
        const json j = json::parse(file);
        head = j.at("head");
        for (const json& r : j.at("rows")) {
            row one;
            const auto get = [&](const char* key, auto& into) { r.at(key).get_to(into); };
            get("kernel", one.kernel), get("shape", one.shape), get("types", one.types), get("isa", one.isa);
            get("impl", one.impl), get("threads", one.threads), get("gops", one.gops);
            get("gops_median", one.gops_median), get("peak_gops", one.peak_gops), get("peak", one.peak);
            get("detail", one.detail), get("group", one.group), get("results", one.results);
            get("differ", one.differ), get("beyond", one.beyond);
            rows.push_back(std::move(one));
        }
    } catch (const json::exception& e) {
        throw std::runtime_error("cannot read " + path + ": " + e.what());
    }
}

void print_report(std::ostream& to, const json& head, const std::vector<row>& rows) {
    to << head.value("cpu", "") << "\ninstruction sets:";
    for (const auto& isa : head.at("isas")) to << ' ' << isa.get<std::string>();
    to << "\ncompiler: " << head.value("compiler", "") << "   " << head.value("date", "") << "\npeers:";
    for (const auto& [name, version] : head.at("peers").items())
        to << ' ' << name << ' ' << version.get<std::string>() << ';';
    to << "\nGOP/s of the best repetition; elementwise kernels: 1e9 elements a second.\n"
          "x int8, x f32: notch's speed over that of the best peer with integers, with floats.\n\n";
    std::vector<std::string> isas;
    for (const row& r : rows)
        if (std::find(isas.begin(), isas.end(), r.isa) == isas.end()) isas.push_back(r.isa);
    for (const std::string& isa : isas) print_isa(to, rows, isa);
    for (const auto& note : head.value("notes", json::array())) to << "note: " << note.get<std::string>() << '\n';
}

} // namespace bench
