// SPDX-License-Identifier: Apache-2.0
#include "../catch.hpp"

#include <cfloat>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include <notch/observe/abs_max.hpp>
#include <notch/observe/histogram.hpp>
#include <notch/observe/mean_sigma.hpp>
#include <notch/observe/min_max.hpp>
#include <notch/observe/moving_average.hpp>
#include <notch/observe/percentile.hpp>

using namespace notch;

TEST_CASE("averages of finite values stay finite, up to FLT_MAX") {
    for (int k = 0; k < 1000; ++k) {
        moving_average a(static_cast<float>(k) / 1000.0f);
        for (int batch = 0; batch < 3; ++batch) a.observe(std::vector<float>{-FLT_MAX, FLT_MAX});
        REQUIRE(std::isfinite(a.range().min));
        REQUIRE(std::isfinite(a.range().max));
    }
    moving_average low(0.5f), high(0.5f);
    low.observe(std::vector<float>{-FLT_MAX});
    high.observe(std::vector<float>{FLT_MAX});
    low.merge(high);
    CHECK(std::isfinite(low.range().min));
    CHECK(std::isfinite(low.range().max));
    CHECK_NOTHROW(params_from_range<affine<8>>(low.range()));
}

TEST_CASE("subnormal values count, and an empty observer merges as nothing") {
    const float tiny = 1e-44f;
    min_max o, empty;
    o.observe(std::vector<float>(33, tiny));
    o.merge(empty);
    CHECK(o.range() == real_range{tiny, tiny});
    empty.merge(o);
    CHECK(empty.range() == o.range());
    moving_average a, none;
    a.observe(std::vector<float>{1.0f, 2.0f});
    a.merge(none);
    none.merge(a);
    CHECK(none.range() == real_range{1.0f, 2.0f});
    CHECK(none.batches() == 1);
}

TEST_CASE("a layout with negative extents is refused") {
    channel_observer<min_max> o(3);
    const std::vector<float> x(24);
    CHECK_THROWS_AS(o.observe(x, channel_layout{-2, 3, -4}), error);
    CHECK_THROWS_WITH(channel_observer<min_max>(-1), contains_text("channels"));
}

TEST_CASE("a histogram that was moved from is refused until it is assigned to") {
    const std::vector<float> x{1.0f, 2.0f, 3.0f};
    histogram h, other;
    h.observe(x);
    const histogram taken = std::move(h);
    CHECK_THROWS_WITH(h.observe(x), contains_text("histogram.observe: the histogram was moved from"));
    CHECK_THROWS_WITH(h.merge(taken), contains_text("histogram.merge: the histogram was moved from"));
    CHECK_THROWS_WITH(other.merge(h), contains_text("histogram.merge: the histogram was moved from"));
    CHECK_THROWS_WITH(h.view(), contains_text("histogram.view: the histogram was moved from"));
    CHECK_THROWS_WITH(h.quantile(0.5), contains_text("moved from"));
    CHECK_THROWS_AS(histogram::restore(h.statistics()), error);
    CHECK(other.finite() == 0);
    h = taken;
    h.observe(x);
    CHECK(h.finite() == 6);

    percentile p(90.0);
    p.observe(x);
    percentile kept = std::move(p);
    CHECK_THROWS_WITH(p.observe(x), contains_text("moved from"));
    CHECK_THROWS_WITH(p.merge(kept), contains_text("moved from"));
    CHECK_THROWS_WITH(kept.merge(p), contains_text("moved from"));
    CHECK_THROWS_WITH(p.range(), contains_text("moved from"));
    CHECK(kept.finite() == 3);
}

namespace {
template <class O> void check_null(O o, const char* text) {
    CHECK_THROWS_WITH(o.observe(std::span<const float>(static_cast<const float*>(nullptr), 5)), contains_text(text));
    CHECK_NOTHROW(o.observe({}));
    CHECK(o.nonfinite() == 0);
    CHECK(o.range().empty());
}
} // namespace

TEST_CASE("observers refuse values at null") {
    check_null(min_max{}, "min_max.observe: x is null");
    check_null(abs_max{}, "abs_max.observe: x is null");
    check_null(moving_average{}, "moving_average.observe: x is null");
    check_null(mean_sigma{}, "mean_sigma.observe: x is null");
    check_null(histogram{}, "histogram.observe: x is null");
    check_null(percentile{}, "histogram.observe: x is null");
    const std::span<const float> null(static_cast<const float*>(nullptr), 6);
    channel_observer<min_max> o(3);
    for (const channel_layout& l : {channel_layout{1, 3, 2}, channel_layout{2, 3, 1}, channel_layout{2, 3, 1, 1, 1, 1}})
        CHECK_THROWS_WITH(o.observe(null, l), contains_text("channel_observer.observe: x is null"));
}
