// SPDX-License-Identifier: Apache-2.0
//
// Elementwise products: the definition against double, the kernels of every instruction set against the definition.
#include "../catch.hpp"

#include <cmath>
#include <limits>

#include <notch/kernels/multiply.hpp>

#include "../guard_page.hpp"
#include "team.hpp"

using namespace notch;

namespace {

template <class A, class B, class Y> multiply_params<A, B, Y> random_params(std::mt19937& g) {
    const auto zero = [&](code_range r) { return r.lo + static_cast<int>(g() % 256); };
    const quant_params a{0.01f * static_cast<float>(1 + g() % 50), zero(full_range<A>)}, b{0.013f, zero(full_range<B>)};
    const quant_params y{g() % 8 == 0 ? 1e-6f : 0.02f * static_cast<float>(1 + g() % 30), zero(full_range<Y>)};
    code_range r = full_range<Y>;
    if (g() % 3 == 0) r.lo = y.zero_point;
    if (g() % 3 == 0) r.hi -= static_cast<int>(g() % static_cast<unsigned>(r.hi - r.lo + 1));
    return make_multiply<A, B, Y>(a, b, y, r);
}

template <class A, class B, class Y> void check(std::mt19937& g, index_t rows, index_t cols, bool one_row) {
    const auto p = random_params<A, B, Y>(g);
    const index_t lda = cols + static_cast<index_t>(g() % 3), ldb = cols + static_cast<index_t>(g() % 3),
                  ldy = cols + static_cast<index_t>(g() % 3);
    const index_t b_rows = one_row ? 1 : rows;
    const auto size = [&](index_t r, index_t ld) { return static_cast<std::size_t>(r > 0 ? (r - 1) * ld + cols : 0); };
    const auto a = random_codes<A>(g, size(rows, lda), full_range<A>.lo, full_range<A>.hi, g() % 3 == 0);
    const auto b = random_codes<B>(g, size(b_rows, ldb), full_range<B>.lo, full_range<B>.hi, g() % 3 == 0);
    const bool at_front = g() % 2;
    const guarded<A> ga(a, at_front ? guard::before : guard::after);
    const guarded<B> gb(b, at_front ? guard::before : guard::after);
    std::vector<Y> want(size(rows, ldy), Y(77));
    ref::multiply(matrix_view<const A>(a.data(), rows, cols, lda), matrix_view<const B>(b.data(), b_rows, cols, ldb), p,
                  matrix_view<Y>(want.data(), rows, cols, ldy));
    for (isa i : available_isas())
        for (index_t threads : {1, 2, 3, 7}) {
            if (threads > 1 && rows * cols < 10000) continue;
            const thread_team team{threads};
            guarded<Y> y(std::vector<Y>(size(rows, ldy), Y(77)), at_front ? guard::before : guard::after);
            multiply(matrix_view<const A>(ga.data(), rows, cols, lda),
                     matrix_view<const B>(gb.data(), b_rows, cols, ldb), p, matrix_view<Y>(y.data(), rows, cols, ldy),
                     context(i, team));
            INFO(to_string(i) << " " << rows << " x " << cols << " threads " << threads);
            CHECK(std::vector<Y>(y.begin(), y.end()) == want);
            if (rows == 1) {
                guarded<Y> z(static_cast<std::size_t>(cols));
                multiply(std::span<const A>(ga.data(), ga.size()), std::span<const B>(gb.data(), gb.size()), p,
                         std::span<Y>(z.data(), z.size()), context(i, team));
                CHECK(std::vector<Y>(z.begin(), z.end()) == want);
            }
        }
}

} // namespace

TEST_CASE("multiply: all pairs of codes are as near to the product as stated") {
    const quant_params a{0.037f, 100}, b{0.011f, -3}, y{0.02f, -20};
    const auto p = make_multiply<std::uint8_t, std::int8_t, std::int8_t>(a, b, y);
    for (int i = 0; i < 256; ++i)
        for (int j = -128; j < 128; ++j) {
            const double real = static_cast<double>(a.scale) * (i - 100) * static_cast<double>(b.scale) * (j + 3) /
                                    static_cast<double>(y.scale) -
                                20;
            const double error = std::fabs(std::fmin(std::fmax(real, -128), 127) -
                                           ref::multiply(static_cast<std::uint8_t>(i), static_cast<std::int8_t>(j), p));
            if (!(error <= 0.50004)) CHECK(error <= 0.50004);
        }
    CHECK(int{ref::multiply(std::uint8_t{110}, std::int8_t{47}, p)} == -10); // 0.37 * 0.55 = 0.2035
}

TEST_CASE("multiply agrees with ref on every instruction set") {
    std::mt19937 g(1);
    using u8 = std::uint8_t;
    using s8 = std::int8_t;
    std::vector<index_t> cols{200, 256, 1000};
    for (index_t n = 0; n <= 135; ++n) cols.push_back(n);
    for (index_t n : cols)
        for (index_t rows : {1, 3}) {
            const bool one = g() % 2;
            check<u8, u8, u8>(g, rows, n, one);
            check<s8, s8, s8>(g, rows, n, one);
            check<u8, s8, s8>(g, rows, n, one);
            check<s8, u8, u8>(g, rows, n, one);
        }
    check<u8, u8, u8>(g, 1, 70001, false);
    check<s8, s8, s8>(g, 61, 500, true);
    check<u8, u8, s8>(g, 61, 500, false);
}

