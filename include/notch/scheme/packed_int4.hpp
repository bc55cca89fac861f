// SPDX-License-Identifier: Apache-2.0
//
// notch/scheme/packed_int4.hpp: storage of 4-bit codes, two a byte.
//     byte i = (code[2i] & 15) | (code[2i+1] & 15) << 4        two's complement, low nibble first
// An odd count leaves the last high nibble 0.
#pragma once

#include <cstdint>
#include <span>

#include <notch/core/config.hpp>
#include <notch/core/error.hpp>
#include <notch/core/types.hpp>

NOTCH_KEYED_BEGIN

/// Bytes that n 4-bit codes take.
[[nodiscard]] NOTCH_INLINE constexpr index_t packed_int4_size(index_t n) noexcept { return n / 2 + n % 2; }

/// Packs codes -8..7; a code outside, or a wrong size of out, is an error and out is unchanged.
inline void pack_int4(std::span<const std::int8_t> codes, std::span<std::uint8_t> out) {
    const auto n = static_cast<index_t>(codes.size());
    detail::check_equal("pack_int4", "size of out", static_cast<index_t>(out.size()), packed_int4_size(n));
    for (std::int8_t c : codes)
        if (c < -8 || c > 7)
            fail(errc::invalid_argument, detail::cat("pack_int4: code ", static_cast<int>(c), " is not in -8..7"));
    for (std::size_t i = 0; i < out.size(); ++i) {
        const unsigned low = static_cast<unsigned>(codes[2 * i]) & 15u;
        const unsigned high = 2 * i + 1 < codes.size() ? static_cast<unsigned>(codes[2 * i + 1]) & 15u : 0u;
        out[i] = static_cast<std::uint8_t>(low | high << 4);
    }
}

/// The reverse of pack_int4: codes.size() codes from packed.
inline void unpack_int4(std::span<const std::uint8_t> packed, std::span<std::int8_t> codes) {
    const auto n = static_cast<index_t>(codes.size());
    detail::check_equal("unpack_int4", "size of packed", static_cast<index_t>(packed.size()), packed_int4_size(n));
    for (std::size_t i = 0; i < codes.size(); ++i) {
        const unsigned nibble = packed[i / 2] >> (i % 2 * 4) & 15u;
        codes[i] = static_cast<std::int8_t>(static_cast<int>(nibble ^ 8u) - 8);
    }
}

NOTCH_KEYED_END
