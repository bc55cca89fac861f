// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/quantize_stochastic.hpp: the loops of quantize with stochastic rounding, whose random numbers cost more
// than all else. They have no branches and are of known length, so that compilers make vectors of them.
#pragma once

#include <cmath>
#include <cstdint>

#include <notch/core/config.hpp>
#include <notch/core/types.hpp>
#include <notch/scheme/philox.hpp>
#include <notch/scheme/range.hpp>
#include <notch/scheme/rounding.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// Random numbers at a time.
inline constexpr index_t draws_at_once = 64;

/// The bits of elements first .. first + 63 of a policy, first a multiple of four: philox4x32 of 16 blocks at once.
inline void draw(const stochastic& rounding, index_t first, std::uint32_t (&bits)[draws_at_once]) {
    constexpr int blocks = draws_at_once / 4;
    std::uint32_t a[blocks], b[blocks], c[blocks], d[blocks];
    for (int i = 0; i < blocks; ++i) {
        const std::uint64_t counter = static_cast<std::uint64_t>(first / 4 + i);
        a[i] = static_cast<std::uint32_t>(counter);
        b[i] = static_cast<std::uint32_t>(counter >> 32);
        c[i] = static_cast<std::uint32_t>(rounding.stream);
        d[i] = static_cast<std::uint32_t>(rounding.stream >> 32);
    }
    auto key0 = static_cast<std::uint32_t>(rounding.seed), key1 = static_cast<std::uint32_t>(rounding.seed >> 32);
    for (int round = 0; round < philox_rounds; ++round) {
        for (int i = 0; i < blocks; ++i) philox_round(a[i], b[i], c[i], d[i], key0, key1);
        philox_bump(key0, key1);
    }
    for (int i = 0; i < blocks; ++i) {
        bits[4 * i] = a[i];
        bits[4 * i + 1] = b[i];
        bits[4 * i + 2] = c[i];
        bits[4 * i + 3] = d[i];
    }
}

/// Elements first .. first + n - 1 of x by stochastic rounding to codes of at most 8 bits: ref::quantize without its
/// branches, which random numbers would mispredict.
template <class Code>
void quantize_stochastic(const float* NOTCH_RESTRICT x, index_t first, index_t n, quant_params p, code_range range,
                         Code* NOTCH_RESTRICT codes, const stochastic& rounding) {
    const std::int32_t lo = range.lo - p.zero_point, hi = range.hi - p.zero_point;
    const auto code = [lo, hi, scale = p.scale, zero_point = p.zero_point](float value, std::uint32_t bits) {
        float v = value / scale;
        v = v == v ? v : 0.0f;
        v = v < -512.0f ? -512.0f : v; // integers beyond every code
        v = v > 512.0f ? 512.0f : v;
        const auto whole = static_cast<std::int32_t>(v);
        const float rest = std::fabs(v - static_cast<float>(whole)); // exact
        // Whether rest * 2^32 > bits, in floats: the difference of the first two is exact, or negative.
        const float high = static_cast<float>(static_cast<std::int32_t>(bits >> 16)) * 65536.0f;
        const float low = static_cast<float>(static_cast<std::int32_t>(bits & 0xffffu));
        const std::int32_t away = rest * 4294967296.0f - high > low ? 1 : 0, minus = v < 0.0f ? -1 : 0;
        std::int32_t y = whole + ((away ^ minus) - minus);
        y = y < lo ? lo : y;
        y = y > hi ? hi : y;
        return static_cast<Code>(y + zero_point);
    };
    std::uint32_t bits[draws_at_once];
    for (index_t at = first - first % 4; at < first + n; at += draws_at_once) {
        draw(rounding, at, bits);
        if (at >= first && at + draws_at_once <= first + n) {
            for (index_t i = 0; i < draws_at_once; ++i) codes[at + i] = code(x[at + i], bits[i]);
        } else {
            const index_t end = at + draws_at_once < first + n ? at + draws_at_once : first + n;
            for (index_t i = at < first ? first : at; i < end; ++i) codes[i] = code(x[i], bits[i - at]);
        }
    }
}

} // namespace detail
NOTCH_KEYED_END
