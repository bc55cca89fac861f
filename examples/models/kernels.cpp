// SPDX-License-Identifier: Apache-2.0
//
// The kernels of all programs of this folder, compiled once.
#include <notch/kernels/definitions.hpp>
