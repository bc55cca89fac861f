// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/arch/<isa>.hpp inside its region: loops over values and codes, 16 at a time,
// the rest through masks or copies.

static inline f32x16 load_repeated(const float* p, index_t n) {
    float lanes[16];
    for (int i = 0; i < 16; ++i) lanes[i] = p[i < n ? i : n - 1];
    return load_f32(lanes);
}

static void requantize(const requantize_args& r) {
    const index_t size = store_size(r.ep.store);
    const bool codes = r.ep.store == store_kind::u8 || r.ep.store == store_kind::s8;
    const f32x16 lo = set_f32(static_cast<float>(r.ep.lo - r.ep.zero_point));
    const f32x16 hi = set_f32(static_cast<float>(r.ep.hi - r.ep.zero_point));
    for (index_t i = 0; i < r.rows; ++i) {
        const std::int32_t* acc = r.acc + i * r.lda;
        std::uint8_t* out = static_cast<std::uint8_t*>(r.out) + i * r.ldc * size;
        for (index_t c = 0; c < r.cols; c += 16) {
            const index_t cols = r.cols - c < 16 ? r.cols - c : 16;
            const acc16 v = load_s32(acc + c, cols);
            store_any(r.ep, v, c, cols, out + c * size);
            if (!r.mask) continue;
            std::uint8_t* mask = r.mask + i * r.cols + c;
            if (codes && r.ep.mode == requant_mode::float_scale) {
                const f32x16 y = round(mul(to_f32(v), load_f32(r.ep.multiplier + c)));
                store_bytes(mask, in_range(y, lo, hi, v, r.ep.relu), cols);
            } else if (codes) {
                const code_range all{-2147483647 - 1, 2147483647};
                for (index_t j = 0; j < cols; ++j) {
                    const std::int32_t code = requantize_fixed(r.ep, acc[c + j], c + j, all);
                    mask[j] = (r.ep.relu ? acc[c + j] > 0 : code >= r.ep.lo) && code <= r.ep.hi;
                }
            } else if (r.ep.store == store_kind::f32) {
                const f32x16 y = mul(to_f32(v), load_f32(r.ep.multiplier + c));
                store_bytes(mask, in_range(y, set_f32(r.ep.f_lo), set_f32(r.ep.f_hi), v, r.ep.relu), cols);
            } else {
                for (index_t j = 0; j < cols; ++j) mask[j] = 1;
            }
        }
    }
}

static void quantize(const quantize_args& q) {
    const f32x16 scale = set_f32(q.params.scale);
    const f32x16 lo = set_f32(static_cast<float>(q.range.lo - q.params.zero_point));
    const f32x16 hi = set_f32(static_cast<float>(q.range.hi - q.params.zero_point));
    const acc16 zero_point = set_s32(q.params.zero_point);
    const acc16 one = set_s32(1);
    for (index_t i = 0; i < q.n; i += 16) {
        const index_t n = q.n - i < 16 ? q.n - i : 16;
        // NaN becomes 0, hence zero_point; the division is the correctly rounded one.
        const f32x16 y = nan_to_zero(round(div(load_f32(q.x + i, n), scale)));
        const f32x16 clamped = min(max(y, lo), hi);
        const acc16 steps = to_s32(clamped);
        if (q.codes) store_bytes(static_cast<std::uint8_t*>(q.codes) + i, add(steps, zero_point), n);
        if (q.values) store_f32(q.values + i, mul(to_f32(steps), scale), n);
        if (q.mask) store_bytes(q.mask + i, in_range(y, lo, hi, one, false), n);
    }
}

static void dequantize(const dequantize_args& d) {
    const f32x16 scale = set_f32(d.params.scale);
    const acc16 zero_point = set_s32(-d.params.zero_point);
    const auto* codes = static_cast<const std::uint8_t*>(d.codes);
    for (index_t i = 0; i < d.n; i += 16) {
        const index_t n = d.n - i < 16 ? d.n - i : 16;
        const acc16 v = d.store == store_kind::u8 ? load_u8(codes + i, n) : load_s8(codes + i, n);
        store_f32(d.x + i, mul(to_f32(add(v, zero_point)), scale), n);
    }
}

