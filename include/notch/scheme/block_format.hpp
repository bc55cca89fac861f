// SPDX-License-Identifier: Apache-2.0
//
// notch/scheme/block_format.hpp: formats whose values share a scale in blocks of consecutive elements. A block format
// is a type of three parts, element format, scale format and length, so a new combination is a new alias:
//
//   type              element     scale      block   source
//   mxfp8_e4m3        fp8_e4m3    e8m0          32   OCP Microscaling Formats (MX) v1.0, sections 5 and 6
//   mxfp8_e5m2        fp8_e5m2    e8m0          32
//   mxfp6_e2m3        fp6_e2m3    e8m0          32
//   mxfp6_e3m2        fp6_e3m2    e8m0          32
//   mxfp4             fp4_e2m1    e8m0          32
//   mxint8            mx_int8     e8m0          32
//   nvfp4             fp4_e2m1    fp8_e4m3      16   and one float for the tensor; NVIDIA 2025, arXiv:2509.25149
//   nf4_blocks<64>    nf4         float32       64   Dettmers et al. 2023, arXiv:2305.14314
//
// With amax the largest finite |x| of a block, t the scale of the tensor (1 but for nvfp4), and max that of the
// element:
//
//   scale    e8m0       2^(floor(log2(amax)) - emax), within 2^-127 ... 2^127, emax = floor(log2(max))
//            fp8_e4m3   rounded to E4M3: amax / max / t, both divisions in float; saturates at 448
//            float32    amax / max
//   code     element(x / s), s = float(scale) * t, the division in float; the code of 0 where s = 0
//   value    element(code) * s, in float
//
// A block of zeros has the least scale (2^-127, 0, 0). Infinities saturate, to the largest element of their block. A
// NaN is a NaN element, in FP8; other elements have none, so there the scale is NaN and with it all values of the
// block.
#pragma once

#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include <notch/core/config.hpp>
#include <notch/core/error.hpp>
#include <notch/core/types.hpp>
#include <notch/scheme/e8m0.hpp>
#include <notch/scheme/minifloat.hpp>
#include <notch/scheme/nf4.hpp>
#include <notch/scheme/packed_codes.hpp>

NOTCH_NAMESPACE_BEGIN

/// The INT8 element of MX (section 5.3.4): two's complement code / 64. Codes are made within -127 ... 127, so that
/// negation is closed, which the specification allows; -128 is read as -2.
struct mx_int8 {
    using code_type = std::uint8_t;
    static constexpr int bits = 8;
    static constexpr bool has_nan = false;
    static constexpr int max_exponent = 0;

    [[nodiscard]] NOTCH_INLINE static constexpr float max() noexcept { return 127.0f / 64.0f; }
    [[nodiscard]] NOTCH_INLINE static constexpr std::uint8_t encode(float x) noexcept {
        const float steps = x * 64.0f;
        if (steps != steps) return 0;
        // Near 1.5 * 2^23 a float counts ones, so the sum rounds to an integer, ties to even.
        const float clamped = steps < -127.0f ? -127.0f : steps > 127.0f ? 127.0f : steps;
        return static_cast<std::uint8_t>(static_cast<int>((clamped + 12582912.0f) - 12582912.0f));
    }
    [[nodiscard]] NOTCH_INLINE static constexpr float decode(std::uint32_t code) noexcept {
        return static_cast<float>(static_cast<int>((code & 255u) ^ 128u) - 128) / 64.0f;
    }
};

/// The scale of a block in float32.
struct float32_scale {
    using code_type = float;
};

/// Element, scale and length of the blocks; see the table above.
template <class Element, class Scale, int Block> struct block_format {
    static_assert(Block >= 1, "notch::block_format: a block has at least one element");
    using element = Element;
    using scale = Scale;
    /// The type of stored scales: the code, or the float.
    using scale_type = typename Scale::code_type;
    static constexpr int block = Block;
};

using mxfp8_e4m3 = block_format<fp8_e4m3, e8m0, 32>;
using mxfp8_e5m2 = block_format<fp8_e5m2, e8m0, 32>;
using mxfp6_e2m3 = block_format<fp6_e2m3, e8m0, 32>;
using mxfp6_e3m2 = block_format<fp6_e3m2, e8m0, 32>;
using mxfp4 = block_format<fp4_e2m1, e8m0, 32>;
using mxint8 = block_format<mx_int8, e8m0, 32>;
using nvfp4 = block_format<fp4_e2m1, fp8_e4m3, 16>;
template <int Block = 64> using nf4_blocks = block_format<nf4, float32_scale, Block>;

/// Blocks, and so scales, of n elements; the last may be shorter.
template <class Format> [[nodiscard]] NOTCH_INLINE constexpr index_t block_count(index_t n) noexcept {
    return n / Format::block + (n % Format::block != 0 ? 1 : 0);
}

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

// The scale of a block: make(amax, tensor_scale) and value(scale, tensor_scale).
template <class Element, class Scale> struct block_scale;

template <class Element> struct block_scale<Element, e8m0> {
    static constexpr std::uint8_t nan = e8m0::nan_code;
    NOTCH_INLINE static constexpr std::uint8_t make(float amax, float) noexcept {
        // The exponent of a subnormal amax is below any that e8m0 has.
        const int code = static_cast<int>(std::bit_cast<std::uint32_t>(amax) >> 23) - Element::max_exponent;
        return static_cast<std::uint8_t>(code < 0 ? 0 : code);
    }
    NOTCH_INLINE static constexpr float value(std::uint8_t scale, float) noexcept { return e8m0::decode(scale); }
};

