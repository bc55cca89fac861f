// SPDX-License-Identifier: Apache-2.0
//
// Layer norm and RMS norm: the definition against double with the error that the parameters state, the kernels of
// every instruction set against the definition.
#include "../catch.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <notch/kernels/norm.hpp>

#include "../guard_page.hpp"
#include "team.hpp"

using namespace notch;

namespace {

enum class fill { random, narrow, constant, one_differs, two_values, extremes };
constexpr fill all_fills[] = {fill::random,      fill::narrow,     fill::constant,
                              fill::one_differs, fill::two_values, fill::extremes};

template <class T> std::vector<T> make_row(std::mt19937& g, std::size_t n, fill f) {
    constexpr int lo = std::numeric_limits<T>::min(), hi = std::numeric_limits<T>::max();
    const int base = lo + static_cast<int>(g() % static_cast<unsigned>(hi - lo));
    switch (f) {
    case fill::random: return random_codes<T>(g, n);
    case fill::narrow: return random_codes<T>(g, n, base, std::min(hi, base + 5));
    case fill::constant: return std::vector<T>(n, static_cast<T>(base));
    case fill::two_values: return random_codes<T>(g, n, base, base + 1);
    case fill::extremes: return random_codes<T>(g, n, lo, hi, true);
    case fill::one_differs: break;
    }
    std::vector<T> v(n, static_cast<T>(base));
    v[g() % n] = static_cast<T>(g() % 2 ? base + 1 : hi);
    return v;
}

std::vector<float> random_floats(std::mt19937& g, std::size_t n, float size) {
    std::uniform_real_distribution<float> d(-size, size);
    std::vector<float> v(n);
    for (float& x : v) x = d(g);
    return v;
}

struct setting {
    norm_kind kind;
    float x_scale, epsilon, y_scale, gamma_size, beta_size;
};

template <class X, class Y>
norm_params<X, Y> make(const setting& s, index_t cols, quant_params x, std::span<const float> gamma,
                       std::span<const float> beta, quant_params y) {
    return s.kind == norm_kind::layer ? make_layer_norm<X, Y>(cols, x, s.epsilon, gamma, beta, y)
                                      : make_rms_norm<X, Y>(cols, x, s.epsilon, gamma, y);
}

/// One row by the definition against long double.
template <class X, class Y>
void check_error(std::mt19937& g, const setting& s, std::size_t n, fill f, double& worst, double& stated) {
    const auto codes = make_row<X>(g, n, f);
    const bool has_gamma = g() % 4 != 0, has_beta = s.kind == norm_kind::layer && g() % 4 != 0;
    const auto gamma = random_floats(g, has_gamma ? n : 0, s.gamma_size),
               beta = random_floats(g, has_beta ? n : 0, s.beta_size);
    const code_range xr = detail::norm_range<X>, yr = detail::norm_range<Y>;
    const quant_params x{s.x_scale, sizeof(X) == 2 ? 0 : xr.lo + static_cast<int>(g() % 256)};
    const quant_params y{s.y_scale, yr.lo + static_cast<int>(g() % 256)};
    const auto p = make<X, Y>(s, static_cast<index_t>(n), x, gamma, beta, y);
    std::vector<Y> got(n);
    const auto cols = static_cast<index_t>(n);
    ref::norm(matrix_view<const X>(codes.data(), 1, cols), p, matrix_view<Y>(got.data(), 1, cols));

    std::vector<long double> v(n);
    long double mean = 0, variance = 0;
    for (std::size_t j = 0; j < n; ++j) {
        v[j] = static_cast<long double>(s.x_scale) * (codes[j] - x.zero_point);
        mean += v[j] / static_cast<long double>(n);
    }
    if (s.kind == norm_kind::rms) mean = 0;
    for (long double r : v) variance += (r - mean) * (r - mean) / static_cast<long double>(n);
    const bool flat = std::all_of(codes.begin(), codes.end(), [&](X c) { return c == codes[0]; });
    for (std::size_t j = 0; j < n; ++j) {
        long double z = (v[j] - mean) / std::sqrt(variance + static_cast<long double>(s.epsilon));
        // A row without variance: 0, also where epsilon is 0.
        if ((s.kind == norm_kind::layer && flat) || (s.kind == norm_kind::rms && flat && codes[0] == x.zero_point))
            z = 0;
        const long double real =
            (z * (has_gamma ? gamma[j] : 1.0f) + (has_beta ? beta[j] : 0.0f)) / static_cast<long double>(s.y_scale) +
            y.zero_point;
        const long double inside =
            std::min(std::max(real, static_cast<long double>(yr.lo)), static_cast<long double>(yr.hi));
        const double error = static_cast<double>(std::fabs(inside - got[j]));
        if (error - 0.5 > worst * (p.max_error - 0.5)) worst = (error - 0.5) / (p.max_error - 0.5);
        if (!(error <= p.max_error)) {
            INFO("n " << n << " fill " << static_cast<int>(f) << " column " << j << " error " << error << " stated "
                      << p.max_error);
            CHECK(error <= p.max_error);
        }
    }
    stated = std::max(stated, p.max_error);
}

template <class X, class Y> void check_kernels(std::mt19937& g, const setting& s, index_t rows, index_t cols, fill f) {
    const auto n = static_cast<std::size_t>(cols);
    const auto gamma = random_floats(g, n, s.gamma_size),
               beta = random_floats(g, s.kind == norm_kind::layer ? n : 0, s.beta_size);
    const code_range xr = detail::norm_range<X>, yr = detail::norm_range<Y>;
    const quant_params x{s.x_scale, sizeof(X) == 2 ? 0 : xr.lo + static_cast<int>(g() % 256)},
        y{s.y_scale, yr.lo + static_cast<int>(g() % 256)};
    const auto p = make<X, Y>(s, cols, x, gamma, beta, y);
    const index_t ldx = cols + static_cast<index_t>(g() % 3), ldy = cols + static_cast<index_t>(g() % 3);
    const auto size = [&](index_t ld) { return static_cast<std::size_t>(rows > 0 ? (rows - 1) * ld + cols : 0); };
    std::vector<X> codes(size(ldx));
    for (index_t i = 0; i < rows; ++i) {
        const auto row = make_row<X>(g, n, f);
        std::copy(row.begin(), row.end(), codes.begin() + i * ldx);
    }
    std::vector<Y> want(size(ldy), Y(77));
    ref::norm(matrix_view<const X>(codes.data(), rows, cols, ldx), p, matrix_view<Y>(want.data(), rows, cols, ldy));
    const bool at_front = g() % 2;
    const guarded<X> from(codes, at_front ? guard::before : guard::after);
    for (isa i : available_isas())
        for (index_t threads : {1, 2, 3, 7}) {
            if (threads > 1 && rows < 4) continue;
            const thread_team team{threads};
            guarded<Y> to(std::vector<Y>(size(ldy), Y(77)), at_front ? guard::before : guard::after);
            norm(matrix_view<const X>(from.data(), rows, cols, ldx), p, matrix_view<Y>(to.data(), rows, cols, ldy),
                 context(i, team));
            INFO(to_string(i) << " " << rows << " x " << cols << " threads " << threads << " fill "
                              << static_cast<int>(f));
            CHECK(std::vector<Y>(to.begin(), to.end()) == want);
        }
}

} // namespace

