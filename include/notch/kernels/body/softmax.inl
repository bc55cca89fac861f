// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/softmax.hpp in the region of each instruction set, after body/lookup.inl.
//
// Codes: the code of an output depends on the code of the input alone, once the sum of the row is known. So a
// row takes three passes: its maximum; the sum, through four tables of bytes whose results vpsadbw adds up
// (AVX-512); and the outputs through a table made for this row, whose entries beyond `live` are always 0.
// Accumulators: maximum, sum, outputs, the exponential computed twice, so that no scratch memory is needed.

#define NOTCH_SOFTMAX_512 (NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI)
#define NOTCH_SOFTMAX_256 (NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI)

// --- lanes of uint32, 16 or 8 of them ----------------------------------------------------------

#if NOTCH_SOFTMAX_512

inline constexpr index_t softmax_lanes = 16;
using softmax_vec = __m512i;
NOTCH_OP __mmask16 softmax_first(index_t n) { return static_cast<__mmask16>(n >= 16 ? 0xffffu : (1u << n) - 1u); }
NOTCH_OP softmax_vec softmax_set(std::uint32_t v) { return _mm512_set1_epi32(static_cast<int>(v)); }
NOTCH_OP softmax_vec softmax_set64(std::uint64_t v) { return _mm512_set1_epi64(static_cast<long long>(v)); }
NOTCH_OP softmax_vec softmax_load(const std::int32_t* p, index_t n, softmax_vec fill) {
    return _mm512_mask_loadu_epi32(fill, softmax_first(n), p);
}
NOTCH_OP softmax_vec softmax_load(const std::uint32_t* p) { return _mm512_loadu_si512(p); }
NOTCH_OP softmax_vec softmax_keep(softmax_vec v, index_t n) { return _mm512_maskz_mov_epi32(softmax_first(n), v); }
NOTCH_OP softmax_vec max_s32(softmax_vec a, softmax_vec b) { return _mm512_max_epi32(a, b); }
NOTCH_OP softmax_vec min_u32(softmax_vec a, softmax_vec b) { return _mm512_min_epu32(a, b); }
NOTCH_OP softmax_vec add_32(softmax_vec a, softmax_vec b) { return _mm512_add_epi32(a, b); }
NOTCH_OP softmax_vec sub_32(softmax_vec a, softmax_vec b) { return _mm512_sub_epi32(a, b); }
NOTCH_OP softmax_vec add_64(softmax_vec a, softmax_vec b) { return _mm512_add_epi64(a, b); }
NOTCH_OP softmax_vec mul_even(softmax_vec a, softmax_vec b) { return _mm512_mul_epu32(a, b); }
NOTCH_OP softmax_vec mul_16(softmax_vec a, softmax_vec b) { return _mm512_madd_epi16(a, b); }
NOTCH_OP softmax_vec and_bits(softmax_vec a, softmax_vec b) { return _mm512_and_si512(a, b); }
NOTCH_OP softmax_vec or_bits(softmax_vec a, softmax_vec b) { return _mm512_or_si512(a, b); }
NOTCH_OP softmax_vec odd_down(softmax_vec v) { return _mm512_srli_epi64(v, 32); }
NOTCH_OP softmax_vec odd_up(softmax_vec v) { return _mm512_slli_epi64(v, 32); }
NOTCH_OP softmax_vec right_64(softmax_vec v, int n) { return _mm512_srl_epi64(v, _mm_cvtsi32_si128(n)); }
template <int N> NOTCH_OP softmax_vec right_32(softmax_vec v) { return _mm512_srai_epi32(v, N); }
NOTCH_OP softmax_vec right_each(softmax_vec v, softmax_vec n) { return _mm512_srlv_epi32(v, n); }
/// The low bytes of the first n lanes.
NOTCH_OP void softmax_store(std::uint8_t* p, softmax_vec v, index_t n) {
    _mm_mask_storeu_epi8(p, softmax_first(n), _mm512_cvtepi32_epi8(v));
}
NOTCH_OP std::uint64_t softmax_sum64(softmax_vec v) { return static_cast<std::uint64_t>(_mm512_reduce_add_epi64(v)); }
NOTCH_OP std::int32_t softmax_max32(softmax_vec v) { return _mm512_reduce_max_epi32(v); }

#elif NOTCH_SOFTMAX_256

