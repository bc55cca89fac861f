// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/tflite.hpp: the int8 rules of TensorFlow Lite (LiteRT) where they are not notch's own. Definitions, and
// scalar loops that run them: the codes are those of LiteRT's reference kernels, bit for bit. Activations are
// affine_signed<8>, weights int8 with zero point 0, one scale or one for each output channel, biases int32 on the grid
// x_scale * w_scale (TensorFlow Lite 8-bit quantization specification; Jacob et al. 2018, arXiv:1712.05877).
//
//   D(a, b) = doubling_high_mul,  R(x, n) = rounding_divide_by_pot,  M(real) = to_fixed_multiplier
//
//   conv, depthwise    stage::requantize_fixed with double rounding: kernels/tflite.hpp
//   fully connected    clamp(round(double(acc) * m[c]) + y_zero_point), m = x_scale * w_scale[c] / y_scale in double,
//                      halves away from zero. (Older versions and the other kernels: as for conv.)
//   add                s = 2 max(a_scale, b_scale), both inputs on the grid s / 2^20:
//                      acc  = T(a, a_scale / s) + T(b, b_scale / s),  T(q, r) = R(D((q - zero_point) * 2^20, M(r)))
//                      code = clamp(R(D(acc, M(s / (2^20 y_scale)))) + y_zero_point)
//   average pool       the sum of the codes divided by the taps inside the image, halves away from zero; the grid stays
//   max pool           the largest code inside the image; the grid stays
//   mean               the sum of (code - zero_point) times M(x_scale / y_scale) / taps in integers, as for conv
//   quantize           of codes: the product with M(x_scale / y_scale), as for conv. Of reals: quantize with half_away
//   softmax            exp in Q0.31 by gemmlowp's polynomial, sums in Q12.19, the reciprocal by three steps of Newton
//
// A fused activation is a range of codes: activation_range. Everything is safe to call from several threads.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/core/shape.hpp>
#include <notch/core/types.hpp>
#include <notch/core/view.hpp>
#include <notch/scheme/fixed_point.hpp>
#include <notch/scheme/range.hpp>
#include <notch/scheme/requantize.hpp>

