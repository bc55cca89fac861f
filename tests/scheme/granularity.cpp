// SPDX-License-Identifier: Apache-2.0
//
// Granularities as layouts, and ranges of codes of every width.
#include "../catch.hpp"

#include <array>
#include <cfloat>
#include <cmath>
#include <limits>
#include <vector>

#include <notch/ref/quantize.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/range.hpp>

using namespace notch;

namespace {

/// Checks a layout of [a][b][c] against want(i, j, k), the parameters of an element; returns their number.
template <class Granularity, class Want> void check_layout(std::array<index_t, 3> e, index_t count, const Want& want) {
    const channel_layout l = layout_of<Granularity>(e);
    REQUIRE(l.size() == e[0] * e[1] * e[2]);
    CHECK(l.count() == count);
    index_t wrong = 0;
    for (index_t i = 0; i < e[0]; ++i)
        for (index_t j = 0; j < e[1]; ++j)
            for (index_t k = 0; k < e[2]; ++k) wrong += l.index_of((i * e[1] + j) * e[2] + k) != want(i, j, k);
    // The runs of all parameters cover every element once, each under its own.
    std::vector<index_t> seen(static_cast<std::size_t>(l.size()), -1);
    for (index_t p = 0; p < l.count(); ++p)
        detail::for_each_run_of(l, p, [&](index_t at, index_t n) {
            wrong += n <= 0;
            for (index_t i = at; i < at + n; ++i) {
                wrong += seen[static_cast<std::size_t>(i)] != -1;
                seen[static_cast<std::size_t>(i)] = p;
            }
        });
    for (index_t i = 0; i < l.size(); ++i) wrong += seen[static_cast<std::size_t>(i)] != l.index_of(i);
    CHECK(wrong == 0);
}

} // namespace

TEST_CASE("every granularity says which elements share parameters") {
    for (std::array<index_t, 3> e :
         {std::array<index_t, 3>{2, 3, 4}, {5, 7, 11}, {1, 1, 1}, {3, 1, 8}, {1, 9, 1}, {4, 8, 6}}) {
        const auto up = [](index_t n, index_t d) { return (n + d - 1) / d; };
        const index_t a = e[0], b = e[1], c = e[2];
        check_layout<per_tensor>(e, 1, [](index_t, index_t, index_t) { return 0; });
        check_layout<per_channel<0>>(e, a, [](index_t i, index_t, index_t) { return i; });
        check_layout<per_channel<1>>(e, b, [](index_t, index_t j, index_t) { return j; });
        check_layout<per_channel<2>>(e, c, [](index_t, index_t, index_t k) { return k; });
        check_layout<per_token>(e, a * b, [&](index_t i, index_t j, index_t) { return i * b + j; });
        check_layout<per_group<4>>(e, a * b * up(c, 4),
                                   [&](index_t i, index_t j, index_t k) { return (i * b + j) * up(c, 4) + k / 4; });
        check_layout<per_group<1>>(e, a * b * c, [&](index_t i, index_t j, index_t k) { return (i * b + j) * c + k; });
        check_layout<per_group<3, 1>>(e, a * up(b, 3) * c,
                                      [&](index_t i, index_t j, index_t k) { return (i * up(b, 3) + j / 3) * c + k; });
        check_layout<per_group<2, 0>>(e, up(a, 2) * b * c,
                                      [&](index_t i, index_t j, index_t k) { return (i / 2 * b + j) * c + k; });
        check_layout<per_block<2, 4>>(e, a * up(b, 2) * up(c, 4), [&](index_t i, index_t j, index_t k) {
            return (i * up(b, 2) + j / 2) * up(c, 4) + k / 4;
        });
    }
    CHECK(layout_of<per_channel<1>>(std::array<index_t, 3>{2, 3, 4}) == channel_layout{2, 3, 4});
    CHECK(layout_of<per_token>(std::array<index_t, 2>{3, 4}) == channel_layout{1, 3, 4});
    CHECK(layout_of<per_token>(std::array<index_t, 1>{4}) == channel_layout{1, 1, 4});
    CHECK(layout_of<per_group<32>>(std::array<index_t, 2>{0, 40}).count() == 0);
    CHECK(layout_of<per_group<32>>(std::array<index_t, 2>{3, 0}).count() == 0);
    CHECK_THROWS_WITH((layout_of<per_group<4, 2>>(std::array<index_t, 2>{3, 4})),
                      contains_text("per_group axis 2 of a tensor of rank 2"));
    CHECK_THROWS_WITH((layout_of<per_block<4, 4>>(std::array<index_t, 1>{3})),
                      contains_text("per_block of a tensor of rank 1"));
    CHECK_THROWS_WITH(layout_of<per_token>(std::vector<index_t>{}), contains_text("rank 0"));
    channel_layout bad{1, 2, 3};
    bad.channel_group = -1;
    CHECK_THROWS_WITH(detail::check_layout("f", bad), contains_text("layout.channel_group is -1"));
    // No elements, but more parameters than can be counted.
    const index_t most = std::numeric_limits<index_t>::max();
    CHECK_THROWS_WITH(detail::check_layout("f", {0, most, most, 0, 1, 1}), contains_text("overflow"));
}

