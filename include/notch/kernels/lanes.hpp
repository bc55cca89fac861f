// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/lanes.hpp: the operations on lanes of 32 bits that several families share
// (kernels/body/lanes.inl).
#pragma once

#include <notch/kernels/table.hpp>

#define NOTCH_BODY <notch/kernels/body/lanes.inl>
#define NOTCH_BODY_VBMI
#include <notch/kernels/arch/for_each.inl>
