// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/arch/neondot.hpp: the operations of NEON with dot products (Armv8.2 DotProd).
//
// sdot multiplies signed bytes by signed bytes, so codes are taken as x - 128, which is the byte with
// its top bit flipped, and
//     sum x * w  =  sum (x - 128) * w  +  128 * sum w
// exactly. The last term depends on the weights alone: operand_form::direct computes it with each row of a
// panel; operand_form::offset leaves it out, and gemm starts its accumulators with it (add_panel_sums).
// ndot keeps it beside the weights.
//
// Dot products are one-line asm: before version 16, clang's arm_neon.h declares the intrinsics only
// in a unit that is compiled for them.
#pragma once

#include <notch/core/config.hpp>
#include <notch/kernels/args.hpp>
#include <notch/simd/target.hpp>

#if NOTCH_NEON_KERNELS
#include <arm_neon.h>

NOTCH_TARGET_BEGIN_NEONDOT
NOTCH_KEYED_BEGIN
namespace arch::neondot {

#define NOTCH_OP inline __attribute__((always_inline))
#include <notch/kernels/arch/neon.inl>

inline constexpr const char* gemm_name = "gemm_u8s8_6x16c4__neondot";
inline constexpr int chains_needed = 2; // sdot: latency 4, up to two a cycle; an acc16 has four

template <int NP> constexpr int tile_rows() { return 6; }

using a_quad = int8x8_t; ///< x - 128 of the four codes, in the first lane
struct b_quad {
    int8x16_t v[4];
    acc16 correction; ///< of operand_form::direct: 128 * sum w
};
/// acc += a . b in each lane of four bytes.
NOTCH_OP void sdot(int32x4_t& acc, int8x16_t a, int8x16_t b) {
    __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(a), "w"(b));
}
/// The same with the first lane of a for all.
NOTCH_OP void sdot_first(int32x4_t& acc, int8x16_t b, int8x8_t a) {
    __asm__("sdot %0.4s, %1.16b, %2.4b[0]" : "+w"(acc) : "w"(b), "w"(a));
}
/// acc += 64 * sum w. Twice that is what is needed: 128 is no signed byte.
NOTCH_OP void add_sums64(acc16& acc, const b_quad& b) {
    const int8x16_t half = vdupq_n_s8(64);
    NOTCH_UNROLL
    for (int i = 0; i < 4; ++i) sdot(acc.v[i], b.v[i], half);
}
NOTCH_OP a_quad flip(uint8x8_t v) { return vreinterpret_s8_u8(veor_u8(v, vdup_n_u8(0x80))); }
template <operand_form P> NOTCH_OP a_quad load_a(const std::uint8_t* p) { return flip(load_quad(p)); }
template <operand_form P> NOTCH_OP a_quad set_a(std::uint32_t quad) { return flip(set_quad(quad)); }
template <operand_form P> NOTCH_OP b_quad load_b(const std::int8_t* p) {
    b_quad b{{vld1q_s8(p), vld1q_s8(p + 16), vld1q_s8(p + 32), vld1q_s8(p + 48)}, set_s32(0)};
    if constexpr (P == operand_form::direct) {
        add_sums64(b.correction, b);
        b.correction = add(b.correction, b.correction);
    }
    return b;
}
template <operand_form P> NOTCH_OP void dot(acc16& acc, a_quad a, const b_quad& b) {
    if constexpr (P == operand_form::direct) acc = add(acc, b.correction);
    NOTCH_UNROLL
    for (int i = 0; i < 4; ++i) sdot_first(acc.v[i], b.v[i], a);
}
/// to[c] = start[c] + 128 * sum w[c], over the 16 columns and `quads` rows of 64 bytes of a panel.
inline void add_panel_sums(const std::int32_t* start, const std::int8_t* b, index_t quads, std::int32_t* to) {
    acc16 sum = set_s32(0);
    for (index_t k = 0; k < quads; ++k, b += 64) add_sums64(sum, load_b<operand_form::offset>(b));
    store_s32(to, add(load_s32(start), add(sum, sum)), 16);
}

struct nweights {
    int8x16_t w;
    int32x4_t correction; ///< 128 * sum w
};
template <bool Halves> NOTCH_OP nweights load_nweights(const std::int8_t* p) {
    nweights w{vld1q_s8(p), vdupq_n_s32(0)};
    sdot(w.correction, w.w, vdupq_n_s8(64));
    w.correction = vaddq_s32(w.correction, w.correction);
    return w;
}
NOTCH_OP void ndot(nvec& acc, nvec a, nweights w) {
    acc = vaddq_s32(acc, w.correction);
    sdot(acc, vreinterpretq_s8_u8(veorq_u8(vreinterpretq_u8_s32(a), vdupq_n_u8(0x80))), w.w);
}

#undef NOTCH_OP
} // namespace arch::neondot
NOTCH_KEYED_END
NOTCH_TARGET_END
#endif
