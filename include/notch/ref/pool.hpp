// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/pool.hpp: the definition of poolings on codes, of max pooling on floats too, NHWC.
//
//   max      code = max over the taps inside the image; the parameters of the input stay valid.
//            A window wholly in the padding gives the lowest code. For floats: the first tap, then each later one that
//            is larger (>): a NaN stays if it comes first and is passed over else, and of two zeros the first stays.
//            A window wholly in the padding gives 0.
//   average  acc = sum over the taps inside the image of (in - x_zero_point), requantized by
//            requantize_float with multiplier = x_scale / (y_scale * count), count being the number
//            of taps inside the image (padding is not counted); a window without any gives
//            y_zero_point.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>

#include <notch/core/shape.hpp>
#include <notch/core/view.hpp>
#include <notch/scheme/range.hpp>
#include <notch/scheme/requantize.hpp>

NOTCH_KEYED_BEGIN
namespace ref {

/// The multiplier of an average over count taps: computed in double, rounded once to float.
[[nodiscard]] inline float average_multiplier(float x_scale, float y_scale, index_t count) noexcept {
    return static_cast<float>(static_cast<double>(x_scale) /
                              (static_cast<double>(y_scale) * static_cast<double>(count)));
}

} // namespace ref

namespace detail {

/// What average_pool needs of its parameters, here and in the kernels: zero points and range are codes
/// of X, the multiplier is finite (the largest one is that of a single tap), and no sum leaves int32.
template <class X>
void check_average(std::string_view where, quant_params x, const window& s, quant_params y, code_range range) {
    constexpr std::int32_t least = std::numeric_limits<X>::lowest(), most = std::numeric_limits<X>::max();
    check_params(where, "x_params", x, least, most);
    check_params(where, "y_params", y, least, most);
    if (range.lo > range.hi || range.lo < least || range.hi > most)
        fail(errc::invalid_argument,
             cat(where, ": range is ", range.lo, "..", range.hi, ", must lie in ", least, "..", most));
    if (!std::isfinite(ref::average_multiplier(x.scale, y.scale, 1)))
        fail(errc::invalid_argument,
             cat(where, ": x_params.scale / y_params.scale is ", x.scale, " / ", y.scale, ", which overflows float"));
    check_window(where, s);
    const index_t taps = s.kernel_h * s.kernel_w,
                  limit = std::numeric_limits<std::int32_t>::max() / (index_t{most} - least);
    if (taps > limit)
        fail(errc::overflow, cat(where, ": the window has ", taps, " taps, at most ", limit, " have an int32 sum"));
}

} // namespace detail

namespace ref {

/// Codes (u8 or s8) or floats.
template <class X> void max_pool(nhwc_view<const X> in, const window& s, nhwc_view<X> out) {
    static_assert(std::is_same_v<X, std::uint8_t> || std::is_same_v<X, std::int8_t> || std::is_same_v<X, float>,
                  "notch::ref::max_pool: X is std::uint8_t, std::int8_t or float");
    detail::check_windows("ref::max_pool", in, s, out);
    detail::check_equal("ref::max_pool", "the number of channels of out", out.c, in.c);
    for (index_t n = 0; n < out.n; ++n)
        for (index_t y = 0; y < out.h; ++y)
            for (index_t x = 0; x < out.w; ++x)
                for (index_t c = 0; c < out.c; ++c) {
                    X best = std::is_same_v<X, float> ? X{} : std::numeric_limits<X>::lowest();
                    bool none = true;
                    for (index_t ky = 0; ky < s.kernel_h; ++ky)
                        for (index_t kx = 0; kx < s.kernel_w; ++kx) {
                            const index_t iy = y * s.stride_h - s.pad_top + ky * s.dilation_h;
                            const index_t ix = x * s.stride_w - s.pad_left + kx * s.dilation_w;
                            if (iy < 0 || iy >= in.h || ix < 0 || ix >= in.w) continue;
                            const X v = in(n, iy, ix, c);
                            if (none || v > best) best = v;
                            none = false;
                        }
                    out(n, y, x, c) = best;
                }
}

/// range and both zero points are codes of X; x_params.scale / y_params.scale must not overflow float.
template <class X>
void average_pool(nhwc_view<const X> in, quant_params x_params, const window& s, quant_params y_params,
                  code_range range, nhwc_view<X> out) {
    detail::check_windows("ref::average_pool", in, s, out);
    detail::check_equal("ref::average_pool", "the number of channels of out", out.c, in.c);
    detail::check_average<X>("ref::average_pool", x_params, s, y_params, range);
    for (index_t n = 0; n < out.n; ++n)
        for (index_t y = 0; y < out.h; ++y)
            for (index_t x = 0; x < out.w; ++x)
                for (index_t c = 0; c < out.c; ++c) {
                    std::int32_t sum = 0;
                    index_t count = 0;
                    for (index_t ky = 0; ky < s.kernel_h; ++ky)
                        for (index_t kx = 0; kx < s.kernel_w; ++kx) {
                            const index_t iy = y * s.stride_h - s.pad_top + ky * s.dilation_h;
                            const index_t ix = x * s.stride_w - s.pad_left + kx * s.dilation_w;
                            if (iy < 0 || iy >= in.h || ix < 0 || ix >= in.w) continue;
                            sum += static_cast<std::int32_t>(in(n, iy, ix, c)) - x_params.zero_point;
                            ++count;
                        }
                    const float m = count ? average_multiplier(x_params.scale, y_params.scale, count) : 0.0f;
                    out(n, y, x, c) = static_cast<X>(requantize_float(sum, m, y_params.zero_point, range));
                }
}

} // namespace ref
NOTCH_KEYED_END
