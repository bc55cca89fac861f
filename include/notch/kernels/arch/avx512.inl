// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/arch/avx512bw.hpp and avx512vnni.hpp inside their regions: what both have in
// common, everything but the products of bytes.

inline constexpr int byte_width = 64;

using acc16 = __m512i;
using f32x16 = __m512;
using nvec = __m512i;
using nfloat = __m512;

NOTCH_OP __mmask16 first16(index_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
NOTCH_OP __mmask64 first64(index_t n) { return n >= 64 ? ~0ull : (1ull << n) - 1ull; }

// --- 16 lanes of int32 and float -------------------------------------------------------------

NOTCH_OP acc16 set_s32(std::int32_t v) { return _mm512_set1_epi32(v); }
NOTCH_OP f32x16 set_f32(float v) { return _mm512_set1_ps(v); }
NOTCH_OP acc16 load_s32(const std::int32_t* p) { return _mm512_loadu_si512(p); }
NOTCH_OP acc16 load_s32(const std::int32_t* p, index_t n) { return _mm512_maskz_loadu_epi32(first16(n), p); }
NOTCH_OP f32x16 load_f32(const float* p) { return _mm512_loadu_ps(p); }
NOTCH_OP f32x16 load_f32(const float* p, index_t n) { return _mm512_maskz_loadu_ps(first16(n), p); }
NOTCH_OP acc16 load_u8(const std::uint8_t* p, index_t n) {
    return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first16(n), p));
}
NOTCH_OP acc16 load_s8(const std::uint8_t* p, index_t n) {
    return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first16(n), p));
}
NOTCH_OP void store_s32(std::int32_t* p, acc16 v, index_t n) { _mm512_mask_storeu_epi32(p, first16(n), v); }
/// The bits of the lanes, whatever type of four bytes stands at p.
NOTCH_OP void store_bits(void* p, acc16 v, index_t n) { _mm512_mask_storeu_epi32(p, first16(n), v); }
NOTCH_OP void store_f32(float* p, f32x16 v, index_t n) { _mm512_mask_storeu_ps(p, first16(n), v); }
/// The low byte of each lane.
NOTCH_OP void store_bytes(std::uint8_t* p, acc16 v, index_t n) {
    _mm_mask_storeu_epi8(p, first16(n), _mm512_cvtepi32_epi8(v));
}
/// The low half of each lane.
NOTCH_OP void store_words(std::uint16_t* p, acc16 v, index_t n) {
    _mm256_mask_storeu_epi16(p, first16(n), _mm512_cvtepi32_epi16(v));
}
NOTCH_OP f32x16 to_f32(acc16 v) { return _mm512_cvtepi32_ps(v); }
NOTCH_OP acc16 to_s32(f32x16 v) { return _mm512_cvtps_epi32(v); }
NOTCH_OP f32x16 mul(f32x16 a, f32x16 b) { return _mm512_mul_ps(a, b); }
NOTCH_OP f32x16 div(f32x16 a, f32x16 b) { return _mm512_div_ps(a, b); }
NOTCH_OP f32x16 min(f32x16 a, f32x16 b) { return _mm512_min_ps(a, b); }
NOTCH_OP f32x16 max(f32x16 a, f32x16 b) { return _mm512_max_ps(a, b); }
NOTCH_OP acc16 add(acc16 a, acc16 b) { return _mm512_add_epi32(a, b); }
NOTCH_OP acc16 sub(acc16 a, acc16 b) { return _mm512_sub_epi32(a, b); }
/// Modulo 2^32.
NOTCH_OP acc16 mul_s32(acc16 a, acc16 b) { return _mm512_mullo_epi32(a, b); }
NOTCH_OP acc16 and_s32(acc16 a, acc16 b) { return _mm512_and_si512(a, b); }
NOTCH_OP acc16 high_half(acc16 a) { return _mm512_srli_epi32(a, 16); }
NOTCH_OP acc16 bits_of(f32x16 v) { return _mm512_castps_si512(v); }
/// a + b, where a is a product: the barrier keeps the compiler from contracting both to an FMA.
NOTCH_OP f32x16 add_rounded(f32x16 a, f32x16 b) {
    __asm__("" : "+v"(a));
    return _mm512_add_ps(a, b);
}
NOTCH_OP f32x16 round(f32x16 v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
NOTCH_OP f32x16 nan_to_zero(f32x16 v) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v, v, _CMP_ORD_Q), v); }
/// v where it is finite, else otherwise.
NOTCH_OP f32x16 finite_or(f32x16 v, f32x16 otherwise) {
    return _mm512_mask_mov_ps(otherwise, _mm512_cmp_ps_mask(_mm512_sub_ps(v, v), _mm512_setzero_ps(), _CMP_EQ_OQ), v);
}
/// 1 where lo <= y <= hi (and v > 0 instead of lo <= y, if positive), else 0.
NOTCH_OP acc16 in_range(f32x16 y, f32x16 lo, f32x16 hi, acc16 v, bool positive) {
    const __mmask16 low =
        positive ? _mm512_cmpgt_epi32_mask(v, _mm512_setzero_si512()) : _mm512_cmp_ps_mask(y, lo, _CMP_GE_OQ);
    return _mm512_maskz_set1_epi32(_mm512_mask_cmp_ps_mask(low, y, hi, _CMP_LE_OQ), 1);
}
/// requantize_fixed_double of zero point 0: min(max(divide_by_pot(doubling_high_mul(v << left, mantissa), right), lo),
/// hi), left and right being the shift by its sign; mantissas are not negative. doubling_high_mul is
/// floor((product + 2^30) / 2^31), for products of either sign.
NOTCH_OP acc16 fixed_steps(acc16 v, acc16 mantissa, acc16 shift, acc16 lo, acc16 hi) {
    const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi32(1), half = _mm512_set1_epi64(1 << 30);
    const __m512i right = _mm512_max_epi32(_mm512_sub_epi32(zero, shift), zero);
    const __m512i x = _mm512_sllv_epi32(v, _mm512_max_epi32(shift, zero));
    const __m512i even = _mm512_srli_epi64(_mm512_add_epi64(_mm512_mul_epi32(x, mantissa), half), 31);
    const __m512i odd = _mm512_slli_epi64(
        _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(x, 32), _mm512_srli_epi64(mantissa, 32)), half), 1);
    const __m512i high = _mm512_mask_mov_epi32(even, 0xaaaa, odd);
    const __m512i below = _mm512_sub_epi32(_mm512_sllv_epi32(one, right), one);
    const __m512i threshold = _mm512_sub_epi32(_mm512_srli_epi32(below, 1), _mm512_srai_epi32(high, 31));
    const __m512i whole = _mm512_srav_epi32(high, right);
    const __m512i y =
        _mm512_mask_add_epi32(whole, _mm512_cmpgt_epi32_mask(_mm512_and_si512(high, below), threshold), whole, one);
    return _mm512_min_epi32(_mm512_max_epi32(y, lo), hi);
}
/// Without clamp, for |v| < 2^30 and shifts of -31..0 (epilogue_args::bounded): v is doubled, so that the high half of
/// a product is the result of its rounding, and halves are added before one shift.
struct round_factors {
    __m512i mantissa, odd, right, half;
    __mmask16 shifts; ///< where right > 0, and half a step more is a tie that goes away from 0
};
NOTCH_OP round_factors make_factors(acc16 mantissa, acc16 shift) {
    const __m512i right = _mm512_sub_epi32(_mm512_setzero_si512(), shift);
    return {mantissa, _mm512_srli_epi64(mantissa, 32), right,
            _mm512_srli_epi32(_mm512_sllv_epi32(_mm512_set1_epi32(1), right), 1), _mm512_test_epi32_mask(right, right)};
}
NOTCH_OP acc16 rounded_steps(acc16 v, const round_factors& f) {
    const __m512i half = _mm512_set1_epi64(std::int64_t{1} << 31), x = _mm512_add_epi32(v, v);
    const __m512i even = _mm512_add_epi64(_mm512_mul_epi32(x, f.mantissa), half);
    const __m512i odd = _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(x, 32), f.odd), half);
    const __m512i high = _mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xaaaa, odd);
    return _mm512_srav_epi32(
        _mm512_add_epi32(_mm512_add_epi32(high, f.half), _mm512_maskz_srai_epi32(f.shifts, high, 31)), f.right);
}
/// a * low half of w + b * high half of w; a, b in 0..255.
NOTCH_OP acc16 mul_pairs(acc16 a, acc16 b, acc16 w) {
    return _mm512_madd_epi16(_mm512_or_si512(a, _mm512_slli_epi32(b, 16)), w);
}

