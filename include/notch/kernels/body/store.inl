// SPDX-License-Identifier: Apache-2.0
//
// Included in the region of each instruction set by kernels/table.hpp: what the epilogues of all
// bodies share.

/// The code of one accumulator in a fixed_point mode.
static inline std::int32_t requantize_fixed(const epilogue_args& ep, std::int32_t acc, index_t channel, code_range range) {
    return ep.mode == requant_mode::fixed_point_double_rounding
               ? requantize_fixed_double(acc, ep.fixed[channel], ep.zero_point, range)
               : requantize_fixed_single(acc, ep.fixed[channel], ep.zero_point, range);
}

/// Any epilogue that the register path does not cover: one accumulator vector, cols <= 16 results.
NOTCH_OP void store_any(const epilogue_args& ep, acc16 v, index_t channel, index_t cols, void* out) {
    switch (ep.store) {
    case store_kind::s32: store_s32(static_cast<std::int32_t*>(out), v, cols); return;
    case store_kind::f32: {
        f32x16 y = mul(to_f32(v), load_f32(ep.multiplier + channel));
        y = min(max(y, set_f32(ep.f_lo)), set_f32(ep.f_hi));
        store_f32(static_cast<float*>(out), y, cols);
        return;
    }
    case store_kind::u8:
    case store_kind::s8: break;
    }
    if (ep.mode == requant_mode::float_scale) {
        f32x16 y = mul(to_f32(v), load_f32(ep.multiplier + channel));
        y = min(max(y, set_f32(static_cast<float>(ep.lo - ep.zero_point))),
                set_f32(static_cast<float>(ep.hi - ep.zero_point)));
        store_bytes(static_cast<std::uint8_t*>(out), add(to_s32(y), set_s32(ep.zero_point)), cols);
        return;
    }
    std::int32_t lane[16];
    store_s32(lane, v, 16);
    for (index_t i = 0; i < cols; ++i)
        static_cast<std::uint8_t*>(out)[i] =
            static_cast<std::uint8_t>(requantize_fixed(ep, lane[i], channel + i, {ep.lo, ep.hi}));
}

static inline index_t store_size(store_kind k) {
    return k == store_kind::s32 || k == store_kind::f32 ? 4 : 1;
}
