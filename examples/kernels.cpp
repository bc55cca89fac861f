// SPDX-License-Identifier: Apache-2.0
//
// The kernels of the ablation and the models, compiled once.
#include <notch/kernels/definitions.hpp>
