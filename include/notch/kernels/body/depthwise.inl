// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/depthwise.hpp in the region of each instruction set: depthwise convolution over native vectors
// of bytes. Four taps of a channel are interleaved within 128-bit lanes to a dword for each channel; vector k of four
// then holds channels 16 * lane + 4 * k + 0..3, the order of kernels/pack_depthwise.hpp, and packing the four results
// back within lanes restores the natural order without a permute.
//
//   rows_3x3<1>   two rows of outputs from four rows of inputs, two columns at a time
//   rows_3x3<2>   two outputs of one row at a time, from three groups of taps and one kept from before
//   any_kernel    one output at a time
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
    lane_masks masks;
    word_stage stage;

    NOTCH_INLINE std::uint8_t* out(index_t y, index_t x) const {
        return static_cast<std::uint8_t*>(d.out) + (y * d.out_row + x * d.ldc + channel) * store_size(d.ep.store);
    }
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

/// Pixel ix of row i, known to be in the image for all strips (or the row is outside).
template <lanes L, int N> NOTCH_OP nvec load_inside(const depthwise_block& b, const tap_rows<N>& r, int i, index_t ix) {
    const std::uint8_t* p = r.at[i] + ix * r.step[i];
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
NOTCH_OP void flip_if(const depthwise_block& b, nvec (&t)[4]) {
    if (!b.d.flip) return;
    NOTCH_UNROLL
    for (int i = 0; i < 4; ++i) t[i] = nflip(t[i]);
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
        store_lanes<L>(out, b.distance * b.d.ldc, pack_ncodes(b.d.ep, acc, m), b.masks, b.count);
        return;
    }
    std::int32_t natural[byte_width + 16] = {};
    for (int k = 0; k < 4; ++k)
        for (int l = 0; l < byte_width / 16; ++l)
            for (int i = 0; i < 4; ++i) natural[16 * l + 4 * k + i] = lane[k * (byte_width / 4) + 4 * l + i];
    for (int strip = 0; strip < strips<L>(); ++strip)
        for (index_t c = 0; c < b.count; c += 16)
            store_any(b.d.ep, load_s32(natural + strip * (byte_width / strips<L>()) + c), b.channel + c,
                      b.count - c < 16 ? b.count - c : 16, out + (strip * b.distance * b.d.ldc + c) * size);
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
            store_lanes<L>(out, b.distance * b.d.ldc, codes_of_words(v[n][0], v[n][1], b.stage), b.masks, b.count);
        } else {
            std::int32_t lane[byte_width];
            NOTCH_UNROLL
            for (int k = 0; k < 4; ++k) store_n32(lane + k * (byte_width / 4), v[n][k]);
            store_block<L>(b, lane, out);
        }
    }
};

// --- 3 x 3, stride 1 ---------------------------------------------------------------------------------------------

/// Column ix of R + 2 rows, interleaved.
template <lanes L, int R> NOTCH_OP void load_column(const depthwise_block& b, const tap_rows<R + 2>& rows, index_t ix, nvec (&t)[4]) {
    if (ix >= 0 && ix < rows.inside) {
        NOTCH_UNROLL
        for (int i = 0; i < R + 2; ++i) t[i] = load_inside<L>(b, rows, i, ix);
    } else {
        NOTCH_UNROLL
        for (int i = 0; i < R + 2; ++i) t[i] = load_checked<L>(b, rows, i, ix);
    }
    if constexpr (R == 1) t[3] = t[2]; // its weights are zero
    flip_if(b, t);
    interleave(t);
}

/// R rows by C columns of outputs at (y, x) from C + 2 columns.
template <lanes L, bool Words, int R, int C> NOTCH_OP void tile_3x3(const depthwise_block& b, index_t y, index_t x, const nvec (&t)[4][4]) {
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
    for (int n = 0; n < R * C; ++n) stage.store(b, n, b.out(y + n / C, x + n % C));
}

template <lanes L, bool Words, int R> static NOTCH_NOINLINE void rows_3x3_stride1(const depthwise_block& b, index_t y) {
    const depthwise_args& d = b.d;
    const tap_rows<R + 2> rows = make_rows<L, R + 2>(b, y - d.pad_top, 1);
    nvec t[4][4];
    index_t ix = -d.pad_left;
    load_column<L, R>(b, rows, ix, t[0]);
    load_column<L, R>(b, rows, ix + 1, t[1]);
    index_t x = 0;
    for (; x + 2 <= b.columns; x += 2, ix += 2) {
        load_column<L, R>(b, rows, ix + 2, t[2]);
        load_column<L, R>(b, rows, ix + 3, t[3]);
        tile_3x3<L, Words, R, 2>(b, y, x, t);
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) {
            t[0][k] = t[2][k];
            t[1][k] = t[3][k];
        }
    }
    if (x < b.columns) {
        load_column<L, R>(b, rows, ix + 2, t[2]);
        tile_3x3<L, Words, R, 1>(b, y, x, t);
    }
}

// --- 3 x 3, stride_w 2 ---------------------------------------------------------------------------------------------

/// Taps (column, row) 10 11 12 20, 21 22 30 31, 32 40 41 42 counted from column ix = 0.
template <lanes L> NOTCH_OP void load_groups(const depthwise_block& b, const tap_rows<3>& rows, index_t ix, nvec (&g)[4][4]) {
    if (ix + 1 >= 0 && ix + 4 < rows.inside) {
        NOTCH_UNROLL
        for (int i = 0; i < 12; ++i) g[1 + i / 4][i % 4] = load_inside<L>(b, rows, i % 3, ix + 1 + i / 3);
    } else {
        NOTCH_UNROLL
        for (int i = 0; i < 12; ++i) g[1 + i / 4][i % 4] = load_checked<L>(b, rows, i % 3, ix + 1 + i / 3);
    }
    NOTCH_UNROLL
    for (int i = 1; i < 4; ++i) {
        flip_if(b, g[i]);
        interleave(g[i]);
    }
}

