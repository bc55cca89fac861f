// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/arch/avxvnni.hpp: the operations of AVX2 with AVX-VNNI, the VEX form of vpdpbusd
// (Alder Lake and later without AVX-512). Tests that define NOTCH_AVXVNNI_AS_EVEX get the EVEX form
// of the same instruction on the same registers, which CPUs with AVX-512 VNNI run.
#pragma once

#include <notch/core/config.hpp>
#include <notch/kernels/args.hpp>
#include <notch/simd/target.hpp>

#if NOTCH_X86_KERNELS
#include <immintrin.h>

NOTCH_TARGET_BEGIN_AVXVNNI
NOTCH_KEYED_BEGIN
namespace arch::avxvnni {

#define NOTCH_OP inline __attribute__((always_inline))
#include <notch/kernels/arch/avx256.inl>

inline constexpr const char* gemm_name = "gemm_u8s8_6x16c4__avxvnni";
inline constexpr bool use_pairs = false; // vpdpbusd is exact and faster
inline constexpr int chains_needed = 5;  // vpdpbusd: latency 4 to 5, two a cycle; an acc16 has two

using nweights = __m256i;
using a_quad = __m256i;
struct b_quad {
    __m256i lo, hi;
};

template <int NP> constexpr int tile_rows() { return 6; }

/// One-line asm: g++ 12 copies the accumulator of the intrinsic and spills.
NOTCH_OP void vpdpbusd(__m256i& acc, __m256i a, __m256i b) {
#if defined(NOTCH_AVXVNNI_AS_EVEX)
    __asm__("%{evex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(a), "x"(b));
#else
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(a), "x"(b));
#endif
}
template <operand_form P> NOTCH_OP a_quad load_a(const std::uint8_t* p) {
    __m256i v;
    __asm__("vpbroadcastd %1, %0" : "=x"(v) : "m"(*reinterpret_cast<const std::uint8_t(*)[4]>(p)));
    return v;
}
template <operand_form P> NOTCH_OP a_quad set_a(std::uint32_t quad) {
    return _mm256_set1_epi32(static_cast<std::int32_t>(quad));
}
template <operand_form P> NOTCH_OP b_quad load_b(const std::int8_t* p) { return {load256(p), load256(p + 32)}; }
template <operand_form P> NOTCH_OP void dot(acc16& acc, a_quad a, b_quad b) {
    vpdpbusd(acc.lo, a, b.lo);
    vpdpbusd(acc.hi, a, b.hi);
}
template <bool Halves> NOTCH_OP nweights load_nweights(const std::int8_t* w) {
    return Halves ? repeat_half(load256(w)) : load256(w);
}
NOTCH_OP void ndot(nvec& acc, nvec a, nweights w) { vpdpbusd(acc, a, w); }

#undef NOTCH_OP
} // namespace arch::avxvnni
NOTCH_KEYED_END
NOTCH_TARGET_END
#endif
