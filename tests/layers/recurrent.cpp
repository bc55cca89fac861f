// SPDX-License-Identifier: Apache-2.0
#include "../catch.hpp"

#include <cmath>
#include <random>
#include <vector>

#include <notch/layers/recurrent.hpp>
#include <notch/qat/learned_step.hpp>

using namespace notch;
using u8 = std::uint8_t;

namespace {

activation sequences(std::mt19937& g, index_t n, index_t steps, index_t channels) {
    activation x;
    x.reshape(n, 1, steps, channels);
    x.values = buffer<float>(x.size());
    for (float& v : x.values) v = static_cast<float>(g() % 2001) / 1000.0f - 1.0f;
    return x;
}
template <class Layer> void set_up(Layer& layer, std::mt19937& g) {
    layer.initialize([&] { return static_cast<double>(g()) / 4294967296.0; });
    for (buffer<float>* b : {&layer.input.bias, &layer.recurrent.bias})
        for (float& v : *b) v += static_cast<float>(g() % 1001) / 2000.0f - 0.25f;
}
constexpr quant_params input_params{2.0f / 255.0f, 128};

/// The gradient of sum(y * weight of each y) against differences, for every parameter and for x.
template <class Layer> void check_gradients(Layer& layer, unsigned seed) {
    std::mt19937 g(seed);
    set_up(layer, g);
    activation x = sequences(g, 2, 4, layer.input.math().in), y;
    const context ctx;
    std::vector<float> weight(static_cast<std::size_t>(2 * 4 * layer.hidden()));
    for (float& v : weight) v = static_cast<float>(g() % 2001) / 1000.0f - 1.0f;
    const auto loss = [&] {
        layer.forward(x, y, phase::fp32, true, ctx);
        double sum = 0;
        for (std::size_t i = 0; i < weight.size(); ++i)
            sum += static_cast<double>(weight[i]) * static_cast<double>(y.values[static_cast<index_t>(i)]);
        return sum;
    };
    (void)loss();
    std::vector<float> dy = weight, dx(static_cast<std::size_t>(x.size()));
    layer.backward(dy, dx, ctx);
    const auto check = [&](const char* name, std::span<float> value, std::span<const float> gradient) {
        for (std::size_t i = 0; i < value.size(); ++i) {
            const float before = value[i], h = 1e-2f;
            value[i] = before + h;
            const double up = loss();
            value[i] = before - h;
            const double down = loss();
            value[i] = before;
            INFO(name << " " << i);
            CHECK(static_cast<double>(gradient[i]) == Approx((up - down) / 0.02).margin(1e-3).epsilon(2e-3));
        }
    };
    check("x", x.values, dx);
    const std::vector<float> dw(layer.input.weight_gradient.begin(), layer.input.weight_gradient.end()),
        du(layer.recurrent.weight_gradient.begin(), layer.recurrent.weight_gradient.end()),
        db(layer.input.bias_gradient.begin(), layer.input.bias_gradient.end()),
        dc(layer.recurrent.bias_gradient.begin(), layer.recurrent.bias_gradient.end());
    check("W", layer.input.weight, dw);
    check("U", layer.recurrent.weight, du);
    check("b", layer.input.bias, db);
    check("b'", layer.recurrent.bias, dc);
}

/// Training codes, frozen forward and frozen steps, on every instruction set.
template <class Layer> void check_frozen(Layer& layer, unsigned seed) {
    std::mt19937 g(seed);
    set_up(layer, g);
    const index_t n = 5, steps = 9, in = layer.input.math().in, hidden = layer.hidden();
    activation x = sequences(g, n, steps, in), real, y, trained;
    const context ctx;
    layer.forward(x, real, phase::calibrate, false, ctx);
    quantize_input(x, input_params, ctx);
    layer.forward(x, trained, phase::quantized, true, ctx);
    layer.forward(x, y, phase::quantized, false, ctx);
    double worst = 0;
    for (index_t i = 0; i < y.size(); ++i)
        worst = std::max(worst,
                         std::fabs(static_cast<double>(
                             static_cast<float>(y.codes[i] - y.params.zero_point) * y.params.scale - real.values[i])));
    CHECK(worst < (decltype(layer.input.weight_quantizer)::range::bits == 8 ? 0.03 : 0.4));
    const auto frozen = freeze(layer, input_params);
    std::vector<std::byte> memory(static_cast<std::size_t>(frozen.workspace_size(n, steps)));
    std::vector<u8> out(static_cast<std::size_t>(y.size())), h(static_cast<std::size_t>(n * hidden));
    std::vector<std::int32_t> state(h.size());
    const matrix_view<std::int32_t> states(state.data(), n, hidden);
    const matrix_view<u8> hs(h.data(), n, hidden);
    for (isa i : available_isas()) {
        INFO(to_string(i));
        const context run(i, {}, memory);
        frozen.forward(x.code_view(), nhwc_view<u8>(out.data(), n, 1, steps, hidden), run);
        index_t different = 0, steps_different = 0;
        for (index_t k = 0; k < y.size(); ++k) different += out[static_cast<std::size_t>(k)] != y.codes[k];
        frozen.start(states, hs);
        for (index_t t = 0; t < steps; ++t) {
            frozen.step(matrix_view<const u8>(x.codes.data() + t * in, n, in, steps * in), states, hs, run);
            for (index_t r = 0; r < n; ++r)
                for (index_t j = 0; j < hidden; ++j)
                    steps_different += hs(r, j) != y.codes[(r * steps + t) * hidden + j];
        }
        index_t pieces_different = 0, t = 0;
        frozen.start(states, hs);
        for (index_t piece : {3, 1, 5}) {
            activation part = x, out_part;
            part.reshape(n, 1, piece, in);
            for (index_t r = 0; r < n; ++r)
                std::copy_n(x.codes.data() + (r * steps + t) * in, piece * in, part.codes.data() + r * piece * in);
            out_part.reshape(n, 1, piece, hidden);
            out_part.codes = buffer<u8>(out_part.size());
            const activation& read = part;
            frozen.resume(read.code_view(), states, hs, out_part.code_view(), run);
            for (index_t r = 0; r < n; ++r)
                for (index_t k = 0; k < piece * hidden; ++k)
                    pieces_different += out_part.codes[r * piece * hidden + k] != y.codes[(r * steps + t) * hidden + k];
            t += piece;
            for (index_t r = 0; r < n; ++r)
                for (index_t j = 0; j < hidden; ++j)
                    pieces_different += hs(r, j) != y.codes[(r * steps + t - 1) * hidden + j];
        }
        CHECK(different == 0);
        CHECK(steps_different == 0);
        CHECK(pieces_different == 0);
    }
}

} // namespace

