// SPDX-License-Identifier: Apache-2.0
//
// Every kernel, on every instruction set that this CPU has, against the scalar definitions in ref/,
// bit for bit: randomized shapes, edge sizes, extreme codes, one to three threads.
#include "../catch.hpp"
#include "team.hpp"

#include <cstdint>
#include <random>
#include <thread>
#include <vector>

#include <notch/notch.hpp>

using namespace notch;

namespace {

enum class fill { random, saturated, alternating, small };

/// Exactly n elements on the heap, so that a sanitizer sees any access outside.
template <class T> std::vector<T> codes(std::mt19937& g, index_t n, fill f) {
    std::vector<T> v(static_cast<std::size_t>(n));
    for (T& x : v) {
        const bool high = f == fill::saturated || (f == fill::alternating && g() % 2);
        if (f == fill::random)
            x = static_cast<T>(g());
        else if (f == fill::small)
            x = static_cast<T>(static_cast<int>(g() % 129) - (std::is_signed_v<T> ? 64 : 0));
        else if (std::is_signed_v<T>)
            x = static_cast<T>(high ? -128 : 127);
        else
            x = static_cast<T>(high ? 255 : 0);
    }
    return v;
}

std::vector<float> scales(std::mt19937& g, index_t n) {
    std::vector<float> v(static_cast<std::size_t>(n));
    for (float& x : v) x = 1e-4f * static_cast<float>(1 + g() % 1000);
    return v;
}
std::vector<std::int32_t> biases(std::mt19937& g, index_t n) {
    std::vector<std::int32_t> v(static_cast<std::size_t>(n));
    for (auto& x : v) x = static_cast<std::int32_t>(g() % 20001) - 10000;
    return v;
}
float multiplier(quant_params x, float w, quant_params y) {
    return static_cast<float>(static_cast<double>(x.scale) * static_cast<double>(w) / static_cast<double>(y.scale));
}

template <class T> index_t differences(const std::vector<T>& a, const std::vector<T>& b) {
    REQUIRE(a.size() == b.size());
    index_t n = 0;
    for (std::size_t i = 0; i < a.size(); ++i) n += a[i] != b[i];
    return n;
}

void check_gemm(std::mt19937& g, index_t m, index_t n, index_t k, fill xf, fill wf, isa i, index_t threads) {
    const index_t lda = k + static_cast<index_t>(g() % 3), ldc = n + static_cast<index_t>(g() % 3);
    const auto x = codes<std::uint8_t>(g, m > 0 ? (m - 1) * lda + k : 0, xf);
    const auto w = codes<std::int8_t>(g, n * k, wf);
    const auto b = biases(g, n);
    const auto ws = scales(g, g() % 3 ? n : 1);
    const quant_params xp{0.013f, static_cast<std::int32_t>(g() % 256)};
    const quant_params yp{0.004f * static_cast<float>(k + 1), static_cast<std::int32_t>(g() % 256)};
    const matrix_view<const std::uint8_t> xv(x.data(), m, k, lda);
    std::vector<std::int32_t> acc(static_cast<std::size_t>(m * n));
    ref::gemm<std::uint8_t>(xv, xp.zero_point, {w.data(), n, k}, b, {acc.data(), m, n});

    const packed_weights p = pack({w.data(), n, k});
    const thread_team threads_of{threads};
    const context ctx(i, threads_of);
    INFO(to_string(i) << " " << m << "x" << n << "x" << k << " threads " << threads);

    std::vector<std::int32_t> s32(acc.size());
    gemm(xv, p, make_epilogue(p, stage::bias{b}, stage::accumulators{xp.zero_point}),
         matrix_view<std::int32_t>(s32.data(), m, n), ctx);
    CHECK(differences(s32, acc) == 0);

    const auto index = [&](index_t r, index_t c) { return static_cast<std::size_t>(r * ldc + c); };
    const auto size = static_cast<std::size_t>(m > 0 ? (m - 1) * ldc + n : 0);
    const auto scale_of = [&](index_t c) { return ws[ws.size() == 1 ? 0 : static_cast<std::size_t>(c)]; };
    const auto check_codes = [&](auto ep, auto expected, auto zero) {
        using T = decltype(zero);
        std::vector<T> y(size, T(77)), want(size, T(77));
        for (index_t r = 0; r < m; ++r)
            for (index_t c = 0; c < n; ++c)
                want[index(r, c)] = static_cast<T>(expected(acc[static_cast<std::size_t>(r * n + c)], c));
        gemm(xv, p, ep, matrix_view<T>(y.data(), m, n, ldc), ctx);
        CHECK(differences(y, want) == 0); // the gaps between rows stay 77 as well
    };
    check_codes(
        make_epilogue(p, stage::bias{b}, stage::requantize{xp, ws, yp}),
        [&](std::int32_t a, index_t c) {
            return requantize_float(a, multiplier(xp, scale_of(c), yp), yp.zero_point, {0, 255});
        },
        std::uint8_t{});
    check_codes(
        make_epilogue(p, stage::bias{b}, stage::requantize{xp, ws, yp}, stage::relu{}),
        [&](std::int32_t a, index_t c) {
            return requantize_float(a, multiplier(xp, scale_of(c), yp), yp.zero_point, {yp.zero_point, 255});
        },
        std::uint8_t{});
    const quant_params sp{yp.scale, yp.zero_point - 128};
    check_codes(
        make_epilogue(p, stage::bias{b}, stage::requantize<affine_signed<8>>{xp, ws, sp}),
        [&](std::int32_t a, index_t c) {
            return requantize_float(a, multiplier(xp, scale_of(c), sp), sp.zero_point, {-128, 127});
        },
        std::int8_t{});
    // A multiplier so large that products exceed int32: the path that clamps as real numbers.
    const quant_params tiny{1e-9f, yp.zero_point};
    check_codes(
        make_epilogue(p, stage::bias{b}, stage::requantize{xp, ws, tiny}),
        [&](std::int32_t a, index_t c) {
            return requantize_float(a, multiplier(xp, scale_of(c), tiny), tiny.zero_point, {0, 255});
        },
        std::uint8_t{});
    const auto fixed = [&](index_t c) {
        return to_fixed_multiplier(static_cast<double>(xp.scale) * static_cast<double>(scale_of(c)) /
                                   static_cast<double>(yp.scale));
    };
    check_codes(
        make_epilogue(p, stage::bias{b}, stage::requantize_fixed{xp, ws, yp}),
        [&](std::int32_t a, index_t c) {
            return requantize_fixed_double(a, fixed(c), yp.zero_point, {0, 255});
        },
        std::uint8_t{});
    check_codes(
        make_epilogue(p, stage::bias{b},
                      stage::requantize_fixed{xp, ws, yp, requant_mode::fixed_point_single_rounding}),
        [&](std::int32_t a, index_t c) {
            return requantize_fixed_single(a, fixed(c), yp.zero_point, {0, 255});
        },
        std::uint8_t{});
    check_codes(
        make_epilogue(p, stage::bias{b}, stage::dequantize{xp, ws}, stage::clamp{-0.5f, 6.0f}),
        [&](std::int32_t a, index_t c) {
            const float v = static_cast<float>(a) *
                            static_cast<float>(static_cast<double>(xp.scale) * static_cast<double>(scale_of(c)));
            return v < -0.5f ? -0.5f : v > 6.0f ? 6.0f : v;
        },
        float{});
}

} // namespace

