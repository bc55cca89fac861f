// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/body/quantize.inl: stored accumulators to what an epilogue makes of them, and the
// mask of the backward pass.

/// A run of one row: n results of the channels from channel on.
inline void requantize_part(const epilogue_args& ep, const std::int32_t* acc, index_t channel, index_t n,
                            std::uint8_t* out, std::uint8_t* mask) {
    const index_t size = store_size(ep.store);
    const bool real = ep.store == store_kind::f32 || ep.store == store_kind::bf16;
    const f32x16 lo = set_f32(static_cast<float>(ep.lo - ep.zero_point));
    const f32x16 hi = set_f32(static_cast<float>(ep.hi - ep.zero_point));
    for (index_t i = 0; i < n; i += 16) {
        const index_t cols = n - i < 16 ? n - i : 16, c = channel + i;
        const acc16 v = load_s32(acc + i, cols);
        store_any(ep, v, c, cols, out + i * size);
        if (!mask) continue;
        if (ep.store == store_kind::s32) {
            for (index_t j = 0; j < cols; ++j) mask[i + j] = 1;
        } else if (real) {
            // A real bias may change the sign of what a ReLU sees: that of the value, not of the accumulator.
            const f32x16 y = real_value(ep, v, c);
            store_bytes(mask + i, in_range(y, set_f32(ep.f_lo), set_f32(ep.f_hi), bits_of(y), ep.relu), cols);
        } else if (ep.mode == requant_mode::float_scale) {
            const f32x16 y = round(mul(to_f32(v), load_f32(ep.multiplier + c)));
            store_bytes(mask + i, in_range(y, lo, hi, v, ep.relu), cols);
        } else {
            const code_range all{-2147483647 - 1, 2147483647};
            for (index_t j = 0; j < cols; ++j) {
                const std::int32_t code = requantize_fixed(ep, acc[i + j], c + j, all);
                mask[i + j] = (ep.relu ? acc[i + j] > 0 : code >= ep.lo) && code <= ep.hi;
            }
        }
    }
}

#if NOTCH_ARCH_HAS_GROUPS
/// Where a run of whole groups is in the multipliers: groups of a dense matrix with few columns cross rows,
/// so the multipliers are a table in which they repeat, and channel goes around it.
struct channel_cycle {
    const float* multiplier;
    index_t channel, step, period;
};

/// Whole groups of n results, to plain codes or floats; how many are done.
template <store_kind Store, bool Mask, bool Relu>
index_t requantize_groups(const epilogue_args& ep, const std::int32_t* acc, channel_cycle& cycle, index_t n,
                          std::uint8_t* out, std::uint8_t* mask) {
    constexpr bool Codes = Store != store_kind::f32;
    const nfloat first = set_nfloat(Codes ? first_rounding_to(ep.lo - ep.zero_point) : ep.f_lo);
    const nfloat last = set_nfloat(Codes ? last_rounding_to(ep.hi - ep.zero_point) : ep.f_hi);
    const nvec zero_point = set_n16(ep.zero_point);
    index_t i = 0;
    for (; i + byte_width <= n; i += byte_width) {
        nvec steps[4];
        nmask inside[4];
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) {
            const nvec v = load_n32(acc + i + k * native_lanes);
            const nfloat y = nmul(nto_f32(v), load_n32(cycle.multiplier + cycle.channel + k * native_lanes));
            const nfloat clamped = nmin(nmax(y, first), last);
            if constexpr (Mask && Relu)
                inside[k] = nequal_positive(nmin(y, last), y, v);
            else if constexpr (Mask)
                inside[k] = nequal(clamped, y);
            if constexpr (Codes)
                steps[k] = nround(clamped);
            else
                store_nfloat(reinterpret_cast<float*>(out) + i + k * native_lanes, clamped);
        }
        if constexpr (Codes) store_group<false>(out + i, pack_group<Store == store_kind::s8>(steps, zero_point));
        if constexpr (Mask) store_group<false>(mask + i, pack_nmask(inside));
        cycle.channel += cycle.step;
        if (cycle.channel >= cycle.period) cycle.channel -= cycle.period;
    }
    return i;
}

template <store_kind Store>
index_t requantize_run(const epilogue_args& ep, const std::int32_t* acc, channel_cycle& cycle, index_t n,
                       std::uint8_t* out, std::uint8_t* mask) {
    return !mask     ? requantize_groups<Store, false, false>(ep, acc, cycle, n, out, mask)
           : ep.relu ? requantize_groups<Store, true, true>(ep, acc, cycle, n, out, mask)
                     : requantize_groups<Store, true, false>(ep, acc, cycle, n, out, mask);
}
inline index_t requantize_run(const epilogue_args& ep, const std::int32_t* acc, channel_cycle& cycle, index_t n,
                              std::uint8_t* out, std::uint8_t* mask) {
    return ep.store == store_kind::u8   ? requantize_run<store_kind::u8>(ep, acc, cycle, n, out, mask)
           : ep.store == store_kind::s8 ? requantize_run<store_kind::s8>(ep, acc, cycle, n, out, mask)
                                        : requantize_run<store_kind::f32>(ep, acc, cycle, n, out, mask);
}

/// A dense matrix of few columns, as one run.
inline void requantize_dense(const requantize_args& r) {
    float table[column_block + byte_width];
    for (index_t i = 0, c = 0; i < r.cols + byte_width; ++i) {
        table[i] = r.ep.multiplier[c];
        c = c + 1 < r.cols ? c + 1 : 0;
    }
    const index_t n = r.rows * r.cols;
    channel_cycle cycle{table, 0, byte_width % r.cols, r.cols};
    auto* out = static_cast<std::uint8_t*>(r.out);
    const index_t done = requantize_run(r.ep, r.acc, cycle, n, out, r.mask);
    epilogue_args rest = r.ep;
    rest.multiplier = table + cycle.channel;
    if (done < n)
        requantize_part(rest, r.acc + done, 0, n - done, out + done * store_size(r.ep.store),
                        r.mask ? r.mask + done : nullptr);
}
#endif

inline void requantize(const requantize_args& r) {
    const index_t size = store_size(r.ep.store);
#if NOTCH_ARCH_HAS_GROUPS
    const bool groups = plain_codes(r.ep) ? within_reach(r.ep.lo - r.ep.zero_point, r.ep.hi - r.ep.zero_point)
                                          : plain_floats(r.ep) && !r.ep.f_bias;
    if (groups && r.lda == r.cols && r.ldc == r.cols && r.cols > 0 && r.cols <= column_block && r.rows >= 4) {
        requantize_dense(r);
        return;
    }
#endif
    for (index_t i = 0; i < r.rows; ++i) {
        const std::int32_t* acc = r.acc + i * r.lda;
        std::uint8_t* out = static_cast<std::uint8_t*>(r.out) + i * r.ldc * size;
        std::uint8_t* mask = r.mask ? r.mask + i * r.cols : nullptr;
        index_t done = 0;
#if NOTCH_ARCH_HAS_GROUPS
        if (groups) {
            channel_cycle cycle{r.ep.multiplier, 0, byte_width, r.cols + 1};
            done = requantize_run(r.ep, acc, cycle, r.cols, out, mask);
        }
#endif
        if (done < r.cols)
            requantize_part(r.ep, acc + done, done, r.cols - done, out + done * size, mask ? mask + done : nullptr);
    }
}
