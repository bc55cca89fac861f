// SPDX-License-Identifier: Apache-2.0
//
// How the matrix product gets its speed, a step at a time: u8 x s8 -> u8 with requantization, one idea a
// version, each checked against the first.
//
//     ladder_gemm [M N K]        GOP/s of every version and the step from one to the next
//
//   1  three loops                      the definition
//   2  rows of both sides               the inner loop runs along K in both operands, the compiler vectorizes
//   3  packed quads and vpdpbusd        four bytes of K for 16 columns lie together: one instruction
//                                       for 64 products, no sum across lanes
//   4  a tile of 6 x 64 in registers    a load of weights serves six rows, a broadcast four panels
//   5  output stage in registers        int32 results never go through memory
//   6  notch::gemm                      the same with any shape, all bounds checked, best set of the CPU
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <notch/kernels/gemm.hpp>
#include <notch/simd/target.hpp>

namespace {

using notch::index_t;

struct problem {
    index_t m, n, k; ///< n a multiple of 64, k of 4, m of 6
    std::vector<std::uint8_t> x, y;
    std::vector<std::int8_t> w, packed; ///< w[n][k]; [n/16][k/4][16][4]
    std::vector<std::int32_t> acc;
    float scale;
};

std::uint8_t code(std::int32_t acc, float scale) {
    const float v = std::nearbyintf(static_cast<float>(acc) * scale);
    return static_cast<std::uint8_t>(v < 0 ? 0 : v > 255 ? 255 : v);
}

void version1(problem& p) {
    for (index_t i = 0; i < p.m; ++i)
        for (index_t j = 0; j < p.n; ++j) {
            std::int32_t sum = 0;
            for (index_t k = 0; k < p.k; ++k)
                sum += p.x[static_cast<std::size_t>(i * p.k + k)] * p.w[static_cast<std::size_t>(j * p.k + k)];
            p.y[static_cast<std::size_t>(i * p.n + j)] = code(sum, p.scale);
        }
}

#if NOTCH_X86_KERNELS
#define LADDER_TARGET __attribute__((target(NOTCH_TARGET_STRING_AVX512VNNI), optimize("O3")))
#else
#define LADDER_TARGET
#endif
#if NOTCH_CLANG
#undef LADDER_TARGET
#define LADDER_TARGET __attribute__((target(NOTCH_TARGET_STRING_AVX512VNNI)))
#endif

LADDER_TARGET void version2(problem& p) {
    for (index_t i = 0; i < p.m; ++i)
        for (index_t j = 0; j < p.n; ++j) {
            const std::uint8_t* x = p.x.data() + i * p.k;
            const std::int8_t* w = p.w.data() + j * p.k;
            std::int32_t sum = 0;
            for (index_t k = 0; k < p.k; ++k) sum += x[k] * w[k];
            p.y[static_cast<std::size_t>(i * p.n + j)] = code(sum, p.scale);
        }
}

#if NOTCH_X86_KERNELS
NOTCH_TARGET_BEGIN_AVX512VNNI

inline __attribute__((always_inline)) void dot(__m512i& acc, __m512i a, __m512i b) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
}
inline __attribute__((always_inline)) __m512i quad(const std::uint8_t* p) {
    __m512i v; // broadcast by the load; the intrinsic would go through a general register
    __asm__("vpbroadcastd %1, %0" : "=v"(v) : "m"(*reinterpret_cast<const std::uint8_t(*)[4]>(p)));
    return v;
}

void version3(problem& p) {
    for (index_t j = 0; j < p.n; j += 16)
        for (index_t i = 0; i < p.m; ++i) {
            __m512i acc = _mm512_setzero_si512();
            const std::int8_t* b = p.packed.data() + j * p.k;
            for (index_t k = 0; k < p.k; k += 4, b += 64)
                dot(acc, quad(p.x.data() + i * p.k + k), _mm512_loadu_si512(b));
            _mm512_storeu_si512(p.acc.data() + i * p.n + j, acc);
        }
    for (std::size_t e = 0; e < p.y.size(); ++e) p.y[e] = code(p.acc[e], p.scale);
}

inline __attribute__((always_inline)) __m512i steps(__m512i acc, __m512 scale) {
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), scale));
}
/// Codes of 64 accumulators: int32 -> float, scaled, -> int32 (round to even) -> 16 bits -> 8 bits. By
/// value: g++ 12 would keep an array that is passed by reference in memory.
inline __attribute__((always_inline)) void store64(std::uint8_t* y, __m512i a, __m512i b, __m512i c, __m512i d,
                                                   __m512 scale) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i ab = _mm512_packs_epi32(steps(a, scale), steps(b, scale));
    const __m512i cd = _mm512_packs_epi32(steps(c, scale), steps(d, scale));
    _mm512_storeu_si512(y, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(ab, cd)));
}

