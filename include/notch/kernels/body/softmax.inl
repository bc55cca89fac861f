// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/softmax.hpp in the region of each instruction set, after body/lookup.inl.
//
// Codes: the code of an output depends on the code of the input alone, once the sum of the row is known. So a
// row takes three passes: its maximum; the sum, through four tables of bytes whose results vpsadbw adds up
// (AVX-512); and the outputs through a table made for this row, whose entries beyond `live` are always 0.
// Accumulators: body/softmax_s32.inl.

#define NOTCH_SOFTMAX_512 (NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI)
#define NOTCH_SOFTMAX_256 (NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI)

// --- what a row has in common --------------------------------------------------------------------

#if NOTCH_SOFTMAX_512 || NOTCH_SOFTMAX_256

#if NOTCH_SOFTMAX_512
/// e[top - code] for the first n of 16 codes.
NOTCH_OP vec32 softmax_gather(const std::uint32_t* e, const std::uint8_t* x, index_t n, std::uint8_t flip,
                              std::uint8_t top) {
    const __m128i codes =
        _mm_xor_si128(_mm_maskz_loadu_epi8(first_lanes(n), x), _mm_set1_epi8(static_cast<char>(flip)));
    const __m512i d = _mm512_maskz_sub_epi32(first_lanes(n), _mm512_set1_epi32(top), _mm512_cvtepu8_epi32(codes));
    return _mm512_i32gather_epi32(d, e, 4);
}
#else
NOTCH_OP vec32 softmax_gather(const std::uint32_t* e, const std::uint8_t* x, index_t n, std::uint8_t flip,
                              std::uint8_t top) {
    std::uint32_t l[8] = {};
    for (index_t i = 0; i < 8 && i < n; ++i) l[i] = e[top - (x[i] ^ flip)];
    return load_lanes(l);
}
#endif

/// detail::softmax_code for each lane, but up to 256.
struct softmax_output {
    vec32 reciprocal, half;
    int shift;
};
NOTCH_OP softmax_output make_output(detail::softmax_divisor d) {
    return {set_lanes64(d.reciprocal), set_lanes64(std::uint64_t{1} << (d.shift - 1)), d.shift};
}
NOTCH_OP vec32 output_codes(vec32 e, const softmax_output& o) {
    const vec32 even = right_64(add_64(mul_even(e, o.reciprocal), o.half), o.shift);
    const vec32 odd = right_64(add_64(mul_even(odd_down(e), o.reciprocal), o.half), o.shift);
    return or_bits(even, odd_up(odd));
}
/// The first n of them. The flip is 0 or 128: an addition without a carry into the next lane.
NOTCH_OP void store_codes(std::uint8_t* y, vec32 codes, std::uint8_t flip, index_t n) {
    store_lanes8(y, add_32(min_u32(codes, set_lanes(255)), set_lanes(flip)), n);
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
                                   const byte_table (&e)[4]) {
    const __m512i flip = _mm512_set1_epi8(static_cast<char>(x_flip)), from = _mm512_set1_epi8(static_cast<char>(top));
    const __m512i zero = _mm512_setzero_si512();
    __m512i s0 = zero, s1 = zero, s2 = zero, s3 = zero;
    for (index_t j = 0; j < cols; j += 64) {
        const __m512i d = _mm512_sub_epi8(from, softmax_codes(x + j, cols - j, flip));
        const __mmask64 m = softmax_first64(cols - j);
        s0 = _mm512_add_epi64(s0, _mm512_sad_epu8(_mm512_maskz_mov_epi8(m, look_up(e[0], d)), zero));
        s1 = _mm512_add_epi64(s1, _mm512_sad_epu8(_mm512_maskz_mov_epi8(m, look_up(e[1], d)), zero));
        s2 = _mm512_add_epi64(s2, _mm512_sad_epu8(_mm512_maskz_mov_epi8(m, look_up(e[2], d)), zero));
        s3 = _mm512_add_epi64(s3, _mm512_sad_epu8(_mm512_maskz_mov_epi8(m, look_up(e[3], d)), zero));
    }
    const __m512i low = _mm512_add_epi64(s0, _mm512_slli_epi64(s1, 8)),
                  high = _mm512_add_epi64(s2, _mm512_slli_epi64(s3, 8));
    return sum_lanes64(_mm512_add_epi64(low, _mm512_slli_epi64(high, 16)));
}
NOTCH_OP void softmax_apply(const std::uint8_t* x, std::uint8_t* y, index_t cols, std::uint8_t x_flip, std::uint8_t top,
                            const std::uint8_t* table) {
    const __m512i flip = _mm512_set1_epi8(static_cast<char>(x_flip)), from = _mm512_set1_epi8(static_cast<char>(top));
    const byte_table t = load_table(table);
    for (index_t j = 0; j < cols; j += 64) {
        const __m512i codes = look_up(t, _mm512_sub_epi8(from, softmax_codes(x + j, cols - j, flip)));
        if (cols - j >= 64)
            _mm512_storeu_si512(y + j, codes);
        else
            _mm512_mask_storeu_epi8(y + j, softmax_first64(cols - j), codes);
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
        std::uint8_t bytes[32];
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(bytes), v);
        for (std::uint8_t c : bytes) top = c > top ? c : top;
    }
