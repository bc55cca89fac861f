// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/recurrent.hpp in the region of each instruction set. A gate takes the two nodes beside z, and one
// multiply-add of 16-bit pairs: with AVX-512 from the table in permutes of 64 words, with AVX2 by a gather of 32 bits.
// Products of 16 bits are multiply-adds of pairs too: the second factor, a sigmoid, is not negative, so its high half
// is 0.

#define NOTCH_RECURRENT_512 (NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI)
#define NOTCH_RECURRENT_256 (NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI)

#if NOTCH_RECURRENT_512 || NOTCH_RECURRENT_256

#if NOTCH_RECURRENT_512
NOTCH_OP vec32 right_by(vec32 v, std::int32_t n) { return _mm512_sra_epi32(v, _mm_cvtsi32_si128(n)); }
NOTCH_OP vec32 left_by(vec32 v, std::int32_t n) { return _mm512_sll_epi32(v, _mm_cvtsi32_si128(n)); }
NOTCH_OP void store_lanes32(std::int32_t* p, vec32 v, index_t n) { _mm512_mask_storeu_epi32(p, first_lanes(n), v); }
#else
NOTCH_OP vec32 right_by(vec32 v, std::int32_t n) { return _mm256_sra_epi32(v, _mm_cvtsi32_si128(n)); }
NOTCH_OP vec32 left_by(vec32 v, std::int32_t n) { return _mm256_sll_epi32(v, _mm_cvtsi32_si128(n)); }
NOTCH_OP void store_lanes32(std::int32_t* p, vec32 v, index_t n) { _mm256_maskstore_epi32(p, first_lanes(n), v); }
#endif

/// factor * state >> 15, by the two halves of the state.
NOTCH_OP vec32 scale_lanes(const std::int32_t* state, vec32 factor, index_t n) {
    const vec32 s = load_lanes(state, n, set_lanes(0)), low = mul_16(and_bits(s, set_lanes(32767)), factor);
    return add_32(mul_16(right_32<15>(s), factor), right_32<15>(add_32(low, set_lanes(16384))));
}
NOTCH_OP vec32 next_cell(const recurrent_params& p, const std::int32_t* state, vec32 i, vec32 f, vec32 g, index_t n) {
    const vec32 sum = add_32(scale_lanes(state, f, n), right_32<7>(mul_16(g, i)));
    const vec32 limit = set_lanes(static_cast<std::uint32_t>(p.cell_limit())),
                rounded = right_by(add_32(sum, set_lanes(static_cast<std::uint32_t>(p.cell_half()))), p.cell_shift);
    return left_by(min_s32(max_s32(rounded, sub_32(set_lanes(0), limit)), sub_32(limit, set_lanes(1))), p.cell_shift);
}
/// A state of a GRU between the old one and c.
NOTCH_OP vec32 next_mean(const std::int32_t* state, vec32 z, vec32 c, index_t n) {
    return add_32(mul_16(c, sub_32(set_lanes(32768), z)), scale_lanes(state, z, n));
}
NOTCH_OP void store_h(std::uint8_t* to, vec32 v, float multiplier, quant_params h, index_t n) {
    const vec32 codes = add_32(round_product(v, multiplier), set_lanes(static_cast<std::uint32_t>(h.zero_point)));
    store_lanes8(to, min_s32(max_s32(codes, set_lanes(0)), set_lanes(255)), n);
}

#if NOTCH_RECURRENT_512

