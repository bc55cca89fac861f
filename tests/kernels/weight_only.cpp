// SPDX-License-Identifier: Apache-2.0
//
// Products with group-wise weights against ref/weight_only.hpp, bit for bit, on every instruction
// set: shapes, groups, formats of the scales, extreme values, threads, guard pages, bad input.
#include "../catch.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include <notch/kernels/weight_only.hpp>
#include <notch/ref/quantize.hpp>
#include <notch/ref/weight_only.hpp>
#include <notch/scheme/granularity.hpp>
#include <notch/scheme/range.hpp>

#include "../guard_page.hpp"
#include "team.hpp"

using namespace notch;

namespace {

/// The same bits, or both NaN.
bool same(float a, float b) {
    return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

enum class fill { random, extreme_codes, wild };

float random_float(std::mt19937& g, fill f) {
    if (f == fill::wild) {
        if (g() % 97 == 0) return std::numeric_limits<float>::infinity() * (g() % 2 ? 1.0f : -1.0f);
        if (g() % 97 == 0) return std::numeric_limits<float>::quiet_NaN();
        // Any exponent: products overflow, and sums of subnormal numbers appear.
        return std::ldexp(static_cast<float>(static_cast<int>(g() % 20001) - 10000), static_cast<int>(g() % 260) - 145);
    }
    return static_cast<float>(static_cast<int>(g() % 2000001) - 1000000) * 1e-5f;
}

struct weights {
    index_t n, k, group, groups;
    int bits;
    std::vector<std::int8_t> codes, zeros;
    std::vector<float> scales, bias;
    packed_group_weights packed;
};

weights make_weights(std::mt19937& g, index_t n, index_t k, index_t group, int bits, bool zero, bool bias,
                     scale_format format, fill f) {
    weights w{n, k, group, (k + group - 1) / group, bits, {}, {}, {}, {}, {}};
    const int range = bits == 4 ? 16 : 256;
    const auto code = [&] {
        return static_cast<std::int8_t>(f == fill::extreme_codes
                                            ? (g() % 2 ? -range / 2 : range / 2 - 1)
                                            : static_cast<int>(g() % static_cast<unsigned>(range)) - range / 2);
    };
    for (index_t i = 0; i < n * k; ++i) w.codes.push_back(code());
    for (index_t i = 0; i < n * w.groups; ++i) {
        // The reference gets the scales as they are stored.
        const float s = random_float(g, fill::random) * 0.01f;
        w.scales.push_back(format == scale_format::f32    ? s
                           : format == scale_format::bf16 ? from_bfloat16(to_bfloat16(s))
                                                          : from_float16(to_float16(s)));
        if (zero) w.zeros.push_back(code());
    }
    if (bias)
        for (index_t i = 0; i < n; ++i) w.bias.push_back(random_float(g, fill::random));
    w.packed = pack_groups({w.codes.data(), n, k}, bits, group, w.scales, w.zeros, format);
    return w;
}

void check(std::mt19937& g, const weights& w, index_t m, fill f, isa i, index_t threads) {
    const index_t n = w.n, k = w.k, ldx = k + static_cast<index_t>(g() % 3), ldy = n + static_cast<index_t>(g() % 3);
    INFO(to_string(i) << " " << m << "x" << n << "x" << k << " group " << w.group << " bits " << w.bits << " zero "
                      << !w.zeros.empty() << " format " << static_cast<int>(w.packed.format) << " threads " << threads);
    const thread_team pool{threads};
    context ctx(i, pool);
    const auto x_size = m > 0 ? (m - 1) * ldx + k : 0, y_size = m > 0 && n > 0 ? (m - 1) * ldy + n : 0;
    guarded<float> x(x_size), y(y_size);
    for (float& v : x) v = random_float(g, f);
    std::vector<float> want(static_cast<std::size_t>(m * n));
    const matrix_view<float> yv(y.data(), m, n, ldy);
    const auto compare = [&](auto got) {
        index_t wrong = 0;
        for (index_t r = 0; r < m; ++r)
            for (index_t c = 0; c < n; ++c) wrong += !same(got(r, c), want[static_cast<std::size_t>(r * n + c)]);
        CHECK(wrong == 0);
        for (index_t r = 0; r + 1 < m; ++r)
            for (index_t c = n; c < ldy; ++c) REQUIRE(y[static_cast<std::size_t>(r * ldy + c)] == 77.0f); // the gaps
    };
    const auto from_y = [&](index_t r, index_t c) { return yv(r, c); };

    ref::weight_only({x.data(), m, k, ldx}, {w.codes.data(), n, k}, w.group, w.scales, w.zeros, w.bias,
                     {want.data(), m, n});
    for (float& v : y) v = 77.0f;
    gemm_weight_only(matrix_view<const float>(x.data(), m, k, ldx), w.packed, yv, w.bias, ctx);
    compare(from_y);

    // bfloat16 in and out
    guarded<bfloat16> half(x_size), half_y(y_size);
    for (std::size_t e = 0; e < x.size(); ++e) {
        half[e].bits = to_bfloat16(x[e]);
        x[e] = from_bfloat16(half[e].bits);
    }
    ref::weight_only({x.data(), m, k, ldx}, {w.codes.data(), n, k}, w.group, w.scales, w.zeros, w.bias,
                     {want.data(), m, n});
    for (float& v : want) v = from_bfloat16(to_bfloat16(v));
    gemm_weight_only(matrix_view<const bfloat16>(half.data(), m, k, ldx), w.packed,
                     matrix_view<bfloat16>(half_y.data(), m, n, ldy), w.bias, ctx);
    compare([&](index_t r, index_t c) { return from_bfloat16(half_y[static_cast<std::size_t>(r * ldy + c)].bits); });

    // 8-bit activations
    std::vector<std::byte> memory(static_cast<std::size_t>(gemm_group_a8_workspace_size(w.packed, m)));
    ctx.workspace = memory;
    guarded<std::int8_t> codes(x_size);
    for (auto& v : codes)
        v = static_cast<std::int8_t>(f == fill::extreme_codes ? (g() % 2 ? -128 : 127)
                                                              : static_cast<int>(g() % 256) - 128);
    std::vector<float> x_scales;
    const index_t x_scale_count = g() % 3 ? m : 1;
    for (index_t r = 0; r < x_scale_count; ++r) x_scales.push_back(0.001f * static_cast<float>(1 + g() % 1000));
    if (x_scales.empty()) x_scales.push_back(1.0f);
    ref::group_a8({codes.data(), m, k, ldx}, x_scales, {w.codes.data(), n, k}, w.group, w.scales, w.zeros, w.bias,
                  {want.data(), m, n});
    for (float& v : y) v = 77.0f;
    gemm_group_a8(matrix_view<const std::int8_t>(codes.data(), m, k, ldx), x_scales, w.packed, yv, w.bias, ctx);
    compare(from_y);

    // and quantized on the way in
    std::vector<std::int8_t> quantized(static_cast<std::size_t>(m * k));
    x_scales.resize(static_cast<std::size_t>(m));
    for (index_t r = 0; r < m; ++r) {
        const std::span<const float> row(x.data() + r * ldx, static_cast<std::size_t>(k));
        real_range range;
        for (float v : row)
            if (std::isfinite(v)) range = {std::min(range.min, v), std::max(range.max, v)};
        const quant_params p = params_from_range<symmetric<8>>(range);
        x_scales[static_cast<std::size_t>(r)] = p.scale;
        for (index_t c = 0; c < k; ++c) {
            const float v = row[static_cast<std::size_t>(c)];
            const double code = std::isnan(v) ? 0.0 : std::nearbyint(static_cast<double>(v / p.scale));
            quantized[static_cast<std::size_t>(r * k + c)] = static_cast<std::int8_t>(code < -127  ? -127
                                                                                      : code > 127 ? 127
                                                                                                   : code);
        }
    }
    if (m > 0) {
        ref::group_a8({quantized.data(), m, k}, x_scales, {w.codes.data(), n, k}, w.group, w.scales, w.zeros, w.bias,
                      {want.data(), m, n});
        for (float& v : y) v = 77.0f;
        gemm_group_a8_dynamic(matrix_view<const float>(x.data(), m, k, ldx), w.packed, yv, w.bias, ctx);
        compare(from_y);
    }
}

} // namespace

TEST_CASE("group-wise products equal the reference bit for bit on every instruction set") {
    std::mt19937 g(1);
    const index_t sizes[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 95, 100, 127, 128, 129, 200};
    const index_t group_sizes[] = {32, 64, 128, 96};
    const index_t thread_counts[] = {1, 2, 3, 7};
    for (int trial = 0; trial < 150; ++trial) {
        const index_t n = sizes[g() % 21], k = sizes[g() % 21] + (trial % 5 == 0 ? 256 : 0),
                      m = trial % 3 ? static_cast<index_t>(g() % 4) : static_cast<index_t>(g() % 19);
        const weights w =
            make_weights(g, n, k, group_sizes[trial % 4], trial % 2 ? 4 : 8, g() % 2 == 0, g() % 2 == 0,
                         static_cast<scale_format>(g() % 3), trial % 7 == 0 ? fill::extreme_codes : fill::random);
        for (isa i : available_isas())
            check(g, w, m, trial % 7 == 0 ? fill::extreme_codes : fill::random, i, thread_counts[g() % 4]);
    }
}

TEST_CASE("group-wise products of more weights than the inner caches hold, fetched ahead, equal the reference") {
    std::mt19937 g(7);
    for (int bits : {4, 8})
        for (scale_format format : {scale_format::f32, scale_format::f16}) {
            const weights w = make_weights(g, 536, 4200, 64, bits, bits == 4, true, format, fill::random);
            REQUIRE(w.packed.bytes() > index_t{1} << 20);
            for (isa i : available_isas()) check(g, w, 1, fill::random, i, bits == 4 ? 1 : 3);
        }
}

TEST_CASE("group-wise products of infinities, NaN, subnormal and overflowing values equal the reference") {
    std::mt19937 g(2);
    for (int trial = 0; trial < 40; ++trial) {
        const weights w = make_weights(g, 1 + static_cast<index_t>(g() % 40), 1 + static_cast<index_t>(g() % 200), 32,
                                       trial % 2 ? 4 : 8, trial % 3 == 0, true, scale_format::f32, fill::random);
        for (isa i : available_isas()) check(g, w, 1 + trial % 3, fill::wild, i, 1);
    }
}

TEST_CASE("the longest group of extreme codes stays inside int32") {
    std::mt19937 g(3);
    for (int bits : {4, 8}) {
        weights w = make_weights(g, 3, 32768 + 5, 32768, bits, true, false, scale_format::f32, fill::random);
        for (auto& c : w.codes) c = static_cast<std::int8_t>(bits == 4 ? 7 : 127);
        for (auto& z : w.zeros) z = static_cast<std::int8_t>(bits == 4 ? -8 : -128);
        w.packed = pack_groups({w.codes.data(), 3, w.k}, bits, w.group, w.scales, w.zeros);
        const std::vector<std::int8_t> x(static_cast<std::size_t>(w.k), -128);
        const std::vector<float> one{1.0f};
        std::vector<float> want(3), y(3);
        ref::group_a8({x.data(), 1, w.k}, one, {w.codes.data(), 3, w.k}, w.group, w.scales, w.zeros, {},
                      {want.data(), 1, 3});
        std::vector<std::byte> memory(static_cast<std::size_t>(gemm_group_a8_workspace_size(w.packed, 1)));
        for (isa i : available_isas()) {
            gemm_group_a8(matrix_view<const std::int8_t>(x.data(), 1, w.k), one, w.packed,
                          matrix_view<float>(y.data(), 1, 3), {}, context(i, {}, memory));
            for (std::size_t c = 0; c < 3; ++c) CHECK(same(y[c], want[c]));
        }
    }
}

TEST_CASE("the reference of group-wise products, worked out by hand") {
    // Two groups of 32 and 1: (1 * 3 + 2 * -8) * 0.5 + (4 * (7 - 1)) * 2 + 10, with zero_points 0 and 1.
    std::vector<std::int8_t> codes(33, 0);
    codes[0] = 3;
    codes[31] = -8;
    codes[32] = 7;
    std::vector<float> x(33, 0.0f);
    x[0] = 1;
    x[31] = 2;
    x[32] = 4;
    const std::vector<float> scales{0.5f, 2.0f}, bias{10.0f};
    const std::vector<std::int8_t> zeros{0, 1};
    float y = 0;
    ref::weight_only({x.data(), 1, 33}, {codes.data(), 1, 33}, 32, scales, zeros, bias, {&y, 1, 1});
    CHECK(y == -6.5f + 48.0f + 10.0f);
    std::vector<std::int8_t> xc(33, 0);
    xc[0] = 1;
    xc[31] = 2;
    xc[32] = 4;
    const std::vector<float> x_scale{0.25f};
    ref::group_a8({xc.data(), 1, 33}, x_scale, {codes.data(), 1, 33}, 32, scales, zeros, bias, {&y, 1, 1});
    CHECK(y == (-6.5f + 48.0f) * 0.25f + 10.0f);
    // A sum that rounds: fma keeps the product 3 * (1 + 2^-23) whole, 2^24 + it rounds once.
    std::vector<std::int8_t> two(32, 0);
    two[0] = 1;
    two[1] = 3;
    std::vector<float> big(32, 0.0f);
    big[0] = 16777216.0f;
    big[1] = 1.0f + 1.1920929e-7f;
    const std::vector<float> one{1.0f};
    ref::weight_only({big.data(), 1, 32}, {two.data(), 1, 32}, 32, one, {}, {}, {&y, 1, 1});
    CHECK(y == 16777220.0f); // 16777219.0000004 rounds up; with the product rounded to 3 first: a tie, also ...220
    big[1] = 1.0f - 5.9604645e-8f;
    ref::weight_only({big.data(), 1, 32}, {two.data(), 1, 32}, 32, one, {}, {}, {&y, 1, 1});
    CHECK(y == 16777218.0f); // 2.9999998 whole: below the tie; rounded to 3 it would be 16777220
}

TEST_CASE("packing and products with group-wise weights refuse bad input") {
    const std::vector<std::int8_t> codes(2 * 40, 3);
    std::vector<float> scales(4, 0.5f);
    const matrix_view<const std::int8_t> v(codes.data(), 2, 40);
    REQUIRE_THROWS_WITH(pack_groups(v, 5, 32, scales), contains_text("bits is 5"));
    REQUIRE_THROWS_WITH(pack_groups(v, 4, 48, scales), contains_text("group is 48"));
    REQUIRE_THROWS_WITH(pack_groups(v, 4, 0, scales), contains_text("group is 0"));
    REQUIRE_THROWS_WITH(pack_groups(v, 4, 65536, scales), contains_text("group is 65536"));
    REQUIRE_THROWS_WITH(pack_groups(v, 4, 64, scales), contains_text("the number of scales is 4, expected 2"));
    const std::vector<std::int8_t> zeros(3, 0);
    REQUIRE_THROWS_WITH(pack_groups(v, 4, 32, scales, zeros), contains_text("the number of zero_points is 3"));
    const std::vector<std::int8_t> far(4, 8);
    REQUIRE_THROWS_WITH(pack_groups(v, 4, 32, scales, far), contains_text("zero_point 8"));
    const std::vector<std::int8_t> nine(80, 9);
    REQUIRE_THROWS_WITH(pack_groups({nine.data(), 2, 40}, 4, 32, scales),
                        contains_text("code 9 of output 0 is not in -8..7"));
    scales[3] = std::numeric_limits<float>::infinity();
    REQUIRE_THROWS_WITH(pack_groups(v, 4, 32, scales), contains_text("of output 1, group 1 is not finite"));
    scales[3] = 1e6f;
    REQUIRE_THROWS_WITH(pack_groups(v, 4, 32, scales, {}, scale_format::f16), contains_text("overflows"));
    scales[3] = 0.5f;
    auto w = pack_groups(v, 4, 32, scales);
    const std::vector<float> x(80), bias(3), x_scales{1.0f, 0.0f}, x_scale{1.0f};
    const std::vector<std::int8_t> xc(80);
    std::vector<float> y(4);
    const matrix_view<const float> xv(x.data(), 2, 40);
    const matrix_view<const std::int8_t> xcv(xc.data(), 2, 40);
    const matrix_view<float> yv(y.data(), 2, 2);
    REQUIRE_THROWS_WITH(gemm_weight_only(matrix_view<const float>(x.data(), 2, 39), w, yv),
                        contains_text("columns of x is 39"));
    REQUIRE_THROWS_WITH(gemm_weight_only(xv, w, matrix_view<float>(y.data(), 2, 1)),
                        contains_text("columns of y is 1"));
    REQUIRE_THROWS_WITH(gemm_weight_only(xv, w, yv, bias), contains_text("the number of biases is 3"));
    REQUIRE_THROWS_WITH(gemm_group_a8(xcv, x_scales, w, yv), contains_text("x_scales is 0"));
    REQUIRE_THROWS_WITH(gemm_group_a8(xcv, x_scale, w, yv), contains_text("gemm_group_a8_workspace_size"));
    REQUIRE_THROWS_WITH(gemm_group_a8_dynamic(xv, w, yv), contains_text("gemm_group_a8_dynamic: the workspace"));
    REQUIRE_THROWS_WITH(gemm_group_a8_dynamic(xv, w, yv), contains_text("ask gemm_group_a8_workspace_size"));
    const auto moved = std::move(w);
    REQUIRE_THROWS_WITH(gemm_weight_only(xv, w, yv), contains_text("moved from"));
    gemm_weight_only(xv, moved, yv);
    // Nothing to do: no rows, no outputs, no inputs.
    const auto none = pack_groups({nullptr, 0, 40}, 4, 32, {});
    gemm_weight_only(xv, none, matrix_view<float>(nullptr, 2, 0));
    const auto empty = pack_groups({nullptr, 2, 0}, 8, 32, {});
    y.assign(4, 5.0f);
    gemm_weight_only(matrix_view<const float>(nullptr, 2, 0), empty, yv);
    for (float e : y) CHECK(e == 0.0f);
}

TEST_CASE("the granularity per_group is that of the packed kernel: layout, codes and order of parameters") {
    const index_t n = 5, k = 70, m = 3; // groups of 32, 32 and 6
    std::mt19937 g(4);
    std::vector<float> w(5 * 70), x(3 * 70);
    for (float& v : w) v = static_cast<float>(static_cast<int>(g() % 2001) - 1000) / 1000.0f;
    for (float& v : x) v = static_cast<float>(static_cast<int>(g() % 2001) - 1000) / 1000.0f;
    using granularity = per_group<32>;
    using range = symmetric<4>;
    const channel_layout layout = layout_of<granularity>(std::vector<index_t>{n, k});
    std::vector<real_range> seen(static_cast<std::size_t>(layout.count()));
    for (std::size_t i = 0; i < w.size(); ++i) {
        real_range& r = seen[static_cast<std::size_t>(layout.index_of(static_cast<index_t>(i)))];
        r = {std::min(r.min, w[i]), std::max(r.max, w[i])};
    }
    std::vector<quant_params> params;
    std::vector<float> scales;
    for (const real_range& r : seen) {
        params.push_back(params_from_range<range>(r));
        scales.push_back(params.back().scale);
    }
    std::vector<std::int8_t> codes(w.size());
    ref::quantize(std::span<const float>(w), layout, params, {range::qmin, range::qmax}, std::span(codes));
    const auto packed = pack_groups({codes.data(), n, k}, range::bits, granularity::size, scales);
    std::vector<float> y(15), values(w.size());
    gemm_weight_only(matrix_view<const float>(x.data(), m, k), packed, matrix_view<float>(y.data(), m, n));
    ref::dequantize(std::span<const std::int8_t>(codes), layout, params, std::span(values));
    for (std::size_t i = 0; i < 3; ++i)
        for (std::size_t j = 0; j < 5; ++j) {
            double sum = 0, size = 0;
            for (std::size_t c = 0; c < 70; ++c) {
                const double product = static_cast<double>(x[i * 70 + c]) * static_cast<double>(values[j * 70 + c]);
                sum += product;
                size += std::fabs(product);
            }
            // The bound of docs/numerics.md; a scale in the wrong place is off by far more.
            CHECK(std::fabs(static_cast<double>(y[i * 5 + j]) - sum) <= 132 * 0x1p-24 * size);
        }
}
