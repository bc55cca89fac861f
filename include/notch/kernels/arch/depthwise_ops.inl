// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/body/depthwise.inl in the region of each instruction set: how a register is
// filled with channels, and the output stage of codes.
//
// Output stage, "words": with |acc * m| < 32000 (epilogue_args::words) the code is
//     rint(acc * m) + zp = low 16 bits of the float  -(1.5 * 2^23 + zp) - acc * m
// since floats of [2^23, 2^24) are the integers, so that the subtraction rounds, half to even if zp is
// even. The sign makes the high 16 bits negative, and vpackuswb turns them into zeros while it clamps
// the low ones to 0..255; twice more, and four registers are one. For an odd zp the same with -acc * m
// and 255 - zp gives 255 - code, with the ties again on even integers of acc * m. An s8 code is a u8
// code with zp + 128, minus 128. Multiplication and subtraction must not be contracted: the contract
// rounds the product to float first.

/// Which channels a vector holds: byte_width of one pixel; fewer, the rest zero; or, for at most a half
/// or a quarter, those of two or four pixels that are `distance` outputs apart. part_...: not all bytes of
/// it, which costs masks.
enum class lanes { full, part, halves, part_halves, quarters, part_quarters };
template <lanes L> constexpr int strips() {
    return L == lanes::full || L == lanes::part ? 1 : L == lanes::halves || L == lanes::part_halves ? 2 : 4;
}

#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI ||                                   \
    NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
/// The first n < 16 bytes. Masked stores of bytes are microcode on some CPUs; these branches are
/// always the same.
NOTCH_OP void store_first(std::uint8_t* p, __m128i v, index_t n) {
    if (n & 8) {
        _mm_storel_epi64(reinterpret_cast<__m128i*>(p), v);
        v = _mm_srli_si128(v, 8);
        p += 8;
    }
    if (n & 4) {
        const int x = _mm_cvtsi128_si32(v);
        __builtin_memcpy(p, &x, 4);
        v = _mm_srli_si128(v, 4);
        p += 4;
    }
    const int x = _mm_cvtsi128_si32(v);
    if (n & 2) __builtin_memcpy(p, &x, 2);
    if (n & 1) p[n & 2] = static_cast<std::uint8_t>(n & 2 ? x >> 16 : x);
}
/// The first n < 32 bytes.
NOTCH_OP void store_first(std::uint8_t* p, __m256i v, index_t n) {
    __m128i x = _mm256_castsi256_si128(v);
    if (n & 16) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), x);
        x = _mm256_extracti128_si256(v, 1);
        p += 16;
    }
    store_first(p, x, n);
}
#endif

#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI

/// The first n < 64 bytes.
NOTCH_OP void store_first(std::uint8_t* p, __m512i v, index_t n) {
    __m256i x = _mm512_castsi512_si256(v);
    if (n & 32) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x);
        x = _mm512_extracti64x4_epi64(v, 1);
        p += 32;
    }
    store_first(p, x, n);
}

struct lane_masks {
    __mmask64 all;
};
NOTCH_OP lane_masks make_masks(index_t count) { return {first64(count)}; }