/// clamp(float(v) * m + bias) as bits where the mask says so, else v.
using float_mask = __mmask16;
NOTCH_OP float_mask make_float_mask(bool floats) { return static_cast<float_mask>(floats ? 0xffff : 0); }
NOTCH_OP acc16 floats_or_sums(acc16 v, const float* m, const float* bias, float lo, float hi, float_mask floats) {
    __m512 y = add_rounded(_mm512_mul_ps(_mm512_cvtepi32_ps(v), _mm512_loadu_ps(m)), _mm512_loadu_ps(bias));
    y = _mm512_min_ps(_mm512_max_ps(y, _mm512_set1_ps(lo)), _mm512_set1_ps(hi));
    return _mm512_mask_mov_epi32(v, floats, _mm512_castps_si512(y));
}

// --- the register path of the epilogue ---------------------------------------------------------

struct code_stage {
    __m512i zero_point, order, lo, hi;
    bool is_u8, full;
};
NOTCH_OP code_stage make_stage(const epilogue_args& ep) {
    code_stage s;
    s.zero_point = _mm512_set1_epi16(static_cast<short>(ep.zero_point));
    s.order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    s.lo = _mm512_set1_epi8(static_cast<char>(ep.lo));
    s.hi = _mm512_set1_epi8(static_cast<char>(ep.hi));
    s.is_u8 = ep.store == store_kind::u8;
    s.full = s.is_u8 ? ep.lo == 0 && ep.hi == 255 : ep.lo == -128 && ep.hi == 127;
    return s;
}
/// float(acc) * multiplier, rounded to even; the products are bounded (see epilogue_args).
NOTCH_OP __m512i scale_round(__m512i acc, __m512 multiplier) {
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier));
}
/// Four vectors of steps -> 64 codes, lane by lane: 16-byte lane l holds dwords l of a, b, c, d.
NOTCH_OP __m512i pack_codes(__m512i a, __m512i b, __m512i c, __m512i d, const code_stage& s) {
    const __m512i ab = _mm512_adds_epi16(_mm512_packs_epi32(a, b), s.zero_point);
    const __m512i cd = _mm512_adds_epi16(_mm512_packs_epi32(c, d), s.zero_point);
    if (s.is_u8) {
        const __m512i v = _mm512_packus_epi16(ab, cd);
        return s.full ? v : _mm512_min_epu8(_mm512_max_epu8(v, s.lo), s.hi);
    }
    const __m512i v = _mm512_packs_epi16(ab, cd);
    return s.full ? v : _mm512_min_epi8(_mm512_max_epi8(v, s.lo), s.hi);
}