inline constexpr index_t softmax_lanes = 8;
using softmax_vec = __m256i;
NOTCH_OP softmax_vec softmax_first(index_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n < 8 ? n : 8)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
NOTCH_OP softmax_vec softmax_set(std::uint32_t v) { return _mm256_set1_epi32(static_cast<int>(v)); }
NOTCH_OP softmax_vec softmax_set64(std::uint64_t v) { return _mm256_set1_epi64x(static_cast<long long>(v)); }
NOTCH_OP softmax_vec softmax_load(const std::int32_t* p, index_t n, softmax_vec fill) {
    if (n >= 8) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm256_blendv_epi8(fill, _mm256_maskload_epi32(p, softmax_first(n)), softmax_first(n));
}
NOTCH_OP softmax_vec softmax_load(const std::uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
NOTCH_OP softmax_vec softmax_keep(softmax_vec v, index_t n) { return n >= 8 ? v : _mm256_and_si256(v, softmax_first(n)); }
NOTCH_OP softmax_vec max_s32(softmax_vec a, softmax_vec b) { return _mm256_max_epi32(a, b); }
NOTCH_OP softmax_vec min_u32(softmax_vec a, softmax_vec b) { return _mm256_min_epu32(a, b); }
NOTCH_OP softmax_vec add_32(softmax_vec a, softmax_vec b) { return _mm256_add_epi32(a, b); }
NOTCH_OP softmax_vec sub_32(softmax_vec a, softmax_vec b) { return _mm256_sub_epi32(a, b); }
NOTCH_OP softmax_vec add_64(softmax_vec a, softmax_vec b) { return _mm256_add_epi64(a, b); }
NOTCH_OP softmax_vec mul_even(softmax_vec a, softmax_vec b) { return _mm256_mul_epu32(a, b); }
NOTCH_OP softmax_vec mul_16(softmax_vec a, softmax_vec b) { return _mm256_madd_epi16(a, b); }
NOTCH_OP softmax_vec and_bits(softmax_vec a, softmax_vec b) { return _mm256_and_si256(a, b); }
NOTCH_OP softmax_vec or_bits(softmax_vec a, softmax_vec b) { return _mm256_or_si256(a, b); }
NOTCH_OP softmax_vec odd_down(softmax_vec v) { return _mm256_srli_epi64(v, 32); }
NOTCH_OP softmax_vec odd_up(softmax_vec v) { return _mm256_slli_epi64(v, 32); }
NOTCH_OP softmax_vec right_64(softmax_vec v, int n) { return _mm256_srl_epi64(v, _mm_cvtsi32_si128(n)); }
template <int N> NOTCH_OP softmax_vec right_32(softmax_vec v) { return _mm256_srai_epi32(v, N); }
NOTCH_OP softmax_vec right_each(softmax_vec v, softmax_vec n) { return _mm256_srlv_epi32(v, n); }
NOTCH_OP void softmax_store(std::uint8_t* p, softmax_vec v, index_t n) {
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
NOTCH_OP std::uint64_t softmax_sum64(softmax_vec v) {
    std::uint64_t lanes[4];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), v);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}
NOTCH_OP std::int32_t softmax_max32(softmax_vec v) {
    std::int32_t lanes[8];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), v);
    std::int32_t top = lanes[0];
    for (int i = 1; i < 8; ++i) top = lanes[i] > top ? lanes[i] : top;
    return top;
}

#endif

// --- what a row has in common --------------------------------------------------------------------

#if NOTCH_SOFTMAX_512 || NOTCH_SOFTMAX_256

/// detail::softmax_code for each lane, xor flip.
struct softmax_output {
    softmax_vec reciprocal, half, flip;
    int shift;
};
NOTCH_OP softmax_output make_output(detail::softmax_divisor d, std::uint8_t flip) {
    return {softmax_set64(d.reciprocal), softmax_set64(std::uint64_t{1} << (d.shift - 1)), softmax_set(flip), d.shift};
}
NOTCH_OP softmax_vec output_codes(softmax_vec e, const softmax_output& o) {
    const softmax_vec even = right_64(add_64(mul_even(e, o.reciprocal), o.half), o.shift);
    const softmax_vec odd = right_64(add_64(mul_even(odd_down(e), o.reciprocal), o.half), o.shift);
    const softmax_vec codes = min_u32(or_bits(even, odd_up(odd)), softmax_set(255));
    // The flip is 0 or 128: an addition without a carry into the next lane.
    return add_32(codes, o.flip);
}