template <bool Codes> void tiles(problem& p) {
    const __m512 scale = _mm512_set1_ps(p.scale);
    for (index_t j = 0; j < p.n; j += 64)
        for (index_t i = 0; i < p.m; i += 6) {
            __m512i acc[6][4];
            NOTCH_UNROLL
            for (int r = 0; r < 6; ++r) {
                NOTCH_UNROLL
                for (int c = 0; c < 4; ++c) acc[r][c] = _mm512_setzero_si512();
            }
            const std::int8_t* b = p.packed.data() + j * p.k;
            const std::uint8_t* x = p.x.data() + i * p.k;
            for (index_t k = 0; k < p.k; k += 4, b += 64, x += 4) {
                __m512i bq[4];
                NOTCH_UNROLL
                for (int c = 0; c < 4; ++c) bq[c] = _mm512_loadu_si512(b + c * 16 * p.k);
                NOTCH_UNROLL
                for (int r = 0; r < 6; ++r) {
                    const __m512i a = quad(x + r * p.k);
                    NOTCH_UNROLL
                    for (int c = 0; c < 4; ++c) dot(acc[r][c], a, bq[c]);
                }
            }
            std::uint8_t* const y = p.y.data() + i * p.n + j;
            NOTCH_UNROLL
            for (int r = 0; r < 6; ++r) {
                if constexpr (Codes) {
                    store64(y + r * p.n, acc[r][0], acc[r][1], acc[r][2], acc[r][3], scale);
                } else {
                    NOTCH_UNROLL
                    for (int c = 0; c < 4; ++c)
                        _mm512_storeu_si512(p.acc.data() + (i + r) * p.n + j + 16 * c, acc[r][c]);
                }
            }
        }
    if constexpr (!Codes)
        for (std::size_t e = 0; e < p.y.size(); ++e) p.y[e] = code(p.acc[e], p.scale);
}
void version4(problem& p) { tiles<false>(p); }
void version5(problem& p) { tiles<true>(p); }

NOTCH_TARGET_END
#endif

} // namespace

int main(int argc, char** argv) {
    problem p;
    p.m = argc > 3 ? std::atol(argv[1]) : 240;
    p.n = argc > 3 ? std::atol(argv[2]) : 256;
    p.k = argc > 3 ? std::atol(argv[3]) : 256;
    if (p.m < 6 || p.n < 64 || p.k < 4 || p.m % 6 || p.n % 64 || p.k % 4 || p.m > 4096 || p.n > 4096 || p.k > 4096) {
        std::fprintf(stderr, "usage: ladder_gemm [M N K], multiples of 6, 64 and 4, at most 4096\n");
        return 1;
    }
    p.x.resize(static_cast<std::size_t>(p.m * p.k));
    p.w.resize(static_cast<std::size_t>(p.n * p.k));
    p.y.resize(static_cast<std::size_t>(p.m * p.n));
    p.acc.resize(p.y.size());
    p.packed.resize(p.w.size());
    p.scale = 1.0f / static_cast<float>(40 * p.k);
    for (std::size_t i = 0; i < p.x.size(); ++i) p.x[i] = static_cast<std::uint8_t>(i * 97 >> 3);
    for (std::size_t i = 0; i < p.w.size(); ++i)
        p.w[i] = static_cast<std::int8_t>(static_cast<int>(i * 89 % 255) - 100);
    for (index_t j = 0; j < p.n; ++j)
        for (index_t k = 0; k < p.k; ++k)
            p.packed[static_cast<std::size_t>(j / 16 * 16 * p.k + k / 4 * 64 + j % 16 * 4 + k % 4)] =
                p.w[static_cast<std::size_t>(j * p.k + k)];

    const auto w = notch::pack({p.w.data(), p.n, p.k});
    const std::vector<float> w_scale{p.scale};
    const auto ep = notch::make_epilogue(w, notch::stage::requantize{{1.0f, 0}, w_scale, {1.0f, 0}});

    version1(p);
    const std::vector<std::uint8_t> expected = p.y;
    double before = 0;
    int wrong = 0;
    const auto run = [&](int number, const char* idea, const auto& version) {
        using clock = std::chrono::steady_clock;
        std::fill(p.y.begin(), p.y.end(), std::uint8_t{0});
        version();
        const bool right = p.y == expected;
        wrong += !right;
        double best = 1e9;
        const auto end = clock::now() + std::chrono::milliseconds(150);
        do {
            const auto begin = clock::now();
            version();
            best = std::min(best, std::chrono::duration<double>(clock::now() - begin).count());
        } while (clock::now() < end);
        const double rate = 2e-9 * static_cast<double>(p.m * p.n * p.k) / best;
        std::printf("%d  %-36s %8.1f GOP/s  %5.2f x  %s\n", number, idea, rate, before > 0 ? rate / before : 1.0,
                    right ? "exact" : "WRONG");
        before = rate;
    };
    run(1, "three loops", [&] { version1(p); });
#if NOTCH_X86_KERNELS
    if (notch::is_available(notch::isa::avx512vnni)) {
        run(2, "along K, vectorized by the compiler", [&] { version2(p); });
        run(3, "packed quads and vpdpbusd", [&] { version3(p); });
        run(4, "tile of 6 x 64 in registers", [&] { version4(p); });
        run(5, "output stage in registers", [&] { version5(p); });
    } else {
        std::printf("2 to 5 not run here: they need AVX-512 VNNI\n");
    }
#endif
    run(6, "notch::gemm", [&] {
        notch::gemm(notch::matrix_view<const std::uint8_t>(p.x.data(), p.m, p.k), w, ep,
                    notch::matrix_view<std::uint8_t>(p.y.data(), p.m, p.n));
    });
    return wrong;
}
