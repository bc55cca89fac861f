// SPDX-License-Identifier: Apache-2.0
//
// notch/layers/frozen_recurrent.hpp: LSTM and GRU for inference: u8 codes in, u8 codes of h out, 8-bit weights, 16-bit
// gates, 32-bit state (ref/recurrent.hpp).
//
//     notch::frozen_lstm lstm(spec);                                   // freeze(layer, x) of layers/recurrent.hpp
//     lstm.forward(x, h, ctx);                                         // whole sequences: n x 1 x steps x channels
//
//     lstm.start(state, h);                                            // or step by step, in the caller's memory
//     for (;;) lstm.step(frame, state, h, ctx);                        // or resume, for several steps at once
//
// All give the same codes. They are const, thread-safe (each thread with its own context), and allocate nothing.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <notch/core/workspace.hpp>
#include <notch/kernels/gemm.hpp>
#include <notch/kernels/recurrent.hpp>
#include <notch/layers/frozen.hpp>

NOTCH_NAMESPACE_BEGIN

/// A quantized LSTM or GRU as plain data. Rows of the weights are gates x hidden, in the order of PyTorch: i f g o for
/// an LSTM, r z n for a GRU. (ONNX has i o f g and z r n.)
struct recurrent_spec {
    index_t in_channels = 0, hidden = 0;
    std::int32_t weight_bits = 8;                   ///< 1..8, every weight fits
    buffer<std::int8_t> weights, recurrent_weights; ///< [gates hidden][in_channels], [gates hidden][hidden]
    buffer<float> w_scales, u_scales;               ///< one, or one for each row
    buffer<std::int32_t> bias, recurrent_bias;      ///< on the grids x.scale * w_scale, h.scale * u_scale; or empty
    quant_params x, h;                              ///< u8; h.scale 2^-15 ... 1
    float cell_scale = 0; ///< of an LSTM's c: 0 for 31 bits, or the unit of 16, a power of two 2^-15 ... 2^-8

    NOTCH_INLINE_SPECIAL_MEMBERS(recurrent_spec);
};

/// Where forward leaves what a backward pass needs, for row i * steps + t; every view dense.
struct recurrent_trace {
    matrix_view<std::int16_t> uh, gates; ///< gates: what lstm_step and gru_step give
    matrix_view<std::int32_t> state;
};

NOTCH_NAMESPACE_END

NOTCH_KEYED_BEGIN

/// The cells that frozen_recurrent and recurrent_layer are made of.
struct lstm_cell {
    static constexpr index_t gates = 4, kept = 5; ///< blocks of the products; of recurrent_trace::gates
    template <class... Args> static void step(Args&&... args) { lstm_step(std::forward<Args>(args)...); }
};
struct gru_cell {
    static constexpr index_t gates = 3, kept = 3;
    template <class... Args> static void step(Args&&... args) { gru_step(std::forward<Args>(args)...); }
};

namespace detail {

/// What is wrong with the extents and bits of a recurrent_spec; empty if nothing is.
inline std::string extent_fault(const recurrent_spec& s, index_t gates) {
    if (s.in_channels < 1 || s.in_channels > max_channels || s.hidden < 1 || s.hidden > max_channels / gates)
        return cat(s.in_channels, " in_channels and ", s.hidden, " hidden, must be 1..", max_channels, " and 1..",
                   max_channels / gates);
    if (s.weight_bits < 1 || s.weight_bits > 8) return cat("weight_bits is ", s.weight_bits, ", must be 1..8");
    return {};
}
/// What is wrong with a recurrent_spec; empty if nothing is. Layers, save_recurrent and load_recurrent ask it.
inline std::string spec_fault(const recurrent_spec& s, index_t gates) {
    if (std::string fault = extent_fault(s, gates); !fault.empty()) return fault;
    if (!(s.x.scale > 0.0f) || !std::isfinite(s.x.scale))
        return cat("x.scale is ", s.x.scale, ", must be finite and > 0");
    if (!(s.h.scale >= 0x1p-15f && s.h.scale <= 1.0f)) return cat("h.scale is ", s.h.scale, ", must be 2^-15..1");
    for (std::int32_t z : {s.x.zero_point, s.h.zero_point})
        if (z < 0 || z > 255) return cat("a zero_point is ", z, ", must be 0..255");
    if (s.cell_scale != 0.0f && (gates != lstm_cell::gates || cell_shift_of(s.cell_scale) < 0))
        return cat("cell_scale is ", s.cell_scale, ", must be 0, or for an LSTM a power of two 2^-15..2^-8");
    const index_t rows = gates * s.hidden;
    const struct {
        const char* name;
        const buffer<std::int8_t>& weights;
        const buffer<float>& scales;
        const buffer<std::int32_t>& bias;
        index_t cols;
    } products[] = {{"input", s.weights, s.w_scales, s.bias, s.in_channels},
                    {"recurrent", s.recurrent_weights, s.u_scales, s.recurrent_bias, s.hidden}};
    const int least = -(1 << (s.weight_bits - 1)), most = -least - 1;
    for (const auto& p : products) {
        if (p.weights.size() != rows * p.cols)
            return cat(p.weights.size(), " ", p.name, " weights, expected ", rows * p.cols);
        for (std::int8_t w : p.weights)
            if (w < least || w > most)
                return cat(p.name, " weight ", static_cast<int>(w), " does not fit ", s.weight_bits, " bits");
        if (p.scales.size() != 1 && p.scales.size() != rows)
            return cat(p.scales.size(), " ", p.name, " scales for ", rows, " rows of weights");
        for (float scale : p.scales)
            if (!(scale > 0.0f) || !std::isfinite(scale))
                return cat("a scale of the ", p.name, " weights is ", scale, ", must be finite and > 0");
        if (!p.bias.empty() && p.bias.size() != rows)
            return cat(p.bias.size(), " ", p.name, " biases for ", rows, " rows of weights");
    }
    return {};
}

} // namespace detail

