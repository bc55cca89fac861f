// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/depthwise.hpp in the region of each instruction set: depthwise convolution over native vectors
// of bytes. Four taps of a channel are interleaved within 128-bit lanes to a dword for each channel; vector k of four
// then holds channels 16 * lane + 4 * k + 0..3, the order of kernels/pack_depthwise.hpp, and packing the four results
// back within lanes restores the natural order without a permute.
//
//   rows_3x3_stride1   two rows by two columns of outputs from four rows and columns of inputs
//   row_3x3_stride2    two outputs from five columns
//   row_3x3_pairs      the same without products of bytes: vpmaddwd on pairs of taps
//   row_any            up to four outputs from the columns that any of them sees
//
// A vector holds channels of one pixel, or of pixels in different strips of the row (see lanes).

#include <notch/kernels/arch/depthwise_ops.inl>

/// One block of channels of a call.
struct depthwise_block {
    const depthwise_args& d;
    index_t channel, count;         ///< first channel, how many
    index_t columns, distance;      ///< outputs in a strip; from the first of one strip to the first of the next
    const std::int8_t *w, *tile;    ///< at this block
    const std::int16_t* pairs;
    const std::int32_t* bias;
    const float *multiplier, *multiplier_words;
    bool packs;                     ///< pack_ncodes applies
    std::uint8_t* base;             ///< of the first channel of output (0, 0)
    index_t row_bytes, pixel_bytes, strip_bytes; ///< from one output row, pixel, strip to the next
    lane_masks masks;
    word_stage stage;
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
template <lanes L, int N> NOTCH_OP nvec load_inside(const depthwise_block& b, const tap_rows<N>& r, int i, const std::uint8_t* p) {
    if constexpr (strips<L>() == 1) return load_lanes<L>({p}, b.masks);
    else if constexpr (strips<L>() == 2) return load_lanes<L>({p, p + r.jump[i]}, b.masks);
    else return load_lanes<L>({p, p + r.jump[i], p + 2 * r.jump[i], p + 3 * r.jump[i]}, b.masks);
}
/// Any pixel.
template <lanes L, int N> NOTCH_OP nvec load_checked(const depthwise_block& b, const tap_rows<N>& r, int i, index_t ix) {
    const auto pixel = [&](index_t strip) {
        const index_t at = ix + strip * b.distance * b.d.stride_w;
        return at >= 0 && at < b.d.in_w ? r.at[i] + at * r.step[i] : b.d.outside;
    };
    if constexpr (strips<L>() == 1) return load_lanes<L>({pixel(0)}, b.masks);
    else if constexpr (strips<L>() == 2) return load_lanes<L>({pixel(0), pixel(1)}, b.masks);
    else return load_lanes<L>({pixel(0), pixel(1), pixel(2), pixel(3)}, b.masks);
}
/// C neighbouring columns of R rows of taps, from ix on: t[column][row].
template <lanes L, int R, int C, int N, int M> NOTCH_OP void load_columns(const depthwise_block& b, const tap_rows<N>& rows, index_t ix, nvec (&t)[C][M]) {
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
template <lanes L> static NOTCH_NOINLINE void store_block(const depthwise_block& b, const std::int32_t* lane, std::uint8_t* out) {
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
    if (strips<L>() == 1 && b.d.ep.store == store_kind::f32 && !b.d.ep.f_bias) { // the usual output that is not codes
        const f32x16 lo = set_f32(b.d.ep.f_lo), hi = set_f32(b.d.ep.f_hi);
        NOTCH_UNROLL
        for (int g = 0; g < byte_width / 16; ++g) {
            const index_t left = b.count - 16 * g;
            if (left <= 0) break;
            store_f32(reinterpret_cast<float*>(out) + 16 * g,
                      min(max(mul(to_f32(natural[g]), load_f32(b.d.ep.multiplier + b.channel + 16 * g)), lo), hi),
                      left < 16 ? left : 16);
        }
        return;
    }
    for (int strip = 0; strip < strips<L>(); ++strip)
        for (index_t c = 0; c < b.count; c += 16)
            store_any(b.d.ep, natural[strip * (byte_width / 16 / strips<L>()) + c / 16], b.channel + c,
                      b.count - c < 16 ? b.count - c : 16, out + strip * b.strip_bytes + c * size);
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
                if (k % 2 == 0) v[n][2] = x;
                else v[n][k / 2] = pack_words(v[n][2], x);
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

// --- 3 x 3, stride 1 ---------------------------------------------------------------------------------------------

/// R rows by C columns of outputs from C + 2 columns.
template <lanes L, bool Words, int R, int C> NOTCH_OP void tile_3x3(const depthwise_block& b, std::uint8_t* out, const nvec (&t)[4][4]) {
    tile_stage<R * C, L, Words> stage;
    NOTCH_UNROLL
    for (int k = 0; k < 4; ++k) {
        nvec acc[R * C];
        const nvec bias = load_n32(b.bias + 16 * k);
        NOTCH_UNROLL
        for (int n = 0; n < R * C; ++n) acc[n] = bias;
        NOTCH_UNROLL
        for (int r = 0; r < R; ++r) {
            NOTCH_UNROLL
            for (int j = 0; j < 3; ++j) {
                const std::int8_t* w = b.tile + (r * 3 + j) * 256 + k * 64;
                if constexpr (C == 1) {
                    ndot_from(acc[r], t[j][k], w);
                } else {
                    const nweights v = load_nweights<false>(w);
                    NOTCH_UNROLL
                    for (int c = 0; c < C; ++c) ndot(acc[r * C + c], t[j + c][k], v);
                }
            }
        }
        stage.take(b, k, acc);
    }
    NOTCH_UNROLL
    for (int n = 0; n < R * C; ++n) stage.store(b, n, out + n / C * b.row_bytes + n % C * b.pixel_bytes);
}

template <lanes L, bool Words, int R> static NOTCH_NOINLINE void rows_3x3_stride1(const depthwise_block& b, index_t y) {
    const depthwise_args& d = b.d;
    const tap_rows<R + 2> rows = make_rows<L, R + 2>(b, y - d.pad_top, 1);
    keep_in_memory(rows);
    nvec t[4][4];
    const auto load_two = [&](index_t ix, int to) __attribute__((always_inline)) {
        nvec v[2][4];
        load_columns<L, R + 2>(b, rows, ix, v);
        NOTCH_UNROLL
        for (int c = 0; c < 2; ++c) {
            if constexpr (R == 1) v[c][3] = v[c][2]; // its weights are zero
            flip_if(b, v[c]);
            interleave(v[c]);
            NOTCH_UNROLL
            for (int k = 0; k < 4; ++k) t[to + c][k] = v[c][k];
        }
    };
    index_t ix = -d.pad_left;
    load_two(ix, 0);
    std::uint8_t* out = b.base + y * b.row_bytes;
    index_t x = 0;
    for (; x + 2 <= b.columns; x += 2, ix += 2, out += 2 * b.pixel_bytes) {
        load_two(ix + 2, 2);
        tile_3x3<L, Words, R, 2>(b, out, t);
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) {
            t[0][k] = t[2][k];
            t[1][k] = t[3][k];
        }
    }
    if (x < b.columns) {
        load_two(ix + 2, 2);
        tile_3x3<L, Words, R, 1>(b, out, t);
    }
}

// --- 3 x 3, stride_w 2 ---------------------------------------------------------------------------------------------

/// Two outputs of one row at a time share the middle one of five columns, and the last column is the first
/// of the next two. The weights stay in registers where there are enough.
template <lanes L, bool Words> static NOTCH_NOINLINE void row_3x3_stride2(const depthwise_block& b, index_t y) {
    const depthwise_args& d = b.d;
    const tap_rows<3> rows = make_rows<L, 3>(b, y * d.stride_h - d.pad_top, d.dilation_h);
    keep_in_memory(rows);
    nweights w[3][4];
    NOTCH_UNROLL
    for (int j = 0; j < 3; ++j) {
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) w[j][k] = load_nweights<false>(b.tile + j * 256 + k * 64);
    }
    nvec c0[1][4];
    index_t ix = -d.pad_left;
    load_columns<L, 3>(b, rows, ix, c0);
    c0[0][3] = c0[0][2]; // its weights are zero
    flip_if(b, c0[0]);
    interleave(c0[0]);
    std::uint8_t* out = b.base + y * b.row_bytes;
    for (index_t x = 0; x < b.columns; x += 2, ix += 4, out += 2 * b.pixel_bytes) {
        nvec v[4][4];
        nvec acc[4][2];
        load_columns<L, 3>(b, rows, ix + 1, v);
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) {
            acc[k][0] = acc[k][1] = load_n32(b.bias + 16 * k);
            ndot(acc[k][0], c0[0][k], w[0][k]);
        }
        NOTCH_UNROLL
        for (int c = 0; c < 4; ++c) {
            v[c][3] = v[c][2];
            flip_if(b, v[c]);
            interleave(v[c]);
            NOTCH_UNROLL
            for (int k = 0; k < 4; ++k) {
                if (c == 0) ndot(acc[k][0], v[c][k], w[1][k]);
                if (c == 1) ndot(acc[k][0], v[c][k], w[2][k]);
                if (c == 1) ndot(acc[k][1], v[c][k], w[0][k]);
                if (c == 2) ndot(acc[k][1], v[c][k], w[1][k]);
                if (c == 3) ndot(acc[k][1], v[c][k], w[2][k]);
            }
        }
        tile_stage<2, L, Words> stage;
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) {
            stage.take(b, k, acc[k]);
            c0[0][k] = v[3][k];
        }
        stage.store(b, 0, out);
        if (x + 1 < b.columns) stage.store(b, 1, out + b.pixel_bytes);
    }
}

