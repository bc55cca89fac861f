// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/tflite_pool.hpp: the poolings and means of TensorFlow Lite on int8 codes. Formulas, terms and the
// specification in ref/tflite.hpp. Safe to call from several threads.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <string_view>

#include <notch/ref/tflite.hpp>

NOTCH_KEYED_BEGIN
namespace tflite {

namespace detail {

/// An error unless every window has a tap inside the image; before anything is written.
inline void check_taps(std::string_view where, nhwc_view<const std::int8_t> x, const window& s,
                       nhwc_view<std::int8_t> y) {
    const auto has_tap = [](index_t start, index_t dilation, index_t kernel, index_t extent) {
        for (index_t k = 0; k < kernel; ++k)
            if (const index_t i = start + k * dilation; i >= 0 && i < extent) return true;
        return false;
    };
    if (y.n == 0 || y.h == 0 || y.w == 0 || y.c == 0) return;
    bool all = true;
    for (index_t oy = 0; oy < y.h; ++oy)
        all = all && has_tap(oy * s.stride_h - s.pad_top, s.dilation_h, s.kernel_h, x.h);
    for (index_t ox = 0; ox < y.w; ++ox)
        all = all && has_tap(ox * s.stride_w - s.pad_left, s.dilation_w, s.kernel_w, x.w);
    if (!all) fail(errc::invalid_argument, cat(where, ": a window has no tap inside the image"));
}

/// Visits the taps inside the image of each window, for up to 64 channels at once: reduce(v, x, n) takes n codes in,
/// finish(v, taps, y, n) writes n results. v begins as `start`.
template <class Reduce, class Finish>
void for_windows(std::string_view where, nhwc_view<const std::int8_t> x, const window& s, nhwc_view<std::int8_t> y,
                 std::int32_t start, const Reduce& reduce, const Finish& finish) {
    notch::detail::check_windows(where, x, s, y);
    notch::detail::check_equal(where, "the number of channels of y", y.c, x.c);
    if (s.kernel_h * s.kernel_w > std::numeric_limits<std::int32_t>::max() / 256)
        fail(errc::overflow, cat(where, ": a window of ", s.kernel_h, " x ", s.kernel_w, " could overflow int32"));
    check_taps(where, x, s, y);
    constexpr index_t block = 64;
    for (index_t n = 0; n < y.n; ++n)
        for (index_t oy = 0; oy < y.h; ++oy)
            for (index_t ox = 0; ox < y.w; ++ox)
                for (index_t c = 0; c < y.c; c += block) {
                    const index_t channels = y.c - c < block ? y.c - c : block;
                    std::int32_t v[block];
                    for (index_t i = 0; i < block; ++i) v[i] = start;
                    index_t taps = 0;
                    for (index_t ky = 0; ky < s.kernel_h; ++ky)
                        for (index_t kx = 0; kx < s.kernel_w; ++kx) {
                            const index_t iy = oy * s.stride_h - s.pad_top + ky * s.dilation_h;
                            const index_t ix = ox * s.stride_w - s.pad_left + kx * s.dilation_w;
                            if (iy < 0 || iy >= x.h || ix < 0 || ix >= x.w) continue;
                            reduce(v, &x(n, iy, ix, c), channels);
                            ++taps;
                        }
                    finish(v, static_cast<std::int32_t>(taps), &y(n, oy, ox, c), channels);
                }
}
struct sum_codes {
    void operator()(std::int32_t* v, const std::int8_t* x, index_t n) const noexcept {
        if (n == 64) { // a constant trip count is vectorized
            for (index_t i = 0; i < 64; ++i) v[i] += x[i];
        } else {
            for (index_t i = 0; i < n; ++i) v[i] += x[i];
        }
    }
};

} // namespace detail

/// The grid of x is that of y. A window without a tap inside the image is an error, as in TensorFlow Lite.
inline void average_pool(nhwc_view<const std::int8_t> x, const window& s, nhwc_view<std::int8_t> y,
                         code_range range = int8_codes) {
    detail::check_range("tflite::average_pool", range);
    detail::for_windows(
        "tflite::average_pool", x, s, y, 0, detail::sum_codes{},
        [range](const std::int32_t* v, std::int32_t taps, std::int8_t* out, index_t n) {
            for (index_t i = 0; i < n; ++i) {
                const std::int32_t q = (v[i] > 0 ? v[i] + taps / 2 : v[i] - taps / 2) / taps;
                out[i] = static_cast<std::int8_t>(q < range.lo ? range.lo : q > range.hi ? range.hi : q);
            }
        });
}

/// The same for the largest code.
inline void max_pool(nhwc_view<const std::int8_t> x, const window& s, nhwc_view<std::int8_t> y,
                     code_range range = int8_codes) {
    detail::check_range("tflite::max_pool", range);
    detail::for_windows(
        "tflite::max_pool", x, s, y, int8_codes.lo,
        [](std::int32_t* v, const std::int8_t* in, index_t n) {
            for (index_t i = 0; i < n; ++i) v[i] = v[i] > in[i] ? v[i] : in[i];
        },
        [range](const std::int32_t* v, std::int32_t, std::int8_t* out, index_t n) {
            for (index_t i = 0; i < n; ++i)
                out[i] = static_cast<std::int8_t>(v[i] < range.lo ? range.lo : v[i] > range.hi ? range.hi : v[i]);
        });
}

/// The prepared constants of a mean over a number of elements. Immutable, safe to share.
struct mean_params {
    std::int32_t x_zero_point = 0, y_zero_point = 0;
    index_t count = 1;
    fixed_multiplier multiplier;
};

/// x_scale / y_scale below 2^30; count is 1..2^23. M / count is cut, not rounded: M * 2^k / count in integers with
/// 2^k <= count < 2^(k + 1), less the bits that would leave the shift.
[[nodiscard]] inline mean_params make_mean(quant_params x, quant_params y, index_t count) {
    constexpr const char* where = "tflite::make_mean";
    mean_params p{x.zero_point, y.zero_point, count, detail::ratio_multiplier(where, x, y)};
    if (count < 1 || count > index_t{1} << 23)
        fail(errc::invalid_argument, detail::cat(where, ": count is ", count, ", must be 1..2^23"));
    int k = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(count))) - 1;
    if (k > 31 + p.multiplier.shift) k = 31 + p.multiplier.shift;
    p.multiplier.mantissa = static_cast<std::int32_t>((std::int64_t{p.multiplier.mantissa} << k) / count);
    p.multiplier.shift -= k;
    return p;
}

