// SPDX-License-Identifier: Apache-2.0
#include "../catch.hpp"

#include <cmath>
#include <limits>

#include <notch/kernels/embedding.hpp>

#include "../guard_page.hpp"
#include "team.hpp"

using namespace notch;

namespace {

template <class T, class Y, class I>
void check(std::mt19937& g, index_t table_rows, index_t cols, index_t rows, bool per_row) {
    const index_t ld = cols + static_cast<index_t>(g() % 3), ldy = cols + static_cast<index_t>(g() % 3);
    const bool at_front = g() % 2;
    const guarded<T> codes(random_codes<T>(g, static_cast<std::size_t>((table_rows - 1) * ld + cols)),
                           at_front ? guard::before : guard::after);
    std::vector<float> scales(static_cast<std::size_t>(per_row ? table_rows : 1));
    for (float& s : scales) s = 0.001f * static_cast<float>(1 + g() % 1000);
    const auto zeros = random_codes<std::int32_t>(g, per_row ? static_cast<std::size_t>(table_rows) : g() % 2,
                                                  full_range<T>.lo, full_range<T>.hi);
    const embedding_table<T> t{matrix_view<const T>(codes.data(), table_rows, cols, ld), scales, zeros};
    const guarded<I> at(random_codes<I>(g, static_cast<std::size_t>(rows), 0, static_cast<int>(table_rows) - 1));
    const std::span<const I> indices(at.data(), at.size());
    const quant_params y_params{0.11f, full_range<Y>.lo + static_cast<int>(g() % 256)};
    const auto size = static_cast<std::size_t>(rows > 0 ? (rows - 1) * ldy + cols : 0);
    std::vector<T> want_codes(size, T(77));
    std::vector<float> want_values(size, 77.0f);
    std::vector<Y> want_rescaled(size, Y(77));
    const auto view = [&](auto* p) { return matrix_view(p, rows, cols, ldy); };
    ref::embedding<T, I>(t.codes, indices, view(want_codes.data()));
    ref::embedding<T, I>(t, indices, view(want_values.data()));
    ref::embedding<T, I>(t, indices, y_params, view(want_rescaled.data()));
    for (isa i : available_isas())
        for (index_t threads : {1, 2, 3, 7}) {
            if (threads > 1 && rows * cols < 10000) continue;
            const thread_team team{threads};
            const context ctx(i, team);
            INFO(to_string(i) << " " << rows << " x " << cols << " threads " << threads);
            guarded<T> y(std::vector<T>(size, T(77)), at_front ? guard::before : guard::after);
            embedding(t.codes, indices, view(y.data()), ctx);
            CHECK(std::vector<T>(y.begin(), y.end()) == want_codes);
            guarded<float> v(std::vector<float>(size, 77.0f), at_front ? guard::before : guard::after);
            embedding(t, indices, view(v.data()), ctx);
            CHECK(std::vector<float>(v.begin(), v.end()) == want_values);
            guarded<Y> r(std::vector<Y>(size, Y(77)), at_front ? guard::before : guard::after);
            embedding(t, indices, y_params, view(r.data()), ctx);
            CHECK(std::vector<Y>(r.begin(), r.end()) == want_rescaled);
        }
}

} // namespace

TEST_CASE("embedding agrees with ref on every instruction set") {
    std::mt19937 g(1);
    for (index_t cols = 0; cols <= 135; ++cols) {
        check<std::int8_t, std::int8_t, std::int32_t>(g, 11, cols, 6, g() % 2);
        check<std::uint8_t, std::int8_t, std::int64_t>(g, 3, cols, 4, g() % 2);
        check<std::int8_t, std::uint8_t, std::int64_t>(g, 1, cols, 2, g() % 2);
    }
    check<std::int8_t, std::int8_t, std::int32_t>(g, 1000, 256, 131, true);
    check<std::uint8_t, std::uint8_t, std::int32_t>(g, 10, 300, 0, false);
}

