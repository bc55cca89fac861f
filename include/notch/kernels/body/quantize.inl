// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/quantize.hpp in the region of each instruction set: values to codes and back by
// one pair of parameters. Whole groups of byte_width elements first, where the instruction set has them
// (kernels/body/elementwise.inl), without masks and branches; the rest 16 at a time.

/// The codes, values and mask of elements [i, end), by division.
inline NOTCH_NOINLINE void quantize_part(const quantize_args& q, index_t i, index_t end) {
    const f32x16 scale = set_f32(q.params.scale);
    const f32x16 lo = set_f32(static_cast<float>(q.range.lo - q.params.zero_point));
    const f32x16 hi = set_f32(static_cast<float>(q.range.hi - q.params.zero_point));
    const acc16 zero_point = set_s32(q.params.zero_point);
    const acc16 one = set_s32(1);
    for (; i < end; i += 16) {
        const index_t n = end - i < 16 ? end - i : 16;
        // NaN becomes 0, hence zero_point; the division is the correctly rounded one.
        const f32x16 y = nan_to_zero(round(div(load_f32(q.x + i, n), scale)));
        const f32x16 clamped = min(max(y, lo), hi);
        const acc16 steps = to_s32(clamped);
        if (q.codes) store_bytes(static_cast<std::uint8_t*>(q.codes) + i, add(steps, zero_point), n);
        if (q.values) store_f32(q.values + i, mul(to_f32(steps), scale), n);
        if (q.mask) store_bytes(q.mask + i, in_range(y, lo, hi, one, false), n);
    }
}

#if NOTCH_ARCH_HAS_GROUPS
inline constexpr index_t native_lanes = byte_width / 4;

/// Whether steps in [lo, hi] are in the reach of first_rounding_to and reciprocal_of.
NOTCH_OP bool within_reach(std::int32_t lo, std::int32_t hi) {
    return lo >= -reciprocal_steps && hi <= reciprocal_steps;
}

/// x / scale, to the accuracy of scheme/reciprocal.hpp.
NOTCH_OP nfloat divided(nfloat x, nfloat high, nfloat low) {
    keep_in_register(x);
    return nfma(x, high, nmul(x, low));
}

/// Whether a call that reads and writes so many bytes writes its main output past the caches, and the lines it
/// overwrites need not be read first: if they would not stay in the last cache anyway. If the output is the small part,
/// already if they would take half of it. A cache of more than 32 MB is for many cores.
inline bool is_streaming(index_t bytes, bool small_output) {
    const index_t cache = cpu_caches().l3, share = index_t{32} << 20;
    return bytes >= (cache < share ? cache : share) / (small_output ? 2 : 1);
}

/// How many elements of size bytes come before p is aligned to a vector; -1 if it never is.
NOTCH_OP index_t until_aligned(const void* p, index_t size) {
    const index_t bytes =
        static_cast<index_t>(-reinterpret_cast<std::uintptr_t>(p) % static_cast<std::uintptr_t>(byte_width));
    return bytes % size == 0 ? bytes / size : -1;
}

/// Whole groups of the first n elements with an exact reciprocal; how many elements are done. A group
/// with a NaN goes to quantize_part, so that the others need not look for one in every lane. Streaming: the values, or
/// if there are none the codes, are aligned and go past the caches.
template <bool Signed, bool Codes, bool Values, bool Mask, bool Streaming>
index_t quantize_groups(const quantize_args& q, const scale_reciprocal& reciprocal) {
    const nfloat high = set_nfloat(reciprocal.high), low = set_nfloat(reciprocal.low),
                 scale = set_nfloat(q.params.scale);
    // Clamped between the first real that rounds to the lowest step and the last that rounds to the
    // highest: what the clamp does not change is what the mask keeps.
    const nfloat first = set_nfloat(first_rounding_to(q.range.lo - q.params.zero_point));
    const nfloat last = set_nfloat(last_rounding_to(q.range.hi - q.params.zero_point));
    const nvec zero_point = set_n16(q.params.zero_point);
    index_t i = 0;
    for (; i + byte_width <= q.n; i += byte_width) {
        nfloat x[4];
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) x[k] = load_n32(q.x + i + k * native_lanes);
        if (any_nan(x)) {
            quantize_part(q, i, i + byte_width);
            continue;
        }
        nvec steps[4];
        nmask inside[4];
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) {
            const nfloat y = divided(x[k], high, low);
            const nfloat clamped = nmin(nmax(y, first), last);
            steps[k] = nround(clamped);
            if constexpr (Values)
                store_nfloat<Streaming>(q.values + i + k * native_lanes, nmul(nto_f32(steps[k]), scale));
            if constexpr (Mask) inside[k] = nequal(clamped, y);
        }
        if constexpr (Codes)
            store_group<Streaming && !Values>(static_cast<std::uint8_t*>(q.codes) + i,
                                              pack_group<Signed>(steps, zero_point));
        if constexpr (Mask) store_group<false>(q.mask + i, pack_nmask(inside));
    }
    if constexpr (Streaming) store_fence();
    return i;
}

