// SPDX-License-Identifier: Apache-2.0
//
// notch/observe/divergence.hpp: how far values x are from a reference r, over any number of batches:
//
//     SQNR in dB   10 * log10(sum r^2 / sum (x - r)^2)
//     cosine       sum x * r / sqrt(sum x^2 * sum r^2)
//     max error    max |x - r|
//
// SQNR says how large the error is (a bit more of a grid that fits gives 6.02 dB), the cosine whether the
// direction is kept whatever the scale, the largest error whether a single value explains the rest.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include <notch/core/error.hpp>
#include <notch/core/types.hpp>

NOTCH_NAMESPACE_BEGIN

/// What is summed over pairs of a reference r and a value x, both finite.
struct divergence_sums {
    std::int64_t compared = 0;  ///< pairs of finite values
    std::int64_t nonfinite = 0; ///< pairs with a NaN or an infinity, in no sum
    double signal = 0;          ///< of r^2
    double power = 0;           ///< of x^2
    double product = 0;         ///< of r * x
    double noise = 0;           ///< of (x - r)^2
    double max_error = 0;       ///< the largest |x - r|

    NOTCH_INLINE divergence_sums() noexcept {}
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// In double: no square of a float overflows or vanishes there.
inline void add_divergence(divergence_sums& s, std::span<const float> reference, std::span<const float> x) noexcept {
    for (std::size_t i = 0; i < x.size(); ++i) {
        const auto r = static_cast<double>(reference[i]), v = static_cast<double>(x[i]), e = v - r;
        if (!std::isfinite(e)) {
            ++s.nonfinite;
            continue;
        }
        ++s.compared;
        s.signal += r * r;
        s.power += v * v;
        s.product += r * v;
        s.noise += e * e;
        s.max_error = std::max(s.max_error, std::fabs(e));
    }
}

} // namespace detail
NOTCH_KEYED_END

NOTCH_NAMESPACE_BEGIN

/// One pass, in any batches. Not thread-safe: one for each thread, then merge.
class divergence {
public:
    NOTCH_INLINE divergence() noexcept {}

    /// The sizes must agree.
    NOTCH_INLINE void observe(std::span<const float> reference, std::span<const float> x) {
        detail::check_equal("divergence.observe", "the size of x", static_cast<index_t>(x.size()),
                            static_cast<index_t>(reference.size()));
        detail::add_divergence(sums_, reference, x);
    }
    /// As if this had seen the pairs of other too, to the rounding of doubles.
    NOTCH_INLINE void merge(const divergence& other) noexcept {
        sums_.compared += other.sums_.compared;
        sums_.nonfinite += other.sums_.nonfinite;
        sums_.signal += other.sums_.signal;
        sums_.power += other.sums_.power;
        sums_.product += other.sums_.product;
        sums_.noise += other.sums_.noise;
        sums_.max_error = std::max(sums_.max_error, other.sums_.max_error);
    }

    /// Infinite if no error was seen, NaN if no pair was.
    [[nodiscard]] NOTCH_INLINE double sqnr_db() const noexcept {
        if (sums_.compared == 0) return std::numeric_limits<double>::quiet_NaN();
        if (sums_.noise == 0.0) return std::numeric_limits<double>::infinity();
        return 10.0 * std::log10(sums_.signal / sums_.noise);
    }
    /// In [-1, 1]; 1 if both are all zeros, 0 if one is, NaN if no pair was seen.
    [[nodiscard]] NOTCH_INLINE double cosine() const noexcept {
        if (sums_.compared == 0) return std::numeric_limits<double>::quiet_NaN();
        if (sums_.signal == 0.0 || sums_.power == 0.0) return sums_.signal == sums_.power ? 1.0 : 0.0;
        return std::clamp(sums_.product / std::sqrt(sums_.signal * sums_.power), -1.0, 1.0);
    }
    [[nodiscard]] NOTCH_INLINE double max_error() const noexcept { return sums_.max_error; }
    [[nodiscard]] NOTCH_INLINE std::int64_t compared() const noexcept { return sums_.compared; }
    [[nodiscard]] NOTCH_INLINE std::int64_t nonfinite() const noexcept { return sums_.nonfinite; }
    [[nodiscard]] NOTCH_INLINE const divergence_sums& statistics() const noexcept { return sums_; }

private:
    divergence_sums sums_;
};

NOTCH_NAMESPACE_END
