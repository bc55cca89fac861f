// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/body/quantize.inl: the range of the finite ones of many values.

NOTCH_OP f32x16 load_repeated(const float* p, index_t n) {
    float lanes[16];
    for (int i = 0; i < 16; ++i) lanes[i] = p[i < n ? i : n - 1];
    return load_f32(lanes);
}

/// Widens r by the finite ones of n values.
inline void range_part(const float* x, index_t count, const range_args& r) {
    f32x16 lo = set_f32(largest_float), hi = set_f32(-largest_float);
    for (index_t i = 0; i < count; i += 16) {
        // Lanes past the end repeat the last value.
        const index_t n = count - i < 16 ? count - i : 16;
        const f32x16 v = n == 16 ? load_f32(x + i) : load_repeated(x + i, n);
        lo = min(lo, finite_or(v, set_f32(largest_float)));
        hi = max(hi, finite_or(v, set_f32(-largest_float)));
    }
    float lanes[32];
    store_f32(lanes, lo, 16);
    store_f32(lanes + 16, hi, 16);
    for (int i = 0; i < 16; ++i) {
        *r.min = lanes[i] < *r.min ? lanes[i] : *r.min;
        *r.max = lanes[16 + i] > *r.max ? lanes[16 + i] : *r.max;
    }
}

inline void range(const range_args& r) {
    *r.min = largest_float;
    *r.max = -largest_float;
    index_t done = 0;
#if NOTCH_ARCH_HAS_GROUPS
    // nmin(x, lo) is lo where x is NaN. An infinity shows in the result; then all is scanned again.
    nfloat lo[4], hi[4];
    NOTCH_UNROLL
    for (int k = 0; k < 4; ++k) {
        lo[k] = set_nfloat(largest_float);
        hi[k] = set_nfloat(-largest_float);
    }
    for (; done + byte_width <= r.n; done += byte_width) {
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) {
            const nfloat x = load_n32(r.x + done + k * native_lanes);
            lo[k] = nmin(x, lo[k]);
            hi[k] = nmax(x, hi[k]);
        }
    }
    float lanes[2 * native_lanes];
    store_nfloat(lanes, nmin(nmin(lo[0], lo[1]), nmin(lo[2], lo[3])));
    store_nfloat(lanes + native_lanes, nmax(nmax(hi[0], hi[1]), nmax(hi[2], hi[3])));
    for (index_t k = 0; k < native_lanes; ++k) {
        *r.min = lanes[k] < *r.min ? lanes[k] : *r.min;
        *r.max = lanes[native_lanes + k] > *r.max ? lanes[native_lanes + k] : *r.max;
    }
    if (*r.min < -largest_float || *r.max > largest_float) {
        *r.min = largest_float;
        *r.max = -largest_float;
        done = 0;
    }
#endif
    if (done < r.n) range_part(r.x + done, r.n - done, r);
}
