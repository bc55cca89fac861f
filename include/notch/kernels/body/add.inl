// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/add.hpp in the region of each instruction set.

inline void add_u8(const add_args& p) {
    const f32x16 multiplier = set_f32(p.multiplier);
    const f32x16 lo = set_f32(static_cast<float>(p.lo - p.y_zero_point));
    const f32x16 hi = set_f32(static_cast<float>(p.hi - p.y_zero_point));
    const acc16 start = set_s32(-(p.a_zero_point * p.ma + p.b_zero_point * p.mb));
    const acc16 y_zero_point = set_s32(p.y_zero_point);
    const acc16 weights = set_s32(p.ma | p.mb << 16);
    index_t i = 0;
    // A whole vector of bytes at a time, if no sum can leave the range of int32 when rounded.
    constexpr float most_codes = 2.0f * 2.0f * 255.0f;
    if (most_codes * static_cast<float>(p.ma > p.mb ? p.ma : p.mb) * p.multiplier < 2147480000.0f) {
        epilogue_args ep;
        ep.store = store_kind::u8;
        ep.zero_point = p.y_zero_point;
        ep.lo = p.lo;
        ep.hi = p.hi;
        const nvec offset = set_n32(-(p.a_zero_point * p.ma + p.b_zero_point * p.mb));
        const nfloat m = set_nfloat(p.multiplier), scales[4] = {m, m, m, m};
        for (; i + byte_width <= p.n; i += byte_width) {
            // Interleaved with zeros, each dword is the pair of 16-bit lanes a, b.
            nvec t[4] = {load_nbytes<true>(p.a + i, byte_width), set_n32(0), load_nbytes<true>(p.b + i, byte_width),
                         set_n32(0)};
            interleave(t);
            NOTCH_UNROLL
            for (int k = 0; k < 4; ++k) t[k] = nadd(offset, nmul_pairs(t[k], p.ma | p.mb << 16));
            store_nbytes<true>(p.y + i, pack_ncodes(ep, t, scales), byte_width);
        }
    }
    for (; i < p.n; i += 16) {
        const index_t n = p.n - i < 16 ? p.n - i : 16;
        const acc16 acc = add(start, mul_pairs(load_u8(p.a + i, n), load_u8(p.b + i, n), weights));
        const f32x16 y = min(max(mul(to_f32(acc), multiplier), lo), hi);
        store_bytes(p.y + i, add(to_s32(y), y_zero_point), n);
    }
}

/// n codes times 2^20, less than 2^28.
NOTCH_OP acc16 add_operand(const std::uint8_t* codes, index_t n, std::int32_t zero_point) {
    return mul_s32(sub(load_s8(codes, n), set_s32(zero_point)), set_s32(1 << 20));
}
/// n codes on the common grid, times 2^20.
NOTCH_OP acc16 add_term(const std::uint8_t* codes, index_t n, std::int32_t zero_point, fixed_multiplier m) {
    return fixed_steps(add_operand(codes, n, zero_point), set_s32(m.mantissa), set_s32(m.shift),
                       set_s32(-2147483647 - 1), set_s32(2147483647));
}
inline void add_fixed_s8(const add_fixed_args& p) {
    index_t i = 0;
    // tflite::add refuses the rest: operands are below 2^28, their sum is below 2^29, no shift is to the left.
    const auto factors = [](fixed_multiplier m) __attribute__((always_inline)) {
        return make_factors(set_s32(m.mantissa), set_s32(m.shift));
    };
    const round_factors a = factors(p.a_multiplier), b = factors(p.b_multiplier), y = factors(p.y_multiplier);
    epilogue_args ep;
    ep.store = store_kind::s8;
    ep.zero_point = p.y_zero_point;
    ep.lo = p.lo;
    ep.hi = p.hi;
    ep.multiplier = sixteen_ones;
    const code_stage stage = make_stage(ep);
    for (; i + 64 <= p.n; i += 64) {
        acc16 v[4][1];
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) {
            const acc16 left = rounded_steps(add_operand(p.a + i + 16 * k, 16, p.a_zero_point), a),
                        right = rounded_steps(add_operand(p.b + i + 16 * k, 16, p.b_zero_point), b);
            v[k][0] = rounded_steps(add(left, right), y);
        }
        store_codes<4, 1>(ep, stage, v, 0, 16, p.y + i, 16);
    }
    const acc16 mantissa = set_s32(p.y_multiplier.mantissa), shift = set_s32(p.y_multiplier.shift);
    const acc16 lo = set_s32(p.lo - p.y_zero_point), hi = set_s32(p.hi - p.y_zero_point);
    for (; i < p.n; i += 16) {
        const index_t n = p.n - i < 16 ? p.n - i : 16;
        const acc16 sum = add(add_term(p.a + i, n, p.a_zero_point, p.a_multiplier),
                              add_term(p.b + i, n, p.b_zero_point, p.b_multiplier));
        store_bytes(p.y + i, add(fixed_steps(sum, mantissa, shift, lo, hi), set_s32(p.y_zero_point)), n);
    }
}

inline constexpr add_kernels add_table = {add_u8, add_fixed_s8};
