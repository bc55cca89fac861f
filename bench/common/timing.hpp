// SPDX-License-Identifier: Apache-2.0
//
// Times several ways to do one thing against each other with Google Benchmark: the repetitions of
// all of them are shuffled, so that a clock that drifts and a neighbour that wakes up hit all alike.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace bench {

struct candidate {
    std::string name;
    std::function<void()> run;
    /// If set, runs before every call, outside of the time, to empty caches, say; a repetition is
    /// then ten calls.
    std::function<void()> before = {};
};

/// Seconds for one call. The best of the repetitions is what the reports quote, for everybody.
struct timing {
    double best = 0, median = 0;
};

/// One timing for each candidate: repetitions of at least `seconds` each.
std::vector<timing> measure(const std::vector<candidate>& candidates, int repetitions, double seconds);

} // namespace bench
