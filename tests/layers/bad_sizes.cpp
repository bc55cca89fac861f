// SPDX-License-Identifier: Apache-2.0
//
// Sizes that do not fit are refused before anything is read or written. Every wrong view lies in
// memory large enough for a mistake, so that a missing check fails the test instead of crashing.
#include "../catch.hpp"

#include <limits>
#include <random>
#include <utility>
#include <vector>

#include <notch/layers/pool.hpp>
#include <notch/layers/train.hpp>

using namespace notch;

namespace {
activation image(index_t n, index_t h, index_t w, index_t c) {
    activation x;
    x.reshape(n, h, w, c);
    x.values = buffer<float>(x.size());
    for (index_t i = 0; i < x.size(); ++i) x.values[i] = static_cast<float>(i * 37 % 101) / 50.0f - 1.0f;
    return x;
}
} // namespace

TEST_CASE("backward refuses gradients of the wrong size") {
    std::vector<float> memory(4096, 1.0f);
    const std::span<float> all(memory);
    activation x = image(2, 4, 4, 3), y;
    conv2d_layer<> layer(3, 5, window::square(3));
    layer.initialize([] { return 0.5; });
    layer.forward(x, y, phase::fp32, true, context{});
    CHECK_THROWS_AS(layer.backward(all.first(3), {}, context{}), error);
    CHECK_THROWS_AS(layer.backward(all.first(static_cast<std::size_t>(y.size())), all.first(7), context{}), error);
    max_pool_layer pool(window::square(2, 2));
    pool.forward(x, y, phase::fp32, true, context{});
    CHECK_THROWS_AS(pool.backward(all.first(3), all.first(96)), error);
    CHECK_THROWS_AS(pool.backward(all.first(static_cast<std::size_t>(y.size())), all.first(95)), error);
    global_average_layer mean;
    mean.forward(x, y, phase::fp32, true, context{});
    CHECK_THROWS_AS(mean.backward(all.first(5), all.first(96), 3), error);
    CHECK_THROWS_AS(mean.backward(all.first(6), all.first(95), 3), error);
    add_layer add;
    CHECK_THROWS_AS(add.forward(x, image(2, 4, 3, 3), y, phase::fp32, true, context{}), error);
}

TEST_CASE("a dynamic layer refuses an output of the wrong shape") {
    linear_layer<> layer(6, 4);
    layer.initialize([] { return 0.5; });
    auto frozen = freeze_dynamic(layer);
    const activation x = image(3, 1, 1, 6);
    std::vector<float> memory(4096);
    buffer<std::byte> workspace(frozen.workspace_size(3, 1, 1));
    const context ctx{std::span<std::byte>(workspace)};
    const nhwc_view<const float> in(x.values.data(), 3, 1, 1, 6);
    CHECK_THROWS_AS(frozen.forward(in, nhwc_view<float>(memory.data(), 1, 1, 1, 4), ctx), error);
    CHECK_THROWS_AS(frozen.forward(in, nhwc_view<float>(memory.data(), 3, 1, 1, 5), ctx), error);
    CHECK_THROWS_AS(frozen.forward(in, nhwc_view<float>(memory.data(), 3, 1, 1, 4),
                                   context(std::span<std::byte>(workspace).first(8))),
                    error);
}

