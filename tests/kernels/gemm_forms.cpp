// SPDX-License-Identifier: Apache-2.0
//
// The forms of the matrix product beside u8 x s8 -> u8: signed activations, weights with zero points,
// int16 and bfloat16 outputs, real biases, blocks of K. Every instruction set against ref/, bit for bit.
#include "../catch.hpp"

#include <cmath>
#include <cstdint>
#include <random>
#include <type_traits>
#include <vector>

#include <notch/kernels/gemm.hpp>
#include <notch/ref/gemm.hpp>

using namespace notch;

namespace {

template <class T> std::vector<T> codes(std::mt19937& g, index_t n, bool extreme) {
    std::vector<T> v(static_cast<std::size_t>(n));
    for (T& x : v)
        x = extreme ? (g() % 2 ? std::numeric_limits<T>::max() : std::numeric_limits<T>::min()) : static_cast<T>(g());
    return v;
}

/// All outputs of x (M x K) times w (N x K) on one instruction set.
template <class X, class W> void check(std::mt19937& g, isa i, index_t m, index_t n, index_t k, bool extreme) {
    constexpr bool x_signed = std::is_signed_v<X>;
    constexpr std::int32_t x_low = x_signed ? -128 : 0, w_low = std::is_signed_v<W> ? -128 : 0;
    const index_t lda = k + static_cast<index_t>(g() % 3), ldc = n + static_cast<index_t>(g() % 3);
    const auto x = codes<X>(g, m > 0 ? (m - 1) * lda + k : 0, extreme);
    const auto w = codes<W>(g, n * k, extreme);
    std::vector<std::int32_t> zeros(g() % 3 ? static_cast<std::size_t>(n) : 1), bias(static_cast<std::size_t>(n));
    for (auto& z : zeros) z = w_low + static_cast<std::int32_t>(g() % 256);
    for (auto& b : bias) b = static_cast<std::int32_t>(g() % 20001) - 10000;
    std::vector<float> ws(static_cast<std::size_t>(n)), fb(ws.size());
    for (auto& s : ws) s = 1e-3f * static_cast<float>(1 + g() % 1000);
    for (auto& b : fb) b = 0.37f * static_cast<float>(static_cast<int>(g() % 2001) - 1000);
    const quant_params xp{0.013f, x_low + static_cast<std::int32_t>(g() % 256)},
        yp{0.0071f * static_cast<float>(k + 1), 1234};
    const matrix_view<const X> xv(x.data(), m, k, lda);
    const auto p = pack(matrix_view<const W>(w.data(), n, k), zeros);
    std::vector<std::int32_t> acc(static_cast<std::size_t>(m * n));
    ref::gemm<X, W>(xv, xp.zero_point, {w.data(), n, k}, bias, {acc.data(), m, n}, zeros);
    const context ctx(i);
    INFO(to_string(i) << " " << m << "x" << n << "x" << k << (x_signed ? " s8" : " u8")
                      << (std::is_signed_v<W> ? " s8" : " u8"));

    const auto run = [&](auto ep, auto expected) {
        using T = typename decltype(ep)::output_type;
        std::vector<T> y(static_cast<std::size_t>(m > 0 ? (m - 1) * ldc + n : 0), T{77});
        gemm(xv, p, ep, matrix_view<T>(y.data(), m, n, ldc), ctx);
        index_t wrong = 0;
        for (index_t r = 0; r < m; ++r)
            for (index_t c = 0; c < ldc && r * ldc + c < static_cast<index_t>(y.size()); ++c) {
                const T got = y[static_cast<std::size_t>(r * ldc + c)];
                wrong +=
                    !(got == (c < n ? expected(acc[static_cast<std::size_t>(r * n + c)], static_cast<std::size_t>(c))
                                    : T{77}));
            }
        CHECK(wrong == 0);
    };
    const auto make = [&](const auto&... stages) {
        if constexpr (x_signed)
            return make_epilogue(p, stage::s8_input{}, stages...);
        else
            return make_epilogue(p, stages...);
    };
    const auto scale = [&](std::size_t c) {
        return static_cast<float>(static_cast<double>(xp.scale) * static_cast<double>(ws[c]));
    };
    run(make(stage::bias{bias}, stage::accumulators{xp.zero_point}), [](std::int32_t a, std::size_t) { return a; });
    const auto multiplier = [&](std::size_t c, quant_params y) {
        return static_cast<float>(static_cast<double>(xp.scale) * static_cast<double>(ws[c]) /
                                  static_cast<double>(y.scale));
    };
    const quant_params y8{yp.scale, 100};
    run(make(stage::bias{bias}, stage::requantize{xp, ws, y8}), [&](std::int32_t a, std::size_t c) {
        return static_cast<std::uint8_t>(requantize_float(a, multiplier(c, y8), y8.zero_point, {0, 255}));
    });
    const quant_params y16{yp.scale / 100, -1234};
    run(make(stage::bias{bias}, stage::requantize<affine_signed<16>>{xp, ws, y16}, stage::relu{}),
        [&](std::int32_t a, std::size_t c) {
            return static_cast<std::int16_t>(requantize_float(a, multiplier(c, y16), y16.zero_point, {-1234, 32767}));
        });
    run(make(stage::bias{bias}, stage::requantize_fixed<symmetric_full<16>>{xp, ws, {y16.scale, 0}}),
        [&](std::int32_t a, std::size_t c) {
            return static_cast<std::int16_t>(
                requantize_fixed_double(a,
                                        to_fixed_multiplier(static_cast<double>(xp.scale) * static_cast<double>(ws[c]) /
                                                            static_cast<double>(y16.scale)),
                                        0, {-32768, 32767}));
        });
    const auto real = [&](std::int32_t a, std::size_t c) { return rounded(static_cast<float>(a) * scale(c)) + fb[c]; };
    run(make(stage::bias{bias}, stage::dequantize{xp, ws}, stage::real_bias{fb}), real);
    run(make(stage::bias{bias}, stage::dequantize_bf16{xp, ws}, stage::real_bias{fb}),
        [&](std::int32_t a, std::size_t c) { return bfloat16{to_bfloat16(real(a, c))}; });
    run(make(stage::bias{bias}, stage::dequantize_bf16{xp, ws}, stage::clamp{-1.0f, 3.0f}),
        [&](std::int32_t a, std::size_t c) {
            const float v = static_cast<float>(a) * scale(c);
            return bfloat16{to_bfloat16(v < -1.0f ? -1.0f : v > 3.0f ? 3.0f : v)};
        });
}

} // namespace