template <lanes L> NOTCH_OP nvec load_lanes(const std::uint8_t* const (&p)[strips<L>()], lane_masks m) {
    if constexpr (L == lanes::full)
        return _mm512_loadu_si512(p[0]);
    else if constexpr (L == lanes::part)
        return _mm512_maskz_loadu_epi8(m.all, p[0]);
    else if constexpr (L == lanes::halves) {
        return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p[0]))),
                                  _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p[1])), 1);
    } else if constexpr (L == lanes::part_halves) {
        const auto half = static_cast<__mmask32>(m.all);
        return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_maskz_loadu_epi8(half, p[0])),
                                  _mm256_maskz_loadu_epi8(half, p[1]), 1);
    } else {
        const auto load = [&](const std::uint8_t* q) __attribute__((always_inline)) {
            if constexpr (L == lanes::quarters)
                return _mm_loadu_si128(reinterpret_cast<const __m128i*>(q));
            else
                return _mm_maskz_loadu_epi8(static_cast<__mmask16>(m.all), q);
        };
        __m512i v = _mm512_castsi128_si512(load(p[0]));
        v = _mm512_mask_broadcast_i32x4(v, 0x00f0, load(p[1]));
        v = _mm512_mask_broadcast_i32x4(v, 0x0f00, load(p[2]));
        return _mm512_mask_broadcast_i32x4(v, 0xf000, load(p[3]));
    }
}
/// distance: bytes from one strip to the next.
template <lanes L> NOTCH_OP void store_lanes(std::uint8_t* p, index_t distance, nvec v, lane_masks, index_t count) {
    if constexpr (L == lanes::full)
        _mm512_storeu_si512(p, v);
    else if constexpr (L == lanes::part)
        store_first(p, v, count);
    else if constexpr (L == lanes::halves) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_castsi512_si256(v));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + distance), _mm512_extracti64x4_epi64(v, 1));
    } else if constexpr (L == lanes::part_halves) {
        store_first(p, _mm512_castsi512_si256(v), count);
        store_first(p + distance, _mm512_extracti64x4_epi64(v, 1), count);
    } else {
        const auto store = [&](std::uint8_t * q, __m128i x) __attribute__((always_inline)) {
            if constexpr (L == lanes::quarters)
                _mm_storeu_si128(reinterpret_cast<__m128i*>(q), x);
            else
                store_first(q, x, count);
        };
        store(p, _mm512_castsi512_si128(v));
        store(p + distance, _mm512_extracti32x4_epi32(v, 1));
        store(p + 2 * distance, _mm512_extracti32x4_epi32(v, 2));
        store(p + 3 * distance, _mm512_extracti32x4_epi32(v, 3));
    }
}

/// The four vectors of a block, vector k with channels 16 * lane + 4 * k + 0..3, to channels in their order.
NOTCH_OP void natural_order(const std::int32_t* lane, acc16 (&v)[4]) {
    const __m512i a = load_s32(lane), b = load_s32(lane + 16), c = load_s32(lane + 32), d = load_s32(lane + 48);
    const __m512i ab = _mm512_shuffle_i32x4(a, b, 0x44),
                  ab2 = _mm512_shuffle_i32x4(a, b, 0xee); // lanes 0 1 of each; 2 3
    const __m512i cd = _mm512_shuffle_i32x4(c, d, 0x44), cd2 = _mm512_shuffle_i32x4(c, d, 0xee);
    v[0] = _mm512_shuffle_i32x4(ab, cd, 0x88);
    v[1] = _mm512_shuffle_i32x4(ab, cd, 0xdd);
    v[2] = _mm512_shuffle_i32x4(ab2, cd2, 0x88);
    v[3] = _mm512_shuffle_i32x4(ab2, cd2, 0xdd);
}

inline constexpr bool has_words = true;
struct word_stage {
    __m512 offset;
    __m512i lo, hi, flip;
    bool clamp;
};
NOTCH_OP nvec pack_words(nvec a, nvec b) { return _mm512_packus_epi16(a, b); }
NOTCH_OP nfloat set_float(float v) { return _mm512_set1_ps(v); }
NOTCH_OP nvec set_byte(int v) { return _mm512_set1_epi8(static_cast<char>(v)); }
NOTCH_OP nvec words_of(nvec acc, nfloat m, const word_stage& s) {
    __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), m);
    __asm__("" : "+v"(product)); // never one fused operation with the subtraction
    return _mm512_castps_si512(_mm512_sub_ps(s.offset, product));
}
NOTCH_OP nvec codes_of_words(nvec a, nvec b, const word_stage& s) {
    nvec v = _mm512_packus_epi16(a, b);
    if (s.clamp) v = _mm512_min_epu8(_mm512_max_epu8(v, s.lo), s.hi);
    return _mm512_xor_si512(v, s.flip);
}

#elif NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI

