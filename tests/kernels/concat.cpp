// SPDX-License-Identifier: Apache-2.0
#include "../catch.hpp"

#include <cmath>
#include <limits>
#include <memory>

#include <notch/kernels/concat.hpp>

#include "../guard_page.hpp"
#include "team.hpp"

using namespace notch;

namespace {

template <class T> void check(std::mt19937& g, index_t rows, const std::vector<index_t>& cols) {
    const quant_params y_params{0.05f, full_range<T>.lo + static_cast<int>(g() % 256)};
    std::vector<std::unique_ptr<guarded<T>>> memory;
    std::vector<matrix_view<const T>> x;
    std::vector<concat_params<T>> p;
    const bool at_front = g() % 2;
    index_t all = 0;
    for (index_t c : cols) {
        const index_t ld = c + static_cast<index_t>(g() % 3);
        memory.push_back(std::make_unique<guarded<T>>(
            random_codes<T>(g, static_cast<std::size_t>(rows > 0 ? (rows - 1) * ld + c : 0)),
            at_front ? guard::before : guard::after));
        x.emplace_back(memory.back()->data(), rows, c, ld);
        const quant_params q{0.01f * static_cast<float>(1 + g() % 20), full_range<T>.lo + static_cast<int>(g() % 256)};
        p.push_back(make_concat<T>(g() % 3 ? q : y_params, y_params));
        all += c;
    }
    const index_t ldy = all + static_cast<index_t>(g() % 3);
    const auto size = static_cast<std::size_t>(rows > 0 ? (rows - 1) * ldy + all : 0);
    std::vector<T> want(size, T(77));
    ref::concat<T>(x, p, matrix_view<T>(want.data(), rows, all, ldy));
    for (isa i : available_isas())
        for (index_t threads : {1, 2, 3, 7}) {
            if (threads > 1 && rows * all < 10000) continue;
            const thread_team team{threads};
            guarded<T> y(std::vector<T>(size, T(77)), at_front ? guard::before : guard::after);
            concat<T>(x, p, matrix_view<T>(y.data(), rows, all, ldy), context(i, team));
            INFO(to_string(i) << " rows " << rows << " columns " << all << " threads " << threads);
            CHECK(std::vector<T>(y.begin(), y.end()) == want);
        }
}

} // namespace

TEST_CASE("concat: every code lands on the nearest one of the output's grid, and stays for equal params") {
    for (float sx : {0.01f, 0.05f, 0.3f, 1e-20f})
        for (int zx : {0, 100, 255})
            for (int zy : {0, 55, 255}) {
                const quant_params x{sx, zx}, y{0.05f, zy};
                const auto p = make_concat<std::uint8_t>(x, y);
                CHECK(p.copy == (sx == 0.05f && zx == zy));
                for (int c = 0; c < 256; ++c) {
                    const double real = static_cast<double>(sx) * (c - zx) / static_cast<double>(0.05f) + zy;
                    const double error =
                        std::fabs(std::fmin(std::fmax(real, 0), 255) - p.table(static_cast<std::uint8_t>(c)));
                    if (!(error <= (p.copy ? 0.0 : 0.50004))) CHECK(error <= 0.50004);
                }
            }
}

TEST_CASE("concat agrees with ref on every instruction set") {
    std::mt19937 g(1);
    for (index_t rows : {0, 1, 2, 5, 9})
        for (index_t c = 0; c <= 70; ++c) {
            check<std::uint8_t>(g, rows, {c, 3, c + 1});
            check<std::int8_t>(g, rows, {64, c});
        }
    check<std::uint8_t>(g, 300, {16, 24, 100, 7});
    check<std::int8_t>(g, 5, {5000, 1, 333});
    check<std::uint8_t>(g, 4, {});
    check<std::uint8_t>(g, 4, {20});
}

TEST_CASE("concat refuses bad arguments") {
    using u8 = std::uint8_t;
    const quant_params q{0.1f, 0};
    const auto make = [](quant_params x, quant_params y) {
        return error_text(errc::invalid_argument, [&] { (void)make_concat<u8>(x, y); });
    };
    for (float bad : {0.0f, -1.0f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        CHECK_THAT(make({bad, 0}, q), contains_text("x.scale"));
        CHECK_THAT(make(q, {bad, 0}), contains_text("y.scale"));
    }
    CHECK_THAT(make({0.1f, -1}, q), contains_text("x.zero_point"));
    CHECK_THAT(make(q, {0.1f, 256}), contains_text("y.zero_point"));
    CHECK_THAT(make({1e30f, 0}, {1e-30f, 0}), contains_text("differ too much"));
    std::vector<u8> a(6), y(12, 9);
    using in = matrix_view<const u8>;
    const in two[] = {in(a.data(), 2, 3), in(a.data(), 2, 2)}, uneven[] = {in(a.data(), 2, 3), in(a.data(), 3, 2)},
             null[] = {in(a.data(), 2, 3), in(nullptr, 2, 2)};
    const concat_params<u8> p[] = {make_concat<u8>(q, q), make_concat<u8>(q, {0.2f, 0})};
    CHECK_THAT(error_text(errc::shape_mismatch,
                          [&] { concat<u8>(two, std::span(p).first(1), matrix_view<u8>(y.data(), 2, 5)); }),
               contains_text("number of params is 1"));
    CHECK_THAT(error_text(errc::shape_mismatch, [&] { concat<u8>(two, p, matrix_view<u8>(y.data(), 2, 6)); }),
               contains_text("columns of y is 6, expected 5"));
    CHECK_THAT(error_text(errc::shape_mismatch, [&] { concat<u8>(uneven, p, matrix_view<u8>(y.data(), 2, 5)); }),
               contains_text("rows of x[1] is 3"));
    CHECK_THAT(error_text(errc::invalid_argument, [&] { concat<u8>(null, p, matrix_view<u8>(y.data(), 2, 5)); }),
               contains_text("x[1] is null"));
    CHECK(y == std::vector<u8>(12, 9));
}
