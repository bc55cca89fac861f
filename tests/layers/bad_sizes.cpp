// SPDX-License-Identifier: Apache-2.0
//
// Sizes that do not fit are refused before anything is read or written. Every wrong view lies in
// memory large enough for a mistake, so that a missing check fails the test instead of crashing.
#include "../catch.hpp"

#include <random>
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
    CHECK_THROWS_AS(frozen.forward(in, nhwc_view<float>(memory.data(), 3, 1, 1, 4), context(std::span<std::byte>(workspace).first(8))), error);
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
            for (index_t i = 0; i < y.size(); ++i) sum += static_cast<double>(y.values[i]) * static_cast<double>(r[static_cast<std::size_t>(i)]);
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
            CHECK(static_cast<double>(dx[static_cast<std::size_t>(i)]) == Approx((up - down) / 2e-3).epsilon(0.01).margin(2e-3));
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
