// SPDX-License-Identifier: Apache-2.0
//
// notch/scheme/nf4.hpp: NormalFloat4 (Dettmers et al. 2023, "QLoRA", arXiv:2305.14314, section 3 and appendix E):
// 16 values within -1 ... 1 that are quantiles of the normal distribution, for weights divided by the largest
// magnitude of their block. 0 is a code (7). With p = 0.9677083 and Q the quantile function, before division by
// the largest of them, Q(p):
//     positive   Q(p - (p - 1/2) i / 8), i = 0..7        negative   -Q(p - (p - 1/2) i / 7), i = 0..6
// The values below are the published ones, which differ from this by up to 1.1e-7.
#pragma once

#include <cstdint>

#include <notch/core/config.hpp>

NOTCH_NAMESPACE_BEGIN

struct nf4 {
    using code_type = std::uint8_t;
    static constexpr int bits = 4;
    static constexpr bool has_nan = false;

    [[nodiscard]] NOTCH_INLINE static constexpr float max() noexcept { return 1.0f; }

    /// The value of a code 0..15, rising. Higher bits are ignored.
    [[nodiscard]] NOTCH_INLINE static constexpr float decode(std::uint32_t code) noexcept {
        constexpr float values[16] = {-1.0f,
                                      -0.6961928009986877f,
                                      -0.5250730514526367f,
                                      -0.39491748809814453f,
                                      -0.28444138169288635f,
                                      -0.18477343022823334f,
                                      -0.09105003625154495f,
                                      0.0f,
                                      0.07958029955625534f,
                                      0.16093020141124725f,
                                      0.24611230194568634f,
                                      0.33791524171829224f,
                                      0.44070982933044434f,
                                      0.5626170039176941f,
                                      0.7229568362236023f,
                                      1.0f};
        return values[code & 15u];
    }

    /// The code of the nearest value, halfway the lower one; x beyond -1 ... 1 saturates, NaN gives the code of 0.
    [[nodiscard]] NOTCH_INLINE static constexpr std::uint8_t encode(float x) noexcept {
        if (x != x) return 7;
        // A search by bisection: is x above the middle of codes c and c + 1? The sum of two values is exact in double.
        std::uint32_t c = 0;
        for (std::uint32_t step = 8; step > 0; step /= 2) {
            const double middle =
                (static_cast<double>(decode(c + step - 1)) + static_cast<double>(decode(c + step))) / 2;
            if (static_cast<double>(x) > middle) c += step;
        }
        return static_cast<std::uint8_t>(c);
    }
};

NOTCH_NAMESPACE_END
