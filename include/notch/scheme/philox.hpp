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

/// Rounds of philox4x32.
inline constexpr int philox_rounds = 10;

/// One round on the four words of a block.
NOTCH_INLINE constexpr void philox_round(std::uint32_t& l0, std::uint32_t& r0, std::uint32_t& l1, std::uint32_t& r1,
                                         std::uint32_t key0, std::uint32_t key1) noexcept {
    const std::uint64_t a = std::uint64_t{0xD2511F53u} * l0, b = std::uint64_t{0xCD9E8D57u} * l1;
    l0 = static_cast<std::uint32_t>(b >> 32) ^ r0 ^ key0;
    r0 = static_cast<std::uint32_t>(b);
    l1 = static_cast<std::uint32_t>(a >> 32) ^ r1 ^ key1;
    r1 = static_cast<std::uint32_t>(a);
}
/// The keys of the next round.
NOTCH_INLINE constexpr void philox_bump(std::uint32_t& key0, std::uint32_t& key1) noexcept {
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
}

/// Four independent uniform 32-bit numbers for a counter and a key.
[[nodiscard]] NOTCH_INLINE constexpr philox_block philox4x32(philox_block counter, std::uint64_t key) noexcept {
    std::uint32_t key0 = static_cast<std::uint32_t>(key), key1 = static_cast<std::uint32_t>(key >> 32);
    for (int round = 0; round < philox_rounds; ++round) {
        philox_round(counter.word[0], counter.word[1], counter.word[2], counter.word[3], key0, key1);
        philox_bump(key0, key1);
    }
    return counter;
}

NOTCH_NAMESPACE_END
