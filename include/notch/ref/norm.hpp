// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/norm.hpp: the definition of layer norm (Ba et al. 2016, arXiv:1607.06450) and RMS norm (Zhang and
// Sennrich 2019, arXiv:1910.07467) over the last axis, in integers. With c the codes (u8 codes minus 128), n the
// number of columns and the zero point z on the same grid as c:
//
//     layer norm   N_i = n c_i - sum c,  V = n sum c^2 - (sum c)^2                  exact: n^2 times the variance
//     RMS norm     N_i = n (c_i - z),    V = n sum (c - z)^2
//     D            = V 2^e + round(n^2 2^e epsilon / x_scale^2)                      below 2^63
//     z_i          = N_i / sqrt(D 2^-e) in Q(f):  low 32 bits of  c_i a + floor(c_i a' / 2^15) + b
//     code         = clamp(floor((floor(z_i g_c / 2^s) + h_c) / 2^10), lo, hi)
//
// a, a' and b are made for each row from reciprocal_sqrt(D) (detail::norm_row); a row with V = 0 has z = 0. gamma and
// beta are quantized on the grid of the output: g_c = round(gamma_c / y_scale 2^w), one w for all channels, and
// h_c = round((beta_c / y_scale + y_zero_point) 2^10) + 2^9. Rows have up to 65536 columns; codes are u8, s8 or s16
// (s16 inputs have zero point 0).
//
// Why nothing overflows: |N_i| / sqrt(V) <= sqrt(n), and f is chosen so that sqrt(n) 2^f <= 2^30: z fits int32, and
// sums modulo 2^32 give it. make_norm refuses gamma and beta for which sqrt(n) max|gamma| + max|beta| exceeds 2^20
// codes, so that the Q10 sum fits int32 too. The bound on |code - real value| before clamping, in codes, is in
// norm_params::max_error: 1/2 from the last rounding, 2^-10 + 2^-11 from Q10, and
//     sqrt(n) 2^-(w + 1) + max|gamma| / y_scale (t 2^-f + sqrt(n) (2^-29 + 2^-(e + 2) / (n - 1)))
// from g, from z (t = 66 units for bytes, 4 for s16) and from the square root; for bytes usually below 0.502 in all.
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/ref/lookup.hpp>
#include <notch/scheme/range.hpp>
#include <notch/scheme/reciprocal_sqrt.hpp>

NOTCH_NAMESPACE_BEGIN

inline constexpr index_t max_norm_cols = 65536;

enum class norm_kind : std::int32_t { layer, rms };

/// Codes that norms take and give.
template <class T>
concept norm_code = byte_code<T> || std::same_as<T, std::int16_t>;

/// What the kernels need to know about a norm.
struct norm_constants {
    norm_kind kind = norm_kind::layer;
    index_t cols = 0;
    std::int32_t zero_point = 0;     ///< of c; RMS norm
    bool wide = false;               ///< s16 inputs
    std::int32_t variance_shift = 0; ///< e, even
    std::int32_t fraction = 0;       ///< f
    std::int32_t product_shift = 0;  ///< s, 1..32
    std::uint64_t epsilon = 0;       ///< n^2 2^e epsilon / x_scale^2
    code_range range;
};

