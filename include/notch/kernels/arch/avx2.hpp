// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/arch/avx2.hpp: the operations of AVX2.
//
// AVX2 has no exact product of four bytes: vpmaddubsw saturates its pairs at 16 bits. The exact
// path splits bytes into even and odd 16-bit lanes and uses vpmaddwd; vpmaddubsw is used only for
// weights for which packing has proved that no pair can saturate.
#pragma once

#include <notch/core/config.hpp>
#include <notch/kernels/args.hpp>
#include <notch/simd/target.hpp>

#if NOTCH_X86_KERNELS
#include <immintrin.h>

NOTCH_TARGET_BEGIN_AVX2
NOTCH_KEYED_BEGIN
namespace arch::avx2 {

#define NOTCH_OP inline __attribute__((always_inline))
#include <notch/kernels/arch/avx256.inl>

inline constexpr const char* gemm_name = "gemm_u8s8_4x16c4__avx2";
inline constexpr bool use_pairs = true;
/// operand_form::wide: most quads of a block of K, bytes from a row's even to its odd part, rows that are
/// widened at a time (32 KiB of weights and up to 51 KiB of rows lie on the stack), rows that repay it.
inline constexpr index_t wide_quads = 128, wide_plane = 4 * wide_quads, wide_rows = 16, wide_least_rows = 8;
inline constexpr int chains_needed = 2; // the chain is vpaddd, latency 1, and an acc16 has two

struct nweights {
    __m256i even, odd; ///< 16-bit lanes
};

template <int NP> constexpr int tile_rows() { return 4; }

/// Bytes 0, 2 and 1, 3 of each dword as 16-bit lanes (for operand_form::pairs the bytes as they are).
struct a_quad {
    __m256i even, odd;
};
struct b_quad {
    __m256i even0, odd0, even1, odd1;
};
NOTCH_OP __m256i broadcast(const std::uint8_t* p) {
    std::int32_t quad;
    __builtin_memcpy(&quad, p, 4);
    return _mm256_set1_epi32(quad);
}
template <operand_form P> NOTCH_OP a_quad split_a(__m256i v) {
    if constexpr (P == operand_form::pairs)
        return {v, v};
    else
        return {_mm256_and_si256(v, _mm256_set1_epi32(0x00ff00ff)), _mm256_srli_epi16(v, 8)};
}
template <operand_form P> NOTCH_OP a_quad load_a(const std::uint8_t* p) {
    if constexpr (P == operand_form::wide)
        return {broadcast(p), broadcast(p + wide_plane)};
    else
        return split_a<P>(broadcast(p));
}
template <operand_form P> NOTCH_OP a_quad set_a(std::uint32_t quad) {
    return split_a<P>(_mm256_set1_epi32(static_cast<std::int32_t>(quad)));
}
NOTCH_OP __m256i even_s8(__m256i v) { return _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8); }
NOTCH_OP __m256i odd_s8(__m256i v) { return _mm256_srai_epi16(v, 8); }
template <operand_form P> NOTCH_OP b_quad load_b(const std::int8_t* p) {
    const __m256i v0 = load256(p), v1 = load256(p + 32);
    if constexpr (P == operand_form::pairs)
        return {v0, v0, v1, v1};
    else if constexpr (P == operand_form::wide)
        return {v0, v1, load256(p + 64), load256(p + 96)};
    else
        return {even_s8(v0), odd_s8(v0), even_s8(v1), odd_s8(v1)};
}
NOTCH_OP __m256i madd2(__m256i acc, a_quad a, __m256i even, __m256i odd) {
    return _mm256_add_epi32(_mm256_add_epi32(acc, _mm256_madd_epi16(a.even, even)), _mm256_madd_epi16(a.odd, odd));
}
NOTCH_OP __m256i maddubs(__m256i acc, __m256i a, __m256i b) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)));
}
template <operand_form P> NOTCH_OP void dot(acc16& acc, a_quad a, b_quad b) {
    if constexpr (P == operand_form::pairs) {
        acc.lo = maddubs(acc.lo, a.even, b.even0);
        acc.hi = maddubs(acc.hi, a.even, b.even1);
    } else {
        acc.lo = madd2(acc.lo, a, b.even0, b.odd0);
        acc.hi = madd2(acc.hi, a, b.even1, b.odd1);
    }
}

/// Quads of a panel for operand_form::wide: 128 bytes each, [even0 odd0 even1 odd1]. dst is aligned.
NOTCH_OP void widen_panel(const std::int8_t* src, index_t quads, std::int8_t* dst) {
    for (index_t k = 0; k < quads; ++k, src += 64, dst += 128) {
        const b_quad q = load_b<operand_form::direct>(src);
        auto* to = reinterpret_cast<__m256i*>(dst);
        _mm256_store_si256(to, q.even0);
        _mm256_store_si256(to + 1, q.odd0);
        _mm256_store_si256(to + 2, q.even1);
        _mm256_store_si256(to + 3, q.odd1);
    }
}
/// What makes u8 codes of signed rows, by xor.
using row_flip = __m256i;
NOTCH_OP row_flip make_row_flip(bool flip) { return _mm256_set1_epi8(flip ? -128 : 0); }
NOTCH_OP void store_widened(__m256i v, std::uint8_t* dst) {
    const a_quad q = split_a<operand_form::direct>(v);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst), q.even);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + wide_plane), q.odd);
}
/// Eight quads of a row for operand_form::wide: the even bytes to dst, the odd ones to dst + wide_plane.
NOTCH_OP void widen_quads8(const std::uint8_t* src, row_flip flip, std::uint8_t* dst) {
    store_widened(_mm256_xor_si256(load256(src), flip), dst);
}
/// The same of fewer than eight quads; what fills the vectors has no meaning.
NOTCH_OP void widen_quads(const std::uint8_t* src, index_t quads, row_flip flip, std::uint8_t* dst) {
    store_widened(_mm256_xor_si256(_mm256_maskload_epi32(reinterpret_cast<const int*>(src), first8(quads)), flip), dst);
}
// For products of nibbles (kernels/body/gemm_nibbles.inl).
NOTCH_OP void split_nibbles(nvec v, nvec& low, nvec& high) {
    low = _mm256_and_si256(v, _mm256_set1_epi8(15));
    high = _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(15));
}
/// Sums of two products u8 x s8 as words; may saturate.
NOTCH_OP nvec nmul_bytes(nvec a, nvec w) { return _mm256_maddubs_epi16(a, w); }
NOTCH_OP nvec nadd_words(nvec a, nvec b) { return _mm256_add_epi16(a, b); }
/// The sum of the two words of each dword, times factor.
NOTCH_OP nvec nsum_words(nvec v, short factor) { return _mm256_madd_epi16(v, _mm256_set1_epi16(factor)); }

template <bool Halves> NOTCH_OP nweights load_nweights(const std::int8_t* w) {
    const nvec v = Halves ? repeat_half(load256(w)) : load256(w);
    return {even_s8(v), odd_s8(v)};
}
NOTCH_OP void ndot(nvec& acc, nvec a, nweights w) { acc = madd2(acc, split_a<operand_form::direct>(a), w.even, w.odd); }

#undef NOTCH_OP
} // namespace arch::avx2
NOTCH_KEYED_END
NOTCH_TARGET_END
#endif
