// SPDX-License-Identifier: Apache-2.0
//
// The kernels of both programs (NOTCH_SEPARATE_KERNELS) but those of depthwise_kernels.cpp, which compiles beside this.
#define NOTCH_DEFINE_KERNELS
#include <notch/kernels/add.hpp>
#include <notch/kernels/conv_tile.hpp>
#include <notch/kernels/gemm_batched.hpp>
#include <notch/kernels/pool.hpp>
#include <notch/kernels/quantize.hpp>
