// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/body/depthwise.inl in the region of each instruction set: a block of channels, how its
// inputs are loaded and its results stored.

/// One block of channels of a call.
struct depthwise_block {
    const depthwise_args& d;
    index_t channel, count;      ///< first channel, how many
    index_t columns, distance;   ///< outputs in a strip; from the first of one strip to the first of the next
    const std::int8_t *w, *tile; ///< at this block
    const std::int16_t* pairs;
    const std::int32_t* bias;
    const float *multiplier, *multiplier_words;
    bool packs;                                  ///< pack_ncodes applies
    std::uint8_t* base;                          ///< of the first channel of output (0, 0)
    index_t row_bytes, pixel_bytes, strip_bytes; ///< from one output row, pixel, strip to the next
    lane_masks masks;
    word_stage stage;
    epilogue_args steps; ///< see store_steps
};

/// Input rows of a row of outputs. A row outside the image is the block of outside with step 0.
template <int N> struct tap_rows {
    const std::uint8_t* at[N];
    index_t step[N]; ///< bytes from one pixel to the next
    index_t jump[N]; ///< from one strip to the next
    index_t inside;  ///< pixels ix = 0 .. inside - 1 are in the image for all strips
};
template <lanes L, int N> NOTCH_OP tap_rows<N> make_rows(const depthwise_block& b, index_t iy, index_t dilation) {
    tap_rows<N> r;
    const depthwise_args& d = b.d;
    const index_t jump = b.distance * d.stride_w;
    r.inside = d.in_w - (strips<L>() - 1) * jump;
    NOTCH_UNROLL
    for (int i = 0; i < N; ++i, iy += dilation) {
        const bool in = iy >= 0 && iy < d.in_h;
        r.at[i] = in ? d.in + iy * d.in_row + b.channel : d.outside;
        r.step[i] = in ? d.in_pixel : 0;
        r.jump[i] = jump * r.step[i];
    }
    return r;
}

/// Row i, p its pixel ix, which is in the image for all strips (or the row is outside).
template <lanes L, int N>
NOTCH_OP nvec load_inside(const depthwise_block& b, const tap_rows<N>& r, int i, const std::uint8_t* p) {
    if constexpr (strips<L>() == 1)
        return load_lanes<L>({p}, b.masks);
    else if constexpr (strips<L>() == 2)
        return load_lanes<L>({p, p + r.jump[i]}, b.masks);
    else
        return load_lanes<L>({p, p + r.jump[i], p + 2 * r.jump[i], p + 3 * r.jump[i]}, b.masks);
}
/// Any pixel.
template <lanes L, int N>
NOTCH_OP nvec load_checked(const depthwise_block& b, const tap_rows<N>& r, int i, index_t ix) {
    const auto pixel = [&](index_t strip) {
        const index_t at = ix + strip * b.distance * b.d.stride_w;
        return at >= 0 && at < b.d.in_w ? r.at[i] + at * r.step[i] : b.d.outside;
    };
    if constexpr (strips<L>() == 1)
        return load_lanes<L>({pixel(0)}, b.masks);
    else if constexpr (strips<L>() == 2)
        return load_lanes<L>({pixel(0), pixel(1)}, b.masks);
    else
        return load_lanes<L>({pixel(0), pixel(1), pixel(2), pixel(3)}, b.masks);
}
/// C neighbouring columns of R rows of taps, from ix on: t[column][row].
template <lanes L, int R, int C, int N, int M>
NOTCH_OP void load_columns(const depthwise_block& b, const tap_rows<N>& rows, index_t ix, nvec (&t)[C][M]) {
    if (ix >= 0 && ix + C <= rows.inside) {
        NOTCH_UNROLL
        for (int i = 0; i < R; ++i) {
            const index_t step = rows.step[i];
            const std::uint8_t* p = opaque(rows.at[i] + ix * step);
            t[0][i] = load_inside<L>(b, rows, i, p);
            if constexpr (C > 1) t[1][i] = load_inside<L>(b, rows, i, p + step);
            if constexpr (C > 2) t[2][i] = load_inside<L>(b, rows, i, p + 2 * step);
            if constexpr (C > 3) t[3][i] = load_inside<L>(b, rows, i, p + step + 2 * step);
        }
    } else {
        NOTCH_UNROLL
        for (int i = 0; i < R; ++i) {
            t[0][i] = load_checked<L>(b, rows, i, ix);
            if constexpr (C > 1) t[1][i] = load_checked<L>(b, rows, i, ix + 1);
            if constexpr (C > 2) t[2][i] = load_checked<L>(b, rows, i, ix + 2);
            if constexpr (C > 3) t[3][i] = load_checked<L>(b, rows, i, ix + 3);
        }
    }
}
/// Makes the compiler read the rows from memory where it needs them, rather than keep them in
/// vector registers.
template <int N> NOTCH_OP void keep_in_memory(const tap_rows<N>& rows) {
#if defined(__GNUC__)
    __asm__ volatile("" : : "r"(&rows) : "memory");
#else
    (void)rows;
#endif
}
template <int N> NOTCH_OP void flip_if(const depthwise_block& b, nvec (&t)[N]) {
    if (!b.d.flip) return;
    NOTCH_UNROLL
    for (int i = 0; i < N; ++i) t[i] = nflip(t[i]);
}

