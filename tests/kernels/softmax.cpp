// SPDX-License-Identifier: Apache-2.0
//
// Softmax: the definition against double with the error that it states, the kernels of every instruction
// set against the definition.
#include "../catch.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <notch/kernels/softmax.hpp>

#include "../guard_page.hpp"
#include "team.hpp"

using namespace notch;

namespace {

/// 256 times the probabilities of one row, in double.
template <class X> std::vector<double> exact(const X* x, std::size_t n, double step) {
    std::vector<double> p(n);
    const X top = *std::max_element(x, x + n);
    double sum = 0;
    for (std::size_t j = 0; j < n; ++j) {
        p[j] = std::exp(-step * (static_cast<double>(top) - static_cast<double>(x[j])));
        sum += p[j];
    }
    for (double& v : p) v *= 256.0 / sum;
    return p;
}

/// The largest error of a row in codes; p above 255.5 / 256 has the code 255.
template <class X, class Params> double row_error(const std::vector<X>& x, const Params& p, double step) {
    const auto n = static_cast<index_t>(x.size());
    std::vector<std::uint8_t> y(x.size());
    ref::softmax(matrix_view<const X>(x.data(), 1, n), p, matrix_view<std::uint8_t>(y.data(), 1, n));
    const std::vector<double> want = exact(x.data(), x.size(), step);
    double worst = 0;
    for (std::size_t j = 0; j < x.size(); ++j)
        if (!(want[j] > 255.0 && y[j] == 255)) worst = std::max(worst, std::fabs(want[j] - y[j]));
    return worst;
}

/// Every instruction set against ref, rows with gaps between them, at guard pages.
template <class X, class Y, class Params>
void check(std::mt19937& g, index_t rows, index_t cols, int lo, int hi, const Params& p) {
    const index_t ldx = cols + static_cast<index_t>(g() % 3), ldy = cols + static_cast<index_t>(g() % 3);
    const auto size = [&](index_t ld) { return static_cast<std::size_t>(rows > 0 ? (rows - 1) * ld + cols : 0); };
    const auto x = random_codes<X>(g, size(ldx), lo, hi, g() % 4 == 0);
    std::vector<Y> want(size(ldy), Y(77));
    ref::softmax(matrix_view<const X>(x.data(), rows, cols, ldx), p, matrix_view<Y>(want.data(), rows, cols, ldy));
    const bool at_front = g() % 2;
    const guarded<X> from(x, at_front ? guard::before : guard::after);
    for (isa i : available_isas())
        for (index_t threads : {1, 2, 3, 7}) {
            if (threads > 1 && rows < 4) continue;
            const thread_team team{threads};
            guarded<Y> to(std::vector<Y>(size(ldy), Y(77)), at_front ? guard::before : guard::after);
            softmax(matrix_view<const X>(from.data(), rows, cols, ldx), p, matrix_view<Y>(to.data(), rows, cols, ldy),
                    context(i, team));
            INFO(to_string(i) << " " << rows << " x " << cols << " codes " << lo << ".." << hi << " threads "
                              << threads);
            CHECK(std::vector<Y>(to.begin(), to.end()) == want);
        }
}

} // namespace

TEST_CASE("softmax of two codes: all differences, all errors as stated") {
    for (float scale : {0.001f, 0.013f, 0.1f, 0.37f, 2.0f, 100.0f})
        for (float beta : {1.0f, 0.3f}) {
            const softmax_params p = make_softmax(scale, beta);
            const double step = static_cast<double>(scale) * static_cast<double>(beta);
            for (int d = 0; d < 256; ++d) {
                const std::vector<std::uint8_t> x{255, static_cast<std::uint8_t>(255 - d)};
                CHECK(row_error(x, p, step) <= 0.5 + 2 * 0x1p-23 + 0x1p-20);
            }
        }
}

TEST_CASE("softmax of codes stays within its error for long and short rows") {
    std::mt19937 g(3);
    for (std::size_t n : std::initializer_list<std::size_t>{1, 2, 3, 10, 100, 257, 1000, 5000, 100000})
        for (float scale : {0.0005f, 0.02f, 0.05f, 0.11f, 0.5f, 5.0f})
            for (int hi : {0, 1, 20, 255}) {
                std::vector<std::uint8_t> x = random_codes<std::uint8_t>(g, n, 0, hi);
                if (g() % 2) x[g() % n] = 255;
                INFO("n " << n << " scale " << scale << " hi " << hi);
                CHECK(row_error(x, make_softmax(scale), static_cast<double>(scale)) <=
                      0.5 + static_cast<double>(n) * 0x1p-23 + 0x1p-20);
            }
    // One far above many whose exponential is just below half a unit of 2^-30: the worst for the sum.
    for (std::size_t n : std::initializer_list<std::size_t>{1000, 1000000}) {
        std::vector<std::uint8_t> x(n, 0);
        x[n / 2] = 1;
        const float scale = 21.5f; // e^-21.5 = 0.494 * 2^-30
        CHECK(row_error(x, make_softmax(scale), 21.5) <= 0.5 + static_cast<double>(n) * 0x1p-23 + 0x1p-20);
    }
}

