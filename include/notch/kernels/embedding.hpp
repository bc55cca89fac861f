// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/embedding.hpp: rows of a quantized table by index: as codes, as real values, or as codes of one grid.
// Definitions in ref/embedding.hpp. Every index, and the params of every row asked for, are checked before anything is
// written; an index out of range is errc::invalid_argument.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include <notch/core/view.hpp>
#include <notch/kernels/lanes.hpp>
#include <notch/kernels/quantize.hpp>
#include <notch/kernels/split.hpp>
#include <notch/kernels/table.hpp>
#include <notch/ref/embedding.hpp>

NOTCH_NAMESPACE_BEGIN

/// One row of codes onto another grid.
struct embedding_args {
    NOTCH_INLINE embedding_args() noexcept {}
    const std::uint8_t* x = nullptr;
    std::uint8_t* y = nullptr;
    index_t cols = 0;
    std::uint8_t x_flip = 0; ///< 128 for u8: xor gives s8
    bool y_signed = false;
    std::int32_t zero_point = 0, y_zero_point = 0; ///< zero_point of the s8
    float multiplier = 1.0f;                       ///< at most 2^22
    code_range range;
};
struct embedding_kernels {
    void (*rescale_row)(const embedding_args&) = nullptr;
};

NOTCH_NAMESPACE_END

#define NOTCH_BODY <notch/kernels/body/embedding.inl>
#include <notch/kernels/arch/for_each.inl>

NOTCH_KEYED_BEGIN
namespace detail {
NOTCH_KERNELS(embedding_kernels, embedding_tables[isa_count], NOTCH_KERNEL_TABLES(embedding_kernel_table));
} // namespace detail

/// y(i, :) = table(indices[i], :). I is std::int32_t or std::int64_t and must be named if indices is no span:
/// embedding<T, I>(...). y does not overlap the table. Rows are shared out over ctx.executor; no workspace, no
/// allocation.
template <byte_code T, embedding_index I>
void embedding(std::type_identity_t<matrix_view<const T>> table, std::span<const I> indices, matrix_view<T> y,
               const context& ctx = {}) {
    detail::check_embedding<T, I>("embedding", table, indices, y);
    if (y.cols == 0) return;
    detail::split(ctx.executor, y.rows, detail::row_grain(y.cols), [&](index_t begin, index_t end) {
        for (index_t i = begin; i < end; ++i)
            std::memcpy(y.data + i * y.stride,
                        table.data + static_cast<index_t>(indices[static_cast<std::size_t>(i)]) * table.stride,
                        static_cast<std::size_t>(y.cols));
    });
}

/// y(i, j) = (codes(indices[i], j) - zero_point) * scale, with the params of the table or of the row.
template <byte_code T, embedding_index I>
void embedding(const embedding_table<T>& table, std::span<const I> indices, matrix_view<float> y,
               const context& ctx = {}) {
    detail::check_embedding<T, I>("embedding", table, indices, y, 0.0f);
    if (y.cols == 0) return;
    const quantize_kernels& k = detail::kernels_for(detail::quantize_tables, ctx.target);
    detail::split(ctx.executor, y.rows, detail::row_grain(y.cols), [&](index_t begin, index_t end) {
        for (index_t i = begin; i < end; ++i) {
            const auto row = static_cast<index_t>(indices[static_cast<std::size_t>(i)]);
            k.dequantize({&table.codes(row, 0), detail::code_kind<T>(), y.cols, table.params(row), &y(i, 0)});
        }
    });
}

/// The rows as codes with the params y_params. The scale of a row is 2^-100 ... 2^22 times y_params.scale.
template <byte_code T, embedding_index I, byte_code Y>
void embedding(const embedding_table<T>& table, std::span<const I> indices, quant_params y_params, matrix_view<Y> y,
               const context& ctx = {}) {
    detail::check_params("embedding", "y_params", y_params, full_range<Y>.lo, full_range<Y>.hi);
    detail::check_embedding<T, I>("embedding", table, indices, y, y_params.scale);
    if (y.cols == 0) return;
    const embedding_kernels& k = detail::kernels_for(detail::embedding_tables, ctx.target);
    detail::split(ctx.executor, y.rows, detail::row_grain(y.cols), [&](index_t begin, index_t end) {
        embedding_args a;
        a.cols = y.cols;
        a.x_flip = std::is_same_v<T, std::uint8_t> ? 128 : 0;
        a.y_signed = std::is_same_v<Y, std::int8_t>;
        a.y_zero_point = y_params.zero_point;
        a.range = full_range<Y>;
        for (index_t i = begin; i < end; ++i) {
            const auto row = static_cast<index_t>(indices[static_cast<std::size_t>(i)]);
            const quant_params p = table.params(row);
            a.zero_point = p.zero_point - a.x_flip;
            a.multiplier = static_cast<float>(static_cast<double>(p.scale) / static_cast<double>(y_params.scale));
            a.x = reinterpret_cast<const std::uint8_t*>(&table.codes(row, 0));
            a.y = reinterpret_cast<std::uint8_t*>(&y(i, 0));
            k.rescale_row(a);
        }
    });
}

NOTCH_KEYED_END