TEST_CASE("poolings and add: backward is the transpose of forward") {
    const context ctx;
    activation x = image(2, 5, 4, 3), y;
    std::vector<float> dx(static_cast<std::size_t>(x.size()));
    window s = window::square(3, 2, 1);
    s.pad_right = 0;
    const auto check = [&](auto forward, auto backward) {
        forward(x, y);
        std::vector<float> r(static_cast<std::size_t>(y.size()));
        for (std::size_t i = 0; i < r.size(); ++i) r[i] = static_cast<float>(i * 29 % 17) / 8.0f - 1.0f;
        backward(r, dx);
        const auto loss = [&] {
            forward(x, y);
            double sum = 0;
            for (index_t i = 0; i < y.size(); ++i)
                sum += static_cast<double>(y.values[i]) * static_cast<double>(r[static_cast<std::size_t>(i)]);
            return sum;
        };
        for (index_t i = 0; i < x.size(); i += 3) {
            const float before = x.values[i];
            constexpr float h = 1e-3f; // below the distance between values, so no maximum changes place
            x.values[i] = before + h;
            const double up = loss();
            x.values[i] = before - h;
            const double down = loss();
            x.values[i] = before;
            CHECK(static_cast<double>(dx[static_cast<std::size_t>(i)]) ==
                  Approx((up - down) / 2e-3).epsilon(0.01).margin(2e-3));
        }
    };
    max_pool_layer pool(s);
    check([&](const activation& a, activation& b) { pool.forward(a, b, phase::fp32, true, ctx); },
          [&](std::span<const float> dy, std::span<float> to) { pool.backward(dy, to); });
    global_average_layer mean;
    check([&](const activation& a, activation& b) { mean.forward(a, b, phase::fp32, true, ctx); },
          [&](std::span<const float> dy, std::span<float> to) { mean.backward(dy, to, 3); });
    add_layer add;
    const activation other = image(2, 5, 4, 3);
    check([&](const activation& a, activation& b) { add.forward(a, other, b, phase::fp32, true, ctx); },
          [&](std::span<float> dy, std::span<float> to) {
              std::vector<float> g(dy.begin(), dy.end());
              add.backward(g);
              std::copy(g.begin(), g.end(), to.begin());
          });
}

TEST_CASE("layers refuse windows and channels that make no sense") {
    window zero_stride = window::square(3), no_dilation = window::square(3), padded = window::square(3);
    zero_stride.stride_h = 0;
    no_dilation.dilation_w = 0;
    padded.pad_left = -1;
    for (const window& s :
         {zero_stride, no_dilation, padded, window::square(0), window::square(notch::index_t{1} << 40)}) {
        CHECK_THROWS_AS(conv2d_layer<>(3, 5, s), error);
        CHECK_THROWS_AS(depthwise_layer<>(3, s), error);
        CHECK_THROWS_AS(max_pool_layer(s), error);
    }
    for (index_t c : {index_t{0}, index_t{-3}, index_t{1} << 41, std::numeric_limits<index_t>::max()}) {
        CHECK_THROWS_WITH(conv2d_layer<>(3, c, window::square(3)), contains_text("train_layer"));
        CHECK_THROWS_WITH(linear_layer<>(c, 3), contains_text("train_layer"));
        CHECK_THROWS_WITH(depthwise_layer<>(c, window::square(3)), contains_text("train_layer"));
    }
}

TEST_CASE("a layer refuses an output that is its input, and inputs of a changed shape") {
    const context ctx;
    activation x = image(2, 4, 4, 4), y;
    conv2d_layer<> layer(4, 4, window::square(1));
    layer.initialize([] { return 0.5; });
    CHECK_THROWS_WITH(layer.forward(x, x, phase::fp32, true, ctx), contains_text("input"));
    max_pool_layer pool(window::square(2, 2));
    CHECK_THROWS_WITH(pool.forward(x, x, phase::fp32, true, ctx), contains_text("input"));
    add_layer add;
    CHECK_THROWS_WITH(add.forward(y, x, x, phase::fp32, true, ctx), contains_text("add_layer"));
    global_average_layer mean;
    CHECK_THROWS_WITH(mean.forward(x, x, phase::fp32, true, ctx), contains_text("input"));
    layer.forward(x, y, phase::fp32, true, ctx);
    std::vector<float> dy(static_cast<std::size_t>(y.size()));
    x = image(2, 4, 5, 4);
    CHECK_THROWS_AS(layer.backward(dy, {}, ctx), error);
}

TEST_CASE("a layer refuses parameters of another size or another layer") {
    const context ctx;
    activation x = image(2, 4, 4, 3), y;
    conv2d_layer<> layer(3, 5, window::square(3)), smaller(3, 4, window::square(3)),
        normed(3, 5, window::square(3), {.batch_norm = true});
    CHECK_THROWS_WITH(layer.copy_from(smaller), contains_text("copy_from"));
    CHECK_THROWS_WITH(normed.copy_from(layer), contains_text("batch norm"));
    layer.weight = buffer<float>(7);
    CHECK_THROWS_WITH(layer.forward(x, y, phase::fp32, true, ctx), contains_text("number of weights"));
    smaller.norm.emplace(4);
    CHECK_THROWS_AS(smaller.forward(x, y, phase::fp32, true, ctx), error);
}