TEST_CASE("norms stay within the error that their parameters state") {
    std::mt19937 g(1);
    double worst = -1, stated = 0, worst_wide = -1, stated_wide = 0;
    for (norm_kind kind : {norm_kind::layer, norm_kind::rms})
        for (std::size_t n : std::initializer_list<std::size_t>{1, 2, 3, 5, 16, 64, 100, 768, 1024, 4096, 65535, 65536})
            for (fill f : all_fills)
                for (float epsilon : {0.0f, 1e-6f, 1e-5f, 1e-3f}) {
                    if (n > 60000 && epsilon > 0.0f && epsilon < 1e-4f) continue;
                    const setting a{kind, 0.02f, epsilon, 0.03f, 1.0f, 0.5f},
                        b{kind, 0.004f, epsilon, 0.05f, 3.0f, 2.0f};
                    check_error<std::uint8_t, std::uint8_t>(g, a, n, f, worst, stated);
                    check_error<std::int8_t, std::int8_t>(g, b, n, f, worst, stated);
                    check_error<std::uint8_t, std::int8_t>(g, b, n, f, worst, stated);
                    const setting c{kind, 1e-4f, epsilon, 0.03f, 1.0f, 0.5f},
                        d{kind, 0.003f, epsilon, n > 60000 ? 2e-3f : 2e-4f, 1.0f, 1.0f};
                    check_error<std::int16_t, std::uint8_t>(g, c, n, f, worst_wide, stated_wide);
                    check_error<std::int16_t, std::int8_t>(g, a, n, f, worst_wide, stated_wide);
                    check_error<std::int8_t, std::int16_t>(g, d, n, f, worst_wide, stated_wide);
                    check_error<std::int16_t, std::int16_t>(g, d, n, f, worst_wide, stated_wide);
                }
    INFO("share of the margin used " << worst << " of " << stated << ", s16 " << worst_wide << " of " << stated_wide);
    CHECK(worst > 0.25); // the bounds are not idle
    CHECK(worst_wide > 0.25);
    CHECK(stated < 0.51);
    CHECK(stated_wide < 1.0); // s16 outputs of 65536 columns
}

