// SPDX-License-Identifier: Apache-2.0
//
// Empty and huge extents, and views that are slices of larger images.
#include "../catch.hpp"

#include <limits>
#include <random>
#include <vector>

#include <notch/kernels/conv.hpp>
#include <notch/kernels/depthwise.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/kernels/pool.hpp>
#include <notch/kernels/quantize.hpp>
#include <notch/ref/conv.hpp>
#include <notch/ref/pool.hpp>

using namespace notch;

TEST_CASE("gemm with nothing to multiply gives the bias; with nothing to write, nothing") {
    const packed_weights none = pack({nullptr, 3, 0});
    const std::vector<std::int32_t> bias{5, -6, 7};
    for (isa i : available_isas()) {
        std::vector<std::int32_t> y(15);
        gemm(matrix_view<const std::uint8_t>(nullptr, 5, 0), none,
             make_epilogue(none, stage::bias{bias}, stage::accumulators{9}), matrix_view<std::int32_t>(y.data(), 5, 3),
             context(i));
        for (std::size_t j = 0; j < y.size(); ++j) CHECK(y[j] == bias[j % 3]);
    }
    const packed_weights flat = pack({nullptr, 0, 4});
    const std::vector<std::uint8_t> x(8);
    gemm(matrix_view<const std::uint8_t>(x.data(), 2, 4), flat, make_epilogue(flat, stage::accumulators{}),
         matrix_view<std::int32_t>(nullptr, 2, 0));
}

TEST_CASE("the longest K that fits int32 is exact with saturated codes, one more is refused") {
    const index_t k = 65793; // 255 * 128 * k < 2^31
    const std::vector<std::uint8_t> x(static_cast<std::size_t>(2 * k), 255);
    const std::vector<std::int8_t> w(static_cast<std::size_t>(k + 1), -128);
    const packed_weights p = pack({w.data(), 1, k});
    for (isa i : available_isas()) {
        std::vector<std::int32_t> y(2);
        gemm(matrix_view<const std::uint8_t>(x.data(), 2, k), p, make_epilogue(p, stage::accumulators{}),
             matrix_view<std::int32_t>(y.data(), 2, 1), context(i));
        CHECK(y[0] == -255 * 128 * 65793);
        CHECK(y[1] == y[0]);
    }
    CHECK_THROWS_WITH(pack({w.data(), 1, k + 1}), contains_text("K = 65794"));
}

TEST_CASE("a pointwise convolution with the longest groups of signed codes") {
    // Joined, the two groups would be longer than any single product.
    const index_t channels = 70000;
    std::mt19937 g(23);
    std::vector<std::int8_t> x(static_cast<std::size_t>(7 * channels)), w(static_cast<std::size_t>(channels));
    for (auto& v : x) v = static_cast<std::int8_t>(g());
    for (auto& v : w) v = static_cast<std::int8_t>(g());
    const packed_weights p = pack_conv2d(w, 2, channels, window{}, 2);
    const auto ep = make_epilogue(p, stage::s8_input{}, stage::accumulators{-3});
    for (isa i : available_isas())
        for (index_t pixels : {1, 7}) {
            std::vector<std::int32_t> y(14);
            conv2d(nhwc_view<const std::int8_t>(x.data(), 1, 1, pixels, channels), p, ep,
                   nhwc_view<std::int32_t>(y.data(), 1, 1, pixels, 2), context(i));
            for (index_t at = 0; at < 2 * pixels; ++at) {
                const index_t half = channels / 2, from = at * half, row = at % 2 * half;
                std::int32_t want = 0;
                for (index_t c = 0; c < half; ++c)
                    want += (x[static_cast<std::size_t>(from + c)] + 3) * w[static_cast<std::size_t>(row + c)];
                CHECK(y[static_cast<std::size_t>(at)] == want);
            }
        }
    CHECK(pack_conv2d({}, 0, index_t{1} << 40, window{}, index_t{1} << 40).n == 0);
}

TEST_CASE("workspace sizes of absurd images are refused, not wrapped around") {
    const std::vector<std::int8_t> w(9);
    const window s = window::square(3, 1, 1);
    const packed_weights p = pack_conv2d(w, 1, 1, s);
    const packed_depthwise d = pack_depthwise(w, 1, s);
    const index_t top = std::numeric_limits<index_t>::max();
    for (index_t h : {top, top / 2, index_t{1} << 40})
        for (index_t width : {top, index_t{1} << 40}) {
            CHECK_THROWS_AS(conv2d_workspace_size(p, 1, h, width), error);
            CHECK_THROWS_AS(depthwise_workspace_size(d, 1, h, width), error);
        }
    CHECK_THROWS_WITH(conv2d_workspace_size(p, 1, -1, 5), contains_text("extent"));
    CHECK_THROWS_WITH(depthwise_workspace_size(d, -1, 5, 5), contains_text("extent"));
    const packed_weights pointwise = pack_conv2d(std::span(w).first(1), 1, 1, window{});
    CHECK_THROWS_WITH(conv2d_workspace_size(pointwise, 1, -1, 5), contains_text("extent"));
}

