// SPDX-License-Identifier: Apache-2.0
//
// notch/simd/target.hpp: instruction sets by name, and the regions that compile code for them.
//
// A region
//     NOTCH_TARGET_BEGIN_AVX2
//     ... function definitions ...
//     NOTCH_TARGET_END
// compiles the definitions inside for that instruction set, whatever the flags of the translation
// unit. g++ and clang spell it differently; this is the only header that knows how. Rules inside
// a region (tests/odr checks them): no standard or xsimd header, no call to a function defined
// outside unless it is always inlined, vectors never cross its border.
#pragma once

#include <notch/core/config.hpp>
#include <notch/core/types.hpp>

#define NOTCH_TARGET_STRING_AVX2 "avx2,fma,f16c,bmi,bmi2,lzcnt,popcnt"
#if defined(NOTCH_AVXVNNI_AS_EVEX) // see kernels/arch/avxvnni.hpp
#define NOTCH_TARGET_STRING_AVXVNNI NOTCH_TARGET_STRING_AVX2 ",avx512f,avx512vl,avx512vnni"
#else
#define NOTCH_TARGET_STRING_AVXVNNI NOTCH_TARGET_STRING_AVX2 ",avxvnni"
#endif
#define NOTCH_TARGET_STRING_AVX512BW NOTCH_TARGET_STRING_AVX2 ",avx512f,avx512bw,avx512vl,avx512dq"
#define NOTCH_TARGET_STRING_AVX512VNNI NOTCH_TARGET_STRING_AVX512BW ",avx512vnni"
#define NOTCH_TARGET_STRING_AVX512VBMI NOTCH_TARGET_STRING_AVX512VNNI ",avx512vbmi"
#if defined(NOTCH_AMX_EMULATED) // see kernels/arch/amx.hpp
#define NOTCH_TARGET_STRING_AMX NOTCH_TARGET_STRING_AVX512VNNI
#else
#define NOTCH_TARGET_STRING_AMX NOTCH_TARGET_STRING_AVX512VNNI ",amx-tile,amx-int8"
#endif

// NEON itself belongs to the baseline of AArch64. clang knows the extensions by their bare names. g++
// adds "+name" to the flags of the unit, but the assembler (binutils 2.40) refuses dot products
// below Armv8.2, so a unit for less moves to that. It must keep what else it has: always-inlined
// functions go only into regions that have all extensions of their unit.
#if NOTCH_CLANG
#define NOTCH_TARGET_STRING_NEONDOT "dotprod"
#define NOTCH_TARGET_STRING_NEONI8MM "dotprod,i8mm"
#else
#if defined(__ARM_FEATURE_DOTPROD) || defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC) || defined(__ARM_FEATURE_SVE) ||   \
    defined(__ARM_FEATURE_RCPC) || defined(__ARM_FEATURE_JCVT) || defined(__ARM_FEATURE_BF16) ||                       \
    defined(__ARM_FEATURE_SHA3)
#define NOTCH_DETAIL_TARGET_ARMV82 ""
#elif defined(__ARM_FEATURE_CRYPTO)
#define NOTCH_DETAIL_TARGET_ARMV82 "arch=armv8.2-a+crypto"
#elif defined(__ARM_FEATURE_AES) && defined(__ARM_FEATURE_SHA2)
#define NOTCH_DETAIL_TARGET_ARMV82 "arch=armv8.2-a+aes+sha2"
#elif defined(__ARM_FEATURE_AES)
#define NOTCH_DETAIL_TARGET_ARMV82 "arch=armv8.2-a+aes"
#elif defined(__ARM_FEATURE_SHA2)
#define NOTCH_DETAIL_TARGET_ARMV82 "arch=armv8.2-a+sha2"
#else
#define NOTCH_DETAIL_TARGET_ARMV82 "arch=armv8.2-a"
#endif
#define NOTCH_TARGET_STRING_NEONDOT NOTCH_DETAIL_TARGET_ARMV82 "+dotprod"
#define NOTCH_TARGET_STRING_NEONI8MM NOTCH_DETAIL_TARGET_ARMV82 "+dotprod+i8mm"
#endif

/// Whether the kernels of x86 instruction sets are compiled.
#if NOTCH_X86_64 && defined(__GNUC__)
#define NOTCH_X86_KERNELS 1
#else
#define NOTCH_X86_KERNELS 0
#endif

/// Whether the kernels of AArch64 (little-endian, with NEON) are compiled.
#if NOTCH_AARCH64 && defined(__GNUC__) && defined(__ARM_NEON) && !defined(__AARCH64EB__)
#define NOTCH_NEON_KERNELS 1
#else
#define NOTCH_NEON_KERNELS 0
#endif

