// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/quantize.hpp in the region of each instruction set: loops over values and
// codes, 16 at a time, the rest through masks or copies.

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

inline constexpr quantize_kernels quantize_table = {quantize, dequantize, requantize, range};
