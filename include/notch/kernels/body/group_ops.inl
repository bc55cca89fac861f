// SPDX-License-Identifier: Apache-2.0
//
// Compiled for each instruction set by kernels/weight_only.hpp, before body/weight_only.inl: the operations
// on packed codes of group-wise weights that each instruction set spells in its own way.
//
//   gfloat, gint          16 floats, 16 int32: one for each output of a panel
//   gcodes                64 bytes of packed codes
//   expand<Bits, P>       the codes of k = P as floats
//   gdot<Bits>            acc += unsigned codes . signed activations, over all k of the 64 bytes

namespace group_wise {

#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI

using gfloat = __m512;
using gint = __m512i;
using gcodes = __m512i;
inline constexpr int wide_rows = 8, wide_panels = 2; ///< the tile of many rows
/// High nibbles may stay where they are, 16 times too large, with accumulators of their own: products
/// of bytes that go through 16 bits would saturate.
inline constexpr bool gapart = NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI;

NOTCH_OP gfloat gset(float v) { return _mm512_set1_ps(v); }
NOTCH_OP gfloat gload(const float* p, index_t n) { return _mm512_maskz_loadu_ps(first16(n < 16 ? n : 16), p); }
NOTCH_OP gfloat gload(const float* p) { return _mm512_loadu_ps(p); }
NOTCH_OP void gstore(float* p, gfloat v) { _mm512_storeu_ps(p, v); }
NOTCH_OP void gstore(float* p, gfloat v, index_t n) { _mm512_mask_storeu_ps(p, first16(n < 16 ? n : 16), v); }
NOTCH_OP gfloat gfma(gfloat a, gfloat b, gfloat c) { return _mm512_fmadd_ps(a, b, c); }
NOTCH_OP gfloat gload_f16(const void* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p))); }
NOTCH_OP gfloat gload_bf16(const void* p) {
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p))), 16));
}
NOTCH_OP gint gload_s8(const std::int8_t* p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
NOTCH_OP gfloat gto_float(gint v) { return _mm512_cvtepi32_ps(v); }
NOTCH_OP gint giset(std::int32_t v) { return _mm512_set1_epi32(v); }
NOTCH_OP gint giadd(gint a, gint b) { return _mm512_add_epi32(a, b); }
NOTCH_OP gint gimul(gint a, gint b) { return _mm512_mullo_epi32(a, b); }
NOTCH_OP gint gsixteenth(gint a) { return _mm512_srai_epi32(a, 4); }

/// Codes ready for expand.
template <int Bits> NOTCH_OP gcodes gload_codes(const std::uint8_t* p) {
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
    return _mm512_loadu_si512(p);
#else
    const __m512i v = _mm512_loadu_si512(p);
    return Bits == 8 ? _mm512_xor_si512(v, _mm512_set1_epi32(static_cast<int>(0x80808080u))) : v;
#endif
}
template <int Bits, int P> NOTCH_OP gfloat expand(gcodes v) {
    if constexpr (Bits == 4) {
        // vpermps looks at the low four bits of each dword: a table of all codes.
        const __m512 table = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
        constexpr int shift = P < 4 ? 8 * P : 8 * (P - 4) + 4;
        return _mm512_permutexvar_ps(shift == 0 ? v : _mm512_srli_epi32(v, shift), table);
    } else {
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
        // A dot product with a unit vector picks a byte and takes the offset off in one instruction.
        __m512i q = _mm512_set1_epi32(-128);
        vpdpbusd(q, v, _mm512_set1_epi32(1 << 8 * P));
        return _mm512_cvtepi32_ps(q);
#else
        return _mm512_cvtepi32_ps(_mm512_srai_epi32(P == 3 ? v : _mm512_slli_epi32(v, 24 - 8 * (P < 3 ? P : 0)), 24));
#endif
    }
}

NOTCH_OP gint gquad(const std::int8_t* x) {
    std::int32_t quad;
    __builtin_memcpy(&quad, x, 4);
    return _mm512_set1_epi32(quad);
}
struct gbytes {
    __m512i lo, hi;
};
template <int Bits, bool Apart> NOTCH_OP gbytes gsplit(const std::uint8_t* p) {
    __m512i v = _mm512_loadu_si512(p);
    if constexpr (Bits == 8) return {v, v};
    __asm__("" : "+v"(v)); // one load: g++ would make it the memory operand of both uses
    const __m512i mask = _mm512_set1_epi8(15);
    if constexpr (Apart && gapart) return {_mm512_and_si512(v, mask), _mm512_andnot_si512(mask, v)};
    return {_mm512_and_si512(v, mask), _mm512_and_si512(_mm512_srli_epi16(v, 4), mask)};
}
/// x: eight activations for 4 bits, four for 8 bits.
template <int Bits> NOTCH_OP void gdot(gint& acc, gint& second, gbytes w, const std::int8_t* x) {
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
    vpdpbusd(acc, w.lo, gquad(x));
    if constexpr (Bits == 4) vpdpbusd(second, w.hi, gquad(x + 4));
#else
    (void)second;
    if constexpr (Bits == 4) { // four products of at most 15 * 128 fit 16 bits
        const __m512i pairs =
            _mm512_add_epi16(_mm512_maddubs_epi16(w.lo, gquad(x)), _mm512_maddubs_epi16(w.hi, gquad(x + 4)));
        acc = _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
    } else {
        const __m512i a = gquad(x), even = _mm512_and_si512(w.lo, _mm512_set1_epi16(255));
        const __m512i a_even = _mm512_srai_epi16(_mm512_slli_epi16(a, 8), 8);
        acc = _mm512_add_epi32(acc, _mm512_madd_epi16(even, a_even));
        acc = _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_srli_epi16(w.lo, 8), _mm512_srai_epi16(a, 8)));
    }