TEST_CASE("embedding: values by hand") {
    const std::int8_t codes[] = {1, 2, 3, 4, -5, 6};
    const float scales[] = {0.5f, 1.0f, 2.0f};
    const std::int32_t zeros[] = {0, 1, -1}, indices[] = {2, 0, 2};
    const embedding_table<std::int8_t> t{matrix_view<const std::int8_t>(codes, 3, 2), scales, zeros};
    float v[6];
    std::uint8_t y[6];
    for (isa i : available_isas()) {
        embedding(t, std::span<const std::int32_t>(indices), matrix_view<float>(v, 3, 2), context(i));
        const float want[] = {-8, 14, 0.5f, 1, -8, 14};
        for (int j = 0; j < 6; ++j) CHECK(v[j] == want[j]);
        embedding(t, std::span<const std::int32_t>(indices), {1.0f, 10}, matrix_view<std::uint8_t>(y, 3, 2),
                  context(i));
        const int want_codes[] = {2, 24, 10, 11, 2, 24}; // 0.5 is a tie, to even
        for (int j = 0; j < 6; ++j) CHECK(int{y[j]} == want_codes[j]);
    }
}

TEST_CASE("embedding checks before it writes") {
    const std::vector<std::int8_t> codes(12, 1);
    const std::vector<float> one{0.5f}, three{0.5f, 0.5f, 0.0f}, two{1.0f, 1.0f};
    const std::vector<std::int32_t> zeros{0, 0, 200};
    const matrix_view<const std::int8_t> table(codes.data(), 3, 4);
    std::vector<std::int8_t> y(8, 9);
    std::vector<float> v(8, 9.0f);
    using out = matrix_view<std::int8_t>;
    using real = matrix_view<float>;
    const errc invalid = errc::invalid_argument, shape = errc::shape_mismatch;
    for (std::int64_t bad : {std::int64_t{-1}, std::int64_t{3}, std::int64_t{1} << 40}) {
        const std::int64_t at[] = {1, bad};
        const std::span<const std::int64_t> indices(at);
        const std::string text = detail::cat("indices[1] is ", bad, ", the table has 3 rows");
        CHECK_THAT(error_text(invalid, [&] { embedding(table, indices, out(y.data(), 2, 4)); }), contains_text(text));
        CHECK_THAT(
            error_text(invalid,
                       [&] {
                           embedding(embedding_table<std::int8_t>{table, one, {}}, indices, real(v.data(), 2, 4));
                       }),
            contains_text(text));
        CHECK_THAT(
            error_text(
                invalid,
                [&] {
                    embedding(embedding_table<std::int8_t>{table, one, {}}, indices, {1.0f, 0}, out(y.data(), 2, 4));
                }),
            contains_text(text));
    }
    const std::int32_t at[] = {0, 2};
    const std::span<const std::int32_t> indices(at);
    CHECK_THAT(error_text(invalid,
                          [&] {
                              embedding(embedding_table<std::int8_t>{table, three, {}}, indices, real(v.data(), 2, 4));
                          }),
               contains_text("row 2.scale is 0"));
    CHECK_THAT(error_text(invalid,
                          [&] {
                              embedding(embedding_table<std::int8_t>{table, one, zeros}, indices, real(v.data(), 2, 4));
                          }),
               contains_text("row 2.zero_point is 200"));
    CHECK_THAT(error_text(shape,
                          [&] {
                              embedding(embedding_table<std::int8_t>{table, two, {}}, indices, real(v.data(), 2, 4));
                          }),
               contains_text("number of scales is 2"));
    CHECK_THAT(
        error_text(
            invalid,
            [&] {
                embedding(embedding_table<std::int8_t>{table, one, {}}, indices, {1e-10f, 0}, out(y.data(), 2, 4));
            }),
        contains_text("times y.scale"));
    CHECK_THAT(
        error_text(invalid,
                   [&] {
                       embedding(embedding_table<std::int8_t>{table, one, {}}, indices, {0.0f, 0}, out(y.data(), 2, 4));
                   }),
        contains_text("y_params.scale"));
    CHECK_THAT(error_text(shape, [&] { embedding(table, indices, out(y.data(), 1, 4)); }),
               contains_text("rows of y is 1"));
    CHECK_THAT(error_text(shape, [&] { embedding(table, indices, out(y.data(), 2, 3)); }),
               contains_text("columns of y is 3"));
    CHECK_THAT(error_text(invalid,
                          [&] {
                              embedding(table,
                                        std::span<const std::int32_t>(static_cast<const std::int32_t*>(nullptr), 2),
                                        out(y.data(), 2, 4));
                          }),
               contains_text("indices is null"));
    CHECK(y == std::vector<std::int8_t>(8, 9));
    CHECK(v == std::vector<float>(8, 9.0f));
}
