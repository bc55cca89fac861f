// SPDX-License-Identifier: Apache-2.0
//
// notch/ptq/hadamard.hpp: rotations by randomized Hadamard matrices (QuIP#, Tseng et al. 2024, arXiv:2402.04396,
// section 3; QuaRot, Ashkboos et al. 2024, arXiv:2404.00456, section 3). They spread a few large channels over all,
// so that what is rounded has a small largest magnitude against its root mean square, and the layers compute the same:
//
//     y = W x = (W H^T)(H x),   H = S D / sqrt(n),   S S^T = n I with entries +-1,   D = diag(+-1) from a seed
//
//     rotate_inputs    W <- W H^T        for a layer that reads H x
//     rotate_outputs   W <- H W          for a layer that is to give H y; its bias is rotated like any vector
//     rotate           x <- H x
//
// A norm between two layers must not have a gamma (RMS norm without it commutes with H): multiply it into the weights
// that read its result first, as smooth_weights does. Heads of attention are rotated one by one, through views.
//
// n = m 2^k, S = P kron S_(2^k): the second is Sylvester's, by the fast Walsh-Hadamard transform; P, of the least order
// m that there is (12, 20, 28, 36, 44, 60, ...), is Paley's, with chi the quadratic character modulo a prime q and
// Q(i, j) = chi(i - j):
//
//     q = 3 mod 4, m = q + 1:       P = I + [0 1; -1 Q]
//     q = 1 mod 4, m = 2 (q + 1):   P = [0 1; 1 Q] kron [1 1; 1 -1] + I kron [1 -1; -1 -1]
//
// A vector takes n (m + k) additions, made in double, in one order, and rounded once: the same floats on every machine.
// Sizes with a large m are slow: 11008 = 5504 * 2 takes 61 million a vector, half of a dense product; 8192 = 2^13 takes
// a hundred thousand, 14336 = 28 * 2^9 half a million.
#pragma once

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <string_view>

#include <notch/core/buffer.hpp>
#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/scheme/philox.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

inline bool is_prime(index_t n) noexcept {
    for (index_t d = 2; d * d <= n; ++d)
        if (n % d == 0) return false;
    return n >= 2;
}

/// Paley's matrices are looked for up to this order.
inline constexpr index_t max_paley = 8192;

/// The prime of Paley's matrix of order m, a multiple of four; 0 if there is none.
inline index_t paley_prime(index_t m) noexcept {
    if (is_prime(m - 1)) return m - 1; // 3 mod 4
    return m / 2 % 4 == 2 && is_prime(m / 2 - 1) ? m / 2 - 1 : 0;
}

/// The m of n = m 2^k: 1, or the least order of a Paley matrix; 0 if there is none.
inline index_t paley_order(index_t n) noexcept {
    if (n < 1) return 0;
    if (std::has_single_bit(static_cast<std::uint64_t>(n))) return 1;
    for (index_t m = n >> std::countr_zero(static_cast<std::uint64_t>(n)); m <= std::min(n, max_paley); m *= 2)
        if (m % 4 == 0 && paley_prime(m) != 0) return m;
    return 0;
}

} // namespace detail

/// Whether there is a rotation of n values: powers of two, and m 2^k with one of Paley's matrices of prime q, m at most
/// 8192.
[[nodiscard]] inline bool is_hadamard_size(index_t n) noexcept { return detail::paley_order(n) != 0; }

/// An orthogonal H of n values. Immutable, so thread-safe; calls need 16 n doubles of memory. Values must be finite, at
/// most FLT_MAX / sqrt(n) in magnitude; else nothing is changed.
class hadamard_rotation {
public:
    /// H without signs.
    explicit hadamard_rotation(index_t n) : hadamard_rotation(n, 0, false) {}
    /// D(i, i) = -1 where the highest bit of word i % 4 of Philox4x32-10 with counter i / 4 and key seed is 1.
    hadamard_rotation(index_t n, std::uint64_t seed) : hadamard_rotation(n, seed, true) {}

    [[nodiscard]] index_t size() const noexcept { return n_; }
    /// x <- H x for each row of x, which has size() columns: activations, or a bias.
    void rotate(matrix_view<float> x) const { by_rows("hadamard_rotation.rotate", x, false); }
    /// x <- H^T x for each row: what rotate did, undone.
    void rotate_back(matrix_view<float> x) const { by_rows("hadamard_rotation.rotate_back", x, true); }
    /// W <- W H^T; w has size() columns.
    void rotate_inputs(matrix_view<float> w) const { by_rows("hadamard_rotation.rotate_inputs", w, false); }
    /// W <- H W; w has size() rows.
    void rotate_outputs(matrix_view<float> w) const {
        constexpr const char* where = "hadamard_rotation.rotate_outputs";
        detail::check_view(where, "w", w);
        detail::check_equal(where, "the number of rows of w", w.rows, n_);
        transform(where, w, w.cols, 1, w.stride, false);
    }

private:
    static constexpr index_t lanes = 8; // vectors at a time

