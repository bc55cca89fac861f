// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/pool.hpp in the region of each instruction set.

static void max_pool_u8(const pool_args& p) {
    for (index_t x = 0; x < p.pixels; ++x) {
        const index_t at = x * p.in_step;
        for (index_t c = 0; c < p.channels; c += byte_width) {
            const index_t n = p.channels - c < byte_width ? p.channels - c : byte_width;
            nvec best = load_nbytes<false>(p.tap[0] + at + c, n);
            for (index_t t = 1; t < p.taps; ++t) best = nmax_u8(best, load_nbytes<false>(p.tap[t] + at + c, n));
            store_nbytes<false>(p.out + x * p.out_step + c, best, n);
        }
    }
}

static void max_pool_f32(const pool_args& p) {
    for (index_t x = 0; x < p.pixels; ++x) {
        auto* out = reinterpret_cast<float*>(p.out + x * p.out_step);
        for (index_t c = 0; c < p.channels; c += 16) {
            const index_t n = p.channels - c < 16 ? p.channels - c : 16;
            const auto load = [&](index_t t) { return load_f32(reinterpret_cast<const float*>(p.tap[t] + x * p.in_step) + c, n); };
            f32x16 best = load(0);
            for (index_t t = 1; t < p.taps; ++t) best = max(load(t), best);
            store_f32(out + c, best, n);
        }
    }
}

static void average_pool_u8(const pool_args& p) {
    const f32x16 multiplier = set_f32(p.multiplier);
    const f32x16 lo = set_f32(static_cast<float>(p.lo - p.y_zero_point));
    const f32x16 hi = set_f32(static_cast<float>(p.hi - p.y_zero_point));
    const acc16 start = set_s32(static_cast<std::int32_t>(-p.taps * p.x_zero_point));
    for (index_t x = 0; x < p.pixels; ++x) {
        const index_t at = x * p.in_step;
        for (index_t c = 0; c < p.channels; c += 16) {
            const index_t n = p.channels - c < 16 ? p.channels - c : 16;
            acc16 sum = start;
            for (index_t t = 0; t < p.taps; ++t) sum = add(sum, load_u8(p.tap[t] + at + c, n));
            const f32x16 y = min(max(mul(to_f32(sum), multiplier), lo), hi);
            store_bytes(p.out + x * p.out_step + c, add(to_s32(y), set_s32(p.y_zero_point)), n);
        }
    }
}

inline constexpr pool_kernels pool_table = {max_pool_u8, max_pool_f32, average_pool_u8};
