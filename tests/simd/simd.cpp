// SPDX-License-Identifier: Apache-2.0
//
// Which instruction sets there are, how one is chosen, and the one loop of the open tier.
#include "../catch.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <notch/simd/cpu.hpp>
#include <notch/simd/elementwise.hpp>

using namespace notch;

TEST_CASE("available instruction sets: scalar first, each once, each by its name") {
    const std::span<const isa> all = available_isas();
    REQUIRE(!all.empty());
    CHECK(all.front() == isa::scalar);
    for (std::size_t i = 0; i < all.size(); ++i) {
        CHECK(is_available(all[i]));
        CHECK(isa_from_name(to_string(all[i])) == all[i]);
        if (i > 0) CHECK(static_cast<int>(all[i - 1]) < static_cast<int>(all[i]));
    }
    CHECK(std::find(all.begin(), all.end(), default_isa()) != all.end());
    // What has AVX-512 has AVX2.
    if (is_available(isa::avxvnni)) CHECK(is_available(isa::avx2));
    if (is_available(isa::avx512bw)) CHECK(is_available(isa::avx2));
    if (is_available(isa::avx512vnni)) CHECK(is_available(isa::avx512bw));
    if (is_available(isa::amx)) CHECK(is_available(isa::avx512vnni));
    if (is_available(isa::neondot)) CHECK(is_available(isa::neon));
    if (is_available(isa::neoni8mm)) CHECK(is_available(isa::neondot));
    CHECK_FALSE((is_available(isa::avx2) && is_available(isa::neon))); // no machine has both
}

TEST_CASE("what default_isa says", "[.default_isa]") { // for the test below
    try {
        std::cout << "default isa: " << to_string(default_isa()) << ";\n";
    } catch (const error& e) {
        std::cout << "error: " << e.what() << ";\n";
    }
}

#if defined(__linux__) && defined(__x86_64__) // where programs are not emulated, and can start themselves
TEST_CASE("NOTCH_ISA chooses the instruction set, or is an error") {
    // It is read once, so each value needs a process of its own.
    const auto with = [](const std::string& isa) {
        const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
        std::FILE* out = popen(("NOTCH_ISA='" + isa + "' '" + self + "' '[.default_isa]'").c_str(), "r");
        REQUIRE(out != nullptr);
        std::string text;
        for (int c; (c = std::fgetc(out)) != EOF;) text += static_cast<char>(c);
        pclose(out);
        return text;
    };
    for (isa i : available_isas()) {
        const std::string name(to_string(i));
        CHECK_THAT(with(name), contains_text("default isa: " + name + ";"));
    }
    if (available_isas().back() != isa::amx)
        CHECK_THAT(with(""), contains_text("default isa: " + std::string(to_string(available_isas().back())) + ";"));
    CHECK_THAT(with("sse9"), contains_text("error: NOTCH_ISA: unknown instruction set 'sse9'"));
}
#endif

TEST_CASE("an instruction set that is unknown or missing is an error that lists the choices") {
    for (const char* name : {"", "sse9", "AVX2", "avx2 ", "scalar,avx2"}) {
        INFO("'" << name << "'");
        CHECK_THROWS_WITH(isa_from_name(name), contains_text("unknown instruction set") && contains_text("scalar"));
    }
    for (isa i :
         {isa::avx2, isa::avx512bw, isa::avxvnni, isa::avx512vnni, isa::amx, isa::neon, isa::neondot, isa::neoni8mm})
        if (!is_available(i)) CHECK_THROWS_WITH(isa_from_name(to_string(i)), contains_text("cannot run"));
}

TEST_CASE("scan_range: any length and alignment, non-finite values counted and left out") {
    std::mt19937 g(1);
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> memory(300);
    for (std::size_t n : {0u, 1u, 3u, 4u, 5u, 7u, 8u, 9u, 15u, 16u, 17u, 31u, 32u, 33u, 64u, 100u, 257u})
        for (std::size_t offset : {0u, 1u, 3u})
            for (unsigned rare : {1u, 2u, 50u}) { // of `rare` values one is not finite
                const std::span<float> x = std::span(memory).subspan(offset, n);
                real_range want;
                std::int64_t bad = 0;
                for (float& v : x) {
                    v = static_cast<float>(g() % 2001) - 1000.0f;
                    if (g() % rare == 0) v = g() % 3 == 0 ? nan : g() % 2 ? inf : -inf;
                    if (std::isfinite(v))
                        want = {std::min(want.min, v), std::max(want.max, v)};
                    else
                        ++bad;
                }
                INFO(n << " values at " << offset << ", one in " << rare << " not finite");
                const range_scan found = scan_range(std::span<const float>(x));
                CHECK(found.range == want);
                CHECK(found.nonfinite == bad);
                CHECK(found.finite == static_cast<std::int64_t>(n) - bad);
            }
    const float big = std::numeric_limits<float>::max();
    const std::vector<float> ends{big, -big, 0.0f};
    CHECK(scan_range(std::span<const float>(ends)).range == real_range{-big, big});
}
