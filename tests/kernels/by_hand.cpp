// SPDX-License-Identifier: Apache-2.0
//
// Values worked out by hand, at which rounding once more, in float instead of double, or with the
// other side of a comparison gives another result.
#include "../catch.hpp"

#include <cstdint>
#include <vector>

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
            requantize(matrix_view<const std::int32_t>(acc.data(), 8, 1), ep, matrix_view<std::uint8_t>(codes.data(), 8, 1), mask, context(i));
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
        CHECK(mask_of(make_epilogue(w, stage::requantize{x, w_scale, y}, stage::relu{})) == bits{0, 0, 0, 1, 1, 1, 0, 0});
    }
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
