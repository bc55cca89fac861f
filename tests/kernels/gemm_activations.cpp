// SPDX-License-Identifier: Apache-2.0
//
// Products whose operands come at run time: float rows quantized on the way in, and batches of two
// activations. Every instruction set against ref/, bit for bit, in buffers that end at a page without
// access.
#include "../catch.hpp"
#include "../guard_page.hpp"
#include "team.hpp"

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include <notch/kernels/gemm_batched.hpp>
#include <notch/kernels/gemm_dynamic.hpp>
#include <notch/ref/gemm.hpp>
#include <notch/ref/gemm_dynamic.hpp>

using namespace notch;

namespace {

template <range_type Range, class Granularity>
void check_dynamic(std::mt19937& g, isa i, index_t m, index_t n, index_t k, index_t threads, bool wild) {
    const index_t lda = k + static_cast<index_t>(g() % 3), ldy = n + static_cast<index_t>(g() % 3);
    guarded<float> x(m > 0 ? (m - 1) * lda + k : 0);
    for (float& v : x) {
        v = 0.001f * static_cast<float>(static_cast<int>(g() % 20001) - 7000);
        if (wild && g() % 5 == 0) v = g() % 3 == 0 ? NAN : g() % 2 ? INFINITY : -INFINITY;
        if (wild && g() % 7 == 0) v = 0.0f;
    }
    guarded<std::int8_t> w(n * k);
    for (auto& v : w) v = static_cast<std::int8_t>(g());
    std::vector<float> ws(g() % 2 ? static_cast<std::size_t>(n) : 1), bias(static_cast<std::size_t>(n));
    for (float& s : ws) s = 1e-3f * static_cast<float>(1 + g() % 1000);
    for (float& b : bias) b = 0.37f * static_cast<float>(static_cast<int>(g() % 201) - 100);
    guarded<float> y(m > 0 ? (m - 1) * ldy + n : 0);
    std::vector<float> want(y.size(), 0.0f);
    const matrix_view<const float> xv(x.data(), m, k, lda);
    ref::gemm_dynamic<Range>(xv, {w.data(), n, k}, ws, bias, {want.data(), m, n, ldy}, Granularity::is_per_tensor);
    const auto p = pack({w.data(), n, k});
    const auto ep = make_epilogue(p, stage::dequantize_rows{ws}, stage::real_bias{bias});
    std::vector<std::byte> memory(static_cast<std::size_t>(gemm_dynamic_workspace_size(m, k)));
    const thread_team executor{threads};
    gemm_dynamic<Range, Granularity>(xv, p, ep, {y.data(), m, n, ldy}, context(i, executor, memory));
    INFO(to_string(i) << " " << m << "x" << n << "x" << k << " threads " << threads);
    CHECK((y.size() == 0 || std::memcmp(y.data(), want.data(), 4 * y.size()) == 0));
}

/// Scales whose product overflows float: sums of 0 give the bias, others what FLT_MAX times them is.
void check_largest_scales(isa i) {
    const std::vector<float> x{FLT_MAX, -FLT_MAX, FLT_MAX, FLT_MAX, 0.0f, 1e38f}, scales{1e6f, 1.0f, 1e6f},
        bias{7.0f, 7.0f, 7.0f};
    const std::vector<std::int8_t> w{0, 0, 1, -1, -1, 1};
    std::vector<float> y(9), want(9);
    const matrix_view<const float> xv(x.data(), 3, 2);
    const matrix_view<const std::int8_t> wv(w.data(), 3, 2);
    const auto p = pack(wv);
    std::vector<std::byte> memory(static_cast<std::size_t>(gemm_dynamic_workspace_size(3, 2)));
    for (bool with_bias : {false, true}) {
        const auto b = std::span<const float>(bias).first(with_bias ? 3 : 0);
        ref::gemm_dynamic<symmetric<8>>(xv, wv, scales, b, {want.data(), 3, 3});
        gemm_dynamic<symmetric<8>>(xv, p, make_epilogue(p, stage::dequantize_rows{scales}, stage::real_bias{b}),
                                   {y.data(), 3, 3}, context(i, {}, memory));
        INFO(to_string(i));
        CHECK(std::memcmp(y.data(), want.data(), 4 * y.size()) == 0);
        const float zero = with_bias ? 7.0f : 0.0f;
        CHECK((y[0] == zero && y[3] == zero && y[6] == zero));          // weights of 0
        CHECK((y[2] == -INFINITY && y[5] == zero && y[8] == INFINITY)); // -254, 0 and 127 times FLT_MAX
    }
}

template <class X, class Z, rhs Layout>
void check_batched(std::mt19937& g, isa i, index_t batches, index_t m, index_t n, index_t k, index_t threads,
                   bool extreme) {
    constexpr bool transposed = Layout == rhs::transposed;
    const auto low = [](auto code) { return std::is_signed_v<decltype(code)> ? -128 : 0; };
    const index_t lda = k + static_cast<index_t>(g() % 2), rows = transposed ? n : k, cols = transposed ? k : n;
    const index_t ldz = cols + static_cast<index_t>(g() % 2), ldy = n + static_cast<index_t>(g() % 2);
    const auto span_of = [&](index_t r, index_t c, index_t ld) {
        return batches * r > 0 ? (batches * r - 1) * ld + c : 0;
    };
    guarded<X> x(span_of(m, k, lda));
    guarded<Z> z(span_of(rows, cols, ldz));
    for (auto& v : x)
        v = extreme ? (g() % 2 ? std::numeric_limits<X>::max() : std::numeric_limits<X>::min()) : static_cast<X>(g());
    for (auto& v : z)
        v = extreme ? (g() % 2 ? std::numeric_limits<Z>::max() : std::numeric_limits<Z>::min()) : static_cast<Z>(g());
    const quant_params xp{0.01f, low(X{}) + static_cast<std::int32_t>(g() % 256)},
        zp{0.02f, low(Z{}) + static_cast<std::int32_t>(g() % 256)};
    const quant_params yp{0.002f * static_cast<float>(k + 1), 77};
    const float scale[] = {zp.scale};
    const auto operand = make_operand<Z>(n, k, zp.zero_point);
    const auto make = [&](const auto&... stages) {
        if constexpr (std::is_signed_v<X>)
            return make_epilogue(operand, stage::s8_input{}, stages...);
        else
            return make_epilogue(operand, stages...);
    };
    const auto codes = make(stage::requantize{xp, scale, yp});
    const auto sums = make(stage::accumulators{xp.zero_point});
    guarded<std::uint8_t> y(span_of(m, n, ldy));
    guarded<std::int32_t> acc(batches * m * n);
    const thread_team executor{threads};
    std::vector<std::byte> memory(static_cast<std::size_t>(gemm_batched_workspace_size(operand, context(i, executor))));
    const context ctx(i, executor, memory);
    const batch_view<const X> xv(x.data(), batches, m, k, lda, m * lda);
    const batch_view<const Z> zv(z.data(), batches, rows, cols, ldz, rows * ldz);
    gemm_batched<Layout>(xv, zv, operand, codes, batch_view<std::uint8_t>(y.data(), batches, m, n, ldy, m * ldy), ctx);
    gemm_batched<Layout>(xv, zv, operand, sums, batch_view<std::int32_t>(acc.data(), batches, m, n), ctx);
    const auto multiplier = static_cast<float>(static_cast<double>(xp.scale) * static_cast<double>(zp.scale) /
                                               static_cast<double>(yp.scale));
    index_t wrong = 0;
    std::vector<Z> columns(static_cast<std::size_t>(n * k));
    std::vector<std::int32_t> want(static_cast<std::size_t>(m * n));
    const std::int32_t zero[] = {zp.zero_point};
    for (index_t b = 0; b < batches; ++b) {
        for (index_t c = 0; c < n; ++c)
            for (index_t d = 0; d < k; ++d)
                columns[static_cast<std::size_t>(c * k + d)] = transposed ? zv[b](c, d) : zv[b](d, c);
        ref::gemm<X, Z>(xv[b], xp.zero_point, {columns.data(), n, k}, {}, {want.data(), m, n}, zero);
        for (index_t r = 0; r < m; ++r)
            for (index_t c = 0; c < n; ++c) {
                const std::int32_t a = want[static_cast<std::size_t>(r * n + c)];
                wrong += acc[static_cast<std::size_t>((b * m + r) * n + c)] != a;
                wrong += y[static_cast<std::size_t>((b * m + r) * ldy + c)] !=
                         requantize_float(a, multiplier, yp.zero_point, {0, 255});
            }
    }
    INFO(to_string(i) << " " << batches << " of " << m << "x" << n << "x" << k << " threads " << threads
                      << (transposed ? " transposed" : ""));
    CHECK(wrong == 0);
}

} // namespace

