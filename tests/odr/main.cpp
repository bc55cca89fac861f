// SPDX-License-Identifier: Apache-2.0
//
// main baseline: prints the number of the baseline part. main both: also checks the native part.
#include <cstdint>
#include <cstdio>
#include <cstring>

std::uint64_t baseline();
std::uint64_t native();

int main(int argc, char** argv) {
    const std::uint64_t b = baseline();
    std::printf("%016llx\n", static_cast<unsigned long long>(b));
    if (b == 0) return 1;
    if (argc > 1 && std::strcmp(argv[1], "both") == 0) {
        const std::uint64_t n = native();
        if (n != b) {
            std::printf("native differs: %016llx\n", static_cast<unsigned long long>(n));
            return 1;
        }
    }
    return 0;
}