TEST_CASE("the polynomial of 2^-f is as accurate as it says, for every argument") {
    double worst = 0;
    for (std::int32_t f = 0; f < 32768; ++f) {
        const double want = std::exp2(30.0 - f / 32768.0), got = detail::exp2_q30(f);
        worst = std::max(worst, std::fabs(got - want) / want);
    }
    CHECK(worst < std::exp2(-14.38));
    CHECK(worst > std::exp2(-15.0)); // the bound is not idle
    CHECK(detail::exp2_q30(0) == 1 << 30);
}

TEST_CASE("softmax of accumulators stays within its error") {
    std::mt19937 g(5);
    const double bound = 0.508;
    for (float scale : {1e-12f, 1e-9f, 3e-7f, 1e-4f, 0.003f, 0.1f, 0.9f, 50.0f, 1e6f}) {
        const softmax_s32_params p = make_softmax_s32(scale);
        const auto step = static_cast<double>(scale);
        // Two elements, every kind of distance.
        for (int k = 0; k < 20000; ++k) {
            const double d = std::min(4294967295.0, std::floor(25.0 / step * k / 20000.0));
            const std::vector<std::int32_t> x{2147483647, static_cast<std::int32_t>(2147483647.0 - d)};
            const double error = row_error(x, p, step);
            if (!(error <= bound)) {
                INFO("scale " << scale << " d " << d << " error " << error);
                CHECK(error <= bound);
                break;
            }
        }
        for (std::size_t n : std::initializer_list<std::size_t>{1, 3, 17, 300, 4000})
            for (double spread : {1.0, 5.0, 40.0}) {
                std::vector<std::int32_t> x(n);
                for (auto& v : x)
                    v = static_cast<std::int32_t>(std::min(2e9, spread / step) *
                                                  (static_cast<double>(g() % 10001) / 10000.0 - 0.5));
                INFO("scale " << scale << " n " << n << " spread " << spread);
                CHECK(row_error(x, p, step) <= bound + static_cast<double>(n) * 0x1p-22);
            }
    }
}

TEST_CASE("softmax: values by hand") {
    const std::uint8_t x[] = {10, 10, 10, 10, 200, 0, 7, 7};
    std::uint8_t y[8];
    std::int8_t z[8];
    const softmax_params p = make_softmax(1.0f);
    for (isa i : available_isas()) {
        softmax(matrix_view<const std::uint8_t>(x, 2, 4), p, matrix_view<std::uint8_t>(y, 2, 4), context(i));
        softmax(matrix_view<const std::uint8_t>(x, 2, 4), p, matrix_view<std::int8_t>(z, 2, 4), context(i));
        for (int j = 0; j < 4; ++j) {
            CHECK(int{y[j]} == 64);
            CHECK(int{z[j]} == -64);
            CHECK(int{y[4 + j]} == (j == 0 ? 255 : 0)); // p = 1 is 255 / 256
            CHECK(int{z[4 + j]} == (j == 0 ? 127 : -128));
        }
        // A mask of INT32_MIN takes no part.
        const std::int32_t scores[] = {1000, std::numeric_limits<std::int32_t>::min(), 1000, 1000 - 6931}; // 1/2 of it
        softmax(matrix_view<const std::int32_t>(scores, 1, 4), make_softmax_s32(1e-4f),
                matrix_view<std::uint8_t>(y, 1, 4), context(i));
        CHECK(int{y[0]} == 102); // 256 / 2.5
        CHECK(int{y[1]} == 0);
        CHECK(int{y[3]} == 51);
    }
}

