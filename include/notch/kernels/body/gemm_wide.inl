// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/body/gemm.inl where the exact product works on 16-bit lanes (vpmaddwd): rows and
// panels are widened into blocks on the stack, and the tiles of gemm.inl run over those.

/// Quads first ... first + count - 1 of some rows, widened, `pitch` bytes from one row to the next.
inline void widen_rows(const gemm_args& g, index_t first, index_t count, index_t pitch, std::uint8_t* to) {
    const bool ends = g.tail > 0 && first + count > g.k4;
    const index_t whole = count - ends;
    const std::uint8_t* from = g.a + g.segment[0] + 4 * first;
    const row_flip flip = make_row_flip(g.flip);
    for (index_t row = 0; row < g.m; ++row, from += g.lda, to += pitch) {
        index_t q = 0;
        for (; q + 8 <= whole; q += 8) widen_quads8(from + 4 * q, flip, to + 4 * q);
        if (q < whole) widen_quads(from + 4 * q, whole - q, flip, to + 4 * q); // and more, without meaning
        if (!ends) continue;
        std::uint32_t quad = load_partial(from + 4 * whole, g.tail);
        if (g.flip) quad ^= 0x80808080u >> 8 * (4 - g.tail);
        const std::uint32_t even = quad & 0x00ff00ffu, odd = quad >> 8 & 0x00ff00ffu;
        __builtin_memcpy(to + 4 * whole, &even, 4);
        __builtin_memcpy(to + 4 * whole + wide_plane, &odd, 4);
    }
}

/// Widened operands: blocks of 128 quads of K, some rows at a time; see arch/avx2.hpp. Two panels, or if K is one short
/// block as many as there is room for.
inline NOTCH_NOINLINE void gemm_wide(const gemm_args& g) {
    constexpr index_t most_quads = wide_quads, most_rows = 64;
    constexpr index_t pitch = 2 * wide_plane + 64, partial_columns = 32, most_wide_rows = 48;
    alignas(64) std::int8_t b[2 * most_quads * 128];
    alignas(64) std::uint8_t a[most_wide_rows * pitch];
    alignas(64) std::int32_t partial[most_rows * partial_columns];
    const index_t all = g.k4 + (g.tail > 0);
    const index_t blocks = all > most_quads ? (all + most_quads - 1) / most_quads : 1;
    const index_t block = (all + blocks - 1) / blocks; // equal parts
    epilogue_args sums;
    sums.store = store_kind::s32;
    const index_t origin = 0;
    const index_t height = blocks == 1 ? g.m : most_rows;
    const index_t some_rows = all <= 16 ? most_wide_rows : wide_rows; // short rows touch little of the block
    const index_t columns = blocks == 1 && all > 0 ? 2 * most_quads / all * 16 : partial_columns;
    for (index_t row = 0; row < g.m; row += height) {
        const index_t rows = g.m - row < height ? g.m - row : height;
        for (index_t column = 0; column < g.n; column += columns) {
            const index_t left = g.n - column, panels = left < columns ? (left + 15) / 16 : columns / 16;
            for (index_t first = 0, k = 0; k < blocks; ++k, first += block) {
                const index_t count = all - first < block ? all - first : block;
                for (index_t j = 0; j < panels; ++j)
                    widen_panel(g.b + (column / 16 + j) * g.panel_stride + first * 64, count, b + j * count * 128);
                for (index_t i = 0; i < rows; i += some_rows) {
                    const index_t some = rows - i < some_rows ? rows - i : some_rows;
                    const gemm_args part = rows_from(g, row + i, some);
                    widen_rows(part, first, count, pitch, a);
                    for (index_t j = 0; j < panels; ++j) {
                        tile_job t = make_job(part, column + 16 * j, left - 16 * j < 16 ? left - 16 * j : 16);
                        t.a = a;
                        t.lda = pitch;
                        t.segment = &origin;
                        t.segments = 1;
                        t.k4 = count;
                        t.tail = 0;
                        t.b = b + j * count * 128;
                        if (k > 0) {
                            t.start = partial + i * partial_columns + 16 * j;
                            t.start_stride = partial_columns;
                        }
                        const bool last = k + 1 == blocks;
                        if (!last) {
                            t.outer[0] = t.outer[1] = {};
                            t.row_scale = nullptr;
                            t.ep = &sums;
                            t.cols = 16;
                            t.c = reinterpret_cast<std::uint8_t*>(partial + i * partial_columns + 16 * j);
                            t.ldc_bytes = partial_columns * 4;
                        }
                        run_tiles<1, operand_form::wide>(part, t, 0, column + 16 * j, some, last);
                    }
                }
            }
        }
    }
}