/// The prepared constants of a norm of X codes into Y codes.
template <norm_code X, norm_code Y> struct norm_params {
    NOTCH_INLINE_SPECIAL_MEMBERS(norm_params);
    norm_constants constants;
    buffer<std::int32_t> gamma; ///< g, and zeros up to 64 more
    buffer<std::int32_t> beta;  ///< h, likewise
    double max_error = 0;       ///< codes; see above
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

template <norm_code T>
inline constexpr code_range norm_range{std::numeric_limits<T>::min(), std::numeric_limits<T>::max()};

/// The factors of a row.
struct norm_row_factors {
    std::int32_t a = 0, a_low = 0; ///< a_low 0..32767, 0 for bytes
    std::int32_t b = 0;
};

/// value * 2^shift, rounded down.
[[nodiscard]] NOTCH_INLINE constexpr std::int64_t scaled_down(std::int64_t value, int shift) noexcept {
    return shift >= 0 ? value * (std::int64_t{1} << shift) : -shift > 62 ? (value < 0 ? -1 : 0) : value >> -shift;
}

/// From the exact sums of c and of c^2 over a row.
[[nodiscard]] NOTCH_INLINE constexpr norm_row_factors norm_row(std::int64_t sum, std::int64_t squares,
                                                               const norm_constants& p) noexcept {
    const std::int64_t n = p.cols, zero = p.zero_point;
    const std::int64_t v =
        p.kind == norm_kind::layer ? n * squares - sum * sum : n * (squares - 2 * zero * sum + n * zero * zero);
    if (v == 0) return {};
    const fixed_reciprocal_sqrt r = reciprocal_sqrt((static_cast<std::uint64_t>(v) << p.variance_shift) + p.epsilon);
    const int shift = p.fraction + p.variance_shift / 2 - r.shift; // of n / sqrt(D 2^-e) in Q(f)
    const std::int64_t mantissa = r.mantissa, middle = p.kind == norm_kind::layer ? sum : n * zero;
    norm_row_factors f;
    if (p.wide) {
        const std::int64_t a = scaled_down(n * mantissa, shift + 15);
        f.a = static_cast<std::int32_t>(a >> 15);
        f.a_low = static_cast<std::int32_t>(a & 32767);
    } else {
        f.a = static_cast<std::int32_t>((scaled_down(n * mantissa, shift + 1) + 1) >> 1);
    }
    f.b = static_cast<std::int32_t>(static_cast<std::uint32_t>((scaled_down(-middle * mantissa, shift + 1) + 1) >> 1));
    return f;
}

/// One output from a centred code.
[[nodiscard]] NOTCH_INLINE constexpr std::int32_t norm_output(std::int32_t c, const norm_row_factors& f, std::int32_t g,
                                                              std::int32_t h, const norm_constants& p) noexcept {
    const std::uint32_t z = static_cast<std::uint32_t>(c) * static_cast<std::uint32_t>(f.a) +
                            static_cast<std::uint32_t>(c * f.a_low >> 15) + static_cast<std::uint32_t>(f.b);
    const std::int64_t product = static_cast<std::int64_t>(static_cast<std::int32_t>(z)) * g;
    const std::int32_t code = (static_cast<std::int32_t>(product >> p.product_shift) + h) >> 10;
    return code < p.range.lo ? p.range.lo : code > p.range.hi ? p.range.hi : code;
}

template <norm_code X, norm_code Y>
norm_params<X, Y> make_norm(const char* where, norm_kind kind, index_t cols, quant_params x, float epsilon,
                            std::span<const float> gamma, std::span<const float> beta, quant_params y,
                            code_range range) {
    constexpr bool wide = std::is_same_v<X, std::int16_t>;
    if (cols < 1 || cols > max_norm_cols)
        fail(errc::invalid_argument, cat(where, ": rows have ", cols, " columns, must be 1..", max_norm_cols));
    check_params(where, "x", x, wide ? 0 : norm_range<X>.lo, wide ? 0 : norm_range<X>.hi);
    check_params(where, "y", y, norm_range<Y>.lo, norm_range<Y>.hi);
    check_range(where, range, norm_range<Y>);
    if (!(epsilon >= 0.0f) || !std::isfinite(epsilon))
        fail(errc::invalid_argument, cat(where, ": epsilon is ", epsilon, ", must be finite and >= 0"));
    if (!gamma.empty()) check_equal(where, "the size of gamma", static_cast<index_t>(gamma.size()), cols);
    if (!beta.empty()) check_equal(where, "the size of beta", static_cast<index_t>(beta.size()), cols);

    norm_params<X, Y> p;
    norm_constants& k = p.constants;
    k.kind = kind;
    k.cols = cols;
    k.wide = wide;
    k.range = range;
    k.zero_point = std::is_same_v<X, std::uint8_t> ? x.zero_point - 128 : x.zero_point;
    int log_cols = 0; // rounded up
    while ((index_t{1} << log_cols) < cols) ++log_cols;
    k.fraction = 30 - (log_cols + 1) / 2;

    // V is at most n^2 2^16 for bytes, n^2 2^30 for s16. Each bit that epsilon needs beyond 62 is taken from e.
    const double n = static_cast<double>(cols), sx = static_cast<double>(x.scale), sy = static_cast<double>(y.scale);
    const double e = n * n * (static_cast<double>(epsilon) / sx / sx);
    k.variance_shift = 62 - 2 * log_cols - (wide ? 30 : 16);
    while (k.variance_shift >= 0 && std::ldexp(e, k.variance_shift) > 0x1p62) k.variance_shift -= 2;
    if (k.variance_shift < 0)
        fail(errc::overflow, cat(where, ": epsilon ", epsilon, " is too large for x.scale ", x.scale));
    k.epsilon = static_cast<std::uint64_t>(std::nearbyint(std::ldexp(e, k.variance_shift)));

    double most_gamma = gamma.empty() ? 1.0 / sy : 0.0, most_beta = 0.0;
    const auto largest = [&](const char* name, std::span<const float> values, double& most) {
        for (std::size_t c = 0; c < values.size(); ++c) {
            if (!std::isfinite(values[c]))
                fail(errc::invalid_argument, cat(where, ": ", name, "[", c, "] is ", values[c], ", must be finite"));
            const double v = std::fabs(static_cast<double>(values[c])) / sy;
            most = v > most ? v : most;
        }
    };
    largest("gamma", gamma, most_gamma);
    largest("beta", beta, most_beta);
    if (!(std::sqrt(n) * most_gamma + most_beta <= 0x1p20))
        fail(errc::overflow, cat(where, ": gamma and beta are too large for y.scale ", y.scale, " (", most_gamma,
                                 " and ", most_beta, " codes)"));
    int w = 42 - k.fraction;
    while (w > 0 && std::ldexp(most_gamma, w) > 0x1p30) --w;
    k.product_shift = k.fraction + w - 10;

    p.gamma = buffer<std::int32_t>(cols + 64);
    p.beta = buffer<std::int32_t>(cols + 64);
    for (index_t c = 0; c < cols + 64; ++c) {
        p.gamma[c] = p.beta[c] = 0;
        if (c >= cols) continue;
        const auto at = static_cast<std::size_t>(c);
        const double g = (gamma.empty() ? 1.0 : static_cast<double>(gamma[at])) / sy;
        const double h = (beta.empty() ? 0.0 : static_cast<double>(beta[at])) / sy;
        p.gamma[c] = static_cast<std::int32_t>(std::nearbyint(std::ldexp(g, w)));
        p.beta[c] =
            static_cast<std::int32_t>(std::nearbyint(std::ldexp(h + static_cast<double>(y.zero_point), 10))) + 512;
    }
    const double root = std::sqrt(n);
    p.max_error = 0.5 + 0x1p-10 + 0x1p-11 + root * std::ldexp(0.5, -w) +
                  most_gamma * (std::ldexp(wide ? 4.0 : 66.0, -k.fraction) +
                                root * (0x1p-29 + std::ldexp(0.25, -k.variance_shift) / (cols > 1 ? n - 1.0 : 1.0)));
    return p;
}

} // namespace detail