TEST_CASE("slices: outputs and inputs that lie inside larger images, the rest untouched") {
    std::mt19937 g(1);
    for (isa i : available_isas())
        for (index_t c : {1, 3, 16, 33, 64, 65, 130})
            for (index_t kernel = 1; kernel <= 5; ++kernel) {
                window s = window::square(kernel, 1 + kernel % 2, kernel / 2);
                s.pad_left = kernel % 3;
                const index_t n = 2, h = 6, w = 5, oh = s.out_h(h), ow = s.out_w(w), pc = c + 3, qc = c + 2;
                std::vector<std::uint8_t> x(static_cast<std::size_t>(n * h * w * pc));
                for (auto& v : x) v = static_cast<std::uint8_t>(g());
                const nhwc_view<const std::uint8_t> in(x.data() + 1, n, h, w, c, h * w * pc, w * pc, pc);
                std::vector<std::int8_t> weights(static_cast<std::size_t>(kernel * kernel * c));
                for (auto& v : weights) v = static_cast<std::int8_t>(g());
                context ctx(i);
                const packed_depthwise d = pack_depthwise(weights, c, s);
                std::vector<std::byte> memory(
                    static_cast<std::size_t>(std::max(depthwise_workspace_size(d, n, h, w), pool_workspace_size(s))));
                ctx.workspace = memory;
                std::vector<std::int32_t> y(static_cast<std::size_t>(n * oh * ow * qc), -7), want = y;
                const auto at = [&](auto* p) { return nhwc_view(p + 1, n, oh, ow, c, oh * ow * qc, ow * qc, qc); };
                ref::depthwise<std::uint8_t>(in, 77, weights, s, {}, at(want.data()));
                depthwise(in, d, make_epilogue(d, stage::accumulators{77}), at(y.data()), ctx);
                INFO(to_string(i) << " c " << c << " kernel " << kernel);
                CHECK(y == want);
                std::vector<std::uint8_t> pooled(y.size(), 9), want_pooled = pooled;
                ref::max_pool<std::uint8_t>(in, s, at(want_pooled.data()));
                max_pool(in, s, at(pooled.data()), ctx);
                CHECK(pooled == want_pooled);
                const quant_params a{0.1f, 3}, b{0.07f, 200};
                ref::average_pool<std::uint8_t>(in, a, s, b, {0, 255}, at(want_pooled.data()));
                average_pool(in, a, s, b, at(pooled.data()), ctx);
                CHECK(pooled == want_pooled);
            }
}

TEST_CASE("a pointwise convolution of a slice with few channels needs no workspace") {
    const std::vector<std::uint8_t> x(3 * 4 * 5, 7); // 3 x 4 pixels of 5 bytes, 2 of them channels
    const std::vector<std::int8_t> w(3 * 2, 2);
    const notch::packed_weights p = notch::pack_conv2d(w, 3, 2, notch::window::square(1));
    REQUIRE(notch::conv2d_workspace_size(p, 1, 3, 4) == 0);
    const auto ep = notch::make_epilogue(p, notch::stage::accumulators{1});
    for (notch::isa i : notch::available_isas()) {
        std::vector<std::int32_t> y(3 * 4 * 3);
        notch::conv2d(notch::nhwc_view<const std::uint8_t>(x.data(), 1, 3, 4, 2, 60, 20, 5), p, ep,
                      notch::nhwc_view<std::int32_t>(y.data(), 1, 3, 4, 3), notch::context(i));
        for (std::int32_t v : y) CHECK(v == 2 * (7 - 1) * 2);
    }
}

TEST_CASE("requantize to float masks by the bounds, and calls the functor") {
    const std::vector<std::int8_t> w(20, 1);
    const notch::packed_weights p = notch::pack({w.data(), 20, 1});
    const std::vector<float> scale{0.5f};
    std::vector<std::int32_t> acc(40);
    for (int i = 0; i < 40; ++i) acc[static_cast<std::size_t>(i)] = i - 20; // values -10 .. 9.5
    for (notch::isa i : notch::available_isas()) {
        std::vector<float> y(40);
        std::vector<std::uint8_t> mask(40);
        int seen = 0;
        const auto count = [&](const notch::tile<float>& t) { seen += static_cast<int>(t.rows * t.cols); };
        const auto ep = notch::make_epilogue(p, notch::stage::dequantize{notch::quant_params{1.0f, 0}, scale},
                                             notch::stage::relu6{}, notch::stage::on_tile{count});
        notch::requantize(notch::matrix_view<const std::int32_t>(acc.data(), 2, 20), ep,
                          notch::matrix_view<float>(y.data(), 2, 20), mask, notch::context(i));
        CHECK(seen == 40);
        for (std::size_t k = 0; k < 40; ++k) CHECK(mask[k] == (acc[k] > 0 && acc[k] <= 12 ? 1 : 0));
    }
}
