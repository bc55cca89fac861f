// SPDX-License-Identifier: Apache-2.0
//
// notch/scheme/granularity.hpp: how many scales a tensor has.
//
//   per_tensor          one scale for all elements
//   per_token           one scale for each row of a matrix of activations, found at run time
//   per_channel<Axis>   one scale for each index along Axis; the tensor is seen as
//                       [outer][channels][inner], inner being the product of the extents after Axis
#pragma once

#include <span>

#include <notch/core/config.hpp>
#include <notch/core/error.hpp>
#include <notch/core/types.hpp>

NOTCH_NAMESPACE_BEGIN

struct per_tensor {
    static constexpr bool is_per_tensor = true;
    static constexpr int axis = -1;
};

struct per_token {
    static constexpr bool is_per_tensor = false;
    static constexpr int axis = 0;
};

template <int Axis> struct per_channel {
    static_assert(Axis >= 0, "notch::per_channel<Axis>: Axis counts from 0");
    static constexpr bool is_per_tensor = false;
    static constexpr int axis = Axis;
};

/// A tensor of any rank as [outer][channels][inner]: element i belongs to channel
/// (i / inner) % channels. Per tensor: outer = 1, channels = 1, inner = size.
struct channel_layout {
    index_t outer = 1, channels = 1, inner = 0;
    [[nodiscard]] NOTCH_INLINE constexpr index_t size() const noexcept {
        return outer * channels * inner;
    }
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// The extents of a layout are >= 0 and their product fits.
inline void check_layout(std::string_view where, const channel_layout& l) {
    check_extent(where, "layout.outer", l.outer);
    check_extent(where, "layout.channels", l.channels);
    check_extent(where, "layout.inner", l.inner);
    (void)checked_product(where, checked_product(where, l.outer, l.channels), l.inner);
}

} // namespace detail

/// The layout of a dense tensor of the given extents under a granularity.
template <class Granularity> [[nodiscard]] channel_layout layout_of(std::span<const index_t> extents) {
    channel_layout layout;
    const int rank = static_cast<int>(extents.size());
    for (index_t e : extents) detail::check_extent("layout_of", "extent", e);
    if constexpr (Granularity::is_per_tensor) {
        layout.inner = 1;
        for (index_t e : extents) layout.inner = detail::checked_product("layout_of", layout.inner, e);
    } else {
        if (Granularity::axis >= rank)
            fail(errc::invalid_argument, detail::cat("layout_of: per_channel axis ", Granularity::axis,
                                                     " of a tensor of rank ", rank));
        layout.inner = 1;
        for (int d = 0; d < rank; ++d) {
            const index_t e = extents[static_cast<std::size_t>(d)];
            index_t& part = d < Granularity::axis    ? layout.outer
                            : d == Granularity::axis ? layout.channels
                                                     : layout.inner;
            part = detail::checked_product("layout_of", part, e);
        }
    }
    return layout;
}

NOTCH_KEYED_END
