// SPDX-License-Identifier: Apache-2.0
//
// Compiled for each instruction set by kernels/lowbit.hpp, before body/lowbit.inl: the operations
// on bits and 2-bit codes that each instruction set spells in its own way.
//
//   bits16          a 32-bit word for each output of a panel
//   counts          numbers of set bits on their way to int32; add_counts may be called
//                   counts_room times before counts_total
//   word_of<Op>     bit i says whether p[i] >= t (Op 0), > t (1) or < t (2), i < n <= 32; NaN gives 0
//   int2_block      sixteen k of 2-bit weights for the 16 outputs of a panel, as signed bytes

namespace few_bits {

#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI

using bits16 = __m512i;
using counts = __m512i;
template <bool Popcnt> inline constexpr index_t counts_room = Popcnt ? 1 << 24 : 31;
constexpr int bits_rows = 4, bits_panels = 2, int2_rows = 8, int2_panels = 2;

NOTCH_OP bits16 load_bits(const std::uint32_t* p) { return _mm512_loadu_si512(p); }
NOTCH_OP bits16 set_bits(std::uint32_t w) { return _mm512_set1_epi32(static_cast<int>(w)); }
NOTCH_OP bits16 bits_xor(bits16 a, bits16 b) { return _mm512_xor_si512(a, b); }
NOTCH_OP bits16 bits_and(bits16 a, bits16 b) { return _mm512_and_si512(a, b); }
/// (a xor b) and c
NOTCH_OP bits16 bits_xor_and(bits16 a, bits16 b, bits16 c) { return _mm512_ternarylogic_epi32(a, b, c, 0x28); }
/// not (a xor b) and c
NOTCH_OP bits16 bits_xnor_and(bits16 a, bits16 b, bits16 c) { return _mm512_ternarylogic_epi32(a, b, c, 0x82); }
NOTCH_OP counts no_counts() { return _mm512_setzero_si512(); }
template <bool Popcnt> NOTCH_OP void add_counts(counts& c, bits16 v) {
    if constexpr (Popcnt) {
        __m512i n; // one-line asm: the instruction belongs to no region, the caller has asked for it
        __asm__("vpopcntd %1, %0" : "=v"(n) : "v"(v));
        c = _mm512_add_epi32(c, n);
    } else { // Mula's method: a table of 16 counts, looked up for both nibbles
        const __m512i table = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
        const __m512i mask = _mm512_set1_epi8(15);
        const __m512i low = _mm512_and_si512(v, mask), high = _mm512_and_si512(_mm512_srli_epi16(v, 4), mask);
        c = _mm512_add_epi8(c, _mm512_add_epi8(_mm512_shuffle_epi8(table, low), _mm512_shuffle_epi8(table, high)));
    }
}
template <bool Popcnt> NOTCH_OP acc16 counts_total(acc16 acc, counts c) {
    if constexpr (Popcnt) return _mm512_add_epi32(acc, c);
    const __m512i pairs = _mm512_maddubs_epi16(c, _mm512_set1_epi8(1));
    return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
NOTCH_OP acc16 minus_twice(acc16 a, acc16 b) { return _mm512_sub_epi32(a, _mm512_add_epi32(b, b)); }

template <int Op> NOTCH_OP std::uint32_t word_of(const float* p, index_t n, float t) {
    const index_t low = n < 16 ? n : 16;
    const __m512 limit = _mm512_set1_ps(t);
    constexpr int op = Op == 0 ? _CMP_GE_OQ : Op == 1 ? _CMP_GT_OQ : _CMP_LT_OQ;
    std::uint32_t bits = _mm512_mask_cmp_ps_mask(first16(low), _mm512_maskz_loadu_ps(first16(low), p), limit, op);
    if (n > 16)
        bits |= static_cast<std::uint32_t>(
                    _mm512_mask_cmp_ps_mask(first16(n - 16), _mm512_maskz_loadu_ps(first16(n - 16), p + 16), limit, op))
                << 16;
    return bits;
}

struct int2_block {
    __m512i q[4];
};
NOTCH_OP int2_block load_int2(const std::uint8_t* p) {
    __m512i v = _mm512_loadu_si512(p);
    __asm__("" : "+v"(v)); // one load
    const __m512i table = _mm512_set1_epi32(0x0100fffe), mask = _mm512_set1_epi8(3);
    const auto codes = [&](__m512i x) __attribute__((always_inline)) {
        return _mm512_shuffle_epi8(table, _mm512_and_si512(x, mask));
    };
    return {{codes(v), codes(_mm512_srli_epi16(v, 2)), codes(_mm512_srli_epi16(v, 4)), codes(_mm512_srli_epi16(v, 6))}};
}
NOTCH_OP __m512i quad_u8(const std::uint8_t* x) {
    std::int32_t quad;
    __builtin_memcpy(&quad, x, 4);
    return _mm512_set1_epi32(quad);
}
/// acc + second += x[0..15] . w
NOTCH_OP void dot_int2(acc16& acc, acc16& second, const int2_block& w, const std::uint8_t* x) {
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
    NOTCH_UNROLL
    for (int j = 0; j < 4; ++j) vpdpbusd(j % 2 ? second : acc, quad_u8(x + 4 * j), w.q[j]);
#else // 16 bits hold eight products of at most 255 * 2
    (void)second;
    const __m512i p01 =
        _mm512_add_epi16(_mm512_maddubs_epi16(quad_u8(x), w.q[0]), _mm512_maddubs_epi16(quad_u8(x + 4), w.q[1]));
    const __m512i p23 =
        _mm512_add_epi16(_mm512_maddubs_epi16(quad_u8(x + 8), w.q[2]), _mm512_maddubs_epi16(quad_u8(x + 12), w.q[3]));
    acc = _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_add_epi16(p01, p23), _mm512_set1_epi16(1)));
#endif
}

