// SPDX-License-Identifier: Apache-2.0
//
// The machine that a benchmark ran on, for the head of its report.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace bench {

std::string cpu_name();
std::string compiler_name();
std::string utc_now(); ///< "2025-01-31T12:00:00Z"
/// Instruction sets of this CPU that notch has kernels for, by name, the best last.
std::vector<std::string> isa_names();
/// Bytes of the data cache of a level that a core sees; a usual size if the system does not tell.
std::size_t cache_bytes(int level);
/// CPUs that this process may run on.
int usable_cpus();

} // namespace bench
