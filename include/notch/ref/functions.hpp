// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/functions.hpp: the activation functions of lookup tables, in double, with the same bits on
// every machine.
//
// The exp, erf and tanh of C libraries differ in their last bits, so a table built with them could differ
// between machines wherever a value falls next to a tie. These are built only from operations that
// IEEE 754 rounds correctly: +, -, *, /, std::fma and powers of two. No product is followed by a sum
// outside std::fma, so there is nothing that a compiler could contract. They are slow, at set-up time.
//
// Relative error below 2^-40 wherever |f(x)| >= 2^-200 (gelu: its tail amplifies the rounding of its
// argument; the others are below 2^-48). A table entry is therefore wrong by at most 0.5 + 2^-30 codes.
#pragma once

#include <cmath>

#include <notch/core/config.hpp>

NOTCH_KEYED_BEGIN
namespace functions {
namespace detail {

/// (e^x - 1) / x = 1 + x/2 (1 + x/3 (1 + ...)), for |x| < 0.7: the first term left out is below 2^-70.
inline double expm1_series(double x) noexcept {
    double s = 1.0;
    for (int k = 20; k >= 2; --k) s = std::fma(s, x / static_cast<double>(k), 1.0);
    return s;
}

} // namespace detail

/// e^x: x = k ln 2 + r, |r| <= ln 2 / 2.
inline double exp(double x) noexcept {
    if (!(x > -746.0)) return x != x ? x : 0.0; // below half of the smallest subnormal
    if (x > 710.0) return HUGE_VAL;
    const double k = std::nearbyint(x * 1.4426950408889634);
    // ln 2 in two parts, the first with zeros in its last bits, so that k times it is exact.
    const double r = std::fma(-k, 1.90821492927058770002e-10, std::fma(-k, 6.93147180369123816490e-01, x));
    return std::ldexp(std::fma(r, detail::expm1_series(r), 1.0), static_cast<int>(k));
}

/// e^x - 1. The product is a std::fma, since a caller may add to it.
inline double expm1(double x) noexcept {
    return x > -0.7 && x < 0.7 ? std::fma(x, detail::expm1_series(x), 0.0) : exp(x) - 1.0;
}

/// 1 / (1 + e^-x).
inline double sigmoid(double x) noexcept { return 1.0 / (1.0 + exp(-x)); }

inline double tanh(double x) noexcept {
    if (x != x) return x;
    const double a = std::fabs(x);
    const double t = a > 20.0 ? 0.0 : expm1(2.0 * a); // 1 - tanh(20) < 2^-56
    return std::copysign(a > 20.0 ? 1.0 : t / (t + 2.0), x);
}

/// 1 - erf(x). |x| < 2: erf(x) = 2 / sqrt(pi) x e^(-x^2) (1 + 2x^2/3 (1 + 2x^2/5 (1 + ...))), all terms of
/// one sign. Beyond: the continued fraction e^(-x^2) / sqrt(pi) / (x + (1/2) / (x + 1 / (x + (3/2) / ...
/// (Abramowitz and Stegun 1964, 7.1.6 and 7.1.14).
inline double erfc(double x) noexcept {
    if (x != x) return x;
    const double a = std::fabs(x);
    if (a > 40.0) return x > 0.0 ? 0.0 : 2.0;
    const double square = a * a, low = std::fma(a, a, -square);
    const double e = exp(-square), gauss = std::fma(-low, e, e); // e^(-x^2), x^2 in two parts
    if (a < 2.0) {
        double s = 1.0;
        for (int k = 60; k >= 1; --k) s = std::fma(s, 2.0 * square / static_cast<double>(2 * k + 1), 1.0);
        return std::fma(-1.1283791670955126 * x * gauss, s, 1.0);
    }
    double f = a;
    for (int k = 200; k >= 1; --k) f = a + 0.5 * static_cast<double>(k) / f;
    const double tail = gauss * 0.56418958354775629 / f;
    return x > 0.0 ? tail : 2.0 - tail;
}

/// x Phi(x), Phi the normal distribution (Hendrycks and Gimpel 2016, arXiv:1606.08415).
inline double gelu(double x) noexcept {
    if (x < -50.0) return -0.0; // below the smallest double; also for -infinity
    return 0.5 * x * erfc(x * -0.70710678118654752);
}
/// Its usual approximation, x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
inline double gelu_tanh(double x) noexcept {
    if (x < -50.0) return -0.0;
    return x / (1.0 + exp(-1.5957691216057308 * x * std::fma(0.044715 * x, x, 1.0)));
}
/// x sigmoid(x), also called swish.
inline double silu(double x) noexcept { return x < -750.0 ? -0.0 : x / (1.0 + exp(-x)); }
inline double swish(double x) noexcept { return silu(x); }
/// x tanh(ln(1 + e^x)) = x (e^2x + 2 e^x) / (e^2x + 2 e^x + 2).
inline double mish(double x) noexcept {
    if (x > 40.0) return x;
    if (x < -750.0) return -0.0;
    const double e = exp(x), t = std::fma(e, e, 2.0 * e);
    return x * (t / (t + 2.0));
}
inline double relu(double x) noexcept { return x < 0.0 ? 0.0 : x; }
inline double relu6(double x) noexcept { return x < 0.0 ? 0.0 : x > 6.0 ? 6.0 : x; }
/// min(max(x + 3, 0), 6) / 6.
inline double hard_sigmoid(double x) noexcept { return relu6(x + 3.0) / 6.0; }
/// x min(max(x + 3, 0), 6) / 6 (Howard et al. 2019, arXiv:1905.02244).
inline double hard_swish(double x) noexcept { return x < -3.0 ? 0.0 : x * relu6(x + 3.0) / 6.0; }
inline double identity(double x) noexcept { return x; }

/// x if x >= 0, else slope x.
struct leaky_relu {
    double slope = 0.01;
    NOTCH_INLINE double operator()(double x) const noexcept { return x < 0.0 ? slope * x : x; }
};
/// x if x >= 0, else alpha (e^x - 1).
struct elu {
    double alpha = 1.0;
    NOTCH_INLINE double operator()(double x) const noexcept { return x < 0.0 ? alpha * expm1(x) : x; }
};

} // namespace functions
NOTCH_KEYED_END
