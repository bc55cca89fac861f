// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/gemm.hpp in the region of AMX: matrix products and convolutions on tiles. Sixteen quads
// of a packed panel [K/4][16][4] are a B tile as they lie, and rows of x an A tile, whatever their stride:
//
//     tmm0 tmm1     tmm4   A: 16 rows, up to 64 bytes of K           tmm6   B: the same K of one panel
//     tmm2 tmm3     tmm5   A: 16 more                                tmm7   B: of the next one
//
//     for each block of rows that stays in the second-level cache
//         for each pair of panels
//             for each pair of A tiles
//                 tmm0..3 = bias
//                 for each step of K: load tmm4..7, four products
//                 store tmm0..3 to 4 KiB on the stack, output stage of avx512vnni
//
// One configuration serves a call, so all tiles are whole:
//
//   rows   The last tile of a matrix, or of an image row, begins so early that it ends with it; the rows that it
//          shares with the tile before are not stored again.
//   K      Cut into equal steps if it can be (144 bytes = 3 x 48). Else steps of 64 bytes, and the end of each
//          row copied next to zeros: the last step takes the last 16 quads of the panel, and those that had
//          their turn already meet zeros.
//   s8     TDPBSSD instead of TDPBUSD. A signed row stands for codes 128 more, so the sums start with 128 * sum w.
//
// Where image rows are short, or segments end between steps, rows are copied to the stack one segment next to the
// other, some at a time. Products that do not fill a tile, or do not fit there, go to avx512vnni.

using namespace avx512vnni;

/// Where the rows of a product lie: row m is pixel m % run of image row m / run (see conv_args). A matrix is
/// one image row.
struct row_grid {
    index_t run, in_line, out_line;
    const std::uint8_t* ends;
    index_t end_groups;
};

inline constexpr index_t tile_height = 16, tile_quads = 16;
inline constexpr index_t most_rows = 512;        ///< of a block of rows
inline constexpr index_t cached_bytes = 1 << 19; ///< of a block of rows: a part of the second-level cache
inline constexpr index_t copy_room = 100 * 1024;
inline constexpr index_t least_quads = 8; ///< below, the output stage is all that counts

/// How K is cut: `steps` tiles of `quads` quads for each segment; then, if `end`, the last `quads` quads of the
/// panel, of which the first `covered` are zero in the copies of the rows.
struct k_cut {
    index_t segments, steps, quads, covered;
    bool end;
};

inline bool cuts_evenly(index_t quads) { return quads > 0 && quads % ((quads + tile_quads - 1) / tile_quads) == 0; }
inline k_cut cut_k(index_t segments, index_t whole_quads, bool tail) {
    const index_t quads = whole_quads + tail, tiles = (quads + tile_quads - 1) / tile_quads;
    if (!tail && cuts_evenly(quads)) return {segments, tiles, quads / tiles, 0, false};
    const index_t last = quads < tile_quads ? quads : tile_quads, steps = whole_quads / tile_quads;
    return {segments, steps, last, last - (quads - tile_quads * steps), true}; // one segment
}

/// An A tile. Its rows from `skip` on are rows `first` ... first + count - 1 of the product.
struct a_tile {
    const std::uint8_t* a;   ///< row 0
    const std::uint8_t* end; ///< row 0 of the copies of the end of K
    index_t first, skip, count;
};

/// What the tiles of one pair of panels have in common.
struct tile_product {
    const index_t* segment;
    k_cut k;
    index_t lda, end_lda;
    const std::int8_t* b;
    const std::int8_t* b_end;
    index_t panel_stride;
    const std::int32_t* start; ///< where the sums of each column begin
    bool a_signed;
};