struct lane_masks {
    __m256i dwords; ///< whole dwords of the channels
    __m256i last;   ///< the dword with the bytes left over
    index_t whole;  ///< bytes before it
    int bytes;      ///< 0..3
};
NOTCH_OP lane_masks make_masks(index_t count) {
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i n = _mm256_set1_epi32(static_cast<int>(count / 4));
    return {_mm256_cmpgt_epi32(n, index), _mm256_cmpeq_epi32(n, index), count / 4 * 4, static_cast<int>(count % 4)};
}
/// The 1..3 bytes at p, in the lowest bytes.
NOTCH_OP int few_bytes(const std::uint8_t* p, int n) {
    return p[0] | (n > 1 ? p[1] << 8 : 0) | (n > 2 ? p[2] << 16 : 0);
}
NOTCH_OP __m128i load_quad(const std::uint8_t* p, const lane_masks& m) {
    __m128i v = _mm_maskload_epi32(reinterpret_cast<const int*>(p), _mm256_castsi256_si128(m.dwords));
    if (m.bytes)
        v = _mm_or_si128(
            v, _mm_and_si128(_mm256_castsi256_si128(m.last), _mm_set1_epi32(few_bytes(p + m.whole, m.bytes))));
    return v;
}
template <lanes L> NOTCH_OP nvec load_lanes(const std::uint8_t* const (&p)[strips<L>()], const lane_masks& m) {
    if constexpr (L == lanes::full)
        return load256(p[0]);
    else if constexpr (L == lanes::part) {
        __m256i v = _mm256_maskload_epi32(reinterpret_cast<const int*>(p[0]), m.dwords);
        if (m.bytes)
            v = _mm256_or_si256(v, _mm256_and_si256(m.last, _mm256_set1_epi32(few_bytes(p[0] + m.whole, m.bytes))));
        return v;
    } else if constexpr (L == lanes::halves) {
        return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p[0]))),
                                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(p[1])), 1);
    } else {
        return _mm256_inserti128_si256(_mm256_castsi128_si256(load_quad(p[0], m)), load_quad(p[1], m), 1);
    }
}
template <lanes L>
NOTCH_OP void store_lanes(std::uint8_t* p, index_t distance, nvec v, const lane_masks&, index_t count) {
    const __m128i low = _mm256_castsi256_si128(v);
    if constexpr (L == lanes::full)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
    else if constexpr (L == lanes::part)
        store_first(p, v, count);
    else if constexpr (L == lanes::halves) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), low);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p + distance), _mm256_extracti128_si256(v, 1));
    } else {
        store_first(p, low, count);
        store_first(p + distance, _mm256_extracti128_si256(v, 1), count);
    }
}

/// The four vectors of a block, vector k with channels 16 * lane + 4 * k + 0..3, to channels in their order.
NOTCH_OP void natural_order(const std::int32_t* lane, acc16 (&v)[2]) {
    const acc16 ab = load_s32(lane), cd = load_s32(lane + 16);
    v[0] = {_mm256_permute2x128_si256(ab.lo, ab.hi, 0x20), _mm256_permute2x128_si256(cd.lo, cd.hi, 0x20)};
    v[1] = {_mm256_permute2x128_si256(ab.lo, ab.hi, 0x31), _mm256_permute2x128_si256(cd.lo, cd.hi, 0x31)};
}

inline constexpr bool has_words = true;
struct word_stage {
    __m256 offset;
    __m256i lo, hi, flip;
    bool clamp;
};
NOTCH_OP nvec pack_words(nvec a, nvec b) { return _mm256_packus_epi16(a, b); }
NOTCH_OP nfloat set_float(float v) { return _mm256_set1_ps(v); }
NOTCH_OP nvec set_byte(int v) { return _mm256_set1_epi8(static_cast<char>(v)); }
NOTCH_OP nvec words_of(nvec acc, nfloat m, const word_stage& s) {
    __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), m);
    __asm__("" : "+x"(product)); // never one fused operation with the subtraction
    return _mm256_castps_si256(_mm256_sub_ps(s.offset, product));
}
NOTCH_OP nvec codes_of_words(nvec a, nvec b, const word_stage& s) {
    nvec v = _mm256_packus_epi16(a, b);
    if (s.clamp) v = _mm256_min_epu8(_mm256_max_epu8(v, s.lo), s.hi);
    return _mm256_xor_si256(v, s.flip);
}

#else // portable