// --- 3 x 3 with products of 16-bit pairs ----------------------------------------------------------------------------

/// Two columns: the pairs of rows 0 and 1 of each, and the pair of both columns of row 2.
struct pair_columns {
    nvec rows[2][4], across[4];
};

#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW
template <lanes L> NOTCH_OP void load_pairs(const depthwise_block& b, const tap_rows<3>& rows, index_t ix, pair_columns& p) {
    nvec v[2][3];
    load_columns<L, 3>(b, rows, ix, v);
    flip_if(b, v[0]);
    flip_if(b, v[1]);
    pair_words(v[0][0], v[0][1], p.rows[0]);
    pair_words(v[1][0], v[1][1], p.rows[1]);
    pair_words(v[0][2], v[1][2], p.across);
}

/// Outputs x and x + 1 of one row, five pairs each, stride S: columns 0..3 or 0..5.
template <int S, lanes L, bool Words> static NOTCH_NOINLINE void row_3x3_pairs(const depthwise_block& b, index_t y) {
    const depthwise_args& d = b.d;
    const tap_rows<3> rows = make_rows<L, 3>(b, y * d.stride_h - d.pad_top, d.dilation_h);
    keep_in_memory(rows);
    pair_columns p[S + 1];
    index_t ix = -d.pad_left;
    load_pairs<L>(b, rows, ix, p[0]);
    std::uint8_t* out = b.base + y * b.row_bytes;
    for (index_t x = 0; x < b.columns; x += 2, ix += 2 * S, out += 2 * b.pixel_bytes) {
        load_pairs<L>(b, rows, ix + 2, p[1]);
        if constexpr (S == 2) load_pairs<L>(b, rows, ix + 4, p[2]);
        tile_stage<2, L, Words> stage;
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) {
            const nvec bias = load_n32(b.bias + 16 * k);
            nvec acc[2] = {bias, bias};
            const std::int16_t* w = b.pairs + 32 * k;
            madd_from(acc[0], p[0].rows[0][k], w);
            madd_from(acc[0], p[0].rows[1][k], w + 128);
            madd_from(acc[0], p[1].rows[0][k], w + 2 * 128);
            madd_from(acc[0], p[0].across[k], w + 3 * 128);
            madd_from(acc[0], p[1].across[k], w + 4 * 128);
            if constexpr (S == 1) {
                madd_from(acc[1], p[0].rows[1][k], w);
                madd_from(acc[1], p[1].rows[0][k], w + 128);
                madd_from(acc[1], p[1].rows[1][k], w + 2 * 128);
                madd_from(acc[1], p[0].across[k], w + 5 * 128);
                madd_from(acc[1], p[1].across[k], w + 6 * 128);
            } else {
                madd_from(acc[1], p[1].rows[0][k], w);
                madd_from(acc[1], p[1].rows[1][k], w + 128);
                madd_from(acc[1], p[S].rows[0][k], w + 2 * 128);
                madd_from(acc[1], p[1].across[k], w + 3 * 128);
                madd_from(acc[1], p[S].across[k], w + 4 * 128);
            }
            stage.take(b, k, acc);
        }
        stage.store(b, 0, out);
        if (x + 1 < b.columns) stage.store(b, 1, out + b.pixel_bytes);
        p[0] = p[S];
    }
}
#endif