#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
/// One row alone: unpacking would take longer than the products. The codes stay unsigned (u = code + 2,
/// twice the sum of x is subtracted at the end), and the middle ones stay where they are, 4 and 16 times
/// too large, with accumulators of their own.
struct int2_row {
    __m512i one, four, sixteen;
};
NOTCH_OP int2_row start_int2_row() { return {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()}; }
NOTCH_OP void dot_int2_row(int2_row& acc, const std::uint8_t* w, const std::uint8_t* x) {
    __m512i v = _mm512_loadu_si512(w);
    __asm__("" : "+v"(v)); // one load
    vpdpbusd(acc.one, quad_u8(x), _mm512_and_si512(v, _mm512_set1_epi8(0x03)));
    vpdpbusd(acc.four, quad_u8(x + 4), _mm512_and_si512(v, _mm512_set1_epi8(0x0c)));
    vpdpbusd(acc.sixteen, quad_u8(x + 8), _mm512_and_si512(v, _mm512_set1_epi8(0x30)));
    vpdpbusd(acc.one, quad_u8(x + 12), _mm512_and_si512(_mm512_srli_epi16(v, 6), _mm512_set1_epi8(0x03)));
}
NOTCH_OP __m128i add_x_sum(__m128i sum, const std::uint8_t* x) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
    return _mm_add_epi64(sum, _mm_sad_epu8(v, _mm_setzero_si128()));
}
/// Without the offset of the codes, plus bias.
NOTCH_OP acc16 int2_row_total(const int2_row& acc, __m128i x_sum, acc16 bias) {
    const auto sum = static_cast<std::int32_t>(_mm_cvtsi128_si64(x_sum) + _mm_extract_epi64(x_sum, 1));
    const __m512i four = _mm512_srai_epi32(acc.four, 2), sixteen = _mm512_srai_epi32(acc.sixteen, 4);
    const __m512i all = _mm512_add_epi32(_mm512_add_epi32(acc.one, four), _mm512_add_epi32(sixteen, bias));
    return _mm512_sub_epi32(all, _mm512_set1_epi32(2 * sum));
}
#endif

#elif NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI

using bits16 = acc16;
using counts = acc16;
template <bool> inline constexpr index_t counts_room = 31;
constexpr int bits_rows = 2, bits_panels = 1, int2_rows = 4, int2_panels = 1;

