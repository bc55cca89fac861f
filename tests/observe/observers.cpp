// SPDX-License-Identifier: Apache-2.0
#include "../catch.hpp"

#include <limits>
#include <random>
#include <vector>

#include <notch/observe/min_max.hpp>
#include <notch/observe/moving_average.hpp>

using namespace notch;

TEST_CASE("min_max: any length, non-finite values counted and ignored, merge in any order") {
    std::mt19937 g(1);
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    for (std::size_t n = 0; n < 70; ++n) {
        std::vector<float> x(n);
        real_range want;
        std::int64_t bad = 0;
        for (float& v : x) {
            v = static_cast<float>(g() % 1000) - 700.0f;
            if (g() % 9 == 0) v = g() % 3 == 0 ? nan : g() % 2 ? inf : -inf;
            if (std::isfinite(v))
                want = {std::min(want.min, v), std::max(want.max, v)};
            else
                ++bad;
        }
        min_max whole, left, right;
        whole.observe(x);
        left.observe(std::span(x).first(n / 2));
        right.observe(std::span(x).subspan(n / 2));
        min_max swapped = right;
        left.merge(right);
        swapped.merge(min_max{});
        CHECK(whole.range() == want);
        CHECK(left.range() == want);
        CHECK(whole.nonfinite() == bad);
        CHECK(left.nonfinite() == bad);
        CHECK(whole.finite() == static_cast<std::int64_t>(n) - bad);
    }
    CHECK(min_max{}.range().empty());
}

TEST_CASE("moving_average follows its formula; empty batches change nothing") {
    moving_average a(0.75f);
    a.observe(std::vector<float>{-1.0f, 3.0f});
    CHECK(a.range() == real_range{-1.0f, 3.0f});
    a.observe(std::vector<float>{-3.0f, 1.0f});
    CHECK(a.range() == real_range{-1.5f, 2.5f});
    a.observe(std::vector<float>{});
    a.observe(std::vector<float>{std::numeric_limits<float>::quiet_NaN()});
    CHECK(a.range() == real_range{-1.5f, 2.5f});
    CHECK(a.batches() == 2);
    CHECK(a.nonfinite() == 1);
    moving_average b(0.75f);
    b.observe(std::vector<float>{0.5f, 8.5f});
    b.merge(a); // two batches to one
    CHECK(b.range().min == Approx((0.5 - 2 * 1.5) / 3));
    CHECK(b.range().max == Approx((8.5 + 2 * 2.5) / 3));
    CHECK_THROWS_AS(moving_average(1.0f), error);
    CHECK_THROWS_AS(moving_average(std::numeric_limits<float>::quiet_NaN()), error);
}

TEST_CASE("channel_observer keeps channels apart on any axis") {
    std::vector<float> x(24);
    for (std::size_t i = 0; i < 24; ++i) x[i] = static_cast<float>(i);
    channel_observer<min_max> o(3);
    o.observe(x, {2, 3, 4});
    for (index_t c = 0; c < 3; ++c)
        CHECK(o.range(c) == real_range{static_cast<float>(4 * c), static_cast<float>(12 + 4 * c + 3)});
    CHECK_THROWS_AS(o.observe(x, {1, 4, 6}), error);
    CHECK_THROWS_AS(o.observe(std::span(x).first(3), {2, 3, 4}), error);
    channel_observer<min_max> other(2);
    CHECK_THROWS_AS(o.merge(other), error);
}

TEST_CASE("merging adds the counts of both") {
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> first{1.0f, nan}, second{2.0f, inf, 3.0f, -inf};
    min_max a, b;
    a.observe(first);
    b.observe(second);
    a.merge(b);
    CHECK(a.finite() == 3);
    CHECK(a.nonfinite() == 3);
    moving_average c, d;
    c.observe(first);
    d.observe(second);
    d.observe(first);
    c.merge(d);
    CHECK(c.batches() == 3);
    CHECK(c.nonfinite() == 4);
}