template <int MT, int NP>
NOTCH_OP void multiply_step(const tile_product& p, const std::uint8_t* a, const std::uint8_t* below, index_t lda,
                            const std::int8_t* b) {
    load_tile<4>(a, lda);
    load_tile<6>(b, 64);
    dot_tiles<0, 4, 6>(p.a_signed);
    if constexpr (NP == 2) {
        load_tile<7>(b + p.panel_stride, 64);
        dot_tiles<1, 4, 7>(p.a_signed);
    }
    if constexpr (MT == 2) {
        load_tile<5>(below, lda);
        dot_tiles<2, 5, 6>(p.a_signed);
        if constexpr (NP == 2) dot_tiles<3, 5, 7>(p.a_signed);
    }
}

/// MT tiles of rows times NP panels to lanes[16 * MT][NP][16].
template <int MT, int NP>
NOTCH_NOINLINE void multiply_tiles(const tile_product& p, const a_tile* tiles, std::int32_t* lanes) {
    load_tile<0>(p.start, 0);
    if constexpr (NP == 2) load_tile<1>(p.start + 16, 0);
    if constexpr (MT == 2) load_tile<2>(p.start, 0);
    if constexpr (MT == 2 && NP == 2) load_tile<3>(p.start + 16, 0);
    const k_cut k = p.k;
    const std::int8_t* b = p.b;
    for (index_t s = 0; s < k.segments; ++s) {
        const std::uint8_t* a = tiles[0].a + p.segment[s];
        const std::uint8_t* below = tiles[MT - 1].a + p.segment[s];
        for (index_t i = 0; i < k.steps; ++i) {
            multiply_step<MT, NP>(p, a, below, p.lda, b);
            a += 4 * k.quads;
            below += 4 * k.quads;
            b += 64 * k.quads;
        }
    }
    if (k.end) multiply_step<MT, NP>(p, tiles[0].end, tiles[MT - 1].end, p.end_lda, p.b_end);
    constexpr index_t pitch = 64 * NP;
    store_tile_rows<0>(lanes, pitch);
    if constexpr (NP == 2) store_tile_rows<1>(lanes + 16, pitch);
    if constexpr (MT == 2) store_tile_rows<2>(lanes + 256 * NP, pitch);
    if constexpr (MT == 2 && NP == 2) store_tile_rows<3>(lanes + 256 * NP + 16, pitch);
}

/// The output stages of a block, as in gemm_tile.
struct output_stages {
    code_stage code;
    raw_stage raw;
    bool codes;
};
inline output_stages make_stages(const tile_job& t) {
    const epilogue_args& ep = *t.ep;
    const bool plain = avx512vnni::is_plain(t);
    return {make_stage(ep), make_raw_stage(ep, t.channel, plain), plain && register_codes(ep)};
}

/// Some rows of lanes[][NP][16] to c; t's row terms are those of row 0, `first` is the first row here. Codes leave by
/// whole vectors of 64; the few rows that do not fill one take the way of the rarer outputs.
template <int NP>
void store_lanes(const tile_job& t, const output_stages& stages, const std::int32_t* lanes, index_t first, index_t rows,
                 std::uint8_t* c) {
    if (stages.codes) {
        constexpr int together = 4 / NP;
        for (; rows >= together; rows -= together, first += together, lanes += 64, c += together * t.ldc_bytes) {
            acc16 acc[together][NP];
            NOTCH_UNROLL
            for (int r = 0; r < together; ++r) {
                NOTCH_UNROLL
                for (int j = 0; j < NP; ++j) acc[r][j] = load_s32(lanes + (r * NP + j) * 16);
            }
            store_codes<together, NP>(*t.ep, stages.code, acc, t.channel, t.cols, c, t.ldc_bytes);
        }
    } else if (stages.raw.direct) {
        for (; rows > 0; --rows, lanes += 16 * NP, c += t.ldc_bytes) {
            acc16 acc[1][NP];
            NOTCH_UNROLL
            for (int j = 0; j < NP; ++j) acc[0][j] = load_s32(lanes + 16 * j);
            store_raw<1, NP>(*t.ep, stages.raw, acc, t.cols, c, t.ldc_bytes, nullptr);
        }
    }
    if (rows > 0) store_tile(t, lanes, first, rows, NP, c);
}

