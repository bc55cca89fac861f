// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/lanes.hpp in the region of each instruction set: operations on 16 (AVX-512) or 8
// (AVX2) lanes of 32 bits, that softmax and norm share. Elsewhere their bodies use plain loops.

#define NOTCH_LANES_512 (NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI)
#define NOTCH_LANES_256 (NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI)

#if NOTCH_LANES_512

inline constexpr index_t lane_count = 16;
using vec32 = __m512i;
NOTCH_OP __mmask16 first_lanes(index_t n) { return static_cast<__mmask16>(n >= 16 ? 0xffffu : (1u << n) - 1u); }
NOTCH_OP vec32 set_lanes(std::uint32_t v) { return _mm512_set1_epi32(static_cast<int>(v)); }
NOTCH_OP vec32 set_lanes64(std::uint64_t v) { return _mm512_set1_epi64(static_cast<long long>(v)); }
NOTCH_OP vec32 load_lanes(const std::int32_t* p, index_t n, vec32 fill) {
    return _mm512_mask_loadu_epi32(fill, first_lanes(n), p);
}
NOTCH_OP vec32 load_lanes(const void* p) { return _mm512_loadu_si512(p); }
NOTCH_OP void store_lanes(std::uint32_t* p, vec32 v) { _mm512_storeu_si512(p, v); }
NOTCH_OP vec32 keep_lanes(vec32 v, index_t n) { return _mm512_maskz_mov_epi32(first_lanes(n), v); }
NOTCH_OP vec32 max_s32(vec32 a, vec32 b) { return _mm512_max_epi32(a, b); }
NOTCH_OP vec32 min_u32(vec32 a, vec32 b) { return _mm512_min_epu32(a, b); }
NOTCH_OP vec32 add_32(vec32 a, vec32 b) { return _mm512_add_epi32(a, b); }
NOTCH_OP vec32 sub_32(vec32 a, vec32 b) { return _mm512_sub_epi32(a, b); }
NOTCH_OP vec32 add_64(vec32 a, vec32 b) { return _mm512_add_epi64(a, b); }
NOTCH_OP vec32 mul_even(vec32 a, vec32 b) { return _mm512_mul_epu32(a, b); }
NOTCH_OP vec32 mul_even_signed(vec32 a, vec32 b) { return _mm512_mul_epi32(a, b); }
NOTCH_OP vec32 mul_32(vec32 a, vec32 b) { return _mm512_mullo_epi32(a, b); }
/// 16-bit products of adjacent pairs, added; of lanes whose factor b has a high half of 0, the product.
NOTCH_OP vec32 mul_16(vec32 a, vec32 b) { return _mm512_madd_epi16(a, b); }
/// float(v) * m, rounded to even; below 2^31.
NOTCH_OP vec32 round_product(vec32 v, float m) {
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(v), _mm512_set1_ps(m)));
}
NOTCH_OP vec32 min_s32(vec32 a, vec32 b) { return _mm512_min_epi32(a, b); }
NOTCH_OP vec32 left_64(vec32 v, int n) { return _mm512_sll_epi64(v, _mm_cvtsi32_si128(n)); }
NOTCH_OP vec32 odd_of(vec32 even, vec32 odd) { return _mm512_mask_mov_epi32(even, 0xaaaa, odd); }
/// n bytes (signed, after xor with flip) or s16; lanes past the end are 0 (or what 0 ^ flip is).
NOTCH_OP vec32 load_lanes_s8(const std::uint8_t* p, index_t n, std::uint8_t flip) {
    return _mm512_cvtepi8_epi32(
        _mm_xor_si128(_mm_maskz_loadu_epi8(first_lanes(n), p), _mm_set1_epi8(static_cast<char>(flip))));
}
NOTCH_OP vec32 load_lanes_s16(const std::int16_t* p, index_t n) {
    return _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(first_lanes(n), p));
}
NOTCH_OP void store_lanes16(std::int16_t* p, vec32 v, index_t n) {
    _mm256_mask_storeu_epi16(p, first_lanes(n), _mm512_cvtepi32_epi16(v));
}
NOTCH_OP vec32 and_bits(vec32 a, vec32 b) { return _mm512_and_si512(a, b); }
NOTCH_OP vec32 or_bits(vec32 a, vec32 b) { return _mm512_or_si512(a, b); }
NOTCH_OP vec32 odd_down(vec32 v) { return _mm512_srli_epi64(v, 32); }
NOTCH_OP vec32 odd_up(vec32 v) { return _mm512_slli_epi64(v, 32); }
NOTCH_OP vec32 right_64(vec32 v, int n) { return _mm512_srl_epi64(v, _mm_cvtsi32_si128(n)); }
template <int N> NOTCH_OP vec32 right_32(vec32 v) { return _mm512_srai_epi32(v, N); }
NOTCH_OP vec32 right_each(vec32 v, vec32 n) { return _mm512_srlv_epi32(v, n); }
/// The low bytes of the first n lanes.
NOTCH_OP void store_lanes8(std::uint8_t* p, vec32 v, index_t n) {
    _mm_mask_storeu_epi8(p, first_lanes(n), _mm512_cvtepi32_epi8(v));
}
/// Four times lane_count numbers, saturated to u8 or s8, then kept within lo..hi.
NOTCH_OP void store_packed(std::uint8_t* p, const vec32 (&v)[4], bool is_signed, vec32 lo, vec32 hi) {
    const __m512i ab = _mm512_packs_epi32(v[0], v[1]), cd = _mm512_packs_epi32(v[2], v[3]);
    const __m512i codes = is_signed ? _mm512_min_epi8(_mm512_max_epi8(_mm512_packs_epi16(ab, cd), lo), hi)
                                    : _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(ab, cd), lo), hi);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, codes));
}
/// Four times lane_count numbers, saturated to u8, xor flip.
NOTCH_OP void store_packed(std::uint8_t* p, const vec32 (&v)[4], std::uint8_t flip) {
    const __m512i codes = _mm512_packus_epi16(_mm512_packs_epi32(v[0], v[1]), _mm512_packs_epi32(v[2], v[3]));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_si512(
        p, _mm512_xor_si512(_mm512_permutexvar_epi32(order, codes), _mm512_set1_epi8(static_cast<char>(flip))));
}
NOTCH_OP vec32 set_bytes(std::int32_t v) { return _mm512_set1_epi8(static_cast<char>(v)); }
NOTCH_OP std::uint64_t sum_lanes64(vec32 v) { return static_cast<std::uint64_t>(_mm512_reduce_add_epi64(v)); }
NOTCH_OP std::int32_t max_of_lanes(vec32 v) { return _mm512_reduce_max_epi32(v); }

