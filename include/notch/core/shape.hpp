// SPDX-License-Identifier: Apache-2.0
//
// notch/core/shape.hpp: the geometry of convolutions and poolings.
#pragma once

#include <string>
#include <string_view>

#include <notch/core/config.hpp>
#include <notch/core/error.hpp>
#include <notch/core/types.hpp>
#include <notch/core/view.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// The largest window extent, stride, padding or dilation that is accepted (keeps all later index
/// arithmetic far from overflow).
inline constexpr index_t max_window = index_t{1} << 20;

} // namespace detail
NOTCH_KEYED_END

NOTCH_NAMESPACE_BEGIN

/// Kernel extents, strides, dilations and padding of a 2-D window. Padding may be asymmetric.
/// Output row y reads input rows y * stride_h - pad_top + ky * dilation_h, ky = 0..kernel_h-1.
/// Kernel extents, strides and dilations are 1..2^20, paddings 0..2^20; every function that takes a
/// window checks that and names the member. The members below cannot fail: they give 0 outputs.
struct window {
    // Padding comes before the strides: g++ 12 for AVX-512 copies 64 constant bytes whose low words
    // are equal and whose high words are 0 as if all were equal, and {1, 1, 1, 1, 0, 0, 0, 0} would be
    // every 1 x 1 window without padding (tests/core/core.cpp shows it).
    index_t kernel_h = 1, kernel_w = 1;
    index_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
    index_t stride_h = 1, stride_w = 1;
    index_t dilation_h = 1, dilation_w = 1;

    NOTCH_INLINE friend constexpr bool operator==(const window&, const window&) = default;

    /// A k x k window with one stride and one padding on every side.
    [[nodiscard]] NOTCH_INLINE static constexpr window square(index_t k, index_t stride = 1, index_t pad = 0) noexcept {
        window s;
        s.kernel_h = s.kernel_w = k;
        s.stride_h = s.stride_w = stride;
        s.pad_top = s.pad_left = s.pad_bottom = s.pad_right = pad;
        return s;
    }
    /// floor((in + pads - dilation * (kernel - 1) - 1) / stride) + 1 for in rows; 0 if nothing fits,
    /// if a member that it depends on is invalid, or if in is not 0..2^40.
    [[nodiscard]] NOTCH_INLINE constexpr index_t out_h(index_t in) const noexcept {
        return outputs(in, pad_top, pad_bottom, kernel_h, stride_h, dilation_h);
    }
    /// The same for in columns.
    [[nodiscard]] NOTCH_INLINE constexpr index_t out_w(index_t in) const noexcept {
        return outputs(in, pad_left, pad_right, kernel_w, stride_w, dilation_w);
    }

    /// Whether an input extent and the members of one axis are within the bounds that keep all arithmetic in range.
    [[nodiscard]] NOTCH_INLINE static constexpr bool axis_is_valid(index_t in, index_t before, index_t after,
                                                                   index_t kernel, index_t stride,
                                                                   index_t dilation) noexcept {
        constexpr index_t most = detail::max_window;
        return in >= 0 && in <= detail::max_extent && before >= 0 && before <= most && after >= 0 && after <= most &&
               kernel >= 1 && kernel <= most && stride >= 1 && stride <= most && dilation >= 1 && dilation <= most;
    }

private:
    NOTCH_INLINE static constexpr index_t outputs(index_t in, index_t before, index_t after, index_t kernel,
                                                  index_t stride, index_t dilation) noexcept {
        if (!axis_is_valid(in, before, after, kernel, stride, dilation)) return 0;
        const index_t room = in + before + after - dilation * (kernel - 1) - 1;
        return room < 0 ? 0 : room / stride + 1;
    }
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// What is wrong with a window; empty if nothing is.
inline std::string window_fault(const window& s) {
    struct entry {
        const char* name;
        index_t value, least;
    };
    const entry entries[] = {
        {"kernel_h", s.kernel_h, 1},   {"kernel_w", s.kernel_w, 1},     {"stride_h", s.stride_h, 1},
        {"stride_w", s.stride_w, 1},   {"dilation_h", s.dilation_h, 1}, {"dilation_w", s.dilation_w, 1},
        {"pad_top", s.pad_top, 0},     {"pad_left", s.pad_left, 0},     {"pad_bottom", s.pad_bottom, 0},
        {"pad_right", s.pad_right, 0},
    };
    for (const entry& e : entries)
        if (e.value < e.least || e.value > max_window)
            return cat(e.name, " is ", e.value, ", must be ", e.least, "..", max_window);
    return {};
}
inline void check_window(std::string_view where, const window& s) {
    const std::string fault = window_fault(s);
    if (!fault.empty()) fail(errc::invalid_argument, cat(where, ": ", fault));
}

/// x, y and the window are valid, and the windows over x give the batch, height and width of y.
template <class X, class Y>
void check_windows(std::string_view where, const nhwc_view<X>& x, const window& s, const nhwc_view<Y>& y) {
    check_view(where, "x", x);
    check_view(where, "y", y);
    check_window(where, s);
    check_equal(where, "the batch of y", y.n, x.n);
    check_equal(where, "the height of y", y.h, s.out_h(x.h));
    check_equal(where, "the width of y", y.w, s.out_w(x.w));
}

} // namespace detail
NOTCH_KEYED_END