/// All MR x NP vectors of a tile, four at a time: one row of four panels, two rows of two, ...
template <int MR, int NP>
NOTCH_OP void store_codes(const epilogue_args& ep, const code_stage& stage, __m512i (&acc)[MR][NP], index_t channel,
                          index_t cols, std::uint8_t* c, index_t ldc) {
    __m512 m[NP];
    NOTCH_UNROLL
    for (int j = 0; j < NP; ++j) m[j] = _mm512_loadu_ps(ep.multiplier + channel + 16 * j);
    constexpr int per = NP == 1 ? 4 : NP == 2 ? 2 : 1; // rows of one packed vector
    NOTCH_UNROLL
    for (int i = 0; i < MR; i += per) {
        __m512i v[4];
        NOTCH_UNROLL
        for (int q = 0; q < 4; ++q) {
            const int row = i + (NP >= 3 ? 0 : q / NP), panel = NP >= 3 ? (q < NP ? q : NP - 1) : q % NP;
            const int r = row < MR ? row : MR - 1;
            v[q] = scale_round(acc[r][panel], m[panel]);
        }
        const __m512i codes = _mm512_permutexvar_epi32(stage.order, pack_codes(v[0], v[1], v[2], v[3], stage));
        std::uint8_t* p = c + i * ldc;
        if (NP == 4 && cols >= 64) {
            _mm512_storeu_si512(p, codes);
        } else if constexpr (NP >= 3) {
            _mm512_mask_storeu_epi8(p, first64(cols < 16 * NP ? cols : 16 * NP), codes);
        } else if (MR % per == 0 && cols == 16 * NP && ldc == 16 * NP) { // the rows are one behind the other
            _mm512_storeu_si512(p, codes);
        } else if (NP == 2 && cols >= 32) {
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_castsi512_si256(codes));
            if (i + 1 < MR)
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + ldc), _mm512_extracti64x4_epi64(codes, 1));
        } else if (NP == 1 && cols >= 16) {
            _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_castsi512_si128(codes));
            if (i + 1 < MR) _mm_storeu_si128(reinterpret_cast<__m128i*>(p + ldc), _mm512_extracti32x4_epi32(codes, 1));
            if (i + 2 < MR)
                _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 2 * ldc), _mm512_extracti32x4_epi32(codes, 2));
            if (i + 3 < MR)
                _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 3 * ldc), _mm512_extracti32x4_epi32(codes, 3));
        } else if constexpr (NP == 2) {
            const auto mask = static_cast<__mmask32>(first64(cols < 32 ? cols : 32));
            _mm256_mask_storeu_epi8(p, mask, _mm512_castsi512_si256(codes));
            if (i + 1 < MR) _mm256_mask_storeu_epi8(p + ldc, mask, _mm512_extracti64x4_epi64(codes, 1));
        } else {
            const __mmask16 mask = first16(cols < 16 ? cols : 16);
            _mm_mask_storeu_epi8(p, mask, _mm512_castsi512_si128(codes));
            if (i + 1 < MR) _mm_mask_storeu_epi8(p + ldc, mask, _mm512_extracti32x4_epi32(codes, 1));
            if (i + 2 < MR) _mm_mask_storeu_epi8(p + 2 * ldc, mask, _mm512_extracti32x4_epi32(codes, 2));
            if (i + 3 < MR) _mm_mask_storeu_epi8(p + 3 * ldc, mask, _mm512_extracti32x4_epi32(codes, 3));
        }
    }
}