TEST_CASE("gemm equals the reference on every instruction set") {
    std::mt19937 g(1);
    const index_t edges[] = {1, 2, 3, 4, 5, 7, 8, 12, 13, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129};
    for (isa i : available_isas()) {
        for (int trial = 0; trial < 60; ++trial)
            check_gemm(g, static_cast<index_t>(g() % 18), static_cast<index_t>(g() % 18),
                       static_cast<index_t>(g() % 18), fill::random, fill::random, i, 1 + trial % 3);
        for (int trial = 0; trial < 40; ++trial)
            check_gemm(g, edges[g() % 12], edges[g() % 21], edges[g() % 21], fill::random,
                       trial % 2 ? fill::random : fill::small, i, 1 + trial % 3);
        check_gemm(g, 1, 3, 2049, fill::random, fill::random, i, 1); // deep and narrow
        check_gemm(g, 65, 1, 1000, fill::random, fill::random, i, 2);
    }
}

TEST_CASE("gemm with so short a K that weights stay in registers equals the reference") {
    std::mt19937 g(12);
    for (isa i : available_isas()) {
        for (index_t k : {16, 24, 32})
            for (index_t n : {16, 32, 48, 64, 80, 144})
                for (index_t m : {7, 8, 9, 203})
                    check_gemm(g, m, n, k, m == 9 ? fill::saturated : fill::random, fill::random, i, 1 + m % 3);
        check_gemm(g, 1000, 96, 16, fill::random, fill::random, i, 2); // several blocks of rows
    }
}