TEST_CASE("gemm_dynamic equals the reference, bit for bit, on every instruction set") {
    std::mt19937 g(21);
    for (isa i : available_isas()) {
        for (int trial = 0; trial < 40; ++trial) {
            const auto m = static_cast<index_t>(g() % 20), n = static_cast<index_t>(g() % 70),
                       k = static_cast<index_t>(g() % 150);
            const index_t threads = 1 + trial % 3;
            check_dynamic<affine<8>, per_token>(g, i, m, n, k, threads, trial % 4 == 0);
            check_dynamic<symmetric<8>, per_token>(g, i, m, n, k, threads, trial % 4 == 0);
            check_dynamic<affine<8>, per_tensor>(g, i, m, n, k, threads, trial % 4 == 0);
            check_dynamic<affine<4>, per_token>(g, i, m, n, k, threads, trial % 4 == 0);
        }
        check_dynamic<affine<8>, per_token>(g, i, 300, 33, 64, 1, false); // more rows than are quantized at a time
        check_dynamic<affine<8>, per_token>(g, i, 1, 100, 1025, 2, false);
        check_dynamic<symmetric_full<8>, per_token>(g, i, 3, 17, 5000, 1, true);
    }
}

TEST_CASE("gemm_dynamic: products of scales beyond float stay finite") {
    for (isa i : available_isas()) check_largest_scales(i);
}

