// SPDX-License-Identifier: Apache-2.0
//
// The demo's progress line.
#include "../catch.hpp"

#include "../../examples/mnist/progress.hpp"

using mnist::progress_line;
using mnist::progress_state;

TEST_CASE("the progress line: a bar for one, a share for each of several, never as wide as the terminal") {
    // Half done in 3 seconds: 3 more. A quarter done in 2: 6 more.
    const progress_state a{"a: train", "loss 0.5", 0.5, 3.0}, b{"b: train", "", 0.25, 2.0}, fresh{"c", "", 0.0, 1.0};
    CHECK(progress_line({}, 80).empty());
    CHECK(progress_line({a}, 80) == "a: train [############............]  50%, 3 s left loss 0.5");
    CHECK(progress_line({a, b}, 80) == "a: train  50%, 3 s left | b: train  25%, 6 s left");
    CHECK(progress_line({fresh}, 80) == "c [........................]   0%");
    CHECK(progress_line({a, b}, 44) == "a: tr  50%, 3 s left | b: tr  25%, 6 s left"); // titles give way
    CHECK(progress_line({a}, 24) == "a: train  50%, 3 s left");                        // then the bar
    CHECK(progress_line({a}, 20) == "a: t  50%, 3 s left");
    CHECK(progress_line({a}, 10) == "  50%, 3 ");
    CHECK(progress_line({a}, 0).empty());
}
