// SPDX-License-Identifier: Apache-2.0
//
// Included in the region of each instruction set by kernels/table.hpp: what the epilogues of all
// bodies share.

inline constexpr float largest_float = 3.402823466e38f;

/// The code of one accumulator in a fixed_point mode.
inline std::int32_t requantize_fixed(const epilogue_args& ep, std::int32_t acc, index_t channel, code_range range) {
    return ep.mode == requant_mode::fixed_point_double_rounding
               ? requantize_fixed_double(acc, ep.fixed[channel], ep.zero_point, range)
               : requantize_fixed_single(acc, ep.fixed[channel], ep.zero_point, range);
}

/// What the register paths cover; everything else goes through store_any. Floats: min(max(float(v) * multiplier[c]
/// + f_bias[c], f_lo), f_hi). Codes: 8 bits, one product and one rounding; those that are converted before they
/// are clamped need the proof as well.
NOTCH_OP bool plain_floats(const epilogue_args& ep) { return ep.store == store_kind::f32; }
NOTCH_OP bool plain_codes(const epilogue_args& ep) {
    return (ep.store == store_kind::u8 || ep.store == store_kind::s8) && ep.mode == requant_mode::float_scale;
}
NOTCH_OP bool register_codes(const epilogue_args& ep) { return plain_codes(ep) && ep.bounded; }

/// Codes of gemmlowp's double rounding whose steps rounded_steps gives. R rows of up to 16 channels; the register path
/// packs them, multiplied by 1.
NOTCH_OP bool fixed_codes(const epilogue_args& ep) {
    return (ep.store == store_kind::u8 || ep.store == store_kind::s8) &&
           ep.mode == requant_mode::fixed_point_double_rounding && ep.bounded;
}
inline constexpr float sixteen_ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
NOTCH_OP epilogue_args of_steps(epilogue_args ep) {
    ep.multiplier = sixteen_ones;
    return ep;
}
template <int R>
NOTCH_OP void store_steps(const epilogue_args& steps, const code_stage& stage, const round_factors& f,
                          const std::int32_t* lanes, index_t distance, index_t cols, std::uint8_t* c, index_t ldc) {
    acc16 v[R][1];
    NOTCH_UNROLL
    for (int i = 0; i < R; ++i) v[i][0] = rounded_steps(load_s32(lanes + i * distance), f);
    store_codes<R, 1>(steps, stage, v, 0, cols, c, ldc);
}

/// Finished real values as f32 or bf16 (round half to even). They are never NaN: multipliers and biases are finite, a
/// product is at most infinite, and so is its sum with a bias.
NOTCH_OP void store_real(const epilogue_args& ep, f32x16 y, index_t cols, void* out) {
    y = min(max(y, set_f32(ep.f_lo)), set_f32(ep.f_hi));
    if (ep.store == store_kind::f32) {
        store_f32(static_cast<float*>(out), y, cols);
        return;
    }
    const acc16 bits = bits_of(y);
    const acc16 half = add(set_s32(0x7fff), and_s32(high_half(bits), set_s32(1)));
    store_words(static_cast<std::uint16_t*>(out), high_half(add(bits, half)), cols);
}

/// The real value of an accumulator, before the clamps.
NOTCH_OP f32x16 real_value(const epilogue_args& ep, acc16 v, index_t channel) {
    const f32x16 y = mul(to_f32(v), load_f32(ep.multiplier + channel));
    return ep.f_bias ? add_rounded(y, load_f32(ep.f_bias + channel)) : y;
}

/// f32 and bf16 outputs of rows with a scale of their own. The product of the scales is kept finite: an accumulator of
/// 0 gives 0.
NOTCH_OP void store_scaled(const epilogue_args& ep, acc16 v, f32x16 row_scale, index_t channel, index_t cols,
                           void* out) {
    const f32x16 scale = min(mul(row_scale, load_f32(ep.multiplier + channel)), set_f32(largest_float));
    const f32x16 y = mul(to_f32(v), scale);
    store_real(ep, ep.f_bias ? add_rounded(y, load_f32(ep.f_bias + channel)) : y, cols, out);
}

/// Any epilogue that the register path does not cover: one accumulator vector, cols <= 16 results.
NOTCH_OP void store_any(const epilogue_args& ep, acc16 v, index_t channel, index_t cols, void* out) {
    switch (ep.store) {
    case store_kind::s32: store_s32(static_cast<std::int32_t*>(out), v, cols); return;
    case store_kind::f32:
    case store_kind::bf16: store_real(ep, real_value(ep, v, channel), cols, out); return;
    case store_kind::u8:
    case store_kind::s8:
    case store_kind::s16: break;
    }
    acc16 codes;
    if (ep.mode == requant_mode::float_scale) {
        f32x16 y = mul(to_f32(v), load_f32(ep.multiplier + channel));
        y = min(max(y, set_f32(static_cast<float>(ep.lo - ep.zero_point))),
                set_f32(static_cast<float>(ep.hi - ep.zero_point)));
        codes = add(to_s32(y), set_s32(ep.zero_point));
    } else if (ep.mode == requant_mode::fixed_point_double_rounding) {
        const acc16 steps = fixed_steps(v, load_s32(ep.mantissa + channel), load_s32(ep.shift + channel),
                                        set_s32(ep.lo - ep.zero_point), set_s32(ep.hi - ep.zero_point));
        codes = add(steps, set_s32(ep.zero_point));
    } else {
        std::int32_t lane[16] = {};
        store_s32(lane, v, 16);
        for (index_t i = 0; i < cols; ++i) lane[i] = requantize_fixed(ep, lane[i], channel + i, {ep.lo, ep.hi});
        codes = load_s32(lane);
    }
    if (ep.store == store_kind::s16)
        store_words(static_cast<std::uint16_t*>(out), codes, cols);
    else
        store_bytes(static_cast<std::uint8_t*>(out), codes, cols);
}
