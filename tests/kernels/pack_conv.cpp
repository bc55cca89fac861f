// SPDX-License-Identifier: Apache-2.0
//
// The packed weights of convolutions byte for byte, from where the layout says each byte comes from.
#include "../catch.hpp"

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include <notch/kernels/pack_conv.hpp>

using namespace notch;

TEST_CASE("pack_conv2d: every byte, sum and pair of convolutions without groups") {
    std::mt19937 g(3);
    int with_ends = 0, safe = 0, cases = 0;
    for (index_t out : {1, 3, 16, 17, 40})
        for (index_t channels : {1, 2, 3, 4, 7, 16, 21})
            for (const auto& [kernel, dilation] : {std::pair<int, int>{1, 1}, {2, 1}, {3, 1}, {3, 2}, {5, 1}}) {
                window s = window::square(kernel, 1, 0);
                s.dilation_h = s.dilation_w = dilation;
                const index_t k = kernel * kernel * channels;
                std::vector<std::int8_t> w(static_cast<std::size_t>(out * k));
                const int bound = g() % 2 ? 64 : 127; // 64 + 64 is safe, and never exceeded
                for (std::int8_t& v : w)
                    v = static_cast<std::int8_t>(static_cast<int>(g() % (2u * static_cast<unsigned>(bound) + 1)) -
                                                 bound);
                CAPTURE(out, channels, kernel, dilation, bound);
                const packed_weights p = pack_conv2d(w, out, channels, s);
                with_ends += p.joined_ends > 0;

                packed_weights expected = p;
                std::fill(expected.data.begin(), expected.data.end(), std::int8_t{0});
                const bool pairs_safe = detail::pack_block(
                    expected.data.data(), out, p.panel_stride() / 64, [&](index_t j, index_t byte) -> std::int8_t {
                        const auto from = detail::packed_byte_at(p, byte);
                        if (from.byte < 0) return 0;
                        return w[static_cast<std::size_t>(j * k + from.segment * p.segment_bytes + from.byte)];
                    });
                REQUIRE(std::equal(p.data.begin(), p.data.end(), expected.data.begin()));
                REQUIRE(p.pairs_safe == pairs_safe);
                safe += pairs_safe;
                ++cases;
                for (index_t j = 0; j < out; ++j) {
                    int all = 0, positive = 0, negative = 0;
                    for (index_t i = 0; i < k; ++i) {
                        const int v = w[static_cast<std::size_t>(j * k + i)];
                        all += v;
                        (v > 0 ? positive : negative) += v;
                    }
                    REQUIRE(p.sums.all[j] == all);
                    REQUIRE(p.sums.positive[j] == positive);
                    REQUIRE(p.sums.negative[j] == negative);
                }
            }
    REQUIRE(with_ends > 0);
    REQUIRE(safe > 0);
    REQUIRE(safe < cases);
}

TEST_CASE("pack_conv2d: pairs are safe up to a sum of 128 of one sign") {
    const auto safe = [](std::vector<std::int8_t> w) {
        const auto k = static_cast<index_t>(w.size());
        return pack_conv2d(w, 1, k, window{}).pairs_safe;
    };
    REQUIRE(safe({64, 64, -64, -64}));
    REQUIRE(safe({127, -128}));
    REQUIRE(safe({-128, 127, -128}));
    REQUIRE(safe({1, 127, 127})); // the third has a zero beside it
    REQUIRE(!safe({64, 65}));
    REQUIRE(!safe({-64, -65}));
    REQUIRE(!safe({0, 0, -128, -1}));
}

TEST_CASE("pack: every pair of weights, at every place of a group") {
    std::vector<std::int8_t> w(64);
    for (int a = -128; a < 128; ++a)
        for (int b = -128; b < 128; ++b) {
            const auto at = static_cast<std::size_t>(a + b + 256) % 32 * 2;
            w[at] = static_cast<std::int8_t>(a);
            w[at + 1] = static_cast<std::int8_t>(b);
            const int positive = std::max(a, 0) + std::max(b, 0), negative = std::min(a, 0) + std::min(b, 0);
            CAPTURE(a, b, at);
            REQUIRE(detail::are_pairs_safe(w) == (positive <= 128 && negative >= -128));
            w[at] = w[at + 1] = 0;
        }
}

TEST_CASE("pack: rows that lie apart, and those that zero points of 0 stand beside") {
    std::mt19937 g(6);
    for (index_t n : {1, 15, 16, 17, 40})
        for (index_t k : {1, 2, 3, 4, 7, 64, 65}) {
            const index_t stride = k + 5;
            std::vector<std::int8_t> apart(static_cast<std::size_t>(n * stride)), together;
            for (std::int8_t& v : apart) v = static_cast<std::int8_t>(g());
            for (index_t r = 0; r < n; ++r)
                for (index_t c = 0; c < k; ++c) together.push_back(apart[static_cast<std::size_t>(r * stride + c)]);
            const packed_weights p = pack(matrix_view<const std::int8_t>(apart.data(), n, k, stride));
            CAPTURE(n, k);
            REQUIRE(p.zero_points.empty());
            for (index_t r = 0; r < n; ++r) {
                int all = 0, positive = 0;
                for (index_t c = 0; c < k; ++c) {
                    const int v = together[static_cast<std::size_t>(r * k + c)];
                    REQUIRE(p.data[r / 16 * p.panel_stride() + c / 4 * 64 + r % 16 * 4 + c % 4] == v);
                    all += v;
                    positive += std::max(v, 0);
                }
                REQUIRE(p.sums.all[r] == all);
                REQUIRE(p.sums.positive[r] == positive);
                REQUIRE(p.sums.negative[r] == all - positive);
            }
            index_t weights = 0; // what no row fills is zero
            for (std::int8_t v : p.data) weights += v != 0;
            REQUIRE(weights == n * k - std::count(together.begin(), together.end(), 0));
            const std::int32_t zero = 0;
            const packed_weights q = pack(matrix_view<const std::int8_t>(together.data(), n, k), std::span(&zero, 1));
            REQUIRE(std::equal(p.data.begin(), p.data.end(), q.data.begin(), q.data.end()));
        }
}
