// SPDX-License-Identifier: Apache-2.0
//
// notch/eigen/map.hpp: views of Eigen objects and Eigen maps of views. Nothing is copied, in either
// direction; the memory stays its owner's.
#pragma once

#include <type_traits>

#include <Eigen/Core>

#include <notch/core/error.hpp>
#include <notch/core/view.hpp>

NOTCH_KEYED_BEGIN

template <class T>
using row_major = Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
/// A map with a row stride; const if T is.
template <class T>
using matrix_map = Eigen::Map<std::conditional_t<std::is_const_v<T>, const row_major<T>, row_major<T>>,
                              Eigen::Unaligned, Eigen::OuterStride<>>;

/// The matrix_view as an Eigen expression.
template <class T> [[nodiscard]] matrix_map<T> as_eigen(const matrix_view<T>& v) {
    detail::check_view("as_eigen", "view", v);
    return matrix_map<T>(v.data, v.rows, v.cols, Eigen::OuterStride<>(v.rows > 1 ? v.stride : v.cols));
}

namespace detail {

/// Whether an Eigen object is memory, not an expression that is still to be computed, such as a sum or a reverse.
template <class Derived> inline constexpr bool has_memory = (Derived::Flags & Eigen::DirectAccessBit) != 0;

template <class Derived> [[nodiscard]] auto view_of(Derived& d) {
    using element = std::remove_pointer_t<decltype(d.data())>; // const if d is, or maps what is
    using plain = std::remove_const_t<Derived>;
    constexpr bool column = plain::ColsAtCompileTime == 1 && plain::IsVectorAtCompileTime;
    static_assert(plain::IsRowMajor || plain::IsVectorAtCompileTime,
                  "notch::as_view: the Eigen object must be row-major; a column-major one is the transposed view");
    static_assert(column || plain::InnerStrideAtCompileTime == 1 || plain::InnerStrideAtCompileTime == 0 ||
                      plain::InnerStrideAtCompileTime == Eigen::Dynamic,
                  "notch::as_view: the elements of a row must be contiguous");
    if (!column && d.cols() > 1 && d.innerStride() != 1)
        fail(errc::invalid_argument, cat("as_view: the elements of a row lie ", static_cast<index_t>(d.innerStride()),
                                         " apart, they must be contiguous"));
    // A column vector steps from row to row by its inner stride.
    return matrix_view<element>(d.data(), d.rows(), d.cols(), column ? d.innerStride() : d.outerStride());
}

} // namespace detail

/// The memory of a row-major Eigen matrix, map or block, or of a vector, as a matrix_view. The
/// elements of a row must be contiguous: at compile time where Eigen knows, else checked.
template <class Derived>
[[nodiscard]] auto as_view(Eigen::DenseBase<Derived>& m) requires(detail::has_memory<Derived>) {
    return detail::view_of(m.derived());
}
template <class Derived>
[[nodiscard]] auto as_view(const Eigen::DenseBase<Derived>& m) requires(detail::has_memory<Derived>) {
    return detail::view_of(m.derived());
}

NOTCH_KEYED_END
