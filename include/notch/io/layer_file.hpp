// SPDX-License-Identifier: Apache-2.0
//
// notch/io/layer_file.hpp: a layer_spec in a model file. Four tensors for a layer called "conv":
//
//   conv.w   I8 codes, or U8 with two 4-bit codes a byte (scheme/packed_int4.hpp) if weight_bits
//            is at most 4
//   conv.s   F32 weight scales: one, or one for each output channel
//   conv.b   I32 bias (static) or F32 bias (dynamic); empty if there is none
//   conv.p   I32: version 1, kernel h w, stride h w, pad top left bottom right, dilation h w,
//            in, out, flags (1 depthwise, 2 float output), weight_bits, nonlinearity,
//            x.scale (bits), x.zero_point, y.scale (bits), y.zero_point
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <string>

#include <notch/io/model_file.hpp>
#include <notch/layers/frozen.hpp>
#include <notch/scheme/packed_int4.hpp>

NOTCH_KEYED_BEGIN

/// Adds a layer to a model file. An invalid spec or a name that is taken is an error, and nothing is added.
inline void save_layer(model_writer& out, const std::string& name, const layer_spec& s) {
    if (const std::string fault = detail::spec_fault(s); !fault.empty())
        fail(errc::invalid_argument, detail::cat("save_layer: ", name, ": ", fault));
    for (const char* part : {".w", ".s", ".b", ".p"})
        if (out.contains(name + part))
            fail(errc::invalid_argument, detail::cat("save_layer: there is a tensor ", name, part, " already"));
    const index_t count = s.weights.size();
    if (s.weight_bits <= 4) {
        buffer<std::uint8_t> packed(packed_int4_size(count));
        pack_int4(s.weights, packed);
        out.add<std::uint8_t>(name + ".w", {packed.size()}, packed.span());
    } else {
        out.add<std::int8_t>(name + ".w", {count}, s.weights.span());
    }
    out.add<float>(name + ".s", {s.w_scales.size()}, s.w_scales.span());
    if (!s.float_bias.empty())
        out.add<float>(name + ".b", {s.float_bias.size()}, s.float_bias.span());
    else
        out.add<std::int32_t>(name + ".b", {s.bias.size()}, s.bias.span());
    const window& g = s.geometry;
    const index_t wide[] = {
        1,           g.kernel_h,   g.kernel_w,   g.stride_h,    g.stride_w,    g.pad_top, g.pad_left, g.pad_bottom,
        g.pad_right, g.dilation_h, g.dilation_w, s.in_channels, s.out_channels};
    std::array<std::int32_t, 20> p{};
    std::size_t at = 0;
    for (index_t v : wide) p[at++] = static_cast<std::int32_t>(v);
    p[at++] = (s.depthwise ? 1 : 0) | (s.float_output ? 2 : 0);
    p[at++] = s.weight_bits;
    p[at++] = static_cast<std::int32_t>(s.function);
    p[at++] = std::bit_cast<std::int32_t>(s.x.scale);
    p[at++] = s.x.zero_point;
    p[at++] = std::bit_cast<std::int32_t>(s.y.scale);
    p[at++] = s.y.zero_point;
    out.add<std::int32_t>(name + ".p", {20}, std::span<const std::int32_t>(p));
}

/// Reads a layer back; errc::corrupt if what the file says is no valid layer_spec.
[[nodiscard]] inline layer_spec load_layer(const model_file& in, const std::string& name) {
    const auto p = in.copy<std::int32_t>(name + ".p");
    if (p.size() != 20)
        fail(errc::corrupt, detail::cat("load_layer: ", name, ".p has ", p.size(), " entries, expected 20"));
    if (p[0] != 1)
        fail(errc::unsupported, detail::cat("load_layer: ", name, ".p has version ", p[0], ", this build reads 1"));
    layer_spec s;
    window& g = s.geometry;
    index_t* const fields[] = {&g.kernel_h,   &g.kernel_w,   &g.stride_h,    &g.stride_w,
                               &g.pad_top,    &g.pad_left,   &g.pad_bottom,  &g.pad_right,
                               &g.dilation_h, &g.dilation_w, &s.in_channels, &s.out_channels};
    index_t at = 1;
    for (index_t* f : fields) *f = p[at++];
    if (p[13] < 0 || p[13] > 3)
        fail(errc::corrupt, detail::cat("load_layer: ", name, ".p has the unknown flags ", p[13]));
    s.depthwise = (p[13] & 1) != 0;
    s.float_output = (p[13] & 2) != 0;
    s.weight_bits = p[14];
    s.function = static_cast<nonlinearity>(p[15]);
    s.x = {std::bit_cast<float>(p[16]), p[17]};
    s.y = {std::bit_cast<float>(p[18]), p[19]};
    if (s.weight_bits <= 4) {
        // Two codes a byte; an odd count leaves the last nibble unused.
        const auto packed = in.copy<std::uint8_t>(name + ".w");
        const bool odd = g.kernel_h % 2 != 0 && g.kernel_w % 2 != 0 && s.out_channels % 2 != 0 &&
                         (s.depthwise || s.in_channels % 2 != 0);
        s.weights = buffer<std::int8_t>(packed.size() * 2 - (odd && !packed.empty() ? 1 : 0));
        unpack_int4(packed, s.weights);
    } else {
        s.weights = in.copy<std::int8_t>(name + ".w");
    }
    s.w_scales = in.copy<float>(name + ".s");
    if (in.info(name + ".b").type == dtype::f32)
        s.float_bias = in.copy<float>(name + ".b");
    else
        s.bias = in.copy<std::int32_t>(name + ".b");
    if (const std::string fault = detail::spec_fault(s); !fault.empty())
        fail(errc::corrupt, detail::cat("load_layer: ", name, ": ", fault));
    return s;
}

NOTCH_KEYED_END
