// SPDX-License-Identifier: Apache-2.0
//
// The methods against their papers' formulas and reference codes in NumPy.
#include "../golden/golden.hpp"

#include <notch/ptq/equalize.hpp>
#include <notch/ptq/gptq.hpp>
#include <notch/ptq/smooth_quant.hpp>

using namespace notch;

namespace {

constexpr index_t outputs = 6, inputs = 24, rows = 96;

std::vector<float> weights() {
    std::vector<float> w = golden::sample(static_cast<std::size_t>(outputs * inputs), 7);
    for (float& v : w) v /= 8;
    return w;
}

std::vector<float> activations() {
    const std::vector<float> base = golden::sample(static_cast<std::size_t>(rows * (inputs + 2)), 8);
    std::vector<float> x;
    for (index_t r = 0; r < rows; ++r)
        for (index_t c = 0; c < inputs; ++c) {
            const auto at = static_cast<std::size_t>(r * (inputs + 2));
            x.push_back(c == 5 ? 0.0f
                               : base[at + static_cast<std::size_t>(c)] + base[at + static_cast<std::size_t>(inputs)]);
        }
    return x;
}

} // namespace

TEST_CASE("gptq gives the codes of the authors' order of steps") {
    const golden::numbers g("methods_numpy");
    const std::vector<float> w = weights(), x = activations();
    input_moments h(inputs);
    h.observe({x.data(), rows, inputs});
    const quant_params p{static_cast<float>(g.one("scale")), 0};
    for (const bool order : {false, true}) {
        std::vector<std::int8_t> codes(w.size());
        gptq<symmetric<4>>({w.data(), outputs, inputs}, h, {&p, 1}, {codes.data(), outputs, inputs},
                           {0.01, 8, order, 0});
        const std::string key = order ? "gptq.actorder" : "gptq";
        const std::vector<std::int64_t> want = g.integers(key);
        CHECK(std::equal(codes.begin(), codes.end(), want.begin(), want.end()));
        std::vector<float> back(w.size());
        for (std::size_t i = 0; i < w.size(); ++i) back[i] = static_cast<float>(codes[i]) * p.scale;
        const double error = output_error({w.data(), outputs, inputs}, {back.data(), outputs, inputs}, h);
        CHECK(error == Approx(g.one(key + ".error")).epsilon(1e-5));
        CHECK(error < g.one("nearest.error"));
    }
}

TEST_CASE("equalization and SmoothQuant follow their formulas") {
    const golden::numbers g("methods_numpy");
    std::vector<float> w1 = weights(), b1 = golden::sample(6, 9), w2 = golden::sample(24, 10), s(6);
    cross_layer_equalize({w1, linear_weights(outputs, inputs), b1, w2, linear_weights(4, outputs)}, false, s);
    const auto same = [&](const std::vector<float>& ours, const std::string& key) {
        CAPTURE(key);
        REQUIRE(ours.size() == g[key].size());
        for (std::size_t i = 0; i < ours.size(); ++i)
            CHECK(static_cast<double>(ours[i]) == Approx(g[key][i]).epsilon(4e-7));
    };
    same(s, "cle.s");
    same(w1, "cle.w1");
    same(b1, "cle.b1");
    same(w2, "cle.w2");

    const std::vector<float> w = weights(), x = activations();
    std::vector<float> w_magnitudes(24), x_magnitudes(24), factors(24);
    widen_input_magnitudes(w, linear_weights(outputs, inputs), w_magnitudes);
    widen_input_magnitudes(x, linear_weights(rows, inputs), x_magnitudes);
    for (const double alpha : {0.5, 0.75}) {
        smooth_factors(x_magnitudes, w_magnitudes, alpha, factors);
        same(factors, detail::cat("smooth.", alpha));
    }
}
