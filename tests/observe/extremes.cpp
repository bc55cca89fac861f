// SPDX-License-Identifier: Apache-2.0
#include "../catch.hpp"

#include <cfloat>
#include <cmath>
#include <vector>

#include <notch/observe/min_max.hpp>
#include <notch/observe/moving_average.hpp>

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
