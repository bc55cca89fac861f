// SPDX-License-Identifier: Apache-2.0
//
// notch/scheme/philox.hpp: the counter-based generator Philox4x32-10 (Salmon et al. 2011, "Parallel random
// numbers: as easy as 1, 2, 3", doi:10.1145/2063384.2063405). A block of four numbers is a function of a
// key and a counter alone: there is no state, so any element can be drawn by any thread in any order.
//
//     ten rounds of   (L0, R0, L1, R1) <- (hi(B * L1) ^ R0 ^ key0, lo(B * L1), hi(A * L0) ^ R1 ^ key1, lo(A * L0))
//     with A = 0xD2511F53, B = 0xCD9E8D57; between two rounds key0 += 0x9E3779B9, key1 += 0xBB67AE85
#pragma once

#include <cstdint>

#include <notch/core/config.hpp>

NOTCH_NAMESPACE_BEGIN

/// Four 32-bit numbers: a counter, or what the generator makes of it.
struct philox_block {
    std::uint32_t word[4] = {0, 0, 0, 0};
    NOTCH_INLINE friend constexpr bool operator==(const philox_block&, const philox_block&) = default;
};

/// Four independent uniform 32-bit numbers for a counter and a key.
[[nodiscard]] NOTCH_INLINE constexpr philox_block philox4x32(philox_block counter, std::uint64_t key) noexcept {
    std::uint32_t key0 = static_cast<std::uint32_t>(key), key1 = static_cast<std::uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t a = std::uint64_t{0xD2511F53u} * counter.word[0];
        const std::uint64_t b = std::uint64_t{0xCD9E8D57u} * counter.word[2];
        counter = {{static_cast<std::uint32_t>(b >> 32) ^ counter.word[1] ^ key0, static_cast<std::uint32_t>(b),
                    static_cast<std::uint32_t>(a >> 32) ^ counter.word[3] ^ key1, static_cast<std::uint32_t>(a)}};
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return counter;
}

NOTCH_NAMESPACE_END
