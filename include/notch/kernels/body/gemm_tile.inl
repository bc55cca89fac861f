// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/body/gemm.inl in the region of each instruction set: tiles of an integer matrix product on
// the packed layout [N/16][segments][K/4][16][4], written over the operations of
// kernels/arch/<isa>.hpp:
//
//   acc16           16 int32 accumulators
//   a_quad, b_quad  four bytes of a row, broadcast; a 64-byte row of a panel; ready to multiply
//   dot<P>          acc16 += a_quad . b_quad, four products a lane; exact
//   tile_rows<NP>   rows of a tile with NP panels
//   store_codes     the register path of the epilogue
//
// P says how the operands come:
//
//   direct   bytes as they are, in the rows of the caller and in the packed panels
//   pairs    the same, for weights for which packing has proved that the sum of two
//            products cannot saturate 16 bits (vpmaddubsw)
//   wide     bytes that were widened to 16 bits beforehand, into a block on the stack:
//            where the exact product works on 16-bit lanes (vpmaddwd) the tile then
//            has loads and products only
//   offset   codes minus 128, for dot products of signed bytes (sdot): the accumulators
//            start with 128 * sum w
//
// The accumulators of a tile stay in registers for all of K. Only the wide product splits K, so that
// its blocks stay in L1; partial sums are exact int32, in any order.

/// Bytes 0..count-1 (count <= 4), the others 0: never reads past the row.
inline std::uint32_t load_partial(const std::uint8_t* p, index_t count) {
    std::uint32_t v = p[0];
    if (count > 1) v |= static_cast<std::uint32_t>(p[1]) << 8;
    if (count > 2) v |= static_cast<std::uint32_t>(p[2]) << 16;
    if (count > 3) v |= static_cast<std::uint32_t>(p[3]) << 24;
    return v;
}

/// Some tiles, one below the other, of the same panels.
struct tile_job {
    const std::uint8_t* a; ///< row 0
    index_t lda;
    const index_t* segment;
    index_t segments, k4, tail;
    const std::int8_t* b;
    index_t panel_stride;
    const std::int32_t* start; ///< where the accumulators begin: the bias, or partial sums
    index_t start_stride;      ///< from one row to the next; 0 for the bias
    outer_product outer[2];    ///< row terms of row 0, column terms of column 0
    const float* row_scale;    ///< of row 0, or null
    const epilogue_args* ep;
    index_t channel, cols;
    std::uint8_t* c;
    index_t ldc_bytes;
    index_t tiles;
};

/// Whether accumulators of a product or a tile need no correction before the output stage.
template <class Job> NOTCH_OP bool is_plain(const Job& t) { return !t.outer[0].row && !t.outer[1].row && !t.row_scale; }

/// Accumulators to where they go from the registers: floats and sums to c, others to `apart` for store_tile. Without
/// branches: another loop over the accumulators, and g++ 12 would keep them in memory.
struct raw_stage {
    float_mask floats;
    const float *multiplier, *bias;
    bool direct;
};
inline constexpr float zeros[16 * max_panels] = {};
NOTCH_OP raw_stage make_raw_stage(const epilogue_args& ep, index_t channel, bool plain) {
    const bool floats = plain && plain_floats(ep);
    return {make_float_mask(floats), floats ? ep.multiplier + channel : zeros,
            floats && ep.f_bias ? ep.f_bias + channel : zeros, floats || (plain && ep.store == store_kind::s32)};
}
template <int MR, int NP>
NOTCH_OP void store_raw(const epilogue_args& ep, const raw_stage& r, acc16 (&acc)[MR][NP], index_t cols,
                        std::uint8_t* c, index_t ldc, std::int32_t* apart) {
    std::uint8_t* const to = r.direct ? c : reinterpret_cast<std::uint8_t*>(apart);
    const index_t step = r.direct ? ldc : 64 * NP;
    NOTCH_UNROLL
    for (int j = 0; j < NP; ++j) {
        const index_t left = r.direct ? cols - 16 * j : 16, width = left < 16 ? left : 16;
        NOTCH_UNROLL
        for (int i = 0; i < MR; ++i)
            store_bits(to + i * step + 64 * j,
                       floats_or_sums(acc[i][j], r.multiplier + 16 * j, r.bias + 16 * j, ep.f_lo, ep.f_hi, r.floats),
                       width);
    }
}