TEST_CASE("signed activations and weights with zero points, every output, every instruction set") {
    std::mt19937 g(11);
    for (isa i : available_isas()) {
        for (int trial = 0; trial < 30; ++trial) {
            const auto m = static_cast<index_t>(g() % 20), n = static_cast<index_t>(1 + g() % 70),
                       k = static_cast<index_t>(g() % 40);
            const bool extreme = trial % 3 == 0;
            check<std::int8_t, std::int8_t>(g, i, m, n, k, extreme);
            check<std::uint8_t, std::int8_t>(g, i, m, n, k, extreme);
            check<std::uint8_t, std::uint8_t>(g, i, m, n, k, extreme);
            check<std::int8_t, std::uint8_t>(g, i, m, n, k, extreme);
        }
        // Around the blocks of K and of rows that some instruction sets work in.
        for (index_t k : {508, 511, 512, 513, 516, 1023, 1025, 2049})
            for (index_t m : {5, 7, 23, 65, 130}) check<std::int8_t, std::int8_t>(g, i, m, 33, k, k % 2 == 0);
        check<std::int8_t, std::int8_t>(g, i, 3, 17, 30000, true);
        check<std::uint8_t, std::uint8_t>(g, i, 250, 18, 100, false);
    }
}

TEST_CASE("signed rows with short K: copied and multiplied by weights that stay in registers") {
    std::mt19937 g(17);
    for (isa i : available_isas())
        for (index_t k : {13, 16, 23, 24, 29, 32})
            for (index_t n : {16, 48, 80})
                for (index_t m : {7, 8, k == 16 ? 2203 : 101}) {
                    std::vector<std::int8_t> x(static_cast<std::size_t>(m * k)), w(static_cast<std::size_t>(n * k));
                    for (auto& v : x) v = static_cast<std::int8_t>(g());
                    for (auto& v : w) v = static_cast<std::int8_t>(g());
                    std::vector<std::int32_t> acc(static_cast<std::size_t>(m * n));
                    const matrix_view<const std::int8_t> xv(x.data(), m, k);
                    const quant_params xp{0.02f, static_cast<std::int32_t>(g() % 256) - 128}, yp{0.03f * 16, 99};
                    ref::gemm<std::int8_t>(xv, xp.zero_point, {w.data(), n, k}, {}, {acc.data(), m, n});
                    const packed_weights p = pack({w.data(), n, k});
                    const std::vector<float> ws{0.01f};
                    const auto ep = make_epilogue(p, stage::s8_input{}, stage::requantize{xp, ws, yp});
                    std::vector<std::uint8_t> y(acc.size(), 7);
                    gemm(xv, p, ep, matrix_view<std::uint8_t>(y.data(), m, n), context(i));
                    const auto scale = static_cast<float>(static_cast<double>(xp.scale) * static_cast<double>(ws[0]) /
                                                          static_cast<double>(yp.scale));
                    index_t wrong = 0;
                    for (std::size_t e = 0; e < y.size(); ++e)
                        wrong += y[e] != requantize_float(acc[e], scale, yp.zero_point, {0, 255});
                    INFO(to_string(i) << " " << m << "x" << n << "x" << k);
                    CHECK(wrong == 0);
                }
}

