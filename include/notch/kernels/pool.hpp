// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/pool.hpp: max, average and global average pooling on u8 codes, max pooling on floats, NHWC. Definitions
// in ref/pool.hpp.
#pragma once

#include <cstdint>
#include <cstring>

#include <notch/core/shape.hpp>
#include <notch/core/view.hpp>
#include <notch/core/workspace.hpp>
#include <notch/kernels/elementwise.hpp>
#include <notch/kernels/split.hpp>
#include <notch/ref/pool.hpp>

#define NOTCH_BODY <notch/kernels/body/pool.inl>
#include <notch/kernels/arch/for_each.inl>

NOTCH_KEYED_BEGIN
namespace detail {
NOTCH_KERNELS(pool_kernels, pool_tables[isa_count], NOTCH_KERNEL_TABLES(pool_table));

/// The most taps of a window that lie inside an image of h x w pixels.
inline index_t inner_taps(std::string_view where, const window& s, index_t h, index_t w) {
    return checked_product(where, s.kernel_h < h ? s.kernel_h : h, s.kernel_w < w ? s.kernel_w : w);
}
/// The workspace of a call with this many threads and taps.
inline index_t pool_bytes(std::string_view where, index_t taps, index_t threads) {
    return workspace_bytes(checked_product(where, checked_product(where, threads, taps), index_t{sizeof(void*)}));
}
} // namespace detail

/// Bytes of workspace that max_pool and average_pool need for this window over any image.
[[nodiscard]] inline index_t pool_workspace_size(const window& s, const context& ctx = {}) {
    constexpr const char* where = "pool_workspace_size";
    detail::check_window(where, s);
    return detail::pool_bytes(where, s.kernel_h * s.kernel_w, ctx.executor.concurrency());
}
/// The same over images of h x w pixels: less if the window is larger than these.
[[nodiscard]] inline index_t pool_workspace_size(const window& s, index_t h, index_t w, const context& ctx = {}) {
    constexpr const char* where = "pool_workspace_size";
    detail::check_window(where, s);
    detail::check_extent(where, "h", h);
    detail::check_extent(where, "w", w);
    return detail::pool_bytes(where, detail::inner_taps(where, s, h, w), ctx.executor.concurrency());
}

namespace detail {

/// Collects the taps inside the image and calls finish(args) for each run of output pixels that
/// share them: the inner columns of a row at once, those at the border one by one.
template <class T, class Finish>
void run_pool(std::string_view where, nhwc_view<const T> x, const window& s, nhwc_view<T> y, const context& ctx,
              const Finish& finish) {
    check_windows(where, x, s, y);
    check_equal(where, "the number of channels of y", y.c, x.c);
    if (y.n == 0 || y.h == 0 || y.w == 0 || y.c == 0) return;
    const index_t threads = ctx.executor.concurrency(), most_taps = inner_taps(where, s, x.h, x.w);
    auto** memory = reinterpret_cast<const std::uint8_t**>(
        workspace_begin(where, "pool_workspace_size", ctx.workspace, pool_bytes(where, most_taps, threads)));
    parallel(ctx.executor, threads, [&](index_t t) {
        const std::uint8_t** tap = memory + t * most_taps;
        const index_t rows = y.n * y.h;
        for (index_t r = rows * t / threads; r < rows * (t + 1) / threads; ++r) {
            const index_t image = r / y.h, row = r % y.h;
            // Columns [inner, outer) have their whole window between the left and the right border.
            const index_t reach = (s.kernel_w - 1) * s.dilation_w;
            const index_t inner = (s.pad_left + s.stride_w - 1) / s.stride_w;
            index_t outer = x.w - 1 - reach + s.pad_left < 0 ? 0 : (x.w - 1 - reach + s.pad_left) / s.stride_w + 1;
            outer = outer < y.w ? outer : y.w;
            for (index_t col = 0; col < y.w;) {
                const index_t run = col >= inner && col < outer ? outer - col : 1;
                index_t taps = 0;
                for (index_t ky = 0; ky < s.kernel_h; ++ky) {
                    const index_t iy = row * s.stride_h - s.pad_top + ky * s.dilation_h;
                    if (iy < 0 || iy >= x.h) continue;
                    for (index_t kx = 0; kx < s.kernel_w; ++kx) {
                        const index_t ix = col * s.stride_w - s.pad_left + kx * s.dilation_w;
                        if (ix >= 0 && ix < x.w)
                            tap[taps++] = reinterpret_cast<const std::uint8_t*>(&x(image, iy, ix, 0));
                    }
                }
                pool_args a;
                a.tap = tap;
                a.taps = taps;
                a.pixels = run;
                a.in_step = taps > 0 ? s.stride_w * x.stride_w * static_cast<index_t>(sizeof(T)) : 0;
                a.out_step = y.stride_w * static_cast<index_t>(sizeof(T));
                a.channels = y.c;
                a.out = reinterpret_cast<std::uint8_t*>(&y(image, row, col, 0));
                finish(a);
                col += run;
            }
        }
    });
}

} // namespace detail

namespace detail {
template <class T>
void run_max_pool(nhwc_view<const T> x, const window& s, nhwc_view<T> y, void (*kernel)(const pool_args&),
                  const context& ctx) {
    run_pool<T>("max_pool", x, s, y, ctx, [&](pool_args& a) {
        if (a.taps > 0)
            kernel(a);
        else
            for (index_t i = 0; i < a.pixels; ++i)
                std::memset(a.out + i * a.out_step, 0, static_cast<std::size_t>(a.channels) * sizeof(T));
    });
}
} // namespace detail

/// The maximum code over each window; the output has the parameters of the input. A window outside
/// the image gives code 0.
inline void max_pool(nhwc_view<const std::uint8_t> x, const window& s, nhwc_view<std::uint8_t> y,
                     const context& ctx = {}) {
    detail::run_max_pool(x, s, y, detail::kernels_for(detail::pool_tables, ctx.target).max_pool_u8, ctx);
}
/// The same for real values. A NaN that comes first in its window stays, later ones are passed over; a window outside
/// the image gives 0.
inline void max_pool(nhwc_view<const float> x, const window& s, nhwc_view<float> y, const context& ctx = {}) {
    detail::run_max_pool(x, s, y, detail::kernels_for(detail::pool_tables, ctx.target).max_pool_f32, ctx);
}

/// The mean over the taps inside the image, requantized from x_params to y_params, whose zero points are
/// 0..255. x_params.scale / y_params.scale must not overflow float, nor a sum of codes int32.
inline void average_pool(nhwc_view<const std::uint8_t> x, quant_params x_params, const window& s, quant_params y_params,
                         nhwc_view<std::uint8_t> y, const context& ctx = {}) {
    detail::check_average<std::uint8_t>("average_pool", x_params, s, y_params, {0, 255});
    const pool_kernels& k = detail::kernels_for(detail::pool_tables, ctx.target);
    detail::run_pool<std::uint8_t>("average_pool", x, s, y, ctx, [&](pool_args& a) {
        a.multiplier = a.taps > 0 ? ref::average_multiplier(x_params.scale, y_params.scale, a.taps) : 0.0f;
        a.x_zero_point = x_params.zero_point;
        a.y_zero_point = y_params.zero_point;
        k.average_pool_u8(a);
    });
}

/// The window of a pooling over the whole image.
[[nodiscard]] inline window global_window(index_t h, index_t w) noexcept {
    window s;
    s.kernel_h = h;
    s.kernel_w = w;
    return s;
}

NOTCH_KEYED_END
