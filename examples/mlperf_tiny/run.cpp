// SPDX-License-Identifier: Apache-2.0
//
// mlperf_tiny [--data DIR] [--kws DIR] [--reference DIR] [--isa NAME] [--time MODEL]: the int8 reference models of
// MLPerf Tiny on notch's kernels.
//
//   --data       a folder of models, such as those of github.com/mlcommons/tiny   (or NOTCH_MLPERF_TINY)
//   --kws        the 1,000 inputs of keyword spotting: tst_*.bin and y_labels.csv; by default DIR/kws01
//   --reference  what scripts/litert_reference.py wrote: all tensors of LiteRT's reference kernels, compared here
//   --isa        only this instruction set; by default all of this CPU
//   --time       only the latency of this model: the median and the least of a second, one thread
//
// Without models it says so and ends well; with them it fails if a code differs from the reference or keyword spotting
// misses its quality target of 90%.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include <notch/io/npy.hpp>

#include "network.hpp"

namespace {

namespace fs = std::filesystem;
using notch::tflite::model;

struct options {
    fs::path data, kws, reference;
    std::string time;
    std::vector<notch::isa> isas;
};

struct counts {
    std::size_t inputs = 0, codes = 0, different = 0;
    std::string first; ///< where the first difference is
};

/// Runs the inputs of the reference on one instruction set and compares every tensor that an operator writes.
counts compare(mlperf::network& net, const model& m, const fs::path& folder, notch::isa isa) {
    counts c;
    const auto read = [&](const std::string& name) { return notch::npy::load((folder / (name + ".npy")).string()); };
    const notch::npy input = read("input");
    const std::span<const std::int8_t> inputs = input.values<std::int8_t>();
    const std::size_t size = net.input().size();
    c.inputs = inputs.size() / size;
    std::vector<notch::npy> expected;
    for (notch::index_t t : net.written()) expected.push_back(read("tensor_" + std::to_string(t)));
    for (std::size_t i = 0; i < c.inputs; ++i) {
        std::copy_n(inputs.begin() + static_cast<std::ptrdiff_t>(i * size), size, net.input().begin());
        net.run(isa);
        for (std::size_t k = 0; k < expected.size(); ++k) {
            const mlperf::codes got = net.of(net.written()[k]);
            const std::span<const std::int8_t> all = expected[k].values<std::int8_t>();
            if (all.size() != got.size() * c.inputs)
                notch::fail(notch::errc::corrupt, folder.string() + ": a tensor has another size");
            const std::int8_t* want = all.data() + i * got.size();
            std::size_t here = 0;
            for (std::size_t j = 0; j < got.size(); ++j) here += got[j] != want[j] ? 1 : 0;
            if (here > 0 && c.different == 0)
                c.first = "operator " + std::to_string(k) + " " + to_string(m.main().operators[k].code) + ", input " +
                          std::to_string(i) + ", " + std::to_string(here) + " codes";
            c.codes += got.size();
            c.different += here;
        }
    }
    return c;
}

std::string read_file(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) notch::fail(notch::errc::io, path.string() + ": cannot be read");
    return {std::istreambuf_iterator<char>(in), {}};
}

/// Lines of y_labels.csv: name of a file, number of classes, class. How many of the files are classified right.
struct accuracy {
    std::size_t right = 0, all = 0;
};
accuracy classify(mlperf::network& net, const fs::path& folder, notch::isa isa) {
    accuracy a;
    std::istringstream lines(read_file(folder / "y_labels.csv"));
    for (std::string line; std::getline(lines, line);) {
        const std::size_t comma = line.find(','), last = line.rfind(',');
        if (comma == std::string::npos) continue;
        const std::string codes = read_file(folder / line.substr(0, comma));
        if (codes.size() != net.input().size())
            notch::fail(notch::errc::corrupt, (folder / line).string() + ": not an input of the network");
        std::copy(codes.begin(), codes.end(), net.input().begin());
        net.run(isa);
        const auto best = std::max_element(net.output().begin(), net.output().end()) - net.output().begin();
        a.right += best == std::atoi(line.c_str() + last + 1) ? 1 : 0;
        ++a.all;
    }
    return a;
}

