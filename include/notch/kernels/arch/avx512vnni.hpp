// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/arch/avx512vnni.hpp: the operations of AVX-512 with VNNI.
#pragma once

#include <notch/core/config.hpp>
#include <notch/kernels/args.hpp>
#include <notch/simd/target.hpp>

#if NOTCH_X86_KERNELS
#include <immintrin.h>

NOTCH_TARGET_BEGIN_AVX512VNNI
NOTCH_KEYED_BEGIN
namespace arch::avx512vnni {

#define NOTCH_OP inline __attribute__((always_inline))
#include <notch/kernels/arch/avx512.inl>

inline constexpr const char* gemm_name = "gemm_u8s8_6x64c4__avx512vnni";
inline constexpr int max_panels = 4;
inline constexpr bool use_pairs = false; // VNNI is exact and faster
inline constexpr int chains_needed = 8;  // vpdpbusd: latency 4 to 5, one or two a cycle

using nweights = __m512i;
using a_quad = __m512i;
using b_quad = __m512i;

template <int NP> constexpr int tile_rows() { return NP == 4 ? 6 : NP == 3 ? 8 : NP == 2 ? 13 : 12; }

/// One-line asm: g++ 12 copies the accumulator of the intrinsic and spills.
NOTCH_OP void vpdpbusd(__m512i& acc, __m512i a, __m512i b) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
}
template <operand_form P> NOTCH_OP a_quad load_a(const std::uint8_t* p) {
    __m512i v;
    __asm__("vpbroadcastd %1, %0" : "=v"(v) : "m"(*reinterpret_cast<const std::uint8_t(*)[4]>(p)));
    return v;
}
template <operand_form P> NOTCH_OP a_quad set_a(std::uint32_t quad) {
    return _mm512_set1_epi32(static_cast<std::int32_t>(quad));
}
template <operand_form P> NOTCH_OP b_quad load_b(const std::int8_t* p) { return _mm512_loadu_si512(p); }
template <operand_form P> NOTCH_OP void dot(acc16& acc, a_quad a, b_quad b) { vpdpbusd(acc, a, b); }

template <bool Halves> NOTCH_OP nweights load_nweights(const std::int8_t* w) {
    const nvec v = _mm512_loadu_si512(w);
    return Halves ? repeat_half(v) : v;
}
NOTCH_OP void ndot(nvec& acc, nvec a, nweights w) { vpdpbusd(acc, a, w); }

#undef NOTCH_OP
} // namespace arch::avx512vnni
NOTCH_KEYED_END
NOTCH_TARGET_END
#endif