#endif
}

#elif NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI

using gfloat = f32x16;
using gint = acc16;
using gcodes = acc16;
inline constexpr int wide_rows = 4, wide_panels = 1;
inline constexpr bool gapart = NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI;

NOTCH_OP gfloat gset(float v) { return set_f32(v); }
NOTCH_OP gfloat gload(const float* p, index_t n) { return load_f32(p, n); }
NOTCH_OP gfloat gload(const float* p) { return load_f32(p); }
NOTCH_OP void gstore(float* p, gfloat v) { store_f32(p, v, 16); }
NOTCH_OP void gstore(float* p, gfloat v, index_t n) { store_f32(p, v, n); }
NOTCH_OP gfloat gfma(gfloat a, gfloat b, gfloat c) {
    return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
NOTCH_OP gfloat gload_f16(const void* p) {
    const __m128i* h = static_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1))};
}
NOTCH_OP gfloat gload_bf16(const void* p) {
    const __m128i* h = static_cast<const __m128i*>(p);
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(h)), 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(h + 1)), 16))};
}
NOTCH_OP gint gload_s8(const std::int8_t* p) { return load_s8(reinterpret_cast<const std::uint8_t*>(p), 16); }
NOTCH_OP gfloat gto_float(gint v) { return to_f32(v); }
NOTCH_OP gint giset(std::int32_t v) { return set_s32(v); }
NOTCH_OP gint giadd(gint a, gint b) { return add(a, b); }
NOTCH_OP gint gimul(gint a, gint b) { return {_mm256_mullo_epi32(a.lo, b.lo), _mm256_mullo_epi32(a.hi, b.hi)}; }
NOTCH_OP gint gsixteenth(gint a) { return {_mm256_srai_epi32(a.lo, 4), _mm256_srai_epi32(a.hi, 4)}; }