static void range(const range_args& r) {
    constexpr float big = 3.402823466e+38f; // FLT_MAX
    f32x16 lo = set_f32(big), hi = set_f32(-big);
    for (index_t i = 0; i < r.n; i += 16) {
        // Lanes past the end repeat the last value.
        const index_t n = r.n - i < 16 ? r.n - i : 16;
        const f32x16 v = n == 16 ? load_f32(r.x + i) : load_repeated(r.x + i, n);
        lo = min(lo, finite_or(v, set_f32(big)));
        hi = max(hi, finite_or(v, set_f32(-big)));
    }
    float lanes[32];
    store_f32(lanes, lo, 16);
    store_f32(lanes + 16, hi, 16);
    *r.min = big;
    *r.max = -big;
    for (int i = 0; i < 16; ++i) {
        *r.min = lanes[i] < *r.min ? lanes[i] : *r.min;
        *r.max = lanes[16 + i] > *r.max ? lanes[16 + i] : *r.max;
    }
}

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

static void add_u8(const add_args& p) {
    const f32x16 multiplier = set_f32(p.multiplier);
    const f32x16 lo = set_f32(static_cast<float>(p.lo - p.y_zero_point));
    const f32x16 hi = set_f32(static_cast<float>(p.hi - p.y_zero_point));
    const acc16 start = set_s32(-(p.a_zero_point * p.ma + p.b_zero_point * p.mb));
    const acc16 y_zero_point = set_s32(p.y_zero_point);
    const acc16 weights = set_s32(p.ma | p.mb << 16);
    index_t i = 0;
    // A whole vector of bytes at a time, if no sum can leave the range of int32 when rounded.
    constexpr float most_codes = 2.0f * 2.0f * 255.0f;
    if (most_codes * static_cast<float>(p.ma > p.mb ? p.ma : p.mb) * p.multiplier < 2147480000.0f) {
        epilogue_args ep;
        ep.store = store_kind::u8;
        ep.zero_point = p.y_zero_point;
        ep.lo = p.lo;
        ep.hi = p.hi;
        const nvec offset = set_n32(-(p.a_zero_point * p.ma + p.b_zero_point * p.mb));
        const nfloat m = set_nfloat(p.multiplier), scales[4] = {m, m, m, m};
        for (; i + byte_width <= p.n; i += byte_width) {
            // Interleaved with zeros, each dword is the pair of 16-bit lanes a, b.
            nvec t[4] = {load_nbytes<true>(p.a + i, byte_width), set_n32(0), load_nbytes<true>(p.b + i, byte_width),
                         set_n32(0)};
            interleave(t);
            NOTCH_UNROLL
            for (int k = 0; k < 4; ++k) t[k] = nadd(offset, nmul_pairs(t[k], p.ma | p.mb << 16));
            store_nbytes<true>(p.y + i, pack_ncodes(ep, t, scales), byte_width);
        }
    }
    for (; i < p.n; i += 16) {
        const index_t n = p.n - i < 16 ? p.n - i : 16;
        const acc16 acc = add(start, mul_pairs(load_u8(p.a + i, n), load_u8(p.b + i, n), weights));
        const f32x16 y = min(max(mul(to_f32(acc), multiplier), lo), hi);
        store_bytes(p.y + i, add(to_s32(y), y_zero_point), n);
    }
}

inline constexpr kernel_table table = {
    isa_name,   gemm_name,   gemm_u8s8,   depthwise_u8s8,  requantize,
    quantize,   dequantize,  range,       max_pool_u8,     max_pool_f32,
    average_pool_u8, add_u8,
};
