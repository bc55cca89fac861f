// SPDX-License-Identifier: Apache-2.0
#include "peak.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include <notch/simd/cpu.hpp>

#if NOTCH_X86_64 && defined(__GNUC__)
#include <immintrin.h>
#endif

#include "machine.hpp"

namespace bench {
namespace {

constexpr long rounds = 2000; // of a loop of products: a few microseconds

#if NOTCH_X86_64 && defined(__GNUC__)

// One-line assembler needs no target region: nothing here is compiled for a larger instruction set,
// and the loops run only where notch has found it. Only the low registers can be named as clobbered
// in a baseline unit; the compiler has no use for the others there.
#define BENCH_XMM                                                                                                      \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",         \
        "xmm13", "xmm14", "xmm15"

// Twelve independent chains of one instruction hide a latency of up to six cycles at two a cycle.
#define BENCH_SPIN(name, zero, one)                                                                                    \
    void name() {                                                                                                      \
        long n = rounds;                                                                                               \
        __asm__ volatile(zero "1:\n" one(0) one(1) one(2) one(3) one(4) one(5) one(6) one(7) one(8) one(9) one(10)     \
                             one(11) "dec %0\n jnz 1b\n vzeroupper\n"                                                  \
                         : "+r"(n)                                                                                     \
                         :                                                                                             \
                         : "cc", BENCH_XMM);                                                                           \
    }
#define BENCH_ZERO_ALL "vzeroall\n"

#define BENCH_DOT_ZMM(i) "vpdpbusd %%zmm14, %%zmm15, %%zmm" #i "\n"
#define BENCH_DOT_VEX(i) "%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm" #i "\n"
#define BENCH_BYTES_YMM(i)                                                                                             \
    "vpmaddubsw %%ymm14, %%ymm15, %%ymm12\n vpmaddwd %%ymm12, %%ymm13, %%ymm12\n vpaddd %%ymm12, %%ymm" #i             \
    ", %%ymm" #i "\n"
#define BENCH_BYTES_ZMM(i)                                                                                             \
    "vpmaddubsw %%zmm14, %%zmm15, %%zmm12\n vpmaddwd %%zmm12, %%zmm13, %%zmm12\n vpaddd %%zmm12, %%zmm" #i             \
    ", %%zmm" #i "\n"
#define BENCH_FMA_YMM(i) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #i "\n"
#define BENCH_FMA_ZMM(i) "vfmadd231ps %%zmm14, %%zmm15, %%zmm" #i "\n"

BENCH_SPIN(dot_zmm, BENCH_ZERO_ALL, BENCH_DOT_ZMM)
BENCH_SPIN(dot_vex, BENCH_ZERO_ALL, BENCH_DOT_VEX)
// Sums of words: products first, then additions, in groups of four. One by one, additions would take
// ports from products more often.
#define BENCH_PRODUCT(v, t) "vpmaddwd %%" v "14, %%" v "15, %%" v #t "\n"
#define BENCH_SUM(v, t, i) "vpaddd %%" v #t ", %%" v #i ", %%" v #i "\n"
#define BENCH_WORDS(v, i, j, k, l)                                                                                     \
    BENCH_PRODUCT(v, 10)                                                                                               \
    BENCH_PRODUCT(v, 11)                                                                                               \
    BENCH_PRODUCT(v, 12)                                                                                               \
    BENCH_PRODUCT(v, 13) BENCH_SUM(v, 10, i) BENCH_SUM(v, 11, j) BENCH_SUM(v, 12, k) BENCH_SUM(v, 13, l)
#define BENCH_SPIN_WORDS(name, v)                                                                                      \
    void name() {                                                                                                      \
        long n = rounds;                                                                                               \
        __asm__ volatile("vzeroall\n1:\n" BENCH_WORDS(v, 0, 1, 2, 3) BENCH_WORDS(v, 4, 5, 6, 7)                        \
                             BENCH_WORDS(v, 8, 9, 0, 1) "dec %0\n jnz 1b\n vzeroupper\n"                               \
                         : "+r"(n)                                                                                     \
                         :                                                                                             \
                         : "cc", BENCH_XMM);                                                                           \
    }
BENCH_SPIN_WORDS(words_ymm, "ymm")
BENCH_SPIN_WORDS(words_zmm, "zmm")
BENCH_SPIN(bytes_ymm, BENCH_ZERO_ALL, BENCH_BYTES_YMM)
BENCH_SPIN(bytes_zmm, BENCH_ZERO_ALL, BENCH_BYTES_ZMM)
BENCH_SPIN(fma_ymm, BENCH_ZERO_ALL, BENCH_FMA_YMM)
BENCH_SPIN(fma_zmm, BENCH_ZERO_ALL, BENCH_FMA_ZMM)

// Four result tiles, two of each factor: what the registers of AMX hold. 16 rows of 64 bytes.
void dot_tiles() {
    struct alignas(64) configuration {
        std::uint8_t palette = 1, start = 0, reserved[14] = {};
        std::uint16_t bytes[16] = {};
        std::uint8_t rows[16] = {};
    } c;
    for (int t = 0; t < 8; ++t) c.bytes[t] = 64, c.rows[t] = 16;
    long n = rounds / 16;
    __asm__ volatile("ldtilecfg %1\n"
                     "tilezero %%tmm0\n tilezero %%tmm1\n tilezero %%tmm2\n tilezero %%tmm3\n"
                     "tilezero %%tmm4\n tilezero %%tmm5\n tilezero %%tmm6\n tilezero %%tmm7\n"
                     "1:\n"
                     "tdpbusd %%tmm6, %%tmm4, %%tmm0\n tdpbusd %%tmm7, %%tmm4, %%tmm1\n"
                     "tdpbusd %%tmm6, %%tmm5, %%tmm2\n tdpbusd %%tmm7, %%tmm5, %%tmm3\n"
                     "dec %0\n jnz 1b\n tilerelease\n"
                     : "+r"(n)
                     : "m"(c)
                     : "cc");
}

#define BENCH_TARGET(isa) __attribute__((target(isa)))

// One vector of each stream a step, the streams `apart` vectors from one another.
#define BENCH_MEMORY(bits, isa, vector, load, join, zero, store, stream)                                               \
    BENCH_TARGET(isa) void read_##bits(const std::uint8_t* from, std::size_t bytes, long streams, bool ahead) {        \
        const auto* p = reinterpret_cast<const vector*>(from);                                                         \
        const long count = static_cast<long>(bytes / sizeof(vector)) / (4 * streams) * 4, apart = count;               \
        vector s0 = zero(), s1 = zero(), s2 = zero(), s3 = zero();                                                     \
        if (streams == 1) {                                                                                            \
            for (long i = 0; i < count; i += 4) {                                                                      \
                s0 = join(s0, load(p + i));                                                                            \
                s1 = join(s1, load(p + i + 1));                                                                        \
                s2 = join(s2, load(p + i + 2));                                                                        \
                s3 = join(s3, load(p + i + 3));                                                                        \
            }                                                                                                          \
        } else {                                                                                                       \
            for (long i = 0; i < count; i += 64 / static_cast<long>(sizeof(vector)))                                   \
                for (long s = 0; s < 4; ++s) {                                                                         \
                    const vector* q = p + s * apart + i;                                                               \
                    if (ahead) __builtin_prefetch(q + 2048 / sizeof(vector));                                          \
                    s0 = join(s0, load(q));                                                                            \
                    if (sizeof(vector) < 64) s1 = join(s1, load(q + 1));                                               \
                }                                                                                                      \
        }                                                                                                              \
        s0 = join(join(s0, s1), join(s2, s3));                                                                         \
        __asm__ volatile("" : : "m"(s0));                                                                              \
    }                                                                                                                  \
    BENCH_TARGET(isa) void copy_##bits(std::uint8_t* to, const std::uint8_t* from, std::size_t bytes) {                \
        for (std::size_t i = 0; i < bytes; i += 2 * sizeof(vector)) {                                                  \
            const vector a = load(reinterpret_cast<const vector*>(from + i));                                          \
            const vector b = load(reinterpret_cast<const vector*>(from + i) + 1);                                      \
            store(reinterpret_cast<vector*>(to + i), a);                                                               \
            store(reinterpret_cast<vector*>(to + i) + 1, b);                                                           \
        }                                                                                                              \
        __asm__ volatile("" : : : "memory");                                                                           \
    }                                                                                                                  \
    BENCH_TARGET(isa) void stream_##bits(std::uint8_t* to, const std::uint8_t* from, std::size_t bytes) {              \
        for (std::size_t i = 0; i < bytes; i += 2 * sizeof(vector)) {                                                  \
            const vector a = load(reinterpret_cast<const vector*>(from + i));                                          \
            const vector b = load(reinterpret_cast<const vector*>(from + i) + 1);                                      \
            stream(reinterpret_cast<vector*>(to + i), a);                                                              \
            stream(reinterpret_cast<vector*>(to + i) + 1, b);                                                          \
        }                                                                                                              \
        _mm_sfence();                                                                                                  \
    }

