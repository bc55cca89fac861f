// SPDX-License-Identifier: Apache-2.0
//
// What the ablation runs, what it leaves out, and what it keeps of an earlier run.
#include "../catch.hpp"

#include <filesystem>
#include <string>

#include "../../examples/ablation/methods.hpp"
#include "../../examples/ablation/results.hpp"

using namespace ablation;

TEST_CASE("every pair of widths of every method is run, or left out for a reason") {
    for (const network_traits net :
         {network_traits{true, true}, network_traits{false, true}, network_traits{false, false}})
        for (const method& m : methods) {
            INFO(m.name);
            int runs = 0;
            for (const widths& w : all_widths()) {
                const auto reason = why_not(m, w, net);
                if (reason) CHECK(reason->size() > 10);
                runs += !reason;
            }
            const std::string name = m.name;
            const bool refused = (net.batch_norm && (name == "pact_dorefa" || name == "binary_connect")) ||
                                 (!net.chains && (name == "smooth_quant" || name.rfind("equalize", 0) == 0));
            CHECK((runs == 0) == refused);
        }
}

TEST_CASE("what is compared is run with the same widths") {
    const network_traits net{false, true};
    const auto runs = [&](const char* name, widths w) {
        REQUIRE(find_method(name));
        return !why_not(*find_method(name), w, net);
    };
    // Rounding against nearest, per channel against per tensor, what is learned against straight-through.
    for (const char* name :
         {"mse", "adaround", "gptq", "brecq", "min_max_tensor", "min_max_channel", "equalize_correct"})
        for (double bits : {4.0, 3.0}) CHECK(runs(name, {bits, 8}));
    for (const char* name : {"straight_through", "lsq", "lsq_plus", "tqt", "pact", "pact_dorefa", "learned_range"})
        for (int bits : {4, 2}) CHECK(runs(name, {static_cast<double>(bits), bits}));
    CHECK(runs("twn", {ternary_bits, 8}));
    CHECK(runs("xnor", {binary_bits, 8}));
    CHECK_FALSE(runs("twn", {2, 8}));
    CHECK_FALSE(runs("lsq", {ternary_bits, 8}));
    CHECK_FALSE(runs("hqq", {8, 8}));
    CHECK(find_method("no such method") == nullptr);
}

TEST_CASE("widths have names") {
    CHECK(to_string({4, 8}) == "W4A8");
    CHECK(to_string({ternary_bits, 2}) == "W ternary A2");
    CHECK(to_string({binary_bits, 8}) == "W binary A8");
}

TEST_CASE("mean and deviation of a sample") {
    CHECK(summarize({1, 2, 6}).mean == 3);
    CHECK(summarize({1, 2, 6}).deviation == Approx(std::sqrt((4 + 1 + 9) / 2.0)));
    CHECK(summarize({5}).deviation == 0);
    CHECK(summarize({}).count == 0);
}

TEST_CASE("results go on with the rows of an earlier run of the same build") {
    const std::filesystem::path folder = std::filesystem::path(NOTCH_BINARY_DIR) / "ablation_results";
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    const std::string path = (folder / "results.json").string();
    result r;
    r.network = "net";
    r.data = "digits";
    r.method = "twn";
    r.bits = {ternary_bits, 8};
    r.seed = 2;
    r.top1 = 97.25;
    {
        results first(path, {{"compiler", "x"}});
        first.add(r);
    }
    const auto has = [&](const char* compiler, const char* method, widths w, unsigned seed) {
        return results(path, {{"compiler", compiler}}).has("net", "digits", method, w, seed);
    };
    CHECK(has("x", "twn", {ternary_bits, 8}, 2));
    CHECK_FALSE(has("x", "twn", {ternary_bits, 8}, 1));
    CHECK_FALSE(has("x", "twn", {ternary_bits, 4}, 2));
    CHECK_FALSE(has("x", "xnor", {ternary_bits, 8}, 2));
    CHECK_FALSE(has("another", "twn", {ternary_bits, 8}, 2));
    mnist::write_file(path, "{ not json");
    CHECK_FALSE(has("x", "twn", {ternary_bits, 8}, 2));

    results second(path, {{"compiler", "x"}});
    second.leave_out("net", "digits", "twn", {2, 8}, "its weights are ternary");
    second.leave_out("net", "digits", "twn", {2, 8}, "its weights are ternary");
    CHECK(second.content()["left_out"].size() == 1);
    std::filesystem::remove_all(folder);
}
