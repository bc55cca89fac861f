// SPDX-License-Identifier: Apache-2.0
//
// The page of a probe: its cells byte for byte, and what must not break out of them.
#include "../catch.hpp"
#include "../probe_example.hpp"

#include <string>
#include <vector>

#include <notch/report/probe_html.hpp>

using namespace notch;

namespace {

std::size_t count(const std::string& text, const std::string& part) {
    std::size_t n = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
    return n;
}

} // namespace

TEST_CASE("to_html_table of a probe: a row for each version, differing codes marked") {
    const std::string html = to_html_table(example());
    REQUIRE(count(html, "<th>") == 11);
    REQUIRE(count(html, "<tr>") == 1 + 6);
    REQUIRE(count(html, "<td") == 6 * 11);
    REQUIRE_THAT(html, contains_text("<tr><td>conv1</td><td>real</td><td>-</td><td>-</td><td>-</td><td>-</td><td>-</td>"
                                     "<td>-</td><td>0/2</td><td>0</td><td></td></tr>\n"));
    REQUIRE_THAT(html, contains_text("<tr><td></td><td>integer</td><td>16.5</td><td>0.99999</td><td>45</td>"
                                     "<td>25.00</td><td>25.00</td><td>25.00</td><td>0/2</td><td>0</td>"
                                     "<td class=\"differ\">1 of 4 differ, first batch 0 index 2: 3 for 2</td></tr>\n"));
    REQUIRE(count(html, "differ\"") == 1); // equal codes are not marked
    REQUIRE(count(to_html_table(probe()), "<tr>") == 1);
}

TEST_CASE("to_html: one page around the table; names and the title are text") {
    probe p;
    p.real()("<b onload=\"x\">&\n", std::vector<float>{1, 2}, 1);
    const std::string html = to_html(p, "a<script>\tb");
    REQUIRE(html.rfind("<!DOCTYPE html>", 0) == 0);
    REQUIRE_THAT(html, contains_text(to_html_table(p)));
    REQUIRE_THAT(html, contains_text("<td>&lt;b onload=&quot;x&quot;&gt;&amp;?</td>"));
    REQUIRE(count(html, "a&lt;script&gt;?b") == 2);
    REQUIRE(count(html, "<script") == 0);
    REQUIRE(count(html, "http") == 0); // needs no other file
    REQUIRE(count(html, "<table") == 1);
}