BENCH_MEMORY(128, "sse2", __m128i, _mm_load_si128, _mm_or_si128, _mm_setzero_si128, _mm_store_si128, _mm_stream_si128)
BENCH_MEMORY(256, "avx2", __m256i, _mm256_load_si256, _mm256_or_si256, _mm256_setzero_si256, _mm256_store_si256,
             _mm256_stream_si256)
BENCH_MEMORY(512, "avx512f", __m512i, _mm512_load_si512, _mm512_or_si512, _mm512_setzero_si512, _mm512_store_si512,
             _mm512_stream_si512)

struct memory_loops {
    void (*read)(const std::uint8_t*, std::size_t, long, bool);
    void (*copy)(std::uint8_t*, const std::uint8_t*, std::size_t);
    void (*stream)(std::uint8_t*, const std::uint8_t*, std::size_t);
};
memory_loops loops_of(std::string_view isa) {
    if (isa.substr(0, 6) == "avx512" || isa.substr(0, 3) == "amx") return {read_512, copy_512, stream_512};
    if (isa.substr(0, 3) == "avx") return {read_256, copy_256, stream_256};
    return {read_128, copy_128, stream_128};
}
peak_loop spin(const char* name, double operations, void (*run)()) { return {name, operations, run, false}; }

#else

struct memory_loops {
    void (*read)(const std::uint8_t*, std::size_t, long, bool);
    void (*copy)(std::uint8_t*, const std::uint8_t*, std::size_t);
    void (*stream)(std::uint8_t*, const std::uint8_t*, std::size_t);
};
void read_words(const std::uint8_t* from, std::size_t bytes, long, bool) {
    std::uint64_t sum[4] = {}, v[4];
    for (std::size_t i = 0; i + sizeof v <= bytes; i += sizeof v) {
        std::memcpy(v, from + i, sizeof v);
        for (int j = 0; j < 4; ++j) sum[j] |= v[j];
    }
    volatile std::uint64_t sink = sum[0] | sum[1] | sum[2] | sum[3];
    (void)sink;
}
void copy_bytes(std::uint8_t* to, const std::uint8_t* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
memory_loops loops_of(std::string_view) { return {read_words, copy_bytes, copy_bytes}; }

#endif

/// Memory that vectors of any width may be loaded from. Written once, so that it is really there.
std::shared_ptr<std::uint8_t> aligned_bytes(std::size_t bytes) {
    constexpr std::align_val_t align{4096};
    auto* p = static_cast<std::uint8_t*>(::operator new(bytes + 4096, align));
    std::memset(p, 1, bytes + 4096);
    return {p, [](std::uint8_t* q) { ::operator delete(q, align); }};
}

} // namespace

