// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/add.hpp: the definition of the residual add of two tensors on different grids.
//
//     acc  = (a - a_zero_point) * Ma + (b - b_zero_point) * Mb            exact int32
//     code = requantize_float(acc, 2^-shift, y_zero_point, range)
//
// Ma and Mb are the ratios a_scale / y_scale and b_scale / y_scale as 15-bit integers on the common
// grid 2^-shift: the larger lies in [2^14, 2^15), so that the sum stays below 2^25 and each
// product is one 16-bit multiplication. The rounding of the ratios moves a result by at most
// (|a| + |b|) * 2^-16 of the larger ratio: below 0.01 codes for a ratio of 1.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <utility>

#include <notch/core/error.hpp>
#include <notch/core/types.hpp>
#include <notch/scheme/requantize.hpp>

NOTCH_NAMESPACE_BEGIN

/// The prepared constants of an add.
struct add_params {
    std::int32_t a_zero_point = 0, b_zero_point = 0, y_zero_point = 0;
    std::int32_t ma = 0, mb = 0; ///< 0..32767
    float multiplier = 1.0f;     ///< 2^-shift, exact
    code_range range{0, 255};
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN

/// Prepares the add of a and b into y. All three must have valid scales; a ratio a_scale / y_scale
/// must lie below 2^16 and the larger ratio above 2^-16.
[[nodiscard]] inline add_params make_add(quant_params a, quant_params b, quant_params y, code_range range = {0, 255}) {
    detail::check_scale("make_add", "a.scale", a.scale);
    detail::check_scale("make_add", "b.scale", b.scale);
    detail::check_scale("make_add", "y.scale", y.scale);
    for (auto [name, zp] :
         {std::pair<const char*, std::int32_t>{"a", a.zero_point}, {"b", b.zero_point}, {"y", y.zero_point}})
        if (zp < -128 || zp > 255)
            fail(errc::invalid_argument, detail::cat("make_add: ", name, ".zero_point is ", zp, ", must be -128..255"));
    if (range.lo > range.hi || range.lo < -128 || range.hi > 255)
        fail(errc::invalid_argument, detail::cat("make_add: the range of codes is ", range.lo, "..", range.hi));
    const double ra = static_cast<double>(a.scale) / static_cast<double>(y.scale);
    const double rb = static_cast<double>(b.scale) / static_cast<double>(y.scale);
    const double larger = ra > rb ? ra : rb;
    if (!(larger < 65536.0) || !(larger > 1.0 / 65536.0))
        fail(errc::invalid_argument,
             detail::cat("make_add: the scales differ too much (a/y = ", ra, ", b/y = ", rb, ")"));
    int shift = 0;
    double scaled = larger;
    while (scaled < 16384.0) {
        scaled *= 2.0;
        ++shift;
    }
    while (std::nearbyint(scaled) > 32767.0) {
        scaled /= 2.0;
        --shift;
    }
    add_params p;
    p.a_zero_point = a.zero_point;
    p.b_zero_point = b.zero_point;
    p.y_zero_point = y.zero_point;
    p.ma = static_cast<std::int32_t>(std::nearbyint(std::ldexp(ra, shift)));
    p.mb = static_cast<std::int32_t>(std::nearbyint(std::ldexp(rb, shift)));
    p.multiplier = std::ldexp(1.0f, -shift);
    p.range = range;
    return p;
}

namespace ref {

template <class X> [[nodiscard]] X add(X a, X b, const add_params& p) noexcept {
    const std::int32_t acc =
        (static_cast<std::int32_t>(a) - p.a_zero_point) * p.ma + (static_cast<std::int32_t>(b) - p.b_zero_point) * p.mb;
    return static_cast<X>(requantize_float(acc, p.multiplier, p.y_zero_point, p.range));
}

template <class X> void add(std::span<const X> a, std::span<const X> b, const add_params& p, std::span<X> y) {
    detail::check_equal("ref::add", "the size of b", static_cast<index_t>(b.size()), static_cast<index_t>(a.size()));
    detail::check_equal("ref::add", "the size of y", static_cast<index_t>(y.size()), static_cast<index_t>(a.size()));
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = add(a[i], b[i], p);
}

} // namespace ref
NOTCH_KEYED_END