NOTCH_OP bits16 load_bits(const std::uint32_t* p) { return {load256(p), load256(p + 8)}; }
NOTCH_OP bits16 set_bits(std::uint32_t w) { return set_s32(static_cast<std::int32_t>(w)); }
NOTCH_OP bits16 bits_xor(bits16 a, bits16 b) { return {_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)}; }
NOTCH_OP bits16 bits_and(bits16 a, bits16 b) { return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)}; }
NOTCH_OP bits16 bits_xor_and(bits16 a, bits16 b, bits16 c) { return bits_and(bits_xor(a, b), c); }
NOTCH_OP bits16 bits_xnor_and(bits16 a, bits16 b, bits16 c) {
    const bits16 x = bits_xor(a, b);
    return {_mm256_andnot_si256(x.lo, c.lo), _mm256_andnot_si256(x.hi, c.hi)};
}
NOTCH_OP counts no_counts() { return set_s32(0); }
NOTCH_OP __m256i add_counts8(__m256i c, __m256i v) { // Mula's method: a table of 16 counts, looked up for both nibbles
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2,
                                           2, 3, 2, 3, 3, 4);
    const __m256i mask = _mm256_set1_epi8(15);
    const __m256i low = _mm256_and_si256(v, mask), high = _mm256_and_si256(_mm256_srli_epi16(v, 4), mask);
    return _mm256_add_epi8(c, _mm256_add_epi8(_mm256_shuffle_epi8(table, low), _mm256_shuffle_epi8(table, high)));
}
template <bool> NOTCH_OP void add_counts(counts& c, bits16 v) {
    c = {add_counts8(c.lo, v.lo), add_counts8(c.hi, v.hi)};
}
NOTCH_OP __m256i sum_bytes(__m256i c) {
    return _mm256_madd_epi16(_mm256_maddubs_epi16(c, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
}
template <bool> NOTCH_OP acc16 counts_total(acc16 acc, counts c) {
    return add(acc, {sum_bytes(c.lo), sum_bytes(c.hi)});
}
NOTCH_OP acc16 minus_twice(acc16 a, acc16 b) {
    return {_mm256_sub_epi32(a.lo, _mm256_add_epi32(b.lo, b.lo)), _mm256_sub_epi32(a.hi, _mm256_add_epi32(b.hi, b.hi))};
}

template <int Op> NOTCH_OP std::uint32_t word_of(const float* p, index_t n, float t) {
    const __m256 limit = _mm256_set1_ps(t);
    constexpr int op = Op == 0 ? _CMP_GE_OQ : Op == 1 ? _CMP_GT_OQ : _CMP_LT_OQ;
    std::uint32_t bits = 0;
    for (index_t i = 0; i < n; i += 8) {
        const index_t left = n - i;
        const __m256 v = left >= 8 ? _mm256_loadu_ps(p + i) : _mm256_maskload_ps(p + i, first8(left));
        std::uint32_t byte = static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(v, limit, op)));
        if (left < 8) byte &= (1u << left) - 1u;
        bits |= byte << i;
    }
    return bits;
}

struct int2_block {
    __m256i lo[4], hi[4];
};
NOTCH_OP __m256i int2_codes(__m256i v) {
    return _mm256_shuffle_epi8(_mm256_set1_epi32(0x0100fffe), _mm256_and_si256(v, _mm256_set1_epi8(3)));
}
NOTCH_OP int2_block load_int2(const std::uint8_t* p) {
    const __m256i a = load256(p), b = load256(p + 32);
    return {{int2_codes(a), int2_codes(_mm256_srli_epi16(a, 2)), int2_codes(_mm256_srli_epi16(a, 4)),
             int2_codes(_mm256_srli_epi16(a, 6))},
            {int2_codes(b), int2_codes(_mm256_srli_epi16(b, 2)), int2_codes(_mm256_srli_epi16(b, 4)),
             int2_codes(_mm256_srli_epi16(b, 6))}};
}
NOTCH_OP __m256i quad_u8(const std::uint8_t* x) {
    std::int32_t quad;
    __builtin_memcpy(&quad, x, 4);
    return _mm256_set1_epi32(quad);
}
/// acc + second += x[0..15] . w
NOTCH_OP void dot_int2(acc16& acc, acc16& second, const int2_block& w, const std::uint8_t* x) {
    const __m256i x0 = quad_u8(x), x1 = quad_u8(x + 4), x2 = quad_u8(x + 8), x3 = quad_u8(x + 12);
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI
    vpdpbusd(acc.lo, x0, w.lo[0]), vpdpbusd(acc.hi, x0, w.hi[0]);
    vpdpbusd(second.lo, x1, w.lo[1]), vpdpbusd(second.hi, x1, w.hi[1]);
    vpdpbusd(acc.lo, x2, w.lo[2]), vpdpbusd(acc.hi, x2, w.hi[2]);
    vpdpbusd(second.lo, x3, w.lo[3]), vpdpbusd(second.hi, x3, w.hi[3]);
#else // 16 bits hold eight products of at most 255 * 2
    (void)second;
    const __m256i ones = _mm256_set1_epi16(1);
    const __m256i l01 = _mm256_add_epi16(_mm256_maddubs_epi16(x0, w.lo[0]), _mm256_maddubs_epi16(x1, w.lo[1]));
    const __m256i l23 = _mm256_add_epi16(_mm256_maddubs_epi16(x2, w.lo[2]), _mm256_maddubs_epi16(x3, w.lo[3]));
    acc.lo = _mm256_add_epi32(acc.lo, _mm256_madd_epi16(_mm256_add_epi16(l01, l23), ones));
    const __m256i h01 = _mm256_add_epi16(_mm256_maddubs_epi16(x0, w.hi[0]), _mm256_maddubs_epi16(x1, w.hi[1]));
    const __m256i h23 = _mm256_add_epi16(_mm256_maddubs_epi16(x2, w.hi[2]), _mm256_maddubs_epi16(x3, w.hi[3]));
    acc.hi = _mm256_add_epi32(acc.hi, _mm256_madd_epi16(_mm256_add_epi16(h01, h23), ones));
#endif
}

