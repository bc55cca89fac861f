// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/norm.hpp in the region of each instruction set. A row takes two passes: the exact sums of its
// codes and of their squares, then the outputs. In between, detail::norm_row makes the row's factors.

#define NOTCH_NORM_512 (NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI)
#define NOTCH_NORM_256 (NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI)

struct norm_sums {
    std::int64_t sum, squares;
};

// 65536 columns: a lane of int32 gets at most 65536 / 64 times 2 * 2 * 2^14 from bytes.

#if NOTCH_NORM_512

NOTCH_OP std::int64_t sum_lanes32(__m512i v) {
    return _mm512_reduce_add_epi64(
        _mm512_add_epi64(_mm512_srai_epi64(_mm512_slli_epi64(v, 32), 32), _mm512_srai_epi64(v, 32)));
}
NOTCH_OP norm_sums sums_of_bytes(const std::uint8_t* x, index_t n, std::uint8_t flip) {
    const __m512i flips = _mm512_set1_epi8(static_cast<char>(flip)), zero = _mm512_setzero_si512();
    const __m512i top = _mm512_set1_epi8(static_cast<char>(128));
    __m512i sum = zero, even = zero, odd = zero;
    for (index_t j = 0; j < n; j += 64) {
        __m512i c;
        if (n - j >= 64) {
            c = _mm512_xor_si512(_mm512_loadu_si512(x + j), flips);
        } else {
            const __mmask64 m = (1ull << (n - j)) - 1ull;
            c = _mm512_maskz_mov_epi8(m, _mm512_xor_si512(_mm512_maskz_loadu_epi8(m, x + j), flips));
        }
        sum = _mm512_add_epi64(sum, _mm512_sad_epu8(_mm512_xor_si512(c, top), zero)); // of c + 128
        const __m512i e = _mm512_srai_epi16(_mm512_slli_epi16(c, 8), 8), o = _mm512_srai_epi16(c, 8);
        even = _mm512_add_epi32(even, _mm512_madd_epi16(e, e));
        odd = _mm512_add_epi32(odd, _mm512_madd_epi16(o, o));
    }
    const index_t padded = (n + 63) / 64 * 64;
    return {_mm512_reduce_add_epi64(sum) - 128 * padded, sum_lanes32(_mm512_add_epi32(even, odd))};
}
NOTCH_OP norm_sums sums_of_words(const std::int16_t* x, index_t n) {
    const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi16(1), low = _mm512_set1_epi64(0xffffffff);
    __m512i sum = zero, squares = zero;
    for (index_t j = 0; j < n; j += 32) {
        const __mmask32 m = n - j >= 32 ? ~0u : (1u << (n - j)) - 1u;
        const __m512i c = _mm512_maskz_loadu_epi16(m, x + j);
        sum = _mm512_add_epi32(sum, _mm512_madd_epi16(c, one));
        const __m512i s = _mm512_madd_epi16(c, c); // up to 2^31, unsigned
        squares = _mm512_add_epi64(squares, _mm512_add_epi64(_mm512_and_si512(s, low), _mm512_srli_epi64(s, 32)));
    }
    return {sum_lanes32(sum), _mm512_reduce_add_epi64(squares)};
}

#elif NOTCH_NORM_256

NOTCH_OP std::int64_t sum_lanes32(__m256i v) {
    std::int32_t l[8];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(l), v);
    std::int64_t sum = 0;
    for (std::int32_t x : l) sum += x;
    return sum;
}
NOTCH_OP norm_sums sums_of_bytes(const std::uint8_t* x, index_t n, std::uint8_t flip) {
    const __m256i flips = _mm256_set1_epi8(static_cast<char>(flip)), zero = _mm256_setzero_si256();
    const __m256i top = _mm256_set1_epi8(static_cast<char>(128));
    __m256i sum = zero, even = zero, odd = zero;
    index_t j = 0;
    for (; j + 32 <= n; j += 32) {
        const __m256i c = _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + j)), flips);
        sum = _mm256_add_epi64(sum, _mm256_sad_epu8(_mm256_xor_si256(c, top), zero)); // of c + 128
        const __m256i e = _mm256_srai_epi16(_mm256_slli_epi16(c, 8), 8), o = _mm256_srai_epi16(c, 8);
        even = _mm256_add_epi32(even, _mm256_madd_epi16(e, e));
        odd = _mm256_add_epi32(odd, _mm256_madd_epi16(o, o));
    }
    norm_sums s{static_cast<std::int64_t>(sum_lanes64(sum)) - 128 * j, sum_lanes32(_mm256_add_epi32(even, odd))};
    for (; j < n; ++j) {
        const std::int32_t c = static_cast<std::int8_t>(x[j] ^ flip);
        s.sum += c;
        s.squares += c * c;
    }
    return s;
}
NOTCH_OP norm_sums sums_of_words(const std::int16_t* x, index_t n) {
    const __m256i zero = _mm256_setzero_si256(), one = _mm256_set1_epi16(1), low = _mm256_set1_epi64x(0xffffffff);
    __m256i sum = zero, squares = zero;
    index_t j = 0;
    for (; j + 16 <= n; j += 16) {
        const __m256i c = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + j));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(c, one));
        const __m256i s = _mm256_madd_epi16(c, c); // up to 2^31, unsigned
        squares = _mm256_add_epi64(squares, _mm256_add_epi64(_mm256_and_si256(s, low), _mm256_srli_epi64(s, 32)));
    }
    norm_sums s{sum_lanes32(sum), static_cast<std::int64_t>(sum_lanes64(squares))};
    for (; j < n; ++j) {
        s.sum += x[j];
        s.squares += std::int64_t{x[j]} * x[j];
    }
    return s;
}

