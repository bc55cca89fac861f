// SPDX-License-Identifier: Apache-2.0
//
// The kernels of models_rnn, compiled once (NOTCH_SEPARATE_KERNELS).
#define NOTCH_DEFINE_KERNELS
#include <notch/kernels/conv_tile.hpp>
#include <notch/kernels/quantize.hpp>
#include <notch/kernels/recurrent.hpp>
