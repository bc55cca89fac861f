// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/image.hpp: what convolutions of every kind share: the checks of their arguments.
#pragma once

#include <cstdint>
#include <type_traits>

#include <notch/core/shape.hpp>
#include <notch/core/view.hpp>
#include <notch/core/workspace.hpp>
#include <notch/kernels/epilogue.hpp>
#include <notch/kernels/table.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// An image with its border, dense, and slack for reads of whole groups of four.
struct padded_shape {
    index_t h = 0, w = 0, c = 0;
    [[nodiscard]] NOTCH_INLINE index_t bytes() const noexcept { return round_up(h * w * c + 64, 64); }
};

inline padded_shape pad_shape(std::string_view where, const window& s, index_t h, index_t w, index_t c) {
    // Paddings are at most max_window, so that these bounds keep the sums and the slack in range.
    if (h > max_extent || w > max_extent || c > max_extent)
        fail(errc::overflow, cat(where, ": an image of ", h, " x ", w, " x ", c, " is too large"));
    const padded_shape p{h + s.pad_top + s.pad_bottom, w + s.pad_left + s.pad_right, c};
    if (checked_product(where, checked_product(where, p.h, p.w), p.c) > index_t{1} << 60)
        fail(errc::overflow, cat(where, ": an image of ", h, " x ", w, " x ", c, " is too large"));
    return p;
}

inline bool has_padding(const window& s) noexcept {
    return s.pad_top > 0 || s.pad_left > 0 || s.pad_bottom > 0 || s.pad_right > 0;
}

inline bool is_pointwise(const window& s) noexcept {
    return s.kernel_h == 1 && s.kernel_w == 1 && s.stride_h == 1 && s.stride_w == 1 && !has_padding(s);
}

/// The codes of an input, u8 or s8, as bytes; checks that the epilogue expects them.
template <class X, class Out, class F>
nhwc_view<const std::uint8_t> conv_input(std::string_view where, const nhwc_view<X>& x, const epilogue<Out, F>& ep) {
    using code = std::remove_const_t<X>;
    static_assert(std::is_same_v<code, std::uint8_t> || std::is_same_v<code, std::int8_t>,
                  "notch: the elements of x must be codes, std::uint8_t or std::int8_t");
    check_no_rows(where, ep.rows);
    check_input_type<code>(where, ep.x_signed);
    return {reinterpret_cast<const std::uint8_t*>(x.data), x.n, x.h, x.w, x.c, x.stride_n, x.stride_h, x.stride_w};
}

/// Checks what conv2d and depthwise have in common.
template <class Y>
void check_conv(std::string_view where, nhwc_view<const std::uint8_t> x, const window& s, index_t channels,
                index_t outputs, index_t epilogue_outputs, nhwc_view<Y> y) {
    check_windows(where, x, s, y);
    check_equal(where, "the number of channels of x", x.c, channels);
    check_equal(where, "the number of channels of y", y.c, outputs);
    check_equal(where, "the number of channels of the epilogue", epilogue_outputs, outputs);
}

} // namespace detail
NOTCH_KEYED_END
