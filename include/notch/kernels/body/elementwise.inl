// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/elementwise.hpp in the region of each instruction set: the operations on whole
// groups of byte_width elements, where the instruction set has them (NOTCH_ARCH_HAS_GROUPS). The bodies then
// work on groups and leave the rest, fewer than byte_width elements, to the portable loops that the
// others run from end to end.

#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2
#include <notch/kernels/arch/elementwise_avx2.inl>
#elif NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW
#include <notch/kernels/arch/elementwise_avx512.inl>
#elif NOTCH_ARCH_LEVEL == NOTCH_ARCH_NEON
#include <notch/kernels/arch/elementwise_neon.inl>
#endif
