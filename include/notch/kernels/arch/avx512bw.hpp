// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/arch/avx512bw.hpp: the operations of AVX-512 without VNNI (Skylake-X). The exact
// product is vpmaddwd on bytes widened to 16 bits, as with AVX2; vpmaddubsw only where packing has
// proved that it cannot saturate.
#pragma once

#include <notch/core/config.hpp>
#include <notch/kernels/args.hpp>
#include <notch/simd/target.hpp>

#if NOTCH_X86_KERNELS
#include <immintrin.h>

NOTCH_TARGET_BEGIN_AVX512BW
NOTCH_KEYED_BEGIN
namespace arch::avx512bw {

#define NOTCH_OP static inline __attribute__((always_inline))
#include <notch/kernels/arch/avx512.inl>

inline constexpr const char* gemm_name = "gemm_u8s8_4x64c4__avx512bw";
inline constexpr bool use_pairs = true;
inline constexpr int chains_needed = 2; // the chain is vpaddd, latency 1

/// Bytes 0, 2 and 1, 3 of each dword as 16-bit lanes (or, for the safe path, the bytes as they are).
struct a_quad {
    __m512i even, odd;
};
using b_quad = a_quad;
using nweights = a_quad;

template <int NP> constexpr int tile_rows() { return NP == 4 ? 4 : NP == 3 ? 5 : NP == 2 ? 8 : 12; }

template <bool Safe> NOTCH_OP a_quad split_a(__m512i v) {
    if constexpr (Safe) return {v, v};
    else return {_mm512_and_si512(v, _mm512_set1_epi32(0x00ff00ff)), _mm512_srli_epi16(v, 8)};
}
template <bool Safe> NOTCH_OP a_quad load_a(const std::uint8_t* p) {
    std::int32_t quad;
    __builtin_memcpy(&quad, p, 4);
    return split_a<Safe>(_mm512_set1_epi32(quad));
}
template <bool Safe> NOTCH_OP a_quad set_a(std::uint32_t quad) {
    return split_a<Safe>(_mm512_set1_epi32(static_cast<std::int32_t>(quad)));
}
NOTCH_OP b_quad split_b(__m512i v) {
    return {_mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8), _mm512_srai_epi16(v, 8)};
}
template <bool Safe> NOTCH_OP b_quad load_b(const std::int8_t* p) {
    const __m512i v = _mm512_loadu_si512(p);
    if constexpr (Safe) return {v, v};
    else return split_b(v);
}
template <bool Safe> NOTCH_OP void dot(acc16& acc, a_quad a, b_quad b) {
    if constexpr (Safe)
        acc = add(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(a.even, b.even), _mm512_set1_epi16(1)));
    else
        acc = add(add(acc, _mm512_madd_epi16(a.even, b.even)), _mm512_madd_epi16(a.odd, b.odd));
}
template <bool Halves> NOTCH_OP nweights load_nweights(const std::int8_t* w) {
    const nvec v = _mm512_loadu_si512(w);
    return split_b(Halves ? repeat_half(v) : v);
}
NOTCH_OP void ndot(nvec& acc, nvec a, nweights w) { dot<false>(acc, split_a<false>(a), w); }

#undef NOTCH_OP
} // namespace arch::avx512bw
NOTCH_KEYED_END
NOTCH_TARGET_END
#endif
