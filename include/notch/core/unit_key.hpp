// SPDX-License-Identifier: Apache-2.0
//
// notch/core/unit_key.hpp: NOTCH_TU_KEY, a name made of the instruction-set macros of the translation unit by which
// CPUs differ: what a compiler may use unasked. (Sets of flags that no CPU has, such as AVX-512 BW without DQ, may
// share the name of others.) core/config.hpp says what it is for; docs/design.md, "One definition rule", why.
#pragma once

#define NOTCH_DETAIL_CAT7_(a, b, c, d, e, f, g) a##b##c##d##e##f##g
#define NOTCH_DETAIL_CAT7(a, b, c, d, e, f, g) NOTCH_DETAIL_CAT7_(a, b, c, d, e, f, g)

#if defined(__aarch64__) || defined(_M_ARM64)

// Whatever a compiler may use unasked: vector extensions, but atomics, CRC loops and memcpy too.

#if defined(__ARM_FEATURE_MATMUL_INT8) && defined(__ARM_FEATURE_DOTPROD)
#define NOTCH_DETAIL_KEY_DOT _i8mm
#elif defined(__ARM_FEATURE_MATMUL_INT8)
#define NOTCH_DETAIL_KEY_DOT _onlyi8mm
#elif defined(__ARM_FEATURE_DOTPROD)
#define NOTCH_DETAIL_KEY_DOT _dotprod
#else
#define NOTCH_DETAIL_KEY_DOT
#endif

#if defined(__ARM_FEATURE_SVE2) && defined(__ARM_FEATURE_SVE2p1)
#define NOTCH_DETAIL_KEY_SVE _sve2p1
#elif defined(__ARM_FEATURE_SVE2)
#define NOTCH_DETAIL_KEY_SVE _sve2
#elif defined(__ARM_FEATURE_SVE)
#define NOTCH_DETAIL_KEY_SVE _sve
#else
#define NOTCH_DETAIL_KEY_SVE
#endif

#if defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
#define NOTCH_DETAIL_KEY_FP16 _fp16
#else
#define NOTCH_DETAIL_KEY_FP16
#endif

#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define NOTCH_DETAIL_KEY_BF16 _bf16
#else
#define NOTCH_DETAIL_KEY_BF16
#endif

#if defined(__ARM_FEATURE_QRDMX)
#define NOTCH_DETAIL_KEY_RDM _rdm
#else
#define NOTCH_DETAIL_KEY_RDM
#endif

#if defined(__ARM_FEATURE_SHA3)
#define NOTCH_DETAIL_KEY_SHA3 _sha3
#else
#define NOTCH_DETAIL_KEY_SHA3
#endif

#if defined(__ARM_FEATURE_ATOMICS)
#define NOTCH_DETAIL_KEY_LSE _lse
#else
#define NOTCH_DETAIL_KEY_LSE
#endif

#if defined(__ARM_FEATURE_RCPC)
#define NOTCH_DETAIL_KEY_RCPC _rcpc
#else
#define NOTCH_DETAIL_KEY_RCPC
#endif

#if defined(__ARM_FEATURE_CRC32)
#define NOTCH_DETAIL_KEY_CRC _crc
#else
#define NOTCH_DETAIL_KEY_CRC
#endif

#if defined(__ARM_FEATURE_MOPS)
#define NOTCH_DETAIL_KEY_MOPS _mops
#else
#define NOTCH_DETAIL_KEY_MOPS
#endif

#if defined(__ARM_FEATURE_CSSC)
#define NOTCH_DETAIL_KEY_CSSC _cssc
#else
#define NOTCH_DETAIL_KEY_CSSC
#endif

#define NOTCH_DETAIL_KEY_MORE
#define NOTCH_DETAIL_KEY_VECTOR                                                                                        \
    NOTCH_DETAIL_CAT7(_arm, NOTCH_DETAIL_KEY_DOT, NOTCH_DETAIL_KEY_SVE, NOTCH_DETAIL_KEY_FP16, NOTCH_DETAIL_KEY_BF16,  \
                      NOTCH_DETAIL_KEY_RDM, NOTCH_DETAIL_KEY_SHA3)
#define NOTCH_DETAIL_KEY_OTHER                                                                                         \
    NOTCH_DETAIL_CAT7(NOTCH_DETAIL_KEY_LSE, NOTCH_DETAIL_KEY_RCPC, NOTCH_DETAIL_KEY_CRC, NOTCH_DETAIL_KEY_MOPS,        \
                      NOTCH_DETAIL_KEY_CSSC, , )

#else

#if defined(__SSE4_2__)
#define NOTCH_DETAIL_KEY_SSE _sse42
#elif defined(__SSE4_1__)
#define NOTCH_DETAIL_KEY_SSE _sse41
#elif defined(__SSSE3__)
#define NOTCH_DETAIL_KEY_SSE _ssse3
#elif defined(__SSE3__)
#define NOTCH_DETAIL_KEY_SSE _sse3
#else
#define NOTCH_DETAIL_KEY_SSE _base
#endif

#if defined(__AVX2__)
#define NOTCH_DETAIL_KEY_AVX _avx2
#elif defined(__AVX__)
#define NOTCH_DETAIL_KEY_AVX _avx
#else
#define NOTCH_DETAIL_KEY_AVX
#endif

#if defined(__FMA__)
#define NOTCH_DETAIL_KEY_FMA _fma
#else
#define NOTCH_DETAIL_KEY_FMA
#endif

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define NOTCH_DETAIL_KEY_512 _avx512vnni
#elif defined(__AVX512BW__) && defined(__AVX512VL__)
#define NOTCH_DETAIL_KEY_512 _avx512bw
#elif defined(__AVX512F__)
#define NOTCH_DETAIL_KEY_512 _avx512f
#else
#define NOTCH_DETAIL_KEY_512
#endif