/// The codes of fixed_codes, of rows x panels vectors of accumulators.
inline NOTCH_NOINLINE void store_fixed(const tile_job& t, const std::int32_t* lanes, index_t rows, index_t panels,
                                       std::uint8_t* c) {
    const epilogue_args steps = of_steps(*t.ep);
    const code_stage stage = make_stage(steps);
    const index_t distance = 16 * panels, ldc = t.ldc_bytes;
    for (index_t j = 0; j < panels; ++j, lanes += 16, c += 16) {
        const index_t left = t.cols - 16 * j, cols = left < 16 ? left : 16, channel = t.channel + 16 * j;
        const round_factors f = make_factors(load_s32(steps.mantissa + channel), load_s32(steps.shift + channel));
        index_t i = 0;
        for (; i + 4 <= rows; i += 4)
            store_steps<4>(steps, stage, f, lanes + i * distance, distance, cols, c + i * ldc, ldc);
        for (; i < rows; ++i) store_steps<1>(steps, stage, f, lanes + i * distance, distance, cols, c + i * ldc, ldc);
    }
}

/// 16-bit codes of one product and one rounding, of rows x panels vectors of accumulators: what store_any gives,
/// without asking for each vector.
inline NOTCH_NOINLINE void store_word_codes(const tile_job& t, const std::int32_t* lanes, index_t rows, index_t panels,
                                            std::uint8_t* c) {
    const epilogue_args& ep = *t.ep;
    const f32x16 lo = set_f32(static_cast<float>(ep.lo - ep.zero_point)),
                 hi = set_f32(static_cast<float>(ep.hi - ep.zero_point));
    const acc16 zero_point = set_s32(ep.zero_point);
    for (index_t j = 0; j < panels; ++j, lanes += 16, c += 32) {
        const index_t left = t.cols - 16 * j, cols = left < 16 ? left : 16;
        const f32x16 m = load_f32(ep.multiplier + t.channel + 16 * j);
        for (index_t i = 0; i < rows; ++i) {
            const f32x16 y = min(max(mul(to_f32(load_s32(lanes + i * 16 * panels)), m), lo), hi);
            store_words(reinterpret_cast<std::uint16_t*>(c + i * t.ldc_bytes), add(to_s32(y), zero_point), cols);
        }
    }
}

/// A tile that the register path does not cover: rows x panels vectors of accumulators. Not inlined,
/// so that it does not weigh on the registers of the loops.
inline NOTCH_NOINLINE void store_tile(const tile_job& t, const std::int32_t* lanes, index_t first, index_t rows,
                                      index_t panels, std::uint8_t* c) {
    const epilogue_args& ep = *t.ep;
    const index_t size = store_size(ep.store);
    const bool corrected = t.outer[0].row || t.outer[1].row;
    if (fixed_codes(ep) && !corrected) {
        store_fixed(t, lanes, rows, panels, c);
        return;
    }
    if (ep.store == store_kind::s16 && ep.mode == requant_mode::float_scale && !corrected && !t.row_scale) {
        store_word_codes(t, lanes, rows, panels, c);
        return;
    }
    for (index_t j = 0; j < panels; ++j) {
        const index_t left = t.cols - 16 * j, cols = left < 16 ? left : 16, channel = t.channel + 16 * j;
        for (index_t i = 0; i < rows; ++i) {
            acc16 v = load_s32(lanes + (i * panels + j) * 16);
            if (corrected) {
                for (int o = 0; o < 2; ++o)
                    if (t.outer[o].row)
                        v = sub(v, mul_s32(set_s32(t.outer[o].row[first + i]), load_s32(t.outer[o].col + 16 * j)));
            }
            std::uint8_t* out = c + i * t.ldc_bytes + 16 * j * size;
            if (t.row_scale)
                store_scaled(ep, v, set_f32(t.row_scale[first + i]), channel, cols, out);
            else
                store_any(ep, v, channel, cols, out);
        }
    }
}