TEST_CASE("ranges of every width: limits, and every code survives the real numbers") {
    const auto check = [](auto range, std::int32_t qmin, std::int32_t qmax) {
        using R = decltype(range);
        CHECK(R::qmin == qmin);
        CHECK(R::qmax == qmax);
        CHECK(static_cast<std::int32_t>(static_cast<typename R::code_type>(qmin)) == qmin);
        CHECK(static_cast<std::int32_t>(static_cast<typename R::code_type>(qmax)) == qmax);
        index_t wrong = 0;
        for (real_range r : {real_range{-1.0f, 3.0f}, {-0.3f, 0.7f}, {-1e-3f, 0.0f}, {0.0f, 1e30f}}) {
            const quant_params p = params_from_range<R>(r);
            wrong += p.zero_point < qmin || p.zero_point > qmax || ref::quantize(0.0f, p, {qmin, qmax}) != p.zero_point;
            for (std::int32_t c = qmin; c <= qmax; ++c)
                wrong += ref::quantize(ref::dequantize(c, p), p, {qmin, qmax}) != c;
        }
        CHECK(wrong == 0);
    };
    check(affine<1>{}, 0, 1);
    check(affine<2>{}, 0, 3);
    check(affine<3>{}, 0, 7);
    check(affine<5>{}, 0, 31);
    check(affine<8>{}, 0, 255);
    check(affine<16>{}, 0, 65535);
    check(affine_signed<1>{}, -1, 0);
    check(affine_signed<6>{}, -32, 31);
    check(affine_signed<16>{}, -32768, 32767);
    check(symmetric<2>{}, -1, 1); // ternary
    check(symmetric<7>{}, -63, 63);
    check(symmetric<16>{}, -32767, 32767);
    check(symmetric_full<8>{}, -128, 127);
    check(power_of_two<symmetric<4>>{}, -7, 7);
    check(power_of_two<affine<8>>{}, 0, 255);
    check(power_of_two<affine<16>>{}, 0, 65535);
}

TEST_CASE("scales that are powers of two cover what other scales cover, with at most twice the step") {
    using pot = power_of_two<affine<8>>;
    static_assert(has_power_of_two_scale<pot> && !has_power_of_two_scale<affine<8>>);
    static_assert(ceil_to_power_of_two(1.0f) == 1.0f && ceil_to_power_of_two(1.0f + FLT_EPSILON) == 2.0f);
    static_assert(ceil_to_power_of_two(FLT_MAX) == 0x1p127f && ceil_to_power_of_two(FLT_MIN) == FLT_MIN);
    CHECK(params_from_range<power_of_two<symmetric<8>>>({-127.0f, 3.0f}) == quant_params{1.0f, 0});
    CHECK(params_from_range<power_of_two<symmetric<8>>>({-127.5f, 3.0f}) == quant_params{2.0f, 0});
    CHECK(params_from_range<pot>({-1.0f, 2.9f}) == quant_params{0x1p-6f, 64}); // 3.9 / 255 = 0.0153 < 2^-6
    CHECK(params_from_range<pot>({-1.0f, 3.0f}) == quant_params{0x1p-5f, 32}); // 4 / 255 = 0.0157 > 2^-6
    CHECK(params_from_range<pot>({}).scale == 1.0f);
    const auto check = [](auto range, real_range r) {
        using R = decltype(range);
        const quant_params plain = params_from_range<R>(r), p = params_from_range<power_of_two<R>>(r);
        int exponent = 0;
        CHECK(std::frexp(p.scale, &exponent) == 0.5f);
        INFO(r.min << " " << r.max << ": " << plain.scale << " " << p.scale);
        CHECK(p.scale < 2 * plain.scale);
        const real_range covered = range_of<R>(p);
        CHECK(std::isfinite(covered.min));
        CHECK(std::isfinite(covered.max));
        if (r.max - r.min > 1e38f) return;
        CHECK(p.scale >= plain.scale);
        CHECK(covered.min <= r.min + 0.5f * p.scale);
        CHECK(covered.max >= r.max - 0.5f * p.scale);
    };
    for (real_range r : {real_range{-1.0f, 3.0f},
                         {-0.3f, 0.7f},
                         {0.0f, 1e-44f},
                         {0.0f, FLT_MAX},
                         {-FLT_MAX, FLT_MAX},
                         {-FLT_MAX, 0.0f},
                         {-5.0f, -1.0f}}) {
        check(affine<8>{}, r);
        check(affine<3>{}, r);
        check(symmetric<8>{}, r);
        check(symmetric<2>{}, r);
        check(affine_signed<16>{}, r);
    }
}