TEST_CASE("quantized inference needs an observed range and finite parameters") {
    const context ctx;
    activation x = image(2, 1, 1, 4), y;
    quantize_input(x, {0.01f, 100});
    linear_layer<> layer(4, 3);
    layer.initialize([] { return 0.3; });
    CHECK_THROWS_WITH(layer.forward(x, y, phase::quantized, false, ctx), contains_text("calibrate"));
    CHECK_THROWS_WITH(freeze(layer, x.params), contains_text("calibrate"));
    layer.bias[1] = std::numeric_limits<float>::quiet_NaN();
    CHECK_THROWS_WITH(layer.forward(x, y, phase::quantized, true, ctx), contains_text("bias of channel 1"));
    layer.bias[1] = 0;
    layer.weight[2] = std::numeric_limits<float>::infinity();
    CHECK_THROWS_WITH(layer.forward(x, y, phase::quantized, true, ctx), contains_text("weight 2"));
    layer.weight[2] = 0.3f;
    layer.weight[11] = std::numeric_limits<float>::quiet_NaN(); // of the last channel
    CHECK_THROWS_WITH(layer.forward(x, y, phase::quantized, true, ctx), contains_text("weight 11"));
    const std::vector<float> seen(12, 0.5f); // a quantizer that takes its range from before looks at nothing itself
    layer.weight_quantizer.observe(seen);
    CHECK_THROWS_WITH(layer.forward(x, y, phase::quantized, true, ctx), contains_text("weight 11"));
    layer.weight[11] = 0.3f;
    layer.forward(x, y, phase::quantized, true, ctx);
    global_average_layer mean;
    activation short_codes = image(1, 3, 3, 4);
    short_codes.quantized = true;
    short_codes.codes = buffer<std::uint8_t>(5);
    mean.fixed_params = quant_params{0.1f, 3};
    CHECK_THROWS_AS(mean.forward(short_codes, y, phase::quantized, false, ctx), error);
}

TEST_CASE("freezing refuses input parameters that are none, and a mean needs a pixel") {
    const context ctx;
    activation x = image(2, 1, 1, 4), y;
    linear_layer<> layer(4, 3);
    layer.initialize([] { return 0.3; });
    layer.forward(x, y, phase::calibrate, false, ctx);
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    for (float bad : {0.0f, -1.0f, inf, nan}) {
        CHECK_THROWS_WITH(layer.spec({bad, 0}), contains_text("train_layer.spec: x.scale is"));
        CHECK_THROWS_WITH(freeze(layer, {bad, 0}), contains_text("train_layer.spec: x.scale is"));
    }
    for (int bad : {-1, 256})
        CHECK_THROWS_WITH(layer.spec({1.0f, bad}), contains_text("train_layer.spec: x.zero_point is"));
    CHECK_NOTHROW(layer.spec({1.0f, 255}));

    global_average_layer mean;
    mean.fixed_params = quant_params{};
    for (const auto& [h, w] : {std::pair<index_t, index_t>{0, 0}, {0, 3}, {3, 0}})
        for (phase p : {phase::fp32, phase::calibrate, phase::quantized}) {
            activation none;
            none.reshape(2, h, w, 4);
            none.quantized = p == phase::quantized;
            CHECK_THROWS_WITH(mean.forward(none, y, p, false, ctx),
                              contains_text(detail::cat("images of ", h, " x ", w, " pixels")));
        }
}