#elif NOTCH_LANES_256

inline constexpr index_t lane_count = 8;
using vec32 = __m256i;
NOTCH_OP vec32 first_lanes(index_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n < 8 ? n : 8)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
NOTCH_OP vec32 set_lanes(std::uint32_t v) { return _mm256_set1_epi32(static_cast<int>(v)); }
NOTCH_OP vec32 set_lanes64(std::uint64_t v) { return _mm256_set1_epi64x(static_cast<long long>(v)); }
NOTCH_OP vec32 load_lanes(const std::int32_t* p, index_t n, vec32 fill) {
    if (n >= 8) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm256_blendv_epi8(fill, _mm256_maskload_epi32(p, first_lanes(n)), first_lanes(n));
}
NOTCH_OP vec32 load_lanes(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
NOTCH_OP void store_lanes(std::uint32_t* p, vec32 v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
NOTCH_OP vec32 keep_lanes(vec32 v, index_t n) { return n >= 8 ? v : _mm256_and_si256(v, first_lanes(n)); }
NOTCH_OP vec32 max_s32(vec32 a, vec32 b) { return _mm256_max_epi32(a, b); }
NOTCH_OP vec32 min_u32(vec32 a, vec32 b) { return _mm256_min_epu32(a, b); }
NOTCH_OP vec32 add_32(vec32 a, vec32 b) { return _mm256_add_epi32(a, b); }
NOTCH_OP vec32 sub_32(vec32 a, vec32 b) { return _mm256_sub_epi32(a, b); }
NOTCH_OP vec32 add_64(vec32 a, vec32 b) { return _mm256_add_epi64(a, b); }
NOTCH_OP vec32 mul_even(vec32 a, vec32 b) { return _mm256_mul_epu32(a, b); }
NOTCH_OP vec32 mul_even_signed(vec32 a, vec32 b) { return _mm256_mul_epi32(a, b); }
NOTCH_OP vec32 mul_32(vec32 a, vec32 b) { return _mm256_mullo_epi32(a, b); }
NOTCH_OP vec32 mul_16(vec32 a, vec32 b) { return _mm256_madd_epi16(a, b); }
NOTCH_OP vec32 round_product(vec32 v, float m) {
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(v), _mm256_set1_ps(m)));
}
NOTCH_OP vec32 min_s32(vec32 a, vec32 b) { return _mm256_min_epi32(a, b); }
NOTCH_OP vec32 left_64(vec32 v, int n) { return _mm256_sll_epi64(v, _mm_cvtsi32_si128(n)); }
NOTCH_OP vec32 odd_of(vec32 even, vec32 odd) { return _mm256_blend_epi32(even, odd, 0xaa); }
NOTCH_OP vec32 load_lanes_s8(const std::uint8_t* p, index_t n, std::uint8_t flip) {
    __m128i bytes;
    if (n >= 8) {
        bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    } else {
        std::uint8_t copy[8] = {};
        for (index_t i = 0; i < n; ++i) copy[i] = p[i];
        bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(copy));
    }
    return _mm256_cvtepi8_epi32(_mm_xor_si128(bytes, _mm_set1_epi8(static_cast<char>(flip))));
}
NOTCH_OP vec32 load_lanes_s16(const std::int16_t* p, index_t n) {
    if (n >= 8) return _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    std::int16_t copy[8] = {};
    for (index_t i = 0; i < n; ++i) copy[i] = p[i];
    return _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(copy)));
}
NOTCH_OP void store_lanes16(std::int16_t* p, vec32 v, index_t n) {
    const __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    if (n >= 8) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), w);
        return;
    }
    std::int16_t copy[8];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(copy), w);
    for (index_t i = 0; i < n; ++i) p[i] = copy[i];
}
NOTCH_OP vec32 and_bits(vec32 a, vec32 b) { return _mm256_and_si256(a, b); }
NOTCH_OP vec32 or_bits(vec32 a, vec32 b) { return _mm256_or_si256(a, b); }
NOTCH_OP vec32 odd_down(vec32 v) { return _mm256_srli_epi64(v, 32); }
NOTCH_OP vec32 odd_up(vec32 v) { return _mm256_slli_epi64(v, 32); }
NOTCH_OP vec32 right_64(vec32 v, int n) { return _mm256_srl_epi64(v, _mm_cvtsi32_si128(n)); }
template <int N> NOTCH_OP vec32 right_32(vec32 v) { return _mm256_srai_epi32(v, N); }
NOTCH_OP vec32 right_each(vec32 v, vec32 n) { return _mm256_srlv_epi32(v, n); }
NOTCH_OP void store_lanes8(std::uint8_t* p, vec32 v, index_t n) {
    v = _mm256_and_si256(v, _mm256_set1_epi32(255));
    const __m128i w = _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    const __m128i b = _mm_packus_epi16(w, w);
    if (n >= 8) {
        _mm_storel_epi64(reinterpret_cast<__m128i*>(p), b);
        return;
    }
    std::uint8_t copy[8];
    _mm_storel_epi64(reinterpret_cast<__m128i*>(copy), b);
    for (index_t i = 0; i < n; ++i) p[i] = copy[i];
}
NOTCH_OP void store_packed(std::uint8_t* p, const vec32 (&v)[4], bool is_signed, vec32 lo, vec32 hi) {
    const __m256i ab = _mm256_packs_epi32(v[0], v[1]), cd = _mm256_packs_epi32(v[2], v[3]);
    const __m256i codes = is_signed ? _mm256_min_epi8(_mm256_max_epi8(_mm256_packs_epi16(ab, cd), lo), hi)
                                    : _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(ab, cd), lo), hi);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
}
NOTCH_OP void store_packed(std::uint8_t* p, const vec32 (&v)[4], std::uint8_t flip) {
    const __m256i codes = _mm256_packus_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_xor_si256(_mm256_permutevar8x32_epi32(codes, order),
                                                                        _mm256_set1_epi8(static_cast<char>(flip))));
}
NOTCH_OP vec32 set_bytes(std::int32_t v) { return _mm256_set1_epi8(static_cast<char>(v)); }
NOTCH_OP std::uint64_t sum_lanes64(vec32 v) {
    std::uint64_t l[4];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(l), v);
    return l[0] + l[1] + l[2] + l[3];
}
NOTCH_OP std::int32_t max_of_lanes(vec32 v) {
    std::int32_t l[8];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(l), v);
    std::int32_t top = l[0];
    for (int i = 1; i < 8; ++i) top = l[i] > top ? l[i] : top;
    return top;
}

#endif

#undef NOTCH_LANES_256
#undef NOTCH_LANES_512
