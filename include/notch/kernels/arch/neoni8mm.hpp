// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/arch/neoni8mm.hpp: the operations of NEON with mixed-sign dot products (Armv8.2
// I8MM): usdot multiplies unsigned bytes by signed ones and adds exactly.
//
// One-line asm for the reasons told in neondot.hpp.
#pragma once

#include <notch/core/config.hpp>
#include <notch/kernels/args.hpp>
#include <notch/simd/target.hpp>

#if NOTCH_NEON_KERNELS
#include <arm_neon.h>

NOTCH_TARGET_BEGIN_NEONI8MM
NOTCH_KEYED_BEGIN
namespace arch::neoni8mm {

#define NOTCH_OP inline __attribute__((always_inline))
#include <notch/kernels/arch/neon.inl>

inline constexpr const char* gemm_name = "gemm_u8s8_6x16c4__neoni8mm";
inline constexpr int chains_needed = 2; // usdot: latency 4, up to two a cycle; an acc16 has four

template <int NP> constexpr int tile_rows() { return 6; }

using a_quad = uint8x8_t; ///< the four codes, in the first lane
struct b_quad {
    int8x16_t v[4];
};
template <operand_form P> NOTCH_OP a_quad load_a(const std::uint8_t* p) { return load_quad(p); }
template <operand_form P> NOTCH_OP a_quad set_a(std::uint32_t quad) { return set_quad(quad); }
template <operand_form P> NOTCH_OP b_quad load_b(const std::int8_t* p) {
    return {{vld1q_s8(p), vld1q_s8(p + 16), vld1q_s8(p + 32), vld1q_s8(p + 48)}};
}
template <operand_form P> NOTCH_OP void dot(acc16& acc, a_quad a, const b_quad& b) {
    NOTCH_UNROLL
    for (int i = 0; i < 4; ++i) // signed by unsigned, the first lane of a for all
        __asm__("sudot %0.4s, %1.16b, %2.4b[0]" : "+w"(acc.v[i]) : "w"(b.v[i]), "w"(a));
}

using nweights = int8x16_t;
template <bool Halves> NOTCH_OP nweights load_nweights(const std::int8_t* p) { return vld1q_s8(p); }
NOTCH_OP void ndot(nvec& acc, nvec a, nweights w) {
    __asm__("usdot %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(vreinterpretq_u8_s32(a)), "w"(w));
}

#undef NOTCH_OP
} // namespace arch::neoni8mm
NOTCH_KEYED_END
NOTCH_TARGET_END
#endif
