// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/concat.hpp: concatenation along channels of 8-bit codes on different grids. Definition and make_concat
// in ref/concat.hpp. An image is a matrix of n h w rows; a slice of channels is one with a stride.
//
//     const notch::matrix_view<const std::uint8_t> x[] = {a, b};
//     const notch::concat_params<std::uint8_t> p[] = {notch::make_concat<std::uint8_t>(a_params, y_params),
//                                                     notch::make_concat<std::uint8_t>(b_params, y_params)};
//     notch::concat<std::uint8_t>(x, p, y);
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include <notch/core/view.hpp>
#include <notch/kernels/lookup.hpp>
#include <notch/kernels/split.hpp>
#include <notch/kernels/table.hpp>
#include <notch/ref/concat.hpp>

NOTCH_KEYED_BEGIN

/// Row i of y is row i of x[0], then that of x[1], ..., each rescaled by its params; a copy where they are equal. All
/// have as many rows, and the columns of y are those of all x together. y overlaps no x. Rows are shared out over
/// ctx.executor; no workspace, no allocation. T must be named: concat<std::uint8_t>(...).
template <byte_code T>
void concat(std::type_identity_t<std::span<const matrix_view<const T>>> x,
            std::type_identity_t<std::span<const concat_params<T>>> p, std::type_identity_t<matrix_view<T>> y,
            const context& ctx = {}) {
    detail::check_equal("concat", "the number of params", static_cast<index_t>(p.size()),
                        static_cast<index_t>(x.size()));
    detail::check_span("concat", "x", x);
    detail::check_span("concat", "the params", p);
    detail::check_view("concat", "y", y);
    index_t columns = 0;
    for (std::size_t k = 0; k < x.size(); ++k) {
        const matrix_view<const T>& in = x[k];
        detail::check_view("concat", {"x", static_cast<index_t>(k)}, in);
        detail::check_equal("concat", {"the number of rows of x", static_cast<index_t>(k)}, in.rows, y.rows);
        columns += x[k].cols; // below 2^40 each, which needs 2^23 inputs to overflow
        if (columns > detail::max_extent) fail(errc::overflow, "concat: the inputs have too many columns");
    }
    detail::check_equal("concat", "the number of columns of y", y.cols, columns);
    const lookup_kernels& kernels = detail::lookup_kernels_for(ctx.target);
    detail::split(ctx.executor, y.rows, detail::row_grain(y.cols), [&](index_t begin, index_t end) {
        index_t column = 0;
        for (std::size_t k = 0; k < x.size(); ++k) {
            const matrix_view<const T>& in = x[k];
            if (in.cols == 0) continue;
            const T* from = in.data + begin * in.stride;
            T* to = y.data + begin * y.stride + column;
            if (p[k].copy) {
                for (index_t i = begin; i < end; ++i, from += in.stride, to += y.stride)
                    std::memcpy(to, from, static_cast<std::size_t>(in.cols));
            } else {
                kernels.lookup_bytes({reinterpret_cast<const std::uint8_t*>(from), p[k].table.bytes,
                                      reinterpret_cast<std::uint8_t*>(to), end - begin, in.cols, in.stride, y.stride});
            }
            column += in.cols;
        }
    });
}

NOTCH_KEYED_END
