// SPDX-License-Identifier: Apache-2.0
//
// notch/core/view.hpp: non-owning views of the caller's memory. A view never allocates, never
// copies and never frees.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <span>
#include <string_view>
#include <type_traits>

#include <notch/core/config.hpp>
#include <notch/core/error.hpp>
#include <notch/core/types.hpp>

NOTCH_NAMESPACE_BEGIN

/// A row-major matrix: element (i, j) is data[i * stride + j].
/// Valid when rows, cols >= 0, stride >= cols (or rows <= 1), and data != nullptr unless empty. No extent is beyond
/// 2^40, and unless the view is empty no stride either, used or not.
template <class T> struct matrix_view {
    T* data = nullptr;
    index_t rows = 0;
    index_t cols = 0;
    index_t stride = 0; ///< elements from one row to the next

    NOTCH_INLINE constexpr matrix_view() noexcept {}
    NOTCH_INLINE constexpr matrix_view(T* d, index_t r, index_t c) noexcept : data(d), rows(r), cols(c), stride(c) {}
    NOTCH_INLINE constexpr matrix_view(T* d, index_t r, index_t c, index_t s) noexcept
        : data(d), rows(r), cols(c), stride(s) {}

    NOTCH_INLINE constexpr T& operator()(index_t i, index_t j) const noexcept { return data[i * stride + j]; }
    NOTCH_INLINE constexpr operator matrix_view<const T>() const noexcept requires(!std::is_const_v<T>) {
        return {data, rows, cols, stride};
    }
};

/// A batch of images, channels last (NHWC): element (n, y, x, c) is
///     data[n * stride_n + y * stride_h + x * stride_w + c]
/// Channels are contiguous; the strides allow slices of channels, rows and batches. No extent is beyond 2^40, and
/// unless the view is empty no stride either, used or not.
template <class T> struct nhwc_view {
    T* data = nullptr;
    index_t n = 0, h = 0, w = 0, c = 0;
    index_t stride_n = 0, stride_h = 0, stride_w = 0;

    NOTCH_INLINE constexpr nhwc_view() noexcept {}
    /// Densely packed.
    NOTCH_INLINE constexpr nhwc_view(T* d, index_t n_, index_t h_, index_t w_, index_t c_) noexcept
        : data(d), n(n_), h(h_), w(w_), c(c_), stride_n(product(h_, product(w_, c_))), stride_h(product(w_, c_)),
          stride_w(c_) {}
    NOTCH_INLINE constexpr nhwc_view(T* d, index_t n_, index_t h_, index_t w_, index_t c_, index_t sn, index_t sh,
                                     index_t sw) noexcept
        : data(d), n(n_), h(h_), w(w_), c(c_), stride_n(sn), stride_h(sh), stride_w(sw) {}

    NOTCH_INLINE constexpr T& operator()(index_t in, index_t y, index_t x, index_t ic) const noexcept {
        return data[in * stride_n + y * stride_h + x * stride_w + ic];
    }
    NOTCH_INLINE constexpr bool is_dense() const noexcept {
        return stride_w == c && stride_h == product(w, c) && stride_n == product(h, product(w, c));
    }
    NOTCH_INLINE constexpr operator nhwc_view<const T>() const noexcept requires(!std::is_const_v<T>) {
        return {data, n, h, w, c, stride_n, stride_h, stride_w};
    }

private:
    /// Wraps for extents that no memory has, so that the function that gets the view can refuse them.
    NOTCH_INLINE static constexpr index_t product(index_t a, index_t b) noexcept {
        return static_cast<index_t>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
    }
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// No extent of a view is longer: a bound that keeps all later index arithmetic in range.
inline constexpr index_t max_extent = index_t{1} << 40;

inline void check_view_extent(std::string_view where, const name_of& name, index_t extent) {
    if (extent > max_extent)
        fail(errc::overflow, cat(where, ": ", name, " has an extent of ", extent, " and overflows the address space"));
}

inline void check_stride(std::string_view where, const name_of& name, index_t stride) {
    if (stride > max_extent || stride < -max_extent)
        fail(errc::overflow, cat(where, ": ", name, " has a stride of ", stride, " and overflows the address space"));
}

[[noreturn]] NOTCH_NOINLINE inline void fail_null(std::string_view where, const char* name) {
    fail(errc::invalid_argument, cat(where, ": ", name, " is null"));
}
/// A span may be null only if it is empty. Inlined, and the names are looked at only on failure: calls for a few
/// elements check several spans.
template <class Where, class T> NOTCH_INLINE void check_span(const Where& where, const char* name, std::span<T> s) {
    if (s.data() == nullptr && !s.empty()) fail_null(where, name);
}

template <class T> void check_view(std::string_view where, const name_of& name, const matrix_view<T>& v) {
    if (v.rows < 0 || v.cols < 0)
        fail(errc::invalid_argument, cat(where, ": ", name, " has a negative extent (", v.rows, " x ", v.cols, ")"));
    check_view_extent(where, name, v.rows);
    check_view_extent(where, name, v.cols);
    if (v.rows > 0 && v.cols > 0) check_stride(where, name, v.stride);
    if (v.rows > 1 && v.stride < v.cols)
        fail(errc::invalid_argument,
             cat(where, ": ", name, " has stride ", v.stride, ", less than its ", v.cols, " columns"));
    if (v.rows > 1) (void)checked_product(where, checked_product(where, v.rows, v.stride), sizeof(T));
    if (v.data == nullptr && v.rows > 0 && v.cols > 0) fail(errc::invalid_argument, cat(where, ": ", name, " is null"));
}

template <class T> void check_view(std::string_view where, const name_of& name, const nhwc_view<T>& v) {
    if (v.n < 0 || v.h < 0 || v.w < 0 || v.c < 0)
        fail(errc::invalid_argument,
             cat(where, ": ", name, " has a negative extent (", v.n, " x ", v.h, " x ", v.w, " x ", v.c, ")"));
    for (index_t extent : {v.n, v.h, v.w, v.c}) check_view_extent(where, name, extent);
    if (v.n == 0 || v.h == 0 || v.w == 0 || v.c == 0) return;
    for (index_t stride : {v.stride_n, v.stride_h, v.stride_w}) check_stride(where, name, stride);
    if (v.data == nullptr) fail(errc::invalid_argument, cat(where, ": ", name, " is null"));
    // Elements must not overlap, and offsets must fit index_t.
    index_t extent = v.c;
    const index_t extents[3] = {v.w, v.h, v.n};
    const index_t strides[3] = {v.stride_w, v.stride_h, v.stride_n};
    const char* names[3] = {"stride_w", "stride_h", "stride_n"};
    for (int d = 0; d < 3; ++d) {
        if (extents[d] > 1 && strides[d] < extent)
            fail(errc::invalid_argument, cat(where, ": ", name, " has ", names[d], " ", strides[d], ", less than the ",
                                             extent, " elements inside"));
        if (extents[d] > 1) {
            const index_t span = checked_product(where, extents[d] - 1, strides[d]);
            if (span > std::numeric_limits<index_t>::max() / static_cast<index_t>(sizeof(T)) - extent)
                fail(errc::overflow, cat(where, ": ", name, " overflows the address space"));
            extent += span;
        }
    }
}

} // namespace detail
NOTCH_KEYED_END