/// Prepares y = (x - mean) / sqrt(variance + epsilon) * gamma + beta over rows of cols codes. gamma and beta have
/// cols elements, or none (1 and 0). Allocates; set-up time.
template <norm_code X, norm_code Y>
[[nodiscard]] norm_params<X, Y> make_layer_norm(index_t cols, quant_params x, float epsilon,
                                                std::span<const float> gamma, std::span<const float> beta,
                                                quant_params y, code_range range = detail::norm_range<Y>) {
    return detail::make_norm<X, Y>("make_layer_norm", norm_kind::layer, cols, x, epsilon, gamma, beta, y, range);
}

/// Prepares y = x / sqrt(mean of x^2 + epsilon) * gamma over rows of cols codes.
template <norm_code X, norm_code Y>
[[nodiscard]] norm_params<X, Y> make_rms_norm(index_t cols, quant_params x, float epsilon, std::span<const float> gamma,
                                              quant_params y, code_range range = detail::norm_range<Y>) {
    return detail::make_norm<X, Y>("make_rms_norm", norm_kind::rms, cols, x, epsilon, gamma, {}, y, range);
}

namespace ref {

/// Layer norm or RMS norm of each row.
template <norm_code X, norm_code Y> void norm(matrix_view<const X> x, const norm_params<X, Y>& p, matrix_view<Y> y) {
    detail::check_equal("ref::norm", "the number of columns of x", x.cols, p.constants.cols);
    detail::check_equal("ref::norm", "the number of columns of y", y.cols, x.cols);
    detail::check_equal("ref::norm", "the number of rows of y", y.rows, x.rows);
    const auto centred = [&](index_t i, index_t j) -> std::int32_t {
        return std::is_same_v<X, std::uint8_t> ? x(i, j) - 128 : x(i, j);
    };
    for (index_t i = 0; i < x.rows; ++i) {
        std::int64_t sum = 0, squares = 0;
        for (index_t j = 0; j < x.cols; ++j) {
            sum += centred(i, j);
            squares += std::int64_t{centred(i, j)} * centred(i, j);
        }
        const auto row = detail::norm_row(sum, squares, p.constants);
        for (index_t j = 0; j < x.cols; ++j)
            y(i, j) = static_cast<Y>(detail::norm_output(centred(i, j), row, p.gamma[j], p.beta[j], p.constants));
    }
}

} // namespace ref
NOTCH_KEYED_END