template <lanes L, bool Words, int C> NOTCH_OP void tile_3x3_stride2(const depthwise_block& b, index_t y, index_t x, const nvec (&g)[4][4]) {
    tile_stage<C, L, Words> stage;
    NOTCH_UNROLL
    for (int k = 0; k < 4; ++k) {
        nvec acc[C];
        const nvec bias = load_n32(b.bias + 16 * k);
        NOTCH_UNROLL
        for (int n = 0; n < C; ++n) acc[n] = bias;
        NOTCH_UNROLL
        for (int i = 0; i < 3; ++i) {
            NOTCH_UNROLL
            for (int n = 0; n < C; ++n) ndot_from(acc[n], g[i + n][k], b.tile + (n * 3 + i) * 256 + k * 64);
        }
        stage.take(b, k, acc);
    }
    NOTCH_UNROLL
    for (int n = 0; n < C; ++n) stage.store(b, n, b.out(y, x + n));
}

template <lanes L, bool Words> static NOTCH_NOINLINE void row_3x3_stride2(const depthwise_block& b, index_t y) {
    const depthwise_args& d = b.d;
    const tap_rows<3> rows = make_rows<L, 3>(b, y * d.stride_h - d.pad_top, d.dilation_h);
    nvec g[4][4];
    index_t ix = -d.pad_left;
    NOTCH_UNROLL
    for (int i = 0; i < 3; ++i) g[0][i + 1] = load_checked<L>(b, rows, i, ix);
    g[0][0] = g[0][1]; // its weights are zero
    flip_if(b, g[0]);
    interleave(g[0]);
    index_t x = 0;
    for (; x + 2 <= b.columns; x += 2, ix += 4) {
        load_groups<L>(b, rows, ix, g);
        tile_3x3_stride2<L, Words, 2>(b, y, x, g);
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) g[0][k] = g[3][k];
    }
    if (x < b.columns) {
        load_groups<L>(b, rows, ix, g);
        tile_3x3_stride2<L, Words, 1>(b, y, x, g);
    }
}

// --- any kernel ----------------------------------------------------------------------------------------------------

template <lanes L, bool Words> static NOTCH_NOINLINE void row_any(const depthwise_block& b, index_t y) {
    const depthwise_args& d = b.d;
    const index_t top = y * d.stride_h - d.pad_top;
    for (index_t x = 0; x < b.columns; ++x) {
        nvec acc[4];
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) acc[k] = load_n32(b.bias + 16 * k);
        for (index_t first = 0; first < d.kernel_h; first += 4) {
            // Below the last row the weights are zero.
            const tap_rows<4> rows = make_rows<L, 4>(b, top + first * d.dilation_h, d.dilation_h);
            const std::int8_t* w = b.w + first / 4 * 256;
            index_t ix = x * d.stride_w - d.pad_left;
            for (index_t column = 0; column < d.kernel_w; ++column, ix += d.dilation_w, w += (d.kernel_h + 3) / 4 * 256) {
                nvec t[4];
                NOTCH_UNROLL
                for (int i = 0; i < 4; ++i) t[i] = load_checked<L>(b, rows, i, ix);
                flip_if(b, t);
                interleave(t);
                NOTCH_UNROLL
                for (int k = 0; k < 4; ++k) ndot_from(acc[k], t[k], w + 64 * k);
            }
        }
        tile_stage<1, L, Words> stage;
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) {
            nvec one[1] = {acc[k]};
            stage.take(b, k, one);
        }
        stage.store(b, 0, b.out(y, x));
    }
}

// --- all channels of some rows -------------------------------------------------------------------------------------

template <lanes L, bool Words> static void block_rows(const depthwise_block& b, index_t first, index_t last) {
    const depthwise_args& d = b.d;
    if (d.tile && d.stride_w == 1) {
        index_t y = first;
        for (; y + 2 <= last; y += 2) rows_3x3_stride1<L, Words, 2>(b, y);
        if (y < last) rows_3x3_stride1<L, Words, 1>(b, y);
        return;
    }
    for (index_t y = first; y < last; ++y) {
        if (d.tile) row_3x3_stride2<L, Words>(b, y);
        else row_any<L, Words>(b, y);
    }
}

template <lanes L> static void block_channels(const depthwise_args& d, const word_stage& stage, index_t channel, index_t count, index_t first, index_t last) {
    const index_t block = channel / depthwise_width, lane = channel % depthwise_width / 16;
    const index_t at = block * depthwise_width + lane * 4;
    const bool codes = d.ep.store == store_kind::u8 || d.ep.store == store_kind::s8;
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
                            make_masks(count),
                            stage};
    if constexpr (has_words) {
        if (d.ep.words) {
            block_rows<L, true>(b, first, last);
            return;
        }
    }
    block_rows<L, false>(b, first, last);
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
        if constexpr (byte_width == 64) {
            if (left > 32) block_channels<lanes::partial>(d, stage, channel, left, first, last);
            else if (left > 16) block_channels<lanes::halves>(d, stage, channel, left, first, last);
            else if (left > 0) block_channels<lanes::quarters>(d, stage, channel, left, first, last);
        } else if constexpr (byte_width == 32) {
            if (left > 16) block_channels<lanes::partial>(d, stage, channel, left, first, last);
            else if (left > 0) block_channels<lanes::halves>(d, stage, channel, left, first, last);
        } else if (left > 0) {
            block_channels<lanes::partial>(d, stage, channel, left, first, last);
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
