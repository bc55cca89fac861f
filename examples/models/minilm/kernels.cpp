// SPDX-License-Identifier: Apache-2.0
#include <notch/kernels/definitions.hpp>
