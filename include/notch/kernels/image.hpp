// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/image.hpp: what convolutions of every kind share: the checks of their arguments. And for
// kernels/lowbit_conv.hpp the padded copy of an image and the loop over images and rows with threads.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include <notch/core/shape.hpp>
#include <notch/core/view.hpp>
#include <notch/core/workspace.hpp>
#include <notch/kernels/epilogue.hpp>
#include <notch/kernels/split.hpp>
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

inline void copy_padded(nhwc_view<const std::uint8_t> in, index_t image, const window& s, const padded_shape& p,
                        std::uint8_t zero_point, std::uint8_t* out) {
    const auto row = static_cast<std::size_t>(p.w * p.c), left = static_cast<std::size_t>(s.pad_left * p.c),
               inner = static_cast<std::size_t>(in.w * p.c), right = static_cast<std::size_t>(s.pad_right * p.c);
    std::memset(out, zero_point, static_cast<std::size_t>(s.pad_top) * row);
    out += static_cast<std::size_t>(s.pad_top) * row;
    for (index_t y = 0; y < in.h; ++y) {
        std::memset(out, zero_point, left);
        if (inner > 0) { // else there is no data, and the strides are anything
            const std::uint8_t* from = in.data + image * in.stride_n + y * in.stride_h;
            if (in.stride_w == p.c) {
                std::memcpy(out + left, from, inner);
            } else {
                for (index_t x = 0; x < in.w; ++x)
                    std::memcpy(out + left + x * p.c, from + x * in.stride_w, static_cast<std::size_t>(p.c));
            }
        }
        std::memset(out + left + inner, zero_point, right);
        out += row;
    }
    std::memset(out, zero_point, static_cast<std::size_t>(s.pad_bottom) * row + 64);
}

/// The padded copies at once: one a thread, or one shared by all.
inline index_t image_copies(index_t images, index_t threads) { return images >= threads ? threads : 1; }

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

/// Runs body(image, first_row, last_row, padded image or null) so that all output rows of all
/// images are covered: whole images over the threads if there are enough, else rows of one image
/// after the other. memory: image_copies(x.n, threads) images, unless they are read in place.
template <class Body>
void for_image_rows(nhwc_view<const std::uint8_t> x, const window& s, index_t out_h, std::uint8_t zero_point,
                    bool in_place, const padded_shape& padded, std::uint8_t* memory, const executor_ref& executor,
                    index_t threads, const Body& body) {
    if (x.n >= threads) {
        parallel(executor, threads, [&](index_t t) {
            std::uint8_t* copy = in_place ? nullptr : memory + t * padded.bytes();
            for (index_t i = t; i < x.n; i += threads) {
                if (copy) copy_padded(x, i, s, padded, zero_point, copy);
                body(i, index_t{0}, out_h, copy);
            }
        });
        return;
    }
    for (index_t image = 0; image < x.n; ++image) {
        if (!in_place) copy_padded(x, image, s, padded, zero_point, memory);
        parallel(executor, threads, [&](index_t t) {
            const index_t first = out_h * t / threads, last = out_h * (t + 1) / threads;
            if (first < last) body(image, first, last, in_place ? nullptr : memory);
        });
    }
}

} // namespace detail
NOTCH_KEYED_END
