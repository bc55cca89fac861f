// SPDX-License-Identifier: Apache-2.0
//
// notch/scheme/granularity.hpp: how many scales a tensor has. A granularity is a type, and says for a dense tensor of
// any rank which elements share one pair of parameters:
//
//   per_tensor              all
//   per_channel<Axis>       those of one index along Axis
//   per_token               those of one row: all indices but the last one are the same (activations)
//   per_group<Size, Axis>   Size neighbours along Axis (the last axis by default), e.g. weights of language models
//   per_block<Rows, Cols>   tiles of Rows x Cols over the last two axes
//
// Whatever the granularity, the tensor is seen as [outer][channels][inner], and each of the three extents is cut into
// groups of neighbours: that is a channel_layout, which observers, quantizers and kernels take. The last group of an
// extent may be shorter. Parameters are counted in the order of the groups, row-major:
//
//                           outer, channels, inner                groups of        parameters
//   per_tensor              1, 1, size                            all, 1, all      1
//   per_channel<a>          product before a, e[a], after a       all, 1, all      [e[a]]
//   per_token               1, product but the last, last         all, 1, all      [rows]
//   per_group<G, a>         product before a, e[a], after a       1, G, 1          [before][ceil(e[a] / G)][after]
//   per_block<R, C>         product but the last two, rows, cols  1, R, C          [..][ceil(rows / R)][ceil(cols / C)]
//
// A granularity of your own is a type with is_per_tensor and a static layout(extents).
#pragma once

#include <span>
#include <string_view>

#include <notch/core/config.hpp>
#include <notch/core/error.hpp>
#include <notch/core/types.hpp>

NOTCH_NAMESPACE_BEGIN

/// A tensor of any rank as [outer][channels][inner], and the sizes of groups within the three; 0 means the whole
/// extent. Element (o, c, i) has the parameters ((o / outer_group) * n1 + c / channel_group) * n2 + i / inner_group,
/// n1 and n2 being the numbers of groups of channels and inner. By default each channel has its own parameters, which
/// are then (i / inner) % channels for the element at i; per tensor: outer = 1, channels = 1, inner = size.
struct channel_layout {
    index_t outer = 1, channels = 1, inner = 0;
    index_t outer_group = 0, channel_group = 1, inner_group = 0;

    [[nodiscard]] NOTCH_INLINE constexpr index_t size() const noexcept { return outer * channels * inner; }
    /// Whether the parameters are those of the channels.
    [[nodiscard]] NOTCH_INLINE constexpr bool is_by_channel() const noexcept {
        return outer_group == 0 && channel_group == 1 && inner_group == 0;
    }
    /// How many parameters there are.
    [[nodiscard]] NOTCH_INLINE constexpr index_t count() const noexcept {
        return groups(outer, outer_group) * groups(channels, channel_group) * groups(inner, inner_group);
    }
    /// The parameters of the element at position at, 0 <= at < size().
    [[nodiscard]] NOTCH_INLINE constexpr index_t index_of(index_t at) const noexcept {
        const index_t o = at / inner / channels, c = at / inner % channels, i = at % inner;
        return (part(o, outer_group) * groups(channels, channel_group) + part(c, channel_group)) *
                   groups(inner, inner_group) +
               part(i, inner_group);
    }
    NOTCH_INLINE friend constexpr bool operator==(const channel_layout&, const channel_layout&) = default;