    hadamard_rotation(index_t n, std::uint64_t seed, bool randomized) : n_(n), m_(detail::paley_order(n)) {
        if (m_ == 0)
            fail(errc::invalid_argument,
                 detail::cat("hadamard_rotation: no Hadamard matrix of order ", n,
                             " is known here: it must be a power of two, or one times the order of a Paley matrix (12, "
                             "20, 28, 36, 44, 60, ...)"));
        signs_ = buffer<double>(n);
        for (index_t i = 0; i < n; ++i) {
            const auto b = static_cast<std::uint64_t>(i / 4);
            const philox_block words =
                philox4x32({{static_cast<std::uint32_t>(b), static_cast<std::uint32_t>(b >> 32)}}, seed);
            signs_[i] = randomized && words.word[i % 4] >> 31 != 0 ? -1.0 : 1.0;
        }
        if (m_ == 1) return;
        const index_t q = detail::paley_prime(m_);
        character_ = buffer<std::int8_t>(q);
        for (index_t i = 1; i < q; ++i) character_[i] = -1;
        for (index_t i = 1; i < q; ++i) character_[i * i % q] = 1;
    }

    /// [0 1; a Q](i, j), a = -1 or 1.
    [[nodiscard]] int bordered(index_t i, index_t j, int a) const noexcept {
        if (i == 0 || j == 0) return i == j ? 0 : i == 0 ? 1 : a;
        return character_[i >= j ? i - j : i - j + character_.size()];
    }
    /// Whether P(i, j) is -1.
    [[nodiscard]] bool minus(index_t i, index_t j) const noexcept {
        if (character_.size() == m_ - 1) return (i == j ? 1 : bordered(i, j, -1)) < 0;
        const index_t a = i / 2, b = j / 2;
        const bool last = i % 2 == 1 && j % 2 == 1;
        if (a == b) return i % 2 == 1 || j % 2 == 1;
        return (bordered(a, b, 1) < 0) != last;
    }

    void by_rows(const char* where, matrix_view<float> x, bool back) const {
        detail::check_view(where, "the matrix", x);
        detail::check_equal(where, "the number of columns", x.cols, n_);
        transform(where, x, x.rows, x.stride, 1, back);
    }
    /// Of count vectors, one every `apart` elements, whose own elements are `step` apart.
    void transform(const char* where, matrix_view<float> x, index_t count, index_t apart, index_t step,
                   bool back) const {
        const double root = std::sqrt(static_cast<double>(n_));
        for (index_t r = 0; r < x.rows; ++r)
            for (index_t c = 0; c < x.cols; ++c)
                if (!(static_cast<double>(std::fabs(x(r, c))) * root <= static_cast<double>(FLT_MAX)))
                    fail(errc::invalid_argument, detail::cat(where, ": element (", r, ", ", c, ") is ", x(r, c),
                                                             ", must be finite and at most FLT_MAX / sqrt(n)"));
        buffer<double> work(n_ * lanes), other(m_ == 1 ? 0 : n_ * lanes);
        for (index_t begin = 0; begin < count; begin += lanes) {
            const index_t some = std::min(lanes, count - begin);
            float* const first = x.data + begin * apart;
            for (index_t i = 0; i < n_; ++i)
                for (index_t l = 0; l < some; ++l)
                    work[i * lanes + l] = static_cast<double>(first[l * apart + i * step]) * (back ? 1.0 : signs_[i]);
            walsh(work.data());
            if (m_ != 1) {
                paley(work.data(), other.data(), back);
                work.swap(other);
            }
            for (index_t i = 0; i < n_; ++i)
                for (index_t l = 0; l < some; ++l)
                    first[l * apart + i * step] =
                        static_cast<float>(work[i * lanes + l] / root * (back ? signs_[i] : 1.0));
        }
    }
    /// I kron S_(2^k); symmetric.
    void walsh(double* x) const noexcept {
        for (index_t half = 1; half < n_ / m_; half *= 2)
            for (index_t i = 0; i < n_; i += 2 * half) {
                double *a = x + i * lanes, *b = a + half * lanes;
                for (index_t k = 0; k < half * lanes; ++k) {
                    const double sum = a[k] + b[k], difference = a[k] - b[k];
                    a[k] = sum;
                    b[k] = difference;
                }
            }
    }
    /// y = (P kron I) x, or that with P transposed.
    void paley(const double* x, double* y, bool back) const noexcept {
        const index_t run = n_ / m_ * lanes;
        std::fill(y, y + n_ * lanes, 0.0);
        for (index_t i = 0; i < m_; ++i)
            for (index_t j = 0; j < m_; ++j) {
                const double* from = x + j * run;
                double* to = y + i * run;
                if (back ? minus(j, i) : minus(i, j))
                    for (index_t k = 0; k < run; ++k) to[k] -= from[k];
                else
                    for (index_t k = 0; k < run; ++k) to[k] += from[k];
            }
    }

    index_t n_, m_;
    buffer<double> signs_;
    buffer<std::int8_t> character_; // chi
};

/// The largest magnitude over the root mean square, at least 1: what a rotation is to lower. 0 if all values are 0, or
/// there are none; NaN or infinite values are an error.
[[nodiscard]] inline double incoherence(matrix_view<const float> x) {
    constexpr const char* where = "incoherence";
    detail::check_view(where, "x", x);
    double most = 0, squares = 0;
    for (index_t r = 0; r < x.rows; ++r)
        for (index_t c = 0; c < x.cols; ++c) {
            const double v = std::fabs(static_cast<double>(x(r, c)));
            if (!std::isfinite(v))
                fail(errc::invalid_argument, detail::cat(where, ": x(", r, ", ", c, ") is ", x(r, c)));
            most = std::max(most, v);
            squares += v * v;
        }
    if (most == 0.0) return 0.0;
    return most / std::sqrt(squares / (static_cast<double>(x.rows) * static_cast<double>(x.cols)));
}

NOTCH_KEYED_END
