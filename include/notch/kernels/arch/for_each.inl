// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/arch/for_each.inl: compiles the file named by NOTCH_BODY once for each instruction
// set, inside its target region and its namespace arch::<isa>, over the operations of
// kernels/arch/<isa>.hpp. A family header says
//
//     #define NOTCH_BODY <notch/kernels/body/gemm.inl>
//     #define NOTCH_BODY_DOT       // only if the body uses dot products of bytes
//     #define NOTCH_BODY_VBMI      // only if it looks tables of bytes up
//     #define NOTCH_BODY_AMX <notch/kernels/body/gemm_amx.inl>   // only if there is one for tiles
//     #include <notch/kernels/arch/for_each.inl>
//
// Without NOTCH_BODY_DOT, instruction sets that differ in their dot product alone share one copy
// (see NOTCH_KERNEL_TABLES in kernels/table.hpp). The body sees NOTCH_OP, how its small functions
// are declared, and NOTCH_ARCH_LEVEL, one of the NOTCH_ARCH_... numbers of kernels/table.hpp. No
// include guard: each family includes it. NOTCH_BODY_VBMI makes a further copy, arch::avx512vbmi, for
// CPUs that have VBMI besides AVX-512 VNNI; it sees NOTCH_ARCH_VBMI, and no operations, only intrinsics.
// NOTCH_BODY_AMX is compiled in arch::amx, over the operations and the body of arch::avx512vnni and over
// the tiles of kernels/arch/amx.hpp.

#if defined(NOTCH_DEFINE_KERNELS) && !NOTCH_KERNEL_BODIES
#error "notch: define NOTCH_DEFINE_KERNELS before any header of notch"
#endif
#if NOTCH_KERNEL_BODIES // else declared only, see kernels/table.hpp

// Unrolled, the bodies would grow to hundreds of kilobytes of scalar code at -O3.
#pragma push_macro("NOTCH_UNROLL")
#undef NOTCH_UNROLL
#define NOTCH_UNROLL
#define NOTCH_OP inline
#define NOTCH_ARCH_LEVEL NOTCH_ARCH_SCALAR
NOTCH_KEYED_BEGIN
namespace arch::scalar {
#include NOTCH_BODY
} // namespace arch::scalar
NOTCH_KEYED_END
#undef NOTCH_ARCH_LEVEL
#undef NOTCH_OP
#pragma pop_macro("NOTCH_UNROLL")

#define NOTCH_OP inline __attribute__((always_inline))

#if NOTCH_X86_KERNELS
#define NOTCH_ARCH_LEVEL NOTCH_ARCH_AVX2
NOTCH_TARGET_BEGIN_AVX2
NOTCH_KEYED_BEGIN
namespace arch::avx2 {
#include NOTCH_BODY
} // namespace arch::avx2
NOTCH_KEYED_END
NOTCH_TARGET_END
#undef NOTCH_ARCH_LEVEL

#define NOTCH_ARCH_LEVEL NOTCH_ARCH_AVX512BW
NOTCH_TARGET_BEGIN_AVX512BW
NOTCH_KEYED_BEGIN
namespace arch::avx512bw {
#include NOTCH_BODY
} // namespace arch::avx512bw
NOTCH_KEYED_END
NOTCH_TARGET_END
#undef NOTCH_ARCH_LEVEL

#if defined(NOTCH_BODY_DOT)
#define NOTCH_ARCH_LEVEL NOTCH_ARCH_AVXVNNI
NOTCH_TARGET_BEGIN_AVXVNNI
NOTCH_KEYED_BEGIN
namespace arch::avxvnni {
#include NOTCH_BODY
} // namespace arch::avxvnni
NOTCH_KEYED_END
NOTCH_TARGET_END
#undef NOTCH_ARCH_LEVEL

#define NOTCH_ARCH_LEVEL NOTCH_ARCH_AVX512VNNI
NOTCH_TARGET_BEGIN_AVX512VNNI
NOTCH_KEYED_BEGIN
namespace arch::avx512vnni {
#include NOTCH_BODY
} // namespace arch::avx512vnni
NOTCH_KEYED_END
NOTCH_TARGET_END
#undef NOTCH_ARCH_LEVEL
#endif // NOTCH_BODY_DOT

#if defined(NOTCH_BODY_VBMI)
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
#endif // NOTCH_BODY_VBMI

#if defined(NOTCH_BODY_AMX)
NOTCH_TARGET_BEGIN_AMX
NOTCH_KEYED_BEGIN
namespace arch::amx {
#include NOTCH_BODY_AMX
} // namespace arch::amx
NOTCH_KEYED_END
NOTCH_TARGET_END
#endif // NOTCH_BODY_AMX
#endif // NOTCH_X86_KERNELS

#if NOTCH_NEON_KERNELS
#define NOTCH_ARCH_LEVEL NOTCH_ARCH_NEON
NOTCH_TARGET_BEGIN_NEON
NOTCH_KEYED_BEGIN
namespace arch::neon {
#include NOTCH_BODY
} // namespace arch::neon
NOTCH_KEYED_END
NOTCH_TARGET_END
#undef NOTCH_ARCH_LEVEL

#if defined(NOTCH_BODY_DOT)
#define NOTCH_ARCH_LEVEL NOTCH_ARCH_NEONDOT
NOTCH_TARGET_BEGIN_NEONDOT
NOTCH_KEYED_BEGIN
namespace arch::neondot {
#include NOTCH_BODY
} // namespace arch::neondot
NOTCH_KEYED_END
NOTCH_TARGET_END
#undef NOTCH_ARCH_LEVEL

#define NOTCH_ARCH_LEVEL NOTCH_ARCH_NEONI8MM
NOTCH_TARGET_BEGIN_NEONI8MM
NOTCH_KEYED_BEGIN
namespace arch::neoni8mm {
#include NOTCH_BODY
} // namespace arch::neoni8mm
NOTCH_KEYED_END
NOTCH_TARGET_END
#undef NOTCH_ARCH_LEVEL
#endif // NOTCH_BODY_DOT
#endif // NOTCH_NEON_KERNELS

#undef NOTCH_OP
#endif // NOTCH_KERNEL_BODIES

#undef NOTCH_BODY_AMX
#undef NOTCH_BODY_VBMI
#undef NOTCH_BODY_DOT
#undef NOTCH_BODY
