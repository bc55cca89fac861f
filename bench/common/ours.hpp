// SPDX-License-Identifier: Apache-2.0
//
// notch itself, as the benchmarks run it. What is used of the tables of kernels is in ours.cpp alone.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "problem.hpp"

namespace bench {

/// Prepares a problem for an instruction set of this CPU, by name. Null if notch has no kernel for it.
std::unique_ptr<work> prepare_notch(const workload& w, std::string_view isa);

/// Only the packing of the weights of gemm, conv2d, depthwise: run() packs them. Null for others.
std::unique_ptr<work> prepare_packing(const workload& w);

/// The name of the kernel that an instruction set has for an operation, in the grammar
/// operation_types_tile__isa, as far as the tables tell.
std::string kernel_name(operation op, std::string_view isa);

} // namespace bench