/// `count` tiles of the block of rows from `origin` on, times NP panels.
template <int NP>
NOTCH_NOINLINE void multiply_block(const tile_product& p, const tile_job& t, const row_grid& grid, const a_tile* tiles,
                                   index_t count, index_t origin) {
    const output_stages stages = make_stages(t);
    const index_t line_bytes = grid.out_line * store_size(t.ep->store);
    alignas(64) std::int32_t lanes[2 * tile_height * NP * 16];
    for (index_t i = 0; i < count; i += 2) {
        const index_t here = count - i < 2 ? 1 : 2;
        if (here == 2)
            multiply_tiles<2, NP>(p, tiles + i, lanes);
        else
            multiply_tiles<1, NP>(p, tiles + i, lanes);
        for (index_t h = 0; h < here; ++h) {
            const a_tile& tile = tiles[i + h];
            const std::int32_t* from = lanes + (h * tile_height + tile.skip) * NP * 16;
            for (index_t m = tile.first, end = m + tile.count; m < end;) { // an image row at a time
                const index_t x = m % grid.run, left = end - m, rows = grid.run - x < left ? grid.run - x : left;
                store_lanes<NP>(t, stages, from, m - origin, rows, t.c + m / grid.run * line_bytes + x * t.ldc_bytes);
                from += rows * NP * 16;
                m += rows;
            }
        }
    }
}

/// start[c] = bias[c] + 128 * the sum of the weights of column c.
inline NOTCH_NOINLINE void start_signed(const std::int32_t* bias, const std::int8_t* panel, index_t quads,
                                        std::int32_t* start) {
    const a_quad all128 = set_a<operand_form::direct>(0x80808080u);
    acc16 sum[4] = {load_s32(bias), set_s32(0), set_s32(0), set_s32(0)};
    for (; quads >= 4; quads -= 4, panel += 256) {
        NOTCH_UNROLL
        for (int u = 0; u < 4; ++u)
            dot<operand_form::direct>(sum[u], all128, load_b<operand_form::direct>(panel + 64 * u));
    }
    for (; quads > 0; --quads, panel += 64)
        dot<operand_form::direct>(sum[0], all128, load_b<operand_form::direct>(panel));
    store_s32(start, add(add(sum[0], sum[1]), add(sum[2], sum[3])), 16);
}

/// A run of bytes, in whole vectors: up to 63 bytes behind it are set to 0.
inline void copy_run(const std::uint8_t* from, index_t bytes, std::uint8_t* to) {
    for (; bytes >= 64; bytes -= 64, from += 64, to += 64) store_nbytes<true>(to, load_nbytes<true>(from, 64), 64);
    if (bytes > 0) store_nbytes<true>(to, load_nbytes<false>(from, bytes), 64);
}
/// The last bytes of a row (1..64) behind the quads that are covered, in a vector of zeros. In place, too.
inline void copy_end(const std::uint8_t* from, index_t bytes, const k_cut& k, std::uint8_t* to) {
    const nvec v = load_nbytes<false>(from, bytes);
    store_nbytes<true>(to, set_n32(0), 64);
    store_nbytes<false>(to + 4 * k.covered, v, bytes);
}

inline const std::uint8_t* pixel(const gemm_args& g, const row_grid& grid, index_t m) {
    return g.a + m / grid.run * grid.in_line + m % grid.run * g.lda;
}