/// t.tiles tiles of MR rows x NP panels. KU chains of accumulators hide the latency of short tiles.
template <int MR, int NP, int KU, operand_form P> NOTCH_NOINLINE void gemm_tile(const tile_job& t) {
    const epilogue_args& ep = *t.ep;
    const index_t stride = t.panel_stride;
    const index_t lda = t.lda;
    constexpr int b_bytes = P == operand_form::wide ? 128 : 64;
    const bool plain = is_plain(t);
    const bool codes = plain && register_codes(ep);
    const code_stage stage = make_stage(ep);
    const raw_stage raw = make_raw_stage(ep, t.channel, plain);
    const std::uint8_t* a = t.a;
    std::uint8_t* c = t.c;
    const std::int32_t* start = t.start;
    for (index_t n = 0; n < t.tiles; ++n, a += MR * lda, c += MR * t.ldc_bytes, start += MR * t.start_stride) {
        acc16 acc[KU][MR][NP];
        NOTCH_UNROLL
        for (int j = 0; j < NP; ++j) {
            const acc16 bias = load_s32(start + 16 * j);
            NOTCH_UNROLL
            for (int i = 0; i < MR; ++i) {
                if constexpr (P == operand_form::wide)
                    acc[0][i][j] = load_s32(start + i * t.start_stride + 16 * j);
                else
                    acc[0][i][j] = bias; // only the wide product has partial sums
                NOTCH_UNROLL
                for (int u = 1; u < KU; ++u) acc[u][i][j] = set_s32(0);
            }
        }
        const std::int8_t* b = t.b;
        for (index_t s = 0; s < t.segments; ++s) {
            // A base pointer every three rows: the others are reached by [p + lda] and [p + 2 * lda].
            const std::uint8_t* p[(MR + 2) / 3];
            NOTCH_UNROLL
            for (int i = 0; i < (MR + 2) / 3; ++i) p[i] = a + t.segment[s] + 3 * i * lda;
            index_t k = t.k4;
            for (; k >= KU; k -= KU) {
                NOTCH_UNROLL
                for (int u = 0; u < KU; ++u) {
                    b_quad bq[NP];
                    NOTCH_UNROLL
                    for (int j = 0; j < NP; ++j) bq[j] = load_b<P>(b + j * stride + b_bytes * u);
                    NOTCH_UNROLL
                    for (int i = 0; i < MR; ++i) {
                        const a_quad aq = load_a<P>(p[i / 3] + i % 3 * lda + 4 * u);
                        NOTCH_UNROLL
                        for (int j = 0; j < NP; ++j) dot<P>(acc[u][i][j], aq, bq[j]);
                    }
                }
                NOTCH_UNROLL
                for (int i = 0; i < (MR + 2) / 3; ++i) p[i] += 4 * KU;
                b += b_bytes * KU;
            }
            if constexpr (KU > 1) {
                for (; k > 0; --k) {
                    NOTCH_UNROLL
                    for (int i = 0; i < MR; ++i) {
                        const a_quad aq = load_a<P>(p[i / 3] + i % 3 * lda);
                        NOTCH_UNROLL
                        for (int j = 0; j < NP; ++j) dot<P>(acc[0][i][j], aq, load_b<P>(b + j * stride));
                    }
                    NOTCH_UNROLL
                    for (int i = 0; i < (MR + 2) / 3; ++i) p[i] += 4;
                    b += b_bytes;
                }
            }
            if constexpr (P != operand_form::wide) {
                if (t.tail > 0) {
                    NOTCH_UNROLL
                    for (int i = 0; i < MR; ++i) {
                        const a_quad aq = set_a<P>(load_partial(p[i / 3] + i % 3 * lda, t.tail));
                        NOTCH_UNROLL
                        for (int j = 0; j < NP; ++j) dot<P>(acc[0][i][j], aq, load_b<P>(b + j * stride));
                    }
                    b += b_bytes;
                }
            }
        }
        NOTCH_UNROLL
        for (int u = 1; u < KU; ++u) {
            NOTCH_UNROLL
            for (int i = 0; i < MR; ++i) {
                NOTCH_UNROLL
                for (int j = 0; j < NP; ++j) acc[0][i][j] = add(acc[0][i][j], acc[u][i][j]);
            }
        }
        if (codes) {
            store_codes<MR, NP>(ep, stage, acc[0], t.channel, t.cols, c, t.ldc_bytes);
            continue;
        }
        alignas(64) std::int32_t apart[MR * NP * 16];
        store_raw<MR, NP>(ep, raw, acc[0], t.cols, c, t.ldc_bytes, apart);
        if (!raw.direct) store_tile(t, apart, n * MR, MR, NP, c);
    }
}

