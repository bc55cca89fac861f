// SPDX-License-Identifier: Apache-2.0
//
// The table of a probe, byte for byte.
#include "../catch.hpp"
#include "../probe_example.hpp"

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <notch/report/probe_text.hpp>

using namespace notch;

TEST_CASE("to_text of a probe: a row for each version that was shown") {
    const std::string expected =
        "layer       version         SQNR dB   cosine  max error  low % high % clipped %     dead NaN/Inf  codes\n"
        "conv1       real                  -        -          -      -      -         -      0/2       0\n"
        "            fake-quantized     16.5  1.00000         45  25.00  25.00     25.00      0/2       0\n"
        "            integer            16.5  0.99999         45  25.00  25.00     25.00      0/2       0"
        "  1 of 4 differ, first batch 0 index 2: 3 for 2\n"
        "logits      fake-quantized        -        -          -      -      -         -      2/2       0\n"
        "            integer               -        -          -      -      -         -      2/2       0  equal\n"
        "left alone  real                  -        -          -      -      -         -      0/1       1\n";
    REQUIRE(to_text(example()) == expected);
    REQUIRE(to_text(probe()).find('\n') == to_text(probe()).size() - 1); // the heading alone
}

TEST_CASE("to_text: other grids, exact layers, names that would spoil the table") {
    probe p;
    const std::vector<std::uint8_t> codes{1, 2};
    p.real()("a\nb", std::vector<float>{1, 2}, 1);
    p.fake_quantized()("a\nb", codes, {2.0f, 0}, 1);
    p.integer()("a\nb", codes, {1.0f, 0}, 1);
    const std::string text = to_text(p);
    REQUIRE_THAT(text, contains_text("\na?b "));
    REQUIRE_THAT(text, contains_text("equal; other grids in 1 batches\n"));
    REQUIRE_THAT(text, contains_text("      inf  1.00000          0"));
}