/// Tiles of rows first ... last - 1 where they lie; ends of K go to `copy`, 1 KiB a tile.
inline NOTCH_NOINLINE index_t tiles_in_place(const gemm_args& g, const row_grid& grid, const k_cut& k, index_t first,
                                             index_t last, std::uint8_t* copy, a_tile* tiles) {
    index_t count = 0;
    for (index_t m = first; m < last; ++count) {
        const index_t x = m % grid.run, left = grid.run - x < last - m ? grid.run - x : last - m;
        a_tile& t = tiles[count];
        t.skip = x + tile_height > grid.run ? x + tile_height - grid.run : 0;
        t.first = m;
        t.count = left < tile_height ? left : tile_height;
        t.a = pixel(g, grid, m - t.skip);
        t.end = copy;
        if (k.end) {
            const index_t at = 4 * tile_quads * k.steps, bytes = 4 * g.k4 + g.tail - at;
            for (index_t r = 0; r < tile_height; ++r, copy += 64)
                copy_end(t.a + r * g.lda + g.segment[0] + at, bytes, k, copy);
        }
        m += t.count;
    }
    return count;
}

/// Tiles of copies of rows first ... last - 1: all segments of a row next to each other, then its ends.
inline NOTCH_NOINLINE index_t tiles_copied(const gemm_args& g, const row_grid& grid, const k_cut& k, index_t first,
                                           index_t last, index_t pitch, std::uint8_t* copy, a_tile* tiles) {
    const index_t quads = g.k4 + (g.tail > 0), end = 4 * tile_quads * k.steps;
    index_t count = 0;
    for (index_t m = first; m < last; ++count) {
        const index_t rows = last - m < tile_height ? last - m : tile_height;
        tiles[count] = {copy, copy + end, m, 0, rows};
        for (index_t r = 0; r < rows; ++r, ++m, copy += pitch) {
            const std::uint8_t* from = pixel(g, grid, m);
            std::uint8_t* to = copy;
            for (index_t s = 0; s < g.segments; ++s, to += 4 * quads)
                copy_run(from + g.segment[s], 4 * g.k4 + g.tail, to);
            if (grid.end_groups > 0) copy_run(grid.ends + m * 4 * grid.end_groups, 4 * grid.end_groups, to);
            if (k.end) copy_end(copy + end, 4 * (k.quads - k.covered), k, copy + end);
        }
        for (index_t r = rows; r < tile_height; ++r)
            for (index_t i = 0; i < pitch; i += 64, copy += 64) store_nbytes<true>(copy, set_n32(0), 64);
    }
    return count;
}

inline tile_shapes shapes_of(const k_cut& k) {
    tile_shapes s = {};
    s.palette = 1;
    for (int t = 0; t < 8; ++t) {
        s.rows[t] = static_cast<std::uint8_t>(t < 6 ? tile_height : k.quads);
        s.row_bytes[t] = static_cast<std::uint16_t>(t == 4 || t == 5 ? 4 * k.quads : 64);
    }
    return s;
}

/// Tells the functor of the rectangles of rows first ... last - 1, an image row at a time.
inline NOTCH_NOINLINE void tell_tiles(const gemm_args& g, const tile_job& t, const row_grid& grid, index_t first,
                                      index_t last) {
    const index_t size = store_size(g.ep.store);
    for (index_t m = first; m < last;) {
        const index_t x = m % grid.run, rows = grid.run - x < last - m ? grid.run - x : last - m;
        g.ep.on_tile(g.ep.context, {t.c + (m / grid.run * grid.out_line + x * g.ldc) * size, g.row + m,
                                    g.col + t.channel, rows, t.cols, g.ldc});
        m += rows;
    }
}

