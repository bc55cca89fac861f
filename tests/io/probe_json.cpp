// SPDX-License-Identifier: Apache-2.0
//
// The JSON of a probe, as a reader finds it.
#include "../catch.hpp"
#include "../probe_example.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <notch/io/probe_json.hpp>

using namespace notch;

TEST_CASE("to_json of a probe: what a reader finds") {
    const std::string text = to_json(example());
    const auto j = nlohmann::json::parse(text);
    REQUIRE(j["notch_probe"] == 1);
    REQUIRE(j["batches"] == 1);
    REQUIRE(j["layers"].size() == 3);
    const auto& conv = j["layers"][0];
    REQUIRE(conv["name"] == "conv1");
    REQUIRE(conv["channels"] == 2);
    REQUIRE(conv["mismatch"] == nlohmann::json::parse(
                                    R"({"compared":4,"different":1,"other_grids":0,
                                        "first":{"batch":0,"index":2,"fake_quantized":2.0,"integer":3.0}})"));
    REQUIRE(conv["versions"]["real"] ==
            nlohmann::json::parse(R"({"batches":1,"values":4,"nonfinite":0,"dead_channels":0,"min":0.0,"max":300.0})"));
    const auto& fake = conv["versions"]["fake_quantized"];
    REQUIRE(fake["noise"] == 2025.0);
    REQUIRE(fake["signal"] == 90005.0);
    REQUIRE(fake["sqnr_db"].get<double>() == Approx(10.0 * std::log10(90005.0 / 2025.0)));
    REQUIRE(fake["max_error"] == 45.0);
    REQUIRE(fake["clipped"] == 1);
    REQUIRE(fake["at_lo"] == 1);
    REQUIRE(fake["at_hi"] == 1);
    REQUIRE(fake["clip_rate"] == 0.5);
    REQUIRE(fake["scale"] == 1.0);
    REQUIRE(fake["zero_point"] == 0);
    const auto& logits = j["layers"][1];
    REQUIRE(!logits["versions"].contains("real"));
    REQUIRE(!logits["versions"]["integer"].contains("sqnr_db"));
    REQUIRE(!logits["versions"]["integer"].contains("codes"));
    REQUIRE(logits["mismatch"]["first"].is_null());
    const auto& alone = j["layers"][2];
    REQUIRE(alone["mismatch"].is_null());
    REQUIRE(alone["versions"].size() == 1);
    REQUIRE(alone["versions"]["real"]["min"].is_null());
    REQUIRE(alone["versions"]["real"]["nonfinite"] == 1);
    REQUIRE(to_json(example()) == text);
    REQUIRE(to_json(probe()) == R"({"batches":0,"layers":[],"notch_probe":1})");
}

TEST_CASE("to_json: infinite ratios are null, names any bytes") {
    probe p;
    p.real()("caf\xc3\xa9 \xff\"", std::vector<float>{1, 2}, 1);
    p.integer()("caf\xc3\xa9 \xff\"", std::vector<float>{1, 2}, 1);
    const auto j = nlohmann::json::parse(to_json(p));
    REQUIRE(j["layers"][0]["name"] == "caf\xc3\xa9 \xef\xbf\xbd\"");
    const auto& integer = j["layers"][0]["versions"]["integer"];
    REQUIRE(integer["sqnr_db"].is_null());
    REQUIRE(integer["noise"] == 0.0);
    REQUIRE(integer["cosine"] == 1.0);
}