TEST_CASE("multiply: a batch of images with their vectors, slices included; in place") {
    std::mt19937 g(2);
    using u8 = std::uint8_t;
    for (index_t c : {1, 5, 16, 67, 130}) {
        const index_t n = 2, h = 5, w = 4, pc = c + 2;
        const auto p = random_params<u8, u8, u8>(g);
        const auto a = random_codes<u8>(g, static_cast<std::size_t>(n * h * w * pc)),
                   b = random_codes<u8>(g, static_cast<std::size_t>(n * c));
        auto want = a;
        for (index_t i = 0; i < n * h * w; ++i)
            for (index_t j = 0; j < c; ++j)
                want[static_cast<std::size_t>(i * pc + 1 + j)] = ref::multiply(
                    a[static_cast<std::size_t>(i * pc + 1 + j)], b[static_cast<std::size_t>(i / (h * w) * c + j)], p);
        for (isa i : available_isas())
            for (index_t threads : {1, 3}) {
                const thread_team team{threads};
                auto y = a;
                multiply(nhwc_view<const u8>(y.data() + 1, n, h, w, c, h * w * pc, w * pc, pc),
                         matrix_view<const u8>(b.data(), n, c), p,
                         nhwc_view<u8>(y.data() + 1, n, h, w, c, h * w * pc, w * pc, pc), context(i, team));
                CHECK(y == want);
            }
    }
}

TEST_CASE("multiply refuses bad arguments") {
    using u8 = std::uint8_t;
    const quant_params q{0.1f, 0};
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const auto make = [](quant_params a, quant_params b, quant_params y, code_range r = {0, 255}) {
        return error_text(errc::invalid_argument, [&] { (void)make_multiply<u8, u8, u8>(a, b, y, r); });
    };
    for (float bad : {0.0f, -1.0f, nan, std::numeric_limits<float>::infinity()}) {
        CHECK_THAT(make({bad, 0}, q, q), contains_text("a.scale"));
        CHECK_THAT(make(q, {bad, 0}, q), contains_text("b.scale"));
        CHECK_THAT(make(q, q, {bad, 0}), contains_text("y.scale"));
    }
    CHECK_THAT(make({1.0f, 256}, q, q), contains_text("a.zero_point"));
    CHECK_THAT(make(q, q, {1.0f, -1}), contains_text("y.zero_point"));
    CHECK_THAT(make(q, q, q, {9, 8}), contains_text("9..8"));
    CHECK_THAT(make({1e3f, 0}, {1e3f, 0}, q), contains_text("2^14"));
    CHECK_THAT(make({1e-9f, 0}, {1e-9f, 0}, q), contains_text("2^-40"));
    const auto p = make_multiply<u8, u8, u8>(q, q, q);
    std::vector<u8> x(6), y(6);
    using in = matrix_view<const u8>;
    using out = matrix_view<u8>;
    const errc shape = errc::shape_mismatch;
    CHECK_THAT(error_text(shape, [&] { multiply(in(x.data(), 3, 2), in(x.data(), 2, 2), p, out(y.data(), 3, 2)); }),
               contains_text("rows of b is 2"));
    CHECK_THAT(error_text(shape, [&] { multiply(in(x.data(), 3, 2), in(x.data(), 1, 3), p, out(y.data(), 3, 2)); }),
               contains_text("columns of b is 3"));
    CHECK_THAT(error_text(shape, [&] { multiply(in(x.data(), 3, 2), in(x.data(), 3, 2), p, out(y.data(), 2, 2)); }),
               contains_text("rows of y is 2"));
    CHECK_THAT(
        error_text(shape,
                   [&] { multiply(std::span<const u8>(x), std::span<const u8>(x), p, std::span<u8>(y).first(5)); }),
        contains_text("size of y is 5"));
    CHECK_THAT(error_text(errc::invalid_argument,
                          [&] { multiply(in(x.data(), 3, 2), in(nullptr, 3, 2), p, out(y.data(), 3, 2)); }),
               contains_text("b is null"));
    CHECK_THAT(error_text(errc::invalid_argument,
                          [&] {
                              multiply(in(x.data(), 3, 2), in(x.data(), 3, 2),
                                       multiply_params<u8, u8, u8>{0, 0, 0, nan, {0, 255}}, out(y.data(), 3, 2));
                          }),
               contains_text("make_multiply"));
    CHECK_THAT(error_text(shape,
                          [&] {
                              multiply(nhwc_view<const u8>(x.data(), 1, 1, 3, 2), in(x.data(), 2, 2), p,
                                       nhwc_view<u8>(y.data(), 1, 1, 3, 2));
                          }),
               contains_text("rows of b is 2"));
}
