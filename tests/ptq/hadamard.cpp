// SPDX-License-Identifier: Apache-2.0
//
// Hadamard rotations: matrices known by hand, orthogonality for every order, layers that compute the same, and what
// they are for: outliers.
#include "../catch.hpp"
#include "values.hpp"

#include <cfloat>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <notch/ptq/hadamard.hpp>
#include <notch/ref/quantize.hpp>

using namespace notch;

namespace {

/// sqrt(n) H without signs, rounded: row i of the result is H e_i, so this is its transpose.
std::vector<int> columns_of(index_t n) {
    std::vector<float> x(static_cast<std::size_t>(n * n));
    for (index_t i = 0; i < n; ++i) x[static_cast<std::size_t>(i * (n + 1))] = 1;
    hadamard_rotation(n).rotate({x.data(), n, n});
    std::vector<int> h;
    for (float v : x) {
        const double entry = static_cast<double>(v) * std::sqrt(static_cast<double>(n));
        h.push_back(static_cast<int>(std::lround(entry)));
        CHECK(std::fabs(entry - h.back()) < 1e-6);
    }
    return h;
}

/// y = W x, and the sum of the magnitudes of its terms.
struct sum_of {
    double y, size;
};
sum_of row_product(const float* w, const float* x, std::size_t n) {
    sum_of s{0, 0};
    for (std::size_t c = 0; c < n; ++c) {
        s.y += static_cast<double>(w[c]) * static_cast<double>(x[c]);
        s.size += std::fabs(static_cast<double>(w[c]) * static_cast<double>(x[c]));
    }
    return s;
}

double norm(const float* x, std::size_t n) { return std::sqrt(row_product(x, x, n).y); }

} // namespace

TEST_CASE("hadamard: Sylvester's of order 4, Paley's of orders 12 (q = 11) and 28 (q = 13)") {
    CHECK(columns_of(1) == std::vector<int>{1});
    CHECK(columns_of(4) == std::vector<int>{1, 1, 1, 1, 1, -1, 1, -1, 1, 1, -1, -1, 1, -1, -1, 1});
    // The squares modulo 11 are 1, 3, 4, 5 and 9: chi(i - j) for i = 0, and the diagonal of I, make row 1 of P.
    const std::vector<int> twelve = columns_of(12);
    const int second[12] = {-1, 1, -1, 1, -1, -1, -1, 1, 1, 1, -1, 1};
    for (std::size_t j = 0; j < 12; ++j) {
        CHECK(twelve[j * 12] == 1);
        CHECK(twelve[j * 12 + 1] == second[j]);
    }
    // Modulo 13 they are 1, 3, 4, 9, 10 and 12. Rows 0 and 1 of P are [0 1 1 ...] kron [1 1] and [1 -1], and the block
    // of the diagonal; row 2 is [1 0 chi(-1) chi(-2) ...] kron [1 1] and that block.
    const std::vector<int> h = columns_of(28);
    const int chi[13] = {0, 1, -1, 1, 1, -1, -1, -1, -1, 1, 1, -1, 1};
    for (std::size_t j = 0; j < 14; ++j) {
        CHECK(h[2 * j * 28] == 1);
        CHECK(h[(2 * j + 1) * 28] == (j == 0 ? -1 : 1));
        CHECK(h[2 * j * 28 + 1] == (j == 0 ? -1 : 1));
        CHECK(h[(2 * j + 1) * 28 + 1] == -1);
        CHECK(h[2 * j * 28 + 2] == (j <= 1 ? 1 : chi[j - 1]));
        CHECK(h[(2 * j + 1) * 28 + 2] == (j == 0 ? 1 : j == 1 ? -1 : chi[j - 1]));
    }
}

TEST_CASE("hadamard: entries of one magnitude and orthogonal rows for every order; which orders there are") {
    for (const index_t n : {1, 2, 4, 8, 12, 16, 20, 24, 28, 36, 40, 44, 56, 60, 64, 76, 80, 84, 104, 108, 140}) {
        CAPTURE(n);
        REQUIRE(is_hadamard_size(n));
        const std::vector<int> h = columns_of(n);
        bool fine = true;
        for (index_t i = 0; i < n; ++i)
            for (index_t j = 0; j < n; ++j) {
                int dot = 0;
                for (index_t k = 0; k < n; ++k)
                    dot += h[static_cast<std::size_t>(i * n + k)] * h[static_cast<std::size_t>(j * n + k)];
                fine = fine && std::abs(h[static_cast<std::size_t>(i * n + j)]) == 1 && dot == (i == j ? n : 0);
            }
        CHECK(fine);
    }
    // Widths of language models: 2^12, 20 2^8, 28 2^9, 108 2^7, 140 2^7, 5504 2.
    for (const index_t n : {4096, 5120, 14336, 13824, 17920, 11008}) CHECK(is_hadamard_size(n));
    for (const index_t n : {-4, 0, 3, 6, 10, 14, 52, 92, 4097}) {
        CAPTURE(n);
        CHECK(!is_hadamard_size(n));
        CHECK_THROWS_WITH(hadamard_rotation(n), contains_text("no Hadamard matrix of order"));
        CHECK_THROWS_WITH(hadamard_rotation(n, 7), contains_text("no Hadamard matrix of order"));
    }
}

