// SPDX-License-Identifier: Apache-2.0
//
// The command line of both programs.
#pragma once

#include <string>

namespace mnist {

struct options {
    std::string data = NOTCH_DEMO_DATA, out = "out/demo";
    unsigned seed = 1;
    bool quick = false, keep_codes = false;
};

/// main() of the program `name`: work(options) and its result; 1 and the message of an exception that leaves it.
int run_program(const char* name, int argc, char** argv, int (*work)(const options&));

} // namespace mnist
