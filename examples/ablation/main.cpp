// SPDX-License-Identifier: Apache-2.0
//
// Runs every quantization method of notch with every number of bits that it has, on real data and with several seeds,
// and writes results.json and report.html. A run that was stopped goes on where it was.
#include <CLI/CLI.hpp>

#include <atomic>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <mutex>
#include <thread>

#include "experiment.hpp"
#include "report.hpp"

namespace ablation {
namespace {

#if defined(__clang__)
constexpr const char* compiler_name = __VERSION__; // begins with "Clang"
#else
constexpr const char* compiler_name = "g++ " __VERSION__;
#endif

void run_all(std::vector<job>& jobs, int threads) {
    std::atomic<std::size_t> next = 0;
    std::exception_ptr failed;
    std::mutex mutex;
    const auto work = [&] {
        for (std::size_t i = next++; i < jobs.size(); i = next++) try {
                jobs[i]();
            } catch (...) {
                const std::lock_guard lock(mutex);
                if (!failed) failed = std::current_exception();
                next = jobs.size();
            }
    };
    std::vector<std::thread> team;
    for (int t = 1; t < threads; ++t) team.emplace_back(work);
    work();
    for (auto& t : team) t.join();
    if (failed) std::rethrow_exception(failed);
}

/// Whether a file is there; says so if it is wanted and is not.
bool present(const char* what, const char* option, const std::string& path, bool wanted) {
    if (!wanted || std::filesystem::exists(path)) return wanted;
    if (path.empty())
        std::printf("%s: left out: no %s\n", what, option);
    else
        std::printf("%s: left out: no %s\n", what, path.c_str());
    return false;
}

int ablate(const settings& s, bool report_only) {
    std::filesystem::create_directories(s.out);
    results all(s.out + "/results.json", {{"notch", NOTCH_VERSION_STRING}, {"compiler", compiler_name}});
    if (const std::size_t rows = all.content()["rows"].size(); rows > 0)
        std::printf("%zu rows of an earlier run stay\n", rows);
    std::vector<job> jobs;
    add_digits(jobs, s, all);
    const bool images = present("CIFAR-10", "--cifar", s.cifar, s.wants("resnet8") || s.wants("dsnet"));
#ifdef NOTCH_ABLATION_TFLITE
    if (present("the float ResNet-8", "--resnet", s.resnet, s.wants("resnet8")) && images) add_resnet8(jobs, s, all);
#else
    if (s.wants("resnet8")) std::printf("resnet8: left out: built without flatbuffers, which reads its model\n");
#endif
    if (images && s.wants("dsnet")) add_dsnet(jobs, s, all);
    if (!report_only) run_all(jobs, s.threads);
    all.save();
    write_report(all.content(), s.out + "/report.html");
    std::printf("%s\n%s/results.json, %s/report.html\n", text_table(all.content()).c_str(), s.out.c_str(),
                s.out.c_str());
    return 0;
}

} // namespace
} // namespace ablation

int main(int argc, char** argv) {
    ablation::settings s;
    s.data = NOTCH_DEMO_DATA;
    s.out = "out/ablation";
    s.threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    bool report_only = false, quick = false;
    CLI::App app("Compares the quantization methods of notch on real data");
    app.add_option("--data", s.data, "folder of the IDX files of the digits")->capture_default_str();
    app.add_option("--cifar", s.cifar, "CIFAR-10, as scripts/cifar10.py writes it, for resnet8 and dsnet");
    app.add_option("--resnet", s.resnet, "MLPerf Tiny's float ResNet-8, pretrainedResnet.tflite");
    app.add_option("--network", s.networks, "only this network; may be repeated")
        ->check(CLI::IsMember({"mobile_net", "small_cnn", "resnet8", "dsnet"}));
    app.add_option("--out", s.out, "folder of the results")->capture_default_str();
    CLI::Option* seeds = app.add_option("--seeds", s.seeds, "how many seeds, from 1 on (3; with --quick 1)");
    seeds->check(CLI::Range(1u, 100u));
    app.add_option("--threads", s.threads, "networks at a time")->capture_default_str()->check(CLI::Range(1, 256));
    app.add_option("--filter", s.filters, "only rows whose network/method/W4A8 contains this; may be repeated");
    app.add_flag("--quick", quick, "one seed, few methods: two minutes");
    app.add_flag("--report", report_only, "run nothing: write the report of the results that there are");
    CLI11_PARSE(app, argc, argv);
    s.quick = quick;
    if (quick && seeds->count() == 0) s.seeds = 1;
    try {
        return ablation::ablate(s, report_only);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "ablation: %s\n", e.what());
        return 1;
    }
}
