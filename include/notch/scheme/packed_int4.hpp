// SPDX-License-Identifier: Apache-2.0
//
// notch/scheme/packed_int4.hpp: storage of signed 4-bit codes, two a byte: packed_codes.hpp for -8..7.
//     byte i = (code[2i] & 15) | (code[2i+1] & 15) << 4        two's complement, low nibble first
// An odd count leaves the last high nibble 0.
#pragma once

#include <cstdint>
#include <span>

#include <notch/core/config.hpp>
#include <notch/core/types.hpp>
#include <notch/scheme/packed_codes.hpp>

NOTCH_KEYED_BEGIN

/// Bytes that n 4-bit codes take.
[[nodiscard]] NOTCH_INLINE constexpr index_t packed_int4_size(index_t n) noexcept {
    return packed_size<symmetric_full<4>>(n);
}

/// Packs codes -8..7; a code outside, or a wrong size of out, is an error and out is unchanged.
inline void pack_int4(std::span<const std::int8_t> codes, std::span<std::uint8_t> out) {
    detail::pack_codes<symmetric_full<4>>("pack_int4", codes, out);
}

/// The reverse of pack_int4: codes.size() codes from packed.
inline void unpack_int4(std::span<const std::uint8_t> packed, std::span<std::int8_t> codes) {
    detail::unpack_codes<symmetric_full<4>>("unpack_int4", packed, codes);
}

NOTCH_KEYED_END