#else // portable

struct bits16 {
    std::uint32_t v[16];
};
struct counts {
    std::int32_t v[16];
};
template <bool> inline constexpr index_t counts_room = 1 << 24;
constexpr int bits_rows = 1, bits_panels = 1, int2_rows = 1, int2_panels = 1;

NOTCH_OP bits16 load_bits(const std::uint32_t* p) {
    bits16 r;
    for (int i = 0; i < 16; ++i) r.v[i] = p[i];
    return r;
}
NOTCH_OP bits16 set_bits(std::uint32_t w) {
    bits16 r;
    for (int i = 0; i < 16; ++i) r.v[i] = w;
    return r;
}
NOTCH_OP bits16 bits_xor(bits16 a, bits16 b) {
    for (int i = 0; i < 16; ++i) a.v[i] ^= b.v[i];
    return a;
}
NOTCH_OP bits16 bits_and(bits16 a, bits16 b) {
    for (int i = 0; i < 16; ++i) a.v[i] &= b.v[i];
    return a;
}
NOTCH_OP bits16 bits_xor_and(bits16 a, bits16 b, bits16 c) { return bits_and(bits_xor(a, b), c); }
NOTCH_OP bits16 bits_xnor_and(bits16 a, bits16 b, bits16 c) {
    for (int i = 0; i < 16; ++i) c.v[i] &= ~(a.v[i] ^ b.v[i]);
    return c;
}
NOTCH_OP counts no_counts() {
    counts r;
    for (int i = 0; i < 16; ++i) r.v[i] = 0;
    return r;
}
template <bool> NOTCH_OP void add_counts(counts& c, bits16 b) {
    for (int i = 0; i < 16; ++i) c.v[i] += __builtin_popcount(b.v[i]);
}
NOTCH_OP acc16 lanes_to_acc(const std::int32_t* v) { return load_s32(v); }
template <bool> NOTCH_OP acc16 counts_total(acc16 acc, counts c) { return add(acc, lanes_to_acc(c.v)); }
NOTCH_OP acc16 minus_twice(acc16 a, acc16 b) {
    std::int32_t x[16], y[16];
    store_s32(x, a, 16);
    store_s32(y, b, 16);
    for (int i = 0; i < 16; ++i) x[i] -= 2 * y[i];
    return lanes_to_acc(x);
}
template <int Op> NOTCH_OP std::uint32_t word_of(const float* p, index_t n, float t) {
    std::uint32_t bits = 0;
    for (index_t i = 0; i < n; ++i) bits |= (Op == 0 ? p[i] >= t : Op == 1 ? p[i] > t : p[i] < t) ? 1u << i : 0u;
    return bits;
}
struct int2_block {
    const std::uint8_t* p;
};
NOTCH_OP int2_block load_int2(const std::uint8_t* p) { return {p}; }
NOTCH_OP void dot_int2(acc16& acc, acc16& second, const int2_block& w, const std::uint8_t* x) {
    (void)second;
    std::int32_t sum[16];
    store_s32(sum, acc, 16);
    for (int i = 0; i < 16; ++i)
        for (int k = 0; k < 16; ++k) sum[i] += x[k] * ((w.p[4 * i + k % 4] >> 2 * (k / 4) & 3) - 2);
    acc = lanes_to_acc(sum);
}

#endif

} // namespace few_bits
