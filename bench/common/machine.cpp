// SPDX-License-Identifier: Apache-2.0
#include "machine.hpp"

#include <ctime>
#include <fstream>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#include <unistd.h>
#endif

#include <notch/simd/cpu.hpp>

namespace bench {

std::string cpu_name() {
    std::ifstream file("/proc/cpuinfo");
    std::string name, family, model;
    for (std::string line; std::getline(file, line);) {
        const auto value = [&](const char* key, std::string& into) {
            if (line.rfind(key, 0) == 0 && line.find('\t') == std::string(key).size() &&
                line.find(": ") != std::string::npos)
                into = line.substr(line.find(": ") + 2);
        };
        value("model name", name);
        value("cpu family", family);
        value("model", model);
        if (line.empty()) break;
    }
    if (name.empty()) return "unknown";
    return name + " (family " + family + ", model " + model + ")";
}

std::string compiler_name() {
#if defined(__clang__)
    return std::string("clang ") + __clang_version__;
#elif defined(__GNUC__)
    return std::string("g++ ") + __VERSION__;
#else
    return "unknown";
#endif
}

std::string utc_now() {
    const std::time_t t = std::time(nullptr);
    std::tm parts{};
#if defined(_WIN32)
    gmtime_s(&parts, &t);
#else
    gmtime_r(&t, &parts);
#endif
    char text[32];
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return text;
}

std::vector<std::string> isa_names() {
    std::vector<std::string> names;
    for (notch::isa i : notch::available_isas()) names.emplace_back(notch::to_string(i));
    return names;
}

std::size_t cache_bytes(int level) {
    long bytes = 0;
#if defined(_SC_LEVEL1_DCACHE_SIZE)
    const int names[] = {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE};
    bytes = sysconf(names[level - 1]);
#endif
    const long usual[] = {32L << 10, 1L << 20, 16L << 20};
    return static_cast<std::size_t>(bytes > 0 ? bytes : usual[level - 1]);
}

int usable_cpus() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    return static_cast<int>(std::thread::hardware_concurrency());
}

} // namespace bench
