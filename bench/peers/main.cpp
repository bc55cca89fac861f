// SPDX-License-Identifier: Apache-2.0
//
// notch against its peers, one instruction set a process (peers read their cap once, when they are
// loaded). scripts/bench.sh runs it for each instruction set of the CPU and joins the reports.
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <regex>
#include <span>
#include <stdexcept>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "../common/machine.hpp"
#include "../common/ours.hpp"
#include "../common/peak.hpp"
#include "../common/timing.hpp"
#include "peer.hpp"
#include "problems.hpp"
#include "report.hpp"

namespace {

struct options {
    std::string isa, filter, json_path, plugins = NOTCH_BENCH_PLUGINS;
    std::vector<std::string> joined;
    bool quick = false, list_isas = false;
    int repetitions = 0;
    double seconds = 0;
};

struct loaded_peer {
    bench::peer peer;
    std::string version;
};

/// Holds every peer that can be held to an instruction set. Each reads its variable when it loads.
void cap_peers(const std::string& isa) {
    const struct {
        const char *isa, *onednn, *openblas;
    } caps[] = {
        {"scalar", "SSE41", "Nehalem"},
        {"avx2", "AVX2", "Haswell"},
        {"avxvnni", "AVX2_VNNI", "Haswell"},
        {"avx512bw", "AVX512_CORE", "SkylakeX"},
        {"avx512vnni", "AVX512_CORE_VNNI", "SkylakeX"},
        {"amx", "AVX512_CORE_AMX", "SkylakeX"},
    };
    unsetenv("OPENBLAS_CORETYPE");
    for (const auto& c : caps)
        if (isa == c.isa) {
            setenv("ONEDNN_MAX_CPU_ISA", c.onednn, 1);
            setenv("DNNL_MAX_CPU_ISA", c.onednn, 1);
            setenv("OPENBLAS_CORETYPE", c.openblas, 1);
        }
}

std::vector<loaded_peer> load_peers(const options& o, nlohmann::json& head) {
    std::vector<std::filesystem::path> files;
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator(o.plugins, none))
        if (entry.path().extension() == ".so" && entry.path().filename().string().rfind("peer_", 0) == 0)
            files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    std::vector<loaded_peer> all;
    for (const auto& file : files) {
        // peer_eigen.avx2.so: compiled for those instructions, and to be compared with tiers that have them
        const std::string name = file.stem().stem().string().substr(5), compiled_for = file.stem().extension().string();
        const bool wide = o.isa.rfind("avx512", 0) == 0 || o.isa.rfind("amx", 0) == 0;
        if ((compiled_for == ".avx512" && !wide) || (compiled_for == ".avx2" && (wide || o.isa == "scalar"))) continue;
        // Local symbols: two versions of one library must not see each other. Never unloaded.
        void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!library) {
            head["notes"].push_back(name + " is left out: " + dlerror());
            continue;
        }
        const auto make_offer =
            reinterpret_cast<decltype(&bench::notch_bench_offer)>(dlsym(library, "notch_bench_offer"));
        if (!make_offer) continue;
        bench::offer offer;
        offer.capped = o.isa != bench::isa_names().back();
        try {
            make_offer(o.isa, offer);
        } catch (const std::exception& e) {
            offer.refusal = e.what();
        }
        if (!offer.refusal.empty()) head["notes"].push_back(name + " is left out for " + o.isa + ": " + offer.refusal);
        for (const std::string& note : offer.notes) head["notes"].push_back(note);
        for (const bench::peer& p : offer.peers) {
            all.push_back({p, offer.version});
            head["peers"][p.name] = offer.version;
        }
    }
    return all;
}

struct contender {
    bench::row row;
    std::unique_ptr<bench::work> work;
};