/// Elements at a time: 32 lanes of 16 bits.
inline constexpr index_t recurrent_width = 32;
NOTCH_OP __mmask32 first_words(index_t n) { return n >= 32 ? ~__mmask32{0} : (__mmask32{1} << n) - 1; }
NOTCH_OP vec32 load_words(const std::int16_t* p, index_t n) { return _mm512_maskz_loadu_epi16(first_words(n), p); }
NOTCH_OP void store_words(std::int16_t* p, vec32 v, index_t n) { _mm512_mask_storeu_epi16(p, first_words(n), v); }
/// Half H of the words as 32-bit lanes, and back, saturated.
template <int H> NOTCH_OP vec32 half_words(vec32 v) {
    return _mm512_cvtepi16_epi32(H ? _mm512_extracti64x4_epi64(v, 1) : _mm512_castsi512_si256(v));
}
NOTCH_OP vec32 join_words(vec32 a, vec32 b) {
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), _mm512_packs_epi32(a, b));
}
/// table[k], k in 0 ... 511: eight permutes of 64 words, of which bits 6, 7 and 8 of k choose.
NOTCH_OP vec32 look_up_words(const std::int16_t* table, vec32 k, const __mmask32 (&bit)[3]) {
    vec32 v[8];
    NOTCH_UNROLL
    for (int q = 0; q < 8; ++q)
        v[q] = _mm512_permutex2var_epi16(load_lanes(table + 64 * q), k, load_lanes(table + 64 * q + 32));
    NOTCH_UNROLL
    for (int q = 0; q < 4; ++q) v[q] = _mm512_mask_blend_epi16(bit[0], v[2 * q], v[2 * q + 1]);
    NOTCH_UNROLL
    for (int q = 0; q < 2; ++q) v[q] = _mm512_mask_blend_epi16(bit[1], v[2 * q], v[2 * q + 1]);
    return _mm512_mask_blend_epi16(bit[2], v[0], v[1]);
}
NOTCH_OP vec32 gate_words(const gate_table& t, vec32 z) {
    const vec32 u = _mm512_xor_si512(z, _mm512_set1_epi16(-32768)), k = _mm512_srli_epi16(u, 7),
                far = and_bits(u, _mm512_set1_epi16(127)), near = _mm512_sub_epi16(_mm512_set1_epi16(128), far);
    const __mmask32 bit[3] = {_mm512_test_epi16_mask(k, _mm512_set1_epi16(64)),
                              _mm512_test_epi16_mask(k, _mm512_set1_epi16(128)),
                              _mm512_test_epi16_mask(k, _mm512_set1_epi16(256))};
    const vec32 v = look_up_words(t.nodes, k, bit), next = look_up_words(t.nodes + 1, k, bit), half = set_lanes(64);
    const vec32 a = mul_16(_mm512_unpacklo_epi16(v, next), _mm512_unpacklo_epi16(near, far)),
                b = mul_16(_mm512_unpackhi_epi16(v, next), _mm512_unpackhi_epi16(near, far));
    return _mm512_packs_epi32(right_32<7>(add_32(a, half)), right_32<7>(add_32(b, half)));
}
NOTCH_OP vec32 sum_words(const std::int16_t* wx, const std::int16_t* uh, index_t n) {
    return _mm512_adds_epi16(load_words(wx, n), load_words(uh, n));
}