TEST_CASE("softmax agrees with ref on every instruction set") {
    std::mt19937 g(7);
    const softmax_params params[] = {make_softmax(0.001f), make_softmax(0.05f), make_softmax(0.4f),
                                     make_softmax(30.0f)};
    std::vector<index_t> cols{200, 255, 256, 257, 600, 1023, 1500};
    for (index_t n = 0; n <= 140; ++n) cols.push_back(n);
    for (index_t n : cols)
        for (const softmax_params& p : params) {
            const int hi = g() % 2 ? 255 : static_cast<int>(g() % 256),
                      lo = static_cast<int>(g() % static_cast<unsigned>(hi + 1));
            check<std::uint8_t, std::uint8_t>(g, 3, n, lo, hi, p);
            check<std::int8_t, std::int8_t>(g, 2, n, lo - 128, hi - 128, p);
            check<std::int8_t, std::uint8_t>(g, 1, n, lo - 128, hi - 128, p);
            check<std::uint8_t, std::int8_t>(g, 1, n, lo, hi, p);
            const softmax_s32_params q = make_softmax_s32(std::ldexp(1.0f, static_cast<int>(g() % 60) - 50));
            const int big = std::numeric_limits<int>::max() >> g() % 31;
            check<std::int32_t, std::uint8_t>(g, 3, n, -big - 1, big, q);
            check<std::int32_t, std::int8_t>(g, 1, n, -big - 1, big, q);
        }
    for (index_t rows : {40, 101}) { // enough for several tasks
        check<std::uint8_t, std::uint8_t>(g, rows, 1000, 0, 255, params[1]);
        check<std::int8_t, std::int8_t>(g, rows, 700, -128, 127, params[2]);
        check<std::int32_t, std::uint8_t>(g, rows, 500, -1000, 1000, make_softmax_s32(0.01f));
    }
    // So many columns that all codes are 0, or that the sum is shifted.
    for (index_t n : {510, 511, 512, 513, 1024, 3000, 300000}) {
        check<std::uint8_t, std::uint8_t>(g, 1, n, 7, 7, params[1]);
        check<std::int32_t, std::int8_t>(g, 1, n, 7, 7, make_softmax_s32(1.0f));
    }
}

TEST_CASE("softmax works in place") {
    std::mt19937 g(8);
    const softmax_params p = make_softmax(0.06f);
    const auto x = random_codes<std::int8_t>(g, 5 * 333);
    std::vector<std::int8_t> want(x.size());
    ref::softmax(matrix_view<const std::int8_t>(x.data(), 5, 333), p, matrix_view<std::int8_t>(want.data(), 5, 333));
    for (isa i : available_isas()) {
        auto y = x;
        softmax(matrix_view<const std::int8_t>(y.data(), 5, 333), p, matrix_view<std::int8_t>(y.data(), 5, 333),
                context(i));
        CHECK(y == want);
    }
}

TEST_CASE("softmax refuses bad arguments") {
    const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
    for (float bad : {0.0f, -1.0f, nan, inf}) {
        CHECK_THAT(error_text(errc::invalid_argument, [&] { (void)make_softmax(bad); }),
                   contains_text("make_softmax: scale"));
        CHECK_THAT(error_text(errc::invalid_argument, [&] { (void)make_softmax(1.0f, bad); }), contains_text("beta"));
        CHECK_THAT(error_text(errc::invalid_argument, [&] { (void)make_softmax_s32(bad); }),
                   contains_text("make_softmax_s32: scale"));
        CHECK_THAT(error_text(errc::invalid_argument, [&] { (void)make_softmax_s32(1.0f, bad); }),
                   contains_text("beta"));
    }
    // The smallest and the largest scales are fine.
    for (float good : {std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::max()}) {
        CHECK(make_softmax(good, good).exponential[0] == 1u << 30);
        CHECK(make_softmax_s32(good, good).shift <= 62);
    }
    std::vector<std::uint8_t> x(6), y(6);
    using in = matrix_view<const std::uint8_t>;
    using out = matrix_view<std::uint8_t>;
    const softmax_params p = make_softmax(1.0f);
    CHECK_THAT(error_text(errc::shape_mismatch, [&] { softmax(in(x.data(), 2, 3), p, out(y.data(), 3, 3)); }),
               contains_text("rows of y"));
    CHECK_THAT(error_text(errc::shape_mismatch, [&] { softmax(in(x.data(), 2, 3), p, out(y.data(), 2, 2, 3)); }),
               contains_text("columns of y"));
    CHECK_THAT(error_text(errc::invalid_argument, [&] { softmax(in(nullptr, 2, 3), p, out(y.data(), 2, 3)); }),
               contains_text("x is null"));
    CHECK_THAT(error_text(errc::invalid_argument, [&] { softmax(in(x.data(), 2, 3, 2), p, out(y.data(), 2, 3)); }),
               contains_text("stride 2"));
    CHECK_THAT(
        error_text(errc::invalid_argument, [&] { softmax(in(x.data(), 2, 3), softmax_params{}, out(y.data(), 2, 3)); }),
        contains_text("make_softmax"));
    const std::int32_t score = 1;
    CHECK_THAT(error_text(errc::overflow,
                          [&] {
                              softmax(matrix_view<const std::int32_t>(&score, 1, max_softmax_cols + 1),
                                      make_softmax_s32(1.0f), out(y.data(), 1, max_softmax_cols + 1));
                          }),
               contains_text("2147483649"));
    CHECK_THAT(error_text(errc::invalid_argument,
                          [&] {
                              softmax(matrix_view<const std::int32_t>(&score, 1, 1), softmax_s32_params{1, 63, 1},
                                      out(y.data(), 1, 1));
                          }),
               contains_text("make_softmax_s32"));
}
