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

#define NOTCH_OP inline __attribute__((always_inline))
#include <notch/kernels/arch/avx512.inl>

inline constexpr const char* gemm_name = "gemm_u8s8_12x16c4__avx512bw";
inline constexpr int max_panels = 1; // twelve rows; fewer kernels to compile
inline constexpr bool use_pairs = true;
/// As for AVX2.
inline constexpr index_t wide_quads = 128, wide_plane = 4 * wide_quads, wide_rows = 24, wide_least_rows = 8;
inline constexpr int chains_needed = 2; // the chain is vpaddd, latency 1

/// Bytes 0, 2 and 1, 3 of each dword as 16-bit lanes (for operand_form::pairs the bytes as they are).
struct a_quad {
    __m512i even, odd;
};
using b_quad = a_quad;
using nweights = a_quad;

template <int NP> constexpr int tile_rows() { return 12; }

NOTCH_OP __m512i broadcast(const std::uint8_t* p) {
    std::int32_t quad;
    __builtin_memcpy(&quad, p, 4);
    return _mm512_set1_epi32(quad);
}
template <operand_form P> NOTCH_OP a_quad split_a(__m512i v) {
    if constexpr (P == operand_form::pairs)
        return {v, v};
    else
        return {_mm512_and_si512(v, _mm512_set1_epi32(0x00ff00ff)), _mm512_srli_epi16(v, 8)};
}
template <operand_form P> NOTCH_OP a_quad load_a(const std::uint8_t* p) {
    if constexpr (P == operand_form::wide)
        return {broadcast(p), broadcast(p + wide_plane)};
    else
        return split_a<P>(broadcast(p));
}
template <operand_form P> NOTCH_OP a_quad set_a(std::uint32_t quad) {
    return split_a<P>(_mm512_set1_epi32(static_cast<std::int32_t>(quad)));
}
NOTCH_OP b_quad split_b(__m512i v) { return {_mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8), _mm512_srai_epi16(v, 8)}; }
template <operand_form P> NOTCH_OP b_quad load_b(const std::int8_t* p) {
    const __m512i v = _mm512_loadu_si512(p);
    if constexpr (P == operand_form::pairs)
        return {v, v};
    else if constexpr (P == operand_form::wide)
        return {v, _mm512_loadu_si512(p + 64)};
    else
        return split_b(v);
}
template <operand_form P> NOTCH_OP void dot(acc16& acc, a_quad a, b_quad b) {
    if constexpr (P == operand_form::pairs)
        acc = add(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(a.even, b.even), _mm512_set1_epi16(1)));
    else
        acc = add(add(acc, _mm512_madd_epi16(a.even, b.even)), _mm512_madd_epi16(a.odd, b.odd));
}

/// Quads of a panel for operand_form::wide: 128 bytes each, [even odd]. dst is aligned.
NOTCH_OP void widen_panel(const std::int8_t* src, index_t quads, std::int8_t* dst) {
    for (index_t k = 0; k < quads; ++k, src += 64, dst += 128) {
        const b_quad q = split_b(_mm512_loadu_si512(src));
        _mm512_store_si512(dst, q.even);
        _mm512_store_si512(dst + 64, q.odd);
    }
}
/// What makes u8 codes of signed rows, by xor.
using row_flip = __m256i;
NOTCH_OP row_flip make_row_flip(bool flip) { return _mm256_set1_epi8(flip ? -128 : 0); }
NOTCH_OP void store_widened(__m256i v, std::uint8_t* dst) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst), _mm256_and_si256(v, _mm256_set1_epi32(0x00ff00ff)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + wide_plane), _mm256_srli_epi16(v, 8));
}
/// Eight quads of a row for operand_form::wide: the even bytes to dst, the odd ones to dst + wide_plane.
NOTCH_OP void widen_quads8(const std::uint8_t* src, row_flip flip, std::uint8_t* dst) {
    store_widened(_mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(src)), flip), dst);
}
/// The same of fewer than eight quads; what fills the vectors has no meaning.
NOTCH_OP void widen_quads(const std::uint8_t* src, index_t quads, row_flip flip, std::uint8_t* dst) {
    const __m256i v = _mm256_maskz_loadu_epi32(static_cast<__mmask8>((1u << quads) - 1u), src);
    store_widened(_mm256_xor_si256(v, flip), dst);
}
// For products of nibbles (kernels/body/gemm_nibbles.inl).
NOTCH_OP void split_nibbles(nvec v, nvec& low, nvec& high) {
    low = _mm512_and_si512(v, _mm512_set1_epi8(15));
    high = _mm512_and_si512(_mm512_srli_epi16(v, 4), _mm512_set1_epi8(15));
}
/// Sums of two products u8 x s8 as words; may saturate.
NOTCH_OP nvec nmul_bytes(nvec a, nvec w) { return _mm512_maddubs_epi16(a, w); }
NOTCH_OP nvec nadd_words(nvec a, nvec b) { return _mm512_add_epi16(a, b); }
/// The sum of the two words of each dword, times factor.
NOTCH_OP nvec nsum_words(nvec v, short factor) { return _mm512_madd_epi16(v, _mm512_set1_epi16(factor)); }

template <bool Halves> NOTCH_OP nweights load_nweights(const std::int8_t* w) {
    const nvec v = _mm512_loadu_si512(w);
    return split_b(Halves ? repeat_half(v) : v);
}
NOTCH_OP void ndot(nvec& acc, nvec a, nweights w) {
    dot<operand_form::direct>(acc, split_a<operand_form::direct>(a), w);
}

#undef NOTCH_OP
} // namespace arch::avx512bw
NOTCH_KEYED_END
NOTCH_TARGET_END
#endif