/// detail::softmax_exponential for each lane.
struct softmax_scaling {
    softmax_vec multiplier, half, furthest;
    int shift;
};
NOTCH_OP softmax_vec exponentials(softmax_vec d, const softmax_scaling& s) {
    const softmax_vec near = min_u32(d, s.furthest);
    const softmax_vec even = right_64(add_64(mul_even(near, s.multiplier), s.half), s.shift);
    const softmax_vec odd = right_64(add_64(mul_even(odd_down(near), s.multiplier), s.half), s.shift);
    const softmax_vec t = min_u32(or_bits(even, odd_up(odd)), softmax_set(31u << 15));
    const softmax_vec f = and_bits(t, softmax_set(32767));
    softmax_vec v = softmax_set(3596);
    v = add_32(softmax_set(static_cast<std::uint32_t>(-27834)), right_32<15>(mul_16(v, f)));
    v = add_32(softmax_set(31359), right_32<17>(mul_16(v, f)));
    v = add_32(softmax_set(static_cast<std::uint32_t>(-22708)), right_32<17>(mul_16(v, f)));
    return right_each(add_32(softmax_set(1u << 30), mul_16(v, f)), right_32<15>(t));
}

#endif

NOTCH_OP void softmax_nothing(std::uint8_t* y, index_t cols, std::uint8_t flip) {
    for (index_t j = 0; j < cols; ++j) y[j] = flip;
}

// --- codes ---------------------------------------------------------------------------------------

#if NOTCH_SOFTMAX_512

NOTCH_OP __mmask64 softmax_first64(index_t n) { return n >= 64 ? ~0ull : (1ull << n) - 1ull; }
/// 64 codes in the order of u8; lanes past the end are 0.
NOTCH_OP __m512i softmax_codes(const std::uint8_t* p, index_t n, __m512i flip) {
    if (n >= 64) return _mm512_xor_si512(_mm512_loadu_si512(p), flip);
    const __mmask64 m = softmax_first64(n);
    return _mm512_maskz_mov_epi8(m, _mm512_xor_si512(_mm512_maskz_loadu_epi8(m, p), flip));
}
NOTCH_OP std::uint8_t softmax_top(const std::uint8_t* x, index_t cols, std::uint8_t x_flip) {
    const __m512i flip = _mm512_set1_epi8(static_cast<char>(x_flip));
    __m512i top = _mm512_setzero_si512();
    for (index_t j = 0; j < cols; j += 64) top = _mm512_max_epu8(top, softmax_codes(x + j, cols - j, flip));
    const __m256i a = _mm256_max_epu8(_mm512_castsi512_si256(top), _mm512_extracti64x4_epi64(top, 1));
    __m128i b = _mm_max_epu8(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    // The smallest of the complements: bytes to words, then vphminposuw.
    b = _mm_xor_si128(b, _mm_set1_epi8(-1));
    b = _mm_min_epu8(b, _mm_srli_epi16(b, 8));
    return static_cast<std::uint8_t>(~_mm_extract_epi16(_mm_minpos_epu16(_mm_and_si128(b, _mm_set1_epi16(255))), 0));
}
NOTCH_OP std::uint64_t softmax_sum(const std::uint8_t* x, index_t cols, std::uint8_t x_flip, std::uint8_t top,
                                   const softmax_args& p, const byte_table (&e)[4]) {
    const __m512i flip = _mm512_set1_epi8(static_cast<char>(x_flip)), from = _mm512_set1_epi8(static_cast<char>(top));
    const __m512i zero = _mm512_setzero_si512();
    __m512i s0 = zero, s1 = zero, s2 = zero, s3 = zero;
    (void)p;
    for (index_t j = 0; j < cols; j += 64) {
        const __m512i d = _mm512_sub_epi8(from, softmax_codes(x + j, cols - j, flip));
        const __mmask64 m = softmax_first64(cols - j);
        s0 = _mm512_add_epi64(s0, _mm512_sad_epu8(_mm512_maskz_mov_epi8(m, look_up(e[0], d)), zero));
        s1 = _mm512_add_epi64(s1, _mm512_sad_epu8(_mm512_maskz_mov_epi8(m, look_up(e[1], d)), zero));
        s2 = _mm512_add_epi64(s2, _mm512_sad_epu8(_mm512_maskz_mov_epi8(m, look_up(e[2], d)), zero));
        s3 = _mm512_add_epi64(s3, _mm512_sad_epu8(_mm512_maskz_mov_epi8(m, look_up(e[3], d)), zero));
    }
    const __m512i low = _mm512_add_epi64(s0, _mm512_slli_epi64(s1, 8)), high = _mm512_add_epi64(s2, _mm512_slli_epi64(s3, 8));
    return softmax_sum64(_mm512_add_epi64(low, _mm512_slli_epi64(high, 16)));
}
NOTCH_OP void softmax_apply(const std::uint8_t* x, std::uint8_t* y, index_t cols, std::uint8_t x_flip, std::uint8_t top,
                            const std::uint8_t* table) {
    const __m512i flip = _mm512_set1_epi8(static_cast<char>(x_flip)), from = _mm512_set1_epi8(static_cast<char>(top));
    const byte_table t = load_table(table);
    for (index_t j = 0; j < cols; j += 64) {
        const __m512i codes = look_up(t, _mm512_sub_epi8(from, softmax_codes(x + j, cols - j, flip)));
        if (cols - j >= 64) _mm512_storeu_si512(y + j, codes);
        else _mm512_mask_storeu_epi8(y + j, softmax_first64(cols - j), codes);
    }
}

#else

NOTCH_OP std::uint8_t softmax_top(const std::uint8_t* x, index_t cols, std::uint8_t x_flip) {
    index_t j = 0;
    std::uint8_t top = 0;
#if NOTCH_SOFTMAX_256
    if (cols >= 32) {
        const __m256i flip = _mm256_set1_epi8(static_cast<char>(x_flip));
        __m256i v = _mm256_setzero_si256();
        for (; j + 32 <= cols; j += 32)
            v = _mm256_max_epu8(v, _mm256_xor_si256(flip, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + j))));
        std::uint8_t lanes[32];
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), v);
        for (std::uint8_t c : lanes) top = c > top ? c : top;
    }
