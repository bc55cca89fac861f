// SPDX-License-Identifier: Apache-2.0
//
// Half-quadratic quantization: the zero points of the authors' code, and what notch adds to it.
#include "../golden/golden.hpp"

#include <limits>

#include <notch/ptq/hqq.hpp>
#include <notch/ref/quantize.hpp>

using namespace notch;

TEST_CASE("hqq: zero points and codes of the authors' code, without its early stop") {
    const golden::numbers g("methods_numpy");
    std::vector<float> w = golden::sample(6 * 24, 7);
    for (float& v : w) v /= 8;
    for (std::size_t r = 0; r < 6; ++r) {
        const auto row = std::span<const float>(w).subspan(r * 24, 24);
        const auto scale = static_cast<float>(g["hqq.scale"][r]);
        const double zero = hqq_zero_point(row, scale, g["hqq.start"][r], {0, 7});
        CHECK(zero == Approx(g["hqq.zero"][r]).epsilon(1e-9));
        for (std::size_t c = 0; c < 24; ++c)
            CHECK(detail::hqq_code(row[c], static_cast<double>(scale), zero, {0, 7}) == g["hqq.codes"][r * 24 + c]);
    }
}

TEST_CASE("hqq: integer zero points, never a larger error than min-max, groups of any size") {
    std::vector<float> w = golden::sample(7 * 50, 11);
    using u3 = affine<3>;
    for (const index_t group : {1, 16, 50, 64}) {
        const index_t groups = (50 + group - 1) / group;
        std::vector<std::uint8_t> codes(350), plain(350);
        std::vector<quant_params> p(static_cast<std::size_t>(7 * groups));
        hqq<u3>({w.data(), 7, 50}, group, {codes.data(), 7, 50}, p);
        double ours = 0, theirs = 0;
        int moved = 0;
        for (index_t r = 0; r < 7; ++r)
            for (index_t c = 0; c < 50; ++c) {
                const auto at = static_cast<std::size_t>(r * 50 + c);
                const quant_params q = p[static_cast<std::size_t>(r * groups + c / group)];
                real_range seen;
                for (index_t k = c / group * group; k < std::min(c / group * group + group, index_t{50}); ++k) {
                    const float v = w[static_cast<std::size_t>(r * 50 + k)];
                    seen = {std::min(seen.min, v), std::max(seen.max, v)};
                }
                const quant_params m = params_from_range<u3>(seen);
                moved += q.scale != m.scale ? 1 : 0;
                CHECK(codes[at] == ref::quantize(w[at], q, {0, 7}));
                const auto error = [&](quant_params k) {
                    return std::pow(std::fabs(static_cast<double>(w[at]) -
                                              static_cast<double>(ref::dequantize(ref::quantize(w[at], k, {0, 7}), k))),
                                    0.7);
                };
                ours += error(q);
                theirs += error(m);
            }
        CAPTURE(group);
        CHECK(ours <= theirs * (1 + 1e-9));
        if (group == 1) CHECK(moved == 0); // exact already
        if (group == 16) CHECK(ours < 0.97 * theirs);
        if (group == 50) CHECK(ours < 0.97 * theirs);
    }
    const std::vector<float> zeros(8);
    std::vector<std::uint8_t> codes(8);
    quant_params p;
    hqq<u3>({zeros.data(), 1, 8}, 8, {codes.data(), 1, 8}, {&p, 1});
    for (std::uint8_t c : codes) CHECK(c == p.zero_point);
}

TEST_CASE("hqq: bad input") {
    std::vector<float> w(6, 1.0f);
    std::vector<std::uint8_t> codes(6);
    std::vector<quant_params> p(2);
    using u4 = affine<4>;
    const matrix_view<const float> weights(w.data(), 2, 3);
    const matrix_view<std::uint8_t> out(codes.data(), 2, 3);
    CHECK_THROWS_WITH(hqq<u4>(weights, 0, out, p), contains_text("group is 0"));
    CHECK_THROWS_WITH(hqq<u4>(weights, 2, out, p), contains_text("number of params"));
    CHECK_THROWS_WITH(hqq<u4>(weights, 3, out, p, {0.0}), contains_text("power 0"));
    CHECK_THROWS_WITH(hqq<u4>(weights, 3, out, p, {0.7, -1}), contains_text("beta -1"));
    CHECK_THROWS_WITH(hqq<u4>(weights, 3, out, p, {0.7, 1, 0.5}), contains_text("growth 0.5"));
    CHECK_THROWS_WITH(hqq_zero_point(w, 0.0f, 1, {0, 7}), contains_text("scale"));
    w[5] = std::numeric_limits<float>::infinity();
    CHECK_THROWS_WITH(hqq<u4>(weights, 3, out, p), contains_text("row 1 has the weight inf"));
}
