// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/lookup.hpp in the region of each instruction set: bytes through a table of 256
// bytes. Softmax and concat use byte_table and lookup_bytes too.

#if defined(NOTCH_ARCH_VBMI)

/// vpermi2b looks 128 bytes up by 7 bits; bit 7 chooses between two of them.
struct byte_table {
    __m512i t[4];
};
NOTCH_OP byte_table load_table(const std::uint8_t* p) {
    return {
        {_mm512_loadu_si512(p), _mm512_loadu_si512(p + 64), _mm512_loadu_si512(p + 128), _mm512_loadu_si512(p + 192)}};
}
NOTCH_OP __m512i look_up(const byte_table& t, __m512i x) {
    const __m512i low = _mm512_permutex2var_epi8(t.t[0], x, t.t[1]), high = _mm512_permutex2var_epi8(t.t[2], x, t.t[3]);
    return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(x), high);
}

#elif NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI

/// vpermi2w looks 64 words up by 6 bits: of the byte x, bits 1..6 choose the word in each half of the table,
/// bit 7 the half, bit 0 the byte of the word. Once for the even and once for the odd bytes.
struct byte_table {
    __m512i t[4];
};
NOTCH_OP byte_table load_table(const std::uint8_t* p) {
    return {
        {_mm512_loadu_si512(p), _mm512_loadu_si512(p + 64), _mm512_loadu_si512(p + 128), _mm512_loadu_si512(p + 192)}};
}
NOTCH_OP __m512i look_up(const byte_table& t, __m512i x) {
    const __m512i even = _mm512_srli_epi16(x, 1), odd = _mm512_srli_epi16(x, 9);
    const __mmask32 even_high = _mm512_test_epi16_mask(x, _mm512_set1_epi16(0x80)), odd_high = _mm512_movepi16_mask(x);
    __m512i e = _mm512_mask_mov_epi16(_mm512_permutex2var_epi16(t.t[0], even, t.t[1]), even_high,
                                      _mm512_permutex2var_epi16(t.t[2], even, t.t[3]));
    __m512i o = _mm512_mask_mov_epi16(_mm512_permutex2var_epi16(t.t[0], odd, t.t[1]), odd_high,
                                      _mm512_permutex2var_epi16(t.t[2], odd, t.t[3]));
    e = _mm512_mask_srli_epi16(e, _mm512_test_epi16_mask(x, _mm512_set1_epi16(1)), e, 8);
    o = _mm512_mask_slli_epi16(o, _mm512_testn_epi16_mask(x, _mm512_set1_epi16(0x100)), o, 8);
    return _mm512_mask_mov_epi8(e, 0xaaaaaaaaaaaaaaaaull, o);
}

#elif NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI

/// Sixteen vpshufb by the low four bits, then a tree of fifteen vpblendvb by the others.
struct byte_table {
    __m256i t[16];
};
NOTCH_OP byte_table load_table(const std::uint8_t* p) {
    byte_table t;
    for (int i = 0; i < 16; ++i)
        t.t[i] = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16 * i)));
    return t;
}
NOTCH_OP __m256i look_up(const byte_table& t, __m256i x) {
    const __m256i nibble = _mm256_and_si256(x, _mm256_set1_epi8(15));
    // Bit 7 of each byte decides; what shifts in from the byte below does not reach it.
    const __m256i bit4 = _mm256_slli_epi16(x, 3), bit5 = _mm256_slli_epi16(x, 2), bit6 = _mm256_slli_epi16(x, 1);
    __m256i half[2];
    NOTCH_UNROLL
    for (int h = 0; h < 2; ++h) {
        __m256i quarter[2];
        NOTCH_UNROLL
        for (int q = 0; q < 2; ++q) {
            const __m256i* s = t.t + 8 * h + 4 * q;
            const __m256i a =
                _mm256_blendv_epi8(_mm256_shuffle_epi8(s[0], nibble), _mm256_shuffle_epi8(s[1], nibble), bit4);
            const __m256i b =
                _mm256_blendv_epi8(_mm256_shuffle_epi8(s[2], nibble), _mm256_shuffle_epi8(s[3], nibble), bit4);
            quarter[q] = _mm256_blendv_epi8(a, b, bit5);
        }
        half[h] = _mm256_blendv_epi8(quarter[0], quarter[1], bit6);
    }
    return _mm256_blendv_epi8(half[0], half[1], x);
}

#elif NOTCH_ARCH_LEVEL >= NOTCH_ARCH_NEON

/// Four tables of 64 bytes: tbl and tbx look up 64 bytes at once and skip indices past them.
struct byte_table {
    uint8x16x4_t t[4];
};
NOTCH_OP byte_table load_table(const std::uint8_t* table) {
    return {{vld1q_u8_x4(table), vld1q_u8_x4(table + 64), vld1q_u8_x4(table + 128), vld1q_u8_x4(table + 192)}};
}
NOTCH_OP uint8x16_t look_up(const byte_table& t, uint8x16_t x) {
    const uint8x16_t step = vdupq_n_u8(64);
    uint8x16_t y = vqtbl4q_u8(t.t[0], x);
    NOTCH_UNROLL
    for (int i = 1; i < 4; ++i) {
        x = vsubq_u8(x, step);
        y = vqtbx4q_u8(y, t.t[i], x);
    }
    return y;
}

#endif

/// y[i][j] = table[x[i][j]]; y may be x.
inline void lookup_bytes(const lookup_args& p) {
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
    const byte_table t = load_table(p.table);
#elif NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI
    const bool vectors = p.cols >= 64 || (p.cols >= 32 && p.rows > 1); // worth loading the table
    byte_table t;
    if (vectors) t = load_table(p.table);
#elif NOTCH_ARCH_LEVEL >= NOTCH_ARCH_NEON
    const byte_table t = load_table(p.table);
#endif
    for (index_t i = 0; i < p.rows; ++i) {
        const std::uint8_t* x = p.x + i * p.ldx;
        std::uint8_t* y = p.y + i * p.ldy;
        index_t j = 0;
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
        for (; j + 64 <= p.cols; j += 64) _mm512_storeu_si512(y + j, look_up(t, _mm512_loadu_si512(x + j)));
        if (j < p.cols) {
            const __mmask64 rest = (1ull << (p.cols - j)) - 1ull;
            _mm512_mask_storeu_epi8(y + j, rest, look_up(t, _mm512_maskz_loadu_epi8(rest, x + j)));
        }
#else
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI
        for (; vectors && j + 32 <= p.cols; j += 32)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + j),
                                look_up(t, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + j))));
#elif NOTCH_ARCH_LEVEL >= NOTCH_ARCH_NEON
        for (; j + 16 <= p.cols; j += 16) vst1q_u8(y + j, look_up(t, vld1q_u8(x + j)));
#endif
        for (; j + 4 <= p.cols; j += 4) {
            const std::uint8_t a = p.table[x[j]], b = p.table[x[j + 1]], c = p.table[x[j + 2]], d = p.table[x[j + 3]];
            y[j] = a;
            y[j + 1] = b;
            y[j + 2] = c;
            y[j + 3] = d;
        }
        for (; j < p.cols; ++j) y[j] = p.table[x[j]];
#endif
    }
}

inline constexpr lookup_kernels lookup_kernel_table = {lookup_bytes};
