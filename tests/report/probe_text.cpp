// SPDX-License-Identifier: Apache-2.0
//
// The table of a probe, byte for byte.
#include "../catch.hpp"

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <notch/report/probe_text.hpp>

using namespace notch;

namespace {

/// One layer shown by all three versions, one by two without codes, one by a single version.
probe example() {
    probe p;
    const std::vector<float> real{0, 1, 2, 300}, logits{1, 2};
    const std::vector<std::uint8_t> fake{0, 1, 2, 255}, integer{0, 1, 3, 255};
    p.real()("conv1", real, 2);
    p.fake_quantized()("conv1", fake, {1.0f, 0}, 2);
    p.integer()("conv1", integer, {1.0f, 0}, 2);
    p.fake_quantized()("logits", logits, 2);
    p.integer()("logits", logits, 2);
    p.real()("left alone", std::vector<float>{std::numeric_limits<float>::quiet_NaN()}, 1);
    return p;
}

} // namespace

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