template <int Bits> NOTCH_OP gcodes gload_codes(const std::uint8_t* p) {
    const __m256i offset = _mm256_set1_epi32(static_cast<int>(Bits == 4 ? 0x88888888u : 0x80808080u));
    return {_mm256_xor_si256(load256(p), offset), _mm256_xor_si256(load256(p + 32), offset)};
}
/// The Bits bits from bit Shift on, with their sign.
template <int Bits, int Shift> NOTCH_OP __m256 signed_field(__m256i v) {
    constexpr int left = 32 - Bits - Shift;
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(left == 0 ? v : _mm256_slli_epi32(v, left), 32 - Bits));
}
template <int Bits, int P> NOTCH_OP gfloat expand(gcodes v) {
    constexpr int shift = Bits == 8 || P < 4 ? 8 * P : 8 * (P - 4) + 4;
    return {signed_field<Bits, shift>(v.lo), signed_field<Bits, shift>(v.hi)};
}

NOTCH_OP __m256i gquad(const std::int8_t* x) {
    std::int32_t quad;
    __builtin_memcpy(&quad, x, 4);
    return _mm256_set1_epi32(quad);
}
struct gbytes {
    __m256i lo[2], hi[2];
};
template <int Bits, bool Apart> NOTCH_OP gbytes gsplit(const std::uint8_t* p) {
    __m256i v0 = load256(p), v1 = load256(p + 32);
    if constexpr (Bits == 8) return {{v0, v1}, {v0, v1}};
    __asm__("" : "+x"(v0), "+x"(v1)); // one load: g++ would make it the memory operand of both uses
    const __m256i mask = _mm256_set1_epi8(15);
    if constexpr (Apart && gapart)
        return {{_mm256_and_si256(v0, mask), _mm256_and_si256(v1, mask)},
                {_mm256_andnot_si256(mask, v0), _mm256_andnot_si256(mask, v1)}};
    return {{_mm256_and_si256(v0, mask), _mm256_and_si256(v1, mask)},
            {_mm256_and_si256(_mm256_srli_epi16(v0, 4), mask), _mm256_and_si256(_mm256_srli_epi16(v1, 4), mask)}};
}
template <int Bits> NOTCH_OP void gdot8(__m256i& acc, __m256i& second, __m256i lo, __m256i hi, const std::int8_t* x) {
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI
    vpdpbusd(acc, lo, gquad(x));
    if constexpr (Bits == 4)
        vpdpbusd(second, hi, gquad(x + 4));
    else
        (void)hi, (void)second;
#else
    (void)second;
    if constexpr (Bits == 4) { // four products of at most 15 * 128 fit 16 bits
        const __m256i pairs =
            _mm256_add_epi16(_mm256_maddubs_epi16(lo, gquad(x)), _mm256_maddubs_epi16(hi, gquad(x + 4)));
        acc = _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    } else {
        (void)hi;
        const __m256i a = gquad(x), even = _mm256_and_si256(lo, _mm256_set1_epi16(255));
        const __m256i a_even = _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8);
        acc = _mm256_add_epi32(acc, _mm256_madd_epi16(even, a_even));
        acc = _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_srli_epi16(lo, 8), _mm256_srai_epi16(a, 8)));
    }
#endif
}
template <int Bits> NOTCH_OP void gdot(gint& acc, gint& second, gbytes w, const std::int8_t* x) {
    gdot8<Bits>(acc.lo, second.lo, w.lo[0], w.hi[0], x);
    gdot8<Bits>(acc.hi, second.hi, w.lo[1], w.hi[1], x);
}

#else // portable

NOTCH_OP std::int32_t gsum(const std::int8_t* x, index_t n) {
    std::int32_t sum = 0;
    for (index_t k = 0; k < n; ++k) sum += x[k];
    return sum;
}

struct gfloat {
    float v[16];
};
struct gint {
    std::int32_t v[16];
};
struct gcodes {
    const std::uint8_t* p;
};
using gbytes = gcodes;
inline constexpr int wide_rows = 2, wide_panels = 1;
inline constexpr bool gapart = false;