TEST_CASE("the gradients of LSTM and GRU are those of differences") {
    lstm_layer<> lstm(3, 5);
    check_gradients(lstm, 1);
    gru_layer<> gru(4, 3);
    check_gradients(gru, 2);
}

TEST_CASE("LSTM and GRU by hand") {
    // One cell, one channel: the formulas of ref/recurrent.hpp in real numbers.
    lstm_layer<> lstm(1, 1);
    const float w[4] = {0.5f, -0.3f, 0.8f, 0.2f}, u[4] = {0.1f, 0.4f, -0.6f, 0.3f}, b[4] = {0.05f, 1.0f, -0.1f, 0.0f};
    for (index_t k = 0; k < 4; ++k) {
        lstm.input.weight[k] = w[k];
        lstm.recurrent.weight[k] = u[k];
        lstm.input.bias[k] = b[k];
    }
    activation x, y;
    x.reshape(1, 1, 2, 1);
    x.values = buffer<float>(2);
    x.values[0] = 1.0f;
    x.values[1] = -0.5f;
    lstm.forward(x, y, phase::fp32, false, {});
    const auto sigmoid = [](double z) { return 1.0 / (1.0 + std::exp(-z)); };
    double c = 0, h = 0;
    for (index_t t = 0; t < 2; ++t) {
        const auto z = [&](index_t k) {
            return static_cast<double>(w[k]) * static_cast<double>(x.values[t]) + static_cast<double>(u[k]) * h +
                   static_cast<double>(b[k]);
        };
        const double i = sigmoid(z(0)), f = sigmoid(z(1)), g = std::tanh(z(2)), o = sigmoid(z(3));
        c = f * c + i * g;
        h = o * std::tanh(c);
        CHECK(static_cast<double>(y.values[t]) == Approx(h).epsilon(1e-5));
    }
    gru_layer<> gru(1, 1);
    for (index_t k = 0; k < 3; ++k) {
        gru.input.weight[k] = w[k];
        gru.recurrent.weight[k] = u[k];
        gru.recurrent.bias[k] = b[k];
    }
    gru.forward(x, y, phase::fp32, false, {});
    h = 0;
    for (index_t t = 0; t < 2; ++t) {
        const auto zx = [&](index_t k) { return static_cast<double>(w[k]) * static_cast<double>(x.values[t]); };
        const double last = h;
        const auto zh = [&](index_t k) { return static_cast<double>(u[k]) * last + static_cast<double>(b[k]); };
        const double r = sigmoid(zx(0) + zh(0)), z = sigmoid(zx(1) + zh(1)), n = std::tanh(zx(2) + r * zh(2));
        h = (1 - z) * n + z * last;
        CHECK(static_cast<double>(y.values[t]) == Approx(h).epsilon(1e-5));
    }
}

