// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/pool.hpp in the region of each instruction set.

inline void max_pool_u8(const pool_args& p) {
    for (index_t x = 0; x < p.pixels; ++x) {
        const index_t at = x * p.in_step;
        index_t c = 0;
        for (; c + byte_width <= p.channels; c += byte_width) {
            nvec best = load_nbytes<true>(p.tap[0] + at + c, byte_width);
            for (index_t t = 1; t < p.taps; ++t) best = nmax_u8(best, load_nbytes<true>(p.tap[t] + at + c, byte_width));
            store_nbytes<true>(p.out + x * p.out_step + c, best, byte_width);
        }
        if (c < p.channels) {
            const index_t n = p.channels - c;
            nvec best = load_nbytes<false>(p.tap[0] + at + c, n);
            for (index_t t = 1; t < p.taps; ++t) best = nmax_u8(best, load_nbytes<false>(p.tap[t] + at + c, n));
            store_nbytes<false>(p.out + x * p.out_step + c, best, n);
        }
    }
}

inline void max_pool_f32(const pool_args& p) {
    for (index_t x = 0; x < p.pixels; ++x) {
        auto* out = reinterpret_cast<float*>(p.out + x * p.out_step);
        const auto tap = [&](index_t t) { return reinterpret_cast<const float*>(p.tap[t] + x * p.in_step); };
        index_t c = 0;
        for (; c + 16 <= p.channels; c += 16) {
            f32x16 best = load_f32(tap(0) + c);
            for (index_t t = 1; t < p.taps; ++t) best = max(load_f32(tap(t) + c), best);
            store_f32(out + c, best, 16);
        }
        if (c < p.channels) {
            const index_t n = p.channels - c;
            f32x16 best = load_f32(tap(0) + c, n);
            for (index_t t = 1; t < p.taps; ++t) best = max(load_f32(tap(t) + c, n), best);
            store_f32(out + c, best, n);
        }
    }
}

#if NOTCH_ARCH_HAS_GROUPS
/// The average of all taps for a group of channels. 16-bit sums hold 257 codes.
NOTCH_OP nvec average_group(const pool_args& p, index_t at, nfloat multiplier, nfloat lo, nfloat hi, nvec start,
                            nvec zero_point) {
    nvec sum[4] = {start, start, start, start};
    for (index_t t = 0; t < p.taps;) {
        const index_t stop = p.taps - t < 257 ? p.taps : t + 257;
        nvec part[2] = {set_n32(0), set_n32(0)};
        for (; t < stop; ++t) {
            nvec w[2];
            widen_group(load_nbytes<true>(p.tap[t] + at, byte_width), w);
            part[0] = nadd16(part[0], w[0]);
            part[1] = nadd16(part[1], w[1]);
        }
        nvec wide[4];
        widen_n16(part[0], wide[0], wide[1]);
        widen_n16(part[1], wide[2], wide[3]);
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) sum[k] = nadd(sum[k], wide[k]);
    }
    NOTCH_UNROLL
    for (int k = 0; k < 4; ++k) sum[k] = nround(nmin(nmax(nmul(nto_f32(sum[k]), multiplier), lo), hi));
    return pack_group<false>(sum, zero_point);
}
#endif

inline void average_pool_u8(const pool_args& p) {
    const f32x16 multiplier = set_f32(p.multiplier);
    const f32x16 lo = set_f32(static_cast<float>(p.lo - p.y_zero_point));
    const f32x16 hi = set_f32(static_cast<float>(p.hi - p.y_zero_point));
    const acc16 start = set_s32(static_cast<std::int32_t>(-p.taps * p.x_zero_point));
    for (index_t x = 0; x < p.pixels; ++x) {
        const index_t at = x * p.in_step;
        index_t c = 0;
#if NOTCH_ARCH_HAS_GROUPS
        for (; c + byte_width <= p.channels; c += byte_width)
            store_group<false>(p.out + x * p.out_step + c,
                               average_group(p, at + c, set_nfloat(p.multiplier),
                                             set_nfloat(static_cast<float>(p.lo - p.y_zero_point)),
                                             set_nfloat(static_cast<float>(p.hi - p.y_zero_point)),
                                             set_n32(static_cast<std::int32_t>(-p.taps * p.x_zero_point)),
                                             set_n16(p.y_zero_point)));
#endif
        for (; c < p.channels; c += 16) {
            const index_t n = p.channels - c < 16 ? p.channels - c : 16;
            acc16 sum = start;
            for (index_t t = 0; t < p.taps; ++t) sum = add(sum, load_u8(p.tap[t] + at + c, n));
            const f32x16 y = min(max(mul(to_f32(sum), multiplier), lo), hi);
            store_bytes(p.out + x * p.out_step + c, add(to_s32(y), set_s32(p.y_zero_point)), n);
        }
    }
}

inline constexpr pool_kernels pool_table = {max_pool_u8, max_pool_f32, average_pool_u8};
