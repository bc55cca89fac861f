// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/arch/avx2.hpp and avxvnni.hpp inside their regions: what both have in common,
// everything but the products of bytes.

inline constexpr int max_panels = 1;
inline constexpr int byte_width = 32;

struct acc16 {
    __m256i lo, hi;
};
struct f32x16 {
    __m256 lo, hi;
};
using nvec = __m256i;
using nfloat = __m256;

// --- 16 lanes of int32 and float -------------------------------------------------------------

/// All ones in the first n of eight lanes.
NOTCH_OP __m256i first8(index_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
NOTCH_OP acc16 set_s32(std::int32_t v) { return {_mm256_set1_epi32(v), _mm256_set1_epi32(v)}; }
NOTCH_OP f32x16 set_f32(float v) { return {_mm256_set1_ps(v), _mm256_set1_ps(v)}; }
NOTCH_OP __m256i load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
NOTCH_OP acc16 load_s32(const std::int32_t* p) { return {load256(p), load256(p + 8)}; }
NOTCH_OP acc16 load_s32(const std::int32_t* p, index_t n) {
    if (n >= 16) return load_s32(p);
    return {_mm256_maskload_epi32(p, first8(n)), _mm256_maskload_epi32(p + 8, first8(n - 8))};
}
NOTCH_OP f32x16 load_f32(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
NOTCH_OP f32x16 load_f32(const float* p, index_t n) {
    if (n >= 16) return load_f32(p);
    return {_mm256_maskload_ps(p, first8(n)), _mm256_maskload_ps(p + 8, first8(n - 8))};
}
/// 16 bytes of which the first n are read.
NOTCH_OP __m128i load_bytes16(const std::uint8_t* p, index_t n) {
    if (n >= 16) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    alignas(16) std::uint8_t copy[16] = {};
    for (index_t i = 0; i < n; ++i) copy[i] = p[i];
    return _mm_load_si128(reinterpret_cast<const __m128i*>(copy));
}
NOTCH_OP void store_bytes16(std::uint8_t* p, __m128i v, index_t n) {
    if (n >= 16) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v);
        return;
    }
    alignas(16) std::uint8_t copy[16];
    _mm_store_si128(reinterpret_cast<__m128i*>(copy), v);
    for (index_t i = 0; i < n; ++i) p[i] = copy[i];
}
NOTCH_OP acc16 load_u8(const std::uint8_t* p, index_t n) {
    const __m128i v = load_bytes16(p, n);
    return {_mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8))};
}
NOTCH_OP acc16 load_s8(const std::uint8_t* p, index_t n) {
    const __m128i v = load_bytes16(p, n);
    return {_mm256_cvtepi8_epi32(v), _mm256_cvtepi8_epi32(_mm_srli_si128(v, 8))};
}
NOTCH_OP void store_s32(std::int32_t* p, acc16 v, index_t n) {
    if (n >= 16) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v.lo);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), v.hi);
        return;
    }
    _mm256_maskstore_epi32(p, first8(n), v.lo);
    _mm256_maskstore_epi32(p + 8, first8(n - 8), v.hi);
}
/// The bits of the lanes, whatever type of four bytes stands at p.
NOTCH_OP void store_bits(void* p, acc16 v, index_t n) {
    store_s32(static_cast<std::int32_t*>(p), v, n);
} // x86: may alias
NOTCH_OP void store_f32(float* p, f32x16 v, index_t n) {
    if (n >= 16) {
        _mm256_storeu_ps(p, v.lo);
        _mm256_storeu_ps(p + 8, v.hi);
        return;
    }
    _mm256_maskstore_ps(p, first8(n), v.lo);
    _mm256_maskstore_ps(p + 8, first8(n - 8), v.hi);
}
/// The low byte of each lane.
NOTCH_OP void store_bytes(std::uint8_t* p, acc16 v, index_t n) {
    const __m256i low = _mm256_set1_epi32(255);
    const __m256i w = _mm256_packus_epi32(_mm256_and_si256(v.lo, low), _mm256_and_si256(v.hi, low));
    const __m256i b = _mm256_packus_epi16(w, w); // dwords: lo03 hi03 .. | lo47 hi47 ..
    const __m256i o = _mm256_permutevar8x32_epi32(b, _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5));
    store_bytes16(p, _mm256_castsi256_si128(o), n);
}
/// The low half of each lane.
NOTCH_OP void store_words(std::uint16_t* p, acc16 v, index_t n) {
    const __m256i low = _mm256_set1_epi32(0xffff);
    const __m256i w =
        _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_and_si256(v.lo, low), _mm256_and_si256(v.hi, low)), 0xd8);
    if (n >= 16) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), w);
        return;
    }
    alignas(32) std::uint16_t copy[16];
    _mm256_store_si256(reinterpret_cast<__m256i*>(copy), w);
    for (index_t i = 0; i < n; ++i) p[i] = copy[i];
}
NOTCH_OP f32x16 to_f32(acc16 v) { return {_mm256_cvtepi32_ps(v.lo), _mm256_cvtepi32_ps(v.hi)}; }
NOTCH_OP acc16 to_s32(f32x16 v) { return {_mm256_cvtps_epi32(v.lo), _mm256_cvtps_epi32(v.hi)}; }
NOTCH_OP f32x16 mul(f32x16 a, f32x16 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
NOTCH_OP f32x16 div(f32x16 a, f32x16 b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
NOTCH_OP f32x16 min(f32x16 a, f32x16 b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
NOTCH_OP f32x16 max(f32x16 a, f32x16 b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
NOTCH_OP acc16 add(acc16 a, acc16 b) { return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
NOTCH_OP acc16 sub(acc16 a, acc16 b) { return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)}; }
/// Modulo 2^32.
NOTCH_OP acc16 mul_s32(acc16 a, acc16 b) { return {_mm256_mullo_epi32(a.lo, b.lo), _mm256_mullo_epi32(a.hi, b.hi)}; }
NOTCH_OP acc16 and_s32(acc16 a, acc16 b) { return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)}; }
NOTCH_OP acc16 high_half(acc16 a) { return {_mm256_srli_epi32(a.lo, 16), _mm256_srli_epi32(a.hi, 16)}; }
NOTCH_OP acc16 bits_of(f32x16 v) { return {_mm256_castps_si256(v.lo), _mm256_castps_si256(v.hi)}; }
/// a + b, where a is a product: the barrier keeps the compiler from contracting both to an FMA.
NOTCH_OP f32x16 add_rounded(f32x16 a, f32x16 b) {
    __asm__("" : "+x"(a.lo), "+x"(a.hi));
    return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
NOTCH_OP f32x16 round(f32x16 v) {
    return {_mm256_round_ps(v.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
            _mm256_round_ps(v.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
NOTCH_OP f32x16 nan_to_zero(f32x16 v) {
    return {_mm256_and_ps(v.lo, _mm256_cmp_ps(v.lo, v.lo, _CMP_ORD_Q)),
            _mm256_and_ps(v.hi, _mm256_cmp_ps(v.hi, v.hi, _CMP_ORD_Q))};
}
NOTCH_OP __m256 finite_or8(__m256 v, __m256 otherwise) {
    return _mm256_blendv_ps(otherwise, v, _mm256_cmp_ps(_mm256_sub_ps(v, v), _mm256_setzero_ps(), _CMP_EQ_OQ));
}
/// v where it is finite, else otherwise.
NOTCH_OP f32x16 finite_or(f32x16 v, f32x16 otherwise) {
    return {finite_or8(v.lo, otherwise.lo), finite_or8(v.hi, otherwise.hi)};
}
NOTCH_OP __m256i in_range8(__m256 y, __m256 lo, __m256 hi, __m256i v, bool positive) {
    const __m256 low = positive ? _mm256_castsi256_ps(_mm256_cmpgt_epi32(v, _mm256_setzero_si256()))
                                : _mm256_cmp_ps(y, lo, _CMP_GE_OQ);
    const __m256 both = _mm256_and_ps(low, _mm256_cmp_ps(y, hi, _CMP_LE_OQ));
    return _mm256_srli_epi32(_mm256_castps_si256(both), 31);
}
/// 1 where lo <= y <= hi (and v > 0 instead of lo <= y, if positive), else 0.
NOTCH_OP acc16 in_range(f32x16 y, f32x16 lo, f32x16 hi, acc16 v, bool positive) {
    return {in_range8(y.lo, lo.lo, hi.lo, v.lo, positive), in_range8(y.hi, lo.hi, hi.hi, v.hi, positive)};
}
NOTCH_OP __m256i fixed_steps8(__m256i v, __m256i mantissa, __m256i shift, __m256i lo, __m256i hi) {
    const __m256i zero = _mm256_setzero_si256(), one = _mm256_set1_epi32(1), half = _mm256_set1_epi64x(1 << 30);
    const __m256i right = _mm256_max_epi32(_mm256_sub_epi32(zero, shift), zero);
    const __m256i x = _mm256_sllv_epi32(v, _mm256_max_epi32(shift, zero));
    const __m256i even = _mm256_srli_epi64(_mm256_add_epi64(_mm256_mul_epi32(x, mantissa), half), 31);
    const __m256i odd = _mm256_slli_epi64(
        _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(x, 32), _mm256_srli_epi64(mantissa, 32)), half), 1);
    const __m256i high = _mm256_blend_epi32(even, odd, 0xaa);
    const __m256i below = _mm256_sub_epi32(_mm256_sllv_epi32(one, right), one);
    const __m256i threshold = _mm256_sub_epi32(_mm256_srli_epi32(below, 1), _mm256_srai_epi32(high, 31));
    const __m256i y =
        _mm256_sub_epi32(_mm256_srav_epi32(high, right), _mm256_cmpgt_epi32(_mm256_and_si256(high, below), threshold));
    return _mm256_min_epi32(_mm256_max_epi32(y, lo), hi);
}
/// requantize_fixed_double of zero point 0: min(max(divide_by_pot(doubling_high_mul(v << left, mantissa), right), lo),
/// hi), left and right being the shift by its sign; mantissas are not negative. doubling_high_mul is
/// floor((product + 2^30) / 2^31), for products of either sign.
NOTCH_OP acc16 fixed_steps(acc16 v, acc16 mantissa, acc16 shift, acc16 lo, acc16 hi) {
    return {fixed_steps8(v.lo, mantissa.lo, shift.lo, lo.lo, hi.lo),
            fixed_steps8(v.hi, mantissa.hi, shift.hi, lo.hi, hi.hi)};
}
/// Without clamp, for |v| < 2^30 and shifts of -31..0 (epilogue_args::bounded): v is doubled, so that the high half of
/// a product is the result of its rounding, and halves are added before one shift.
struct round_factors {
    acc16 mantissa, right, half;
};
NOTCH_OP __m256i half_of(__m256i right) { return _mm256_srli_epi32(_mm256_sllv_epi32(_mm256_set1_epi32(1), right), 1); }
NOTCH_OP round_factors make_factors(acc16 mantissa, acc16 shift) {
    const acc16 right = sub(set_s32(0), shift);
    return {mantissa, right, {half_of(right.lo), half_of(right.hi)}};
}
NOTCH_OP __m256i rounded_steps8(__m256i v, __m256i mantissa, __m256i right, __m256i halves) {
    const __m256i half = _mm256_set1_epi64x(std::int64_t{1} << 31), x = _mm256_add_epi32(v, v);
    const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(x, mantissa), half);
    const __m256i odd =
        _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(x, 32), _mm256_srli_epi64(mantissa, 32)), half);
    const __m256i high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    // -1 where high is negative and right > 0: ties go away from 0.
    const __m256i below = _mm256_srai_epi32(_mm256_sign_epi32(high, right), 31);
    return _mm256_srav_epi32(_mm256_add_epi32(_mm256_add_epi32(high, halves), below), right);
}
NOTCH_OP acc16 rounded_steps(acc16 v, const round_factors& f) {
    return {rounded_steps8(v.lo, f.mantissa.lo, f.right.lo, f.half.lo),
            rounded_steps8(v.hi, f.mantissa.hi, f.right.hi, f.half.hi)};
}
/// a * low half of w + b * high half of w; a, b in 0..255.
NOTCH_OP acc16 mul_pairs(acc16 a, acc16 b, acc16 w) {
    return {_mm256_madd_epi16(_mm256_or_si256(a.lo, _mm256_slli_epi32(b.lo, 16)), w.lo),
            _mm256_madd_epi16(_mm256_or_si256(a.hi, _mm256_slli_epi32(b.hi, 16)), w.hi)};
}

/// clamp(float(v) * m + bias) as bits where the mask says so, else v.
using float_mask = __m256i;
NOTCH_OP float_mask make_float_mask(bool floats) { return _mm256_set1_epi32(floats ? -1 : 0); }
NOTCH_OP acc16 floats_or_sums(acc16 v, const float* m, const float* bias, float lo, float hi, float_mask floats) {
    const f32x16 y = min(max(add_rounded(mul(to_f32(v), load_f32(m)), load_f32(bias)), set_f32(lo)), set_f32(hi));
    return {_mm256_blendv_epi8(v.lo, _mm256_castps_si256(y.lo), floats),
            _mm256_blendv_epi8(v.hi, _mm256_castps_si256(y.hi), floats)};
}

// --- the register path of the epilogue ---------------------------------------------------------

struct code_stage {
    __m256i zero_point, lo, hi;
    bool is_u8, full;
};
NOTCH_OP code_stage make_stage(const epilogue_args& ep) {
    code_stage s;
    s.zero_point = _mm256_set1_epi16(static_cast<short>(ep.zero_point));
    s.lo = _mm256_set1_epi8(static_cast<char>(ep.lo));
    s.hi = _mm256_set1_epi8(static_cast<char>(ep.hi));
    s.is_u8 = ep.store == store_kind::u8;
    s.full = s.is_u8 ? ep.lo == 0 && ep.hi == 255 : ep.lo == -128 && ep.hi == 127;
    return s;
}
/// float(acc) * multiplier, rounded to even; the products are bounded (see epilogue_args).
NOTCH_OP __m256i scale_round(__m256i acc, __m256 multiplier) {
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(acc), multiplier));
}
/// Four vectors of steps -> 32 codes within lanes: lane l holds dwords l of a, b, c, d.
NOTCH_OP __m256i pack_codes(__m256i a, __m256i b, __m256i c, __m256i d, const code_stage& s) {
    const __m256i ab = _mm256_adds_epi16(_mm256_packs_epi32(a, b), s.zero_point);
    const __m256i cd = _mm256_adds_epi16(_mm256_packs_epi32(c, d), s.zero_point);
    if (s.is_u8) {
        const __m256i v = _mm256_packus_epi16(ab, cd);
        return s.full ? v : _mm256_min_epu8(_mm256_max_epu8(v, s.lo), s.hi);
    }
    const __m256i v = _mm256_packs_epi16(ab, cd);
    return s.full ? v : _mm256_min_epi8(_mm256_max_epi8(v, s.lo), s.hi);
}
/// Two rows of 16 at a time.
template <int MR, int NP>
NOTCH_OP void store_codes(const epilogue_args& ep, const code_stage& stage, acc16 (&acc)[MR][NP], index_t channel,
                          index_t cols, std::uint8_t* c, index_t ldc) {
    static_assert(NP == 1);
    const f32x16 m = load_f32(ep.multiplier + channel);
    NOTCH_UNROLL
    for (int i = 0; i < MR; i += 2) {
        const int second = i + 1 < MR ? i + 1 : i;
        const __m256i v = pack_codes(scale_round(acc[i][0].lo, m.lo), scale_round(acc[i][0].hi, m.hi),
                                     scale_round(acc[second][0].lo, m.lo), scale_round(acc[second][0].hi, m.hi), stage);
        const __m256i o = _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        store_bytes16(c + i * ldc, _mm256_castsi256_si128(o), cols);
        if (i + 1 < MR) store_bytes16(c + (i + 1) * ldc, _mm256_extracti128_si256(o, 1), cols);
    }
}

