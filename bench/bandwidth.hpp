// SPDX-License-Identifier: Apache-2.0
//
// The measured read bandwidth of the cache or memory level that holds a buffer of a given size: wide
// loads of four streams, nothing else, the best of several passes. Clocks and neighbours drift, so a
// benchmark measures it right before its own loop and quotes its share of it.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>

#include <notch/core/buffer.hpp>
#include <notch/simd/cpu.hpp>
#include <notch/simd/target.hpp>

#if NOTCH_X86_64 && defined(__GNUC__)
NOTCH_TARGET_BEGIN_AVX512VNNI
static __attribute__((noinline)) void read_streams_512(const unsigned char* p, std::ptrdiff_t quarter) {
    const unsigned char *a = p, *b = p + quarter, *c = p + 2 * quarter, *d = p + 3 * quarter;
    for (std::ptrdiff_t i = 0; i < quarter; i += 128)
        __asm__ volatile(
            "vmovdqa64 (%0), %%zmm0\n vmovdqa64 64(%0), %%zmm1\n vmovdqa64 (%1), %%zmm2\n vmovdqa64 64(%1), %%zmm3\n"
            "vmovdqa64 (%2), %%zmm4\n vmovdqa64 64(%2), %%zmm5\n vmovdqa64 (%3), %%zmm6\n vmovdqa64 64(%3), %%zmm7\n"
            "prefetcht0 2560(%0)\n prefetcht0 2624(%0)\n prefetcht0 2560(%1)\n prefetcht0 2624(%1)\n"
            "prefetcht0 2560(%2)\n prefetcht0 2624(%2)\n prefetcht0 2560(%3)\n prefetcht0 2624(%3)\n"
            :
            : "r"(a + i), "r"(b + i), "r"(c + i), "r"(d + i)
            : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7");
}
static __attribute__((noinline)) void read_plain_512(const unsigned char* p, std::ptrdiff_t n) {
    for (std::ptrdiff_t i = 0; i < n; i += 512)
        __asm__ volatile("vmovdqa64 (%0), %%zmm0\n vmovdqa64 64(%0), %%zmm1\n vmovdqa64 128(%0), %%zmm2\n vmovdqa64 "
                         "192(%0), %%zmm3\n"
                         "vmovdqa64 256(%0), %%zmm4\n vmovdqa64 320(%0), %%zmm5\n vmovdqa64 384(%0), %%zmm6\n "
                         "vmovdqa64 448(%0), %%zmm7\n"
                         :
                         : "r"(p + i)
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7");
}
NOTCH_TARGET_END
#endif

/// Bytes a second that this CPU reads from a buffer of that many bytes; 0 if it cannot be measured.
inline double read_bandwidth(notch::index_t bytes) {
#if NOTCH_X86_64 && defined(__GNUC__)
    if (!notch::is_available(notch::isa::avx512vnni)) return 0;
    using clock = std::chrono::steady_clock;
    const notch::index_t whole = (bytes + 2047) / 2048 * 2048;
    notch::buffer<unsigned char> memory(whole + 4096);
    std::memset(memory.data(), 1, static_cast<std::size_t>(memory.size()));
    const notch::index_t passes = std::max<notch::index_t>(1, (1 << 22) / whole);
    double best = 0;
    for (int r = 0; r < 30; ++r) {
        for (const bool streams : {false, true}) {
            const auto begin = clock::now();
            for (notch::index_t i = 0; i < passes; ++i) {
                if (streams)
                    read_streams_512(memory.data(), whole / 4);
                else
                    read_plain_512(memory.data(), whole);
            }
            const double s = std::chrono::duration<double>(clock::now() - begin).count();
            best = std::max(best, static_cast<double>(whole) * static_cast<double>(passes) / s);
        }
    }
    return best;
#else
    (void)bytes;
    return 0;
#endif
}
