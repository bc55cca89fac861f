// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/arch/for_vbmi.inl: compiles NOTCH_BODY once more, for AVX-512 with VBMI, whose byte
// permutes look 128 bytes up at once. Included before for_each.inl, which undefines NOTCH_BODY. The
// body sees NOTCH_ARCH_VBMI; the operations of the instruction set are not there, only intrinsics.
// No include guard: each family that looks tables up includes it.

#if NOTCH_X86_KERNELS
#define NOTCH_OP static inline __attribute__((always_inline))
#define NOTCH_ARCH_LEVEL NOTCH_ARCH_AVX512VNNI
#define NOTCH_ARCH_VBMI
NOTCH_TARGET_BEGIN_AVX512VBMI
NOTCH_KEYED_BEGIN
namespace arch::avx512vbmi {
#include NOTCH_BODY
} // namespace arch::avx512vbmi
NOTCH_KEYED_END
NOTCH_TARGET_END
#undef NOTCH_ARCH_VBMI
#undef NOTCH_ARCH_LEVEL
#undef NOTCH_OP
#endif