#endif
    for (; j < cols; ++j) {
        const auto c = static_cast<std::uint8_t>(x[j] ^ x_flip);
        top = c > top ? c : top;
    }
    return top;
}
NOTCH_OP std::uint64_t softmax_sum(const std::uint8_t* x, index_t cols, std::uint8_t x_flip, std::uint8_t top,
                                   const softmax_args& p) {
    const std::uint32_t* e = p.exponential;
    std::uint64_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    index_t j = 0;
    for (; j + 4 <= cols; j += 4) {
        s0 += e[top - (x[j] ^ x_flip)];
        s1 += e[top - (x[j + 1] ^ x_flip)];
        s2 += e[top - (x[j + 2] ^ x_flip)];
        s3 += e[top - (x[j + 3] ^ x_flip)];
    }
    for (; j < cols; ++j) s0 += e[top - (x[j] ^ x_flip)];
    return s0 + s1 + s2 + s3;
}
NOTCH_OP void softmax_apply(const std::uint8_t* x, std::uint8_t* y, index_t cols, std::uint8_t x_flip, std::uint8_t top,
                            const std::uint8_t* table) {
    index_t j = 0;
#if NOTCH_SOFTMAX_256
    if (cols >= 64) {
        const __m256i flip = _mm256_set1_epi8(static_cast<char>(x_flip)), from = _mm256_set1_epi8(static_cast<char>(top));
        const byte_table t = load_table(table);
        for (; j + 32 <= cols; j += 32) {
            const __m256i c = _mm256_xor_si256(flip, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + j)));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + j), look_up(t, _mm256_sub_epi8(from, c)));
        }
    }
#endif
    for (; j < cols; ++j) y[j] = table[top - (x[j] ^ x_flip)];
}

#endif

