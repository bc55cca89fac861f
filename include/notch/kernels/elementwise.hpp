// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/elementwise.hpp: the vector operations that the bodies of quantize, add and pool share.
#pragma once

#include <notch/kernels/table.hpp>

/// Inside a body: whether this instruction set has the operations on groups.
#define NOTCH_ARCH_HAS_GROUPS                                                                                          \
    (NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW ||                                 \
     NOTCH_ARCH_LEVEL == NOTCH_ARCH_NEON)

#define NOTCH_BODY <notch/kernels/body/elementwise.inl>
#include <notch/kernels/arch/for_each.inl>
