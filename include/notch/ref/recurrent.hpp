// SPDX-License-Identifier: Apache-2.0
//
// notch/ref/recurrent.hpp: the definition of what an LSTM (Hochreiter & Schmidhuber 1997) and a GRU (Cho et al. 2014,
// arXiv:1406.1078, in the form of PyTorch and cuDNN) do between their matrix products, in integers. Q0.15 is an int16
// in units of 2^-15, and so on; c is an int16 in units of 2^-cell_bits.
//
//     wx, uh   W x + b and U h + b', Q3.12: gemm with stage::requantize<symmetric<16>>{x, w_scales, gate_params}
//     s(z)     sigmoid in 0 ... 1, tanh in -1 ... 1: Q3.12 to Q0.15, gate_table below
//     >>       rounds half up; >>> rounds down; sat saturates to int16
//
//     lstm     i, f, o = sigmoid(sat(wx + uh)),  g = tanh(sat(wx + uh))          columns i f g o, as PyTorch has them
//              c' = sat((f c + (i g >>> 15 - cell_bits)) >> 15)
//              t  = tanh(c' in Q3.12)                    sat(c' << 12 - cell_bits), or c' >> cell_bits - 12
//              h  = requantize_float(o t, 2^-30 / h.scale, h.zero_point)                                     u8
//
//     gru      r, z = sigmoid(sat(wx + uh)),  n = tanh(sat(wx + (r uh >> 15)))     columns r z n, as PyTorch has them
//              H' = ((2^15 - z) n + z H) >> 15                     the state, Q0.15: a mean, which cannot overflow
//              h  = requantize_float(H', 2^-15 / h.scale, h.zero_point)                                      u8
//
// h is what the next products take; the cell keeps c and H with 16 bits, so that what a long sequence adds up is not
// rounded to 8 bits at each step. Errors, against the same formulas in real numbers with the same wx, uh, c (and H):
// gates as gate_table says; c' 0.5 + 2^-15 units more than the gates give, H' 0.5 units; h as any requantization.
#pragma once

#include <cmath>
#include <cstdint>

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
///     k = (z + 2^15) >>> 7,  value = (128 v[k] + (v[k + 1] - v[k]) * (z + 2^15 - 128 k)) >> 7
///
/// make_sigmoid_table: at most 1.2 units of 2^-15 from sigmoid(z), make_tanh_table: at most 2.6 from tanh(z), for each
/// of the 65,536 codes (a test looks at all). Nodes lie beside the curve by half of the sagitta of a chord, which
/// halves the error of interpolation. The input's own rounding, 2^-13, costs more: up to 1 unit of sigmoid, 4 of tanh.
struct gate_table {
    /// v[k] in the low half, v[k + 1] - v[k] in the high one: what one multiply-add of pairs needs.
    alignas(64) std::int32_t pairs[512] = {};

    NOTCH_INLINE constexpr gate_table() noexcept {}
    /// z: -32768..32767.
    [[nodiscard]] NOTCH_INLINE std::int32_t operator()(std::int32_t z) const noexcept {
        const std::int32_t u = z + 32768, pair = pairs[u >> 7];
        return (128 * static_cast<std::int16_t>(pair & 0xffff) + (pair >> 16) * (u & 127) + 64) >> 7;
    }
};

/// From make_lstm and make_gru. h.scale is 2^-15 ... 1.
struct lstm_params {
    gate_table sigmoid, tanh;
    std::int32_t cell_bits = 0; ///< the unit of c is 2^-cell_bits, 0..14
    quant_params h;

    NOTCH_INLINE constexpr lstm_params() noexcept {}
    /// Real value of h in units of o t.
    [[nodiscard]] NOTCH_INLINE float multiplier() const noexcept { return 0x1p-30f / h.scale; }
};
struct gru_params {
    gate_table sigmoid, tanh;
    quant_params h;

