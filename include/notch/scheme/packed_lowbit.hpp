// SPDX-License-Identifier: Apache-2.0
//
// notch/scheme/packed_lowbit.hpp: storage of codes below four bits.
//
//   binary    -1, +1      one bit a code, 1 means +1; code i is bit i % 32 of word i / 32
//   ternary   -1, 0, +1   two bit planes of that form: nonzero (1: not 0) and negative (1: -1)
//   int2      -2 .. +1    two bits a code in two's complement; code i is bits 2 * (i % 4) of byte i / 4
//
// Unused bits of the last word or byte are 0. Bit k of word w stands for code 32 * w + k whatever the
// byte order of the machine.
#pragma once

#include <cstdint>
#include <span>

#include <notch/core/config.hpp>
#include <notch/core/error.hpp>
#include <notch/core/types.hpp>
#include <notch/scheme/packed_codes.hpp>

NOTCH_NAMESPACE_BEGIN

/// Words of n bits.
[[nodiscard]] NOTCH_INLINE constexpr index_t packed_bits_size(index_t n) noexcept {
    return n / 32 + (n % 32 != 0 ? 1 : 0);
}
/// Bytes of n 2-bit codes.
[[nodiscard]] NOTCH_INLINE constexpr index_t packed_int2_size(index_t n) noexcept {
    return packed_size<symmetric_full<2>>(n);
}

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN

/// Codes -1 and +1 into packed_bits_size(codes.size()) words.
inline void pack_binary_codes(std::span<const std::int8_t> codes, std::span<std::uint32_t> out) {
    detail::check_equal("pack_binary_codes", "size of out", static_cast<index_t>(out.size()),
                        packed_bits_size(static_cast<index_t>(codes.size())));
    for (std::int8_t c : codes)
        if (c != -1 && c != 1)
            fail(errc::invalid_argument,
                 detail::cat("pack_binary_codes: code ", static_cast<int>(c), " is not -1 or 1"));
    for (std::uint32_t& w : out) w = 0;
    for (std::size_t i = 0; i < codes.size(); ++i) out[i / 32] |= (codes[i] > 0 ? 1u : 0u) << i % 32;
}

/// The reverse of pack_binary_codes.
inline void unpack_binary_codes(std::span<const std::uint32_t> packed, std::span<std::int8_t> codes) {
    detail::check_equal("unpack_binary_codes", "size of packed", static_cast<index_t>(packed.size()),
                        packed_bits_size(static_cast<index_t>(codes.size())));
    for (std::size_t i = 0; i < codes.size(); ++i)
        codes[i] = static_cast<std::int8_t>((packed[i / 32] >> i % 32 & 1u) != 0 ? 1 : -1);
}

/// Codes -1, 0 and +1 into two planes of packed_bits_size(codes.size()) words.
inline void pack_ternary_codes(std::span<const std::int8_t> codes, std::span<std::uint32_t> nonzero,
                               std::span<std::uint32_t> negative) {
    const index_t words = packed_bits_size(static_cast<index_t>(codes.size()));
    detail::check_equal("pack_ternary_codes", "size of nonzero", static_cast<index_t>(nonzero.size()), words);
    detail::check_equal("pack_ternary_codes", "size of negative", static_cast<index_t>(negative.size()), words);
    for (std::int8_t c : codes)
        if (c < -1 || c > 1)
            fail(errc::invalid_argument,
                 detail::cat("pack_ternary_codes: code ", static_cast<int>(c), " is not -1, 0 or 1"));
    for (std::uint32_t& w : nonzero) w = 0;
    for (std::uint32_t& w : negative) w = 0;
    for (std::size_t i = 0; i < codes.size(); ++i) {
        nonzero[i / 32] |= (codes[i] != 0 ? 1u : 0u) << i % 32;
        negative[i / 32] |= (codes[i] < 0 ? 1u : 0u) << i % 32;
    }
}

/// The reverse of pack_ternary_codes; a negative bit without its nonzero bit counts as 0.
inline void unpack_ternary_codes(std::span<const std::uint32_t> nonzero, std::span<const std::uint32_t> negative,
                                 std::span<std::int8_t> codes) {
    const index_t words = packed_bits_size(static_cast<index_t>(codes.size()));
    detail::check_equal("unpack_ternary_codes", "size of nonzero", static_cast<index_t>(nonzero.size()), words);
    detail::check_equal("unpack_ternary_codes", "size of negative", static_cast<index_t>(negative.size()), words);
    for (std::size_t i = 0; i < codes.size(); ++i) {
        const bool some = (nonzero[i / 32] >> i % 32 & 1u) != 0, minus = (negative[i / 32] >> i % 32 & 1u) != 0;
        codes[i] = static_cast<std::int8_t>(!some ? 0 : minus ? -1 : 1);
    }
}

/// Codes -2..1 into packed_int2_size(codes.size()) bytes: packed_codes.hpp for 2 bits.
inline void pack_int2(std::span<const std::int8_t> codes, std::span<std::uint8_t> out) {
    detail::pack_codes<symmetric_full<2>>("pack_int2", codes, out);
}

/// The reverse of pack_int2.
inline void unpack_int2(std::span<const std::uint8_t> packed, std::span<std::int8_t> codes) {
    detail::unpack_codes<symmetric_full<2>>("unpack_int2", packed, codes);
}

NOTCH_KEYED_END