TEST_CASE("gemm of few rows, whose codes are cut into nibbles, equals the reference") {
    std::mt19937 g(13);
    for (isa i : available_isas()) {
        for (index_t m = 1; m <= 8; ++m)
            for (index_t k : {3, 31, 36, 100}) // eight quads are summed in 16 bits
                check_gemm(g, m, 16 * static_cast<index_t>(g() % 5) + m, k, k == 36 ? fill::saturated : fill::random,
                           k == 36 ? fill::saturated : fill::random, i, 1 + m % 3);
        for (index_t m = 1; m <= 3; ++m) { // more columns than are summed at a time, longer rows than are cut up
            check_gemm(g, m, 1024 + 17 * m, 13, fill::random, fill::random, i, 1);
            check_gemm(g, m, 20, 2047 + m, fill::random, fill::random, i, 1);
            check_gemm(g, m, 1025, 2050, fill::alternating, fill::alternating, i, m);
        }
    }
}

TEST_CASE("gemm is exact for extreme codes, where vpmaddubsw would saturate") {
    std::mt19937 g(2);
    for (isa i : available_isas())
        for (fill xf : {fill::saturated, fill::alternating})
            for (fill wf : {fill::saturated, fill::alternating, fill::small})
                for (index_t k : {1, 2, 4, 63, 64, 1024, 4096}) check_gemm(g, 5, 19, k, xf, wf, i, 1);
}

TEST_CASE("packing allows vpmaddubsw only where no pair can saturate") {
    const auto safe = [](std::initializer_list<int> w) {
        std::vector<std::int8_t> v;
        for (int x : w) v.push_back(static_cast<std::int8_t>(x));
        return pack({v.data(), 1, static_cast<index_t>(v.size())}).pairs_safe;
    };
    CHECK(safe({64, 64, -64, -64}));
    CHECK(safe({127, 1}));
    CHECK(safe({127, -128})); // the signs cancel: neither sum exceeds 128
    CHECK_FALSE(safe({127, 2}));
    CHECK_FALSE(safe({-128, -1}));
    CHECK(safe({1, 127, 127, 1})); // pairs are (0,1) and (2,3)
}

