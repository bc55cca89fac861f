// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/recurrent.hpp: the definition of what an LSTM (Hochreiter & Schmidhuber 1997) and a GRU (Cho et al. 2014,
// arXiv:1406.1078, in the form of PyTorch and cuDNN) do between their matrix products, in integers. Q0.15 is an int16
// in units of 2^-15, and so on.
//
//     wx, uh   W x + b and U h + b', Q3.12: gemm with stage::requantize<symmetric<16>>{x, w_scales, gate_params}
//     s(z)     sigmoid in 0 ... 1, tanh in -1 ... 1: Q3.12 to Q0.15, gate_table below
//     >>       rounds half up; >>> rounds down; sat saturates to int16
//     f * c    of Q0.15 and a state of int32: f (c >>> 15) + (f (c mod 2^15) >> 15)
//
//     lstm     i, f, o = sigmoid(sat(wx + uh)),  g = tanh(sat(wx + uh))          columns i f g o, as PyTorch has them
//              c' = clamp(f * c + (i g >>> 7), -2^30, 2^30 - 1)                  int32 in units of 2^-23: -128 ... 128
//                   and, if cell_shift is not 0:  c' = sat(c' >> cell_shift) * 2^cell_shift
//              t  = tanh(sat(c' >> 11))
//              h  = requantize_float(o t, 2^-30 / h.scale, h.zero_point)                                     u8
//
//     gru      r, z = sigmoid(sat(wx + uh)),  n = tanh(sat(wx + (r uh >> 15)))     columns r z n, as PyTorch has them
//              H' = (2^15 - z) n + z * H                     int32 in units of 2^-30: a mean, which cannot overflow
//              h  = requantize_float(H', 2^-30 / h.scale, h.zero_point)                                      u8
//
// h is what the next products take; c and H, which a cell keeps, have 31 bits. With 16, as the LSTM of TensorFlow Lite
// has, a change of less than half a unit is lost at each step, so a gate near 1 holds a value that it should let go:
// where c goes to 40, as in Silero VAD, that costs more than all else (docs/rnn.md). It takes one multiplication more.
// cell_shift gives an LSTM such a c, of units of 2^(cell_shift - 23), to compare, or where c is stored as int16.
//
// Errors, against the same formulas in real numbers with the same wx, uh, c (and H): gates as gate_table says; c' 1.5
// units of 2^-23 and H' 0.5 units of 2^-30 more than the gates give; h as any requantization. A sum of products beyond
// -8 ... 8 saturates: sigmoid is then 3.4e-4 from its limit, so that a cell forgets no slower than by that a step.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

#include <notch/core/error.hpp>
#include <notch/core/view.hpp>
#include <notch/ref/functions.hpp>
#include <notch/scheme/range.hpp>
#include <notch/scheme/requantize.hpp>

NOTCH_NAMESPACE_BEGIN

/// The scale of wx and uh: int16 codes of -8 ... 8.
inline constexpr quant_params gate_params{1.0f / 4096.0f, 0};

/// A function of Q3.12 in Q0.15, by linear interpolation between 513 nodes 2^-5 apart:
///
///     k = (z + 2^15) >>> 7,  far = z + 2^15 - 128 k,  value = (v[k] * (128 - far) + v[k + 1] * far) >> 7
///
/// make_sigmoid_table: at most 1.2 units of 2^-15 from sigmoid(z), make_tanh_table: at most 2.6 from tanh(z), for each
/// of the 65,536 codes (a test looks at all). Nodes lie beside the curve by half of the sagitta of a chord, which
/// halves the error of interpolation. The input's own rounding, 2^-13, costs more: up to 1 unit of sigmoid, 4 of tanh.
struct gate_table {
    /// v[0] ... v[512]
    alignas(64) std::int16_t nodes[513] = {};

    NOTCH_INLINE constexpr gate_table() noexcept {}
    /// z: -32768..32767.
    [[nodiscard]] NOTCH_INLINE std::int32_t operator()(std::int32_t z) const noexcept {
        const std::int32_t u = z + 32768, k = u >> 7, far = u & 127;
        return (nodes[k] * (128 - far) + nodes[k + 1] * far + 64) >> 7;
    }
};

/// From make_recurrent.
struct recurrent_params {
    gate_table sigmoid, tanh;
    quant_params h;              ///< scale 2^-15 ... 1
    std::int32_t cell_shift = 0; ///< of an LSTM: 0, or 8 ... 15 for a c of 16 bits