TEST_CASE("gemm_batched equals the reference for both layouts and all kinds of codes") {
    std::mt19937 g(22);
    for (isa i : available_isas())
        for (int trial = 0; trial < 40; ++trial) {
            const auto b = static_cast<index_t>(g() % 4), m = static_cast<index_t>(g() % 20),
                       n = static_cast<index_t>(g() % 70), k = static_cast<index_t>(g() % 70);
            const index_t threads = 1 + trial % 3;
            const bool extreme = trial % 4 == 0;
            check_batched<std::uint8_t, std::uint8_t, rhs::transposed>(g, i, b, m, n, k, threads, extreme);
            check_batched<std::int8_t, std::int8_t, rhs::transposed>(g, i, b, m, n, k, threads, extreme);
            check_batched<std::uint8_t, std::int8_t, rhs::plain>(g, i, b, m, n, k, threads, extreme);
            check_batched<std::int8_t, std::uint8_t, rhs::plain>(g, i, b, m, n, k, threads, extreme);
            check_batched<std::uint8_t, std::uint8_t, rhs::plain>(g, i, b, n, m, k, threads, extreme);
        }
}

TEST_CASE("products of activations refuse what does not fit") {
    const std::vector<std::int8_t> w(8, 1);
    const std::vector<float> scale{0.1f}, bias{1.0f, 2.0f};
    const std::vector<std::int32_t> ints{1, 2};
    const auto p = pack({w.data(), 2, 4});
    float x[4] = {1, 2, 3, 4}, y[2];
    std::vector<std::byte> memory(static_cast<std::size_t>(gemm_dynamic_workspace_size(1, 4)));
    const context ctx(isa::scalar, {}, memory);
    const matrix_view<const float> xv(x, 1, 4);
    const auto rows = make_epilogue(p, stage::dequantize_rows{scale}),
               plain = make_epilogue(p, stage::dequantize{{1.0f, 0}, scale});
    CHECK_THROWS_WITH(gemm_dynamic(xv, p, plain, {y, 1, 2}, ctx), contains_text("dequantize_rows"));
    CHECK_THROWS_WITH(gemm_dynamic(xv, p, rows, {y, 1, 1}, ctx), contains_text("columns of y"));
    CHECK_THROWS_WITH(gemm_dynamic(xv, p, rows, {y, 1, 2}, context(isa::scalar)), contains_text("workspace"));
    const std::vector<std::uint8_t> codes(4);
    CHECK_THROWS_WITH(gemm(matrix_view<const std::uint8_t>(codes.data(), 1, 4), p, rows, matrix_view<float>(y, 1, 2)),
                      contains_text("gemm_dynamic"));
    CHECK_THROWS_WITH(make_epilogue(p, stage::dequantize_rows{scale}, stage::bias{ints}), contains_text("real_bias"));
    CHECK_THROWS_WITH(make_operand<std::uint8_t>(1, 33026, 0), contains_text("33025"));
    CHECK_THROWS_WITH(make_operand<std::uint8_t>(1, 1, 256), contains_text("0..255"));
    CHECK_THROWS_WITH(make_operand<std::int8_t>(1, 1, 128), contains_text("-128..127"));
    const auto operand = make_operand<std::uint8_t>(2, 4, 3);
    const auto ep = make_epilogue(operand, stage::accumulators{});
    const std::vector<std::uint8_t> z(16);
    std::int32_t acc[4];
    std::vector<std::byte> more(static_cast<std::size_t>(gemm_batched_workspace_size(operand)));
    const context with(isa::scalar, {}, more);
    const batch_view<const std::uint8_t> a(codes.data(), 1, 1, 4), b(z.data(), 1, 2, 4), wrong(z.data(), 1, 4, 2);
    const batch_view<std::int32_t> out(acc, 1, 1, 2);
    CHECK_NOTHROW(gemm_batched<rhs::transposed>(a, b, operand, ep, out, with));
    CHECK_THROWS_WITH(gemm_batched<rhs::transposed>(a, wrong, operand, ep, out, with), contains_text("rows of z"));
    CHECK_THROWS_WITH(gemm_batched<rhs::plain>(a, b, operand, ep, out, with), contains_text("columns of z"));
    CHECK_THROWS_WITH(gemm_batched<rhs::transposed>(a, b, operand, ep, out, context(isa::scalar)),
                      contains_text("workspace"));
    CHECK_THROWS_WITH(
        gemm_batched<rhs::transposed>(a, batch_view<const std::int8_t>(w.data(), 1, 2, 4), operand, ep, out, with),
        contains_text("make_operand"));
    const batch_view<const std::uint8_t> two(z.data(), 2, 1, 4), twob(z.data(), 2, 2, 4, 4, 0);
    CHECK_THROWS_WITH(
        gemm_batched<rhs::transposed>(two, twob, operand, ep, batch_view<std::int32_t>(acc, 2, 1, 2, 2, 1), with),
        contains_text("overlap"));
    CHECK_NOTHROW(gemm_batched<rhs::transposed>(two, twob, operand, ep, batch_view<std::int32_t>(acc, 2, 1, 2), with));

    // Matrices side by side in the rows of one: rows of 4 hold two of 2 columns. Rows of 3 do not.
    std::int32_t apart[8], beside[8];
    const batch_view<const std::uint8_t> both(z.data(), 2, 2, 4, 4, 0);
    gemm_batched<rhs::transposed>(both, twob, operand, ep, batch_view<std::int32_t>(apart, 2, 2, 2), with);
    gemm_batched<rhs::transposed>(both, twob, operand, ep, batch_view<std::int32_t>(beside, 2, 2, 2, 4, 2), with);
    for (int n = 0; n < 8; ++n) CHECK(beside[n] == apart[n / 2 % 2 * 4 + n / 4 * 2 + n % 2]);
    CHECK_THROWS_WITH(
        gemm_batched<rhs::transposed>(both, twob, operand, ep, batch_view<std::int32_t>(beside, 2, 2, 2, 3, 2), with),
        contains_text("overlap"));
    CHECK_THROWS_WITH(
        gemm_batched<rhs::transposed>(both, twob, operand, ep, batch_view<std::int32_t>(beside, 2, 2, 2, 4, 1), with),
        contains_text("overlap"));
}
