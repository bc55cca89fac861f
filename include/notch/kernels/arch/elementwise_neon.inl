// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/body/elementwise.inl in the region of NEON: what elementwise kernels need beyond
// kernels/arch/neon.inl. A group is byte_width elements: four nfloat or nvec of 32-bit lanes, or one
// nvec of bytes.

using nmask = uint32x4_t; // all ones or zeros in each dword

NOTCH_OP nfloat nmul(nfloat a, nfloat b) { return vmulq_f32(a, b); }
NOTCH_OP nfloat nfma(nfloat a, nfloat b, nfloat c) { return vfmaq_f32(c, a, b); }
/// v loaded once: the compiler would rather load it again for each use.
NOTCH_OP void keep_in_register(nfloat& v) { __asm__("" : "+w"(v)); }
NOTCH_OP nfloat ndiv(nfloat a, nfloat b) { return vdivq_f32(a, b); }
/// b if either is NaN, or if both are zeros.
NOTCH_OP nfloat nmin(nfloat a, nfloat b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
NOTCH_OP nfloat nmax(nfloat a, nfloat b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
/// To the nearest integer, ties to even; saturates, where x86 gives -2^31. Bodies clamp from above.
NOTCH_OP nvec nround(nfloat v) { return vcvtnq_s32_f32(v); }
NOTCH_OP nfloat nto_f32(nvec v) { return vcvtq_f32_s32(v); }
// Stores past the caches have no intrinsic; plain ones write whole lines well.
template <bool Streaming = false> NOTCH_OP void store_nfloat(float* p, nfloat v) { vst1q_f32(p, v); }
template <bool Streaming> NOTCH_OP void store_group(std::uint8_t* p, nvec v) { vst1q_u8(p, vreinterpretq_u8_s32(v)); }
NOTCH_OP void store_fence() {}

NOTCH_OP bool any_nan(const nfloat (&x)[4]) {
    // max hands a NaN on.
    const nfloat top = vmaxq_f32(vmaxq_f32(x[0], x[1]), vmaxq_f32(x[2], x[3]));
    return vminvq_u32(vceqq_f32(top, top)) == 0;
}
NOTCH_OP nmask nequal(nfloat a, nfloat b) { return vceqq_f32(a, b); }
NOTCH_OP nmask nequal_positive(nfloat a, nfloat b, nvec v) { return vandq_u32(vceqq_f32(a, b), vcgtzq_s32(v)); }
/// 1 or 0 for each element of a group.
NOTCH_OP nvec pack_nmask(const nmask (&m)[4]) {
    const uint16x8_t lo = vmovn_high_u32(vmovn_u32(m[0]), m[1]), hi = vmovn_high_u32(vmovn_u32(m[2]), m[3]);
    return vreinterpretq_s32_u8(vandq_u8(vmovn_high_u16(vmovn_u16(lo), hi), vdupq_n_u8(1)));
}
/// The codes of a group as int32.
template <bool Signed> NOTCH_OP void load_group(const std::uint8_t* p, nvec (&v)[4]) {
    const acc16 wide = Signed ? load_s8(p, 16) : load_u8(p, 16);
    NOTCH_UNROLL
    for (int k = 0; k < 4; ++k) v[k] = wide.v[k];
}
/// x where the byte is not 0, else 0, for a group.
NOTCH_OP void keep_where(const std::uint8_t* bytes, nfloat (&x)[4]) {
    nvec b[4];
    load_group<false>(bytes, b);
    NOTCH_UNROLL
    for (int k = 0; k < 4; ++k)
        x[k] = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x[k]), vtstq_s32(b[k], b[k])));
}

/// 16-bit lanes, for pack_group.
NOTCH_OP nvec set_n16(std::int32_t v) { return vreinterpretq_s32_s16(vdupq_n_s16(static_cast<std::int16_t>(v))); }
/// Steps of a group -> codes: + zero_point, saturating, then saturated to the type of the codes.
template <bool Signed> NOTCH_OP nvec pack_group(const nvec (&v)[4], nvec zero_point) {
    const int16x8_t zero = vreinterpretq_s16_s32(zero_point);
    const int16x8_t ab = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(v[0]), v[1]), zero);
    const int16x8_t cd = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(v[2]), v[3]), zero);
    return Signed ? vreinterpretq_s32_s8(vqmovn_high_s16(vqmovn_s16(ab), cd))
                  : vreinterpretq_s32_u8(vqmovun_high_s16(vqmovun_s16(ab), cd));
}
/// The same of rounded values without a clamp: rounding saturates, and gives 0 for NaN.
template <bool Signed> NOTCH_OP nvec pack_unclamped(const nvec (&v)[4], nvec zero_point, nvec&) {
    return pack_group<Signed>(v, zero_point);
}
NOTCH_OP bool unclamped_failed(nvec) { return false; }

// --- 16-bit sums of bytes ------------------------------------------------------------------------

/// The bytes of a group as two vectors of 16-bit lanes.
NOTCH_OP void widen_group(nvec b, nvec (&w)[2]) {
    const uint8x16_t v = vreinterpretq_u8_s32(b);
    w[0] = vreinterpretq_s32_u16(vmovl_u8(vget_low_u8(v)));
    w[1] = vreinterpretq_s32_u16(vmovl_high_u8(v));
}
NOTCH_OP nvec nadd16(nvec a, nvec b) {
    return vreinterpretq_s32_u16(vaddq_u16(vreinterpretq_u16_s32(a), vreinterpretq_u16_s32(b)));
}
/// 16-bit lanes, unsigned, as two vectors of int32.
NOTCH_OP void widen_n16(nvec v, nvec& lo, nvec& hi) {
    const uint16x8_t w = vreinterpretq_u16_s32(v);
    lo = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(w)));
    hi = vreinterpretq_s32_u32(vmovl_high_u16(w));
}
