// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/body/elementwise.inl in the region of AVX2: what elementwise kernels need beyond
// kernels/arch/avx256.inl. A group is byte_width elements: four nfloat or nvec of 32-bit lanes, or one
// nvec of bytes.

using nmask = __m256i; // all ones or zeros in each dword

NOTCH_OP nfloat nmul(nfloat a, nfloat b) { return _mm256_mul_ps(a, b); }
NOTCH_OP nfloat nfma(nfloat a, nfloat b, nfloat c) { return _mm256_fmadd_ps(a, b, c); }
/// v loaded once: the compiler would rather load it again for each use.
NOTCH_OP void keep_in_register(nfloat& v) { __asm__("" : "+x"(v)); }
NOTCH_OP nfloat ndiv(nfloat a, nfloat b) { return _mm256_div_ps(a, b); }
/// b if either is NaN, or if both are zeros.
NOTCH_OP nfloat nmin(nfloat a, nfloat b) { return _mm256_min_ps(a, b); }
NOTCH_OP nfloat nmax(nfloat a, nfloat b) { return _mm256_max_ps(a, b); }
/// To the nearest integer, ties to even; -2^31 where it does not fit.
NOTCH_OP nvec nround(nfloat v) { return _mm256_cvtps_epi32(v); }
NOTCH_OP nfloat nto_f32(nvec v) { return _mm256_cvtepi32_ps(v); }
template <bool Streaming = false> NOTCH_OP void store_nfloat(float* p, nfloat v) {
    if constexpr (Streaming)
        _mm256_stream_ps(p, v);
    else
        _mm256_storeu_ps(p, v);
}
template <bool Streaming> NOTCH_OP void store_group(std::uint8_t* p, nvec v) {
    if constexpr (Streaming)
        _mm256_stream_si256(reinterpret_cast<__m256i*>(p), v);
    else
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
}
NOTCH_OP void store_fence() { _mm_sfence(); }

NOTCH_OP bool any_nan(const nfloat (&x)[4]) {
    return _mm256_movemask_ps(
               _mm256_or_ps(_mm256_cmp_ps(x[0], x[1], _CMP_UNORD_Q), _mm256_cmp_ps(x[2], x[3], _CMP_UNORD_Q))) != 0;
}
NOTCH_OP nmask nequal(nfloat a, nfloat b) { return _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)); }
NOTCH_OP nmask nequal_positive(nfloat a, nfloat b, nvec v) {
    return _mm256_and_si256(nequal(a, b), _mm256_cmpgt_epi32(v, _mm256_setzero_si256()));
}
NOTCH_OP __m256i in_order(__m256i v) {
    return _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
/// 1 or 0 for each element of a group.
NOTCH_OP nvec pack_nmask(const nmask (&m)[4]) {
    const __m256i b = _mm256_packs_epi16(_mm256_packs_epi32(m[0], m[1]), _mm256_packs_epi32(m[2], m[3]));
    return in_order(_mm256_and_si256(b, _mm256_set1_epi8(1)));
}
/// x where the byte is not 0, else 0, for a group.
NOTCH_OP void keep_where(const std::uint8_t* bytes, nfloat (&x)[4]) {
    NOTCH_UNROLL
    for (int k = 0; k < 4; ++k) {
        const __m128i b = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes + 8 * k));
        const __m256i zero = _mm256_cvtepi8_epi32(_mm_cmpeq_epi8(b, _mm_setzero_si128()));
        x[k] = _mm256_andnot_ps(_mm256_castsi256_ps(zero), x[k]);
    }
}

/// 16-bit lanes, for pack_group.
NOTCH_OP nvec set_n16(std::int32_t v) { return _mm256_set1_epi16(static_cast<short>(v)); }
/// Steps of a group -> codes: + zero_point, saturating, then saturated to the type of the codes.
template <bool Signed> NOTCH_OP nvec pack_group(const nvec (&v)[4], nvec zero_point) {
    const __m256i ab = _mm256_adds_epi16(_mm256_packs_epi32(v[0], v[1]), zero_point);
    const __m256i cd = _mm256_adds_epi16(_mm256_packs_epi32(v[2], v[3]), zero_point);
    const __m256i codes = Signed ? _mm256_packs_epi16(ab, cd) : _mm256_packus_epi16(ab, cd);
    return in_order(codes);
}
/// The same of rounded values without a clamp. least becomes -2^15 in some 16-bit lane, see unclamped_failed, where a
/// value may be what a NaN or an overflow was rounded to: rounding gives -2^31 then, and packing -2^15.
template <bool Signed> NOTCH_OP nvec pack_unclamped(const nvec (&v)[4], nvec zero_point, nvec& least) {
    const __m256i ab = _mm256_packs_epi32(v[0], v[1]), cd = _mm256_packs_epi32(v[2], v[3]);
    least = _mm256_min_epi16(least, _mm256_min_epi16(ab, cd));
    const __m256i a = _mm256_adds_epi16(ab, zero_point), b = _mm256_adds_epi16(cd, zero_point);
    return in_order(Signed ? _mm256_packs_epi16(a, b) : _mm256_packus_epi16(a, b));
}
NOTCH_OP bool unclamped_failed(nvec least) {
    return _mm256_movemask_epi8(_mm256_cmpeq_epi16(least, _mm256_set1_epi16(-32768))) != 0;
}
/// The codes of a group as int32.
template <bool Signed> NOTCH_OP void load_group(const std::uint8_t* p, nvec (&v)[4]) {
    NOTCH_UNROLL
    for (int k = 0; k < 4; ++k) {
        const __m128i b = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8 * k));
        v[k] = Signed ? _mm256_cvtepi8_epi32(b) : _mm256_cvtepu8_epi32(b);
    }
}

// --- 16-bit sums of bytes ------------------------------------------------------------------------

/// The bytes of a group as two vectors of 16-bit lanes.
NOTCH_OP void widen_group(nvec b, nvec (&w)[2]) {
    w[0] = _mm256_cvtepu8_epi16(_mm256_castsi256_si128(b));
    w[1] = _mm256_cvtepu8_epi16(_mm256_extracti128_si256(b, 1));
}
NOTCH_OP nvec nadd16(nvec a, nvec b) { return _mm256_add_epi16(a, b); }
/// 16-bit lanes, unsigned, as two vectors of int32.
NOTCH_OP void widen_n16(nvec v, nvec& lo, nvec& hi) {
    lo = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(v));
    hi = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(v, 1));
}
