// SPDX-License-Identifier: Apache-2.0
//
// Times one kernel as a user would call it: any operation, instruction set and shape, with caches
// warm or cold, the packing of its weights apart. The result is checked against notch/ref first.
//
//     bench_micro --list
//     bench_micro --kernel gemm --shape 128x768x768 --isa avx2 --isa avx512vnni
//     bench_micro --kernel conv2d --shape 56x56x64_k3s1p1_to64_zp --cache cold --packing --json out.json
#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <span>
#include <stdexcept>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "common/machine.hpp"
#include "common/ours.hpp"
#include "common/peak.hpp"
#include "common/timing.hpp"

namespace {

struct options {
    std::string kernel = "gemm", cache = "warm", json_path;
    std::vector<std::string> shapes, isas;
    int threads = 1, repetitions = 9;
    double seconds = 0.03;
    bool packing = false, list = false;
};

constexpr std::pair<const char*, const char*> kernels[] = {
    {"gemm", "1024x1024x1024"},
    {"conv2d", "56x56x64_k3s1p1_to64"},
    {"depthwise", "14x14x384_k3s1p1"},
    {"max_pool", "112x112x64_k3s2p1"},
    {"average_pool", "7x7x1280_k7s1p0"},
    {"quantize", "32768"},
    {"dequantize", "32768"},
    {"requantize", "32768"},
    {"fake_quantize", "32768"},
    {"add", "32768"},
    {"value_range", "32768"},
};

void list() {
    std::printf("instruction sets:");
    for (const std::string& isa : bench::isa_names()) std::printf(" %s", isa.c_str());
    std::printf("\n%-14s %-24s %s\n", "kernel", "a shape", "its kernels");
    for (const auto& [name, shape] : kernels) {
        bench::operation op{};
        bench::parse(name, op);
        std::printf("%-14s %-24s", name, shape);
        for (const std::string& isa : bench::isa_names()) std::printf(" %s", bench::kernel_name(op, isa).c_str());
        std::printf("\n");
    }
    std::printf("after a shape: _zp with zero points, _w7 with weights of 7 bits\n");
}

/// Reads and writes more memory than the caches hold.
void empty_caches() {
    static std::vector<std::uint8_t> memory(2 * bench::cache_bytes(3) + bench::cache_bytes(2));
    for (std::size_t i = 0; i < memory.size(); i += 64) ++memory[i];
}

nlohmann::json measure(const bench::workload& w, const bench::expected& want, const std::string& isa,
                       const options& o) {
    const std::unique_ptr<bench::work> work = bench::prepare_notch(w, isa);
    if (!work) throw std::runtime_error("notch has no such kernel for " + isa);
    work->run();
    if (bench::compare(work->result(), want, w).differ != 0) throw std::runtime_error("the result is wrong on " + isa);

    const std::vector<bench::peak_loop> bounds = bench::bounds(w.p, isa);
    std::vector<bench::candidate> candidates{{"kernel", [&] { work->run(); }}};
    for (const bench::peak_loop& b : bounds) candidates.push_back({b.name, b.run});
    if (o.cache == "cold")
        for (bench::candidate& c : candidates) c.before = empty_caches;
    const std::unique_ptr<bench::work> packing = o.packing ? bench::prepare_packing(w) : nullptr;
    if (packing) candidates.push_back({"packing", [&] { packing->run(); }});
    const std::vector<bench::timing> times = bench::measure(candidates, o.repetitions, o.seconds);

    const bench::bound peak = bench::tightest(bounds, std::span(times).subspan(1, bounds.size()), w.p.threads);
    const double gops = w.p.operations() / times[0].best / 1e9;
    nlohmann::json j = {{"kernel", o.kernel},
                        {"name", work->detail},
                        {"shape", w.p.shape()},
                        {"isa", isa},
                        {"threads", w.p.threads},
                        {"cache", o.cache},
                        {"seconds", times[0].best},
                        {"seconds_median", times[0].median},
                        {"gops", gops},
                        {"peak", peak.name},
                        {"peak_gops", peak.gops},
                        {"fraction_of_peak", peak.gops > 0 ? gops / peak.gops : 0.0}};
    if (w.p.elementwise()) j["gigabytes_per_second"] = w.p.bytes() / times[0].best / 1e9;
    if (packing) j["packing_seconds"] = times.back().best;
    return j;
}

void print(const nlohmann::json& j) {
    std::printf("%-12s %-26s %10.2f us %9.2f GOP/s", j["isa"].get<std::string>().c_str(),
                j["shape"].get<std::string>().c_str(), 1e6 * j["seconds"].get<double>(), j["gops"].get<double>());
    if (j["peak_gops"] > 0)
        std::printf("  %3.0f%% of %s", 100 * j["fraction_of_peak"].get<double>(), j["peak"].get<std::string>().c_str());
    if (j.contains("packing_seconds")) std::printf("  packing %.2f us", 1e6 * j["packing_seconds"].get<double>());
    std::printf("\n");
}

void run(options o) {
    bench::problem p;
    if (!bench::parse(o.kernel, p.op)) throw std::runtime_error("no kernel '" + o.kernel + "'; see --list");
    const std::vector<std::string> here = bench::isa_names();
    if (o.isas.empty()) o.isas = here;
    for (const std::string& isa : o.isas)
        if (std::find(here.begin(), here.end(), isa) == here.end())
            throw std::runtime_error("this CPU cannot run '" + isa + "'; see --list");
    if (o.shapes.empty())
        for (const auto& [name, shape] : kernels)
            if (name == o.kernel) o.shapes.emplace_back(shape);
    nlohmann::json rows = nlohmann::json::array();
    for (const std::string& shape : o.shapes) {
        bench::problem one = p;
        one.threads = o.threads;
        if (const std::string fault = bench::parse_shape(shape, one); !fault.empty()) throw std::runtime_error(fault);
        const bench::workload w(one);
        const bench::expected want(w);
        for (const std::string& isa : o.isas) print(rows.emplace_back(measure(w, want, isa, o)));
    }
    if (o.json_path.empty()) return;
    std::ofstream file(o.json_path);
    file << nlohmann::json{{"head",
                            {{"cpu", bench::cpu_name()},
                             {"isas", here},
                             {"compiler", bench::compiler_name()},
                             {"date", bench::utc_now()}}},
                           {"rows", rows}}
                .dump(1)
         << '\n';
    file.close();
    if (!file) throw std::runtime_error("cannot write " + o.json_path);
}

} // namespace

