// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/concat.hpp: the definition of the concatenation along channels of tensors on different grids. The channels
// of an input become
//
//     y = x                                                                if x and y have the same params
//     y = requantize_float(x - x_zero_point, m, y_zero_point, all codes)   else; m = x_scale / y_scale in double,
//     rounded
//                                                                          once to float
//
// At most 0.50004 codes from the real value (clamped), and none for equal params.
#pragma once

#include <cstdint>
#include <span>
#include <type_traits>

#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/ref/lookup.hpp>
#include <notch/scheme/range.hpp>
#include <notch/scheme/requantize.hpp>

NOTCH_NAMESPACE_BEGIN

/// How one input of a concat is rescaled.
template <byte_code T> struct concat_params {
    NOTCH_INLINE concat_params() noexcept {}
    lookup_table<T, T> table;
    bool copy = false; ///< the table is the identity
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN

/// Prepares the rescaling of an input with the params x to those of the output. A ratio x.scale / y.scale that is no
/// normal float is an error.
template <byte_code T> [[nodiscard]] concat_params<T> make_concat(quant_params x, quant_params y) {
    detail::check_params("make_concat", "x", x, full_range<T>.lo, full_range<T>.hi);
    detail::check_params("make_concat", "y", y, full_range<T>.lo, full_range<T>.hi);
    concat_params<T> p;
    p.copy = x == y;
    const double ratio = static_cast<double>(x.scale) / static_cast<double>(y.scale);
    if (!(ratio >= 0x1p-126 && ratio < 0x1p127))
        fail(errc::invalid_argument, detail::cat("make_concat: the scales differ too much (x/y = ", ratio, ")"));
    const auto m = static_cast<float>(ratio);
    for (std::int32_t code = full_range<T>.lo; code <= full_range<T>.hi; ++code)
        p.table.bytes[static_cast<std::uint8_t>(code)] = static_cast<std::uint8_t>(
            p.copy ? code : requantize_float(code - x.zero_point, m, y.zero_point, full_range<T>));
    return p;
}

namespace ref {

/// Rows of y are the rows of all inputs, one after the other.
template <byte_code T>
void concat(std::span<const matrix_view<const T>> x, std::span<const concat_params<T>> p,
            matrix_view<std::type_identity_t<T>> y) {
    detail::check_equal("ref::concat", "the number of params", static_cast<index_t>(p.size()),
                        static_cast<index_t>(x.size()));
    index_t column = 0;
    for (std::size_t k = 0; k < x.size(); ++k) {
        detail::check_equal("ref::concat", "the number of rows of an input", x[k].rows, y.rows);
        for (index_t i = 0; i < y.rows; ++i)
            for (index_t j = 0; j < x[k].cols; ++j) y(i, column + j) = p[k].table(x[k](i, j));
        column += x[k].cols;
    }
    detail::check_equal("ref::concat", "the number of columns of y", y.cols, column);
}

} // namespace ref
NOTCH_KEYED_END