namespace {
/// Every call that reads the parameters of a layer of 2 -> 8 channels must refuse what `spoil` did to it.
template <class Spoil> void check_refused(const layer_options& o, const char* text, const Spoil& spoil) {
    const context ctx;
    activation x = image(1, 2, 2, 2), codes = x, y;
    quantize_input(codes, {0.1f, 100});
    conv2d_layer<> layer(2, 8, window::square(1), o);
    layer.initialize([] { return 0.7; });
    layer.forward(x, y, phase::calibrate, false, ctx);
    spoil(layer);
    CHECK_THROWS_WITH(layer.forward(x, y, phase::fp32, false, ctx), contains_text(text));
    CHECK_THROWS_WITH(layer.forward(codes, y, phase::quantized, false, ctx), contains_text(text));
    CHECK_THROWS_WITH(layer.spec({0.1f, 0}), contains_text(text));
    CHECK_THROWS_WITH(layer.dynamic_spec(), contains_text(text));
    CHECK_THROWS_WITH(layer.folded(), contains_text(text));
    CHECK_THROWS_WITH(freeze(layer, {0.1f, 0}), contains_text(text));
    CHECK_THROWS_WITH(freeze_dynamic(layer), contains_text(text));
}
} // namespace

TEST_CASE("freezing refuses parameters of another size, as training does") {
    using layer = conv2d_layer<>;
    check_refused({}, "number of biases", [](layer& l) { l.bias = buffer<float>(1); });
    check_refused({}, "number of weights", [](layer& l) { l.weight = buffer<float>(1); });
    check_refused({.batch_norm = true}, "batch_norm", [](layer& l) { l.norm.reset(); });
    check_refused({}, "number of weights", [](layer& l) { layer other(std::move(l)); });
}

TEST_CASE("a weight quantizer of another layout is refused") {
    using layer = conv2d_layer<>;
    using quantizer = fake_quant<symmetric<8>, per_channel<0>>;
    check_refused({}, "weight_quantizer is for [1][2][8]", [](layer& l) { l.weight_quantizer = quantizer({2, 8}); });
    check_refused({}, "weight_quantizer", [](layer& l) { l.weight_quantizer = quantizer({8, 3}); });
    layer same(2, 8, window::square(1));
    same.weight_quantizer = quantizer({8, 2});
    CHECK_NOTHROW(same.dynamic_spec());
}

TEST_CASE("what was moved from is refused") {
    std::vector<std::int8_t> ones(4, 1);
    packed_weights p = pack({ones.data(), 2, 2});
    packed_depthwise d = pack_depthwise(ones, 4, window::square(1));
    const packed_weights p2 = std::move(p);
    const packed_depthwise d2 = std::move(d);
    CHECK_THROWS_WITH(make_epilogue(p, stage::accumulators{}),
                      contains_text("make_epilogue: the weights were moved from"));
    CHECK_THROWS_WITH(make_epilogue(d, stage::accumulators{}),
                      contains_text("make_epilogue: the weights were moved from"));
    const auto refused = [](auto layer, index_t channels) {
        layer.initialize([] { return 0.7; });
        auto frozen = freeze_dynamic(layer);
        buffer<std::byte> memory(frozen.workspace_size(1, 1, 1));
        std::vector<float> x(static_cast<std::size_t>(channels), 1.0f), y(4);
        const auto run = [&](auto& f) {
            f.forward({x.data(), 1, 1, 1, channels}, {y.data(), 1, 1, 1, 4}, context(memory));
        };
        run(frozen);
        auto other = std::move(frozen);
        CHECK_THROWS_AS(run(frozen), error);
        run(other);
    };
    refused(linear_layer<>(2, 4), 2);
    refused(depthwise_layer<>(4, window::square(1)), 4);
}

TEST_CASE("quantize_input: after an error the activation is as it was") {
    activation x = image(1, 4, 4, 1);
    quantize_input(x, {0.02f, 128});
    const buffer<std::uint8_t> codes = x.codes;
    const auto unchanged = [&] {
        CHECK(std::equal(codes.begin(), codes.end(), x.codes.begin(), x.codes.end()));
        CHECK(x.params == quant_params{0.02f, 128});
    };
    CHECK_THROWS_WITH(quantize_input(x, {0.0f, 0}), contains_text("params.scale"));
    CHECK_THROWS_WITH(quantize_input(x, {1.0f, 256}), contains_text("params.zero_point"));
    unchanged();
    x.reshape(1, 4, 4, 2);
    CHECK_THROWS_WITH(quantize_input(x, {0.02f, 128}), contains_text("number of values is 16, expected 32"));
    unchanged();
    x.reshape(index_t{1} << 40, index_t{1} << 40, 4, 4);
    CHECK_THROWS_AS(quantize_input(x, {0.02f, 128}), error);
    x.reshape(-1, 4, 4, 1);
    CHECK_THROWS_AS(quantize_input(x, {0.02f, 128}), error);
    unchanged();
}

