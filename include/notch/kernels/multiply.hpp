// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/multiply.hpp: elementwise product of two tensors of 8-bit codes, and of an image with one vector of
// channels (squeeze and excite). Definition and make_multiply in ref/multiply.hpp.
#pragma once

#include <cstdint>
#include <span>
#include <type_traits>

#include <notch/core/view.hpp>
#include <notch/kernels/lanes.hpp>
#include <notch/kernels/split.hpp>
#include <notch/kernels/table.hpp>
#include <notch/ref/multiply.hpp>

NOTCH_NAMESPACE_BEGIN

struct multiply_args {
    NOTCH_INLINE multiply_args() noexcept {}
    const std::uint8_t* a = nullptr;
    const std::uint8_t* b = nullptr;
    std::uint8_t* y = nullptr;
    index_t rows = 0, cols = 0, lda = 0, ldb = 0, ldy = 0; ///< ldb 0: one row of b for all
    std::uint8_t a_flip = 0, b_flip = 0;                   ///< 128 for u8: xor gives s8
    bool y_signed = false;
    std::int32_t a_zero_point = 0, b_zero_point = 0; ///< of the s8
    std::int32_t y_zero_point = 0;
    float multiplier = 1.0f;
    code_range range;
};
struct multiply_kernels {
    void (*multiply_rows)(const multiply_args&) = nullptr;
};

NOTCH_NAMESPACE_END

#define NOTCH_BODY <notch/kernels/body/multiply.inl>
#include <notch/kernels/arch/for_each.inl>

NOTCH_KEYED_BEGIN
namespace detail {

NOTCH_KERNELS(multiply_kernels, multiply_tables[isa_count], NOTCH_KERNEL_TABLES(multiply_kernel_table));

template <byte_code A, byte_code B, byte_code Y> multiply_args make_multiply_args(const multiply_params<A, B, Y>& p) {
    const auto is_code = []<class Code>(std::int32_t zero_point, Code) {
        return zero_point >= full_range<Code>.lo && zero_point <= full_range<Code>.hi;
    };
    if (!(p.multiplier > 0.0f && p.multiplier <= 16384.0f) || !is_code(p.a_zero_point, A{}) ||
        !is_code(p.b_zero_point, B{}) || !is_code(p.y_zero_point, Y{}) || p.range.lo > p.range.hi ||
        p.range.lo < full_range<Y>.lo || p.range.hi > full_range<Y>.hi)
        fail(errc::invalid_argument, "multiply: the parameters do not come from make_multiply");
    multiply_args m;
    m.a_flip = std::is_same_v<A, std::uint8_t> ? 128 : 0;
    m.b_flip = std::is_same_v<B, std::uint8_t> ? 128 : 0;
    m.y_signed = std::is_same_v<Y, std::int8_t>;
    m.a_zero_point = p.a_zero_point - m.a_flip;
    m.b_zero_point = p.b_zero_point - m.b_flip;
    m.y_zero_point = p.y_zero_point;
    m.multiplier = p.multiplier;
    m.range = p.range;
    return m;
}
template <class T> const std::uint8_t* as_bytes(const T* p) noexcept {
    return reinterpret_cast<const std::uint8_t*>(p);
}
template <class T> std::uint8_t* as_bytes(T* p) noexcept { return reinterpret_cast<std::uint8_t*>(p); }

} // namespace detail