#define NOTCH_DETAIL_PRAGMA(x) _Pragma(#x)
#if NOTCH_CLANG
// A body may be empty for an instruction set; clang warns of a region without functions.
#define NOTCH_DETAIL_TARGET_BEGIN(string)                                                                              \
    _Pragma("clang diagnostic push") _Pragma("clang diagnostic ignored \"-Wpragma-clang-attribute\"")                  \
        NOTCH_DETAIL_PRAGMA(clang attribute push(__attribute__((target(string))), apply_to = function))
#define NOTCH_TARGET_END _Pragma("clang attribute pop") _Pragma("clang diagnostic pop")
#define NOTCH_TARGET_BEGIN_NEON NOTCH_DETAIL_TARGET_BEGIN("neon")
#elif NOTCH_GCC
// g++ 12 warns inside its own intrinsics, whose "undefined" operands are meant to be so.
#define NOTCH_DETAIL_TARGET_BEGIN(string)                                                                              \
    _Pragma("GCC push_options") _Pragma("GCC diagnostic push")                                                         \
        _Pragma("GCC diagnostic ignored \"-Wmaybe-uninitialized\"")                                                    \
            _Pragma("GCC diagnostic ignored \"-Wuninitialized\"") NOTCH_DETAIL_PRAGMA(GCC target(string))
#define NOTCH_TARGET_END _Pragma("GCC diagnostic pop") _Pragma("GCC pop_options")
#define NOTCH_TARGET_BEGIN_NEON _Pragma("GCC push_options") _Pragma("GCC diagnostic push")
#else
#define NOTCH_DETAIL_TARGET_BEGIN(string)
#define NOTCH_TARGET_END
#define NOTCH_TARGET_BEGIN_NEON
#endif

// Full unrolling of the short, constant loops over the registers of a tile.
#if NOTCH_CLANG
#define NOTCH_UNROLL _Pragma("clang loop unroll(full)")
#elif NOTCH_GCC
#define NOTCH_UNROLL _Pragma("GCC unroll 32")
#else
#define NOTCH_UNROLL
#endif

#define NOTCH_TARGET_BEGIN_AVX2 NOTCH_DETAIL_TARGET_BEGIN(NOTCH_TARGET_STRING_AVX2)
#define NOTCH_TARGET_BEGIN_AVXVNNI NOTCH_DETAIL_TARGET_BEGIN(NOTCH_TARGET_STRING_AVXVNNI)
#define NOTCH_TARGET_BEGIN_AVX512BW NOTCH_DETAIL_TARGET_BEGIN(NOTCH_TARGET_STRING_AVX512BW)
#define NOTCH_TARGET_BEGIN_AVX512VNNI NOTCH_DETAIL_TARGET_BEGIN(NOTCH_TARGET_STRING_AVX512VNNI)
#define NOTCH_TARGET_BEGIN_AVX512VBMI NOTCH_DETAIL_TARGET_BEGIN(NOTCH_TARGET_STRING_AVX512VBMI)
#define NOTCH_TARGET_BEGIN_AMX NOTCH_DETAIL_TARGET_BEGIN(NOTCH_TARGET_STRING_AMX)
#define NOTCH_TARGET_BEGIN_NEONDOT NOTCH_DETAIL_TARGET_BEGIN(NOTCH_TARGET_STRING_NEONDOT)
#define NOTCH_TARGET_BEGIN_NEONI8MM NOTCH_DETAIL_TARGET_BEGIN(NOTCH_TARGET_STRING_NEONI8MM)

NOTCH_NAMESPACE_BEGIN

/// Instruction sets for which kernels exist, in rising order of preference within an architecture.
/// All of them have a name everywhere; is_available (simd/cpu.hpp) tells which can run.
enum class isa {
    scalar,     ///< portable C++: runs everywhere
    avx2,       ///< AVX2 + FMA (x86-64-v3)
    avx512bw,   ///< AVX-512 F, BW, VL, DQ (x86-64-v4)
    avxvnni,    ///< AVX2 + AVX-VNNI
    avx512vnni, ///< AVX-512 F, BW, VL, DQ + VNNI
    amx,        ///< avx512vnni + AMX-TILE and AMX-INT8
    neon,       ///< AArch64 Advanced SIMD, in every such CPU
    neondot,    ///< NEON + dot products of signed bytes (Armv8.2 DotProd)
    neoni8mm,   ///< NEON + mixed-sign dot products (Armv8.2 I8MM)
};

inline constexpr int isa_count = 9;

/// The lower-case name used by NOTCH_ISA, benchmarks and reports.
[[nodiscard]] NOTCH_INLINE constexpr const char* to_string(isa i) noexcept {
    switch (i) {
    case isa::scalar: return "scalar";
    case isa::avx2: return "avx2";
    case isa::avx512bw: return "avx512bw";
    case isa::avxvnni: return "avxvnni";
    case isa::avx512vnni: return "avx512vnni";
    case isa::amx: return "amx";
    case isa::neon: return "neon";
    case isa::neondot: return "neondot";
    case isa::neoni8mm: return "neoni8mm";
    }
    return "unknown";
}

NOTCH_NAMESPACE_END
