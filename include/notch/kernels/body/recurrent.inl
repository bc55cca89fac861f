// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/recurrent.hpp in the region of each instruction set. A gate is a gather of 32 bits (a node and
// the step to the next), and one multiply-add of 16-bit pairs. Products of 16 bits are multiply-adds of pairs too: the
// second factor, a sigmoid, is not negative, so its high half is 0.

#define NOTCH_RECURRENT_512 (NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI)
#define NOTCH_RECURRENT_256 (NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI)

#if NOTCH_RECURRENT_512 || NOTCH_RECURRENT_256

#if NOTCH_RECURRENT_512
NOTCH_OP vec32 gather_32(const std::int32_t* t, vec32 i) {
    return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), static_cast<__mmask16>(0xffff), i, t, 4);
}
NOTCH_OP vec32 up_16(vec32 v) { return _mm512_slli_epi32(v, 16); }
NOTCH_OP vec32 right_by(vec32 v, std::int32_t n) { return _mm512_sra_epi32(v, _mm_cvtsi32_si128(n)); }
NOTCH_OP vec32 left_by(vec32 v, std::int32_t n) { return _mm512_sll_epi32(v, _mm_cvtsi32_si128(n)); }
NOTCH_OP void store_lanes32(std::int32_t* p, vec32 v, index_t n) { _mm512_mask_storeu_epi32(p, first_lanes(n), v); }
#else
NOTCH_OP vec32 gather_32(const std::int32_t* t, vec32 i) {
    return _mm256_mask_i32gather_epi32(_mm256_setzero_si256(), t, i, _mm256_set1_epi32(-1), 4);
}
NOTCH_OP vec32 up_16(vec32 v) { return _mm256_slli_epi32(v, 16); }
NOTCH_OP vec32 right_by(vec32 v, std::int32_t n) { return _mm256_sra_epi32(v, _mm_cvtsi32_si128(n)); }
NOTCH_OP vec32 left_by(vec32 v, std::int32_t n) { return _mm256_sll_epi32(v, _mm_cvtsi32_si128(n)); }
NOTCH_OP void store_lanes32(std::int32_t* p, vec32 v, index_t n) { _mm256_maskstore_epi32(p, first_lanes(n), v); }
#endif

NOTCH_OP vec32 saturate_lanes(vec32 v) {
    return min_s32(max_s32(v, set_lanes(static_cast<std::uint32_t>(-32768))), set_lanes(32767));
}
NOTCH_OP vec32 gate_lanes(const gate_table& t, vec32 z) {
    const vec32 u = add_32(z, set_lanes(32768));
    const vec32 factors = or_bits(up_16(and_bits(u, set_lanes(127))), set_lanes(128));
    return right_32<7>(add_32(mul_16(gather_32(t.pairs, right_32<7>(u)), factors), set_lanes(64)));
}
NOTCH_OP vec32 sum_gate(const gate_table& t, const std::int16_t* wx, const std::int16_t* uh, index_t n) {
    return gate_lanes(t, saturate_lanes(add_32(load_lanes_s16(wx, n), load_lanes_s16(uh, n))));
}
/// factor * state >> 15, by the two halves of the state.
NOTCH_OP vec32 scale_lanes(const std::int32_t* state, vec32 factor, index_t n) {
    const vec32 s = load_lanes(state, n, set_lanes(0)), low = mul_16(and_bits(s, set_lanes(32767)), factor);
    return add_32(mul_16(right_32<15>(s), factor), right_32<15>(add_32(low, set_lanes(16384))));
}
NOTCH_OP void store_h(std::uint8_t* to, vec32 v, float multiplier, quant_params h, index_t n) {
    const vec32 codes = add_32(round_product(v, multiplier), set_lanes(static_cast<std::uint32_t>(h.zero_point)));
    store_lanes8(to, min_s32(max_s32(codes, set_lanes(0)), set_lanes(255)), n);
}

NOTCH_OP void lstm_lanes(const recurrent_args& a, index_t row, index_t j, index_t n) {
    const recurrent_params& p = *a.params;
    const index_t m = a.hidden;
    const std::int16_t *wx = a.wx + row * a.ld_wx + j, *uh = a.uh + row * a.ld_uh + j;
    const vec32 i = sum_gate(p.sigmoid, wx, uh, n), f = sum_gate(p.sigmoid, wx + m, uh + m, n),
                g = sum_gate(p.tanh, wx + 2 * m, uh + 2 * m, n), o = sum_gate(p.sigmoid, wx + 3 * m, uh + 3 * m, n);
    const vec32 sum = add_32(scale_lanes(a.state + row * a.ld_state + j, f, n), right_32<7>(mul_16(g, i)));
    const vec32 limit = set_lanes(static_cast<std::uint32_t>(p.cell_limit())),
                rounded = right_by(add_32(sum, set_lanes(static_cast<std::uint32_t>(p.cell_half()))), p.cell_shift);
    const vec32 c = left_by(min_s32(max_s32(rounded, sub_32(set_lanes(0), limit)), sub_32(limit, set_lanes(1))),
                            p.cell_shift);
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
NOTCH_OP void gru_lanes(const recurrent_args& a, index_t row, index_t j, index_t n) {
    const recurrent_params& p = *a.params;
    const index_t m = a.hidden;
    const std::int16_t *wx = a.wx + row * a.ld_wx + j, *uh = a.uh + row * a.ld_uh + j;
    const vec32 r = sum_gate(p.sigmoid, wx, uh, n), z = sum_gate(p.sigmoid, wx + m, uh + m, n);
    const vec32 reset = right_32<15>(add_32(mul_16(load_lanes_s16(uh + 2 * m, n), r), set_lanes(16384)));
    const vec32 c = gate_lanes(p.tanh, saturate_lanes(add_32(load_lanes_s16(wx + 2 * m, n), reset)));
    const vec32 next =
        add_32(mul_16(c, sub_32(set_lanes(32768), z)), scale_lanes(a.state + row * a.ld_state + j, z, n));
    store_lanes32(a.next + row * a.ld_next + j, next, n);
    store_h(a.h + row * a.ld_h + j, next, p.multiplier(), p.h, n);
    if (!a.gates) return;
    std::int16_t* to = a.gates + row * a.ld_gates + j;
    store_lanes16(to, r, n);
    store_lanes16(to + m, z, n);
    store_lanes16(to + 2 * m, c, n);
}
inline void lstm_rows(const recurrent_args& a) {
    for (index_t i = 0; i < a.rows; ++i)
        for (index_t j = 0; j < a.hidden; j += lane_count)
            lstm_lanes(a, i, j, a.hidden - j < lane_count ? a.hidden - j : lane_count);
}
inline void gru_rows(const recurrent_args& a) {
    for (index_t i = 0; i < a.rows; ++i)
        for (index_t j = 0; j < a.hidden; j += lane_count)
            gru_lanes(a, i, j, a.hidden - j < lane_count ? a.hidden - j : lane_count);
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