static void softmax_u8(const softmax_args& p) {
    alignas(64) std::uint8_t table[256];
    for (int d = 0; d < 256; ++d) table[d] = p.y_flip;
#if NOTCH_SOFTMAX_512
    const byte_table e[4] = {load_table(p.bytes), load_table(p.bytes + 256), load_table(p.bytes + 512), load_table(p.bytes + 768)};
#endif
    for (index_t i = 0; i < p.rows; ++i) {
        const std::uint8_t* x = static_cast<const std::uint8_t*>(p.x) + i * p.ldx;
        std::uint8_t* y = p.y + i * p.ldy;
        const std::uint8_t top = softmax_top(x, p.cols, p.x_flip);
#if NOTCH_SOFTMAX_512
        const std::uint64_t sum = softmax_sum(x, p.cols, p.x_flip, top, p, e);
#else
        const std::uint64_t sum = softmax_sum(x, p.cols, p.x_flip, top, p);
#endif
        const detail::softmax_divisor divisor = detail::make_softmax_divisor(sum);
        if (divisor.shift == 0) {
            softmax_nothing(y, p.cols, p.y_flip);
            continue;
        }
#if NOTCH_SOFTMAX_512 || NOTCH_SOFTMAX_256
        // Entries from live to the next multiple of the lanes come out as 0 too.
        const softmax_output o = make_output(divisor, p.y_flip);
        for (index_t d = 0; d < p.live; d += softmax_lanes)
            softmax_store(table + d, output_codes(softmax_load(p.exponential + d), o), softmax_lanes);
#else
        if (p.cols < p.live) { // cheaper than the table
            for (index_t j = 0; j < p.cols; ++j)
                y[j] = static_cast<std::uint8_t>(detail::softmax_code(p.exponential[top - (x[j] ^ p.x_flip)], divisor) ^ p.y_flip);
            continue;
        }
        for (index_t d = 0; d < p.live; ++d)
            table[d] = static_cast<std::uint8_t>(detail::softmax_code(p.exponential[d], divisor) ^ p.y_flip);
#endif
        softmax_apply(x, y, p.cols, p.x_flip, top, table);
    }
}

// --- accumulators --------------------------------------------------------------------------------

static void softmax_s32(const softmax_args& p) {
#if NOTCH_SOFTMAX_512 || NOTCH_SOFTMAX_256
    const softmax_scaling s{softmax_set64(p.scaling.multiplier), softmax_set64(std::uint64_t{1} << (p.scaling.shift - 1)),
                            softmax_set(p.scaling.furthest), p.scaling.shift};
    const softmax_vec least = softmax_set(0x80000000u), low = softmax_set64(0xffffffffu);
    for (index_t i = 0; i < p.rows; ++i) {
        const std::int32_t* x = static_cast<const std::int32_t*>(p.x) + i * p.ldx;
        std::uint8_t* y = p.y + i * p.ldy;
        softmax_vec tops = least;
        for (index_t j = 0; j < p.cols; j += softmax_lanes) tops = max_s32(tops, softmax_load(x + j, p.cols - j, least));
        const softmax_vec top = softmax_set(static_cast<std::uint32_t>(softmax_max32(tops)));
        softmax_vec even = softmax_set(0), odd = even;
        for (index_t j = 0; j < p.cols; j += softmax_lanes) {
            const softmax_vec e = softmax_keep(exponentials(sub_32(top, softmax_load(x + j, p.cols - j, top)), s), p.cols - j);
            even = add_64(even, and_bits(e, low));
            odd = add_64(odd, odd_down(e));
        }
        const detail::softmax_divisor divisor = detail::make_softmax_divisor(softmax_sum64(add_64(even, odd)));
        if (divisor.shift == 0) {
            softmax_nothing(y, p.cols, p.y_flip);
            continue;
        }
        const softmax_output o = make_output(divisor, p.y_flip);
        for (index_t j = 0; j < p.cols; j += softmax_lanes)
            softmax_store(y + j, output_codes(exponentials(sub_32(top, softmax_load(x + j, p.cols - j, top)), s), o), p.cols - j);
    }
#else
    for (index_t i = 0; i < p.rows; ++i) {
        const std::int32_t* x = static_cast<const std::int32_t*>(p.x) + i * p.ldx;
        std::uint8_t* y = p.y + i * p.ldy;
        std::int32_t top = x[0];
        for (index_t j = 1; j < p.cols; ++j) top = x[j] > top ? x[j] : top;
        const auto e = [&](index_t j) {
            return detail::softmax_exponential(static_cast<std::uint32_t>(top) - static_cast<std::uint32_t>(x[j]), p.scaling);
        };
        std::uint64_t sum = 0;
        for (index_t j = 0; j < p.cols; ++j) sum += e(j);
        const detail::softmax_divisor divisor = detail::make_softmax_divisor(sum);
        for (index_t j = 0; j < p.cols; ++j)
            y[j] = static_cast<std::uint8_t>(detail::softmax_code(e(j), divisor) ^ p.y_flip);
    }
#endif
}

inline constexpr softmax_kernels softmax_kernel_table = {softmax_u8, softmax_s32};

#undef NOTCH_SOFTMAX_256
#undef NOTCH_SOFTMAX_512