#else

NOTCH_OP norm_sums sums_of_bytes(const std::uint8_t* x, index_t n, std::uint8_t flip) {
    std::int64_t sum = 0, squares = 0;
    for (index_t j = 0; j < n; ++j) {
        const std::int32_t c = static_cast<std::int8_t>(x[j] ^ flip);
        sum += c;
        squares += c * c;
    }
    return {sum, squares};
}
NOTCH_OP norm_sums sums_of_words(const std::int16_t* x, index_t n) {
    std::int64_t sum = 0, squares = 0;
    for (index_t j = 0; j < n; ++j) {
        sum += x[j];
        squares += std::int64_t{x[j]} * x[j];
    }
    return {sum, squares};
}

#endif

#if NOTCH_NORM_512 || NOTCH_NORM_256

/// detail::norm_output without the clamp, for the lanes from column j on.
template <bool Wide> NOTCH_OP vec32 norm_lanes(vec32 c, const norm_args& p, index_t j, vec32 a, vec32 a_low, vec32 b) {
    vec32 z = add_32(mul_32(c, a), b);
    if constexpr (Wide) z = add_32(z, right_32<15>(mul_16(c, a_low)));
    // gamma from column j + 1 on has its odd columns in the even lanes.
    const vec32 even = mul_even_signed(z, load_lanes(p.gamma + j)),
                odd = mul_even_signed(odd_down(z), load_lanes(p.gamma + j + 1));
    // The low 32 bits of the products shifted right; the upper lanes get theirs by a shift to the left.
    const vec32 v = odd_of(right_64(even, p.constants.product_shift), left_64(odd, 32 - p.constants.product_shift));
    return right_32<10>(add_32(v, load_lanes(p.beta + j)));
}

template <bool Wide> NOTCH_OP void norm_rows(const norm_args& p) {
    const index_t n = p.constants.cols;
    const vec32 lo = set_lanes(static_cast<std::uint32_t>(p.constants.range.lo)),
                hi = set_lanes(static_cast<std::uint32_t>(p.constants.range.hi));
    const vec32 byte_lo = set_bytes(p.constants.range.lo), byte_hi = set_bytes(p.constants.range.hi);
    for (index_t i = 0; i < p.rows; ++i) {
        const auto* bytes = static_cast<const std::uint8_t*>(p.x) + i * p.ldx;
        const auto* words = static_cast<const std::int16_t*>(p.x) + i * p.ldx;
        const norm_sums s = Wide ? sums_of_words(words, n) : sums_of_bytes(bytes, n, p.x_flip);
        const detail::norm_row_factors f = detail::norm_row(s.sum, s.squares, p.constants);
        const vec32 a = set_lanes(static_cast<std::uint32_t>(f.a)),
                    a_low = set_lanes(static_cast<std::uint32_t>(f.a_low));
        const vec32 b = set_lanes(static_cast<std::uint32_t>(f.b));
        index_t j = 0;
        for (; !p.y_wide && j + 4 * lane_count <= n; j += 4 * lane_count) {
            vec32 v[4];
            NOTCH_UNROLL
            for (int q = 0; q < 4; ++q) {
                const index_t at = j + q * lane_count;
                const vec32 c =
                    Wide ? load_lanes_s16(words + at, lane_count) : load_lanes_s8(bytes + at, lane_count, p.x_flip);
                v[q] = norm_lanes<Wide>(c, p, at, a, a_low, b);
            }
            store_packed(static_cast<std::uint8_t*>(p.y) + i * p.ldy + j, v, p.y_signed, byte_lo, byte_hi);
        }
        for (; j < n; j += lane_count) {
            const vec32 c = Wide ? load_lanes_s16(words + j, n - j) : load_lanes_s8(bytes + j, n - j, p.x_flip);
            const vec32 codes = min_s32(max_s32(norm_lanes<Wide>(c, p, j, a, a_low, b), lo), hi);
            if (p.y_wide)
                store_lanes16(static_cast<std::int16_t*>(p.y) + i * p.ldy + j, codes, n - j);
            else
                store_lanes8(static_cast<std::uint8_t*>(p.y) + i * p.ldy + j, codes, n - j);
        }
    }
}

#else

template <bool Wide> NOTCH_OP void norm_rows(const norm_args& p) {
    const index_t n = p.constants.cols;
    for (index_t i = 0; i < p.rows; ++i) {
        const auto* bytes = static_cast<const std::uint8_t*>(p.x) + i * p.ldx;
        const auto* words = static_cast<const std::int16_t*>(p.x) + i * p.ldx;
        const norm_sums s = Wide ? sums_of_words(words, n) : sums_of_bytes(bytes, n, p.x_flip);
        const detail::norm_row_factors f = detail::norm_row(s.sum, s.squares, p.constants);
        for (index_t j = 0; j < n; ++j) {
            const std::int32_t c = Wide ? words[j] : static_cast<std::int8_t>(bytes[j] ^ p.x_flip);
            const std::int32_t code = detail::norm_output(c, f, p.gamma[j], p.beta[j], p.constants);
            if (p.y_wide)
                static_cast<std::int16_t*>(p.y)[i * p.ldy + j] = static_cast<std::int16_t>(code);
            else
                static_cast<std::uint8_t*>(p.y)[i * p.ldy + j] = static_cast<std::uint8_t>(code);
        }
    }
}

#endif

inline void norm_bytes(const norm_args& p) { norm_rows<false>(p); }
inline void norm_words(const norm_args& p) { norm_rows<true>(p); }

inline constexpr norm_kernels norm_kernel_table = {norm_bytes, norm_words};

#undef NOTCH_NORM_256
#undef NOTCH_NORM_512
