// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/body/depthwise.inl in the region of each instruction set: rows of outputs of 3 x 3 kernels.
//
//   rows_3x3_stride1   two rows by two columns of outputs from four rows and columns of inputs
//   row_3x3_stride2    two outputs from five columns
//   row_3x3_pairs      the same without products of bytes: vpmaddwd on pairs of taps

// --- 3 x 3, stride 1 ---------------------------------------------------------------------------------------------

/// R rows by C columns of outputs from C + 2 columns.
template <lanes L, bool Words, int R, int C>
NOTCH_OP void tile_3x3(const depthwise_block& b, std::uint8_t* out, const nvec (&t)[4][4]) {
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

template <lanes L, bool Words, int R> NOTCH_NOINLINE void rows_3x3_stride1(const depthwise_block& b, index_t y) {
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
template <lanes L, bool Words> NOTCH_NOINLINE void row_3x3_stride2(const depthwise_block& b, index_t y) {
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
template <lanes L>
NOTCH_OP void load_pairs(const depthwise_block& b, const tap_rows<3>& rows, index_t ix, pair_columns& p) {
    nvec v[2][3];
    load_columns<L, 3>(b, rows, ix, v);
    flip_if(b, v[0]);
    flip_if(b, v[1]);
    pair_words(v[0][0], v[0][1], p.rows[0]);
    pair_words(v[1][0], v[1][1], p.rows[1]);
    pair_words(v[0][2], v[1][2], p.across);
}

/// Outputs x and x + 1 of one row, five pairs each, stride S: columns 0..3 or 0..5.
template <int S, lanes L, bool Words> NOTCH_NOINLINE void row_3x3_pairs(const depthwise_block& b, index_t y) {
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