TEST_CASE("hadamard: signs by the seed, the way back, norms") {
    for (const index_t n : {8, 28, 96, 160}) {
        CAPTURE(n);
        const auto size = static_cast<std::size_t>(n);
        const std::vector<float> x = normal_values(19 * size, 1);
        const hadamard_rotation plain(n), h(n, 0x123456789u), other(n, 3);
        CHECK(h.size() == n);
        // H x = S (D x) / sqrt(n), with the bits of the generator.
        std::vector<float> flipped = x, y = x, again = x, third = x;
        int minus = 0;
        for (std::size_t i = 0; i < flipped.size(); ++i) {
            const auto at = static_cast<std::uint32_t>(i % size);
            const bool negative = philox4x32({{at / 4}}, 0x123456789u).word[at % 4] >= 0x80000000u;
            minus += i < size && negative ? 1 : 0;
            if (negative) flipped[i] = -flipped[i];
        }
        CHECK(minus > 0);
        CHECK(minus < n);
        plain.rotate({flipped.data(), 19, n});
        h.rotate({y.data(), 19, n});
        h.rotate({again.data(), 19, n});
        other.rotate({third.data(), 19, n});
        CHECK(y == flipped);
        CHECK(y == again);
        CHECK(y != third);
        for (std::size_t r = 0; r < 19; ++r)
            CHECK(norm(y.data() + r * size, size) == Approx(norm(x.data() + r * size, size)));
        h.rotate_back({y.data(), 19, n});
        double apart = 0;
        for (std::size_t i = 0; i < x.size(); ++i)
            apart = std::max(apart, std::fabs(static_cast<double>(y[i]) - static_cast<double>(x[i])));
        CHECK(apart < 2e-6);
        CHECK(apart > 0.0);
    }
}

TEST_CASE("hadamard: sums of integers are exact, so these floats are the same everywhere") {
    const std::vector<int> columns = columns_of(56);
    std::vector<float> x(56), y(56);
    for (std::size_t i = 0; i < 56; ++i) x[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50);
    for (std::size_t i = 0; i < 56; ++i) {
        int sum = 0;
        for (std::uint32_t j = 0; j < 56; ++j) {
            const bool negative = philox4x32({{j / 4}}, 5).word[j % 4] >= 0x80000000u;
            sum += columns[j * 56 + i] * static_cast<int>(x[j]) * (negative ? -1 : 1);
        }
        y[i] = static_cast<float>(sum / std::sqrt(56.0));
    }
    hadamard_rotation(56, 5).rotate({x.data(), 1, 56});
    CHECK(x == y);
}

TEST_CASE("hadamard: y = (W H^T)(H x), and H y = (H W) x + H b, to the accuracy of floats; views with strides") {
    for (const index_t n : {64, 96, 140}) {
        const index_t out = 60, wide = n + 5;
        const auto size = static_cast<std::size_t>(n);
        const std::vector<float> w = normal_values(static_cast<std::size_t>(out * n), 2), b = normal_values(60, 3);
        std::vector<float> x = normal_values(size, 4), back = x;
        x[3] = 100;
        const hadamard_rotation in(n, 11), of(out, 12);
        std::vector<float> strided(static_cast<std::size_t>(out * wide), 9.0f), hx = x;
        for (std::size_t i = 0; i < w.size(); ++i) strided[i / size * (size + 5) + i % size] = w[i];
        in.rotate_inputs({strided.data(), out, n, wide});
        in.rotate({hx.data(), 1, n, 0});
        for (std::size_t r = 0; r < 60; ++r) {
            const sum_of before = row_product(w.data() + r * size, x.data(), size),
                         after = row_product(strided.data() + r * (size + 5), hx.data(), size);
            // Each term has three roundings: of w, of x, and those of w and x that were rotated.
            CHECK(std::fabs(after.y - before.y) <= 4 * 6e-8 * (before.size + after.size));
            for (std::size_t k = size; k < size + 5; ++k) CHECK(strided[r * (size + 5) + k] == 9.0f);
        }
        for (std::size_t i = 0; i < w.size(); ++i) strided[i / size * (size + 5) + i % size] = w[i];
        of.rotate_outputs({strided.data(), out, n, wide});
        std::vector<float> hb = b, y(60);
        of.rotate({hb.data(), 1, out});
        double scale = 0;
        for (std::size_t r = 0; r < 60; ++r) {
            const sum_of s = row_product(w.data() + r * size, x.data(), size);
            y[r] = static_cast<float>(s.y + static_cast<double>(b[r]));
            scale += s.size + 1;
        }
        of.rotate({y.data(), 1, out});
        for (std::size_t r = 0; r < 60; ++r)
            CHECK(std::fabs(row_product(strided.data() + r * (size + 5), x.data(), size).y +
                            static_cast<double>(hb[r]) - static_cast<double>(y[r])) <= 6e-8 * scale);
        CHECK(strided[size] == 9.0f);
    }
}