TEST_CASE("norms: values by hand") {
    const std::int8_t x[] = {1, 3, 1, 3, 5, 5, 5, 5}; // mean 2, variance 1; no variance
    const std::vector<float> gamma{1.0f, 1.0f, 2.0f, 2.0f}, beta{0.0f, 0.0f, 0.0f, 1.0f};
    const auto layer = make_layer_norm<std::int8_t, std::int8_t>(4, {0.5f, -3}, 0.0f, gamma, beta, {0.1f, 7});
    const auto rms = make_rms_norm<std::int8_t, std::uint8_t>(4, {0.5f, 0}, 0.0f, {}, {0.01f, 3});
    for (isa i : available_isas()) {
        std::int8_t y[8];
        norm(matrix_view<const std::int8_t>(x, 2, 4), layer, matrix_view<std::int8_t>(y, 2, 4), context(i));
        const int want[] = {7 - 10, 7 + 10, 7 - 20, 7 + 20 + 10, 7, 7, 7, 7 + 10};
        for (int j = 0; j < 8; ++j) CHECK(int{y[j]} == want[j]);
        std::uint8_t z[8];
        norm(matrix_view<const std::int8_t>(x, 2, 4), rms, matrix_view<std::uint8_t>(z, 2, 4), context(i));
        CHECK(int{z[0]} == 3 + 45); // 1 / sqrt(5)
        CHECK(int{z[1]} == 3 + 134);
        CHECK(int{z[4]} == 3 + 100);
    }
}

TEST_CASE("norms agree with ref on every instruction set") {
    std::mt19937 g(2);
    std::vector<index_t> cols{255, 256, 257, 768, 1000, 5000, 65536};
    for (index_t n = 1; n <= 135; ++n) cols.push_back(n);
    for (index_t n : cols)
        for (norm_kind kind : {norm_kind::layer, norm_kind::rms}) {
            const setting s{kind, 0.02f, 1e-5f, 0.03f, 1.5f, 1.0f},
                fine{kind, 0.02f, g() % 2 ? 0.0f : 1e-3f, 1e-3f, 1.0f, 1.0f};
            const fill f = all_fills[g() % 6], h = all_fills[g() % 6];
            const index_t rows = n > 60000 ? 1 : 3;
            check_kernels<std::uint8_t, std::uint8_t>(g, s, rows, n, f);
            check_kernels<std::int8_t, std::int8_t>(g, s, rows, n, h);
            check_kernels<std::uint8_t, std::int8_t>(g, fine, 1, n, h);
            check_kernels<std::int8_t, std::int16_t>(g, fine, 1, n, f);
            check_kernels<std::int16_t, std::uint8_t>(g, s, rows, n, f);
            check_kernels<std::int16_t, std::int16_t>(g, fine, 1, n, h);
        }
    const setting s{norm_kind::layer, 0.02f, 1e-5f, 0.03f, 1.5f, 1.0f};
    check_kernels<std::uint8_t, std::uint8_t>(g, s, 57, 700, fill::random);
    check_kernels<std::int16_t, std::int8_t>(g, s, 31, 900, fill::random);
    check_kernels<std::int8_t, std::int8_t>(g, s, 0, 9, fill::random);
}

TEST_CASE("norms clamp to a range, and work in place") {
    std::mt19937 g(4);
    const auto x = random_codes<std::uint8_t>(g, 6 * 200);
    const auto p = make_layer_norm<std::uint8_t, std::uint8_t>(200, {0.1f, 3}, 1e-5f, {}, {}, {0.02f, 100}, {100, 170});
    std::vector<std::uint8_t> want(x.size());
    ref::norm(matrix_view<const std::uint8_t>(x.data(), 6, 200), p, matrix_view<std::uint8_t>(want.data(), 6, 200));
    CHECK(*std::min_element(want.begin(), want.end()) == 100);
    CHECK(*std::max_element(want.begin(), want.end()) == 170);
    for (isa i : available_isas()) {
        auto y = x;
        norm(matrix_view<const std::uint8_t>(y.data(), 6, 200), p, matrix_view<std::uint8_t>(y.data(), 6, 200),
             context(i));
        CHECK(y == want);
    }
}