void time(mlperf::network& net, const std::string& name, notch::isa isa) {
    using clock = std::chrono::steady_clock;
    std::vector<double> us;
    for (const auto end = clock::now() + std::chrono::seconds(1); clock::now() < end;) {
        const auto begin = clock::now();
        net.run(isa);
        us.push_back(std::chrono::duration<double, std::micro>(clock::now() - begin).count());
    }
    std::sort(us.begin(), us.end());
    std::printf("%s notch %s median %.1f us, least %.1f us, %zu runs\n", name.c_str(),
                std::string(to_string(isa)).c_str(), us[us.size() / 2], us.front(), us.size());
}

/// One model; whether everything is as it must be.
bool run(const options& o, const std::string& name, const model& m) {
    mlperf::network net(m);
    if (!o.time.empty()) {
        for (notch::isa isa : o.isas) time(net, name, isa);
        return true;
    }
    bool good = true;
    std::printf("%s: %zu operators, %zu input codes, %zu output codes\n", name.c_str(), net.size(), net.input().size(),
                net.output().size());
    const fs::path reference = o.reference / name;
    const bool compared = !o.reference.empty() && fs::exists(reference);
    const bool labelled = name == "kws_ref_model" && fs::exists(o.kws / "y_labels.csv");
    for (notch::isa isa : o.isas) {
        const std::string on(to_string(isa));
        if (compared) {
            const counts c = compare(net, m, reference, isa);
            std::printf("  %-12s %zu inputs, %zu codes of all tensors, %zu differ from LiteRT's reference%s%s\n",
                        on.c_str(), c.inputs, c.codes, c.different, c.first.empty() ? "" : ", first ", c.first.c_str());
            good = good && c.different == 0 && c.inputs > 0;
        }
        if (labelled) {
            const accuracy a = classify(net, o.kws, isa);
            const double percent = 100.0 * static_cast<double>(a.right) / static_cast<double>(a.all);
            std::printf("  %-12s top-1 %.1f%% of %zu official inputs (target 90%%)\n", on.c_str(), percent, a.all);
            good = good && percent >= 90.0;
        }
    }
    if (name == "kws_ref_model" && !labelled)
        std::printf("note: %s: no inputs of keyword spotting there (unpack kws01.tar.zst, or --kws DIR)\n",
                    o.kws.string().c_str());
    return good;
}

/// All models of the folder. Those that are not int8 throughout are left out, and named.
bool run(const options& o) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(o.data))
        if (entry.path().extension() == ".tflite") files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    bool good = true;
    for (const fs::path& file : files) {
        const std::string name = file.stem().string();
        if (!o.time.empty() && o.time != name) continue;
        try {
            const model m = model::load(file.string());
            good = run(o, name, m) && good;
        } catch (const notch::error& e) {
            if (e.code() != notch::errc::unsupported) throw;
            std::printf("note: left out: %s\n", e.what());
        }
    }
    if (files.empty()) std::printf("note: MLPerf Tiny: not run here: no .tflite in %s\n", o.data.string().c_str());
    return good;
}

} // namespace

int main(int argc, char** argv) {
    options o;
    if (const char* data = std::getenv("NOTCH_MLPERF_TINY")) o.data = data;
    try {
        for (int i = 1; i < argc; i += 2) {
            const std::string name = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
            if (name == "--data")
                o.data = value;
            else if (name == "--kws")
                o.kws = value;
            else if (name == "--reference")
                o.reference = value;
            else if (name == "--time")
                o.time = value;
            else if (name == "--isa")
                o.isas = {notch::isa_from_name(value)};
            else {
                std::fprintf(stderr, "usage: mlperf_tiny [--data DIR] [--kws DIR] [--reference DIR] [--isa NAME] "
                                     "[--time MODEL]\n");
                return 2;
            }
        }
        if (o.data.empty() || !fs::exists(o.data)) {
            std::printf(
                "note: MLPerf Tiny: not run here: its models are not in \"%s\"; get kws_ref_model.tflite and the\n"
                "others from github.com/mlcommons/tiny and give their folder as --data DIR or NOTCH_MLPERF_TINY\n",
                o.data.string().c_str());
            return 0;
        }
        if (o.kws.empty()) o.kws = o.data / "kws01";
        if (o.isas.empty()) {
            if (o.time.empty())
                for (notch::isa isa : notch::available_isas()) o.isas.push_back(isa);
            else
                o.isas = {notch::default_isa()};
        }
        return run(o) ? 0 : 1;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "mlperf_tiny: %s\n", e.what());
        return 1;
    }
}
