// SPDX-License-Identifier: Apache-2.0
//
// notch/core/types.hpp: the scalar vocabulary shared by every room.
#pragma once

#include <cfloat>
#include <cstddef>
#include <cstdint>
#include <span>

#include <notch/core/config.hpp>

NOTCH_NAMESPACE_BEGIN

/// Extents, strides and indices: signed, so that a negative extent can be reported as such.
using index_t = std::ptrdiff_t;
static_assert(sizeof(index_t) == 8, "notch is for 64-bit targets: sizes up to 2^40 are computed without overflow");

/// The affine map between real numbers and integer codes of one tensor (or of one channel):
///     real = scale * (code - zero_point)
/// scale is finite and > 0; zero_point is itself a code, so real 0 is exactly representable
/// (Jacob et al. 2018, arXiv:1712.05877, eq. 1).
struct quant_params {
    float scale = 1.0f;
    std::int32_t zero_point = 0;
    NOTCH_INLINE friend constexpr bool operator==(const quant_params&, const quant_params&) = default;
};

/// The closed interval of codes that a result may take, e.g. {0, 255}, or {zero_point, 255} after
/// a ReLU.
struct code_range {
    std::int32_t lo = 0;
    std::int32_t hi = 255;
    NOTCH_INLINE friend constexpr bool operator==(const code_range&, const code_range&) = default;
};

/// A closed real interval, as an observer reports it. Empty (nothing observed) when min > max.
struct real_range {
    float min = FLT_MAX;
    float max = -FLT_MAX;
    [[nodiscard]] NOTCH_INLINE constexpr bool empty() const noexcept { return min > max; }
    NOTCH_INLINE friend constexpr bool operator==(const real_range&, const real_range&) = default;
};

NOTCH_NAMESPACE_END
