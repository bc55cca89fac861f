// SPDX-License-Identifier: Apache-2.0
//
// What a peer is to the benchmark: a shared library that the program loads with its symbols kept
// apart (two versions of one library can then live in one process), and that says what it can do.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "../common/problem.hpp"

namespace bench {

/// One way to run problems: a library at one type of arithmetic.
struct peer {
    std::string name;  ///< "onednn", "onednn-f32"
    std::string types; ///< "u8s8u8", "f32"
    /// Everything that need not be in the hot call is done here: weights packed, primitives made.
    /// Null if the library has nothing for this problem.
    std::unique_ptr<work> (*prepare)(const workload&);
};

/// What a shared library offers.
struct offer {
    bool capped = false; ///< set by the program: this CPU could do more than the tier
    std::string version;
    std::vector<peer> peers;
    std::vector<std::string> notes; ///< for the head of the report
    std::string refusal;            ///< why there are no peers: it cannot be held to the instruction set, say
};

/// Every plugin defines this one function. tier is the instruction set, by notch's name, that the
/// library must not go beyond; environment variables that cap it are set already.
extern "C" __attribute__((visibility("default"))) void notch_bench_offer(std::string_view tier, offer& o);

} // namespace bench