peak_loop product_peak(std::string_view isa, bool seven_bits) {
#if NOTCH_X86_64 && defined(__GNUC__)
    const double n = static_cast<double>(rounds) * 12;
    if (isa == "avx512vnni") return spin("vpdpbusd zmm", n * 64 * 2, dot_zmm);
    if (isa == "avxvnni") return spin("vpdpbusd ymm", n * 32 * 2, dot_vex);
    if (isa.substr(0, 3) == "amx")
        return spin("tdpbusd", static_cast<double>(rounds / 16) * 4 * 16 * 16 * 64 * 2, dot_tiles);
    if (isa == "avx512bw")
        return seven_bits ? spin("vpmaddubsw zmm", n * 64 * 2, bytes_zmm) : spin("vpmaddwd zmm", n * 32 * 2, words_zmm);
    if (isa == "avx2")
        return seven_bits ? spin("vpmaddubsw ymm", n * 32 * 2, bytes_ymm) : spin("vpmaddwd ymm", n * 16 * 2, words_ymm);
#endif
    (void)isa, (void)seven_bits;
    return {};
}

peak_loop float_peak(std::string_view isa) {
#if NOTCH_X86_64 && defined(__GNUC__)
    const double n = static_cast<double>(rounds) * 12;
    if (isa.substr(0, 6) == "avx512" || isa.substr(0, 3) == "amx") return spin("vfmadd231ps zmm", n * 16 * 2, fma_zmm);
    if (isa.substr(0, 3) == "avx") return spin("vfmadd231ps ymm", n * 8 * 2, fma_ymm);
#endif
    (void)isa;
    return {};
}