// Extensions that come in any combination.

#if defined(__AVX512VBMI2__)
#define NOTCH_DETAIL_KEY_VBMI _vbmi2
#elif defined(__AVX512VBMI__)
#define NOTCH_DETAIL_KEY_VBMI _vbmi
#else
#define NOTCH_DETAIL_KEY_VBMI
#endif

#if defined(__AVX512BITALG__)
#define NOTCH_DETAIL_KEY_COUNT _bitalg
#elif defined(__AVX512VPOPCNTDQ__)
#define NOTCH_DETAIL_KEY_COUNT _vpopcnt
#else
#define NOTCH_DETAIL_KEY_COUNT
#endif

#if defined(__AVX512FP16__)
#define NOTCH_DETAIL_KEY_FLOAT _fp16
#elif defined(__AVX512BF16__)
#define NOTCH_DETAIL_KEY_FLOAT _bf16
#else
#define NOTCH_DETAIL_KEY_FLOAT
#endif

#if defined(__AVXVNNIINT16__)
#define NOTCH_DETAIL_KEY_DOT _avxvnniint16
#elif defined(__AVXVNNIINT8__)
#define NOTCH_DETAIL_KEY_DOT _avxvnniint8
#elif defined(__AVXVNNI__)
#define NOTCH_DETAIL_KEY_DOT _avxvnni
#else
#define NOTCH_DETAIL_KEY_DOT
#endif

#if defined(__GFNI__)
#define NOTCH_DETAIL_KEY_GFNI _gfni
#else
#define NOTCH_DETAIL_KEY_GFNI
#endif

#if defined(__AVX10_2__)
#define NOTCH_DETAIL_KEY_AVX10 _avx102
#elif defined(__AVX10_1__)
#define NOTCH_DETAIL_KEY_AVX10 _avx101
#else
#define NOTCH_DETAIL_KEY_AVX10
#endif

#if defined(__APX_F__)
#define NOTCH_DETAIL_KEY_APX _apx
#else
#define NOTCH_DETAIL_KEY_APX
#endif

#if defined(__BMI2__) && defined(__BMI__)
#define NOTCH_DETAIL_KEY_BMI _bmi2
#elif defined(__BMI2__)
#define NOTCH_DETAIL_KEY_BMI _onlybmi2
#elif defined(__BMI__)
#define NOTCH_DETAIL_KEY_BMI _bmi
#else
#define NOTCH_DETAIL_KEY_BMI
#endif

#if defined(__LZCNT__)
#define NOTCH_DETAIL_KEY_LZCNT _lzcnt
#else
#define NOTCH_DETAIL_KEY_LZCNT
#endif

#if defined(__MOVBE__)
#define NOTCH_DETAIL_KEY_MOVBE _movbe
#else
#define NOTCH_DETAIL_KEY_MOVBE
#endif

#if defined(__F16C__)
#define NOTCH_DETAIL_KEY_F16C _f16c
#else
#define NOTCH_DETAIL_KEY_F16C
#endif

#if defined(__POPCNT__)
#define NOTCH_DETAIL_KEY_POPCNT _popcnt
#else
#define NOTCH_DETAIL_KEY_POPCNT
#endif

#if defined(__XOP__)
#define NOTCH_DETAIL_KEY_AMD _xop
#elif defined(__FMA4__)
#define NOTCH_DETAIL_KEY_AMD _fma4
#elif defined(__TBM__)
#define NOTCH_DETAIL_KEY_AMD _tbm
#else
#define NOTCH_DETAIL_KEY_AMD
#endif

#define NOTCH_DETAIL_KEY_VECTOR                                                                                        \
    NOTCH_DETAIL_CAT7(NOTCH_DETAIL_KEY_SSE, NOTCH_DETAIL_KEY_AVX, NOTCH_DETAIL_KEY_FMA, NOTCH_DETAIL_KEY_512,          \
                      NOTCH_DETAIL_KEY_AMD, , )
#define NOTCH_DETAIL_KEY_MORE                                                                                          \
    NOTCH_DETAIL_CAT7(NOTCH_DETAIL_KEY_VBMI, NOTCH_DETAIL_KEY_COUNT, NOTCH_DETAIL_KEY_FLOAT, NOTCH_DETAIL_KEY_DOT,     \
                      NOTCH_DETAIL_KEY_GFNI, NOTCH_DETAIL_KEY_AVX10, NOTCH_DETAIL_KEY_APX)
#define NOTCH_DETAIL_KEY_OTHER                                                                                         \
    NOTCH_DETAIL_CAT7(NOTCH_DETAIL_KEY_BMI, NOTCH_DETAIL_KEY_LZCNT, NOTCH_DETAIL_KEY_MOVBE, NOTCH_DETAIL_KEY_F16C,     \
                      NOTCH_DETAIL_KEY_POPCNT, , )

#endif

#if defined(__cpp_exceptions) && __cpp_exceptions
#define NOTCH_DETAIL_KEY_EXC
#else
#define NOTCH_DETAIL_KEY_EXC _noexc
#endif

#define NOTCH_TU_KEY                                                                                                   \
    NOTCH_DETAIL_CAT7(isa, NOTCH_DETAIL_KEY_VECTOR, NOTCH_DETAIL_KEY_MORE, NOTCH_DETAIL_KEY_OTHER,                     \
                      NOTCH_DETAIL_KEY_EXC, , )