NOTCH_OP void lstm_part(const recurrent_args& a, index_t row, index_t j, index_t n) {
    const recurrent_params& p = *a.params;
    const index_t m = a.hidden, n0 = n < 16 ? n : 16, n1 = n - n0;
    const std::int16_t *wx = a.wx + row * a.ld_wx + j, *uh = a.uh + row * a.ld_uh + j;
    const vec32 i = gate_words(p.sigmoid, sum_words(wx, uh, n)),
                f = gate_words(p.sigmoid, sum_words(wx + m, uh + m, n)),
                g = gate_words(p.tanh, sum_words(wx + 2 * m, uh + 2 * m, n)),
                o = gate_words(p.sigmoid, sum_words(wx + 3 * m, uh + 3 * m, n));
    const std::int32_t* state = a.state + row * a.ld_state + j;
    std::int32_t* next = a.next + row * a.ld_next + j;
    std::uint8_t* h = a.h + row * a.ld_h + j;
    const vec32 c0 = next_cell(p, state, half_words<0>(i), half_words<0>(f), half_words<0>(g), n0),
                c1 = next_cell(p, state + 16, half_words<1>(i), half_words<1>(f), half_words<1>(g), n1);
    const vec32 half = set_lanes(1024),
                t = gate_words(p.tanh, join_words(right_32<11>(add_32(c0, half)), right_32<11>(add_32(c1, half))));
    store_lanes32(next, c0, n0);
    store_lanes32(next + 16, c1, n1);
    store_h(h, mul_16(half_words<0>(t), half_words<0>(o)), p.multiplier(), p.h, n0);
    store_h(h + 16, mul_16(half_words<1>(t), half_words<1>(o)), p.multiplier(), p.h, n1);
    if (!a.gates) return;
    std::int16_t* to = a.gates + row * a.ld_gates + j;
    store_words(to, i, n);
    store_words(to + m, f, n);
    store_words(to + 2 * m, g, n);
    store_words(to + 3 * m, o, n);
    store_words(to + 4 * m, t, n);
}
NOTCH_OP void gru_part(const recurrent_args& a, index_t row, index_t j, index_t n) {
    const recurrent_params& p = *a.params;
    const index_t m = a.hidden, n0 = n < 16 ? n : 16, n1 = n - n0;
    const std::int16_t *wx = a.wx + row * a.ld_wx + j, *uh = a.uh + row * a.ld_uh + j;
    const vec32 r = gate_words(p.sigmoid, sum_words(wx, uh, n)),
                z = gate_words(p.sigmoid, sum_words(wx + m, uh + m, n));
    const vec32 reset = _mm512_mulhrs_epi16(load_words(uh + 2 * m, n), r); // r uh >> 15, half up
    const vec32 c = gate_words(p.tanh, _mm512_adds_epi16(load_words(wx + 2 * m, n), reset));
    const std::int32_t* state = a.state + row * a.ld_state + j;
    std::int32_t* next = a.next + row * a.ld_next + j;
    std::uint8_t* h = a.h + row * a.ld_h + j;
    const vec32 next0 = next_mean(state, half_words<0>(z), half_words<0>(c), n0),
                next1 = next_mean(state + 16, half_words<1>(z), half_words<1>(c), n1);
    store_lanes32(next, next0, n0);
    store_lanes32(next + 16, next1, n1);
    store_h(h, next0, p.multiplier(), p.h, n0);
    store_h(h + 16, next1, p.multiplier(), p.h, n1);
    if (!a.gates) return;
    std::int16_t* to = a.gates + row * a.ld_gates + j;
    store_words(to, r, n);
    store_words(to + m, z, n);
    store_words(to + 2 * m, c, n);
}

#else

inline constexpr index_t recurrent_width = lane_count;
/// table[k] in the low half, table[k + 1] in the high one.
NOTCH_OP vec32 gather_pairs(const std::int16_t* table, vec32 k) {
    return _mm256_mask_i32gather_epi32(_mm256_setzero_si256(), reinterpret_cast<const int*>(table), k,
                                       _mm256_set1_epi32(-1), 2);
}
NOTCH_OP vec32 saturate_lanes(vec32 v) {
    return min_s32(max_s32(v, set_lanes(static_cast<std::uint32_t>(-32768))), set_lanes(32767));
}
NOTCH_OP vec32 gate_lanes(const gate_table& t, vec32 z) {
    const vec32 u = add_32(z, set_lanes(32768));
    const vec32 far = and_bits(u, set_lanes(127)),
                factors = or_bits(_mm256_slli_epi32(far, 16), sub_32(set_lanes(128), far));
    return right_32<7>(add_32(mul_16(gather_pairs(t.nodes, right_32<7>(u)), factors), set_lanes(64)));
}
NOTCH_OP vec32 sum_gate(const gate_table& t, const std::int16_t* wx, const std::int16_t* uh, index_t n) {
    return gate_lanes(t, saturate_lanes(add_32(load_lanes_s16(wx, n), load_lanes_s16(uh, n))));
}

