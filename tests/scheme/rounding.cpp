// SPDX-License-Identifier: Apache-2.0
//
// Rounding policies, and the generator behind the stochastic one.
#include "../catch.hpp"

#include <cmath>

#include <notch/kernels/stages.hpp>
#include <notch/scheme/philox.hpp>
#include <notch/scheme/requantize.hpp>
#include <notch/scheme/rounding.hpp>

using namespace notch;

// The known answers that come with the paper's library.
static_assert(philox4x32({}, 0) == philox_block{{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}});
static_assert(philox4x32({{~0u, ~0u, ~0u, ~0u}}, ~std::uint64_t{0}) ==
              philox_block{{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}});
static_assert(philox4x32({{0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}}, 0x299f31d0a4093822u) ==
              philox_block{{0xd16cfe09u, 0x94fdcceb, 0x5001e420u, 0x24126ea1u}});
static_assert(stochastic{7, 3}.at(5).bits == philox4x32({{1, 0, 3, 0}}, 7).word[1]);
static_assert(stochastic_draw{0}.up(1, 40, false) && !stochastic_draw{1}.up(1, 40, false)); // 2^-40, not 0
static_assert(stochastic_draw{2}.up(0x201, 40, false) && !stochastic_draw{2}.up(0x200, 40, false));
static_assert(rounding_policy<half_even> && rounding_policy<half_away> && rounding_policy<toward_zero>);
static_assert(rounding_policy<toward_positive> && rounding_policy<stochastic> && !rounding_policy<int>);

// 5 / 4: rounded once 1; doubly 5 / 2 -> 3, 3 / 2 -> 2.
static_assert(single_rounding::requantize(5, {1 << 30, -1}, 10, {-128, 127}) == 11);
static_assert(double_rounding::requantize(5, {1 << 30, -1}, 10, {-128, 127}) == 12);
static_assert(requant_mode{single_rounding{}} == requant_mode::fixed_point_single_rounding);
static_assert(requant_mode{double_rounding{}} == requant_mode::fixed_point_double_rounding);
static_assert(stage::requantize_fixed{quant_params{}, std::span<const float>{}, quant_params{}, single_rounding{}}
                  .mode == requant_mode::fixed_point_single_rounding);

TEST_CASE("every policy keeps integers, infinities and NaN") {
    const auto check = [](auto policy) {
        for (int i = 0; i < 100; ++i) {
            const auto element = policy.at(i);
            for (float x : {0.0f, 1.0f, -1.0f, 12345.0f, -8388609.0f, 3e38f, INFINITY, -INFINITY})
                CHECK(element.round(x) == x);
            CHECK(std::isnan(element.round(NAN)));
            CHECK(!element.up(0, 1, false));
            CHECK(!element.up(0, 60, true));
        }
    };
    check(half_even{});
    check(half_away{});
    check(toward_zero{});
    check(toward_positive{});
    check(stochastic{5});
    CHECK(toward_positive{}.round(0.25f) == 1.0f);
    CHECK(toward_positive{}.round(-1.75f) == -1.0f);
}

TEST_CASE("up agrees with round, for each policy") {
    const auto check = [](auto policy) {
        index_t wrong = 0;
        for (std::uint64_t whole = 0; whole < 4; ++whole)
            for (std::uint64_t rest = 0; rest < 16; ++rest)
                for (int scale : {0, 20, 40}) {
                    const auto element = policy.at(static_cast<index_t>(whole * 16 + rest));
                    const float x = static_cast<float>(whole) + static_cast<float>(rest) / 16;
                    const bool up = element.up(rest << scale, 4 + scale, whole % 2 != 0);
                    wrong += element.round(x) != static_cast<float>(whole + (up ? 1 : 0));
                }
        CHECK(wrong == 0);
    };
    check(half_even{});
    check(half_away{});
    check(toward_zero{});
    check(toward_positive{});
    for (std::uint64_t seed = 0; seed < 20; ++seed) check(stochastic{seed});
}

TEST_CASE("stochastic rounding has the expectation of what it rounds, at exactly the stated threshold") {
    for (float x : {0.5f, 0.125f, -0.3f, 2.75f, -7.9f}) {
        const int n = 40000;
        double sum = 0;
        index_t wrong = 0;
        for (int i = 0; i < n; ++i) {
            const float y = stochastic{42, 1}.at(i).round(x);
            wrong += std::fabs(y - x) >= 1.0f;
            sum += static_cast<double>(y);
        }
        CHECK(wrong == 0);
        // Five standard deviations of the mean, which is that of a coin.
        const double part = std::fabs(static_cast<double>(x) - std::trunc(static_cast<double>(x)));
        CHECK(std::fabs(sum / n - static_cast<double>(x)) < 5 * std::sqrt(part * (1 - part) / n));
    }
    CHECK(stochastic_draw{0x7fffffffu}.round(0.5f) == 1.0f);
    CHECK(stochastic_draw{0x80000000u}.round(0.5f) == 0.0f);
    CHECK(stochastic_draw{0x7fffffffu}.round(-3.5f) == -4.0f);
    CHECK(stochastic_draw{0xffffffffu}.round(1.0f - 0x1p-24f) == 0.0f);
    CHECK(stochastic_draw{0xfffffeffu}.round(1.0f - 0x1p-24f) == 1.0f);
    CHECK(stochastic_draw{0}.round(1e-30f) == 1.0f);
    CHECK(stochastic_draw{1}.round(1e-30f) == 0.0f);
}

TEST_CASE("elements are drawn by seed, stream and index alone, and differ where one of them does") {
    const stochastic a{1, 2}, same{1, 2}, seed{2, 2}, stream{1, 3};
    int equal_seed = 0, equal_stream = 0, equal_next = 0, unequal = 0;
    for (index_t i = 1000; i-- > 0;) { // in any order
        unequal += a.at(i).bits != same.at(i).bits;
        equal_seed += a.at(i).bits == seed.at(i).bits;
        equal_stream += a.at(i).bits == stream.at(i).bits;
        equal_next += a.at(i).bits == a.at(i + 1).bits;
    }
    CHECK(unequal == 0);
    CHECK(equal_seed + equal_stream + equal_next == 0);
    CHECK(a.at(index_t{1} << 36).bits != a.at(0).bits); // the counter has more than 32 bits
}