// --- native vectors of bytes -------------------------------------------------------------------

template <bool Full> NOTCH_OP nvec load_nbytes(const std::uint8_t* p, index_t n) {
    if (Full || n >= 32) return load256(p);
    const __m128i low = load_bytes16(p, n < 16 ? n : 16);
    const __m128i high = n > 16 ? load_bytes16(p + 16, n - 16) : _mm_setzero_si128();
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}
template <bool Full> NOTCH_OP void store_nbytes(std::uint8_t* p, nvec v, index_t n) {
    if (Full || n >= 32) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
        return;
    }
    store_bytes16(p, _mm256_castsi256_si128(v), n);
    if (n > 16) store_bytes16(p + 16, _mm256_extracti128_si256(v, 1), n - 16);
}
/// Each byte plus 128: s8 codes become u8.
NOTCH_OP nvec nflip(nvec v) { return _mm256_xor_si256(v, _mm256_set1_epi8(-128)); }
/// sum + the sum of the bytes, in some of the lanes of 64 bits.
NOTCH_OP nvec nsum_bytes(nvec sum, nvec v) { return _mm256_add_epi64(sum, _mm256_sad_epu8(v, _mm256_setzero_si256())); }
NOTCH_OP std::int32_t nsum_lanes(nvec v) {
    const __m128i two = _mm_add_epi64(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    return _mm_cvtsi128_si32(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two)));
}
NOTCH_OP nvec nmax_u8(nvec a, nvec b) { return _mm256_max_epu8(a, b); }
NOTCH_OP nvec load_halves(const std::uint8_t* p, const std::uint8_t* q, index_t n) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(load_bytes16(p, n)), load_bytes16(q, n), 1);
}
NOTCH_OP void store_halves(std::uint8_t* p, std::uint8_t* q, nvec v, index_t n) {
    store_bytes16(p, _mm256_castsi256_si128(v), n);
    store_bytes16(q, _mm256_extracti128_si256(v, 1), n);
}
NOTCH_OP nvec load_n32(const std::int32_t* p) { return load256(p); }
NOTCH_OP nfloat load_n32(const float* p) { return _mm256_loadu_ps(p); }
NOTCH_OP nvec repeat_half(nvec v) { return _mm256_permute2x128_si256(v, v, 0); }
NOTCH_OP nfloat repeat_half(nfloat v) { return _mm256_permute2f128_ps(v, v, 0); }
NOTCH_OP void store_n32(std::int32_t* p, nvec v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
NOTCH_OP void interleave(nvec (&t)[4]) {
    const __m256i l01 = _mm256_unpacklo_epi8(t[0], t[1]), h01 = _mm256_unpackhi_epi8(t[0], t[1]);
    const __m256i l23 = _mm256_unpacklo_epi8(t[2], t[3]), h23 = _mm256_unpackhi_epi8(t[2], t[3]);
    t[0] = _mm256_unpacklo_epi16(l01, l23);
    t[1] = _mm256_unpackhi_epi16(l01, l23);
    t[2] = _mm256_unpacklo_epi16(h01, h23);
    t[3] = _mm256_unpackhi_epi16(h01, h23);
}
/// In each dword: byte 0 * low half of w + byte 2 * high half of w; bytes 1 and 3 are 0.
NOTCH_OP nvec nmul_pairs(nvec v, std::int32_t w) { return _mm256_madd_epi16(v, _mm256_set1_epi32(w)); }
NOTCH_OP nvec set_n32(std::int32_t v) { return _mm256_set1_epi32(v); }
NOTCH_OP nfloat set_nfloat(float v) { return _mm256_set1_ps(v); }
NOTCH_OP nvec nadd(nvec a, nvec b) { return _mm256_add_epi32(a, b); }
NOTCH_OP nvec pack_ncodes(const epilogue_args& ep, const nvec (&acc)[4], const nfloat (&m)[4]) {
    return pack_codes(scale_round(acc[0], m[0]), scale_round(acc[1], m[1]), scale_round(acc[2], m[2]),
                      scale_round(acc[3], m[3]), make_stage(ep));
}
