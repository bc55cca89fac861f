// SPDX-License-Identifier: Apache-2.0
//
// The measured peak of vpdpbusd on zmm registers: operations a second (2 for each product) of
// twelve independent chains without a load or a store. Clocks drift, so a benchmark measures it right
// before its own loop and quotes its share of it.
#pragma once

#include <algorithm>
#include <chrono>

#include <notch/simd/cpu.hpp>

#if NOTCH_X86_64 && defined(__GNUC__)
NOTCH_TARGET_BEGIN_AVX512VNNI
static __attribute__((noinline)) void spin_vnni(long rounds) {
    __asm__ volatile(
        "1:\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm0\n vpdpbusd %%zmm30, %%zmm31, %%zmm1\n vpdpbusd %%zmm30, %%zmm31, %%zmm2\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm3\n vpdpbusd %%zmm30, %%zmm31, %%zmm4\n vpdpbusd %%zmm30, %%zmm31, %%zmm5\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm6\n vpdpbusd %%zmm30, %%zmm31, %%zmm7\n vpdpbusd %%zmm30, %%zmm31, %%zmm8\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm9\n vpdpbusd %%zmm30, %%zmm31, %%zmm10\n vpdpbusd %%zmm30, %%zmm31, %%zmm11\n"
        "dec %0\n jnz 1b\n"
        : "+r"(rounds)
        :
        : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "cc");
}
NOTCH_TARGET_END
#endif

/// Operations a second, or 0 if kernels of this instruction set do not use the instruction.
inline double vnni_peak(notch::isa isa) {
#if NOTCH_X86_64 && defined(__GNUC__)
    if (isa != notch::isa::avx512vnni) return 0;
    using clock = std::chrono::steady_clock;
    constexpr long rounds = 200000;
    double best = 0;
    for (int r = 0; r < 20; ++r) {
        const auto begin = clock::now();
        spin_vnni(rounds);
        const double s = std::chrono::duration<double>(clock::now() - begin).count();
        best = std::max(best, static_cast<double>(rounds) * 12 * 64 * 2 / s);
    }
    return best;
#else
    (void)isa;
    return 0;
#endif
}
