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
// Poolings and means are in ref/tflite_pool.hpp, softmax in ref/tflite_softmax.hpp.
//
// A fused activation is a range of codes: activation_range. Everything is safe to call from several threads.
#pragma once

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

} // namespace tflite
NOTCH_KEYED_END
