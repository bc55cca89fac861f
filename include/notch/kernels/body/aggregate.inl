// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/aggregate.hpp in the region of each instruction set: one row of the graph. Up to 64 channels stay
// in registers over all neighbours, which are taken in pairs: a sum of two 16-bit products is one instruction.

/// Channels c ... c + 16 * Groups, or the n of a last group.
template <int Groups> NOTCH_OP void aggregate_channels(const aggregate_args& p, index_t c, index_t n) {
    acc16 acc[Groups];
    NOTCH_UNROLL
    for (int k = 0; k < Groups; ++k) acc[k] = set_s32(p.start);
    for (index_t e = 0; e < p.degree; e += 2) {
        const bool pair = e + 1 < p.degree;
        const std::uint8_t* a = p.x + p.neighbours[e] * p.x_stride + c;
        const std::uint8_t* b = pair ? p.x + p.neighbours[e + 1] * p.x_stride + c : a;
        const std::int32_t wa = p.weights ? p.weights[e] : 1, wb = !pair ? 0 : p.weights ? p.weights[e + 1] : 1;
        const acc16 w = set_s32(static_cast<std::int32_t>(static_cast<std::uint32_t>(wb) << 16) | (wa & 0xffff));
        NOTCH_UNROLL
        for (int k = 0; k < Groups; ++k)
            acc[k] = add(acc[k], mul_pairs(load_u8(a + 16 * k, n), load_u8(b + 16 * k, n), w));
    }
    const f32x16 multiplier = set_f32(p.multiplier);
    NOTCH_UNROLL
    for (int k = 0; k < Groups; ++k) {
        const index_t at = c + 16 * k;
        if (p.store == store_kind::s32) {
            store_s32(static_cast<std::int32_t*>(p.y) + at, acc[k], n);
            continue;
        }
        const f32x16 y = mul(to_f32(acc[k]), multiplier);
        if (p.store == store_kind::f32) {
            store_f32(static_cast<float*>(p.y) + at, y, n);
            continue;
        }
        const f32x16 lo = set_f32(static_cast<float>(p.lo - p.y_zero_point)),
                     hi = set_f32(static_cast<float>(p.hi - p.y_zero_point));
        store_bytes(static_cast<std::uint8_t*>(p.y) + at, add(to_s32(min(max(y, lo), hi)), set_s32(p.y_zero_point)), n);
    }
}

inline void aggregate_row(const aggregate_args& p) {
    index_t c = 0;
    for (; c + 64 <= p.channels; c += 64) aggregate_channels<4>(p, c, 16);
    for (; c + 16 <= p.channels; c += 16) aggregate_channels<1>(p, c, 16);
    if (c < p.channels) aggregate_channels<1>(p, c, p.channels - c);
}

inline constexpr aggregate_kernels aggregate_table = {aggregate_row};