TEST_CASE("conv2d and depthwise equal the reference on every instruction set") {
    std::mt19937 g(3);
    for (isa i : available_isas())
        for (int trial = 0; trial < 150; ++trial) {
            window s;
            s.kernel_h = 1 + g() % (trial % 5 ? 3 : 6);
            s.kernel_w = 1 + g() % (trial % 5 ? 3 : 5);
            s.stride_h = 1 + g() % 2;
            s.stride_w = 1 + g() % 3;
            s.dilation_h = 1 + g() % 2;
            s.dilation_w = 1 + g() % 2;
            if (trial % 2) { // depthwise has a path of its own for these
                s.kernel_h = s.kernel_w = 3;
                s.stride_w = 1 + g() % 2;
                s.dilation_w = 1;
            }
            if (trial % 4) {
                s.pad_top = g() % 3;
                s.pad_left = g() % 3;
                s.pad_bottom = g() % 3;
                s.pad_right = g() % 3;
            }
            const index_t n = 1 + g() % 4, h = 1 + g() % 11, w = 1 + g() % 11;
            const index_t c = trial % 3 == 0   ? 1 + g() % 5
                              : trial % 3 == 1 ? 1 + g() % 130
                                               : 16 * (1 + g() % 5),
                          out = 1 + g() % 40;
            const index_t oh = s.out_h(h), ow = s.out_w(w), taps = s.kernel_h * s.kernel_w;
            const fill f = trial % 7 == 0 ? fill::saturated : fill::random;
            // A slice of a wider image, sometimes: pixels lie further apart than channels.
            const index_t gap = g() % 3 ? 0 : 3, pixel = c + gap;
            const auto x = codes<std::uint8_t>(g, n * h * w * pixel, f);
            const nhwc_view<const std::uint8_t> xv(x.data(), n, h, w, c, h * w * pixel, w * pixel, pixel);
            const quant_params xp{0.02f, static_cast<std::int32_t>(g() % 256)},
                yp{0.9f, static_cast<std::int32_t>(g() % 256)};
            const thread_team threads_of{1 + trial % 3};
            context ctx(i, threads_of);
            INFO(to_string(i) << " n" << n << " h" << h << " w" << w << " c" << c << " out" << out << " k" << s.kernel_h
                              << "x" << s.kernel_w << " pad " << s.pad_top << s.pad_left << s.pad_bottom << s.pad_right
                              << " threads " << ctx.executor.concurrency());
            const auto check = [&](const auto& packed, index_t channels, const std::vector<std::int32_t>& acc,
                                   const std::vector<std::int32_t>& b, index_t workspace, auto run) {
                std::vector<std::byte> memory(static_cast<std::size_t>(workspace));
                ctx.workspace = memory;
                std::vector<std::int32_t> s32(acc.size());
                run(make_epilogue(packed, stage::bias{b}, stage::accumulators{xp.zero_point}),
                    nhwc_view<std::int32_t>(s32.data(), n, oh, ow, channels));
                CHECK(differences(s32, acc) == 0);
                const auto ws = scales(g, channels);
                std::vector<std::uint8_t> y(acc.size()), want(acc.size());
                for (std::size_t k = 0; k < acc.size(); ++k)
                    want[k] = static_cast<std::uint8_t>(
                        requantize_float(acc[k], multiplier(xp, ws[k % static_cast<std::size_t>(channels)], yp),
                                         yp.zero_point, {0, 255}));
                run(make_epilogue(packed, stage::bias{b}, stage::requantize{xp, ws, yp}),
                    nhwc_view<std::uint8_t>(y.data(), n, oh, ow, channels));
                CHECK(differences(y, want) == 0);
                std::vector<float> real(acc.size()), want_real(acc.size());
                for (std::size_t k = 0; k < acc.size(); ++k) {
                    const float v = static_cast<float>(acc[k]) *
                                    static_cast<float>(static_cast<double>(xp.scale) *
                                                       static_cast<double>(ws[k % static_cast<std::size_t>(channels)]));
                    want_real[k] = v > 0.0f ? v : 0.0f;
                }
                run(make_epilogue(packed, stage::bias{b}, stage::dequantize{xp, ws}, stage::relu{}),
                    nhwc_view<float>(real.data(), n, oh, ow, channels));
                CHECK(differences(real, want_real) == 0);
            };
            {
                const auto weights = codes<std::int8_t>(g, out * taps * c, f);
                const auto b = biases(g, out);
                std::vector<std::int32_t> acc(static_cast<std::size_t>(n * oh * ow * out));
                ref::conv2d<std::uint8_t>(xv, xp.zero_point, weights, s, b, {acc.data(), n, oh, ow, out});
                const packed_weights p = pack_conv2d(weights, out, c, s);
                check(p, out, acc, b, conv2d_workspace_size(p, n, h, w, ctx),
                      [&](const auto& ep, auto y) { conv2d(xv, p, ep, y, ctx); });
            }
            {
                const auto weights = codes<std::int8_t>(g, taps * c, f);
                const auto b = biases(g, c);
                std::vector<std::int32_t> acc(static_cast<std::size_t>(n * oh * ow * c));
                ref::depthwise<std::uint8_t>(xv, xp.zero_point, weights, s, b, {acc.data(), n, oh, ow, c});
                const packed_depthwise p = pack_depthwise(weights, c, s);
                check(p, c, acc, b, depthwise_workspace_size(p, n, h, w, ctx),
                      [&](const auto& ep, auto y) { depthwise(xv, p, ep, y, ctx); });
            }
        }
}