NOTCH_KEYED_BEGIN
namespace tflite {

/// The codes of an int8 tensor.
inline constexpr code_range int8_codes{-128, 127};

/// A fused activation function; the values are those of TensorFlow Lite's files.
enum class activation : std::uint8_t { none, relu, relu_n1_to_1, relu6 };

/// The codes that a fused activation leaves of an int8 output: its bounds in real units, rounded with halves away from
/// zero after a division in float. y.scale > 0 and finite, y.zero_point a code.
[[nodiscard]] inline code_range activation_range(activation fused, quant_params y) {
    constexpr const char* where = "tflite::activation_range";
    notch::detail::check_params(where, "y", y, int8_codes.lo, int8_codes.hi);
    const auto bound = [&](float real) {
        const float steps = std::round(real / y.scale), most = 256.0f;
        return y.zero_point + static_cast<std::int32_t>(steps < -most ? -most : steps > most ? most : steps);
    };
    code_range range = int8_codes;
    switch (fused) {
    case activation::none: return range;
    case activation::relu: range.lo = bound(0.0f); return range;
    case activation::relu6: range = {bound(0.0f), bound(6.0f)}; break;
    case activation::relu_n1_to_1: range = {bound(-1.0f), bound(1.0f)}; break;
    default:
        fail(errc::invalid_argument,
             notch::detail::cat(where, ": no activation has the number ", static_cast<int>(fused)));
    }
    return {range.lo < int8_codes.lo ? int8_codes.lo : range.lo, range.hi > int8_codes.hi ? int8_codes.hi : range.hi};
}

/// How a window meets the border; the values are those of TensorFlow Lite's files.
enum class padding : std::uint8_t { same, valid };

/// Sets the paddings of a window for images of h x w pixels. same: ceil(h / stride_h) x ceil(w / stride_w) outputs, the
/// larger half of an odd padding below and to the right. valid: none. Errors: those of any window; h, w >= 0.
[[nodiscard]] inline window padded(window s, padding p, index_t h, index_t w) {
    constexpr const char* where = "tflite::padded";
    s.pad_top = s.pad_left = s.pad_bottom = s.pad_right = 0;
    notch::detail::check_window(where, s);
    for (index_t e : {h, w}) {
        notch::detail::check_extent(where, "an extent of the image", e);
        notch::detail::check_view_extent(where, "the image", e);
    }
    if (p == padding::valid) return s;
    const auto total = [](index_t in, index_t kernel, index_t stride, index_t dilation) {
        const index_t need = ((in + stride - 1) / stride - 1) * stride + dilation * (kernel - 1) + 1 - in;
        return need > 0 && in > 0 ? need : 0;
    };
    const index_t rows = total(h, s.kernel_h, s.stride_h, s.dilation_h),
                  cols = total(w, s.kernel_w, s.stride_w, s.dilation_w);
    s.pad_top = rows / 2;
    s.pad_bottom = rows - s.pad_top;
    s.pad_left = cols / 2;
    s.pad_right = cols - s.pad_left;
    notch::detail::check_window(where, s);
    return s;
}

namespace detail {

using notch::detail::cat;

/// M(real), which must be below 1.
inline fixed_multiplier multiplier_below_one(std::string_view where, double real) {
    const fixed_multiplier m = real < 1.0 ? to_fixed_multiplier(real) : fixed_multiplier{0, 1};
    if (m.shift > 0) fail(errc::invalid_argument, cat(where, ": a ratio of scales is ", real, ", must be below 1"));
    return m;
}
inline void check_range(std::string_view where, code_range r) {
    if (r.lo > r.hi || r.lo < int8_codes.lo || r.hi > int8_codes.hi)
        fail(errc::invalid_argument,
             cat(where, ": the range of codes is ", r.lo, "..", r.hi, ", not within -128..127"));
}
inline void check_int8(std::string_view where, const char* name, quant_params p) {
    notch::detail::check_params(where, name, p, int8_codes.lo, int8_codes.hi);
}
/// x_scale / y_scale as a multiplier.
inline fixed_multiplier ratio_multiplier(std::string_view where, quant_params x, quant_params y) {
    check_int8(where, "x", x);
    check_int8(where, "y", y);
    const double ratio = static_cast<double>(x.scale) / static_cast<double>(y.scale);
    if (!(ratio < 1073741824.0))
        fail(errc::invalid_argument, cat(where, ": x.scale / y.scale is ", ratio, ", must be below 2^30"));
    return to_fixed_multiplier(ratio);
}

} // namespace detail

// --- fully connected -----------------------------------------------------------------------------

/// The prepared constants of the rescaling of a fully connected layer. Immutable, safe to share.
struct rescale_params {
    buffer<double> multiplier; ///< one, or one for each output
    std::int32_t y_zero_point = 0;
    code_range range = int8_codes;
};

/// w_scales has one entry, or one for each of the columns of accumulators.
[[nodiscard]] inline rescale_params make_rescale(quant_params x, std::span<const float> w_scales, quant_params y,
                                                 activation fused = activation::none) {
    constexpr const char* where = "tflite::make_rescale";
    detail::check_int8(where, "x", x);
    notch::detail::check_span(where, "w_scales", w_scales);
    if (w_scales.empty()) fail(errc::invalid_argument, detail::cat(where, ": there are no w_scales"));
    rescale_params p;
    p.range = activation_range(fused, y);
    p.y_zero_point = y.zero_point;
    p.multiplier = buffer<double>(static_cast<index_t>(w_scales.size()));
    for (index_t c = 0; c < p.multiplier.size(); ++c) {
        const float w = w_scales[static_cast<std::size_t>(c)];
        notch::detail::check_scale(where, {"w_scales", c}, w);
        p.multiplier[c] = static_cast<double>(x.scale) * static_cast<double>(w) / static_cast<double>(y.scale);
    }
    return p;
}

/// Accumulators, bias included, to codes.
inline void rescale(matrix_view<const std::int32_t> acc, const rescale_params& p, matrix_view<std::int8_t> y) {
    constexpr const char* where = "tflite::rescale";
    notch::detail::check_view(where, "acc", acc);
    notch::detail::check_view(where, "y", y);
    notch::detail::check_equal(where, "the number of rows of y", y.rows, acc.rows);
    notch::detail::check_equal(where, "the number of columns of y", y.cols, acc.cols);
    const bool shared = p.multiplier.size() == 1;
    if (!shared) notch::detail::check_equal(where, "the number of multipliers", p.multiplier.size(), acc.cols);
    const double lo = p.range.lo - p.y_zero_point, hi = p.range.hi - p.y_zero_point;
    for (index_t i = 0; i < acc.rows; ++i)
        for (index_t j = 0; j < acc.cols; ++j) {
            const double v = std::round(static_cast<double>(acc(i, j)) * p.multiplier[shared ? 0 : j]);
            y(i, j) = static_cast<std::int8_t>(static_cast<std::int32_t>(v < lo   ? lo
                                                                         : v > hi ? hi
                                                                                  : v) +
                                               p.y_zero_point);
        }
}

// --- add -----------------------------------------------------------------------------------------

/// The prepared constants of an add. Immutable, safe to share.
struct add_params {
    std::int32_t a_zero_point = 0, b_zero_point = 0, y_zero_point = 0;
    fixed_multiplier a, b, y; ///< a_scale / s, b_scale / s, s / (2^20 y_scale); all below 1
    code_range range = int8_codes;
};

/// max(a.scale, b.scale) / y.scale must be below 2^19.
[[nodiscard]] inline add_params make_add(quant_params a, quant_params b, quant_params y,
                                         activation fused = activation::none) {
    constexpr const char* where = "tflite::make_add";
    detail::check_int8(where, "a", a);
    detail::check_int8(where, "b", b);
    add_params p;
    p.range = activation_range(fused, y);
    p.a_zero_point = a.zero_point;
    p.b_zero_point = b.zero_point;
    p.y_zero_point = y.zero_point;
    const double s = 2.0 * static_cast<double>(a.scale > b.scale ? a.scale : b.scale);
    p.a = detail::multiplier_below_one(where, static_cast<double>(a.scale) / s);
    p.b = detail::multiplier_below_one(where, static_cast<double>(b.scale) / s);
    p.y = detail::multiplier_below_one(where, s / (1048576.0 * static_cast<double>(y.scale)));
    return p;
}

namespace detail {

inline void check_add(std::string_view where, std::span<const std::int8_t> a, std::span<const std::int8_t> b,
                      const add_params& p, std::span<const std::int8_t> y) {
    check_range(where, p.range);
    for (std::int32_t zero_point : {p.a_zero_point, p.b_zero_point, p.y_zero_point})
        if (zero_point < int8_codes.lo || zero_point > int8_codes.hi)
            fail(errc::invalid_argument, cat(where, ": a zero point is ", zero_point, ", must be -128..127"));
    for (fixed_multiplier m : {p.a, p.b, p.y})
        if (m.mantissa < 0 || m.shift > 0 || m.shift < -31)
            fail(errc::invalid_argument,
                 cat(where, ": a multiplier is ", m.mantissa, " * 2^(", m.shift, " - 31), must be in [0, 1)"));
    notch::detail::check_equal(where, "the size of b", static_cast<index_t>(b.size()), static_cast<index_t>(a.size()));
    notch::detail::check_equal(where, "the size of y", static_cast<index_t>(y.size()), static_cast<index_t>(a.size()));
    notch::detail::check_span(where, "a", a);
    notch::detail::check_span(where, "b", b);
    notch::detail::check_span(where, "y", y);
}

} // namespace detail

namespace ref {

/// y[i] = the code of a[i] + b[i]. Equal sizes; y may be a or b. p comes from make_add: parameters that it cannot make
/// are an error.
inline void add(std::span<const std::int8_t> a, std::span<const std::int8_t> b, const add_params& p,
                std::span<std::int8_t> y) {
    detail::check_add("tflite::ref::add", a, b, p, y);
    constexpr code_range all{std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()};
    for (std::size_t i = 0; i < y.size(); ++i) {
        const std::int32_t acc = requantize_fixed_double((a[i] - p.a_zero_point) * (1 << 20), p.a, 0, all) +
                                 requantize_fixed_double((b[i] - p.b_zero_point) * (1 << 20), p.b, 0, all);
        y[i] = static_cast<std::int8_t>(requantize_fixed_double(acc, p.y, p.y_zero_point, p.range));
    }
}

} // namespace ref

// --- poolings and means --------------------------------------------------------------------------

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

// --- quantize ------------------------------------------------------------------------------------

/// Codes on another grid. Equal sizes; y may be x. x.scale / y.scale below 2^30.
inline void requantize(std::span<const std::int8_t> x, quant_params x_params, quant_params y_params,
                       std::span<std::int8_t> y) {
    constexpr const char* where = "tflite::requantize";
    const fixed_multiplier m = detail::ratio_multiplier(where, x_params, y_params);
    notch::detail::check_equal(where, "the size of y", static_cast<index_t>(y.size()), static_cast<index_t>(x.size()));
    notch::detail::check_span(where, "x", x);
    notch::detail::check_span(where, "y", y);
    for (std::size_t i = 0; i < y.size(); ++i)
        y[i] = static_cast<std::int8_t>(
            requantize_fixed_double(x[i] - x_params.zero_point, m, y_params.zero_point, int8_codes));
}

// --- softmax -------------------------------------------------------------------------------------

/// The prepared constants of a softmax. Immutable, safe to share.
struct softmax_params {
    std::int32_t exponential[256] = {}; ///< exp(-beta * scale * d) in Q0.31
    std::int32_t term[256] = {};        ///< the same in Q12.19
    index_t live = 1;                   ///< elements whose d is this or more have the probability 0
};

namespace detail {

/// x * 2^n, saturated.
constexpr std::int32_t saturating_shift(std::int32_t x, int n) noexcept {
    constexpr std::int64_t least = std::numeric_limits<std::int32_t>::min(),
                           most = std::numeric_limits<std::int32_t>::max();
    const std::int64_t y = std::int64_t{x} * (std::int64_t{1} << n);
    return static_cast<std::int32_t>(y < least ? least : y > most ? most : y);
}

/// exp(x) in Q0.31 for x <= 0 in Q5.26, as gemmlowp's exp_on_negative_values: a polynomial of degree 4 about -1/8 for
/// x modulo 1/4 in [-1/4, 0), then a factor exp(-2^e), e = -2..4, for each bit of the rest.
constexpr std::int32_t exp_q26(std::int32_t x) noexcept {
    if (x == 0) return std::numeric_limits<std::int32_t>::max();
    constexpr std::int32_t quarter = 1 << 24;
    const std::int32_t part = (x & (quarter - 1)) - quarter, rest = part - x;
    constexpr std::int32_t at_center = 1895147668, third = 715827883; // exp(-1/8), 1/3
    const std::int32_t t = part * 32 + (1 << 28), t2 = doubling_high_mul(t, t), t3 = doubling_high_mul(t2, t),
                       t4 = doubling_high_mul(t2, t2);
    // t^4/24 + t^3/6 + t^2/2
    const std::int32_t tail =
        rounding_divide_by_pot(doubling_high_mul(rounding_divide_by_pot(t4, 2) + t3, third) + t2, 1);
    std::int32_t y = at_center + doubling_high_mul(at_center, t + tail);
    constexpr std::int32_t factor[] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
    for (int i = 0; i < 7; ++i)
        if ((rest >> (24 + i) & 1) != 0) y = doubling_high_mul(y, factor[i]);
    return y;
}

/// 1 / (1 + x) in Q0.31 for 0 <= x < 1 in Q0.31, as gemmlowp: Newton's iteration in Q2.29 from 48/17 - 32/17 d for
/// d = (1 + x) / 2.
constexpr std::int32_t reciprocal_of_one_plus(std::int32_t x) noexcept {
    const auto half = static_cast<std::int32_t>((std::int64_t{x} + std::numeric_limits<std::int32_t>::max() + 1) / 2);
    std::int32_t y = 1515870810 + doubling_high_mul(half, -1010580540);
    for (int i = 0; i < 3; ++i) y += saturating_shift(doubling_high_mul(y, (1 << 29) - doubling_high_mul(half, y)), 2);
    return saturating_shift(y, 1);
}

} // namespace detail

/// Prepares the softmax of codes with the given scale; beta multiplies the logits. scale * beta must be above 2^-26.
[[nodiscard]] inline softmax_params make_softmax(float scale, float beta = 1.0f) {
    constexpr const char* where = "tflite::make_softmax";
    notch::detail::check_scale(where, "scale", scale);
    notch::detail::check_scale(where, "beta", beta);
    double real = static_cast<double>(beta) * static_cast<double>(scale) * 67108864.0; // a step in Q5.26
    if (!(real > 1.0))
        fail(errc::invalid_argument, detail::cat(where, ": scale * beta is ", real / 67108864.0, ", not above 2^-26"));
    softmax_params p;
    p.exponential[0] = detail::exp_q26(0);
    p.term[0] = rounding_divide_by_pot(p.exponential[0], 12);
    if (real > 1073741823.0) return p; // 16 and more: only the largest codes are above 0
    const fixed_multiplier m = to_fixed_multiplier(real);
    // The largest d that times the step stays within 31.
    const index_t radius = (index_t{31} << 26) >> m.shift;
    p.live = radius < 255 ? radius + 1 : 256;
    for (std::int32_t d = 1; d < p.live; ++d) {
        p.exponential[d] = detail::exp_q26(doubling_high_mul(-d * (std::int32_t{1} << m.shift), m.mantissa));
        p.term[d] = rounding_divide_by_pot(p.exponential[d], 12);
    }
    return p;
}

/// The most columns of a softmax: sums in Q12.19 stay within int32.
inline constexpr index_t max_softmax_cols = 4095;

/// Softmax over the rows; the output's scale is 1 / 256, its zero point -128. y may be x.
inline void softmax(matrix_view<const std::int8_t> x, const softmax_params& p, matrix_view<std::int8_t> y) {
    constexpr const char* where = "tflite::softmax";
    notch::detail::check_view(where, "x", x);
    notch::detail::check_view(where, "y", y);
    notch::detail::check_equal(where, "the number of rows of y", y.rows, x.rows);
    notch::detail::check_equal(where, "the number of columns of y", y.cols, x.cols);
    if (x.cols > max_softmax_cols)
        fail(errc::overflow, detail::cat(where, ": x has ", x.cols, " columns, at most ", max_softmax_cols));
    for (index_t i = 0; i < x.rows && x.cols > 0; ++i) {
        std::int32_t top = -128, sum = 0;
        for (index_t j = 0; j < x.cols; ++j) top = x(i, j) > top ? x(i, j) : top;
        for (index_t j = 0; j < x.cols; ++j) sum += top - x(i, j) < p.live ? p.term[top - x(i, j)] : 0;
        // sum = 2^(12 - zeros) * (1 + f)
        const int zeros = std::countl_zero(static_cast<std::uint32_t>(sum));
        const auto fraction = static_cast<std::int32_t>((static_cast<std::uint32_t>(sum) << zeros) & 0x7fffffffu);
        const std::int32_t reciprocal = detail::reciprocal_of_one_plus(fraction);
        const int shift = 35 - zeros; // to 8 bits after the point
        for (index_t j = 0; j < x.cols; ++j) {
            const std::int32_t d = top - x(i, j);
            // Where shift is above 31, all probabilities are below 1/512. (TensorFlow Lite stops there.)
            const std::int32_t q =
                d < p.live && shift < 32
                    ? rounding_divide_by_pot(doubling_high_mul(reciprocal, p.exponential[d]), shift) - 128
                    : -128;
            y(i, j) = static_cast<std::int8_t>(q < 127 ? q : 127);
        }
    }
}

} // namespace tflite
NOTCH_KEYED_END
