// SPDX-License-Identifier: Apache-2.0
//
// notch/eigen/map.hpp: views of Eigen objects and Eigen maps of views. Nothing is copied, in either
// direction; the memory stays its owner's.
#pragma once

#include <Eigen/Core>

#include <notch/core/error.hpp>
#include <notch/core/view.hpp>

NOTCH_KEYED_BEGIN

template <class T> using row_major = Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
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

/// Elements from one row to the next: a column vector steps by its inner stride.
template <class Derived> [[nodiscard]] index_t row_stride(const Derived& d) noexcept {
    return Derived::ColsAtCompileTime == 1 && Derived::IsVectorAtCompileTime ? d.innerStride() : d.outerStride();
}

} // namespace detail

/// The memory of a row-major Eigen matrix, map or block, or of a vector, as a matrix_view.
template <class Derived> [[nodiscard]] auto as_view(Eigen::DenseBase<Derived>& m) {
    static_assert(Derived::IsRowMajor || Derived::IsVectorAtCompileTime,
                  "notch::as_view: the Eigen object must be row-major; a column-major one is the transposed view");
    auto& d = m.derived();
    static_assert(Derived::IsVectorAtCompileTime || std::remove_cvref_t<Derived>::InnerStrideAtCompileTime == 1 ||
                      std::remove_cvref_t<Derived>::InnerStrideAtCompileTime == 0,
                  "notch::as_view: the elements of a row must be contiguous");
    return matrix_view<typename Derived::Scalar>(d.data(), d.rows(), d.cols(), detail::row_stride(d));
}
template <class Derived> [[nodiscard]] auto as_view(const Eigen::DenseBase<Derived>& m) {
    static_assert(Derived::IsRowMajor || Derived::IsVectorAtCompileTime,
                  "notch::as_view: the Eigen object must be row-major; a column-major one is the transposed view");
    const auto& d = m.derived();
    return matrix_view<const typename Derived::Scalar>(d.data(), d.rows(), d.cols(), detail::row_stride(d));
}

NOTCH_KEYED_END