using gemm_tile_fn = void (*)(const tile_job&);

/// The number of accumulator chains for a tile: enough to hide the latency of the dot product
/// (chains_needed of the instruction set), not more: short K would pay for joining them.
template <int MR, int NP> constexpr int chains() {
    return MR * NP >= chains_needed ? 1 : 2 * MR * NP >= chains_needed ? 2 : 4 * MR * NP >= chains_needed ? 4 : 8;
}

/// The tiles that exist: full height, then halves. Fewer tiles mean shorter compile times.
template <int NP, operand_form P, int MR = tile_rows<NP>()> gemm_tile_fn pick_tile(index_t rows, index_t& taken) {
    if constexpr (MR > 1) {
        if (rows < MR) return pick_tile<NP, P, (MR > 8 ? 8 : MR > 4 ? 4 : MR / 2)>(rows, taken);
    }
    taken = MR;
    return gemm_tile<MR, NP, chains<MR, NP>(), P>;
}

/// t.a, t.c, t.start and the terms of outer products are those of row 0 of `rows` rows; on_tile is
/// called if `last`, the accumulators being complete. Leaves t behind the last row; not a copy, since
/// copying what was written a moment ago waits for the stores.
template <int NP, operand_form P>
void run_tiles(const gemm_args& g, tile_job& t, index_t first_row, index_t column, index_t rows, bool last) {
    for (index_t row = 0; row < rows;) {
        index_t height = 0;
        const gemm_tile_fn tile = pick_tile<NP, P>(rows - row, height);
        const bool tell = last && g.ep.on_tile;
        t.tiles = tell ? 1 : (rows - row) / height;
        tile(t);
        const index_t done = t.tiles * height;
        if (tell) g.ep.on_tile(g.ep.context, {t.c, g.row + first_row + row, g.col + column, done, t.cols, g.ldc});
        t.a += done * t.lda;
        t.c += done * t.ldc_bytes;
        t.start += done * t.start_stride;
        for (outer_product& o : t.outer)
            if (o.row) o.row += done;
        if (t.row_scale) t.row_scale += done;
        row += done;
    }
}

/// The job of all rows of g over the panels from `column` on.
inline tile_job make_job(const gemm_args& g, index_t column, index_t cols) {
    tile_job t;
    t.a = g.a;
    t.lda = g.lda;
    t.segment = g.segment;
    t.segments = g.segments;
    t.k4 = g.k4;
    t.tail = g.tail;
    t.b = g.b + column / 16 * g.panel_stride;
    t.panel_stride = g.panel_stride;
    t.start = g.ep.bias + column;
    t.start_stride = 0;
    for (int o = 0; o < 2; ++o) {
        t.outer[o] = g.outer[o];
        if (t.outer[o].col) t.outer[o].col += column;
    }
    t.row_scale = g.row_scale;
    t.ep = &g.ep;
    t.channel = column;
    t.cols = cols;
    t.c = static_cast<std::uint8_t*>(g.c) + column * store_size(g.ep.store);
    t.ldc_bytes = g.ldc * store_size(g.ep.store);
    t.tiles = 0;
    return t;
}

/// Calls f<NP>(column, cols) for groups of panels, from left to right.
template <class F> NOTCH_OP void for_panels(index_t n, const F& f) {
    for (index_t column = 0; column < n;) {
        const index_t left = n - column, panels = (left + 15) / 16;
        if constexpr (max_panels == 4) {
            if (panels >= 4) {
                f.template operator()<4>(column, left < 64 ? left : 64);
                column += 64;
                continue;
            }
            if (panels == 3) {
                f.template operator()<3>(column, left);
                return;
            }
            if (panels == 2) {
                f.template operator()<2>(column, left);
                return;
            }
        }
        f.template operator()<1>(column, left < 16 ? left : 16);
        column += 16;
    }
}

#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
#include <notch/kernels/body/gemm_still.inl>
#endif