template <class Element> struct block_scale<Element, fp8_e4m3> {
    static constexpr std::uint8_t nan = 0x7f;
    NOTCH_INLINE static constexpr std::uint8_t make(float amax, float tensor_scale) noexcept {
        return fp8_e4m3::encode(amax / Element::max() / tensor_scale);
    }
    NOTCH_INLINE static constexpr float value(std::uint8_t scale, float tensor_scale) noexcept {
        return fp8_e4m3::decode(scale) * tensor_scale;
    }
};

template <class Element> struct block_scale<Element, float32_scale> {
    static constexpr float nan = std::bit_cast<float>(0x7fc00000u);
    NOTCH_INLINE static constexpr float make(float amax, float) noexcept { return amax / Element::max(); }
    NOTCH_INLINE static constexpr float value(float scale, float) noexcept { return scale; }
};

template <class Format>
void check_blocks(std::string_view where, std::size_t n, std::size_t codes, std::size_t scales, float tensor_scale) {
    const auto size = static_cast<index_t>(n);
    check_equal(where, "the size of codes", static_cast<index_t>(codes), packed_size<typename Format::element>(size));
    check_equal(where, "the number of scales", static_cast<index_t>(scales), block_count<Format>(size));
    check_scale(where, "tensor_scale", tensor_scale);
    if (!std::is_same_v<typename Format::scale, fp8_e4m3> && tensor_scale != 1.0f)
        fail(errc::invalid_argument, cat(where, ": tensor_scale is ", tensor_scale, ", but this format has none"));
}

} // namespace detail

/// The scale t of a tensor whose largest finite magnitude is amax, for nvfp4: the largest block gets the scale 448.
///     t = amax / (448 * 6), at least 2^-117, so that no product of t and a block's scale is subnormal; 1 for amax = 0
/// amax must be finite and >= 0.
[[nodiscard]] inline float nvfp4_tensor_scale(float amax) {
    if (!(amax >= 0.0f) || std::isinf(amax))
        fail(errc::invalid_argument, detail::cat("nvfp4_tensor_scale: amax is ", amax, ", must be finite and >= 0"));
    const float t = amax / (fp8_e4m3::max() * fp4_e2m1::max());
    return amax == 0.0f ? 1.0f : t < 0x1p-117f ? 0x1p-117f : t;
}

/// Quantizes x, in blocks of Format::block consecutive elements (of a matrix, call it for each row if rows are no
/// whole number of blocks).
///   codes    packed_size<Format::element>(x.size()) bytes, as in packed_codes.hpp
///   scales   block_count<Format>(x.size())
/// tensor_scale is finite and > 0; only nvfp4 has one, and others take 1. Thread-safe; allocates nothing.
template <class Format>
void quantize_blocks(std::span<const float> x, std::span<std::uint8_t> codes,
                     std::span<typename Format::scale_type> scales, float tensor_scale = 1.0f) {
    using element = typename Format::element;
    using scale_of = detail::block_scale<element, typename Format::scale>;
    constexpr const char* where = "quantize_blocks";
    detail::check_blocks<Format>(where, x.size(), codes.size(), scales.size(), tensor_scale);
    // Whole bytes end where 8 elements do: the codes of 8 are packed at a time, whatever the block.
    typename element::code_type held[8];
    std::size_t count = 0, to = 0;
    const auto block = static_cast<std::size_t>(Format::block);
    for (std::size_t b = 0; b < scales.size(); ++b) {
        const std::size_t first = b * block, end = x.size() - first < block ? x.size() : first + block;
        float amax = 0.0f;
        bool nan = false;
        for (std::size_t i = first; i < end; ++i) {
            const float magnitude = x[i] < 0.0f ? -x[i] : x[i];
            if (magnitude > amax && magnitude <= FLT_MAX) amax = magnitude;
            nan = nan || x[i] != x[i];
        }
        scales[b] = nan && !element::has_nan ? scale_of::nan : scale_of::make(amax, tensor_scale);
        const float s = scale_of::value(scale_of::make(amax, tensor_scale), tensor_scale);
        for (std::size_t i = first; i < end; ++i) {
            held[count++] = element::encode(s > 0.0f ? x[i] / s : 0.0f);
            if (count < 8 && i + 1 < x.size()) continue;
            const auto bytes = static_cast<std::size_t>(packed_size<element>(static_cast<index_t>(count)));
            detail::pack_valid_codes<element>({held, count}, codes.subspan(to, bytes));
            to += bytes;
            count = 0;
        }
    }
}

/// The values of codes and scales that quantize_blocks made, or anyone else; sizes as there. Thread-safe.
template <class Format>
void dequantize_blocks(std::span<const std::uint8_t> codes, std::span<const typename Format::scale_type> scales,
                       std::span<float> x, float tensor_scale = 1.0f) {
    using element = typename Format::element;
    using scale_of = detail::block_scale<element, typename Format::scale>;
    detail::check_blocks<Format>("dequantize_blocks", x.size(), codes.size(), scales.size(), tensor_scale);
    constexpr auto bits = static_cast<std::size_t>(element::bits);
    const auto block = static_cast<std::size_t>(Format::block);
    for (std::size_t b = 0; b < scales.size(); ++b) {
        const float s = scale_of::value(scales[b], tensor_scale);
        const std::size_t first = b * block, end = x.size() - first < block ? x.size() : first + block;
        for (std::size_t i = first; i < end; ++i) {
            // The code lies in one byte or ends in the next.
            const std::size_t at = i / 8 * bits + i % 8 * bits / 8, shift = i * bits % 8;
            std::uint32_t window = codes[at];
            if (shift + bits > 8) window |= std::uint32_t{codes[at + 1]} << 8;
            x[i] = element::decode(window >> shift & ((1u << bits) - 1u)) * s;
        }
    }
}

NOTCH_KEYED_END