    NOTCH_INLINE constexpr recurrent_params() noexcept {}
    /// c is -cell_limit ... cell_limit - 1 in units of 2^(cell_shift - 23).
    [[nodiscard]] NOTCH_INLINE std::int32_t cell_limit() const noexcept { return cell_shift == 0 ? 1 << 30 : 1 << 15; }
    /// What rounds c half up.
    [[nodiscard]] NOTCH_INLINE std::int32_t cell_half() const noexcept { return (1 << cell_shift) >> 1; }
    /// Real value of h in units of 2^-30.
    [[nodiscard]] NOTCH_INLINE float multiplier() const noexcept { return 0x1p-30f / h.scale; }
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// f, and its second derivative as a function of the value of f.
template <class F, class Second> gate_table make_gate_table(const F& f, const Second& second) {
    gate_table t;
    for (int k = 0; k <= 512; ++k) {
        const double x = static_cast<double>(k - 256) / 32.0, y = f(x);
        // The sagitta is step^2 / 8 times the second derivative.
        const auto v = static_cast<std::int32_t>(std::nearbyint(std::fma(-1.0 / 16384.0, second(y), y) * 32768.0));
        t.nodes[k] = static_cast<std::int16_t>(v > 32767 ? 32767 : v < -32767 ? -32767 : v);
    }
    return t;
}
inline void check_h_params(std::string_view where, quant_params h) {
    check_params(where, "h", h, 0, 255);
    if (h.scale < 0x1p-15f || h.scale > 1.0f)
        fail(errc::invalid_argument, cat(where, ": h.scale is ", h.scale, ", must be 2^-15..1: h is within -1..1"));
}
/// recurrent_params::cell_shift for a scale of c; -1 if it is none.
inline std::int32_t cell_shift_of(float scale) noexcept {
    if (scale == 0.0f) return 0;
    for (std::int32_t shift = 8; shift <= 15; ++shift)
        if (scale == std::ldexp(0x1p-23f, shift)) return shift;
    return -1;
}
/// What both steps check; gates: of the products, kept: of the trace.
inline void check_step(std::string_view where, index_t gates, index_t kept, const matrix_view<const std::int16_t>& wx,
                       const matrix_view<const std::int16_t>& uh, const matrix_view<const std::int32_t>& state,
                       const matrix_view<std::int32_t>& next, const matrix_view<std::uint8_t>& h,
                       const matrix_view<std::int16_t>& trace, const recurrent_params& p) {
    check_view(where, "h", h);
    const auto check = [&](const char* name, const char* rows, const char* cols, const auto& v, index_t blocks) {
        check_view(where, name, v);
        check_equal(where, rows, v.rows, h.rows);
        check_equal(where, cols, v.cols, blocks * h.cols);
    };
    check("wx", "the number of rows of wx", "the number of columns of wx", wx, gates);
    check("uh", "the number of rows of uh", "the number of columns of uh", uh, gates);
    check("the state", "the number of rows of the state", "the number of columns of the state", state, 1);
    check("the next state", "the number of rows of the next state", "the number of columns of the next state", next, 1);
    if (trace.data != nullptr || trace.rows != 0) // else no gates are wanted
        check("the gates", "the number of rows of the gates", "the number of columns of the gates", trace, kept);
    check_h_params(where, p.h);
    if (p.sigmoid.nodes[0] == 0 || p.cell_shift < 0 || p.cell_shift > 15)
        fail(errc::invalid_argument, cat(where, ": the parameters do not come from make_recurrent"));
}

NOTCH_INLINE std::int32_t saturate16(std::int32_t v) noexcept { return v < -32768 ? -32768 : v > 32767 ? 32767 : v; }

/// factor * state >> 15, factor in 0 ... 2^15 - 1.
NOTCH_INLINE std::int32_t scale_state(std::int32_t factor, std::int32_t state) noexcept {
    return factor * (state >> 15) + ((factor * (state & 32767) + 16384) >> 15);
}

/// One element of an LSTM: wx, uh and gates point at its i, the others lie n further each; gates may be null.
NOTCH_INLINE void lstm_element(const recurrent_params& p, const std::int16_t* wx, const std::int16_t* uh, index_t n,
                               std::int32_t c, std::int32_t& c_next, std::uint8_t& h, std::int16_t* gates) noexcept {
    const std::int32_t i = p.sigmoid(saturate16(wx[0] + uh[0])), f = p.sigmoid(saturate16(wx[n] + uh[n])),
                       g = p.tanh(saturate16(wx[2 * n] + uh[2 * n])), o = p.sigmoid(saturate16(wx[3 * n] + uh[3 * n]));
    const std::int32_t limit = p.cell_limit();
    const std::int32_t sum = (scale_state(f, c) + ((i * g) >> 7) + p.cell_half()) >> p.cell_shift; // of < 2^30 + 2^24
    const std::int32_t next = (sum < -limit ? -limit : sum > limit - 1 ? limit - 1 : sum) * (1 << p.cell_shift);
    const std::int32_t t = p.tanh(saturate16((next + 1024) >> 11));
    c_next = next;
    h = static_cast<std::uint8_t>(requantize_float(o * t, p.multiplier(), p.h.zero_point, {0, 255}));
    if (!gates) return;
    gates[0] = static_cast<std::int16_t>(i);
    gates[n] = static_cast<std::int16_t>(f);
    gates[2 * n] = static_cast<std::int16_t>(g);
    gates[3 * n] = static_cast<std::int16_t>(o);
    gates[4 * n] = static_cast<std::int16_t>(t);
}

/// One element of a GRU, likewise.
NOTCH_INLINE void gru_element(const recurrent_params& p, const std::int16_t* wx, const std::int16_t* uh, index_t n,
                              std::int32_t state, std::int32_t& next, std::uint8_t& h, std::int16_t* gates) noexcept {
    const std::int32_t r = p.sigmoid(saturate16(wx[0] + uh[0])), z = p.sigmoid(saturate16(wx[n] + uh[n])),
                       c = p.tanh(saturate16(wx[2 * n] + ((r * uh[2 * n] + 16384) >> 15)));
    next = (32768 - z) * c + scale_state(z, state);
    h = static_cast<std::uint8_t>(requantize_float(next, p.multiplier(), p.h.zero_point, {0, 255}));
    if (!gates) return;
    gates[0] = static_cast<std::int16_t>(r);
    gates[n] = static_cast<std::int16_t>(z);
    gates[2 * n] = static_cast<std::int16_t>(c);
}

} // namespace detail

