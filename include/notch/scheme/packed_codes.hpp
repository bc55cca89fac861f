// SPDX-License-Identifier: Apache-2.0
//
// notch/scheme/packed_codes.hpp: dense storage of codes of 1 to 8 bits, as a stream of bits:
//     bit k of the stream is bit k % 8 of byte k / 8;   code i of B bits is bits i * B ... i * B + B - 1
// so 2 codes of 4 bits are a byte, the first in the low nibble (as in ONNX), and 4 codes of 6 bits are 3 bytes.
// Signed codes are in two's complement. Unused bits of the last byte are 0.
//
// A format is any type with bits and code_type: a range of integers (affine<4>, symmetric_full<2>, ...), whose codes
// are checked against qmin and qmax, or a short float (fp4_e2m1, fp6_e3m2, nf4, ...).
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <type_traits>

#include <notch/core/config.hpp>
#include <notch/core/error.hpp>
#include <notch/core/types.hpp>
#include <notch/scheme/range.hpp>

NOTCH_NAMESPACE_BEGIN

/// What pack_codes needs to know of a format.
template <class F>
concept packable = requires {
    typename F::code_type;
    { F::bits } -> std::convertible_to<int>;
}
&&F::bits >= 1 && F::bits <= 8 && sizeof(typename F::code_type) == 1;

/// Bytes that n codes take, n >= 0.
template <packable Format> [[nodiscard]] NOTCH_INLINE constexpr index_t packed_size(index_t n) noexcept {
    return n / 8 * Format::bits + (n % 8 * Format::bits + 7) / 8;
}

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

template <packable Format> constexpr code_range code_bounds() noexcept {
    if constexpr (range_type<Format>) return {Format::qmin, Format::qmax};
    return {0, (1 << Format::bits) - 1};
}

/// Packs codes that are known to fit; out has packed_size bytes.
template <packable Format>
constexpr void pack_valid_codes(std::span<const typename Format::code_type> codes,
                                std::span<std::uint8_t> out) noexcept {
    constexpr int bits = Format::bits;
    std::uint32_t held = 0; // bits that do not fill a byte yet
    int count = 0;
    std::size_t at = 0;
    for (const auto code : codes) {
        held |= (static_cast<std::uint32_t>(code) & ((1u << bits) - 1u)) << count;
        count += bits;
        if (count >= 8) {
            out[at++] = static_cast<std::uint8_t>(held);
            held >>= 8;
            count -= 8;
        }
    }
    if (count > 0) out[at] = static_cast<std::uint8_t>(held);
}

template <packable Format>
void pack_codes(std::string_view where, std::span<const typename Format::code_type> codes,
                std::span<std::uint8_t> out) {
    check_equal(where, "size of out", static_cast<index_t>(out.size()),
                packed_size<Format>(static_cast<index_t>(codes.size())));
    constexpr code_range bounds = code_bounds<Format>();
    for (const auto code : codes)
        if (code < bounds.lo || code > bounds.hi)
            fail(errc::invalid_argument,
                 cat(where, ": code ", static_cast<int>(code), " is not in ", bounds.lo, "..", bounds.hi));
    pack_valid_codes<Format>(codes, out);
}

template <packable Format>
void unpack_codes(std::string_view where, std::span<const std::uint8_t> packed,
                  std::span<typename Format::code_type> codes) {
    check_equal(where, "size of packed", static_cast<index_t>(packed.size()),
                packed_size<Format>(static_cast<index_t>(codes.size())));
    constexpr int bits = Format::bits;
    std::uint32_t held = 0;
    int count = 0;
    std::size_t at = 0;
    for (auto& code : codes) {
        if (count < bits) {
            held |= std::uint32_t{packed[at++]} << count;
            count += 8;
        }
        const std::uint32_t u = held & ((1u << bits) - 1u);
        held >>= bits;
        count -= bits;
        if constexpr (std::is_signed_v<typename Format::code_type>) { // the highest bit counts negative
            constexpr std::uint32_t sign = 1u << (bits - 1);
            code = static_cast<typename Format::code_type>(static_cast<int>(u ^ sign) - static_cast<int>(sign));
        } else {
            code = static_cast<typename Format::code_type>(u);
        }
    }
}

} // namespace detail

/// Packs codes of Format into packed_size<Format>(codes.size()) bytes. A code outside the format, or a wrong size of
/// out, is an error, and out is unchanged.
template <packable Format>
void pack_codes(std::span<const typename Format::code_type> codes, std::span<std::uint8_t> out) {
    detail::pack_codes<Format>("pack_codes", codes, out);
}

/// The reverse of pack_codes: codes.size() codes from packed. Every pattern of bits gives a code of Format::bits
/// bits; for symmetric<B> that may be the lowest one, which pack_codes refuses.
template <packable Format>
void unpack_codes(std::span<const std::uint8_t> packed, std::span<typename Format::code_type> codes) {
    detail::unpack_codes<Format>("unpack_codes", packed, codes);
}

NOTCH_KEYED_END