NOTCH_OP void lstm_part(const recurrent_args& a, index_t row, index_t j, index_t n) {
    const recurrent_params& p = *a.params;
    const index_t m = a.hidden;
    const std::int16_t *wx = a.wx + row * a.ld_wx + j, *uh = a.uh + row * a.ld_uh + j;
    const vec32 i = sum_gate(p.sigmoid, wx, uh, n), f = sum_gate(p.sigmoid, wx + m, uh + m, n),
                g = sum_gate(p.tanh, wx + 2 * m, uh + 2 * m, n), o = sum_gate(p.sigmoid, wx + 3 * m, uh + 3 * m, n);
    const vec32 c = next_cell(p, a.state + row * a.ld_state + j, i, f, g, n);
    const vec32 t = gate_lanes(p.tanh, saturate_lanes(right_32<11>(add_32(c, set_lanes(1024)))));
    store_lanes32(a.next + row * a.ld_next + j, c, n);
    store_h(a.h + row * a.ld_h + j, mul_16(t, o), p.multiplier(), p.h, n);
    if (!a.gates) return;
    std::int16_t* to = a.gates + row * a.ld_gates + j;
    store_lanes16(to, i, n);
    store_lanes16(to + m, f, n);
    store_lanes16(to + 2 * m, g, n);
    store_lanes16(to + 3 * m, o, n);
    store_lanes16(to + 4 * m, t, n);
}
NOTCH_OP void gru_part(const recurrent_args& a, index_t row, index_t j, index_t n) {
    const recurrent_params& p = *a.params;
    const index_t m = a.hidden;
    const std::int16_t *wx = a.wx + row * a.ld_wx + j, *uh = a.uh + row * a.ld_uh + j;
    const vec32 r = sum_gate(p.sigmoid, wx, uh, n), z = sum_gate(p.sigmoid, wx + m, uh + m, n);
    const vec32 reset = right_32<15>(add_32(mul_16(load_lanes_s16(uh + 2 * m, n), r), set_lanes(16384)));
    const vec32 c = gate_lanes(p.tanh, saturate_lanes(add_32(load_lanes_s16(wx + 2 * m, n), reset)));
    const vec32 next = next_mean(a.state + row * a.ld_state + j, z, c, n);
    store_lanes32(a.next + row * a.ld_next + j, next, n);
    store_h(a.h + row * a.ld_h + j, next, p.multiplier(), p.h, n);
    if (!a.gates) return;
    std::int16_t* to = a.gates + row * a.ld_gates + j;
    store_lanes16(to, r, n);
    store_lanes16(to + m, z, n);
    store_lanes16(to + 2 * m, c, n);
}

#endif

inline void lstm_rows(const recurrent_args& a) {
    for (index_t i = 0; i < a.rows; ++i)
        for (index_t j = 0; j < a.hidden; j += recurrent_width)
            lstm_part(a, i, j, a.hidden - j < recurrent_width ? a.hidden - j : recurrent_width);
}
inline void gru_rows(const recurrent_args& a) {
    for (index_t i = 0; i < a.rows; ++i)
        for (index_t j = 0; j < a.hidden; j += recurrent_width)
            gru_part(a, i, j, a.hidden - j < recurrent_width ? a.hidden - j : recurrent_width);
}

#else

inline void lstm_rows(const recurrent_args& a) {
    for (index_t i = 0; i < a.rows; ++i)
        for (index_t j = 0; j < a.hidden; ++j)
            detail::lstm_element(*a.params, a.wx + i * a.ld_wx + j, a.uh + i * a.ld_uh + j, a.hidden,
                                 a.state[i * a.ld_state + j], a.next[i * a.ld_next + j], a.h[i * a.ld_h + j],
                                 a.gates ? a.gates + i * a.ld_gates + j : nullptr);
}
inline void gru_rows(const recurrent_args& a) {
    for (index_t i = 0; i < a.rows; ++i)
        for (index_t j = 0; j < a.hidden; ++j)
            detail::gru_element(*a.params, a.wx + i * a.ld_wx + j, a.uh + i * a.ld_uh + j, a.hidden,
                                a.state[i * a.ld_state + j], a.next[i * a.ld_next + j], a.h[i * a.ld_h + j],
                                a.gates ? a.gates + i * a.ld_gates + j : nullptr);
}

#endif

inline constexpr recurrent_kernels recurrent_table = {lstm_rows, gru_rows};

#undef NOTCH_RECURRENT_256
#undef NOTCH_RECURRENT_512
