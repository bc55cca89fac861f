// SPDX-License-Identifier: Apache-2.0
//
// The pictures of the demo's report.
#include "../catch.hpp"

#include <string>

#include "../../examples/mnist/report_charts.hpp"

TEST_CASE("a histogram tints what its grid does not hold, and says how much that is") {
    // Codes -1, 0, 1 hold -1.5 ... 1.5; of the values, in six bins from -3 to 3, 2 of 10 lie outside.
    const auto picture = [](const char* counts, int channels) {
        return mnist::report::histogram(
            {{"scale", 1.0},
             {"zero_point", 0},
             {"qmin", -1},
             {"qmax", 1},
             {"channels", channels},
             {"histogram", {{"min", -3.0}, {"max", 3.0}, {"counts", mnist::report::json::parse(counts)}}}});
    };
    for (int channels : {1, 32}) {
        const auto clipped = picture("[1, 0, 4, 4, 0, 1]", channels);
        CHECK(clipped.note == "all 3 codes drawn; 20.00% clipped");
        CHECK(clipped.svg.find("class=\"clip\"") != std::string::npos);
        CHECK(picture("[0, 0, 4, 4, 0, 0]", channels).note == "all 3 codes drawn");
    }
}