/// Cell: lstm_cell or gru_cell.
template <class Cell> class frozen_recurrent {
public:
    using s16 = std::int16_t;
    using s32 = std::int32_t;
    static constexpr index_t gates = Cell::gates;

    frozen_recurrent() = default;
    explicit frozen_recurrent(recurrent_spec spec) : spec_(std::move(spec)) {
        if (const std::string fault = detail::spec_fault(spec_, gates); !fault.empty())
            fail(errc::invalid_argument, detail::cat("frozen_recurrent: ", fault));
        const index_t rows = gates * spec_.hidden;
        params_ = make_recurrent(spec_.h, spec_.cell_scale);
        w_ = pack({spec_.weights.data(), rows, spec_.in_channels});
        u_ = pack({spec_.recurrent_weights.data(), rows, spec_.hidden});
        to_wx_ = make_epilogue(w_, stage::bias{spec_.bias},
                               stage::requantize<symmetric<16>>{spec_.x, spec_.w_scales, gate_params});
        to_uh_ = make_epilogue(u_, stage::bias{spec_.recurrent_bias},
                               stage::requantize<symmetric<16>>{spec_.h, spec_.u_scales, gate_params});
    }
    [[nodiscard]] const recurrent_spec& spec() const noexcept { return spec_; }

    /// Of forward with n sequences; 1 step is also what step needs.
    [[nodiscard]] index_t workspace_size(index_t n, index_t steps) const {
        const index_t rows = detail::checked_size("frozen_recurrent.workspace_size", n, steps + 1, gates, spec_.hidden);
        const index_t states = detail::checked_size("frozen_recurrent.workspace_size", n, 1, 1, spec_.hidden);
        return detail::workspace_bytes(2 * rows + 5 * states + 64);
    }

    /// The state and the h before the first step: real 0. Rows are sequences.
    void start(matrix_view<s32> state, matrix_view<std::uint8_t> h) const {
        check_states("frozen_recurrent.start", state, h);
        for (index_t i = 0; i < h.rows; ++i)
            for (index_t j = 0; j < h.cols; ++j) {
                state(i, j) = 0;
                h(i, j) = static_cast<std::uint8_t>(spec_.h.zero_point);
            }
    }

    /// One step of each sequence: x rows x in_channels; state (c of an LSTM, the 31-bit h of a GRU) and h, both rows x
    /// hidden, are those of the step before and become those of this one.
    void step(matrix_view<const std::uint8_t> x, matrix_view<s32> state, matrix_view<std::uint8_t> h,
              const context& ctx) const {
        constexpr std::string_view where = "frozen_recurrent.step";
        check_states(where, state, h);
        detail::check_equal(where, "the number of rows of x", x.rows, h.rows);
        detail::check_equal(where, "the number of columns of x", x.cols, spec_.in_channels);
        auto* memory = reinterpret_cast<s16*>(detail::workspace_begin(where, "frozen_recurrent.workspace_size",
                                                                      ctx.workspace, workspace_size(h.rows, 1)));
        const index_t cols = gates * spec_.hidden;
        const matrix_view<s16> wx(memory, h.rows, cols), uh(memory + h.rows * cols, h.rows, cols);
        gemm(x, w_, to_wx_, wx, ctx);
        gemm(h, u_, to_uh_, uh, ctx);
        Cell::step(wx, uh, state, params_, state, h, matrix_view<s16>{}, ctx);
    }

    /// All steps of n sequences from the start: x n x 1 x steps x in_channels and y n x 1 x steps x hidden, dense. The
    /// products with x are one product of n * steps rows.
    void forward(nhwc_view<const std::uint8_t> x, nhwc_view<std::uint8_t> y, const context& ctx,
                 const recurrent_trace* trace = nullptr) const {
        constexpr std::string_view where = "frozen_recurrent.forward";
        check_sequences(where, x, y);
        const index_t n = x.n, hidden = spec_.hidden;
        if (n == 0 || x.w == 0) return;
        if (trace) check_trace(where, *trace, n * x.w);
        auto* const memory =
            detail::workspace_begin(where, "frozen_recurrent.workspace_size", ctx.workspace, workspace_size(n, x.w));
        const matrix_view<s32> state(reinterpret_cast<s32*>(memory), n, hidden);
        const matrix_view<std::uint8_t> h(reinterpret_cast<std::uint8_t*>(state.data + n * hidden), n, hidden);
        start(state, h);
        run(x, y, state, h, reinterpret_cast<s16*>(memory + detail::round_up(5 * n * hidden, 64)), trace, ctx);
    }

    /// The same for steps that follow others: state and h, n x hidden, are those of the step before (start), and become
    /// those of the last one. A stream may so be cut into pieces of any length.
    void resume(nhwc_view<const std::uint8_t> x, matrix_view<s32> state, matrix_view<std::uint8_t> h,
                nhwc_view<std::uint8_t> y, const context& ctx) const {
        constexpr std::string_view where = "frozen_recurrent.resume";
        check_sequences(where, x, y);
        check_states(where, state, h);
        detail::check_equal(where, "the number of rows of h", h.rows, x.n);
        if (x.n == 0 || x.w == 0) return;
        auto* const memory =
            detail::workspace_begin(where, "frozen_recurrent.workspace_size", ctx.workspace, workspace_size(x.n, x.w));
        run(x, y, state, h, reinterpret_cast<s16*>(memory), nullptr, ctx);
        for (index_t i = 0; i < x.n; ++i)
            std::memcpy(&h(i, 0), y.data + (i * x.w + x.w - 1) * y.c, static_cast<std::size_t>(y.c));
    }

private:
    void check_sequences(std::string_view where, const nhwc_view<const std::uint8_t>& x,
                         const nhwc_view<std::uint8_t>& y) const {
        detail::check_view(where, "x", x);
        detail::check_view(where, "y", y);
        detail::check_equal(where, "the height of x", x.h, 1);
        detail::check_equal(where, "the height of y", y.h, 1);
        detail::check_equal(where, "the number of channels of x", x.c, spec_.in_channels);
        detail::check_equal(where, "the number of channels of y", y.c, spec_.hidden);
        detail::check_equal(where, "the batch of y", y.n, x.n);
        detail::check_equal(where, "the number of steps of y", y.w, x.w);
        if (!x.is_dense() || !y.is_dense()) fail(errc::invalid_argument, detail::cat(where, ": x and y must be dense"));
    }
    /// memory: of the products. Without a trace the state is updated in place.
    void run(nhwc_view<const std::uint8_t> x, nhwc_view<std::uint8_t> y, matrix_view<s32> state,
             matrix_view<const std::uint8_t> h, s16* memory, const recurrent_trace* trace, const context& ctx) const {
        const index_t n = x.n, steps = x.w, hidden = spec_.hidden, cols = gates * hidden;
        s16 *const wx = memory, *const uh = wx + n * steps * cols;
        gemm(matrix_view<const std::uint8_t>(x.data, n * steps, x.c), w_, to_wx_, matrix_view<s16>(wx, n * steps, cols),
             ctx);
        for (index_t t = 0; t < steps; ++t) {
            const auto rows_at = [&](auto* base, index_t width) {
                return matrix_view(base + t * width, n, width, steps * width);
            };
            const matrix_view<s16> product = trace ? rows_at(trace->uh.data, cols) : matrix_view<s16>(uh, n, cols);
            const matrix_view<s32> next = trace ? rows_at(trace->state.data, hidden) : state;
            const matrix_view<std::uint8_t> out = rows_at(y.data, hidden);
            gemm(h, u_, to_uh_, product, ctx);
            Cell::step(rows_at(wx, cols), product, state, params_, next, out,
                       trace ? rows_at(trace->gates.data, Cell::kept * hidden) : matrix_view<s16>{}, ctx);
            h = out;
            state = next;
        }
    }
    void check_states(std::string_view where, const matrix_view<s32>& state, const matrix_view<std::uint8_t>& h) const {
        detail::check_view(where, "the state", state);
        detail::check_view(where, "h", h);
        detail::check_equal(where, "the number of columns of h", h.cols, spec_.hidden);
        detail::check_equal(where, "the number of columns of the state", state.cols, spec_.hidden);
        detail::check_equal(where, "the number of rows of the state", state.rows, h.rows);
    }
    void check_trace(std::string_view where, const recurrent_trace& t, index_t rows) const {
        const auto check = [&](const char* name, const auto& v, index_t blocks) {
            detail::check_view(where, name, v);
            detail::check_equal(where, name, v.rows, rows);
            detail::check_equal(where, name, v.cols, blocks * spec_.hidden);
            detail::check_equal(where, name, v.stride, v.cols);
        };
        check("trace.uh", t.uh, gates);
        check("trace.gates", t.gates, Cell::kept);
        check("trace.state", t.state, 1);
    }

    recurrent_spec spec_;
    recurrent_params params_;
    packed_weights w_, u_;
    epilogue<s16> to_wx_, to_uh_;
};

using frozen_lstm = frozen_recurrent<lstm_cell>;
using frozen_gru = frozen_recurrent<gru_cell>;

NOTCH_KEYED_END