/// The mean of every channel of every image: y is n x c. p.count is x.h * x.w.
inline void mean(nhwc_view<const std::int8_t> x, const mean_params& p, matrix_view<std::int8_t> y) {
    constexpr const char* where = "tflite::mean";
    notch::detail::check_view(where, "y", y);
    notch::detail::check_equal(where, "the number of rows of y", y.rows, x.n);
    notch::detail::check_equal(where, "the number of columns of y", y.cols, x.c);
    notch::detail::check_equal(where, "x.h * x.w", notch::detail::checked_product(where, x.h, x.w), p.count);
    window whole;
    whole.kernel_h = x.h;
    whole.kernel_w = x.w;
    detail::for_windows(where, x, whole, nhwc_view<std::int8_t>(y.data, y.rows, 1, 1, y.cols, y.stride, y.cols, y.cols),
                        0, detail::sum_codes{},
                        [&p](const std::int32_t* v, std::int32_t taps, std::int8_t* out, index_t n) {
                            for (index_t i = 0; i < n; ++i)
                                out[i] = static_cast<std::int8_t>(requantize_fixed_double(
                                    v[i] - p.x_zero_point * taps, p.multiplier, p.y_zero_point, int8_codes));
                        });
}

} // namespace tflite
NOTCH_KEYED_END