NOTCH_OP gfloat gset(float x) {
    gfloat r;
    for (int i = 0; i < 16; ++i) r.v[i] = x;
    return r;
}
NOTCH_OP gfloat gload(const float* p, index_t n = 16) {
    gfloat r;
    for (int i = 0; i < 16; ++i) r.v[i] = i < n ? p[i] : 0.0f;
    return r;
}
NOTCH_OP void gstore(float* p, gfloat v, index_t n = 16) {
    for (index_t i = 0; i < 16 && i < n; ++i) p[i] = v.v[i];
}
NOTCH_OP gfloat gfma(gfloat a, gfloat b, gfloat c) {
    for (int i = 0; i < 16; ++i) c.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
    return c;
}
NOTCH_OP gfloat gload_f16(const void* p) {
    gfloat r;
    for (int i = 0; i < 16; ++i) {
        std::uint16_t h;
        __builtin_memcpy(&h, static_cast<const char*>(p) + 2 * i, 2);
        r.v[i] = from_float16(h);
    }
    return r;
}
NOTCH_OP gfloat gload_bf16(const void* p) {
    gfloat r;
    for (int i = 0; i < 16; ++i) {
        std::uint16_t h;
        __builtin_memcpy(&h, static_cast<const char*>(p) + 2 * i, 2);
        r.v[i] = from_bfloat16(h);
    }
    return r;
}
NOTCH_OP gint gload_s8(const std::int8_t* p) {
    gint r;
    for (int i = 0; i < 16; ++i) r.v[i] = p[i];
    return r;
}
NOTCH_OP gfloat gto_float(gint v) {
    gfloat r;
    for (int i = 0; i < 16; ++i) r.v[i] = static_cast<float>(v.v[i]);
    return r;
}
NOTCH_OP gint giset(std::int32_t x) {
    gint r;
    for (int i = 0; i < 16; ++i) r.v[i] = x;
    return r;
}
NOTCH_OP gint giadd(gint a, gint b) {
    for (int i = 0; i < 16; ++i) a.v[i] += b.v[i];
    return a;
}
NOTCH_OP gint gimul(gint a, gint b) {
    for (int i = 0; i < 16; ++i) a.v[i] *= b.v[i];
    return a;
}
NOTCH_OP gint gsixteenth(gint a) {
    for (int i = 0; i < 16; ++i) a.v[i] /= 16;
    return a;
}
template <int Bits> NOTCH_OP gcodes gload_codes(const std::uint8_t* p) { return {p}; }
template <int Bits> NOTCH_OP int gcode(gcodes v, int output, int k) {
    if constexpr (Bits == 8) return v.p[4 * output + k];
    return v.p[4 * output + k % 4] >> (k < 4 ? 0 : 4) & 15;
}
template <int Bits, int P> NOTCH_OP gfloat expand(gcodes v) {
    gfloat r;
    for (int i = 0; i < 16; ++i) r.v[i] = static_cast<float>(gcode<Bits>(v, i, P) - (Bits == 4 ? 8 : 128));
    return r;
}
template <int Bits, bool> NOTCH_OP gbytes gsplit(const std::uint8_t* p) { return {p}; }
template <int Bits> NOTCH_OP void gdot(gint& acc, gint&, gbytes w, const std::int8_t* x) {
    for (int i = 0; i < 16; ++i)
        for (int k = 0; k < (Bits == 4 ? 8 : 4); ++k) acc.v[i] += gcode<Bits>(w, i, k) * x[k];
}

#endif

#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI ||                                   \
    NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
/// The sum of n activations; reads whole 32 bytes.
NOTCH_OP std::int32_t gsum(const std::int8_t* x, index_t n) {
    __m256i sum = _mm256_setzero_si256();
    for (index_t k = 0; k < n; k += 32) {
        const __m256i pairs =
            _mm256_maddubs_epi16(_mm256_set1_epi8(1), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + k)));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}
#endif

} // namespace group_wise