[[nodiscard]] inline gate_table make_sigmoid_table() {
    return detail::make_gate_table(functions::sigmoid, [](double y) { return y * (1.0 - y) * (1.0 - 2.0 * y); });
}
[[nodiscard]] inline gate_table make_tanh_table() {
    return detail::make_gate_table(functions::tanh, [](double y) { return -2.0 * y * std::fma(-y, y, 1.0); });
}

/// For LSTM and GRU. h: the params of the codes of h, scale 2^-15 ... 1. cell_scale: 0, or the unit of a c of 16 bits,
/// a power of two 2^-15 ... 2^-8. Set-up time.
[[nodiscard]] inline recurrent_params make_recurrent(quant_params h, float cell_scale = 0.0f) {
    detail::check_h_params("make_recurrent", h);
    if (detail::cell_shift_of(cell_scale) < 0)
        fail(errc::invalid_argument,
             detail::cat("make_recurrent: cell_scale is ", cell_scale, ", must be 0 or a power of two 2^-15..2^-8"));
    recurrent_params p;
    p.sigmoid = make_sigmoid_table();
    p.tanh = make_tanh_table();
    p.h = h;
    p.cell_shift = detail::cell_shift_of(cell_scale);
    return p;
}

namespace ref {

/// One step for each row: wx and uh rows x 4 hidden, c and c_next rows x hidden (c_next may be c), h rows x hidden. c
/// is -2^30 ... 2^30 - 1, as c_next is. gates, if not empty, rows x 5 hidden, receives i f g o tanh(c'), for a backward
/// pass.
inline void lstm_step(matrix_view<const std::int16_t> wx, matrix_view<const std::int16_t> uh,
                      matrix_view<const std::int32_t> c, const recurrent_params& p, matrix_view<std::int32_t> c_next,
                      matrix_view<std::uint8_t> h, matrix_view<std::int16_t> gates = {}) {
    detail::check_step("ref::lstm_step", 4, 5, wx, uh, c, c_next, h, gates, p);
    for (index_t i = 0; i < h.rows; ++i)
        for (index_t j = 0; j < h.cols; ++j)
            detail::lstm_element(p, &wx(i, j), &uh(i, j), h.cols, c(i, j), c_next(i, j), h(i, j),
                                 gates.data ? &gates(i, j) : nullptr);
}

/// The same for a GRU: wx and uh rows x 3 hidden; gates, if not empty, rows x 3 hidden: r z n.
inline void gru_step(matrix_view<const std::int16_t> wx, matrix_view<const std::int16_t> uh,
                     matrix_view<const std::int32_t> state, const recurrent_params& p, matrix_view<std::int32_t> next,
                     matrix_view<std::uint8_t> h, matrix_view<std::int16_t> gates = {}) {
    detail::check_step("ref::gru_step", 3, 3, wx, uh, state, next, h, gates, p);
    for (index_t i = 0; i < h.rows; ++i)
        for (index_t j = 0; j < h.cols; ++j)
            detail::gru_element(p, &wx(i, j), &uh(i, j), h.cols, state(i, j), next(i, j), h(i, j),
                                gates.data ? &gates(i, j) : nullptr);
}

} // namespace ref
NOTCH_KEYED_END