// --- any kernel ----------------------------------------------------------------------------------------------------

/// C neighbouring outputs of row y from x on; each column is interleaved once for all of them. More
/// than one only without dilation.
template <lanes L, bool Words, int C> NOTCH_OP void tile_any(const depthwise_block& b, index_t y, index_t x) {
    const depthwise_args& d = b.d;
    const index_t columns = C == 1 ? d.kernel_w : (C - 1) * d.stride_w + d.kernel_w, w_step = (d.kernel_h + 3) / 4 * 256;
    nvec acc[4][C];
    NOTCH_UNROLL
    for (int k = 0; k < 4; ++k) {
        const nvec bias = load_n32(b.bias + 16 * k);
        NOTCH_UNROLL
        for (int c = 0; c < C; ++c) acc[k][c] = bias;
    }
    for (index_t first = 0; first < d.kernel_h; first += 4) {
        // Below the last row the weights are zero.
        const tap_rows<4> rows = make_rows<L, 4>(b, y * d.stride_h - d.pad_top + first * d.dilation_h, d.dilation_h);
        const std::int8_t* w = b.w + first / 4 * 256;
        index_t ix = x * d.stride_w - d.pad_left;
        for (index_t column = 0; column < columns; ++column, ix += d.dilation_w) {
            nvec t[1][4];
            load_columns<L, 4>(b, rows, ix, t);
            flip_if(b, t[0]);
            interleave(t[0]);
            index_t j = column;
            NOTCH_UNROLL
            for (int c = 0; c < C; ++c, j -= d.stride_w) {
                if (j < 0 || j >= d.kernel_w) continue;
                NOTCH_UNROLL
                for (int k = 0; k < 4; ++k) ndot_from(acc[k][c], t[0][k], w + j * w_step + 64 * k);
            }
        }
    }
    tile_stage<C, L, Words> stage;
    NOTCH_UNROLL
    for (int k = 0; k < 4; ++k) stage.take(b, k, acc[k]);
    std::uint8_t* out = b.base + y * b.row_bytes + x * b.pixel_bytes;
    NOTCH_UNROLL
    for (int c = 0; c < C; ++c) stage.store(b, c, out + c * b.pixel_bytes);
}