TEST_CASE("norms refuse bad arguments") {
    using u8 = std::uint8_t;
    const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
    const quant_params q{0.1f, 0};
    const std::vector<float> two{1.0f, 1.0f}, bad_gamma{1.0f, nan}, three(3, 1.0f), huge{1e9f, 1.0f};
    const auto layer = [&](errc code, index_t cols, quant_params x, float e, std::span<const float> gamma,
                           std::span<const float> beta, quant_params y) {
        return error_text(code, [&] { (void)make_layer_norm<u8, u8>(cols, x, e, gamma, beta, y); });
    };
    const errc invalid = errc::invalid_argument;
    for (float bad : {0.0f, -1.0f, nan, inf}) {
        CHECK_THAT(layer(invalid, 2, {bad, 0}, 0, two, two, q), contains_text("make_layer_norm: x.scale"));
        CHECK_THAT(layer(invalid, 2, q, 0, two, two, {bad, 0}), contains_text("y.scale"));
    }
    for (float bad : {-1e-5f, nan, inf}) CHECK_THAT(layer(invalid, 2, q, bad, two, two, q), contains_text("epsilon"));
    CHECK_THAT(layer(invalid, 2, {1.0f, 256}, 0, two, two, q), contains_text("x.zero_point"));
    CHECK_THAT(layer(invalid, 2, q, 0, two, two, {1.0f, -1}), contains_text("y.zero_point"));
    CHECK_THAT(layer(invalid, 0, q, 0, {}, {}, q), contains_text("0 columns"));
    CHECK_THAT(layer(invalid, 65537, q, 0, {}, {}, q), contains_text("65537 columns"));
    CHECK_THAT(layer(errc::shape_mismatch, 2, q, 0, three, two, q), contains_text("size of gamma is 3"));
    CHECK_THAT(layer(errc::shape_mismatch, 2, q, 0, two, three, q), contains_text("size of beta is 3"));
    CHECK_THAT(layer(invalid, 2, q, 0, bad_gamma, two, q), contains_text("gamma[1]"));
    CHECK_THAT(layer(invalid, 2, q, 0, two, bad_gamma, q), contains_text("beta[1]"));
    CHECK_THAT(layer(errc::overflow, 2, q, 0, huge, two, q), contains_text("too large for y.scale"));
    CHECK_THAT(layer(errc::overflow, 2, q, 0, two, huge, q), contains_text("too large for y.scale"));
    CHECK_THAT(layer(errc::overflow, 2, {1e-20f, 0}, 1.0f, two, two, q), contains_text("too large for x.scale"));
    CHECK_THAT(error_text(invalid,
                          [&] {
                              (void)make_rms_norm<std::int16_t, u8>(2, {0.1f, 1}, 0, two, q);
                          }),
               contains_text("x.zero_point"));
    CHECK_THAT(error_text(invalid,
                          [&] {
                              (void)make_layer_norm<u8, u8>(2, q, 0, two, two, q, {3, 2});
                          }),
               contains_text("3..2"));

    const auto p = make_layer_norm<u8, u8>(2, q, 0, two, two, q);
    std::vector<u8> x(6), y(6);
    using in = matrix_view<const u8>;
    using out = matrix_view<u8>;
    CHECK_THAT(error_text(errc::shape_mismatch, [&] { norm(in(x.data(), 2, 3), p, out(y.data(), 2, 3)); }),
               contains_text("columns of x is 3"));
    CHECK_THAT(error_text(errc::shape_mismatch, [&] { norm(in(x.data(), 2, 2), p, out(y.data(), 2, 3)); }),
               contains_text("columns of y is 3"));
    CHECK_THAT(error_text(errc::shape_mismatch, [&] { norm(in(x.data(), 2, 2), p, out(y.data(), 3, 2)); }),
               contains_text("rows of y is 3"));
    CHECK_THAT(error_text(invalid, [&] { norm(in(nullptr, 2, 2), p, out(y.data(), 2, 2)); }),
               contains_text("x is null"));
    CHECK_THAT(error_text(invalid, [&] { norm(in(x.data(), 2, 2), p, out(nullptr, 2, 2)); }),
               contains_text("y is null"));
    CHECK_THAT(error_text(invalid, [&] { norm(in(x.data(), 2, 2), norm_params<u8, u8>(), out(y.data(), 2, 2)); }),
               contains_text("make_layer_norm"));
}