/// All implementations of one problem, checked against ref.
std::vector<contender> prepare(const bench::workload& w, const options& o, const std::vector<loaded_peer>& peers) {
    std::vector<contender> all;
    const auto add = [&](const std::string& impl, const std::string& types, std::unique_ptr<bench::work> work) {
        if (!work) return;
        bench::row r;
        r.kernel = bench::to_string(w.p.op);
        r.shape = w.p.shape();
        r.group = w.p.group;
        r.types = types;
        r.isa = o.isa;
        r.impl = impl;
        r.threads = w.p.threads;
        r.detail = work->detail;
        all.push_back({std::move(r), std::move(work)});
    };
    add("notch", "u8s8u8", bench::prepare_notch(w, o.isa));
    for (const loaded_peer& p : peers) add(p.peer.name, p.peer.types, p.peer.prepare(w));
    const bench::expected want(w);
    for (contender& c : all) {
        c.work->run();
        const bench::agreement a = bench::compare(c.work->result(), want, w);
        c.row.results = a.count;
        c.row.differ = a.differ;
        c.row.beyond = a.beyond;
        if (c.row.impl == "notch" && a.differ != 0)
            throw std::runtime_error("notch is wrong: " + c.row.kernel + " " + c.row.shape + " on " + o.isa);
    }
    return all;
}

void run_problem(const bench::problem& p, const options& o, const std::vector<loaded_peer>& peers,
                 std::vector<bench::row>& rows) {
    const bench::workload w(p);
    std::vector<contender> contenders = prepare(w, o, peers);
    std::vector<bench::peak_loop> bounds = bench::bounds(p, o.isa);
    const std::size_t integer_bounds = bounds.size();
    const bool any_float =
        std::any_of(contenders.begin(), contenders.end(), [](const contender& c) { return c.row.types == "f32"; });
    if (any_float && !p.elementwise())
        if (bench::peak_loop f = bench::float_peak(o.isa); !f.name.empty()) bounds.push_back(std::move(f));

    std::vector<bench::candidate> candidates;
    for (const contender& c : contenders) candidates.push_back({c.row.impl, [&c] { c.work->run(); }});
    for (const bench::peak_loop& b : bounds) candidates.push_back({b.name, b.run});
    const std::vector<bench::timing> times = bench::measure(candidates, o.repetitions, o.seconds);

    const bench::timing* t = times.data();
    for (contender& c : contenders) {
        c.row.gops = p.operations() / t->best / 1e9;
        c.row.gops_median = p.operations() / t->median / 1e9;
        ++t;
    }
    const std::span<const bench::peak_loop> loops(bounds);
    const std::span<const bench::timing> bound_times(t, loops.size());
    const bench::bound whole =
        bench::tightest(loops.first(integer_bounds), bound_times.first(integer_bounds), p.threads);
    const bench::bound floats =
        bench::tightest(loops.subspan(integer_bounds), bound_times.subspan(integer_bounds), p.threads);
    for (contender& c : contenders) {
        const bench::bound& b = c.row.types == "f32" ? floats : whole;
        c.row.peak_gops = b.gops;
        c.row.peak = b.name;
    }
    for (contender& c : contenders) rows.push_back(std::move(c.row));
}

/// Peaks for the head of the report: GOP/s of products, GB/s of each level of memory.
nlohmann::json measure_peaks(const options& o) {
    std::vector<bench::peak_loop> loops;
    std::vector<std::string> names;
    const auto add = [&](bench::peak_loop l, const std::string& name) {
        if (l.name.empty()) return;
        names.push_back(name.empty() ? l.name : name);
        loops.push_back(std::move(l));
    };
    add(bench::product_peak(o.isa, false), "");
    if (const auto l = bench::product_peak(o.isa, true); l.name != bench::product_peak(o.isa, false).name) add(l, "");
    add(bench::float_peak(o.isa), "");
    const std::size_t l1 = bench::cache_bytes(1), l2 = bench::cache_bytes(2), l3 = bench::cache_bytes(3);
    const std::pair<const char*, std::size_t> levels[] = {{"L1", l1 / 2},
                                                          {"L2", l2 / 2},
                                                          {"L3", std::max(2 * l2, l3 / 4)},
                                                          {"DRAM", std::min<std::size_t>(4 * l3, 512u << 20)}};
    for (const auto& [level, bytes] : levels) {
        for (auto& l : bench::read_peaks(o.isa, bytes)) add(std::move(l), std::string("read ") + level);
        for (auto& l : bench::copy_peaks(o.isa, bytes)) add(std::move(l), std::string("copy ") + level);
    }
    std::vector<bench::candidate> candidates;
    for (const auto& l : loops) candidates.push_back({l.name, l.run});
    const auto times = bench::measure(candidates, o.repetitions, o.seconds);
    nlohmann::json peaks = nlohmann::json::object();
    for (std::size_t i = 0; i < loops.size(); ++i) {
        const double best = loops[i].amount / times[i].best / 1e9;
        double& so_far =
            peaks[names[i]].is_null() ? (peaks[names[i]] = 0.0).get_ref<double&>() : peaks[names[i]].get_ref<double&>();
        so_far = std::max(so_far, static_cast<double>(static_cast<long>(best * 10 + 0.5)) / 10);
    }
    return peaks;
}

