// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/body/quantize.inl: dense matrices with one pair of parameters for each column.
// A block of columns has its constants made once, on the stack; then all rows of the block follow.

inline constexpr index_t column_block = 256;

/// Columns [c, end) of all rows, by division.
inline void quantize_columns_part(const quantize_columns_args& q, index_t c, index_t end) {
    float scale[16] = {}, lo[16] = {}, hi[16] = {};
    std::int32_t zero_point[16] = {};
    for (; c < end; c += 16) {
        const index_t n = end - c < 16 ? end - c : 16;
        for (index_t j = 0; j < 16; ++j) {
            const quant_params p = q.params[c + (j < n ? j : 0)];
            scale[j] = p.scale;
            zero_point[j] = p.zero_point;
            lo[j] = static_cast<float>(q.range.lo - p.zero_point);
            hi[j] = static_cast<float>(q.range.hi - p.zero_point);
        }
        const f32x16 s = load_f32(scale), low = load_f32(lo), high = load_f32(hi);
        const acc16 z = load_s32(zero_point), one = set_s32(1);
        for (index_t row = 0; row < q.rows; ++row) {
            const index_t at = row * q.cols + c;
            const f32x16 y = nan_to_zero(round(div(load_f32(q.x + at, n), s)));
            const acc16 steps = to_s32(min(max(y, low), high));
            if (q.codes) store_bytes(static_cast<std::uint8_t*>(q.codes) + at, add(steps, z), n);
            if (q.values) store_f32(q.values + at, mul(to_f32(steps), s), n);
            if (q.mask) store_bytes(q.mask + at, in_range(y, low, high, one, false), n);
        }
    }
}

#if NOTCH_ARCH_HAS_GROUPS
/// The constants of a block of columns.
struct column_constants {
    float high[column_block], low[column_block], first[column_block], last[column_block], scale[column_block];
    std::int32_t zero_point[column_block];
};

/// A group with a NaN: its lanes one by one.
template <bool Codes, bool Values, bool Mask>
NOTCH_NOINLINE void quantize_column_group(const quantize_columns_args& q, index_t row, index_t c) {
    quantize_args one;
    one.range = q.range;
    one.store = q.store;
    one.n = 1;
    for (index_t j = c; j < c + byte_width; ++j) {
        const index_t at = row * q.cols + j;
        one.x = q.x + at;
        one.params = q.params[j];
        one.codes = Codes ? static_cast<std::uint8_t*>(q.codes) + at : nullptr;
        one.values = Values ? q.values + at : nullptr;
        one.mask = Mask ? q.mask + at : nullptr;
        quantize_part(one, 0, 1);
    }
}

/// Columns [c, end) of all rows, at most column_block and whole groups; all scales have an exact reciprocal.
template <bool Codes, bool Values, bool Mask>
void quantize_column_groups(const quantize_columns_args& q, const column_constants& k, index_t c, index_t end) {
    const nvec zero = set_n16(0);
    const bool is_signed = q.store == store_kind::s8;
    for (index_t row = 0; row < q.rows; ++row)
        for (index_t j = c; j < end; j += byte_width) {
            const index_t at = row * q.cols + j;
            nfloat x[4];
            NOTCH_UNROLL
            for (int v = 0; v < 4; ++v) x[v] = load_n32(q.x + at + v * native_lanes);
            if (any_nan(x)) {
                quantize_column_group<Codes, Values, Mask>(q, row, j);
                continue;
            }
            nvec codes[4];
            nmask inside[4];
            NOTCH_UNROLL
            for (int v = 0; v < 4; ++v) {
                const index_t i = j - c + v * native_lanes;
                const nfloat y = divided(x[v], load_n32(k.high + i), load_n32(k.low + i));
                const nfloat clamped = nmin(nmax(y, load_n32(k.first + i)), load_n32(k.last + i));
                const nvec steps = nround(clamped);
                if constexpr (Codes) codes[v] = nadd(steps, load_n32(k.zero_point + i));
                if constexpr (Values)
                    store_nfloat(q.values + at + v * native_lanes, nmul(nto_f32(steps), load_n32(k.scale + i)));
                if constexpr (Mask) inside[v] = nequal(clamped, y);
            }
            if constexpr (Codes)
                store_group<false>(static_cast<std::uint8_t*>(q.codes) + at,
                                   is_signed ? pack_group<true>(codes, zero) : pack_group<false>(codes, zero));
            if constexpr (Mask) store_group<false>(q.mask + at, pack_nmask(inside));
        }
}
#endif