TEST_CASE("pooling and add equal the reference on every instruction set") {
    std::mt19937 g(4);
    for (isa i : available_isas())
        for (int trial = 0; trial < 150; ++trial) {
            window s;
            s.kernel_h = 1 + g() % 4;
            s.kernel_w = 1 + g() % 4;
            s.stride_h = 1 + g() % 3;
            s.stride_w = 1 + g() % 3;
            s.pad_top = g() % 3;
            s.pad_left = g() % 3;
            s.pad_bottom = g() % 3;
            s.pad_right = g() % 3;
            s.dilation_w = 1 + g() % 2;
            const index_t n = 1 + g() % 3, h = 1 + g() % 9, w = 1 + g() % 9, c = 1 + g() % 140, oh = s.out_h(h),
                          ow = s.out_w(w);
            const auto x = codes<std::uint8_t>(g, n * h * w * c, fill::random);
            const nhwc_view<const std::uint8_t> xv(x.data(), n, h, w, c);
            const thread_team threads_of{1 + trial % 3};
            context ctx(i, threads_of);
            std::vector<std::byte> memory(static_cast<std::size_t>(pool_workspace_size(s, ctx)));
            ctx.workspace = memory;
            const auto size = static_cast<std::size_t>(n * oh * ow * c);
            std::vector<std::uint8_t> y(size), want(size);
            INFO(to_string(i) << " h" << h << " w" << w << " c" << c << " k" << s.kernel_h << "x" << s.kernel_w);
            ref::max_pool<std::uint8_t>(xv, s, {want.data(), n, oh, ow, c});
            max_pool(xv, s, {y.data(), n, oh, ow, c}, ctx);
            CHECK(differences(y, want) == 0);
            const std::vector<float> real_x(x.begin(), x.end());
            std::vector<float> real_y(size);
            max_pool(nhwc_view<const float>(real_x.data(), n, h, w, c), s, {real_y.data(), n, oh, ow, c}, ctx);
            CHECK(std::equal(want.begin(), want.end(), real_y.begin()));
            const quant_params xp{0.03f, static_cast<std::int32_t>(g() % 256)},
                yp{0.011f, static_cast<std::int32_t>(g() % 256)};
            ref::average_pool<std::uint8_t>(xv, xp, s, yp, {0, 255}, {want.data(), n, oh, ow, c});
            average_pool(xv, xp, s, yp, {y.data(), n, oh, ow, c}, ctx);
            CHECK(differences(y, want) == 0);

            const auto a =
                codes<std::uint8_t>(g, static_cast<index_t>(g() % 200), trial % 5 ? fill::random : fill::alternating);
            const auto b = codes<std::uint8_t>(g, static_cast<index_t>(a.size()), fill::random);
            const float ratio =
                std::ldexp(1.0f + static_cast<float>(g() % 1000) / 1000.0f, static_cast<int>(g() % 21) - 10);
            const add_params p = make_add({0.01f * ratio, static_cast<std::int32_t>(g() % 256)}, xp, yp);
            std::vector<std::uint8_t> sum(a.size()), want_sum(a.size());
            ref::add<std::uint8_t>(a, b, p, want_sum);
            add(a, b, p, sum, ctx);
            CHECK(differences(sum, want_sum) == 0);
        }
}

