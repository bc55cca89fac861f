// SPDX-License-Identifier: Apache-2.0
//
// Prints the instruction sets that can run here, in one line.
#include <cstdio>

#include <notch/simd/cpu.hpp>

int main() {
    for (notch::isa i : notch::available_isas()) std::printf("%s ", notch::to_string(i));
    std::printf("\n");
}