#endif
    for (; j < cols; ++j) {
        const auto c = static_cast<std::uint8_t>(x[j] ^ x_flip);
        top = c > top ? c : top;
    }
    return top;
}
NOTCH_OP std::uint64_t softmax_sum(const std::uint8_t* x, index_t cols, std::uint8_t x_flip, std::uint8_t top,
                                   const std::uint32_t* e) {
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
        const __m256i flip = _mm256_set1_epi8(static_cast<char>(x_flip)),
                      from = _mm256_set1_epi8(static_cast<char>(top));
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

inline void softmax_u8(const softmax_args& p) {
    alignas(64) std::uint8_t table[256];
    for (int d = 0; d < 256; ++d) table[d] = p.y_flip;
#if NOTCH_SOFTMAX_512
    const byte_table e[4] = {load_table(p.bytes), load_table(p.bytes + 256), load_table(p.bytes + 512),
                             load_table(p.bytes + 768)};
#endif
    for (index_t i = 0; i < p.rows; ++i) {
        const std::uint8_t* x = static_cast<const std::uint8_t*>(p.x) + i * p.ldx;
        std::uint8_t* y = p.y + i * p.ldy;
        const std::uint8_t top = softmax_top(x, p.cols, p.x_flip);
#if NOTCH_SOFTMAX_512
        const std::uint64_t sum = softmax_sum(x, p.cols, p.x_flip, top, e);
#else
        const std::uint64_t sum = softmax_sum(x, p.cols, p.x_flip, top, p.exponential);
#endif
        const detail::softmax_divisor divisor = detail::make_softmax_divisor(sum);
        if (divisor.shift == 0) {
            softmax_nothing(y, p.cols, p.y_flip);
            continue;
        }
#if NOTCH_SOFTMAX_512 || NOTCH_SOFTMAX_256
        const softmax_output o = make_output(divisor);
        if (4 * p.cols <= p.live) { // cheaper than the table
            for (index_t j = 0; j < p.cols; j += lane_count)
                store_codes(y + j, output_codes(softmax_gather(p.exponential, x + j, p.cols - j, p.x_flip, top), o),
                            p.y_flip, p.cols - j);
            continue;
        }
        // Entries from live to the next multiple of the lanes come out as 0 too.
        for (index_t d = 0; d < p.live; d += lane_count)
            store_codes(table + d, output_codes(load_lanes(p.exponential + d), o), p.y_flip, lane_count);
#else
        if (p.cols < p.live) { // cheaper than the table
            for (index_t j = 0; j < p.cols; ++j)
                y[j] = static_cast<std::uint8_t>(detail::softmax_code(p.exponential[top - (x[j] ^ p.x_flip)], divisor) ^
                                                 p.y_flip);
            continue;
        }
        for (index_t d = 0; d < p.live; ++d)
            table[d] = static_cast<std::uint8_t>(detail::softmax_code(p.exponential[d], divisor) ^ p.y_flip);
#endif
        softmax_apply(x, y, p.cols, p.x_flip, top, table);
    }
}

#include <notch/kernels/body/softmax_s32.inl>

inline constexpr softmax_kernels softmax_kernel_table = {softmax_u8, softmax_s32};

#undef NOTCH_SOFTMAX_256
#undef NOTCH_SOFTMAX_512
