// SPDX-License-Identifier: Apache-2.0
//
// notch/io/recurrent_file.hpp: a recurrent_spec, of an LSTM or a GRU, in a model file. Seven tensors for a layer called
// "lstm":
//
//   lstm.w, .u     I8 codes of W and U; U8 if weight_bits is at most 4: a stream of 4-bit codes, two a byte, or of
//                  2-bit codes, four a byte, if weight_bits is at most 2 (scheme/packed_codes.hpp)
//   lstm.ws, .us   F32 scales: one, or one for each row
//   lstm.wb, .ub   I32 biases; empty if there are none
//   lstm.p         I32: version 1, gates (4: LSTM, 3: GRU), in_channels, hidden, weight_bits, x.scale (bits),
//                  x.zero_point, h.scale (bits), h.zero_point, cell_scale (bits)
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <string>

#include <notch/io/model_file.hpp>
#include <notch/layers/frozen_recurrent.hpp>
#include <notch/scheme/packed_codes.hpp>

NOTCH_KEYED_BEGIN
namespace detail {

/// Bits that a code takes in the file.
inline index_t stored_bits(std::int32_t weight_bits) noexcept {
    return weight_bits <= 2 ? 2 : weight_bits <= 4 ? 4 : 8;
}

inline void add_codes(model_writer& out, const std::string& name, const buffer<std::int8_t>& codes,
                      std::int32_t weight_bits) {
    const index_t bits = stored_bits(weight_bits);
    if (bits == 8) {
        out.add<std::int8_t>(name, {codes.size()}, codes.span());
        return;
    }
    buffer<std::uint8_t> packed((codes.size() * bits + 7) / 8);
    if (bits == 4)
        pack_codes<symmetric_full<4>>("save_recurrent", codes, packed);
    else
        pack_codes<symmetric_full<2>>("save_recurrent", codes, packed);
    out.add<std::uint8_t>(name, {packed.size()}, packed.span());
}
inline buffer<std::int8_t> copy_codes(const model_file& in, const std::string& name, index_t count,
                                      std::int32_t weight_bits) {
    const index_t bits = stored_bits(weight_bits);
    if (bits == 8) return in.copy<std::int8_t>(name);
    const auto packed = in.copy<std::uint8_t>(name);
    if (packed.size() != (count * bits + 7) / 8)
        fail(errc::corrupt,
             cat("load_recurrent: ", name, " has ", packed.size(), " bytes, expected ", (count * bits + 7) / 8));
    buffer<std::int8_t> codes(count);
    if (bits == 4)
        unpack_codes<symmetric_full<4>>("load_recurrent", packed, codes);
    else
        unpack_codes<symmetric_full<2>>("load_recurrent", packed, codes);
    return codes;
}

} // namespace detail

/// Adds an LSTM or a GRU to a model file. An invalid spec or a name that is taken is an error, and nothing is added.
template <class Cell> void save_recurrent(model_writer& out, const std::string& name, const recurrent_spec& s) {
    if (const std::string fault = detail::spec_fault(s, Cell::gates); !fault.empty())
        fail(errc::invalid_argument, detail::cat("save_recurrent: ", name, ": ", fault));
    for (const char* part : {".w", ".u", ".ws", ".us", ".wb", ".ub", ".p"})
        if (out.contains(name + part))
            fail(errc::invalid_argument, detail::cat("save_recurrent: there is a tensor ", name, part, " already"));
    detail::add_codes(out, name + ".w", s.weights, s.weight_bits);
    detail::add_codes(out, name + ".u", s.recurrent_weights, s.weight_bits);
    out.add<float>(name + ".ws", {s.w_scales.size()}, s.w_scales.span());
    out.add<float>(name + ".us", {s.u_scales.size()}, s.u_scales.span());
    out.add<std::int32_t>(name + ".wb", {s.bias.size()}, s.bias.span());
    out.add<std::int32_t>(name + ".ub", {s.recurrent_bias.size()}, s.recurrent_bias.span());
    const std::array<std::int32_t, 10> p{1,
                                         static_cast<std::int32_t>(Cell::gates),
                                         static_cast<std::int32_t>(s.in_channels),
                                         static_cast<std::int32_t>(s.hidden),
                                         s.weight_bits,
                                         std::bit_cast<std::int32_t>(s.x.scale),
                                         s.x.zero_point,
                                         std::bit_cast<std::int32_t>(s.h.scale),
                                         s.h.zero_point,
                                         std::bit_cast<std::int32_t>(s.cell_scale)};
    out.add<std::int32_t>(name + ".p", {10}, std::span<const std::int32_t>(p));
}

/// Reads one back; errc::corrupt if what the file says is no valid spec of this cell.
template <class Cell> [[nodiscard]] recurrent_spec load_recurrent(const model_file& in, const std::string& name) {
    const auto p = in.copy<std::int32_t>(name + ".p");
    if (p.size() != 10)
        fail(errc::corrupt, detail::cat("load_recurrent: ", name, ".p has ", p.size(), " entries, expected 10"));
    if (p[0] != 1)
        fail(errc::unsupported, detail::cat("load_recurrent: ", name, ".p has version ", p[0], ", this build reads 1"));
    if (p[1] != Cell::gates)
        fail(errc::corrupt, detail::cat("load_recurrent: ", name, " has ", p[1], " gates, expected ", Cell::gates));
    recurrent_spec s;
    s.in_channels = p[2];
    s.hidden = p[3];
    s.weight_bits = p[4];
    s.x = {std::bit_cast<float>(p[5]), p[6]};
    s.h = {std::bit_cast<float>(p[7]), p[8]};
    s.cell_scale = std::bit_cast<float>(p[9]);
    const auto check = [&](const std::string& fault) {
        if (!fault.empty()) fail(errc::corrupt, detail::cat("load_recurrent: ", name, ": ", fault));
    };
    check(detail::extent_fault(s, Cell::gates)); // before sizes are computed from them
    const index_t rows = Cell::gates * s.hidden;
    s.weights = detail::copy_codes(in, name + ".w", rows * s.in_channels, s.weight_bits);
    s.recurrent_weights = detail::copy_codes(in, name + ".u", rows * s.hidden, s.weight_bits);
    s.w_scales = in.copy<float>(name + ".ws");
    s.u_scales = in.copy<float>(name + ".us");
    s.bias = in.copy<std::int32_t>(name + ".wb");
    s.recurrent_bias = in.copy<std::int32_t>(name + ".ub");
    check(detail::spec_fault(s, Cell::gates));
    return s;
}

NOTCH_KEYED_END
