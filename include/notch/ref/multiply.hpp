// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/multiply.hpp: the definition of the elementwise product of two tensors of 8-bit codes.
//
//     acc  = (a - a_zero_point) * (b - b_zero_point)                      exact, below 2^16
//     code = requantize_float(acc, m, y_zero_point, range),  m = a_scale b_scale / y_scale in double, rounded once to
//     float
//
// acc is exact in float and the product is rounded once before it is rounded to a code: at most
// 0.5 + 2^-23 |code - y_zero_point| codes from the real product, 0.50004 for 8 bits.
#pragma once

#include <cstdint>
#include <type_traits>

#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/ref/lookup.hpp>
#include <notch/scheme/range.hpp>
#include <notch/scheme/requantize.hpp>

NOTCH_NAMESPACE_BEGIN

/// The prepared constants of a product of A codes and B codes into Y codes.
template <byte_code A, byte_code B, byte_code Y> struct multiply_params {
    std::int32_t a_zero_point = 0, b_zero_point = 0, y_zero_point = 0;
    float multiplier = 1.0f; ///< 2^-40 ... 2^14
    code_range range;
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN

/// Prepares the product of a and b into y. a.scale b.scale / y.scale must lie in 2^-40 ... 2^14.
template <byte_code A, byte_code B, byte_code Y>
[[nodiscard]] multiply_params<A, B, Y> make_multiply(quant_params a, quant_params b, quant_params y,
                                                     code_range range = full_range<Y>) {
    detail::check_params("make_multiply", "a", a, full_range<A>.lo, full_range<A>.hi);
    detail::check_params("make_multiply", "b", b, full_range<B>.lo, full_range<B>.hi);
    detail::check_params("make_multiply", "y", y, full_range<Y>.lo, full_range<Y>.hi);
    detail::check_range("make_multiply", range, full_range<Y>);
    const double m = static_cast<double>(a.scale) * static_cast<double>(b.scale) / static_cast<double>(y.scale);
    if (!(m >= 0x1p-40 && m <= 0x1p14))
        fail(errc::invalid_argument,
             detail::cat("make_multiply: a.scale b.scale / y.scale is ", m, ", must lie in 2^-40 ... 2^14"));
    return {a.zero_point, b.zero_point, y.zero_point, static_cast<float>(m), range};
}

namespace ref {

template <byte_code A, byte_code B, byte_code Y>
[[nodiscard]] Y multiply(A a, B b, const multiply_params<A, B, Y>& p) noexcept {
    const std::int32_t acc = (a - p.a_zero_point) * (b - p.b_zero_point);
    return static_cast<Y>(requantize_float(acc, p.multiplier, p.y_zero_point, p.range));
}

/// y = a b element by element; b with one row is used for every row of a.
template <byte_code A, byte_code B, byte_code Y>
void multiply(matrix_view<const std::type_identity_t<A>> a, matrix_view<const std::type_identity_t<B>> b,
              const multiply_params<A, B, Y>& p, matrix_view<std::type_identity_t<Y>> y) {
    detail::check_equal("ref::multiply", "the number of columns of b", b.cols, a.cols);
    if (b.rows != 1) detail::check_equal("ref::multiply", "the number of rows of b", b.rows, a.rows);
    detail::check_equal("ref::multiply", "the number of columns of y", y.cols, a.cols);
    detail::check_equal("ref::multiply", "the number of rows of y", y.rows, a.rows);
    for (index_t i = 0; i < a.rows; ++i)
        for (index_t j = 0; j < a.cols; ++j) y(i, j) = multiply(a(i, j), b(b.rows == 1 ? 0 : i, j), p);
}

} // namespace ref
NOTCH_KEYED_END