struct lane_masks {
    index_t count;
};
NOTCH_OP lane_masks make_masks(index_t count) { return {count}; }
template <lanes L> NOTCH_OP nvec load_lanes(const std::uint8_t* const (&p)[strips<L>()], lane_masks m) {
    return load_nbytes<L == lanes::full>(p[0], m.count);
}
template <lanes L> NOTCH_OP void store_lanes(std::uint8_t* p, index_t, nvec v, lane_masks, index_t count) {
    store_nbytes<L == lanes::full>(p, v, count);
}

/// The four vectors of a block, vector k with channels 16 * lane + 4 * k + 0..3, to channels in their order.
NOTCH_OP void natural_order(const std::int32_t* lane, acc16 (&v)[1]) { v[0] = load_s32(lane); }

inline constexpr bool has_words = false; // pack_ncodes instead
struct word_stage {};
NOTCH_OP word_stage make_words(const epilogue_args&) { return {}; }

#endif

#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
/// acc += four products, the weights in memory: there are more of them than registers.
NOTCH_OP void ndot_from(nvec& acc, nvec a, const std::int8_t* w) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "m"(*reinterpret_cast<const __m512i*>(w)));
}
#elif NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI
NOTCH_OP void ndot_from(nvec& acc, nvec a, const std::int8_t* w) {
#if defined(NOTCH_AVXVNNI_AS_EVEX)
    __asm__("%{evex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(a), "m"(*reinterpret_cast<const __m256i*>(w)));
#else
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(a), "m"(*reinterpret_cast<const __m256i*>(w)));
#endif
}
#else
NOTCH_OP void ndot_from(nvec& acc, nvec a, const std::int8_t* w) { ndot(acc, a, load_nweights<false>(w)); }
#endif

#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI ||                                   \
    NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
NOTCH_OP word_stage make_words(const epilogue_args& ep) {
    const bool is_s8 = ep.store == store_kind::s8;
    const int shift = is_s8 ? 128 : 0, zp = ep.zero_point + shift, lo = ep.lo + shift, hi = ep.hi + shift;
    const bool odd = zp % 2 != 0;
    return {set_float(-(12582912.0f + static_cast<float>(odd ? 255 - zp : zp))), set_byte(odd ? 255 - hi : lo),
            set_byte(odd ? 255 - lo : hi), set_byte((odd ? 255 : 0) ^ (is_s8 ? 128 : 0)), lo != 0 || hi != 255};
}
#endif

// Products of 16-bit pairs, for the instruction sets whose only exact product of bytes they are.
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW
inline constexpr bool has_pairs = true;
/// (a[c], b[c]) as words of one dword for each channel c.
NOTCH_OP void pair_words(nvec a, nvec b, nvec (&t)[4]) {
    const __m512i zero = _mm512_setzero_si512();
    const __m512i low = _mm512_unpacklo_epi8(a, b), high = _mm512_unpackhi_epi8(a, b);
    t[0] = _mm512_unpacklo_epi8(low, zero);
    t[1] = _mm512_unpackhi_epi8(low, zero);
    t[2] = _mm512_unpacklo_epi8(high, zero);
    t[3] = _mm512_unpackhi_epi8(high, zero);
}
NOTCH_OP void madd_from(nvec& acc, nvec v, const std::int16_t* w) {
    acc = _mm512_add_epi32(acc, _mm512_madd_epi16(v, _mm512_loadu_si512(w)));
}
#elif NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2
inline constexpr bool has_pairs = true;
NOTCH_OP void pair_words(nvec a, nvec b, nvec (&t)[4]) {
    const __m256i zero = _mm256_setzero_si256();
    const __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
    t[0] = _mm256_unpacklo_epi8(low, zero);
    t[1] = _mm256_unpackhi_epi8(low, zero);
    t[2] = _mm256_unpacklo_epi8(high, zero);
    t[3] = _mm256_unpackhi_epi8(high, zero);
}
NOTCH_OP void madd_from(nvec& acc, nvec v, const std::int16_t* w) {
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(v, load256(w)));
}
#else
inline constexpr bool has_pairs = false;
#endif

/// Keeps the compiler from turning addresses into many induction variables, which it then spills.
NOTCH_OP const std::uint8_t* opaque(const std::uint8_t* p) {
#if defined(__GNUC__)
    __asm__("" : "+r"(p));
#endif
    return p;
}
