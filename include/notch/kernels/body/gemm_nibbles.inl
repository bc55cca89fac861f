// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/body/gemm.inl where bytes are multiplied by vpmaddubsw and words by vpmaddwd: products of few
// rows, whose time is what is done to each weight.
//
// Widening 32 weights for vpmaddwd takes three instructions, and the products of a row another four. Here the codes
// of the rows are cut up instead, once, into a = 16 h + l. Two products l * w or h * w are at most 2 * 15 * 128 = 3840
// together, so that vpmaddubsw is exact, and eight such sums fit 16 bits. Then vpmaddwd makes 32 of them, and
// multiplies those of h by 16.

/// Quads of K and columns whose nibbles and sums (12 KiB each at most) stay in the first cache.
inline constexpr index_t nibble_quads = 512, nibble_plane = 4 * nibble_quads, nibble_columns = 1024;
/// Quads whose sums fit 16 bits.
inline constexpr index_t nibble_turn = 8;

/// Panels at a time, by the registers that their sums take.
template <int MR> constexpr int nibble_panels() {
    constexpr int registers = byte_width == 32 ? 16 : 32, n = registers / (4 * MR * (64 / byte_width));
    return n > 4 ? 4 : n > 0 ? n : 1;
}

/// sums[j][i][16] += MR rows of nibbles (low ones, a plane further the high ones; two planes a row) times NP panels.
template <int MR, int NP>
NOTCH_NOINLINE void nibble_tile(const std::uint8_t* a, index_t quads, const std::int8_t* b, index_t stride,
                                std::int32_t* sums) {
    constexpr int parts = 64 / byte_width; // of a quad of a panel
    for (index_t k = 0; k < quads; k += nibble_turn) {
        nvec low[MR][NP * parts], high[MR][NP * parts];
        NOTCH_UNROLL
        for (int i = 0; i < MR; ++i) {
            NOTCH_UNROLL
            for (int j = 0; j < NP * parts; ++j) low[i][j] = high[i][j] = set_n32(0);
        }
        const index_t turn = quads - k < nibble_turn ? quads - k : nibble_turn;
        for (index_t q = 0; q < turn; ++q, a += 4, b += 64) {
            nvec w[NP * parts];
            NOTCH_UNROLL
            for (int j = 0; j < NP * parts; ++j)
                w[j] = load_nbytes<true>(
                    reinterpret_cast<const std::uint8_t*>(b + j / parts * stride + j % parts * byte_width), byte_width);
            NOTCH_UNROLL
            for (int i = 0; i < MR; ++i) {
                const nvec l = broadcast(a + 2 * i * nibble_plane), h = broadcast(a + (2 * i + 1) * nibble_plane);
                NOTCH_UNROLL
                for (int j = 0; j < NP * parts; ++j) {
                    low[i][j] = nadd_words(low[i][j], nmul_bytes(l, w[j]));
                    high[i][j] = nadd_words(high[i][j], nmul_bytes(h, w[j]));
                }
            }
        }
        NOTCH_UNROLL
        for (int i = 0; i < MR; ++i) {
            NOTCH_UNROLL
            for (int j = 0; j < NP * parts; ++j) {
                std::int32_t* const sum = sums + (j / parts * MR + i) * 16 + j % parts * (byte_width / 4);
                const nvec both = nadd(nsum_words(low[i][j], 1), nsum_words(high[i][j], 16));
                store_n32(sum, nadd(load_n32(sum), both));
            }
        }
    }
}

/// The nibbles of `bytes` codes of a row.
inline void split_row(const std::uint8_t* from, index_t bytes, bool flip, std::uint8_t* to) {
    for (index_t i = 0; i < bytes; i += byte_width) {
        const index_t left = bytes - i;
        const nvec v =
            left >= byte_width ? load_nbytes<true>(from + i, byte_width) : load_nbytes<false>(from + i, left);
        nvec low, high;
        split_nibbles(flip ? nflip(v) : v, low, high);
        store_nbytes<true>(to + i, low, byte_width);
        store_nbytes<true>(to + i + nibble_plane, high, byte_width);
    }
}

/// MR rows.
template <int MR> NOTCH_NOINLINE void nibble_product(const gemm_args& g) {
    alignas(64) std::uint8_t nibbles[2 * MR * nibble_plane];
    alignas(64) std::int32_t sums[MR * nibble_columns];
    const index_t bytes = 4 * g.k4 + g.tail;
    const bool codes = register_codes(g.ep);
    const code_stage stage = make_stage(g.ep);
    for (index_t column = 0; column < g.n; column += nibble_columns) {
        const index_t columns = g.n - column < nibble_columns ? g.n - column : nibble_columns;
        const index_t panels = (columns + 15) / 16;
        for (index_t j = 0; j < panels; ++j)
            for (int i = 0; i < MR; ++i) store_s32(sums + (j * MR + i) * 16, load_s32(g.ep.bias + column + 16 * j), 16);
        for (index_t first = 0; first < bytes; first += nibble_plane) {
            const index_t some = bytes - first < nibble_plane ? bytes - first : nibble_plane, quads = (some + 3) / 4;
            for (index_t i = 0; i < MR; ++i)
                split_row(g.a + i * g.lda + g.segment[0] + first, some, g.flip, nibbles + 2 * i * nibble_plane);
            const std::int8_t* b = g.b + column / 16 * g.panel_stride + 16 * first;
            constexpr int NP = nibble_panels<MR>();
            index_t j = 0;
            for (; j + NP <= panels; j += NP, b += NP * g.panel_stride)
                nibble_tile<MR, NP>(nibbles, quads, b, g.panel_stride, sums + j * MR * 16);
            for (; j < panels; ++j, b += g.panel_stride)
                nibble_tile<MR, 1>(nibbles, quads, b, g.panel_stride, sums + j * MR * 16);
        }
        for (index_t j = 0; j < panels; ++j) {
            const index_t left = columns - 16 * j;
            const tile_job t = make_job(g, column + 16 * j, left < 16 ? left : 16);
            const std::int32_t* const lanes = sums + j * MR * 16;
            if (codes && is_plain(t))
                for (index_t i = 0; i < MR; ++i) {
                    acc16 acc[1][1] = {{load_s32(lanes + 16 * i)}};
                    store_codes<1, 1>(g.ep, stage, acc, t.channel, t.cols, t.c + i * t.ldc_bytes, t.ldc_bytes);
                }
            else
                store_tile(t, lanes, 0, MR, 1, t.c);
            if (g.ep.on_tile) g.ep.on_tile(g.ep.context, {t.c, g.row, g.col + t.channel, MR, t.cols, g.ldc});
        }
    }
}

/// Rows of one segment, too few to be widened. With registers of 32 bytes, four meet weights that are widened there:
/// that is as fast.
inline void gemm_few_rows(const gemm_args& g) {
    constexpr bool direct = byte_width == 32;
    for (index_t row = 0; row < g.m;) {
        const index_t left = g.m - row;
        index_t rows = left < 2 ? left : 2;
        if (direct && left >= 4) rows = 4;
        if (!direct && left > 2 && left != 4) rows = 3;
        const gemm_args part = rows_from(g, row, rows);
        if (rows == 4)
            gemm_rows<operand_form::direct>(part);
        else if (rows == 3)
            nibble_product<direct ? 1 : 3>(part);
        else if (rows == 2)
            nibble_product<2>(part);
        else
            nibble_product<1>(part);
        row += rows;
    }
}