template <lanes L, bool Words> static NOTCH_NOINLINE void row_any(const depthwise_block& b, index_t y) {
    constexpr int wide = byte_width == 64 ? 4 : 2; // as many as there are registers for
    index_t x = 0;
    if (b.d.dilation_w == 1)
        for (; x + wide <= b.columns; x += wide) tile_any<L, Words, wide>(b, y, x);
    for (; x < b.columns; ++x) tile_any<L, Words, 1>(b, y, x);
}

// --- all channels of some rows -------------------------------------------------------------------------------------

template <lanes L, bool Words> static void block_rows(const depthwise_block& b, index_t first, index_t last) {
    const depthwise_args& d = b.d;
    index_t y = first;
    if (!d.tile) {
        for (; y < last; ++y) row_any<L, Words>(b, y);
        return;
    }
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW
    for (; y < last; ++y) {
        if (d.stride_w == 1) row_3x3_pairs<1, L, Words>(b, y);
        else row_3x3_pairs<2, L, Words>(b, y);
    }
#else
    if (d.stride_w == 1) {
        for (; y + 2 <= last; y += 2) rows_3x3_stride1<L, Words, 2>(b, y);
        if constexpr (L == lanes::full) { // else not worth another copy
            if (y < last) rows_3x3_stride1<L, Words, 1>(b, y);
        } else {
            if (y < last) row_any<L, Words>(b, y);
        }
    } else {
        for (; y < last; ++y) row_3x3_stride2<L, Words>(b, y);
    }
#endif
}