    NOTCH_INLINE constexpr gru_params() noexcept {}
    [[nodiscard]] NOTCH_INLINE float multiplier() const noexcept { return 0x1p-15f / h.scale; }
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN
namespace detail {

/// f, and its second derivative as a function of the value of f.
template <class F, class Second> gate_table make_gate_table(const F& f, const Second& second) {
    gate_table t;
    std::int32_t last = 0;
    for (int k = 0; k <= 512; ++k) {
        const double x = static_cast<double>(k - 256) / 32.0, y = f(x);
        // The sagitta is step^2 / 8 times the second derivative.
        const auto v = static_cast<std::int32_t>(std::nearbyint(std::fma(-1.0 / 16384.0, second(y), y) * 32768.0));
        const std::int32_t inside = v > 32767 ? 32767 : v < -32767 ? -32767 : v;
        if (k > 0)
            t.pairs[k - 1] = static_cast<std::int32_t>(static_cast<std::uint32_t>(inside - last) << 16 |
                                                       (static_cast<std::uint32_t>(last) & 0xffffu));
        last = inside;
    }
    return t;
}
inline void check_h_params(const char* where, quant_params h) {
    check_params(where, "h", h, 0, 255);
    if (h.scale < 0x1p-15f || h.scale > 1.0f)
        fail(errc::invalid_argument, cat(where, ": h.scale is ", h.scale, ", must be 2^-15..1: h is within -1..1"));
}
/// What both steps check; gates: of the products, kept: of the trace.
inline void check_step(const char* where, index_t gates, index_t kept, const matrix_view<const std::int16_t>& wx,
                       const matrix_view<const std::int16_t>& uh, const matrix_view<const std::int16_t>& carry,
                       const matrix_view<std::int16_t>& next, const matrix_view<std::uint8_t>& h,
                       const matrix_view<std::int16_t>& trace, const gate_table& sigmoid, quant_params p) {
    check_view(where, "h", h);
    const struct {
        const char *name, *rows, *cols;
        matrix_view<const std::int16_t> v;
        index_t blocks;
    } all[] = {
        {"wx", "the number of rows of wx", "the number of columns of wx", wx, gates},
        {"uh", "the number of rows of uh", "the number of columns of uh", uh, gates},
        {"the state", "the number of rows of the state", "the number of columns of the state", carry, 1},
        {"the next state", "the number of rows of the next state", "the number of columns of the next state", next, 1},
        {"the gates", "the number of rows of the gates", "the number of columns of the gates", trace, kept}};
    for (const auto& a : all) {
        if (&a == &all[4] && trace.data == nullptr && trace.rows == 0) break; // no gates are wanted
        check_view(where, a.name, a.v);
        check_equal(where, a.rows, a.v.rows, h.rows);
        check_equal(where, a.cols, a.v.cols, a.blocks * h.cols);
    }
    check_h_params(where, p);
    if (sigmoid.pairs[0] == 0)
        fail(errc::invalid_argument, cat(where, ": the parameters do not come from make_lstm or make_gru"));
}
inline void check_cell_bits(const char* where, std::int32_t bits) {
    if (bits < 0 || bits > 14) fail(errc::invalid_argument, cat(where, ": cell_bits is ", bits, ", must be 0..14"));
}

NOTCH_INLINE std::int32_t saturate16(std::int32_t v) noexcept { return v < -32768 ? -32768 : v > 32767 ? 32767 : v; }

/// One element of an LSTM: wx, uh and gates point at its i, the others lie n further each; gates may be null.
NOTCH_INLINE void lstm_element(const lstm_params& p, const std::int16_t* wx, const std::int16_t* uh, index_t n,
                               std::int16_t c, std::int16_t& c_next, std::uint8_t& h, std::int16_t* gates) noexcept {
    const std::int32_t i = p.sigmoid(saturate16(wx[0] + uh[0])), f = p.sigmoid(saturate16(wx[n] + uh[n])),
                       g = p.tanh(saturate16(wx[2 * n] + uh[2 * n])), o = p.sigmoid(saturate16(wx[3 * n] + uh[3 * n]));
    const std::int32_t sum = f * c + ((i * g) >> (15 - p.cell_bits)); // sigmoid < 2^15 - 1: within int32
    const std::int32_t next = saturate16((sum + 16384) >> 15);
    const int down = p.cell_bits - 12;
    const std::int32_t t = p.tanh(down > 0 ? (next + (1 << (down - 1))) >> down : saturate16(next * (1 << -down)));
    c_next = static_cast<std::int16_t>(next);
    h = static_cast<std::uint8_t>(requantize_float(o * t, p.multiplier(), p.h.zero_point, {0, 255}));
    if (!gates) return;
    gates[0] = static_cast<std::int16_t>(i);
    gates[n] = static_cast<std::int16_t>(f);
    gates[2 * n] = static_cast<std::int16_t>(g);
    gates[3 * n] = static_cast<std::int16_t>(o);
    gates[4 * n] = static_cast<std::int16_t>(t);
}

/// One element of a GRU, likewise.
NOTCH_INLINE void gru_element(const gru_params& p, const std::int16_t* wx, const std::int16_t* uh, index_t n,
                              std::int16_t state, std::int16_t& next, std::uint8_t& h, std::int16_t* gates) noexcept {
    const std::int32_t r = p.sigmoid(saturate16(wx[0] + uh[0])), z = p.sigmoid(saturate16(wx[n] + uh[n])),
                       c = p.tanh(saturate16(wx[2 * n] + ((r * uh[2 * n] + 16384) >> 15)));
    const std::int32_t mean = ((32768 - z) * c + z * state + 16384) >> 15;
    next = static_cast<std::int16_t>(mean);
    h = static_cast<std::uint8_t>(requantize_float(mean, p.multiplier(), p.h.zero_point, {0, 255}));
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

/// cell_bits: with 11, c saturates at -16 and 16. Set-up time.
[[nodiscard]] inline lstm_params make_lstm(std::int32_t cell_bits, quant_params h) {
    detail::check_cell_bits("make_lstm", cell_bits);
    detail::check_h_params("make_lstm", h);
    lstm_params p;
    p.sigmoid = make_sigmoid_table();
    p.tanh = make_tanh_table();
    p.cell_bits = cell_bits;
    p.h = h;
    return p;
}
[[nodiscard]] inline gru_params make_gru(quant_params h) {
    detail::check_h_params("make_gru", h);
    gru_params p;
    p.sigmoid = make_sigmoid_table();
    p.tanh = make_tanh_table();
    p.h = h;
    return p;
}

namespace ref {

/// One step for each row: wx and uh rows x 4 hidden, c and c_next rows x hidden (c_next may be c), h rows x hidden.
/// gates, if not empty, rows x 5 hidden, receives i f g o tanh(c'), for a backward pass.
inline void lstm_step(matrix_view<const std::int16_t> wx, matrix_view<const std::int16_t> uh,
                      matrix_view<const std::int16_t> c, const lstm_params& p, matrix_view<std::int16_t> c_next,
                      matrix_view<std::uint8_t> h, matrix_view<std::int16_t> gates = {}) {
    detail::check_step("ref::lstm_step", 4, 5, wx, uh, c, c_next, h, gates, p.sigmoid, p.h);
    detail::check_cell_bits("ref::lstm_step", p.cell_bits);
    for (index_t i = 0; i < h.rows; ++i)
        for (index_t j = 0; j < h.cols; ++j)
            detail::lstm_element(p, &wx(i, j), &uh(i, j), h.cols, c(i, j), c_next(i, j), h(i, j),
                                 gates.data ? &gates(i, j) : nullptr);
}

/// The same for a GRU: wx and uh rows x 3 hidden; gates, if not empty, rows x 3 hidden: r z n.
inline void gru_step(matrix_view<const std::int16_t> wx, matrix_view<const std::int16_t> uh,
                     matrix_view<const std::int16_t> state, const gru_params& p, matrix_view<std::int16_t> next,
                     matrix_view<std::uint8_t> h, matrix_view<std::int16_t> gates = {}) {
    detail::check_step("ref::gru_step", 3, 3, wx, uh, state, next, h, gates, p.sigmoid, p.h);
    for (index_t i = 0; i < h.rows; ++i)
        for (index_t j = 0; j < h.cols; ++j)
            detail::gru_element(p, &wx(i, j), &uh(i, j), h.cols, state(i, j), next(i, j), h(i, j),
                                gates.data ? &gates(i, j) : nullptr);
}

} // namespace ref
NOTCH_KEYED_END
