// SPDX-License-Identifier: Apache-2.0
//
// The layer of sums over a graph: the codes of the integer kernel, gradients, refusals.
#include "../catch.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>
#include <vector>

#include <notch/layers/aggregation.hpp>

using namespace notch;

namespace {

using u8 = std::uint8_t;

/// Six rows over seven nodes; row 2 has no neighbour, row 4 the same one twice.
struct small_graph {
    std::vector<index_t> offsets{0, 2, 5, 5, 6, 8, 14};
    std::vector<std::int32_t> neighbours{0, 3, 1, 2, 6, 4, 5, 5, 0, 1, 2, 3, 4, 5};
    std::vector<std::int8_t> codes;
    std::vector<float> scales, weights;

    small_graph() {
        std::mt19937 g(5);
        for (std::size_t i = 0; i < 6; ++i) scales.push_back(0.001f * static_cast<float>(1 + g() % 20));
        for (std::size_t row = 0; row < 6; ++row)
            for (index_t e = offsets[row]; e < offsets[row + 1]; ++e) {
                codes.push_back(static_cast<std::int8_t>(static_cast<int>(g() % 255) - 127));
                weights.push_back(static_cast<float>(codes.back()) * scales[row]);
            }
    }
    [[nodiscard]] neighbourhood edges(bool weighted, reduction how) const {
        if (!weighted) return {{offsets, neighbours}, {}, {}, how};
        return {{offsets, neighbours}, codes, scales, how};
    }
    [[nodiscard]] std::span<const float> real(bool weighted) const {
        return weighted ? std::span<const float>(weights) : std::span<const float>();
    }
};

activation random_input(std::mt19937& g, index_t nodes, index_t channels) {
    activation x;
    x.reshape(nodes, 1, 1, channels);
    x.values = buffer<float>(x.size());
    for (float& v : x.values) v = static_cast<float>(static_cast<int>(g() % 2001) - 1000) / 500.0f;
    return x;
}

constexpr std::pair<bool, reduction> kinds[] = {
    {false, reduction::sum}, {false, reduction::mean}, {true, reduction::sum}, {true, reduction::mean}};

} // namespace

TEST_CASE("aggregation: the codes of training, of inference and of the kernel are the same on every instruction set") {
    const small_graph s;
    std::mt19937 g(1);
    for (const auto& [weighted, how] : kinds)
        for (index_t channels : {1, 5, 16, 70}) {
            const neighbourhood edges = s.edges(weighted, how);
            activation x = random_input(g, 7, channels);
            quantize_input(x, {0.017f, 119});
            std::vector<u8> first;
            for (isa i : available_isas()) {
                const context ctx(i);
                aggregation_layer<> layer(edges, s.real(weighted));
                activation trained, inferred;
                layer.forward(x, trained, phase::quantized, true, ctx);
                layer.forward(x, inferred, phase::quantized, false, ctx);
                REQUIRE(trained.size() == 6 * channels);
                std::vector<u8> want(static_cast<std::size_t>(trained.size()));
                const matrix_view<const u8> in(x.codes.data(), 7, channels);
                ref::aggregate(edges, in, x.params, layer.output_params(), {0, 255},
                               matrix_view<u8>(want.data(), 6, channels));
                CHECK(std::equal(want.begin(), want.end(), trained.codes.begin()));
                CHECK(std::equal(want.begin(), want.end(), inferred.codes.begin()));
                CHECK(trained.params == layer.output_params());
                if (first.empty()) first = want;
                CHECK(want == first);
            }
        }
}

TEST_CASE("aggregation: float arithmetic is that of the codes, where values and weights are codes") {
    const small_graph s;
    std::mt19937 g(2);
    for (const auto& [weighted, how] : kinds) {
        aggregation_layer<> layer(s.edges(weighted, how), s.real(weighted));
        activation x = random_input(g, 7, 3), y, z;
        for (float& v : x.values) v = std::round(v / 0.017f) * 0.017f;
        layer.forward(x, y, phase::calibrate, false, context{});
        real_range seen; // of all the values
        seen.min = *std::min_element(y.values.begin(), y.values.end());
        seen.max = *std::max_element(y.values.begin(), y.values.end());
        CHECK(layer.output_observer.range() == seen);
        quantize_input(x, {0.017f, 119});
        layer.forward(x, z, phase::quantized, false, context{});
        for (index_t i = 0; i < y.size(); ++i) {
            const float value = static_cast<float>(z.codes[i] - z.params.zero_point) * z.params.scale;
            CHECK(std::abs(value - y.values[i]) < 0.51f * z.params.scale);
        }
        for (index_t c = 0; c < 3; ++c) CHECK(y.values[2 * 3 + c] == 0.0f); // no neighbour
    }
}