/// y(i, j) = a(i, j) * b(i, j); if b has one row, it multiplies every row of a (a vector of channels). y may be a, or b
/// where b has as many rows. Rows are shared out over ctx.executor; no workspace, no allocation.
template <byte_code A, byte_code B, byte_code Y>
void multiply(matrix_view<const std::type_identity_t<A>> a, matrix_view<const std::type_identity_t<B>> b,
              const multiply_params<A, B, Y>& p, matrix_view<std::type_identity_t<Y>> y, const context& ctx = {}) {
    const multiply_args m = detail::make_multiply_args(p);
    detail::check_view("multiply", "a", a);
    detail::check_view("multiply", "b", b);
    detail::check_view("multiply", "y", y);
    detail::check_equal("multiply", "the number of columns of b", b.cols, a.cols);
    if (b.rows != 1) detail::check_equal("multiply", "the number of rows of b", b.rows, a.rows);
    detail::check_equal("multiply", "the number of columns of y", y.cols, a.cols);
    detail::check_equal("multiply", "the number of rows of y", y.rows, a.rows);
    const multiply_kernels& k = detail::kernels_for(detail::multiply_tables, ctx.target);
    const index_t ldb = b.rows == 1 ? 0 : b.stride;
    detail::split(ctx.executor, a.rows, detail::row_grain(a.cols), [&](index_t begin, index_t end) {
        multiply_args part = m;
        part.a = detail::as_bytes(a.data + begin * a.stride);
        part.b = detail::as_bytes(b.data + begin * ldb);
        part.y = detail::as_bytes(y.data + begin * y.stride);
        part.rows = end - begin;
        part.cols = a.cols;
        part.lda = a.stride;
        part.ldb = ldb;
        part.ldy = y.stride;
        k.multiply_rows(part);
    });
}

/// The same on spans: y[i] = a[i] * b[i].
template <byte_code A, byte_code B, byte_code Y>
void multiply(std::span<const std::type_identity_t<A>> a, std::span<const std::type_identity_t<B>> b,
              const multiply_params<A, B, Y>& p, std::span<std::type_identity_t<Y>> y, const context& ctx = {}) {
    multiply_args m = detail::make_multiply_args(p);
    detail::check_equal("multiply", "the size of b", static_cast<index_t>(b.size()), static_cast<index_t>(a.size()));
    detail::check_equal("multiply", "the size of y", static_cast<index_t>(y.size()), static_cast<index_t>(a.size()));
    detail::check_span("multiply", "a", a);
    detail::check_span("multiply", "b", b);
    detail::check_span("multiply", "y", y);
    const multiply_kernels& k = detail::kernels_for(detail::multiply_tables, ctx.target);
    m.rows = 1;
    detail::split(ctx.executor, static_cast<index_t>(a.size()), 16384, [&](index_t begin, index_t end) {
        multiply_args part = m;
        part.a = detail::as_bytes(a.data() + begin);
        part.b = detail::as_bytes(b.data() + begin);
        part.y = detail::as_bytes(y.data() + begin);
        part.cols = end - begin;
        k.multiply_rows(part);
    });
}

/// Each image of a batch times its own vector of channels: y(n, h, w, c) = a(n, h, w, c) * b(n, c).
template <byte_code A, byte_code B, byte_code Y>
void multiply(nhwc_view<const std::type_identity_t<A>> a, matrix_view<const std::type_identity_t<B>> b,
              const multiply_params<A, B, Y>& p, nhwc_view<std::type_identity_t<Y>> y, const context& ctx = {}) {
    multiply_args m = detail::make_multiply_args(p);
    detail::check_view("multiply", "a", a);
    detail::check_view("multiply", "b", b);
    detail::check_view("multiply", "y", y);
    detail::check_equal("multiply", "the number of columns of b", b.cols, a.c);
    detail::check_equal("multiply", "the number of rows of b", b.rows, a.n);
    detail::check_equal("multiply", "the batch of y", y.n, a.n);
    detail::check_equal("multiply", "the height of y", y.h, a.h);
    detail::check_equal("multiply", "the width of y", y.w, a.w);
    detail::check_equal("multiply", "the number of channels of y", y.c, a.c);
    if (a.w == 0 || a.c == 0) return;
    const multiply_kernels& k = detail::kernels_for(detail::multiply_tables, ctx.target);
    m.rows = a.w;
    m.cols = a.c;
    m.lda = a.stride_w;
    m.ldy = y.stride_w;
    detail::split(ctx.executor, a.n * a.h, detail::row_grain(a.w * a.c), [&](index_t begin, index_t end) {
        multiply_args part = m;
        for (index_t row = begin; row < end; ++row) {
            const index_t image = row / a.h, line = row % a.h;
            part.a = detail::as_bytes(&a(image, line, 0, 0));
            part.b = detail::as_bytes(&b(image, 0));
            part.y = detail::as_bytes(&y(image, line, 0, 0));
            k.multiply_rows(part);
        }
    });
}

NOTCH_KEYED_END
