// SPDX-License-Identifier: Apache-2.0
//
// TensorFlow Lite's int8 layers on the kernels, on every instruction set, against their formula in plain loops.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include <notch/kernels/conv.hpp>
#include <notch/kernels/depthwise.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/kernels/quantize.hpp>
#include <notch/kernels/tflite.hpp>

#include "../catch.hpp"

namespace tflite = notch::tflite;
using notch::index_t;
using s8 = std::int8_t;

namespace {

struct layer {
    notch::quant_params x{0.05f, -13}, y{0.06f, 20};
    std::vector<float> scales;
    std::vector<std::int32_t> bias;
    tflite::activation fused = tflite::activation::none;
    std::mt19937 random{7};

    explicit layer(std::size_t outputs, tflite::activation a) : fused(a) {
        for (std::size_t c = 0; c < outputs; ++c) {
            scales.push_back(0.002f + 0.0031f * static_cast<float>(c % 7));
            bias.push_back(static_cast<std::int32_t>(random() % 8000) - 4000);
        }
    }
    std::vector<s8> codes(index_t n, int least) {
        std::vector<s8> v(static_cast<std::size_t>(n));
        for (s8& q : v) q = static_cast<s8>(least + static_cast<int>(random() % static_cast<unsigned>(128 - least)));
        return v;
    }
    /// MultiplyByQuantizedMultiplier with two roundings, the zero point, the activation.
    [[nodiscard]] s8 code(std::int32_t sum, std::size_t c) const {
        const double real =
            static_cast<double>(x.scale) * static_cast<double>(scales[c]) / static_cast<double>(y.scale);
        const auto r = tflite::activation_range(fused, y);
        return static_cast<s8>(
            notch::requantize_fixed_double(sum + bias[c], notch::to_fixed_multiplier(real), y.zero_point, r));
    }
};

} // namespace

TEST_CASE("tflite: convolutions on the kernels") {
    for (auto fused : {tflite::activation::none, tflite::activation::relu, tflite::activation::relu6,
                       tflite::activation::relu_n1_to_1}) {
        layer l(19, fused);
        notch::window s;
        s.kernel_h = 3;
        s.kernel_w = 2;
        s.stride_h = 2;
        s = tflite::padded(s, tflite::padding::same, 9, 6);
        const auto x = l.codes(9 * 6 * 5, -128), w = l.codes(19 * 3 * 2 * 5, -127);
        const auto packed = notch::pack_conv2d(w, 19, 5, s);
        const auto ep = tflite::make_conv_epilogue(packed, l.x, l.scales, l.bias, l.y, fused);
        std::vector<std::byte> memory(static_cast<std::size_t>(notch::conv2d_workspace_size(packed, 1, 9, 6)));
        for (notch::isa isa : notch::available_isas()) {
            std::vector<s8> y(5 * 6 * 19);
            notch::conv2d(notch::nhwc_view<const s8>(x.data(), 1, 9, 6, 5), packed, ep,
                          notch::nhwc_view<s8>(y.data(), 1, 5, 6, 19), notch::context(isa, {}, memory));
            for (index_t oy = 0; oy < 5; ++oy)
                for (index_t ox = 0; ox < 6; ++ox)
                    for (index_t c = 0; c < 19; ++c) {
                        std::int32_t sum = 0;
                        for (index_t ky = 0; ky < 3; ++ky)
                            for (index_t kx = 0; kx < 2; ++kx) {
                                const index_t iy = 2 * oy - s.pad_top + ky, ix = ox - s.pad_left + kx;
                                if (iy < 0 || iy >= 9 || ix < 0 || ix >= 6) continue;
                                for (index_t k = 0; k < 5; ++k)
                                    sum += (x[static_cast<std::size_t>((iy * 6 + ix) * 5 + k)] - l.x.zero_point) *
                                           w[static_cast<std::size_t>(((c * 3 + ky) * 2 + kx) * 5 + k)];
                            }
                        REQUIRE(y[static_cast<std::size_t>((oy * 6 + ox) * 19 + c)] ==
                                l.code(sum, static_cast<std::size_t>(c)));
                    }
        }
    }
}

