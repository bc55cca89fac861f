// SPDX-License-Identifier: Apache-2.0
//
// notch/core/config.hpp: version, compiler facts and the two namespaces of the library.
// This and core/unit_key.hpp are the only headers with a forest of #ifdef about the compiler; the strings and
// regions of instruction sets live in simd/target.hpp.
//
// Two kinds of inline namespace (see docs/design.md, "One definition rule"):
//
//   NOTCH_NAMESPACE_BEGIN   notch::v0            vocabulary types: the same name in every
//                                                translation unit, so they link across libraries.
//                                                Their members are trivial and always inlined.
//   NOTCH_KEYED_BEGIN       notch::v0::isa_...   everything with a loop: the name carries the
//                                                instruction-set macros of the translation unit,
//                                                so that the linker can never merge a function
//                                                compiled with -mavx512f with the one of a
//                                                baseline translation unit.
#pragma once

#include <notch/core/unit_key.hpp>

#define NOTCH_VERSION_MAJOR 0
#define NOTCH_VERSION_MINOR 1
#define NOTCH_VERSION_PATCH 0
#define NOTCH_VERSION_STRING "0.1.0"

#if !defined(__cplusplus) || (__cplusplus < 202002L && !(defined(_MSVC_LANG) && _MSVC_LANG >= 202002L))
#error "notch needs C++20: compile with -std=c++20 or later"
#endif

// clang has no macro for the parts of -ffast-math other than -ffinite-math-only.
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ > 0) ||                           \
    defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__)
#error                                                                                                                 \
    "notch: -ffast-math breaks NaN handling and rounding, on which bit-exact codes depend; as do its parts, such as -ffinite-math-only and -funsafe-math-optimizations; compile the files that include notch with -fno-fast-math"
#endif

// --- compiler and architecture ---------------------------------------------------------------

#if defined(__clang__)
#define NOTCH_CLANG 1
#else
#define NOTCH_CLANG 0
#endif

#if defined(__GNUC__) && !defined(__clang__)
#define NOTCH_GCC 1
#else
#define NOTCH_GCC 0
#endif

#if defined(__x86_64__) || defined(_M_X64)
#define NOTCH_X86_64 1
#else
#define NOTCH_X86_64 0
#endif

#if defined(__aarch64__) || defined(_M_ARM64)
#define NOTCH_AARCH64 1
#else
#define NOTCH_AARCH64 0
#endif

#if defined(__cpp_exceptions) && __cpp_exceptions
#define NOTCH_EXCEPTIONS 1
#else
#define NOTCH_EXCEPTIONS 0
#endif

#if defined(__GNUC__)
#define NOTCH_INLINE inline __attribute__((always_inline))
#define NOTCH_NOINLINE __attribute__((noinline))
#define NOTCH_RESTRICT __restrict__
#else
#define NOTCH_INLINE inline
#define NOTCH_NOINLINE
#define NOTCH_RESTRICT
#endif

// The special members of a plain type that owns memory and is not keyed. Written out, because the
// implicit ones are weak symbols with the instructions of whichever translation unit made them.
#define NOTCH_INLINE_SPECIAL_MEMBERS(type)                                                                             \
    NOTCH_INLINE type() = default;                                                                                     \
    NOTCH_INLINE type(const type&) = default;                                                                          \
    NOTCH_INLINE type(type&&) = default;                                                                               \
    NOTCH_INLINE type& operator=(const type&) = default;                                                               \
    NOTCH_INLINE type& operator=(type&&) = default;                                                                    \
    NOTCH_INLINE ~type() = default

#define NOTCH_NAMESPACE_BEGIN                                                                                          \
    namespace notch {                                                                                                  \
    inline namespace v0 {
#define NOTCH_NAMESPACE_END                                                                                            \
    }                                                                                                                  \
    }
#define NOTCH_KEYED_BEGIN                                                                                              \
    namespace notch {                                                                                                  \
    inline namespace v0 {                                                                                              \
    inline namespace NOTCH_TU_KEY {
#define NOTCH_KEYED_END                                                                                                \
    }                                                                                                                  \
    }                                                                                                                  \
    }