int main(int argc, char** argv) {
    options o;
    CLI::App app("Times a kernel of notch.");
    app.add_flag("--list", o.list, "list the kernels, a shape of each, and the instruction sets");
    app.add_option("--kernel", o.kernel, "which kernel (default: gemm)");
    app.add_option("--shape", o.shapes, "shapes, as --list writes them");
    app.add_option("--isa", o.isas, "instruction sets (default: all of this CPU)");
    app.add_option("--cache", o.cache, "warm, or cold: the caches are emptied before every call")
        ->check(CLI::IsMember({"warm", "cold"}));
    app.add_option("--threads", o.threads, "threads")->check(CLI::Range(1, 1024));
    app.add_flag("--packing", o.packing, "time the packing of the weights as well");
    app.add_option("--repetitions", o.repetitions, "repetitions; the best one counts")->check(CLI::Range(1, 1000000));
    app.add_option("--seconds", o.seconds, "length of a repetition (warm)")->check(CLI::Range(0.0, 3600.0));
    app.add_option("--json", o.json_path, "write the results to this file");
    CLI11_PARSE(app, argc, argv);
    try {
        if (o.list)
            list();
        else
            run(o);
    } catch (const std::exception& e) {
        std::cerr << "error: " << e.what() << '\n';
        return 1;
    }
}