    NOTCH_INLINE static constexpr index_t groups(index_t extent, index_t group) noexcept {
        return group == 0 ? 1 : extent / group + (extent % group != 0 ? 1 : 0);
    }

private:
    NOTCH_INLINE static constexpr index_t part(index_t i, index_t group) noexcept { return group == 0 ? 0 : i / group; }
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// The extents of a layout are >= 0 and their product fits, so does the number of parameters; groups are >= 0.
inline void check_layout(std::string_view where, const channel_layout& l) {
    check_extent(where, "layout.outer", l.outer);
    check_extent(where, "layout.channels", l.channels);
    check_extent(where, "layout.inner", l.inner);
    check_extent(where, "layout.outer_group", l.outer_group);
    check_extent(where, "layout.channel_group", l.channel_group);
    check_extent(where, "layout.inner_group", l.inner_group);
    (void)checked_product(where, checked_product(where, l.outer, l.channels), l.inner);
    const auto groups = channel_layout::groups; // of no elements, if an extent is 0, and yet many
    (void)checked_product(where,
                          checked_product(where, groups(l.outer, l.outer_group), groups(l.channels, l.channel_group)),
                          groups(l.inner, l.inner_group));
}
/// The same, for functions that need parameters by channel.
inline void check_channel_layout(std::string_view where, const channel_layout& l) {
    check_layout(where, l);
    if (!l.is_by_channel())
        fail(errc::invalid_argument,
             cat(where, ": the layout has groups; one pair of parameters for each channel is needed"));
}

/// The product of extents [first, last).
inline index_t extent_product(std::span<const index_t> extents, int first, int last) {
    index_t product = 1;
    for (int d = first; d < last; ++d)
        product = checked_product("layout_of", product, extents[static_cast<std::size_t>(d)]);
    return product;
}

/// The tensor around an axis; axis -1 is the last one.
inline channel_layout layout_around(std::span<const index_t> extents, int axis, const char* name) {
    const int rank = static_cast<int>(extents.size()), a = axis < 0 ? rank - 1 : axis;
    if (a < 0 || a >= rank)
        fail(errc::invalid_argument, cat("layout_of: ", name, " axis ", axis, " of a tensor of rank ", rank));
    return {extent_product(extents, 0, a), extents[static_cast<std::size_t>(a)], extent_product(extents, a + 1, rank)};
}

/// Calls run(at, n) for each run of n neighbours, from at on, that have the parameters p.
template <class Run> void for_each_run_of(const channel_layout& l, index_t p, const Run& run) {
    const auto range = [](index_t extent, index_t group, index_t g) {
        struct span {
            index_t first, end;
        };
        if (group == 0) return span{0, extent};
        return span{g * group, extent - g * group < group ? extent : (g + 1) * group};
    };
    const index_t inner_groups = channel_layout::groups(l.inner, l.inner_group);
    const index_t channel_groups = channel_layout::groups(l.channels, l.channel_group);
    const auto i = range(l.inner, l.inner_group, p % inner_groups);
    const auto c = range(l.channels, l.channel_group, p / inner_groups % channel_groups);
    const auto o = range(l.outer, l.outer_group, p / inner_groups / channel_groups);
    const bool joined = l.inner == i.end - i.first; // neighbours across channels
    for (index_t at_o = o.first; at_o < o.end; ++at_o) {
        if (joined) {
            run((at_o * l.channels + c.first) * l.inner, (c.end - c.first) * l.inner);
            continue;
        }
        for (index_t at_c = c.first; at_c < c.end; ++at_c)
            run((at_o * l.channels + at_c) * l.inner + i.first, i.end - i.first);
    }
}

} // namespace detail

NOTCH_KEYED_END

NOTCH_NAMESPACE_BEGIN

struct per_tensor {
    static constexpr bool is_per_tensor = true;
    [[nodiscard]] NOTCH_INLINE static channel_layout layout(std::span<const index_t> extents) {
        return {1, 1, detail::extent_product(extents, 0, static_cast<int>(extents.size()))};
    }
};

struct per_token {
    static constexpr bool is_per_tensor = false;
    [[nodiscard]] NOTCH_INLINE static channel_layout layout(std::span<const index_t> extents) {
        const channel_layout l = detail::layout_around(extents, -1, "per_token");
        return {1, l.outer, l.channels};
    }
};

template <int Axis> struct per_channel {
    static_assert(Axis >= 0, "notch::per_channel<Axis>: Axis counts from 0");
    static constexpr bool is_per_tensor = false;
    static constexpr int axis = Axis;
    [[nodiscard]] NOTCH_INLINE static channel_layout layout(std::span<const index_t> extents) {
        return detail::layout_around(extents, Axis, "per_channel");
    }
};

template <int Size, int Axis = -1> struct per_group {
    static_assert(Size >= 1, "notch::per_group<Size, Axis>: Size must be at least 1");
    static_assert(Axis >= -1, "notch::per_group<Size, Axis>: Axis counts from 0; -1 is the last");
    static constexpr bool is_per_tensor = false;
    static constexpr int size = Size;
    [[nodiscard]] NOTCH_INLINE static channel_layout layout(std::span<const index_t> extents) {
        channel_layout l = detail::layout_around(extents, Axis, "per_group");
        l.outer_group = l.inner_group = 1;
        l.channel_group = Size;
        return l;
    }
};

template <int Rows, int Cols> struct per_block {
    static_assert(Rows >= 1 && Cols >= 1, "notch::per_block<Rows, Cols>: both must be at least 1");
    static constexpr bool is_per_tensor = false;
    [[nodiscard]] NOTCH_INLINE static channel_layout layout(std::span<const index_t> extents) {
        const int rank = static_cast<int>(extents.size());
        if (rank < 2) fail(errc::invalid_argument, detail::cat("layout_of: per_block of a tensor of rank ", rank));
        channel_layout l = detail::layout_around(extents, rank - 2, "per_block");
        l.outer_group = 1;
        l.channel_group = Rows;
        l.inner_group = Cols;
        return l;
    }
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN

/// The layout of a dense tensor of the given extents under a granularity.
template <class Granularity> [[nodiscard]] channel_layout layout_of(std::span<const index_t> extents) {
    for (index_t e : extents) detail::check_extent("layout_of", "extent", e);
    (void)detail::extent_product(extents, 0, static_cast<int>(extents.size()));
    return Granularity::layout(extents);
}

NOTCH_KEYED_END