/// The whole product, or false if it is none for tiles; then nothing has happened.
inline NOTCH_NOINLINE bool multiply_rows(const gemm_args& g, const row_grid& grid) {
    const index_t quads = g.k4 + (g.tail > 0), all = g.segments * quads + grid.end_groups;
    if (g.m < tile_height || g.n <= 0 || all < least_quads) return false;
    // In place where all steps of K can be loaded and short image rows do not waste much of the tiles.
    const index_t tiles_of_line = (grid.run + tile_height - 1) / tile_height;
    const bool in_place = grid.end_groups == 0 && grid.run >= tile_height &&
                          (g.segments == 1 || (g.tail == 0 && cuts_evenly(quads))) &&
                          4 * (g.m / grid.run * tiles_of_line) <= 5 * ((g.m + tile_height - 1) / tile_height);
    const k_cut k = in_place ? cut_k(g.segments, g.k4, g.tail > 0) : cut_k(1, all, false);
    // An odd number of cache lines: rows a power of two apart would share the cache's places.
    const index_t lines = (k.end ? tile_quads * (k.steps + 1) : all) * 4 + 63, pitch = (lines / 64 | 1) * 64;
    index_t block = (in_place ? cached_bytes / (4 * all) : copy_room / pitch) / tile_height * tile_height;
    if (!in_place && block < tile_height) return false;
    if (block >= 2 * tile_height) block = block / (2 * tile_height) * (2 * tile_height);
    if (in_place && block < 2 * tile_height) block = 2 * tile_height;
    const index_t most = g.ep.on_tile ? most_rows / 4 : most_rows; // a functor finds its tile in the first-level cache
    if (block > most) block = most;
    if (in_place && grid.run < block) block = block / grid.run * grid.run; // whole image rows
    // A tile more for each image row that begins in a block, and for the ends of the block.
    a_tile tiles[2 * most_rows / tile_height + 2];
    alignas(64) std::uint8_t copy[copy_room + 64];
    std::int32_t sums[most_rows];
    alignas(64) std::int32_t start[32];
    const index_t origin = 0;
    tile_product p;
    p.segment = in_place ? g.segment : &origin;
    p.k = k;
    p.lda = in_place ? g.lda : pitch;
    p.end_lda = in_place ? 64 : pitch;
    p.panel_stride = g.panel_stride;
    p.a_signed = g.flip;
    const tile_shapes shapes = shapes_of(k);
    bool loaded = false;
    for (index_t row = 0; row < g.m; row += block) {
        const index_t last = g.m - row < block ? g.m : row + block;
        const index_t count = in_place ? tiles_in_place(g, grid, k, row, last, copy, tiles)
                                       : tiles_copied(g, grid, k, row, last, pitch, copy, tiles);
        if (g.w_zero_point) // matrices only: one segment
            for (index_t m = row; m < last; ++m)
                sums[m - row] = sum_bytes(pixel(g, grid, m) + g.segment[0], g.segment_bytes, g.flip);
        for (index_t column = 0; column < g.n; column += 32) {
            tile_job t = make_job(g, column, g.n - column < 32 ? g.n - column : 32);
            for (outer_product& o : t.outer)
                if (o.row) o.row += row;
            if (g.w_zero_point) t.outer[1] = {sums, g.w_zero_point + column};
            if (t.row_scale) t.row_scale += row;
            p.b = t.b;
            p.b_end = t.b + (all - k.quads) * 64;
            p.start = t.start;
            if (g.flip) {
                for (index_t j = 0; 16 * j < t.cols; ++j)
                    start_signed(t.start + 16 * j, t.b + j * g.panel_stride, all, start + 16 * j);
                p.start = start;
            }
            if (!loaded) load_shapes(shapes);
            loaded = true;
            if (t.cols > 16)
                multiply_block<2>(p, t, grid, tiles, count, row);
            else
                multiply_block<1>(p, t, grid, tiles, count, row);
            if (g.ep.on_tile) { // may use tiles itself
                release_tiles();
                loaded = false;
                tell_tiles(g, t, grid, row, last);
            }
        }
    }
    if (loaded) release_tiles();
    return true;
}

inline constexpr const char* gemm_name = "gemm_u8s8_32x32c64__amx";

inline void gemm_u8s8(const gemm_args& g) {
    if (!multiply_rows(g, {g.m, 0, 0, nullptr, 0})) avx512vnni::gemm_u8s8(g);
}

inline constexpr gemm_kernels gemm_table = {gemm_name, gemm_u8s8};