TEST_CASE("the longest signed row fits the kernels' copy") {
    constexpr index_t k = 2147483647 / (255 * 128);
    const std::vector<std::int8_t> x(static_cast<std::size_t>(2 * k), -128), w(static_cast<std::size_t>(k), -128);
    const auto p = pack({w.data(), 1, k});
    const std::int32_t zero = -1; // folded: 127 times the sum of the weights; the whole stays within int32
    const auto ep = make_epilogue(p, stage::s8_input{}, stage::accumulators{zero});
    for (isa i : available_isas()) {
        std::int32_t y[2] = {};
        gemm(matrix_view<const std::int8_t>(x.data(), 2, k), p, ep, matrix_view<std::int32_t>(y, 2, 1), context(i));
        CHECK(y[0] == 127 * 128 * k);
        CHECK(y[1] == y[0]);
    }
}

TEST_CASE("what does not fit together is refused by name") {
    const std::vector<std::int8_t> w(8, 1);
    const std::vector<float> scale{0.1f};
    const auto p = pack({w.data(), 2, 4});
    const auto plain = make_epilogue(p, stage::accumulators{});
    const auto with_sign = make_epilogue(p, stage::s8_input{}, stage::accumulators{});
    const std::vector<std::int8_t> xs(4);
    const std::vector<std::uint8_t> xu(4);
    std::int32_t y[2];
    const matrix_view<std::int32_t> yv(y, 1, 2);
    CHECK_THROWS_WITH(gemm(matrix_view<const std::int8_t>(xs.data(), 1, 4), p, plain, yv), contains_text("s8_input"));
    CHECK_THROWS_WITH(gemm(matrix_view<const std::uint8_t>(xu.data(), 1, 4), p, with_sign, yv),
                      contains_text("s8_input"));
    CHECK_THROWS_WITH(make_epilogue(p, stage::s8_input{}, stage::accumulators{128}), contains_text("-128..127"));
    CHECK_THROWS_WITH(make_epilogue(p, stage::accumulators{-1}), contains_text("0..255"));
    const std::vector<float> nan{0.0f, NAN}, one{1.0f};
    CHECK_THROWS_WITH(make_epilogue(p, stage::dequantize{{1.0f, 0}, scale}, stage::real_bias{nan}),
                      contains_text("real bias 1"));
    CHECK_THROWS_WITH(make_epilogue(p, stage::dequantize{{1.0f, 0}, scale}, stage::real_bias{one}),
                      contains_text("real biases"));
    const std::int32_t far[] = {0, 128}, three[] = {1, 2, 3};
    CHECK_THROWS_WITH(pack(matrix_view<const std::int8_t>(w.data(), 2, 4), far), contains_text("zero point is 128"));
    CHECK_THROWS_WITH(pack(matrix_view<const std::int8_t>(w.data(), 2, 4), three), contains_text("zero points"));
}
