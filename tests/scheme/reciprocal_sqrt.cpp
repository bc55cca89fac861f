// SPDX-License-Identifier: Apache-2.0
#include "../catch.hpp"

#include <cfloat>
#include <cmath>
#include <random>

#include <notch/scheme/reciprocal_sqrt.hpp>

TEST_CASE("reciprocal_sqrt is as accurate as it says") {
    if (LDBL_MANT_DIG < 64) return;
    long double worst = 0;
    const auto check = [&](std::uint64_t v) {
        const notch::fixed_reciprocal_sqrt r = notch::reciprocal_sqrt(v);
        const bool in_range = r.mantissa >= 1u << 30 && r.mantissa <= 1u << 31 && r.shift >= 31 && r.shift <= 62;
        if (!in_range) CHECK(v == 0);
        const long double error = std::fabs(
            std::ldexp(static_cast<long double>(r.mantissa), -r.shift) * std::sqrt(static_cast<long double>(v)) - 1);
        worst = error > worst ? error : worst;
    };
    for (std::uint64_t v = 1; v <= 300000; ++v) check(v);
    for (std::uint64_t z = 1u << 30; z < std::uint64_t{1} << 32; z += 4001) check(z << 32);
    for (int e = 0; e < 64; ++e)
        for (std::uint64_t d = 0; d < 3; ++d) {
            check((std::uint64_t{1} << e) + d);
            if ((std::uint64_t{1} << e) > d) check((std::uint64_t{1} << e) - d);
        }
    check(~std::uint64_t{0});
    std::mt19937_64 g(1);
    for (int i = 0; i < 200000; ++i) check(g() >> g() % 63 | 1);
    CHECK(worst < 0x1p-29L);
    CHECK(worst > 0x1p-31L);
}