TEST_CASE("tflite: depthwise convolutions on the kernels") {
    layer l(20, tflite::activation::relu6);
    const notch::window s = tflite::padded(notch::window::square(3), tflite::padding::same, 7, 5);
    const auto x = l.codes(7 * 5 * 20, -128), w = l.codes(3 * 3 * 20, -127);
    const auto packed = notch::pack_depthwise(w, 20, s);
    const auto ep = tflite::make_conv_epilogue(packed, l.x, l.scales, l.bias, l.y, l.fused);
    for (notch::isa isa : notch::available_isas()) {
        std::vector<s8> y(x.size());
        notch::depthwise(notch::nhwc_view<const s8>(x.data(), 1, 7, 5, 20), packed, ep,
                         notch::nhwc_view<s8>(y.data(), 1, 7, 5, 20), notch::context(isa));
        for (index_t oy = 0; oy < 7; ++oy)
            for (index_t ox = 0; ox < 5; ++ox)
                for (index_t c = 0; c < 20; ++c) {
                    std::int32_t sum = 0;
                    for (index_t ky = 0; ky < 3; ++ky)
                        for (index_t kx = 0; kx < 3; ++kx) {
                            const index_t iy = oy - 1 + ky, ix = ox - 1 + kx;
                            if (iy < 0 || iy >= 7 || ix < 0 || ix >= 5) continue;
                            sum += (x[static_cast<std::size_t>((iy * 5 + ix) * 20 + c)] - l.x.zero_point) *
                                   w[static_cast<std::size_t>((ky * 3 + kx) * 20 + c)];
                        }
                    REQUIRE(y[static_cast<std::size_t>((oy * 5 + ox) * 20 + c)] ==
                            l.code(sum, static_cast<std::size_t>(c)));
                }
    }
}

TEST_CASE("tflite: fully connected layers on the kernels, both ways to round") {
    layer l(21, tflite::activation::none);
    const auto x = l.codes(3 * 37, -128), w = l.codes(21 * 37, -127);
    const auto packed = notch::pack({w.data(), 21, 37});
    const auto exact = tflite::make_accumulators(packed, l.x.zero_point, l.bias);
    const auto rescale = tflite::make_rescale(l.x, l.scales, l.y);
    const auto fixed = tflite::make_conv_epilogue(packed, l.x, l.scales, l.bias, l.y);
    for (notch::isa isa : notch::available_isas()) {
        std::vector<std::int32_t> acc(3 * 21);
        std::vector<s8> y(3 * 21), z(3 * 21);
        const notch::matrix_view<const s8> in(x.data(), 3, 37);
        notch::gemm(in, packed, exact, notch::matrix_view<std::int32_t>(acc.data(), 3, 21), notch::context(isa));
        tflite::rescale({acc.data(), 3, 21}, rescale, {y.data(), 3, 21});
        notch::gemm(in, packed, fixed, notch::matrix_view<s8>(z.data(), 3, 21), notch::context(isa));
        for (std::size_t i = 0; i < 3; ++i)
            for (std::size_t c = 0; c < 21; ++c) {
                std::int32_t sum = 0;
                for (std::size_t k = 0; k < 37; ++k) sum += (x[i * 37 + k] - l.x.zero_point) * w[c * 37 + k];
                REQUIRE(acc[i * 21 + c] == sum + l.bias[c]);
                REQUIRE(z[i * 21 + c] == l.code(sum, c));
                const double real =
                    std::round((sum + l.bias[c]) * (static_cast<double>(l.x.scale) * static_cast<double>(l.scales[c]) /
                                                    static_cast<double>(l.y.scale))) +
                    l.y.zero_point;
                REQUIRE(y[i * 21 + c] == std::min(127.0, std::max(-128.0, real)));
            }
    }
}