TEST_CASE("images beyond the address space are refused, not counted modulo 2^64") {
    const index_t huge = index_t{1} << 40;
    linear_layer<> layer(1, 4);
    auto frozen = freeze_dynamic(layer);
    CHECK_THROWS_AS(frozen.workspace_size(1, huge, huge), error);
    CHECK_THROWS_AS(frozen.workspace_size(1, huge + 1, huge), error);
    CHECK_THROWS_AS(frozen.workspace_size(1, 1 << 20, 1 << 21), error);
    CHECK_THROWS_AS(frozen.workspace_size(1, -100000, 7), error);
    buffer<std::byte> memory(4096);
    CHECK_THROWS_AS(frozen.forward({nullptr, 0, huge, huge, 1}, {nullptr, 0, huge, huge, 4}, context(memory)), error);
}

namespace {
/// Its backward is its own: twice the gradient.
struct own_quantizer : fake_quant<symmetric<8>, per_channel<0>> {
    using base = fake_quant<symmetric<8>, per_channel<0>>;
    using base::base;
    using base::forward;
    int backwards = 0;
    std::vector<float> doubled;
    [[nodiscard]] std::int64_t nonfinite() const noexcept { return 0; } // of other values, say
    std::span<const float> backward(std::span<const float> x, std::span<const float> dy) {
        ++backwards;
        const auto dx = base::backward(x, dy);
        doubled.assign(dx.begin(), dx.end());
        for (float& v : doubled) v *= 2.0f;
        return doubled;
    }
};
} // namespace

TEST_CASE("a weight quantizer derived from fake_quant: its own backward is called, its nonfinite is not believed") {
    activation x = image(2, 3, 3, 3);
    activation codes = x, y;
    quantize_input(codes, {0.02f, 128});
    linear_layer<> plain(3, 4);
    linear_layer<own_quantizer> own(3, 4);
    const auto gradient = [&](auto& layer) {
        int i = 0;
        layer.initialize([&] { return static_cast<double>(i++ * 29 % 17) / 17.0; });
        layer.forward(x, y, phase::calibrate, true, context{});
        layer.forward(codes, y, phase::quantized, true, context{});
        std::vector<float> dy(static_cast<std::size_t>(y.size()), 0.25f);
        layer.backward(dy, {}, context{});
        return std::vector<float>(layer.weight_gradient.begin(), layer.weight_gradient.end());
    };
    auto want = gradient(plain);
    for (float& v : want) v *= 2.0f;
    CHECK(gradient(own) == want);
    CHECK(own.weight_quantizer.backwards == 1);
    own.weight[7] = std::numeric_limits<float>::infinity();
    CHECK_THROWS_WITH(own.forward(codes, y, phase::quantized, true, context{}), contains_text("weight 7"));
}

TEST_CASE("values outside an enumeration, and a mean's backward before any forward, are refused") {
    linear_layer<> layer(4, 3);
    activation x = image(1, 1, 1, 4), y;
    for (int bad : {-1, 4, 7})
        CHECK_THROWS_WITH(layer.forward(x, y, static_cast<phase>(bad), false, context{}), contains_text("phase"));
    for (int bad : {-1, 3, 7})
        CHECK_THROWS_WITH(linear_layer<>(4, 3, {.function = static_cast<nonlinearity>(bad)}),
                          contains_text("nonlinearity"));
    const global_average_layer mean;
    std::vector<float> dy(4), dx(4);
    CHECK_THROWS_WITH(mean.backward(dy, dx, 4), contains_text("forward"));
    for (int bad : {-1, 4, 7}) {
        const auto p = static_cast<phase>(bad);
        max_pool_layer pool(window::square(1));
        CHECK_THROWS_WITH(pool.forward(x, y, p, false, context{}), contains_text("phase"));
        global_average_layer average;
        CHECK_THROWS_WITH(average.forward(x, y, p, false, context{}), contains_text("phase"));
        add_layer add;
        CHECK_THROWS_WITH(add.forward(x, x, y, p, false, context{}), contains_text("phase"));
    }
}