TEST_CASE("quantize, dequantize and requantize equal the definitions on every instruction set") {
    std::mt19937 g(5);
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    for (isa i : available_isas()) {
        const context ctx(i);
        for (int trial = 0; trial < 200; ++trial) {
            quant_params p{
                std::ldexp(1.0f + static_cast<float>(g() % 4096) / 4096.0f, static_cast<int>(g() % 200) - 100),
                static_cast<std::int32_t>(g() % 256)};
            std::vector<float> x(static_cast<std::size_t>(g() % 100));
            for (float& v : x) {
                const auto steps = static_cast<float>(static_cast<int>(g() % 600) - 300);
                v = (g() % 2 ? steps + 0.5f : steps + static_cast<float>(g() % 1000) / 1000.0f) *
                    p.scale; // ties and others
                if (g() % 30 == 0) v = g() % 2 ? inf : g() % 2 ? -inf : nan;
                if (g() % 30 == 0) v = g() % 2 ? 3e38f : -1e-42f;
            }
            std::vector<std::uint8_t> y(x.size()), want(x.size());
            const channel_layout layout{1, 1, static_cast<index_t>(x.size())};
            ref::quantize<half_even, std::uint8_t>(x, layout, std::span(&p, 1), {0, 255}, want);
            quantize<affine<8>>(x, p, y, ctx);
            INFO(to_string(i) << " scale " << p.scale << " zero_point " << p.zero_point);
            CHECK(differences(y, want) == 0);
            std::vector<float> back(x.size());
            dequantize<std::uint8_t>(y, p, back, ctx);
            std::vector<std::uint8_t> again(x.size());
            quantize<affine<8>>(back, p, again, ctx);
            CHECK(differences(again, y) == 0); // codes survive a trip through real numbers
            p.zero_point = 0;
            std::vector<std::int8_t> ys(x.size()), want_s(x.size());
            ref::quantize<half_even, std::int8_t>(x, layout, std::span(&p, 1), {-7, 7}, want_s);
            quantize<symmetric<4>>(x, p, ys, ctx);
            CHECK(differences(ys, want_s) == 0);
        }
        for (index_t n = 0; n < 70; ++n) {
            std::vector<float> x(static_cast<std::size_t>(n));
            real_range want;
            for (float& v : x) {
                v = static_cast<float>(g() % 1000) - 990.0f;
                if (g() % 8 == 0) v = g() % 3 == 0 ? nan : g() % 2 ? inf : -inf;
                if (std::isfinite(v)) want = {std::min(want.min, v), std::max(want.max, v)};
            }
            CHECK(value_range(x, ctx) == want);
        }
        // Stored accumulators requantized later give what the fused kernel gives, and the mask.
        for (int trial = 0; trial < 30; ++trial) {
            const index_t m = 1 + g() % 9, n = 1 + g() % 40, k = 1 + g() % 50;
            const auto x = codes<std::uint8_t>(g, m * k, fill::random);
            const auto w = codes<std::int8_t>(g, n * k, fill::random);
            const auto ws = scales(g, n);
            const quant_params xp{0.01f, 3}, yp{0.02f * static_cast<float>(k), 100};
            const packed_weights p = pack({w.data(), n, k});
            const auto fused = make_epilogue(p, stage::requantize{xp, ws, yp}, stage::relu{});
            std::vector<std::int32_t> acc(static_cast<std::size_t>(m * n));
            std::vector<std::uint8_t> y(acc.size()), later(acc.size()), mask(acc.size()), want_mask(acc.size());
            const matrix_view<const std::uint8_t> xv(x.data(), m, k);
            gemm(xv, p, fused, matrix_view<std::uint8_t>(y.data(), m, n), ctx);
            gemm(xv, p, make_epilogue(p, stage::accumulators{3}), matrix_view<std::int32_t>(acc.data(), m, n), ctx);
            requantize(matrix_view<const std::int32_t>(acc.data(), m, n), fused,
                       matrix_view<std::uint8_t>(later.data(), m, n), mask, ctx);
            CHECK(differences(later, y) == 0);
            for (std::size_t j = 0; j < acc.size(); ++j)
                want_mask[j] =
                    acc[j] > 0 && std::nearbyint(static_cast<float>(acc[j]) *
                                                 multiplier(xp, ws[j % static_cast<std::size_t>(n)], yp)) <= 155.0f;
            CHECK(differences(mask, want_mask) == 0);
        }
    }
}

TEST_CASE("on_tile sees every result once, finished, for any number of threads") {
    std::mt19937 g(6);
    for (isa i : available_isas())
        for (index_t threads : {1, 2, 3}) {
            const index_t m = 29, n = 85, k = 20;
            const auto x = codes<std::uint8_t>(g, m * k, fill::random);
            const auto w = codes<std::int8_t>(g, n * k, fill::random);
            const auto ws = scales(g, 1);
            const packed_weights p = pack({w.data(), n, k});
            const quant_params xp{0.01f, 0}, yp{0.1f, 128};
            std::vector<std::uint8_t> plain(static_cast<std::size_t>(m * n)), seen(plain.size()), y(plain.size());
            const thread_team threads_of{threads};
            const context ctx(i, threads_of);
            const matrix_view<const std::uint8_t> xv(x.data(), m, k);
            gemm(xv, p, make_epilogue(p, stage::requantize{xp, ws, yp}), matrix_view<std::uint8_t>(plain.data(), m, n),
                 ctx);
            const auto ep = make_epilogue(p, stage::requantize{xp, ws, yp}, stage::on_tile{[&](tile<std::uint8_t> t) {
                                              for (index_t r = 0; r < t.rows; ++r)
                                                  for (index_t c = 0; c < t.cols; ++c) {
                                                      ++seen[static_cast<std::size_t>((t.row + r) * n + t.col + c)];
                                                      t(r, c) = static_cast<std::uint8_t>(255 - t(r, c));
                                                  }
                                          }});
            gemm(xv, p, ep, matrix_view<std::uint8_t>(y.data(), m, n), ctx);
            for (std::size_t j = 0; j < y.size(); ++j) {
                REQUIRE(seen[j] == 1);
                REQUIRE(y[j] == 255 - plain[j]);
            }
        }
}