// --- native vectors of bytes -------------------------------------------------------------------

template <bool Full> NOTCH_OP nvec load_nbytes(const std::uint8_t* p, index_t n) {
    if constexpr (Full)
        return _mm512_loadu_si512(p);
    else
        return _mm512_maskz_loadu_epi8(first64(n), p);
}
template <bool Full> NOTCH_OP void store_nbytes(std::uint8_t* p, nvec v, index_t n) {
    if constexpr (Full)
        _mm512_storeu_si512(p, v);
    else
        _mm512_mask_storeu_epi8(p, first64(n), v);
}
NOTCH_OP nvec load_halves(const std::uint8_t* p, const std::uint8_t* q, index_t n) {
    const auto mask = static_cast<__mmask32>(first64(n));
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_maskz_loadu_epi8(mask, p)),
                              _mm256_maskz_loadu_epi8(mask, q), 1);
}
NOTCH_OP void store_halves(std::uint8_t* p, std::uint8_t* q, nvec v, index_t n) {
    const auto mask = static_cast<__mmask32>(first64(n));
    _mm256_mask_storeu_epi8(p, mask, _mm512_castsi512_si256(v));
    _mm256_mask_storeu_epi8(q, mask, _mm512_extracti64x4_epi64(v, 1));
}
/// Each byte plus 128: s8 codes become u8.
NOTCH_OP nvec nflip(nvec v) { return _mm512_xor_si512(v, _mm512_set1_epi8(-128)); }
/// sum + the sum of the bytes, in some of the lanes of 64 bits.
NOTCH_OP nvec nsum_bytes(nvec sum, nvec v) { return _mm512_add_epi64(sum, _mm512_sad_epu8(v, _mm512_setzero_si512())); }
NOTCH_OP std::int32_t nsum_lanes(nvec v) { return static_cast<std::int32_t>(_mm512_reduce_add_epi64(v)); }
NOTCH_OP nvec nmax_u8(nvec a, nvec b) { return _mm512_max_epu8(a, b); }
NOTCH_OP nvec load_n32(const std::int32_t* p) { return _mm512_loadu_si512(p); }
NOTCH_OP nfloat load_n32(const float* p) { return _mm512_loadu_ps(p); }
NOTCH_OP nvec repeat_half(nvec v) { return _mm512_shuffle_i64x2(v, v, 0x44); }
NOTCH_OP nfloat repeat_half(nfloat v) { return _mm512_shuffle_f32x4(v, v, 0x44); }
NOTCH_OP void store_n32(std::int32_t* p, nvec v) { _mm512_storeu_si512(p, v); }
NOTCH_OP void interleave(nvec (&t)[4]) {
    const __m512i l01 = _mm512_unpacklo_epi8(t[0], t[1]), h01 = _mm512_unpackhi_epi8(t[0], t[1]);
    const __m512i l23 = _mm512_unpacklo_epi8(t[2], t[3]), h23 = _mm512_unpackhi_epi8(t[2], t[3]);
    t[0] = _mm512_unpacklo_epi16(l01, l23);
    t[1] = _mm512_unpackhi_epi16(l01, l23);
    t[2] = _mm512_unpacklo_epi16(h01, h23);
    t[3] = _mm512_unpackhi_epi16(h01, h23);
}
/// In each dword: byte 0 * low half of w + byte 2 * high half of w; bytes 1 and 3 are 0.
NOTCH_OP nvec nmul_pairs(nvec v, std::int32_t w) { return _mm512_madd_epi16(v, _mm512_set1_epi32(w)); }
NOTCH_OP nvec set_n32(std::int32_t v) { return _mm512_set1_epi32(v); }
NOTCH_OP nfloat set_nfloat(float v) { return _mm512_set1_ps(v); }
NOTCH_OP nvec nadd(nvec a, nvec b) { return _mm512_add_epi32(a, b); }
NOTCH_OP nvec pack_ncodes(const epilogue_args& ep, const nvec (&acc)[4], const nfloat (&m)[4]) {
    return pack_codes(scale_round(acc[0], m[0]), scale_round(acc[1], m[1]), scale_round(acc[2], m[2]),
                      scale_round(acc[3], m[3]), make_stage(ep));
}