TEST_CASE("a frozen LSTM or GRU gives the codes of training, whole or step by step") {
    lstm_layer<> lstm(7, 19);
    check_frozen(lstm, 1);
    gru_layer<> gru(7, 19);
    check_frozen(gru, 2);
    lstm_layer<learned_step<symmetric<4>, per_channel<0>>> lstm4(20, 40);
    check_frozen(lstm4, 3);
    gru_layer<fake_quant<symmetric<4>, per_tensor>> gru4(33, 16);
    check_frozen(gru4, 4);
    lstm_layer<> narrow(7, 19);
    narrow.int16_cell = true;
    check_frozen(narrow, 1);
    // |c| stays below 9 in 9 steps: the unit is the least that covers what was seen.
    const float scale = narrow.spec(input_params).cell_scale;
    CHECK(scale >= 0x1p-15f);
    CHECK(scale <= 0x1p-11f);
    const real_range seen = narrow.cell_observer.range();
    CHECK(std::max(-seen.min, seen.max) <= 32768.0f * scale);
    CHECK((scale == 0x1p-15f || std::max(-seen.min, seen.max) > 16383.0f * scale));
}

TEST_CASE("the quantized backward is near that of fp32") {
    std::mt19937 g(7);
    const auto check = [&](auto& layer) {
        set_up(layer, g);
        activation x = sequences(g, 6, 8, layer.input.math().in), y;
        const context ctx;
        std::vector<float> weight(static_cast<std::size_t>(6 * 8 * layer.hidden())), dy;
        for (float& v : weight) v = static_cast<float>(g() % 2001) / 1000.0f - 1.0f;
        layer.forward(x, y, phase::calibrate, true, ctx);
        std::vector<float> dx(static_cast<std::size_t>(x.size())), dxq(dx.size());
        dy = weight;
        layer.backward(dy, dx, ctx);
        const buffer<float> du = layer.recurrent.weight_gradient;
        for (float& v : layer.recurrent.weight_gradient) v = 0;
        quantize_input(x, input_params, ctx);
        layer.fixed_params = quant_params{1.2f / 128.0f, 128}; // nothing is clamped
        layer.forward(x, y, phase::quantized, true, ctx);
        dy = weight;
        layer.backward(dy, dxq, ctx);
        const auto cosine = [](std::span<const float> a, std::span<const float> b) {
            double ab = 0, aa = 0, bb = 0;
            for (std::size_t i = 0; i < a.size(); ++i) {
                ab += static_cast<double>(a[i]) * static_cast<double>(b[i]);
                aa += static_cast<double>(a[i]) * static_cast<double>(a[i]);
                bb += static_cast<double>(b[i]) * static_cast<double>(b[i]);
            }
            return ab / std::sqrt(aa * bb);
        };
        CHECK(cosine(dx, dxq) > 0.999);
        CHECK(cosine(du, layer.recurrent.weight_gradient) > 0.999);
    };
    lstm_layer<> lstm(5, 12);
    check(lstm);
    gru_layer<> gru(5, 12);
    check(gru);
}

