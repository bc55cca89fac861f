// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/arch/neon.hpp: the operations of NEON as every AArch64 CPU has it, without dot products.
//
// The exact product is smlal by element: four columns of one k at a time, 16 bits wide, times one
// code of the row. ld4 brings a 64-byte row of a panel, [16 columns][4 k], into that order.
#pragma once

#include <notch/core/config.hpp>
#include <notch/kernels/args.hpp>
#include <notch/simd/target.hpp>

#if NOTCH_NEON_KERNELS
#include <arm_neon.h>

NOTCH_TARGET_BEGIN_NEON
NOTCH_KEYED_BEGIN
namespace arch::neon {

#define NOTCH_OP inline __attribute__((always_inline))
#include <notch/kernels/arch/neon.inl>

inline constexpr const char* gemm_name = "gemm_u8s8_4x16c4__neon";
inline constexpr int chains_needed = 2; // smlal: latency 4, up to two a cycle; an acc16 has four

template <int NP> constexpr int tile_rows() { return 4; }

using a_quad = int16x4_t; ///< the four codes, widened
struct b_quad {
    int16x8_t lo[4], hi[4]; ///< columns 0..7 and 8..15 of each k
};
NOTCH_OP a_quad widen_quad(uint8x8_t v) { return vreinterpret_s16_u16(vget_low_u16(vmovl_u8(v))); }
template <operand_form P> NOTCH_OP a_quad load_a(const std::uint8_t* p) { return widen_quad(load_quad(p)); }
template <operand_form P> NOTCH_OP a_quad set_a(std::uint32_t quad) { return widen_quad(set_quad(quad)); }
template <operand_form P> NOTCH_OP b_quad load_b(const std::int8_t* p) {
    const int8x16x4_t v = vld4q_s8(p);
    b_quad b;
    NOTCH_UNROLL
    for (int k = 0; k < 4; ++k) {
        b.lo[k] = vmovl_s8(vget_low_s8(v.val[k]));
        b.hi[k] = vmovl_high_s8(v.val[k]);
    }
    return b;
}
template <int K> NOTCH_OP void mul_add(acc16& acc, a_quad a, const b_quad& b) {
    acc.v[0] = vmlal_lane_s16(acc.v[0], vget_low_s16(b.lo[K]), a, K);
    acc.v[1] = vmlal_high_lane_s16(acc.v[1], b.lo[K], a, K);
    acc.v[2] = vmlal_lane_s16(acc.v[2], vget_low_s16(b.hi[K]), a, K);
    acc.v[3] = vmlal_high_lane_s16(acc.v[3], b.hi[K], a, K);
}
template <operand_form P> NOTCH_OP void dot(acc16& acc, a_quad a, const b_quad& b) {
    mul_add<0>(acc, a, b);
    mul_add<1>(acc, a, b);
    mul_add<2>(acc, a, b);
    mul_add<3>(acc, a, b);
}

/// Four channels x four rows, widened, one row after the other.
struct nweights {
    int16x8_t rows01, rows23;
};
/// From dwords of four rows of one channel each to dwords of four channels of one row each.
NOTCH_OP uint8x16_t by_rows(uint8x16_t v) {
    static constexpr std::uint8_t order[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    return vqtbl1q_u8(v, vld1q_u8(order));
}
template <bool Halves> NOTCH_OP nweights load_nweights(const std::int8_t* w) {
    const int8x16_t v = vreinterpretq_s8_u8(by_rows(vreinterpretq_u8_s8(vld1q_s8(w))));
    return {vmovl_s8(vget_low_s8(v)), vmovl_high_s8(v)};
}
NOTCH_OP void ndot(nvec& acc, nvec a, nweights w) {
    const uint8x16_t v = by_rows(vreinterpretq_u8_s32(a));
    const int16x8_t rows01 = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(v)));
    const int16x8_t rows23 = vreinterpretq_s16_u16(vmovl_high_u8(v));
    acc = vmlal_s16(acc, vget_low_s16(rows01), vget_low_s16(w.rows01));
    acc = vmlal_high_s16(acc, rows01, w.rows01);
    acc = vmlal_s16(acc, vget_low_s16(rows23), vget_low_s16(w.rows23));
    acc = vmlal_high_s16(acc, rows23, w.rows23);
}

#undef NOTCH_OP
} // namespace arch::neon
NOTCH_KEYED_END
NOTCH_TARGET_END
#endif
