// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/norm.hpp: layer norm and RMS norm over the rows of a matrix, in integers. Definition, error bound,
// make_layer_norm and make_rms_norm in ref/norm.hpp.
//
//     const auto p = notch::make_layer_norm<std::int8_t, std::int8_t>(cols, x_params, 1e-5f, gamma, beta, y_params);
//     notch::norm(x, p, y);
#pragma once

#include <cstdint>
#include <type_traits>

#include <notch/core/view.hpp>
#include <notch/kernels/lanes.hpp>
#include <notch/kernels/split.hpp>
#include <notch/kernels/table.hpp>
#include <notch/ref/norm.hpp>

NOTCH_NAMESPACE_BEGIN

struct norm_args {
    const void* x = nullptr; ///< bytes, or s16
    index_t rows = 0, ldx = 0;
    void* y = nullptr; ///< bytes, or s16 if y_wide
    index_t ldy = 0;
    std::uint8_t x_flip = 0; ///< 128 for u8: xor gives s8
    bool y_wide = false, y_signed = false;
    const std::int32_t* gamma = nullptr; ///< 64 elements longer than a row, as beta
    const std::int32_t* beta = nullptr;
    norm_constants constants;
};
struct norm_kernels {
    void (*norm_bytes)(const norm_args&) = nullptr;
    void (*norm_words)(const norm_args&) = nullptr;
};

NOTCH_NAMESPACE_END

#define NOTCH_BODY <notch/kernels/body/norm.inl>
#include <notch/kernels/arch/for_each.inl>

NOTCH_KEYED_BEGIN
namespace detail {
NOTCH_KERNELS(norm_kernels, norm_tables[isa_count], NOTCH_KERNEL_TABLES(norm_kernel_table));
} // namespace detail

/// The layer norm or RMS norm of each row of codes; p comes from make_layer_norm or make_rms_norm, whose cols the rows
/// must have. A code is at most p.max_error away from the real value (clamped to the range of codes). y may be x if
/// both have codes of one size. Rows are shared out over ctx.executor; no workspace, no allocation.
template <norm_code X, norm_code Y>
void norm(matrix_view<const std::type_identity_t<X>> x, const norm_params<X, Y>& p,
          matrix_view<std::type_identity_t<Y>> y, const context& ctx = {}) {
    const index_t cols = p.constants.cols;
    if (cols < 1 || p.gamma.size() < cols + 64 || p.beta.size() < cols + 64)
        fail(errc::invalid_argument, "norm: the parameters do not come from make_layer_norm or make_rms_norm");
    detail::check_view("norm", "x", x);
    detail::check_view("norm", "y", y);
    detail::check_equal("norm", "the number of columns of x", x.cols, cols);
    detail::check_equal("norm", "the number of columns of y", y.cols, cols);
    detail::check_equal("norm", "the number of rows of y", y.rows, x.rows);
    norm_args a;
    a.x = x.data;
    a.rows = x.rows;
    a.ldx = x.stride;
    a.y = y.data;
    a.ldy = y.stride;
    a.x_flip = std::is_same_v<X, std::uint8_t> ? 128 : 0;
    a.y_wide = std::is_same_v<Y, std::int16_t>;
    a.y_signed = std::is_same_v<Y, std::int8_t>;
    a.gamma = p.gamma.data();
    a.beta = p.beta.data();
    a.constants = p.constants;
    const norm_kernels& k = detail::kernels_for(detail::norm_tables, ctx.target);
    const auto kernel = std::is_same_v<X, std::int16_t> ? k.norm_words : k.norm_bytes;
    detail::split(ctx.executor, a.rows, detail::row_grain(cols), [&](index_t begin, index_t end) {
        norm_args part = a;
        part.x = x.data + begin * x.stride;
        part.y = y.data + begin * y.stride;
        part.rows = end - begin;
        kernel(part);
    });
}

NOTCH_KEYED_END
