// SPDX-License-Identifier: Apache-2.0
//
// Values worked out by hand, at which rounding once more, in float instead of double, or with the
// other side of a comparison gives another result.
#include "../catch.hpp"

#include <cstdint>
#include <vector>

#include <notch/kernels/add.hpp>
#include <notch/kernels/quantize.hpp>

using namespace notch;

TEST_CASE("requantize masks an accumulator of 0 under a ReLU in every mode") {
    // m = 0.5, zero point 0. 511 is 255.5 steps, which every rounding takes to 256; -1 is half a step
    // below the lowest code, which every rounding takes up to it: a tie that is negative too in the
    // high multiplication.
    const std::vector<std::int8_t> one{1};
    const std::vector<float> w_scale{1.0f};
    const packed_weights w = pack({one.data(), 1, 1});
    const quant_params x{0.5f, 0}, y{1.0f, 0};
    const std::vector<std::int32_t> acc{-3, -1, 0, 1, 2, 510, 511, 512};
    using bits = std::vector<std::uint8_t>;
    for (isa i : available_isas()) {
        const auto mask_of = [&](const auto& ep) {
            bits mask(acc.size(), 7), codes(acc.size());
            requantize(matrix_view<const std::int32_t>(acc.data(), 8, 1), ep,
                       matrix_view<std::uint8_t>(codes.data(), 8, 1), mask, context(i));
            return mask;
        };
        const auto check = [&](requant_mode mode, const bits& plain) {
            INFO(to_string(i) << " mode " << static_cast<int>(mode));
            const stage::requantize_fixed fixed{x, w_scale, y, mode};
            CHECK(mask_of(make_epilogue(w, fixed)) == plain);
            CHECK(mask_of(make_epilogue(w, fixed, stage::relu{})) == bits{0, 0, 0, 1, 1, 1, 0, 0});
        };
        check(requant_mode::fixed_point_double_rounding, {0, 1, 1, 1, 1, 1, 0, 0});
        check(requant_mode::fixed_point_single_rounding, {0, 1, 1, 1, 1, 1, 0, 0});
        INFO(to_string(i));
        CHECK(mask_of(make_epilogue(w, stage::requantize{x, w_scale, y})) == bits{0, 1, 1, 1, 1, 1, 0, 0});
        CHECK(mask_of(make_epilogue(w, stage::requantize{x, w_scale, y}, stage::relu{})) ==
              bits{0, 0, 0, 1, 1, 1, 0, 0});
    }
}

TEST_CASE("requantize adds the real bias of every channel, as the fused kernel does") {
    const std::vector<std::int8_t> ones(70, 1);
    const std::vector<float> one{1.0f};
    std::vector<float> bias(70);
    for (std::size_t c = 0; c < bias.size(); ++c) bias[c] = 100.0f + static_cast<float>(c);
    const packed_weights w = pack({ones.data(), 70, 1});
    const auto ep = make_epilogue(w, stage::dequantize{{1.0f, 0}, one}, stage::real_bias{bias});
    const std::vector<std::int32_t> acc(5 * 70, 3);
    for (isa i : available_isas()) {
        std::vector<float> y(acc.size());
        requantize(matrix_view<const std::int32_t>(acc.data(), 5, 70), ep, matrix_view<float>(y.data(), 5, 70), {},
                   context(i));
        for (std::size_t at = 0; at < y.size(); ++at) REQUIRE(y[at] == 103.0f + static_cast<float>(at % 70));
    }
}

