// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/lookup.hpp: the definition of activations on 8-bit codes. A function of one code is a table of
// 256 codes:
//
//     table[x] = clamp(round_half_even(f((x - x_zero_point) * x_scale) / y_scale) + y_zero_point, lo, hi)
//     y[i]     = table[x[i]]
//
// in double, at set-up time. An entry is the code nearest to f at that point: at most 0.5 codes away, plus
// what the error of f in double amounts to (below 2^-30 codes for notch/ref/functions.hpp, which
// give the same table on every machine). NaN gives y_zero_point; infinities saturate.
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include <notch/core/error.hpp>
#include <notch/core/types.hpp>
#include <notch/ref/functions.hpp>
#include <notch/scheme/range.hpp>

NOTCH_NAMESPACE_BEGIN

/// Codes of one byte.
template <class T>
concept byte_code = std::same_as<T, std::uint8_t> || std::same_as<T, std::int8_t>;

/// All codes of type T.
template <byte_code T>
inline constexpr code_range full_range{std::numeric_limits<T>::min(), std::numeric_limits<T>::max()};

/// A function from codes to codes. bytes[i] is the byte of the code that belongs to the code with byte
/// i (two's complement), so that one kernel serves all four combinations of types.
template <byte_code X, byte_code Y> struct lookup_table {
    alignas(64) std::uint8_t bytes[256] = {};
    NOTCH_INLINE constexpr lookup_table() noexcept {}
    [[nodiscard]] NOTCH_INLINE constexpr Y operator()(X x) const noexcept {
        return static_cast<Y>(bytes[static_cast<std::uint8_t>(x)]);
    }
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

inline void check_range(std::string_view where, code_range range, code_range all) {
    if (range.lo > range.hi || range.lo < all.lo || range.hi > all.hi)
        fail(errc::invalid_argument,
             cat(where, ": the range of codes is ", range.lo, "..", range.hi, ", must lie in ", all.lo, "..", all.hi));
}

/// clamp(round_half_even(value / scale) + zero_point) in double.
inline std::int32_t nearest_code(double value, quant_params p, code_range range) noexcept {
    if (value != value) return p.zero_point < range.lo ? range.lo : p.zero_point > range.hi ? range.hi : p.zero_point;
    const double code = std::nearbyint(value / static_cast<double>(p.scale)) + static_cast<double>(p.zero_point);
    const double lo = range.lo, hi = range.hi;
    return static_cast<std::int32_t>(code < lo ? lo : code > hi ? hi : code);
}

} // namespace detail

/// The table of y = f(x), f any callable double(double). x and y are the params of the codes; range keeps
/// the results inside, as a ReLU after f does. Set-up time: f is called 256 times.
template <byte_code X, byte_code Y, class F>
    requires std::is_invocable_r_v<double, F&, double>
[[nodiscard]] lookup_table<X, Y> make_lookup(F&& f, quant_params x, quant_params y, code_range range = full_range<Y>) {
    detail::check_params("make_lookup", "x", x, full_range<X>.lo, full_range<X>.hi);
    detail::check_params("make_lookup", "y", y, full_range<Y>.lo, full_range<Y>.hi);
    detail::check_range("make_lookup", range, full_range<Y>);
    lookup_table<X, Y> t;
    for (std::int32_t code = full_range<X>.lo; code <= full_range<X>.hi; ++code) {
        // 9 bits times 24 bits: exact in double.
        const double value = f(static_cast<double>(code - x.zero_point) * static_cast<double>(x.scale));
        t.bytes[static_cast<std::uint8_t>(code)] = static_cast<std::uint8_t>(detail::nearest_code(value, y, range));
    }
    return t;
}

namespace ref {

/// y[i] = table[x[i]].
template <byte_code X, byte_code Y>
void lookup(std::span<const std::type_identity_t<X>> x, const lookup_table<X, Y>& table,
            std::span<std::type_identity_t<Y>> y) {
    detail::check_equal("ref::lookup", "the size of y", static_cast<index_t>(y.size()), static_cast<index_t>(x.size()));
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = table(x[i]);
}

} // namespace ref
NOTCH_KEYED_END
