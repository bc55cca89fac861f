// SPDX-License-Identifier: Apache-2.0
//
// The end of training: frozen output ranges, and statistics of batch norm estimated again from quantized weights. And
// backward passes in integers.
#include "../catch.hpp"

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include <notch/layers/pool.hpp>
#include <notch/layers/train.hpp>
#include <notch/qat/accumulator_aware.hpp>
#include <notch/qat/learned_threshold.hpp>

using namespace notch;

namespace {

activation random_codes(index_t n, index_t size, index_t channels, unsigned seed) {
    std::mt19937 g(seed);
    activation x;
    x.reshape(n, size, size, channels);
    x.quantized = true;
    x.params = {0.05f, 100};
    x.codes = buffer<std::uint8_t>(x.size());
    for (std::uint8_t& c : x.codes) c = static_cast<std::uint8_t>(g() % 256);
    return x;
}
template <class Layer> void start(Layer& layer, unsigned seed) {
    std::mt19937 g(seed);
    layer.initialize([&] { return static_cast<double>(g()) / 4294967296.0; });
}
/// Mean and variance of channel c over all outputs, of the weights that the layer quantizes to.
template <class Layer>
std::pair<double, double> statistics(Layer& layer, const std::vector<activation>& batches, index_t c, bool depthwise) {
    const auto w = layer.weight_quantizer.values();
    const double factor = static_cast<double>(layer.norm->fold_factor(c));
    std::vector<double> all;
    for (const activation& x : batches)
        for (index_t n = 0; n < x.n; ++n)
            for (index_t oy = 0; oy + 3 <= x.h; ++oy)
                for (index_t ox = 0; ox + 3 <= x.w; ++ox) {
                    double sum = 0;
                    for (index_t t = 0; t < 9; ++t)
                        for (index_t i = depthwise ? c : 0; i < (depthwise ? c + 1 : x.c); ++i) {
                            const index_t at = ((n * x.h + oy + t / 3) * x.w + ox + t % 3) * x.c + i;
                            const index_t of = depthwise ? t * x.c + c : (c * 9 + t) * x.c + i;
                            sum += 0.05 * (x.codes[at] - 100) * static_cast<double>(w[static_cast<std::size_t>(of)]);
                        }
                    all.push_back(sum / factor);
                }
    double mean = 0, square = 0;
    for (double v : all) mean += v / static_cast<double>(all.size());
    for (double v : all) square += (v - mean) * (v - mean);
    return {mean, square / static_cast<double>(all.size() - 1)};
}

} // namespace

TEST_CASE("statistics of batch norm are estimated again from the weights as they are quantized") {
    const auto check = [](auto layer, bool depthwise) {
        start(layer, 5);
        for (index_t c = 0; c < 3; ++c) {
            layer.norm->gamma[c] = 0.5f + 0.25f * static_cast<float>(c);
            layer.norm->running_var[c] = 2.0f;
        }
        layer.fixed_params = quant_params{0.1f, 128};
        const std::vector<activation> batches{random_codes(2, 6, 3, 1), random_codes(3, 5, 3, 2)};
        const context ctx;
        activation y;
        layer.norm->begin_reestimation();
        for (const activation& x : batches) layer.forward(x, y, phase::quantized, false, ctx);
        std::vector<std::pair<double, double>> want;
        for (index_t c = 0; c < 3; ++c) want.push_back(statistics(layer, batches, c, depthwise));
        CHECK(layer.norm->running_var[0] == 2.0f);
        layer.norm->end_reestimation();
        for (index_t c = 0; c < 3; ++c) {
            const auto [mean, var] = want[static_cast<std::size_t>(c)];
            CHECK(std::fabs(static_cast<double>(layer.norm->running_mean[c]) - mean) < 1e-4 * (1.0 + std::fabs(mean)));
            CHECK(std::fabs(static_cast<double>(layer.norm->running_var[c]) - var) < 1e-4 * var);
        }
        // What ships afterwards is what runs afterwards, and training forwards show nothing.
        layer.forward(batches[0], y, phase::quantized, false, ctx);
        const auto frozen = freeze(layer, batches[0].params);
        buffer<std::byte> memory(frozen.workspace_size(2, 6, 6));
        buffer<std::uint8_t> codes(y.size());
        frozen.forward(batches[0].code_view(), nhwc_view<std::uint8_t>(codes.data(), y.n, y.h, y.w, y.c),
                       context(memory));
        index_t wrong = 0;
        for (index_t i = 0; i < y.size(); ++i) wrong += codes[i] != y.codes[i];
        CHECK(wrong == 0);
        layer.norm->begin_reestimation();
        layer.forward(batches[0], y, phase::quantized, true, ctx);
        CHECK_THROWS_WITH(layer.norm->end_reestimation(), contains_text("no rows were seen"));
    };
    check(conv2d_layer<fake_quant<symmetric<4>, per_channel<0>>>(3, 3, window::square(3), {nonlinearity::relu, true}),
          false);
    check(depthwise_layer<fake_quant<symmetric<4>, per_channel<2>>>(3, window::square(3), {nonlinearity::none, true}),
          true);
}

