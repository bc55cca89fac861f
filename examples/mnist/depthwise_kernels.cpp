// SPDX-License-Identifier: Apache-2.0
#define NOTCH_DEFINE_KERNELS
#include <notch/kernels/depthwise.hpp>