TEST_CASE("aggregation: gradients agree with finite differences, and in codes with the weights' codes") {
    const small_graph s;
    std::mt19937 g(3);
    for (const auto& [weighted, how] : kinds)
        for (phase p : {phase::fp32, phase::quantized}) {
            INFO("weighted " << weighted << " mean " << (how == reduction::mean) << " phase " << static_cast<int>(p));
            std::vector<float> other = s.weights; // a quantized forward has nothing to do with the real weights
            for (float& w : other) w *= p == phase::quantized ? 2.0f : 1.0f;
            aggregation_layer<> exact(s.edges(weighted, how), s.real(weighted)),
                layer(s.edges(weighted, how), weighted ? std::span<const float>(other) : std::span<const float>());
            activation x = random_input(g, 7, 3), y, coded = random_input(g, 7, 3), ignored;
            const activation dy = random_input(g, 6, 3);
            // The function is linear: differences of any size are exact but for rounding.
            const auto loss = [&](const activation& at) {
                exact.forward(at, y, phase::fp32, false, context{});
                double sum = 0;
                for (index_t i = 0; i < y.size(); ++i)
                    sum += static_cast<double>(y.values[i]) * static_cast<double>(dy.values[i]);
                return sum;
            };
            std::vector<double> want;
            for (index_t i = 0; i < x.size(); ++i) {
                const float old = x.values[i];
                x.values[i] = old + 1.0f;
                const double above = loss(x);
                x.values[i] = old - 1.0f;
                want.push_back((above - loss(x)) / 2.0);
                x.values[i] = old;
            }
            if (p == phase::quantized) quantize_input(coded, {0.017f, 119});
            layer.forward(coded, ignored, p, true, context{});
            buffer<float> d = dy.values;
            std::vector<float> dx(21, 9.0f);
            layer.backward(d, dx);
            for (std::size_t i = 0; i < dx.size(); ++i)
                CHECK(static_cast<double>(dx[i]) == Approx(want[i]).margin(1e-4));
        }
}

TEST_CASE("aggregation: the gradient ends where a code was clipped") {
    // Sums 3, -3 and 1 in steps of 1/64 around 128: the first two lie outside -2 ... 1.98.
    const std::vector<index_t> offsets{0, 1, 2, 3};
    const std::vector<std::int32_t> neighbours{0, 1, 2};
    const neighbourhood edges{{offsets, neighbours}, {}, {}};
    aggregation_layer<> layer(edges);
    layer.fixed_params = quant_params{1.0f / 64.0f, 128};
    activation x, y;
    x.reshape(3, 1, 1, 1);
    x.values = buffer<float>(3);
    x.values[0] = 3.0f;
    x.values[1] = -3.0f;
    x.values[2] = 1.0f;
    quantize_input(x, {0.03125f, 128});
    layer.forward(x, y, phase::quantized, true, context{});
    CHECK(layer.output_observer.range().empty()); // fixed
    CHECK(int{y.codes[0]} == 255);
    CHECK(int{y.codes[1]} == 0);
    CHECK(int{y.codes[2]} == 192);
    std::vector<float> dy{5.0f, 6.0f, 7.0f}, dx(3);
    layer.backward(dy, dx);
    CHECK(dx == std::vector<float>{0.0f, 0.0f, 7.0f});
}

TEST_CASE("aggregation refuses what does not fit") {
    const small_graph s;
    std::mt19937 g(4);
    const context ctx;
    CHECK_THROWS_WITH(aggregation_layer<>(s.edges(true, reduction::sum)), contains_text("number of real weights is 0"));
    aggregation_layer<> layer(s.edges(true, reduction::sum), s.weights);
    activation x = random_input(g, 7, 2), y;
    std::vector<float> dy(12), dx(14);
    CHECK_THROWS_WITH(layer.backward(dy, dx), contains_text("needs a forward with training = true"));
    CHECK_THROWS_WITH(layer.output_params(), contains_text("never observed"));
    CHECK_THROWS_WITH(layer.forward(x, y, phase::dynamic, false, ctx), contains_text("no phase::dynamic"));
    CHECK_THROWS_WITH(layer.forward(x, y, phase::quantized, false, ctx), contains_text("has codes where"));
    CHECK_THROWS_WITH(layer.forward(x, x, phase::fp32, false, ctx), contains_text("must not be an input"));
    CHECK_THROWS_WITH(layer.forward(x, y, static_cast<phase>(9), false, ctx), contains_text("the phase is 9"));
    activation image = random_input(g, 14, 1), few = random_input(g, 6, 2);
    image.reshape(7, 2, 1, 1);
    CHECK_THROWS_WITH(layer.forward(image, y, phase::fp32, false, ctx), contains_text("2 x 1 pixels"));
    CHECK_THROWS_WITH(layer.forward(few, y, phase::fp32, false, ctx), contains_text("is 6, x has 6 rows"));
    layer.forward(x, y, phase::fp32, true, ctx);
    CHECK_THROWS_WITH(layer.backward(std::span(dy).first(11), dx), contains_text("the size of dy is 11"));
    CHECK_THROWS_WITH(layer.backward(dy, std::span(dx).first(13)), contains_text("the size of dx is 13"));
    CHECK_NOTHROW(layer.backward(dy, dx));
    layer.forward(x, y, phase::fp32, false, ctx);
    CHECK_THROWS_WITH(layer.backward(dy, dx), contains_text("needs a forward with training = true"));
}
