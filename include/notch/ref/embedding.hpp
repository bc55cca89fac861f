// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/embedding.hpp: the definition of embedding lookup: rows of a table of 8-bit codes by index, as they are, as
// real values or as codes of one grid. With r = indices[i]:
//
//     codes       y(i, j) = table(r, j)
//     values      y(i, j) = float(table(r, j) - zero_point[r]) * scale[r]
//     rescaled    y(i, j) = requantize_float(table(r, j) - zero_point[r], m, y_zero_point, all codes),
//                 m = scale[r] / y_scale in double, rounded once to float
//
// One scale and zero point for the table, or one for each row (per-token quantization); no zero points: 0.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/ref/lookup.hpp>
#include <notch/scheme/range.hpp>
#include <notch/scheme/requantize.hpp>

NOTCH_NAMESPACE_BEGIN

/// A quantized table: its codes, one row for each index, and what they mean. Nothing is owned.
template <byte_code T> struct embedding_table {
    matrix_view<const T> codes;
    std::span<const float> scales;             ///< 1 or codes.rows
    std::span<const std::int32_t> zero_points; ///< 0, 1 or codes.rows
    [[nodiscard]] NOTCH_INLINE quant_params params(index_t row) const {
        const auto at = static_cast<std::size_t>(row);
        return {scales.data()[scales.size() == 1 ? 0 : at],
                zero_points.empty() ? 0 : zero_points.data()[zero_points.size() == 1 ? 0 : at]};
    }
};

/// What indexes a row.
template <class T>
concept embedding_index = std::same_as<T, std::int32_t> || std::same_as<T, std::int64_t>;

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

template <byte_code T, embedding_index I, class Y>
void check_embedding(const char* where, matrix_view<const T> table, std::span<const I> indices,
                     const matrix_view<Y>& y) {
    check_view(where, "the table", table);
    check_view(where, "y", y);
    check_equal(where, "the number of rows of y", y.rows, static_cast<index_t>(indices.size()));
    check_equal(where, "the number of columns of y", y.cols, table.cols);
    if (indices.data() == nullptr && !indices.empty()) fail(errc::invalid_argument, cat(where, ": indices is null"));
    for (std::size_t i = 0; i < indices.size(); ++i)
        if (indices[i] < 0 || indices[i] >= table.rows)
            fail(errc::invalid_argument,
                 cat(where, ": indices[", i, "] is ", indices[i], ", the table has ", table.rows, " rows"));
}

/// And the params of every row that is asked for. y_scale 0: none.
template <byte_code T, embedding_index I, class Y>
void check_embedding(const char* where, const embedding_table<T>& t, std::span<const I> indices,
                     const matrix_view<Y>& y, float y_scale) {
    check_embedding(where, t.codes, indices, y);
    const auto rows = static_cast<index_t>(t.codes.rows), scales = static_cast<index_t>(t.scales.size()),
               zeros = static_cast<index_t>(t.zero_points.size());
    if (scales != 1) check_equal(where, "the number of scales", scales, rows);
    if (zeros > 1) check_equal(where, "the number of zero points", zeros, rows);
    if ((t.scales.data() == nullptr && scales > 0) || (t.zero_points.data() == nullptr && zeros > 0))
        fail(errc::invalid_argument, cat(where, ": the scales or zero points are null"));
    for (const I row : indices) {
        const quant_params p = t.params(static_cast<index_t>(row));
        const double ratio = y_scale > 0.0f ? static_cast<double>(p.scale) / static_cast<double>(y_scale) : 1.0;
        if (p.scale > 0.0f && p.scale <= std::numeric_limits<float>::max() && p.zero_point >= full_range<T>.lo &&
            p.zero_point <= full_range<T>.hi && ratio >= 0x1p-100 && ratio <= 0x1p22)
            continue;
        check_params(where, cat("row ", row), p, full_range<T>.lo, full_range<T>.hi);
        fail(errc::invalid_argument,
             cat(where, ": the scale of row ", row, " is ", ratio, " times y.scale, must be 2^-100 ... 2^22 times"));
    }
}

} // namespace detail

namespace ref {

/// Rows of codes as they are.
template <byte_code T, embedding_index I>
void embedding(matrix_view<const T> table, std::type_identity_t<std::span<const I>> indices, matrix_view<T> y) {
    detail::check_embedding<T, I>("ref::embedding", table, indices, y);
    for (index_t i = 0; i < y.rows; ++i)
        for (index_t j = 0; j < y.cols; ++j)
            y(i, j) = table(static_cast<index_t>(indices[static_cast<std::size_t>(i)]), j);
}

/// Rows as real values.
template <byte_code T, embedding_index I>
void embedding(const embedding_table<T>& t, std::type_identity_t<std::span<const I>> indices, matrix_view<float> y) {
    detail::check_embedding<T, I>("ref::embedding", t, indices, y, 0.0f);
    for (index_t i = 0; i < y.rows; ++i) {
        const auto row = static_cast<index_t>(indices[static_cast<std::size_t>(i)]);
        const quant_params p = t.params(row);
        for (index_t j = 0; j < y.cols; ++j) y(i, j) = static_cast<float>(t.codes(row, j) - p.zero_point) * p.scale;
    }
}

/// Rows as codes with the params y_params.
template <byte_code T, embedding_index I, byte_code Y>
void embedding(const embedding_table<T>& t, std::type_identity_t<std::span<const I>> indices, quant_params y_params,
               matrix_view<Y> y) {
    detail::check_params("ref::embedding", "y_params", y_params, full_range<Y>.lo, full_range<Y>.hi);
    detail::check_embedding<T, I>("ref::embedding", t, indices, y, y_params.scale);
    for (index_t i = 0; i < y.rows; ++i) {
        const auto row = static_cast<index_t>(indices[static_cast<std::size_t>(i)]);
        const quant_params p = t.params(row);
        const auto m = static_cast<float>(static_cast<double>(p.scale) / static_cast<double>(y_params.scale));
        for (index_t j = 0; j < y.cols; ++j)
            y(i, j) =
                static_cast<Y>(requantize_float(t.codes(row, j) - p.zero_point, m, y_params.zero_point, full_range<Y>));
    }
}

} // namespace ref
NOTCH_KEYED_END
