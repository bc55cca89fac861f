// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/body/elementwise.inl in the region of AVX-512: what elementwise kernels need
// beyond kernels/arch/avx512.inl. A group is byte_width elements: four nfloat or nvec of 32-bit lanes,
// or one nvec of bytes.

using nmask = __mmask16;

NOTCH_OP nfloat nmul(nfloat a, nfloat b) { return _mm512_mul_ps(a, b); }
NOTCH_OP nfloat nfma(nfloat a, nfloat b, nfloat c) { return _mm512_fmadd_ps(a, b, c); }
/// v loaded once: the compiler would rather load it again for each use.
NOTCH_OP void keep_in_register(nfloat& v) { __asm__("" : "+v"(v)); }
NOTCH_OP nfloat ndiv(nfloat a, nfloat b) { return _mm512_div_ps(a, b); }
/// b if either is NaN, or if both are zeros.
NOTCH_OP nfloat nmin(nfloat a, nfloat b) { return _mm512_min_ps(a, b); }
NOTCH_OP nfloat nmax(nfloat a, nfloat b) { return _mm512_max_ps(a, b); }
/// To the nearest integer, ties to even; -2^31 where it does not fit.
NOTCH_OP nvec nround(nfloat v) { return _mm512_cvtps_epi32(v); }
NOTCH_OP nfloat nto_f32(nvec v) { return _mm512_cvtepi32_ps(v); }
template <bool Streaming = false> NOTCH_OP void store_nfloat(float* p, nfloat v) {
    if constexpr (Streaming)
        _mm512_stream_ps(p, v);
    else
        _mm512_storeu_ps(p, v);
}
template <bool Streaming> NOTCH_OP void store_group(std::uint8_t* p, nvec v) {
    if constexpr (Streaming)
        _mm512_stream_si512(reinterpret_cast<__m512i*>(p), v);
    else
        _mm512_storeu_si512(p, v);
}
NOTCH_OP void store_fence() { _mm_sfence(); }

NOTCH_OP bool any_nan(const nfloat (&x)[4]) {
    return !_kortestz_mask16_u8(_mm512_cmp_ps_mask(x[0], x[1], _CMP_UNORD_Q),
                                _mm512_cmp_ps_mask(x[2], x[3], _CMP_UNORD_Q));
}
NOTCH_OP nmask nequal(nfloat a, nfloat b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
NOTCH_OP nmask nequal_positive(nfloat a, nfloat b, nvec v) {
    return _mm512_mask_cmp_ps_mask(_mm512_cmpgt_epi32_mask(v, _mm512_setzero_si512()), a, b, _CMP_EQ_OQ);
}
/// 1 or 0 for each element of a group.
NOTCH_OP nvec pack_nmask(const nmask (&m)[4]) {
    const __mmask32 low = _mm512_kunpackw(m[1], m[0]), high = _mm512_kunpackw(m[3], m[2]);
    return _mm512_maskz_mov_epi8(_mm512_kunpackd(high, low), _mm512_set1_epi8(1));
}
/// x where the byte is not 0, else 0, for a group.
NOTCH_OP void keep_where(const std::uint8_t* bytes, nfloat (&x)[4]) {
    const __m512i b = _mm512_loadu_si512(bytes);
    const __mmask64 m = _mm512_test_epi8_mask(b, b);
    NOTCH_UNROLL
    for (int k = 0; k < 4; ++k) x[k] = _mm512_maskz_mov_ps(static_cast<__mmask16>(m >> (16 * k)), x[k]);
}

/// 16-bit lanes, for pack_group.
NOTCH_OP nvec set_n16(std::int32_t v) { return _mm512_set1_epi16(static_cast<short>(v)); }
template <bool Signed> NOTCH_OP nvec pack_words_in_order(nvec ab, nvec cd) {
    const __m512i codes = Signed ? _mm512_packs_epi16(ab, cd) : _mm512_packus_epi16(ab, cd);
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), codes);
}
/// Steps of a group -> codes: + zero_point, saturating, then saturated to the type of the codes.
template <bool Signed> NOTCH_OP nvec pack_group(const nvec (&v)[4], nvec zero_point) {
    const __m512i ab = _mm512_adds_epi16(_mm512_packs_epi32(v[0], v[1]), zero_point);
    const __m512i cd = _mm512_adds_epi16(_mm512_packs_epi32(v[2], v[3]), zero_point);
    return pack_words_in_order<Signed>(ab, cd);
}
/// The same of rounded values without a clamp. least becomes -2^15 in some 16-bit lane, see unclamped_failed, where a
/// value may be what a NaN or an overflow was rounded to: rounding gives -2^31 then, and packing -2^15.
template <bool Signed> NOTCH_OP nvec pack_unclamped(const nvec (&v)[4], nvec zero_point, nvec& least) {
    const __m512i ab = _mm512_packs_epi32(v[0], v[1]), cd = _mm512_packs_epi32(v[2], v[3]);
    least = _mm512_min_epi16(least, _mm512_min_epi16(ab, cd));
    return pack_words_in_order<Signed>(_mm512_adds_epi16(ab, zero_point), _mm512_adds_epi16(cd, zero_point));
}
NOTCH_OP bool unclamped_failed(nvec least) { return _mm512_cmpeq_epi16_mask(least, _mm512_set1_epi16(-32768)) != 0; }
/// The codes of a group as int32.
template <bool Signed> NOTCH_OP void load_group(const std::uint8_t* p, nvec (&v)[4]) {
    NOTCH_UNROLL
    for (int k = 0; k < 4; ++k) {
        const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16 * k));
        v[k] = Signed ? _mm512_cvtepi8_epi32(b) : _mm512_cvtepu8_epi32(b);
    }
}

// --- 16-bit sums of bytes ------------------------------------------------------------------------

/// The bytes of a group as two vectors of 16-bit lanes.
NOTCH_OP void widen_group(nvec b, nvec (&w)[2]) {
    w[0] = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(b));
    w[1] = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(b, 1));
}
NOTCH_OP nvec nadd16(nvec a, nvec b) { return _mm512_add_epi16(a, b); }
/// 16-bit lanes, unsigned, as two vectors of int32.
NOTCH_OP void widen_n16(nvec v, nvec& lo, nvec& hi) {
    lo = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(v));
    hi = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(v, 1));
}