/// Codes alone that use the whole of their type, with steps within_reach: packing saturates, so nothing need be
/// clamped. Many groups at a time: if there was a NaN or an overflow among them, they are done again.
template <bool Signed, bool Streaming>
index_t quantize_whole(const quantize_args& q, const scale_reciprocal& reciprocal) {
    constexpr index_t most = 64; // with less, looking whether that is so would cost more than a tenth
    const nfloat high = set_nfloat(reciprocal.high), low = set_nfloat(reciprocal.low);
    const nvec zero_point = set_n16(q.params.zero_point);
    const index_t groups = q.n / byte_width;
    for (index_t done = 0; done < groups;) {
        const index_t count = groups - done < most ? groups - done : most;
        const float* x = q.x + done * byte_width;
        std::uint8_t* codes = static_cast<std::uint8_t*>(q.codes) + done * byte_width;
        nvec least = set_n16(0);
        for (index_t i = 0; i < count; ++i, x += byte_width, codes += byte_width) {
            nvec steps[4];
            NOTCH_UNROLL
            for (int k = 0; k < 4; ++k) steps[k] = nround(divided(load_n32(x + k * native_lanes), high, low));
            store_group<Streaming>(codes, pack_unclamped<Signed>(steps, zero_point, least));
        }
        if (unclamped_failed(least)) {
            quantize_args again = q;
            again.n = count * byte_width;
            again.x = x - again.n;
            again.codes = codes - again.n;
            quantize_groups<Signed, true, false, false, false>(again, reciprocal);
        }
        done += count;
    }
    if constexpr (Streaming) store_fence();
    return groups * byte_width;
}

/// The variant without branches that writes what is asked for.
template <bool Signed> index_t quantize_groups(const quantize_args& q, const scale_reciprocal& r, bool streaming) {
    if (!q.values && !q.mask) {
        if (!q.codes) return q.n;
        if (q.range.lo != (Signed ? -128 : 0) || q.range.hi != (Signed ? 127 : 255))
            return quantize_groups<Signed, true, false, false, false>(q, r);
        return streaming ? quantize_whole<Signed, true>(q, r) : quantize_whole<Signed, false>(q, r);
    }
    if (q.codes) {
        if (q.mask && q.values)
            return streaming ? quantize_groups<Signed, true, true, true, true>(q, r)
                             : quantize_groups<Signed, true, true, true, false>(q, r);
        return !q.mask ? quantize_groups<Signed, true, true, false, false>(q, r)
                       : quantize_groups<Signed, true, false, true, false>(q, r);
    }
    return !q.mask     ? quantize_groups<false, false, true, false, false>(q, r)
           : !q.values ? quantize_groups<false, false, false, true, false>(q, r)
                       : quantize_groups<false, false, true, true, false>(q, r);
}

/// The first elements by division, until the main output is aligned, if the call is large enough to stream.
NOTCH_OP index_t streaming_head(const quantize_args& q) {
    const index_t bytes_each = 4 + (q.codes ? 1 : 0) + (q.values ? 4 : 0) + (q.mask ? 1 : 0);
    if (!q.codes || !is_streaming(q.n * bytes_each, !q.values)) return -1;
    return q.values ? until_aligned(q.values, 4) : until_aligned(q.codes, 1);
}
#endif

inline void quantize(const quantize_args& q) {
    index_t done = 0;
#if NOTCH_ARCH_HAS_GROUPS
    if (q.n >= byte_width && within_reach(q.range.lo - q.params.zero_point, q.range.hi - q.params.zero_point)) {
        const scale_reciprocal r = reciprocal_of(q.params.scale);
        if (r.exact) {
            quantize_args rest = q;
            const index_t head = streaming_head(q);
            if (head > 0) {
                quantize_part(q, 0, head);
                done = head;
                rest.x += head;
                rest.n -= head;
                rest.codes = static_cast<std::uint8_t*>(q.codes) + head;
                if (q.values) rest.values += head;
                if (q.mask) rest.mask += head;
            }
            done += q.store == store_kind::s8 ? quantize_groups<true>(rest, r, head >= 0)
                                              : quantize_groups<false>(rest, r, head >= 0);
        }
    }
#endif
    if (done < q.n) quantize_part(q, done, q.n);
}

#if NOTCH_ARCH_HAS_GROUPS
template <bool Signed, bool Streaming> index_t dequantize_groups(const dequantize_args& d, index_t i) {
    const nfloat scale = set_nfloat(d.params.scale);
    const nvec zero_point = set_n32(-d.params.zero_point);
    const auto* codes = static_cast<const std::uint8_t*>(d.codes);
    float* const x = d.x; // copies: the compiler takes the stores for possible changes of d
    const index_t n = d.n;
    for (; i + byte_width <= n; i += byte_width) {
        nvec v[4];
        load_group<Signed>(codes + i, v);
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k)
            store_nfloat<Streaming>(x + i + k * native_lanes, nmul(nto_f32(nadd(v[k], zero_point)), scale));
    }
    if constexpr (Streaming) store_fence();
    return i;
}
#endif