/// Results of one output that the words do not cover: lane holds the four vectors.
template <lanes L>
NOTCH_NOINLINE void store_block(const depthwise_block& b, const std::int32_t* lane, std::uint8_t* out) {
    const index_t size = store_size(b.d.ep.store);
    if (b.packs) {
        nvec acc[4];
        nfloat m[4];
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) {
            acc[k] = load_n32(lane + k * (byte_width / 4));
            m[k] = load_n32(b.multiplier + 16 * k);
        }
        store_lanes<L>(out, b.strip_bytes, pack_ncodes(b.d.ep, acc, m), b.masks, b.count);
        return;
    }
    acc16 natural[byte_width / 16];
    natural_order(lane, natural);
    constexpr int groups = byte_width / 16 / strips<L>(); // of 16 channels, in each strip
    if (plain_floats(b.d.ep)) {                           // the usual output that is not codes
        const f32x16 lo = set_f32(b.d.ep.f_lo), hi = set_f32(b.d.ep.f_hi);
        NOTCH_UNROLL
        for (int i = 0; i < byte_width / 16; ++i) {
            const int g = i % groups;
            const index_t left = b.count - 16 * g;
            if (left <= 0) continue;
            store_f32(reinterpret_cast<float*>(out + i / groups * b.strip_bytes) + 16 * g,
                      min(max(real_value(b.d.ep, natural[i], b.channel + 16 * g), lo), hi), left < 16 ? left : 16);
        }
        return;
    }
    if (fixed_codes(b.d.ep)) {
        acc16 v[byte_width / 16][1];
        NOTCH_UNROLL
        for (int i = 0; i < byte_width / 16; ++i) {
            const index_t channel = b.channel + 16 * (i % groups);
            v[i][0] = rounded_steps(
                natural[i], make_factors(load_s32(b.d.ep.mantissa + channel), load_s32(b.d.ep.shift + channel)));
        }
        const code_stage stage = make_stage(b.d.ep);
        if constexpr (L == lanes::full) {
            store_codes<byte_width / 16, 1>(b.steps, stage, v, 0, 16, out, 16);
        } else {
            NOTCH_UNROLL
            for (int i = 0; i < byte_width / 16; ++i) {
                const index_t c = 16 * (i % groups), left = b.count - c;
                acc16 one[1][1] = {{v[i][0]}};
                if (left > 0)
                    store_codes<1, 1>(b.steps, stage, one, 0, left < 16 ? left : 16,
                                      out + i / groups * b.strip_bytes + c, 16);
            }
        }
        return;
    }
    for (int strip = 0; strip < strips<L>(); ++strip)
        for (index_t c = 0; c < b.count; c += 16)
            store_any(b.d.ep, natural[strip * groups + c / 16], b.channel + c, b.count - c < 16 ? b.count - c : 16,
                      out + strip * b.strip_bytes + c * size);
}

/// The output stage of a tile of N outputs, fed with accumulators k by k.
template <int N, lanes L, bool Words> struct tile_stage {
    nvec v[N][Words ? 3 : 4]; // words: the packed first half, then pairs

    NOTCH_INLINE void take(const depthwise_block& b, int k, nvec (&acc)[N]) {
        if constexpr (Words) {
            const nfloat m = load_n32(b.multiplier_words + 16 * k);
            NOTCH_UNROLL
            for (int n = 0; n < N; ++n) {
                const nvec x = words_of(acc[n], m, b.stage);
                if (k % 2 == 0)
                    v[n][2] = x;
                else
                    v[n][k / 2] = pack_words(v[n][2], x);
            }
        } else {
            NOTCH_UNROLL
            for (int n = 0; n < N; ++n) v[n][k] = acc[n];
        }
    }
    NOTCH_INLINE void store(const depthwise_block& b, int n, std::uint8_t* out) {
        if constexpr (Words) {
            store_lanes<L>(out, b.strip_bytes, codes_of_words(v[n][0], v[n][1], b.stage), b.masks, b.count);
        } else {
            std::int32_t lane[byte_width];
            NOTCH_UNROLL
            for (int k = 0; k < 4; ++k) store_n32(lane + k * (byte_width / 4), v[n][k]);
            store_block<L>(b, lane, out);
        }
    }
};
