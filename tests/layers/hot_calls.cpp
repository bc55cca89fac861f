// SPDX-License-Identifier: Apache-2.0
//
// The forward pass of an inference layer allocates nothing.
#if !defined(__SANITIZE_ADDRESS__)

#include "../allocations.hpp"
#include "../catch.hpp"

#include <algorithm>
#include <vector>

#include <notch/layers/attention.hpp>
#include <notch/layers/frozen.hpp>
#include <notch/layers/frozen_recurrent.hpp>
#include <notch/layers/kv_cache.hpp>

using namespace notch;

namespace {

/// 8 channels in and out, a 3 x 3 window.
layer_spec some_spec(bool depthwise, bool dynamic, bool float_output) {
    layer_spec s;
    s.geometry = window::square(3, 1, 1);
    s.in_channels = s.out_channels = 8;
    s.depthwise = depthwise;
    s.weights = buffer<std::int8_t>(depthwise ? 72 : 576);
    std::fill(s.weights.begin(), s.weights.end(), std::int8_t{3});
    s.w_scales = buffer<float>(8);
    std::fill(s.w_scales.begin(), s.w_scales.end(), 0.01f);
    if (dynamic)
        s.float_bias = buffer<float>(8);
    else
        s.bias = buffer<std::int32_t>(8);
    s.x = s.y = {0.05f, 3};
    s.function = nonlinearity::relu6;
    s.float_output = float_output;
    return s;
}
template <class Layer, class X, class Y> void check(Layer layer, const std::vector<X>& x, std::vector<Y>& y) {
    for (isa i : available_isas()) {
        std::vector<std::byte> memory(static_cast<std::size_t>(layer.workspace_size(2, 6, 5, context(i))));
        const context ctx(i, {}, memory);
        const long before = allocations;
        layer.forward(nhwc_view<const X>(x.data(), 2, 6, 5, 8), nhwc_view<Y>(y.data(), 2, 6, 5, 8), ctx);
        const long after = allocations;
        INFO(to_string(i));
        CHECK(after == before);
    }
}

} // namespace

TEST_CASE("forward of a frozen or a dynamic layer allocates nothing, on every instruction set") {
    const std::vector<std::uint8_t> codes(480, 90);
    std::vector<float> values(480), real(480);
    for (std::size_t i = 0; i < 480; ++i) values[i] = static_cast<float>(i % 17) - 8.0f;
    std::vector<std::uint8_t> y(480);
    check(frozen_conv2d(some_spec(false, false, false)), codes, y);
    check(frozen_conv2d(some_spec(false, false, true)), codes, real);
    check(frozen_depthwise(some_spec(true, false, false)), codes, y);
    check(frozen_depthwise(some_spec(true, false, true)), codes, real);
    check(dynamic_conv2d(some_spec(false, true, true)), values, real);
    check(dynamic_depthwise(some_spec(true, true, true)), values, real);
}

TEST_CASE("forward and step of a frozen LSTM or GRU allocate nothing, on every instruction set") {
    const index_t n = 3, steps = 4, in = 5, hidden = 18;
    const auto run = [&]<class Layer>(const Layer*) {
        recurrent_spec s;
        s.in_channels = in;
        s.hidden = hidden;
        s.weights = buffer<std::int8_t>(Layer::gates * hidden * in);
        s.recurrent_weights = buffer<std::int8_t>(Layer::gates * hidden * hidden);
        s.w_scales = s.u_scales = buffer<float>(1);
        s.w_scales[0] = s.u_scales[0] = 0.01f;
        s.x = s.h = {1.0f / 128.0f, 128};
        const Layer layer(s);
        const std::vector<std::uint8_t> x(static_cast<std::size_t>(n * steps * in), 90);
        std::vector<std::uint8_t> y(static_cast<std::size_t>(n * steps * hidden));
        std::vector<std::int32_t> state(static_cast<std::size_t>(n * hidden));
        std::vector<std::byte> memory(static_cast<std::size_t>(layer.workspace_size(n, steps)));
        const matrix_view<std::int32_t> states(state.data(), n, hidden);
        const matrix_view<std::uint8_t> h(y.data(), n, hidden);
        for (isa i : available_isas()) {
            const context ctx(i, {}, memory);
            const long before = allocations;
            layer.forward(nhwc_view<const std::uint8_t>(x.data(), n, 1, steps, in),
                          nhwc_view<std::uint8_t>(y.data(), n, 1, steps, hidden), ctx);
            layer.start(states, h);
            layer.step(matrix_view<const std::uint8_t>(x.data(), n, in), states, h, ctx);
            const long after = allocations;
            INFO(to_string(i));
            CHECK(after == before);
        }
    };
    run(static_cast<const frozen_lstm*>(nullptr));
    run(static_cast<const frozen_gru*>(nullptr));
}

TEST_CASE("attention allocates nothing when it runs") {
    attention_spec s;
    s.heads = 3;
    s.head_size = 8;
    s.keys = 9;
    s.q = s.k = s.v = s.y = {0.02f, 3};
    const attention a(s);
    const std::vector<std::int8_t> x(9 * 24, 5);
    std::vector<std::uint8_t> y(9 * 24);
    const matrix_view<const std::int8_t> in(x.data(), 9, 24);
    for (isa i : available_isas()) {
        std::vector<std::byte> memory(static_cast<std::size_t>(a.workspace_size(9, context(i))));
        const context ctx(i, {}, memory);
        const long before = allocations;
        a.run(in, in, in, {y.data(), 9, 24}, ctx);
        const long after = allocations;
        INFO(to_string(i));
        CHECK(after == before);
    }
}

TEST_CASE("a cache of keys and values allocates nothing when a token comes") {
    const std::vector<float> x(3 * 32, 0.5f);
    std::vector<float> y(32);
    for (isa i : available_isas()) {
        kv_cache cache({4, 2, 8, 20});
        std::vector<std::byte> memory(static_cast<std::size_t>(cache.workspace_size(context(i))));
        const context ctx(i, {}, memory);
        const matrix_view<const float> rows(x.data(), 3, 16);
        const long before = allocations;
        for (int step = 0; step < 6; ++step) {
            cache.append(rows, rows, ctx);
            cache.attend(std::span(x).first(32), y, ctx);
        }
        cache.truncate(5);
        const long after = allocations;
        INFO(to_string(i));
        CHECK(after == before);
    }
}

#endif