/// Elements [i, end).
inline void dequantize_part(const dequantize_args& d, index_t i, index_t end) {
    const f32x16 scale = set_f32(d.params.scale);
    const acc16 zero_point = set_s32(-d.params.zero_point);
    const auto* codes = static_cast<const std::uint8_t*>(d.codes);
    for (; i < end; i += 16) {
        const index_t n = end - i < 16 ? end - i : 16;
        const acc16 v = d.store == store_kind::u8 ? load_u8(codes + i, n) : load_s8(codes + i, n);
        store_f32(d.x + i, mul(to_f32(add(v, zero_point)), scale), n);
    }
}

inline void dequantize(const dequantize_args& d) {
    index_t done = 0;
#if NOTCH_ARCH_HAS_GROUPS
    const index_t head = is_streaming(d.n * 5, false) ? until_aligned(d.x, 4) : -1;
    if (head >= 0) {
        dequantize_part(d, 0, head);
        done = d.store == store_kind::u8 ? dequantize_groups<false, true>(d, head)
                                         : dequantize_groups<true, true>(d, head);
    } else {
        done = d.store == store_kind::u8 ? dequantize_groups<false, false>(d, 0) : dequantize_groups<true, false>(d, 0);
    }
#endif
    dequantize_part(d, done, d.n);
}

#if NOTCH_ARCH_HAS_GROUPS
template <bool SignedX, bool SignedY> index_t requantize_codes_groups(const requantize_codes_args& r) {
    const nfloat multiplier = set_nfloat(r.multiplier);
    const nfloat first = set_nfloat(first_rounding_to(r.range.lo - r.zero_point));
    const nfloat last = set_nfloat(last_rounding_to(r.range.hi - r.zero_point));
    const nvec x_zero_point = set_n32(-r.x_zero_point), zero_point = set_n16(r.zero_point);
    const auto* x = static_cast<const std::uint8_t*>(r.x);
    index_t i = 0;
    for (; i + byte_width <= r.n; i += byte_width) {
        nvec v[4];
        load_group<SignedX>(x + i, v);
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k)
            v[k] = nround(nmin(nmax(nmul(nto_f32(nadd(v[k], x_zero_point)), multiplier), first), last));
        store_group<false>(static_cast<std::uint8_t*>(r.y) + i, pack_group<SignedY>(v, zero_point));
    }
    return i;
}
#endif

inline void requantize_codes(const requantize_codes_args& r) {
    const f32x16 multiplier = set_f32(r.multiplier);
    const f32x16 lo = set_f32(static_cast<float>(r.range.lo - r.zero_point));
    const f32x16 hi = set_f32(static_cast<float>(r.range.hi - r.zero_point));
    const acc16 x_zero_point = set_s32(-r.x_zero_point), zero_point = set_s32(r.zero_point);
    const auto* x = static_cast<const std::uint8_t*>(r.x);
    index_t i = 0;
#if NOTCH_ARCH_HAS_GROUPS
    if (within_reach(r.range.lo - r.zero_point, r.range.hi - r.zero_point))
        i = r.x_store == store_kind::u8 ? r.store == store_kind::u8 ? requantize_codes_groups<false, false>(r)
                                                                    : requantize_codes_groups<false, true>(r)
            : r.store == store_kind::u8 ? requantize_codes_groups<true, false>(r)
                                        : requantize_codes_groups<true, true>(r);
#endif
    for (; i < r.n; i += 16) {
        const index_t n = r.n - i < 16 ? r.n - i : 16;
        const acc16 v = r.x_store == store_kind::u8 ? load_u8(x + i, n) : load_s8(x + i, n);
        const f32x16 y = min(max(mul(to_f32(add(v, x_zero_point)), multiplier), lo), hi);
        store_bytes(static_cast<std::uint8_t*>(r.y) + i, add(to_s32(y), zero_point), n);
    }
}

inline void straight_through(const straight_through_args& s) {
    index_t i = 0;
#if NOTCH_ARCH_HAS_GROUPS
    for (; i + byte_width <= s.n; i += byte_width) {
        nfloat x[4];
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) x[k] = load_n32(s.dy + i + k * native_lanes);
        keep_where(s.mask + i, x);
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) store_nfloat(s.dx + i + k * native_lanes, x[k]);
    }
#endif
    for (; i < s.n; ++i) s.dx[i] = s.mask[i] ? s.dy[i] : 0.0f;
}

#include <notch/kernels/body/quantize_columns.inl>
#include <notch/kernels/body/range.inl>
#include <notch/kernels/body/requantize.inl>

inline constexpr quantize_kernels quantize_table = {
    quantize, dequantize, requantize, range, quantize_columns, dequantize_columns, requantize_codes, straight_through};