TEST_CASE("hadamard: incoherence by hand, and of data with outliers") {
    const std::vector<float> v{3, -4, 0, 0}, zeros(4);
    CHECK(incoherence({v.data(), 2, 2}) == Approx(4 / 2.5));
    CHECK(incoherence({zeros.data(), 2, 2}) == 0.0);
    CHECK(incoherence({nullptr, 0, 2}) == 0.0);

    for (const index_t n : {256, 240}) { // 240 = 60 4
        const index_t rows = 64;
        std::vector<float> x = normal_values(static_cast<std::size_t>(rows * n), 5), one(static_cast<std::size_t>(n));
        for (index_t r = 0; r < rows; ++r)
            for (const index_t c : {7, 100, 201}) x[static_cast<std::size_t>(r * n + c)] += 60.0f;
        const hadamard_rotation h(n, 1);
        const double before = incoherence({x.data(), rows, n});
        h.rotate({x.data(), rows, n});
        const double after = incoherence({x.data(), rows, n});
        CAPTURE(n, before, after);
        CHECK(before > 8);
        CHECK(after < 4);
        one[50] = 8;
        h.rotate({one.data(), 1, n});
        CHECK(incoherence({one.data(), 1, n}) == Approx(1));
    }
}

TEST_CASE("hadamard: 4-bit activations with outliers and 8-bit weights, less than a third of plain rounding's error") {
    const index_t out = 32, n = 192, rows = 64; // 12 16
    const std::vector<float> w = normal_values(static_cast<std::size_t>(out * n), 6);
    std::vector<float> x = normal_values(static_cast<std::size_t>(rows * n), 7);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] *= i % 192 % 64 == 5 ? 50.0f : 1.0f;
    // Rows rounded with scales of their own.
    const auto rounded = [](std::vector<float> m, auto type) {
        using range_t = decltype(type);
        for (std::size_t r = 0; r < m.size(); r += 192) {
            real_range range;
            for (std::size_t c = r; c < r + 192; ++c) range = {std::min(range.min, m[c]), std::max(range.max, m[c])};
            const quant_params p = params_from_range<range_t>(range);
            for (std::size_t c = r; c < r + 192; ++c)
                m[c] = ref::dequantize(ref::quantize(m[c], p, {range_t::qmin, range_t::qmax}), p);
        }
        return m;
    };
    const auto error = [&](const std::vector<float>& a, const std::vector<float>& b) {
        double sum = 0;
        for (std::size_t r = 0; r < 64; ++r)
            for (std::size_t k = 0; k < 32; ++k) {
                const double e = row_product(a.data() + k * 192, b.data() + r * 192, 192).y -
                                 row_product(w.data() + k * 192, x.data() + r * 192, 192).y;
                sum += e * e;
            }
        return sum;
    };
    const double plain = error(rounded(w, symmetric<8>{}), rounded(x, symmetric<4>{}));
    const hadamard_rotation h(n, 2);
    std::vector<float> wh = w, xh = x;
    h.rotate_inputs({wh.data(), out, n});
    h.rotate({xh.data(), rows, n});
    const double rotated = error(rounded(wh, symmetric<8>{}), rounded(xh, symmetric<4>{}));
    CAPTURE(plain, rotated);
    CHECK(rotated < plain / 3);
}

TEST_CASE("hadamard: bad input") {
    std::vector<float> x(24, 1.0f);
    const hadamard_rotation h(12, 1);
    CHECK_THROWS_WITH(h.rotate({x.data(), 3, 8}), contains_text("hadamard_rotation.rotate: the number of columns"));
    CHECK_THROWS_WITH(h.rotate_back({x.data(), 3, 8}), contains_text("rotate_back: the number of columns"));
    CHECK_THROWS_WITH(h.rotate_inputs({x.data(), 3, 8}), contains_text("rotate_inputs: the number of columns"));
    CHECK_THROWS_WITH(h.rotate_outputs({x.data(), 2, 12}), contains_text("rotate_outputs: the number of rows"));
    CHECK_THROWS_WITH(h.rotate({nullptr, 2, 12}), contains_text("is null"));
    h.rotate({nullptr, 0, 12});
    h.rotate_outputs({nullptr, 12, 0});
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), FLT_MAX}) {
        x[20] = bad;
        CHECK_THROWS_WITH(h.rotate({x.data(), 2, 12}), contains_text("element (1, 8)"));
        CHECK_THROWS_WITH(h.rotate_outputs({x.data(), 12, 2}), contains_text("element (10, 0)"));
        CHECK(x[0] == 1.0f);
    }
    CHECK_THROWS_WITH(incoherence({x.data(), 0, -1}), contains_text("negative extent"));
    x[20] = -std::numeric_limits<float>::infinity();
    CHECK_THROWS_WITH(incoherence({x.data(), 2, 12}), contains_text("x(1, 8) is -inf"));
    // The largest that is allowed.
    std::vector<float> most(4, FLT_MAX / 2);
    hadamard_rotation(4).rotate({most.data(), 1, 4});
    CHECK(most == std::vector<float>{FLT_MAX, 0, 0, 0});
}
