// SPDX-License-Identifier: Apache-2.0
//
// The training layers with every quantizer of weights: what is trained is what is shipped, and it trains.
#include "../catch.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <notch/layers/train.hpp>
#include <notch/qat/accumulator_aware.hpp>
#include <notch/qat/binary_weights.hpp>
#include <notch/qat/dorefa.hpp>
#include <notch/qat/learned_threshold.hpp>
#include <notch/qat/ternary_weights.hpp>

using namespace notch;

namespace {

/// Learns y = sign pattern of a fixed matrix times x by plain descent; checks codes against the frozen layer on the
/// way.
template <class Quantizer> void check_layer(const char* name, float magnitude = 0.5f, bool integer_backward = false) {
    INFO(name);
    constexpr index_t rows = 64, in = 24, out = 5;
    std::mt19937 g(7);
    const auto uniform = [&] { return static_cast<float>(g() % 2001) / 1000.0f - 1.0f; };
    linear_layer<Quantizer> layer(in, out);
    layer.initialize([&] { return static_cast<double>(g()) / 4294967296.0; });
    if (integer_backward) layer.integer_backward.emplace(1);
    std::vector<float> teacher(in * out);
    for (float& w : teacher) w = g() % 2 == 0 ? magnitude : -magnitude;

    activation x, y;
    x.reshape(rows, 1, 1, in);
    x.values = buffer<float>(x.size());
    for (float& v : x.values) v = uniform();
    std::vector<float> want(rows * out);
    for (index_t r = 0; r < rows; ++r)
        for (index_t o = 0; o < out; ++o)
            for (index_t k = 0; k < in; ++k)
                want[static_cast<std::size_t>(r * out + o)] +=
                    x.values[r * in + k] * teacher[static_cast<std::size_t>(o * in + k)];
    const context ctx;
    layer.forward(x, y, phase::calibrate, false, ctx);
    quantize_input(x, params_from_range<affine<8>>({-1.0f, 1.0f}), ctx);

    const auto check_freeze = [&] {
        layer.forward(x, y, phase::quantized, false, ctx);
        const auto frozen = freeze(layer, x.params);
        for (isa i : available_isas()) {
            buffer<std::byte> memory(frozen.workspace_size(rows, 1, 1));
            buffer<std::uint8_t> codes(y.size());
            frozen.forward(std::as_const(x).code_view(), nhwc_view<std::uint8_t>(codes.data(), rows, 1, 1, out),
                           context(i, {}, memory));
            index_t wrong = 0;
            for (index_t k = 0; k < y.size(); ++k) wrong += codes[k] != y.codes[k];
            CHECK(wrong == 0);
        }
    };
    double first = 0, last = 0;
    for (int step = 0; step < 200; ++step) {
        layer.forward(x, y, phase::quantized, true, ctx);
        std::vector<float> dy(want.size());
        double loss = 0;
        for (std::size_t i = 0; i < want.size(); ++i) {
            const float e =
                static_cast<float>(y.codes[static_cast<index_t>(i)] - y.params.zero_point) * y.params.scale - want[i];
            loss += static_cast<double>(e * e) / static_cast<double>(want.size());
            dy[i] = 2.0f * e / static_cast<float>(rows);
        }
        (step == 0 ? first : last) = loss;
        layer.parameters([](auto p) {
            for (float& d : p.gradient) d = 0.0f;
        });
        layer.backward(dy, {}, ctx);
        layer.parameters([](auto p) {
            for (std::size_t i = 0; i < p.value.size(); ++i) p.value[i] -= 0.05f * p.gradient[i];
        });
        if constexpr (std::is_same_v<Quantizer, binary_connect>) clip_weights(layer.weight);
        if (step % 50 == 0) check_freeze();
    }
    check_freeze();
    CHECK(last < 0.3 * first);
}

} // namespace

TEST_CASE("training layers take every quantizer of weights, train with it and ship its codes") {
    check_layer<learned_threshold<symmetric<8>, per_channel<0>>>("learned_threshold");
    check_layer<learned_threshold<symmetric<4>>>("learned_threshold, 4 bits");
    check_layer<dorefa_weights<4>>("dorefa_weights");
    check_layer<ternary_weights<per_channel<0>>>("ternary_weights");
    check_layer<binary_connect>("binary_connect", 1.0f);
    check_layer<xnor_weights<>>("xnor_weights");
    check_layer<accumulator_aware<16>>("accumulator_aware");
    check_layer<fake_quant<symmetric<8>, per_channel<0>>>("integer backward", 0.5f, true);
    check_layer<learned_threshold<symmetric<4>>>("learned_threshold, 4 bits, integer backward", 0.5f, true);
}

TEST_CASE("a layer restored from the parameters of another ships its codes") {
    const auto check = [](auto trained, auto restored, const char* name) {
        INFO(name);
        std::mt19937 g(3);
        trained.initialize([&] { return static_cast<double>(g()) / 4294967296.0; });
        (void)trained.dynamic_spec(); // a quantized forward: sets what is learned
        std::vector<std::vector<float>> checkpoint;
        bool seen = false;
        trained.parameters([&](auto p) {
            if (std::string(p.name) == name) {
                seen = true;
                for (float& t : p.value) t -= 0.7f; // away from where values would start it
            }
            checkpoint.emplace_back(p.value.begin(), p.value.end());
        });
        CHECK(seen);
        std::size_t i = 0;
        restored.parameters([&](auto p) {
            REQUIRE(i < checkpoint.size());
            REQUIRE(p.value.size() == checkpoint[i].size());
            std::copy(checkpoint[i].begin(), checkpoint[i].end(), p.value.begin());
            ++i;
        });
        CHECK(i == checkpoint.size());
        const layer_spec want = trained.dynamic_spec(), got = restored.dynamic_spec();
        for (index_t c = 0; c < want.w_scales.size(); ++c) CHECK(got.w_scales[c] == want.w_scales[c]);
        index_t wrong = 0;
        for (index_t k = 0; k < want.weights.size(); ++k) wrong += got.weights[k] != want.weights[k];
        CHECK(wrong == 0);
    };
    using threshold = linear_layer<learned_threshold<symmetric<8>, per_channel<0>>>;
    using step = linear_layer<learned_step<symmetric<8>, per_channel<0>>>;
    check(threshold(24, 5), threshold(24, 5), "log2_threshold");
    check(step(24, 5), step(24, 5), "log_step");
}

TEST_CASE("layers with batch norm refuse weights of a fixed magnitude") {
    const auto refused = contains_text("train_layer: batch_norm with a quantizer of weights of a fixed magnitude");
    const layer_options normed{.batch_norm = true};
    CHECK_THROWS_WITH(linear_layer<binary_connect>(3, 2, normed), refused);
    CHECK_THROWS_WITH(conv2d_layer<dorefa_weights<4>>(3, 2, window::square(3), normed), refused);
    CHECK_THROWS_WITH(depthwise_layer<binary_connect>(3, window::square(3), normed), refused);
    CHECK_NOTHROW(linear_layer<binary_connect>(3, 2));
    CHECK_NOTHROW(linear_layer<xnor_weights<>>(3, 2, normed));
    CHECK_NOTHROW(linear_layer<ternary_weights<>>(3, 2, normed));
    CHECK_NOTHROW(linear_layer<>(3, 2, normed));
    static_assert(has_fixed_magnitude<binary_connect> && has_fixed_magnitude<dorefa_weights<2>>);
    static_assert(!has_fixed_magnitude<xnor_weights<>> && !has_fixed_magnitude<ternary_weights<>>);
    static_assert(!has_fixed_magnitude<learned_threshold<symmetric<8>>>);
}
