// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/recurrent.hpp: one step of LSTM and GRU cells in integers, after their matrix products. Definition,
// errors and make_recurrent in ref/recurrent.hpp.
//
//     auto to_gates = notch::make_epilogue(u, notch::stage::requantize<notch::symmetric<16>>{h, u_scales,
//     gate_params}); notch::gemm(h_codes, u, to_gates, uh);                         // and wx, for all steps at once
//     notch::lstm_step(wx, uh, c, p, c, h_codes);                    // c and h of the next step
//
// Rows are sequences; they are shared out over ctx.executor. Views are as in ref/recurrent.hpp; the state may be
// updated in place, nothing else overlaps. No workspace, no allocation.
#pragma once

#include <cstdint>

#include <notch/core/view.hpp>
#include <notch/kernels/lanes.hpp>
#include <notch/kernels/split.hpp>
#include <notch/kernels/table.hpp>
#include <notch/ref/recurrent.hpp>

NOTCH_NAMESPACE_BEGIN

/// Consecutive rows. state and next: c of an LSTM, the wide h of a GRU.
struct recurrent_args {
    NOTCH_INLINE recurrent_args() noexcept {}
    const recurrent_params* params = nullptr;
    index_t rows = 0, hidden = 0;
    const std::int16_t *wx = nullptr, *uh = nullptr;
    const std::int32_t* state = nullptr;
    std::int32_t* next = nullptr;
    std::uint8_t* h = nullptr;
    std::int16_t* gates = nullptr; ///< or null
    index_t ld_wx = 0, ld_uh = 0, ld_state = 0, ld_next = 0, ld_h = 0, ld_gates = 0;
};
struct recurrent_kernels {
    void (*lstm)(const recurrent_args&) = nullptr;
    void (*gru)(const recurrent_args&) = nullptr;
};

NOTCH_NAMESPACE_END

#define NOTCH_BODY <notch/kernels/body/recurrent.inl>
#include <notch/kernels/arch/for_each.inl>

NOTCH_KEYED_BEGIN
namespace detail {
NOTCH_KERNELS(recurrent_kernels, recurrent_tables[isa_count], NOTCH_KERNEL_TABLES(recurrent_table));

inline void run_recurrent(void (*kernel)(const recurrent_args&), const recurrent_params& p,
                          matrix_view<const std::int16_t> wx, matrix_view<const std::int16_t> uh,
                          matrix_view<const std::int32_t> state, matrix_view<std::int32_t> next,
                          matrix_view<std::uint8_t> h, matrix_view<std::int16_t> gates, const context& ctx) {
    split(ctx.executor, h.rows, row_grain(16 * h.cols), [&](index_t begin, index_t end) {
        recurrent_args a;
        a.params = &p;
        a.rows = end - begin;
        a.hidden = h.cols;
        a.wx = wx.data + begin * wx.stride;
        a.uh = uh.data + begin * uh.stride;
        a.state = state.data + begin * state.stride;
        a.next = next.data + begin * next.stride;
        a.h = h.data + begin * h.stride;
        a.gates = gates.data ? gates.data + begin * gates.stride : nullptr;
        a.ld_wx = wx.stride;
        a.ld_uh = uh.stride;
        a.ld_state = state.stride;
        a.ld_next = next.stride;
        a.ld_h = h.stride;
        a.ld_gates = gates.stride;
        kernel(a);
    });
}

} // namespace detail

/// ref::lstm_step.
inline void lstm_step(matrix_view<const std::int16_t> wx, matrix_view<const std::int16_t> uh,
                      matrix_view<const std::int32_t> c, const recurrent_params& p, matrix_view<std::int32_t> c_next,
                      matrix_view<std::uint8_t> h, matrix_view<std::int16_t> gates = {}, const context& ctx = {}) {
    detail::check_step("lstm_step", 4, 5, wx, uh, c, c_next, h, gates, p);
    detail::run_recurrent(detail::kernels_for(detail::recurrent_tables, ctx.target).lstm, p, wx, uh, c, c_next, h,
                          gates, ctx);
}

/// ref::gru_step.
inline void gru_step(matrix_view<const std::int16_t> wx, matrix_view<const std::int16_t> uh,
                     matrix_view<const std::int32_t> state, const recurrent_params& p, matrix_view<std::int32_t> next,
                     matrix_view<std::uint8_t> h, matrix_view<std::int16_t> gates = {}, const context& ctx = {}) {
    detail::check_step("gru_step", 3, 3, wx, uh, state, next, h, gates, p);
    detail::run_recurrent(detail::kernels_for(detail::recurrent_tables, ctx.target).gru, p, wx, uh, state, next, h,
                          gates, ctx);
}

NOTCH_KEYED_END
