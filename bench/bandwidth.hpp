// SPDX-License-Identifier: Apache-2.0
//
// The measured bandwidth of one thread over a working set, the bar of kernels that do little arithmetic:
//
//   read_bandwidth(bytes)     the best of several loops that only load
//   read_pass(p, bytes)       one pass of such a loop, to be timed in turns with something else
//   copy_bandwidth(bytes)     bytes read + bytes written, a second, of a copy whose source and target
//                             have bytes together: the better of memcpy, vector stores and non-temporal stores
//
// The bandwidths take the best of many passes, with the widest vectors of the CPU.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <vector>

#include <notch/simd/cpu.hpp>

#if NOTCH_X86_KERNELS
#include <immintrin.h>
#endif

namespace bandwidth {

/// Seconds of the fastest of many calls of f, each over bytes.
template <class F> double fastest(std::size_t bytes, const F& f) {
    using clock = std::chrono::steady_clock;
    const long repeat = std::max<long>(1, static_cast<long>((4u << 20) / (bytes + 1)));
    double best = 1e9;
    for (int r = 0; r < 60; ++r) {
        const auto begin = clock::now();
        for (long i = 0; i < repeat; ++i) f();
        best =
            std::min(best, std::chrono::duration<double>(clock::now() - begin).count() / static_cast<double>(repeat));
    }
    return best;
}

#if NOTCH_X86_KERNELS
NOTCH_TARGET_BEGIN_AVX512BW
__attribute__((noinline)) inline void read_zmm(const char* p, std::size_t bytes) {
    for (std::size_t i = 0; i + 256 <= bytes; i += 256)
        __asm__ volatile(
            "vmovups (%0), %%zmm0\n vmovups 64(%0), %%zmm1\n vmovups 128(%0), %%zmm2\n vmovups 192(%0), %%zmm3"
            :
            : "r"(p + i)
            : "xmm0", "xmm1", "xmm2", "xmm3");
}
template <bool Streaming> __attribute__((noinline)) void copy_zmm(char* to, const char* from, std::size_t bytes) {
    for (std::size_t i = 0; i + 128 <= bytes; i += 128) {
        const __m512i a = _mm512_loadu_si512(from + i), b = _mm512_loadu_si512(from + i + 64);
        if constexpr (Streaming) {
            _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), a);
            _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i + 64), b);
        } else {
            _mm512_storeu_si512(to + i, a);
            _mm512_storeu_si512(to + i + 64, b);
        }
    }
    if constexpr (Streaming) _mm_sfence();
}
NOTCH_TARGET_END
NOTCH_TARGET_BEGIN_AVX2
__attribute__((noinline)) inline void read_ymm(const char* p, std::size_t bytes) {
    for (std::size_t i = 0; i + 128 <= bytes; i += 128)
        __asm__ volatile(
            "vmovups (%0), %%ymm0\n vmovups 32(%0), %%ymm1\n vmovups 64(%0), %%ymm2\n vmovups 96(%0), %%ymm3"
            :
            : "r"(p + i)
            : "xmm0", "xmm1", "xmm2", "xmm3");
}
template <bool Streaming> __attribute__((noinline)) void copy_ymm(char* to, const char* from, std::size_t bytes) {
    for (std::size_t i = 0; i + 64 <= bytes; i += 64) {
        const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)),
                      b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i + 32));
        if constexpr (Streaming) {
            _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i), a);
            _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i + 32), b);
        } else {
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), a);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i + 32), b);
        }
    }
    if constexpr (Streaming) _mm_sfence();
}
NOTCH_TARGET_END
#endif

/// Loads bytes from p on once; p is aligned to 64 bytes.
inline void read_pass(const char* p, std::size_t bytes) {
#if NOTCH_X86_KERNELS
    if (notch::is_available(notch::isa::avx512bw)) return read_zmm(p, bytes);
    if (notch::is_available(notch::isa::avx2)) return read_ymm(p, bytes);
#endif
    static volatile unsigned long sink = 0;
    unsigned long sum = 0, v = 0;
    for (std::size_t i = 0; i + sizeof v <= bytes; i += sizeof v) {
        std::memcpy(&v, p + i, sizeof v);
        sum += v;
    }
    sink = sink + sum;
}

/// Bytes a second.
inline double read_bandwidth(std::size_t bytes) {
    const std::vector<char> memory(bytes + 64, 1);
    const char* p = memory.data() + (64 - reinterpret_cast<std::size_t>(memory.data()) % 64) % 64;
    double best = 0;
    const auto take = [&](double seconds) { best = std::max(best, static_cast<double>(bytes) / seconds); };
#if NOTCH_X86_KERNELS
    if (notch::is_available(notch::isa::avx512bw)) take(fastest(bytes, [&] { read_zmm(p, bytes); }));
    if (notch::is_available(notch::isa::avx2)) take(fastest(bytes, [&] { read_ymm(p, bytes); }));
#else
    take(fastest(bytes, [&] { read_pass(p, bytes); }));
#endif
    return best;
}

/// Bytes read and written a second, bytes being read and written together.
inline double copy_bandwidth(std::size_t bytes) {
    const std::size_t half = bytes / 2 / 128 * 128;
    std::vector<char> memory(2 * half + 64, 1);
    char* from = memory.data() + (64 - reinterpret_cast<std::size_t>(memory.data()) % 64) % 64;
    char* to = from + half;
    double best = 0;
    const auto take = [&](double seconds) { best = std::max(best, static_cast<double>(2 * half) / seconds); };
    take(fastest(bytes, [&] {
        std::memcpy(to, from, half);
        __asm__ volatile("" ::: "memory");
    }));
#if NOTCH_X86_KERNELS
    if (notch::is_available(notch::isa::avx512bw)) {
        take(fastest(bytes, [&] { copy_zmm<false>(to, from, half); }));
        take(fastest(bytes, [&] { copy_zmm<true>(to, from, half); }));
    }
    if (notch::is_available(notch::isa::avx2)) {
        take(fastest(bytes, [&] { copy_ymm<false>(to, from, half); }));
        take(fastest(bytes, [&] { copy_ymm<true>(to, from, half); }));
    }
#endif
    return best;
}

} // namespace bandwidth
