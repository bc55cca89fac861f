// SPDX-License-Identifier: Apache-2.0
//
// The pictures and texts of the demo's report.
#include "../catch.hpp"

#include <string>

#include "../../examples/mnist/report_charts.hpp"
#include "../../examples/mnist/report_text.hpp"

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

TEST_CASE("timings that scatter are warned of, a few of them are not") {
    mnist::report::json runs = mnist::report::json::array();
    for (int i = 0; i < 10; ++i) runs.push_back({{"spread_b1", 0.02}, {"spread_b64", 0.15}});
    mnist::report::json results{{"rows", {{{"per_isa", runs}}}}};
    mnist::report::json& timed = results["rows"][0]["per_isa"];
    CHECK(mnist::report::noise_warning(results).empty());
    timed[0]["spread_b1"] = 0.5;
    timed[1]["spread_b64"] = 0.16;
    CHECK(mnist::report::noise_warning(results).empty());
    timed[2]["spread_b1"] = 0.5;
    CHECK(mnist::report::noise_warning(results).starts_with("The machine was busy: in 3 of 20 timings"));
    CHECK(mnist::report::noise_warning(mnist::report::json::object()).empty());
}