template <lanes L> static void block_channels(const depthwise_args& d, const word_stage& stage, index_t channel, index_t count, index_t first, index_t last) {
    const index_t block = channel / depthwise_width, lane = channel % depthwise_width / 16;
    const index_t at = block * depthwise_width + lane * 4;
    const bool codes = d.ep.store == store_kind::u8 || d.ep.store == store_kind::s8;
    const index_t size = store_size(d.ep.store);
    // The strips of a row begin at multiples of distance and reach to its end; they may overlap.
    const index_t distance = d.out_w / strips<L>();
    const depthwise_block b{d,
                            channel,
                            count,
                            d.out_w - (strips<L>() - 1) * distance,
                            distance,
                            d.w + block * d.kernel_w * ((d.kernel_h + 3) / 4) * 256 + lane * 16,
                            d.tile + (d.tile ? block * 6 * 256 + lane * 16 : 0),
                            d.pairs + (d.pairs ? block * 7 * 128 + lane * 8 : 0),
                            d.bias_interleaved + at,
                            d.multiplier_interleaved + (d.multiplier_interleaved ? at : 0),
                            d.multiplier_words + (d.multiplier_words ? at : 0),
                            codes && d.ep.bounded && d.ep.mode == requant_mode::float_scale,
                            static_cast<std::uint8_t*>(d.out) + channel * size,
                            d.out_row * size,
                            d.ldc * size,
                            distance * d.ldc * size,
                            make_masks(count),
                            stage};
    if constexpr (has_words) {
        if (d.ep.words) {
            block_rows<L, true>(b, first, last);
            return;
        }
    }
    if constexpr (strips<L>() == 1) block_rows<L, false>(b, first, last);
}

static void depthwise_u8s8(const depthwise_args& d) {
    word_stage stage{};
    if constexpr (has_words) stage = make_words(d.ep);
    // Bands of rows whose inputs stay in the first cache while all blocks of channels pass over them.
    const index_t row_bytes = d.in_w * d.channels * d.stride_h;
    index_t band = 32768 / (row_bytes + 1) / 2 * 2;
    if (band < 2) band = 2;
    for (index_t first = d.first_row; first < d.last_row; first += band) {
        const index_t last = first + band < d.last_row ? first + band : d.last_row;
        index_t channel = 0;
        for (; channel + byte_width <= d.channels; channel += byte_width)
            block_channels<lanes::full>(d, stage, channel, byte_width, first, last);
        const index_t left = d.channels - channel;
        if (left > 0 && !(has_words && d.ep.words)) { // strips only where they are compiled
            block_channels<lanes::part>(d, stage, channel, left, first, last);
        } else if constexpr (byte_width == 64) {
            if (left > 32) block_channels<lanes::part>(d, stage, channel, left, first, last);
            else if (left == 32) block_channels<lanes::halves>(d, stage, channel, left, first, last);
            else if (left > 16) block_channels<lanes::part_halves>(d, stage, channel, left, first, last);
            else if (left == 16) block_channels<lanes::quarters>(d, stage, channel, left, first, last);
            else if (left > 0) block_channels<lanes::part_quarters>(d, stage, channel, left, first, last);
        } else if constexpr (byte_width == 32) {
            if (left > 16) block_channels<lanes::part>(d, stage, channel, left, first, last);
            else if (left == 16) block_channels<lanes::halves>(d, stage, channel, left, first, last);
            else if (left > 0) block_channels<lanes::part_halves>(d, stage, channel, left, first, last);
        }
        if (d.ep.on_tile)
            for (index_t y = first; y < last; ++y)
                d.ep.on_tile(d.ep.context, {static_cast<std::uint8_t*>(d.out) + y * d.out_row * store_size(d.ep.store),
                                            d.row + y * d.out_w, 0, d.out_w, d.channels, d.ldc});
    }
}

static void expand(const expand_args& a) {
    std::uint8_t* out = a.out;
    for (index_t p = 0; p < a.pixels; ++p) {
        const std::uint8_t* in = a.in + p * a.in_pixel;
        for (index_t c = 0; c < a.channels; ++c, out += a.multiplier) {
            const std::uint64_t v = in[c] * std::uint64_t{0x0101010101010101};
            for (index_t i = 0; i < a.multiplier; i += 8) __builtin_memcpy(out + i, &v, 8);
        }
    }
}

inline constexpr depthwise_kernels depthwise_table = {depthwise_u8s8, expand};