TEST_CASE("requantize masks what 16-bit codes and bfloat16 clamp") {
    const std::vector<std::int8_t> one{1};
    const std::vector<float> w_scale{1.0f};
    const packed_weights w = pack({one.data(), 1, 1});
    const std::vector<std::int32_t> acc{-40000, -32768, -32767, 0, 32767, 32768};
    const matrix_view<const std::int32_t> in(acc.data(), 6, 1);
    using bits = std::vector<std::uint8_t>;
    for (isa i : available_isas()) {
        INFO(to_string(i));
        std::vector<std::int16_t> y(6);
        bits mask(6, 7);
        const matrix_view<std::int16_t> out(y.data(), 6, 1);
        requantize(in, make_epilogue(w, stage::requantize<symmetric<16>>{{1.0f, 0}, w_scale, {1.0f, 0}}), out, mask,
                   context(i));
        CHECK(y == std::vector<std::int16_t>{-32767, -32767, -32767, 0, 32767, 32767});
        CHECK(mask == bits{0, 0, 1, 1, 1, 0});
        requantize(in, make_epilogue(w, stage::requantize_fixed<symmetric<16>>{{1.0f, 0}, w_scale, {1.0f, 0}}), out,
                   mask, context(i));
        CHECK(mask == bits{0, 0, 1, 1, 1, 0});
        std::vector<bfloat16> real(6);
        const std::vector<float> bias{32767.5f};
        const matrix_view<bfloat16> real_out(real.data(), 6, 1);
        requantize(in, make_epilogue(w, stage::dequantize_bf16{{1.0f, 0}, w_scale}, stage::relu{}), real_out, mask,
                   context(i));
        CHECK(mask == bits{0, 0, 0, 0, 1, 1});
        // With a bias of 32767.5 the values are -7232.5, -0.5, 0.5, ...: the sign of the value counts.
        requantize(in,
                   make_epilogue(w, stage::dequantize_bf16{{1.0f, 0}, w_scale}, stage::real_bias{bias}, stage::relu{}),
                   real_out, mask, context(i));
        CHECK(mask == bits{0, 0, 1, 1, 1, 1});
    }
}

TEST_CASE("add takes all that make_add makes for u8 codes, up to ratios just below 2^16") {
    const std::vector<std::uint8_t> a{0, 1, 0, 1, 2}, b{0, 0, 1, 1, 1};
    const add_params p = make_add({65535.5f, 0}, {1.0f, 0}, {1.0f, 1});
    CHECK(p.ma == 16384); // 65535.5 / 4 rounds to even
    CHECK(p.multiplier == 4.0f);
    const add_params fine = make_add({65535.5f, 1}, {65535.5f, 1}, {1.0f, 1});
    for (isa i : available_isas()) {
        INFO(to_string(i));
        std::vector<std::uint8_t> y(5);
        add(a, b, p, y, context(i)); // b is less than half a step of the grid
        CHECK(y == std::vector<std::uint8_t>{1, 255, 1, 255, 255});
        add(a, b, fine, y, context(i));
        CHECK(y == std::vector<std::uint8_t>{0, 0, 0, 1, 255});
        std::vector<std::uint8_t> many(200, 1), sums(200), want(200);
        add(many, many, make_add({65535.5f, 255}, {65535.5f, -128}, {1.0f, 255}), sums, context(i));
        for (std::uint8_t& v : want)
            v = ref::add<std::uint8_t>(1, 1, make_add({65535.5f, 255}, {65535.5f, -128}, {1.0f, 255}));
        CHECK(sums == want);
    }
    std::vector<std::uint8_t> y(5);
    CHECK_THROWS_WITH(add(a, b, make_add({}, {}, {}, {-128, 127}), y), contains_text("range of codes is -128..127"));
}

TEST_CASE("multipliers are computed in double and rounded once") {
    // s = 1.5 + u, u = 2^-23: s * s / s is s. In float s * s is 2.25 + 4u instead of 2.25 + 3u + u^2,
    // and the quotient 1.5 + 5/3 u, of which the float is 1.5 + 2u.
    const std::vector<std::int8_t> ones{1, 1};
    const float s = 1.5f + 0x1p-23f;
    const std::vector<float> scales{s, 1.0f};
    const packed_weights w = pack({ones.data(), 2, 1});
    const quant_params x{s, 0}, y{s, 0};
    const auto ep = make_epilogue(w, stage::requantize{x, scales, y});
    CHECK(ep.multiplier[0] == s);
    CHECK(ep.multiplier[1] == 1.0f);
    CHECK(make_epilogue(w, stage::dequantize{x, scales}).multiplier[0] == 2.25f + 0x1p-21f);
    // The mantissa of fixed point is that of the double, s / 2 * 2^31 = 1610612736 + 128.
    const auto fixed = make_epilogue(w, stage::requantize_fixed{x, scales, y});
    CHECK(fixed.fixed[0] == fixed_multiplier{1610612864, 1});
    CHECK(fixed.fixed[1] == fixed_multiplier{1 << 30, 1});
}