TEST_CASE("fixed parameters stand for the observer's, which then sees nothing") {
    linear_layer<> layer(4, 2);
    start(layer, 1);
    const activation x = random_codes(5, 1, 4, 3);
    const context ctx;
    activation y;
    CHECK_THROWS_WITH(layer.forward(x, y, phase::quantized, false, ctx), contains_text("never observed"));
    layer.forward(x, y, phase::quantized, true, ctx); // observes
    const quant_params seen = layer.output_params();
    layer.fixed_params = seen; // frozen
    layer.forward(random_codes(50, 1, 4, 4), y, phase::quantized, true, ctx);
    CHECK(y.params == seen);
    layer.fixed_params.reset();
    CHECK(layer.output_params() == seen); // nothing was observed meanwhile
    layer.fixed_params = seen;
    activation real = x;
    real.quantized = false;
    real.values = buffer<float>(x.size());
    for (float& v : real.values) v = 100.0f;
    layer.forward(real, y, phase::calibrate, false, ctx);
    layer.fixed_params.reset();
    CHECK(layer.output_params() == seen);
    layer.forward(random_codes(50, 1, 4, 4), y, phase::quantized, true, ctx);
    CHECK(!(layer.output_params() == seen));

    layer.fixed_params = quant_params{0.25f, 7};
    linear_layer<> copy(4, 2);
    copy.copy_from(layer);
    CHECK(copy.output_params() == quant_params{0.25f, 7});
    copy.forward(x, y, phase::quantized, false, ctx);
    CHECK(y.params == quant_params{0.25f, 7});
    CHECK(freeze(copy, x.params).spec().y == quant_params{0.25f, 7});
    layer.fixed_params = quant_params{-1.0f, 7};
    CHECK_THROWS_WITH(layer.forward(x, y, phase::quantized, false, ctx), contains_text("fixed_params"));
    layer.fixed_params = quant_params{1.0f, 256};
    CHECK_THROWS_WITH(layer.spec(x.params), contains_text("fixed_params"));

    add_layer add;
    global_average_layer mean;
    add.fixed_params = mean.fixed_params = quant_params{0.25f, 7};
    add.forward(x, x, y, phase::quantized, true, ctx);
    activation m;
    mean.forward(x, m, phase::quantized, true, ctx);
    add.fixed_params.reset();
    mean.fixed_params.reset();
    CHECK_THROWS_WITH(add.output_params(), contains_text("never observed"));
    CHECK_THROWS_WITH(mean.output_params(), contains_text("never observed"));
}

TEST_CASE("parameters lists what a quantizer of weights learns") {
    const auto names = [](auto& layer) {
        std::vector<std::string> all;
        layer.parameters([&](const auto& p) {
            all.emplace_back(p.name);
            CHECK(p.value.size() == p.gradient.size());
        });
        return all;
    };
    linear_layer<> plain(3, 2);
    linear_layer<learned_step<symmetric<4>, per_channel<0>>> lsq(3, 2);
    linear_layer<learned_threshold<symmetric<8>, per_channel<0>>> tqt(3, 2);
    linear_layer<accumulator_aware<16>> a2q(3, 2);
    CHECK(names(plain) == std::vector<std::string>{"weight", "bias"});
    CHECK(names(lsq) == std::vector<std::string>{"weight", "bias", "log_step"});
    CHECK(names(tqt) == std::vector<std::string>{"weight", "bias", "log2_threshold"});
    CHECK(names(a2q) == std::vector<std::string>{"weight", "bias", "log_step", "log_norm"});
}

TEST_CASE("gradients by integer products are near those of fp32, for any window") {
    const auto check = [](auto layer, index_t size) {
        start(layer, 2);
        activation x = random_codes(3, size, 5, 6);
        const context ctx;
        activation y;
        layer.forward(x, y, phase::quantized, true, ctx);
        std::vector<float> dy(static_cast<std::size_t>(y.size()));
        std::mt19937 g(4);
        for (float& d : dy) d = static_cast<float>(static_cast<int>(g() % 2001) - 1000) / 1000.0f;
        struct gradients {
            std::vector<float> dx, dw, db;
        };
        const auto run = [&] {
            std::fill(layer.weight_gradient.begin(), layer.weight_gradient.end(), 0.0f);
            std::fill(layer.bias_gradient.begin(), layer.bias_gradient.end(), 0.0f);
            std::vector<float> d = dy;
            gradients all{std::vector<float>(static_cast<std::size_t>(x.size())), {}, {}};
            layer.backward(d, all.dx, ctx);
            all.dw.assign(layer.weight_gradient.begin(), layer.weight_gradient.end());
            all.db.assign(layer.bias_gradient.begin(), layer.bias_gradient.end());
            return all;
        };
        const gradients exact = run();
        layer.integer_backward.emplace(7);
        const gradients rounded = run();
        CHECK(rounded.db == exact.db);
        const auto near = [](const std::vector<float>& a, const std::vector<float>& b) {
            double error = 0, size_of = 0;
            for (std::size_t i = 0; i < a.size(); ++i) {
                error += std::pow(static_cast<double>(a[i] - b[i]), 2);
                size_of += std::pow(static_cast<double>(b[i]), 2);
            }
            CHECK(error > 0.0); // other products ran
            CHECK(error <
                  3e-4 * size_of); // 8 bits: a step of 1/127 of the largest, of which stochastic rounding errs a part
        };
        near(rounded.dx, exact.dx);
        near(rounded.dw, exact.dw);
        std::vector<float> d = dy;
        layer.backward(d, {}, ctx); // without dx
        x.quantized = false;
        x.values = buffer<float>(x.size());
        CHECK_THROWS_WITH(layer.backward(dy, {}, ctx), contains_text("has no codes now"));
    };
    check(conv2d_layer<>(5, 7, window::square(3, 1, 1)), 6);
    check(conv2d_layer<>(5, 7, window::square(3, 2)), 7);
    check(conv2d_layer<>(5, 4, window::square(1)), 4);
    check(linear_layer<fake_quant<symmetric<8>>>(5, 9), 1); // one scale for the tensor
}
