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

/// Whether the kernels of x86 instruction sets are compiled.
#if NOTCH_X86_64 && defined(__GNUC__)
#define NOTCH_X86_KERNELS 1
#else
#define NOTCH_X86_KERNELS 0
#endif

#define NOTCH_DETAIL_PRAGMA(x) _Pragma(#x)
#if NOTCH_CLANG
#define NOTCH_DETAIL_TARGET_BEGIN(string)                                                        \
    NOTCH_DETAIL_PRAGMA(clang attribute push(__attribute__((target(string))), apply_to = function))
#define NOTCH_TARGET_END _Pragma("clang attribute pop")
#elif NOTCH_GCC
// g++ 12 warns inside its own intrinsics, whose "undefined" operands are meant to be so.
#define NOTCH_DETAIL_TARGET_BEGIN(string)                                                        \
    _Pragma("GCC push_options") _Pragma("GCC diagnostic push")                                   \
        _Pragma("GCC diagnostic ignored \"-Wmaybe-uninitialized\"")                              \
            _Pragma("GCC diagnostic ignored \"-Wuninitialized\"")                                \
                NOTCH_DETAIL_PRAGMA(GCC target(string))
#define NOTCH_TARGET_END _Pragma("GCC diagnostic pop") _Pragma("GCC pop_options")
#else
#define NOTCH_DETAIL_TARGET_BEGIN(string)
#define NOTCH_TARGET_END
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

NOTCH_NAMESPACE_BEGIN

/// Instruction sets for which kernels exist, in rising order of preference.
enum class isa {
    scalar,     ///< portable C++: runs everywhere
    avx2,       ///< AVX2 + FMA (x86-64-v3)
    avx512bw,   ///< AVX-512 F, BW, VL, DQ (x86-64-v4)
    avxvnni,    ///< AVX2 + AVX-VNNI
    avx512vnni, ///< AVX-512 F, BW, VL, DQ + VNNI
};

inline constexpr int isa_count = 5;

/// The lower-case name used by NOTCH_ISA, benchmarks and reports.
[[nodiscard]] NOTCH_INLINE constexpr const char* to_string(isa i) noexcept {
    switch (i) {
    case isa::scalar: return "scalar";
    case isa::avx2: return "avx2";
    case isa::avx512bw: return "avx512bw";
    case isa::avxvnni: return "avxvnni";
    case isa::avx512vnni: return "avx512vnni";
    }
    return "unknown";
}

NOTCH_NAMESPACE_END