TEST_CASE("clamped outputs pass no gradient on") {
    std::mt19937 g(8);
    lstm_layer<> lstm(4, 6);
    set_up(lstm, g);
    activation x = sequences(g, 2, 3, 4), y;
    lstm.forward(x, y, phase::calibrate, false, {});
    quantize_input(x, input_params);
    lstm.fixed_params = quant_params{0x1p-15f, 0}; // 0 ... 0.008: nearly every h is outside
    lstm.forward(x, y, phase::quantized, true, {});
    std::vector<float> dy(static_cast<std::size_t>(y.size()), 1.0f);
    lstm.backward(dy, {}, {});
    index_t clamped = 0;
    for (index_t i = 0; i < y.size(); ++i) {
        if (y.codes[i] != 0 && y.codes[i] != 255) continue;
        ++clamped;
        CHECK(dy[static_cast<std::size_t>(i)] == 0.0f);
    }
    CHECK(clamped > y.size() / 2);
}

TEST_CASE("recurrent layers refuse what does not fit") {
    lstm_layer<> lstm(4, 6);
    std::mt19937 g(9);
    activation x = sequences(g, 2, 3, 5), y;
    CHECK_THROWS_AS(lstm.forward(x, y, phase::fp32, true, {}), error); // channels
    x = sequences(g, 2, 3, 4);
    CHECK_THROWS_AS(lstm.forward(x, y, phase::dynamic, true, {}), error);
    CHECK_THROWS_AS(lstm.forward(x, y, phase::quantized, true, {}), error); // no codes
    CHECK_THROWS_AS(lstm.forward(x, x, phase::fp32, true, {}), error);
    std::vector<float> dy(36), dx(24);
    CHECK_THROWS_AS(lstm.backward(dy, dx, {}), error); // no forward
    lstm.forward(x, y, phase::fp32, false, {});
    CHECK_THROWS_AS(lstm.backward(dy, dx, {}), error); // not for training
    lstm.forward(x, y, phase::fp32, true, {});
    dy.resize(35);
    CHECK_THROWS_AS(lstm.backward(dy, dx, {}), error);
    quantize_input(x, input_params);
    CHECK_THROWS_AS(lstm.forward(x, y, phase::quantized, true, {}), error); // never calibrated
    x = sequences(g, 2, 3, 4);
    x.reshape(2, 3, 1, 4);
    CHECK_THROWS_AS(lstm.forward(x, y, phase::fp32, true, {}), error); // height
    CHECK_THROWS_AS(lstm_layer<>(0, 3), error);
    CHECK_THROWS_AS(gru_layer<>(3, 0), error);

    recurrent_spec s;
    s.in_channels = 2;
    s.hidden = 1;
    s.weights = buffer<std::int8_t>(6);
    s.recurrent_weights = buffer<std::int8_t>(3);
    s.w_scales = s.u_scales = buffer<float>(1);
    s.w_scales[0] = s.u_scales[0] = 0.01f;
    s.x = s.h = {1.0f / 128.0f, 128};
    const frozen_gru good(s);
    CHECK_THROWS_AS(frozen_lstm(s), error); // 8 weights are needed
    s.weight_bits = 2;
    s.weights[0] = 2;
    CHECK_THROWS_AS(frozen_gru(s), error);
    s.weight_bits = 8;
    s.bias = buffer<std::int32_t>(2);
    CHECK_THROWS_AS(frozen_gru(s), error);
    s.bias = {};
    s.cell_scale = 0x1p-11f; // a GRU has no c
    CHECK_THROWS_AS(frozen_gru(s), error);
    s.cell_scale = 0.0f;
    s.u_scales[0] = std::nanf("");
    CHECK_THROWS_AS(frozen_gru(s), error);
    gru_layer<> gru(3, 2);
    gru.int16_cell = true;
    CHECK_THROWS_AS(gru.cell_scale(), error);
    lstm.int16_cell = true;
    CHECK_THROWS_AS(lstm.cell_scale(), error); // never calibrated
    std::int32_t state[1];
    u8 h[1] = {}, frame[2] = {};
    CHECK_THROWS_AS(good.step({frame, 1, 2}, {state, 1, 1}, {h, 1, 1}, {}), error); // no workspace
    const nhwc_view<const u8> steps(frame, 1, 1, 1, 2);
    CHECK_THROWS_AS(good.resume(steps, {state, 1, 1}, {h, 1, 1}, {h, 1, 1, 1, 1}, {}), error); // no workspace
    CHECK_THROWS_AS(good.resume(steps, {state, 0, 1}, {h, 0, 1}, {h, 1, 1, 1, 1}, {}), error); // no state
}