TEST_CASE("backward needs what the last forward left, which a failed forward and another quantizer take away") {
    depthwise_layer<> layer(4, window::square(1));
    layer.initialize([] { return 0.75; });
    activation x = image(1, 4, 4, 4), codes = x, y;
    quantize_input(codes, {0.02f, 128});
    std::vector<float> dy(64, 1.0f), dx(64);
    layer.forward(x, y, phase::calibrate, true, context{});
    CHECK_THROWS_AS(layer.forward(x, y, phase::quantized, true, context{}), error); // x has no codes
    CHECK_THROWS_WITH(layer.backward(dy, dx, context{}), contains_text("training = true"));
    layer.forward(codes, y, phase::quantized, true, context{});
    layer.backward(dy, dx, context{});
    CHECK_THROWS_AS(layer.forward(codes, y, phase::fp32, true, context{}), error);
    CHECK_THROWS_WITH(layer.backward(dy, dx, context{}), contains_text("training = true"));
    layer.forward(codes, y, phase::quantized, true, context{});
    layer.weight_quantizer = fake_quant<symmetric<8>, per_channel<2>>({1, 1, 4});
    CHECK_THROWS_WITH(layer.backward(dy, dx, context{}), contains_text("weight_quantizer"));
}

TEST_CASE("layers refuse codes for values, values for codes, views with gaps and unequal batches") {
    const context ctx;
    activation x = image(2, 4, 4, 3), y;
    max_pool_layer pool(window::square(2, 2));
    CHECK_THROWS_WITH(pool.forward(x, y, phase::quantized, false, ctx), contains_text("codes where values"));
    activation codes = x;
    quantize_input(codes, {0.02f, 128});
    for (phase p : {phase::fp32, phase::calibrate, phase::dynamic})
        CHECK_THROWS_WITH(pool.forward(codes, y, p, false, ctx), contains_text("codes where values"));

    add_layer add;
    CHECK_THROWS_WITH(add.forward(image(1, 4, 4, 3), x, y, phase::fp32, false, ctx), contains_text("add_layer"));

    linear_layer<> layer(3, 4);
    layer.initialize([] { return 0.5; });
    auto dynamic = freeze_dynamic(layer);
    buffer<std::byte> memory(dynamic.workspace_size(2, 4, 4));
    std::vector<float> out(2 * 4 * 4 * 4);
    const nhwc_view<float> to(out.data(), 2, 4, 4, 4);
    const float* data = x.values.data(); // seen whole, and only the first two pixels of each row
    CHECK_NOTHROW(dynamic.forward({data, 2, 4, 4, 3}, to, context(memory)));
    CHECK_THROWS_WITH(dynamic.forward({data, 2, 4, 2, 3, 48, 12, 3}, {out.data(), 2, 4, 2, 4}, context(memory)),
                      contains_text("x must be dense"));

    linear_layer<> real(3, 4, {.float_output = true});
    real.initialize([] { return 0.5; });
    const auto frozen = freeze(real, codes.params);
    std::vector<std::uint8_t> bytes(2 * 4 * 4 * 4);
    CHECK_THROWS_WITH(
        frozen.forward(std::as_const(codes).code_view(), nhwc_view<std::uint8_t>(bytes.data(), 2, 4, 4, 4), ctx),
        contains_text("float output"));
    CHECK_NOTHROW(frozen.forward(std::as_const(codes).code_view(), to, ctx));
    layer.forward(x, y, phase::calibrate, false, ctx);
    const auto to_codes = freeze(layer, codes.params);
    CHECK_THROWS_WITH(to_codes.forward(std::as_const(codes).code_view(), to, ctx), contains_text("code output"));
}