TEST_CASE("tflite: fixed-point multipliers of every shift, any accumulator") {
    // m = scale from below 2^-32, where it counts as 0, to 2^20.
    constexpr index_t n = 70;
    std::mt19937 random(11);
    const std::vector<s8> none(n, 0);
    const auto w = notch::pack({none.data(), n, 1});
    std::vector<float> scales;
    for (index_t c = 0; c < n; ++c)
        scales.push_back(
            std::ldexp(1.0f + static_cast<float>(random() % 1000) / 1000.0f, static_cast<int>(c % 54) - 34));
    const notch::quant_params x{1.0f, 0}, y{1.0f, -7};
    const auto ep = notch::make_epilogue(w, notch::stage::s8_input{},
                                         notch::stage::requantize_fixed<notch::affine_signed<8>>{x, scales, y},
                                         notch::stage::clamp{-100.0f, 90.0f});
    const auto wide = notch::make_epilogue(w, notch::stage::s8_input{},
                                           notch::stage::requantize_fixed<notch::affine_signed<16>>{x, scales, y});
    constexpr index_t rows = 300;
    std::vector<std::int32_t> acc(rows * n);
    for (std::int32_t& a : acc) { // of every size, halves among them
        a = static_cast<std::int32_t>(random()) >> random() % 32;
        if (random() % 4 == 0) a = static_cast<std::int32_t>(1u << random() % 32);
        if (random() % 8 == 0) a = static_cast<std::int32_t>(0u - static_cast<std::uint32_t>(a));
        if (random() % 50 == 0) a = random() % 2 ? std::numeric_limits<std::int32_t>::min() : 2147483647;
    }
    for (notch::isa isa : notch::available_isas()) {
        std::vector<s8> codes(acc.size());
        std::vector<std::int16_t> words(acc.size());
        notch::requantize(notch::matrix_view<const std::int32_t>(acc.data(), rows, n), ep,
                          notch::matrix_view<s8>(codes.data(), rows, n), {}, notch::context(isa));
        notch::requantize(notch::matrix_view<const std::int32_t>(acc.data(), rows, n), wide,
                          notch::matrix_view<std::int16_t>(words.data(), rows, n), {}, notch::context(isa));
        for (index_t i = 0; i < rows * n; ++i) {
            const auto at = static_cast<std::size_t>(i), c = static_cast<std::size_t>(i % n);
            const auto m = notch::to_fixed_multiplier(static_cast<double>(scales[c]));
            CAPTURE(to_string(isa), acc[at], m.mantissa, m.shift);
            REQUIRE(codes[at] == notch::requantize_fixed_double(acc[at], m, -7, {-107, 83}));
            REQUIRE(words[at] == notch::requantize_fixed_double(acc[at], m, -7, {-32768, 32767}));
        }
    }
}

TEST_CASE("tflite: add on the kernels") {
    layer l(1, tflite::activation::none);
    const auto check = [&](notch::quant_params a, notch::quant_params b, notch::quant_params y, index_t n) {
        const auto x = l.codes(n, -128), z = l.codes(n, -128);
        for (auto fused : {tflite::activation::none, tflite::activation::relu6}) {
            const auto p = tflite::make_add(a, b, y, fused);
            std::vector<s8> expected(x.size());
            tflite::ref::add(x, z, p, expected);
            for (notch::isa isa : notch::available_isas()) {
                std::vector<s8> got = x;
                tflite::add(got, z, p, got, notch::context(isa));
                REQUIRE(got == expected);
            }
        }
    };
    for (index_t n : {0, 1, 15, 16, 17, 1000}) check({0.0517f, 11}, {0.0213f, -60}, {0.0731f, -4}, n);
    check({1.0f, 0}, {1.0f, 0}, {2.0f, 0}, 333); // halves
    check({1e-6f, -128}, {3.0f, 127}, {0.5f, 3}, 333);
    check({20.0f, 0}, {20.0f, 0}, {1e-4f, 0}, 333);        // saturates
    check({1.0f, -128}, {1.0f, -128}, {4e-6f, -128}, 333); // the largest operands, the largest multiplier
    check({1.0f, 127}, {1.0f, 127}, {4e-6f, 127}, 333);
}

TEST_CASE("tflite: add refuses parameters that make_add cannot make, before it writes") {
    const std::vector<s8> x(70, 3);
    const auto good = tflite::make_add({0.5f, 3}, {0.25f, -9}, {1.0f, 2});
    const auto refuses = [&](const char* text, auto spoil) {
        auto p = good;
        spoil(p);
        std::vector<s8> y(x.size(), 11);
        CHECK_THROWS_WITH(tflite::add(x, x, p, y), contains_text(text));
        CHECK_THROWS_WITH(tflite::ref::add(x, x, p, y), contains_text(text));
        CHECK(y == std::vector<s8>(x.size(), 11));
    };
    using params = tflite::add_params;
    refuses("zero point is 128", [](params& p) { p.a_zero_point = 128; });
    refuses("zero point is -129", [](params& p) { p.b_zero_point = -129; });
    refuses("zero point is 2147483647", [](params& p) { p.y_zero_point = 2147483647; });
    refuses("range of codes is 5..4", [](params& p) { p.range = {5, 4}; });
    refuses("range of codes is -129..127", [](params& p) { p.range = {-129, 127}; });
    refuses("range of codes is -128..128", [](params& p) { p.range = {-128, 128}; });
    refuses("a multiplier is", [](params& p) { p.a.shift = 1; });
    refuses("a multiplier is", [](params& p) { p.b.shift = -32; });
    refuses("a multiplier is", [](params& p) { p.y.mantissa = -1; });
}