inline void quantize_columns(const quantize_columns_args& q) {
    index_t c = 0;
#if NOTCH_ARCH_HAS_GROUPS
    column_constants k;
    while (c + byte_width <= q.cols && q.rows > 1) { // for one row, division is the faster way
        index_t width = (q.cols - c) / byte_width * byte_width;
        if (width > column_block) width = column_block;
        index_t exact = 0;
        for (; exact < width; ++exact) {
            const quant_params p = q.params[c + exact];
            const std::int32_t lo = q.range.lo - p.zero_point, hi = q.range.hi - p.zero_point;
            const scale_reciprocal r = reciprocal_of(p.scale);
            if (!r.exact || !within_reach(lo, hi)) break;
            k.high[exact] = r.high;
            k.low[exact] = r.low;
            k.first[exact] = first_rounding_to(lo);
            k.last[exact] = last_rounding_to(hi);
            k.scale[exact] = p.scale;
            k.zero_point[exact] = p.zero_point;
        }
        exact = exact / byte_width * byte_width;
        if (exact == 0) {
            quantize_columns_part(q, c, c + byte_width);
            c += byte_width;
            continue;
        }
        const index_t end = c + exact;
        if (q.mask) {
            if (q.values) {
                if (q.codes)
                    quantize_column_groups<true, true, true>(q, k, c, end);
                else
                    quantize_column_groups<false, true, true>(q, k, c, end);
            } else if (q.codes) {
                quantize_column_groups<true, false, true>(q, k, c, end);
            } else {
                quantize_column_groups<false, false, true>(q, k, c, end);
            }
        } else if (q.values) {
            if (q.codes)
                quantize_column_groups<true, true, false>(q, k, c, end);
            else
                quantize_column_groups<false, true, false>(q, k, c, end);
        } else if (q.codes) {
            quantize_column_groups<true, false, false>(q, k, c, end);
        }
        c = end;
    }
#endif
    quantize_columns_part(q, c, q.cols);
}

inline void dequantize_columns(const dequantize_columns_args& d) {
    const auto* codes = static_cast<const std::uint8_t*>(d.codes);
    float scale[column_block] = {};
    std::int32_t zero_point[column_block] = {};
    for (index_t c = 0; c < d.cols; c += column_block) {
        const index_t width = d.cols - c < column_block ? d.cols - c : column_block;
        for (index_t j = 0; j < width; ++j) {
            scale[j] = d.params[c + j].scale;
            zero_point[j] = -d.params[c + j].zero_point;
        }
        for (index_t row = 0; row < d.rows; ++row) {
            const index_t at = row * d.cols + c;
            index_t j = 0;
#if NOTCH_ARCH_HAS_GROUPS
            for (; j + byte_width <= width; j += byte_width) {
                nvec v[4];
                if (d.store == store_kind::u8)
                    load_group<false>(codes + at + j, v);
                else
                    load_group<true>(codes + at + j, v);
                NOTCH_UNROLL
                for (int k = 0; k < 4; ++k) {
                    const index_t i = j + k * native_lanes;
                    store_nfloat(d.x + at + i,
                                 nmul(nto_f32(nadd(v[k], load_n32(zero_point + i))), load_n32(scale + i)));
                }
            }
#endif
            for (; j < width; j += 16) {
                const index_t n = width - j < 16 ? width - j : 16;
                const acc16 v = d.store == store_kind::u8 ? load_u8(codes + at + j, n) : load_s8(codes + at + j, n);
                store_f32(d.x + at + j, mul(to_f32(add(v, load_s32(zero_point + j, n))), load_f32(scale + j, n)), n);
            }
        }
    }
}