std::vector<peak_loop> read_peaks(std::string_view isa, std::size_t bytes) {
    const memory_loops l = loops_of(isa);
    bytes = std::max<std::size_t>(bytes / 4096 * 4096, 4096);
    const auto p = aligned_bytes(bytes);
    const double amount = static_cast<double>(bytes);
    return {{"read", amount, [=] { l.read(p.get(), bytes, 1, false); }, true},
            {"read, 4 streams", amount, [=] { l.read(p.get(), bytes, 4, false); }, true},
            {"read, 4 streams, prefetch", amount, [=] { l.read(p.get(), bytes, 4, true); }, true}};
}

std::vector<peak_loop> copy_peaks(std::string_view isa, std::size_t bytes) {
    const memory_loops l = loops_of(isa);
    const std::size_t half = std::max<std::size_t>(bytes / 8192 * 4096, 4096);
    const auto from = aligned_bytes(half), to = aligned_bytes(half);
    const double amount = 2 * static_cast<double>(half);
    return {{"copy", amount, [=] { l.copy(to.get(), from.get(), half); }, true},
            {"copy, non-temporal", amount, [=] { l.stream(to.get(), from.get(), half); }, true},
            {"copy, memcpy", amount,
             [=] {
                 std::memcpy(to.get(), from.get(), half);
                 __asm__ volatile("" : : : "memory");
             },
             true}};
}

std::vector<peak_loop> bounds(const problem& p, std::string_view isa) {
    std::vector<peak_loop> loops;
    double unit = 1; // operations for each byte
    if (p.elementwise()) {
        const auto bytes = static_cast<std::size_t>(p.bytes());
        loops = bytes <= cache_bytes(2) ? read_peaks(isa, bytes) : copy_peaks(isa, bytes);
        unit = p.operations() / p.bytes();
    } else if (!p.has_weights()) {
        return loops;
    } else if (p.op == operation::gemm && p.m <= 8) {
        loops = read_peaks(isa, static_cast<std::size_t>(p.n) * static_cast<std::size_t>(p.k));
        unit = 2.0 * static_cast<double>(p.m);
    }
    for (peak_loop& l : loops) l.amount *= unit;
    if (peak_loop one = product_peak(isa, p.weight_bits == 7); p.has_weights() && !one.name.empty())
        loops.push_back(std::move(one));
    return loops;
}

bound tightest(std::span<const peak_loop> loops, std::span<const timing> times, int threads) {
    bound memory, products;
    for (std::size_t i = 0; i < loops.size(); ++i) {
        bound& b = loops[i].memory ? memory : products;
        const double gops = loops[i].amount / times[i].best / 1e9 * (loops[i].memory ? 1 : threads);
        if (gops > b.gops) b = {loops[i].name, gops};
    }
    if (memory.gops == 0 || products.gops == 0) return memory.gops == 0 ? products : memory;
    return memory.gops < products.gops ? memory : products;
}

} // namespace bench