void run(options o) {
    if (o.repetitions == 0) o.repetitions = o.quick ? 5 : 9;
    if (o.seconds == 0) o.seconds = o.quick ? 0.01 : 0.03;
    cap_peers(o.isa);
    nlohmann::json head = {{"cpu", bench::cpu_name()},           {"isas", bench::isa_names()},
                           {"compiler", bench::compiler_name()}, {"flags", NOTCH_BENCH_FLAGS},
                           {"date", bench::utc_now()},           {"peers", nlohmann::json::object()},
                           {"notes", nlohmann::json::array()}};
    const std::vector<loaded_peer> peers = load_peers(o, head);
    head["peaks"][o.isa] = measure_peaks(o);
    std::vector<bench::row> rows;
    const std::regex filter(o.filter);
    for (const bench::problem& p : bench::report_problems()) {
        if (o.quick && !p.quick) continue;
        if (p.weight_bits == 7 && bench::product_peak(o.isa, true).name == bench::product_peak(o.isa, false).name)
            continue;
        const std::string name = std::string(bench::to_string(p.op)) + " " + p.shape() + " " + p.group;
        if (!o.filter.empty() && !std::regex_search(name, filter)) continue;
        if (p.threads > bench::usable_cpus()) {
            head["notes"].push_back("not run here: " + name + ", since this process has fewer CPUs");
            continue;
        }
        std::cerr << o.isa << ": " << name << std::endl;
        run_problem(p, o, peers, rows);
    }
    if (o.json_path.empty())
        bench::print_report(std::cout, head, rows);
    else
        bench::write_report(o.json_path, head, rows);
}

void join(const options& o) {
    nlohmann::json head;
    std::vector<bench::row> rows;
    for (const std::string& path : o.joined) {
        nlohmann::json one;
        bench::read_report(path, one, rows);
        if (head.is_null()) {
            head = one;
            continue;
        }
        head["peaks"].update(one.at("peaks"));
        head["peers"].update(one.at("peers"));
        for (const auto& note : one.at("notes"))
            if (std::find(head["notes"].begin(), head["notes"].end(), note) == head["notes"].end())
                head["notes"].push_back(note);
    }
    bench::print_report(std::cout, head, rows);
    if (!o.json_path.empty()) bench::write_report(o.json_path, head, rows);
}

} // namespace

int main(int argc, char** argv) {
    options o;
    CLI::App app("Measures notch's kernels and its peers on one instruction set.");
    app.add_option("--isa", o.isa, "instruction set, for notch and for every peer (default: the best of this CPU)");
    app.add_flag("--quick", o.quick, "fewer shapes, shorter repetitions");
    app.add_option("--filter", o.filter, "only the problems whose name (operation, shape, group) matches");
    app.add_option("--json", o.json_path, "write the report to this file instead of printing it");
    app.add_option("--plugins", o.plugins, "directory of the peers' libraries");
    app.add_option("--repetitions", o.repetitions, "repetitions of each implementation; the best one counts");
    app.add_option("--seconds", o.seconds, "length of a repetition");
    app.add_option("--join", o.joined, "join these reports and print the table; measure nothing");
    app.add_flag("--list-isas", o.list_isas, "print the instruction sets of this CPU that have vectors");
    CLI11_PARSE(app, argc, argv);
    try {
        const std::vector<std::string> isas = bench::isa_names();
        if (o.list_isas) {
            for (const std::string& isa : isas)
                if (isa != "scalar") std::cout << isa << '\n';
        } else if (!o.joined.empty()) {
            join(o);
        } else {
            if (o.isa.empty()) o.isa = isas.back();
            if (std::find(isas.begin(), isas.end(), o.isa) == isas.end())
                throw std::runtime_error("this CPU cannot run '" + o.isa + "', or notch has no kernels for it");
            run(o);
        }
    } catch (const std::exception& e) {
        std::cerr << "error: " << e.what() << '\n';
        return 1;
    }
}
