// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/gemm.hpp in the region of each instruction set: the integer matrix product on the packed
// layout [N/16][segment][K/4][16][4], written over the operations of kernels/arch/<isa>.hpp:
//
//   acc16           16 int32 accumulators
//   a_quad, b_quad  four bytes of a row, broadcast; a 64-byte row of a panel; ready to multiply
//   dot<Safe>       acc16 += a_quad . b_quad, four products a lane; exact. Safe allows vpmaddubsw.
//   tile_rows<NP>   rows of a tile with NP panels
//   store_codes     the register path of the epilogue
//
// The accumulators of a tile stay in registers for all of K; K is never split, so no partial sums
// go through memory.

/// Bytes 0..count-1 (count < 4), the others 0: never reads past the row.
static inline std::uint32_t load_partial(const std::uint8_t* p, index_t count) {
    std::uint32_t v = p[0];
    if (count > 1) v |= static_cast<std::uint32_t>(p[1]) << 8;
    if (count > 2) v |= static_cast<std::uint32_t>(p[2]) << 16;
    return v;
}

/// The f32 output from the registers.
template <int MR, int NP>
NOTCH_OP void store_floats(const epilogue_args& ep, acc16 (&acc)[MR][NP], index_t channel, index_t cols,
                           std::uint8_t* c, index_t ldc_bytes) {
    const f32x16 lo = set_f32(ep.f_lo), hi = set_f32(ep.f_hi);
    NOTCH_UNROLL
    for (int j = 0; j < NP; ++j) {
        const f32x16 m = load_f32(ep.multiplier + channel + 16 * j);
        const index_t left = cols - 16 * j;
        NOTCH_UNROLL
        for (int i = 0; i < MR; ++i)
            store_f32(reinterpret_cast<float*>(c + i * ldc_bytes) + 16 * j, min(max(mul(to_f32(acc[i][j]), m), lo), hi),
                      left < 16 ? left : 16);
    }
}

/// A tile that the register path does not cover: rows x panels vectors of accumulators.
static NOTCH_NOINLINE void store_tile(const epilogue_args& ep, const std::int32_t* lanes, index_t rows,
                                      index_t panels, index_t channel, index_t cols, std::uint8_t* c,
                                      index_t ldc_bytes) {
    const index_t size = store_size(ep.store);
    for (index_t i = 0; i < rows; ++i)
        for (index_t j = 0; j < panels; ++j) {
            const index_t left = cols - 16 * j;
            store_any(ep, load_s32(lanes + (i * panels + j) * 16), channel + 16 * j, left < 16 ? left : 16,
                      c + i * ldc_bytes + 16 * j * size);
        }
}

/// One tile: MR rows x NP panels. KU chains of accumulators hide the latency of short tiles.
template <int MR, int NP, int KU, bool Safe>
NOTCH_NOINLINE void gemm_tile(const gemm_args& g, const std::uint8_t* a, const std::int8_t* b,
                              index_t channel, index_t cols, std::uint8_t* c, index_t ldc_bytes) {
    acc16 acc[KU][MR][NP];
    NOTCH_UNROLL
    for (int j = 0; j < NP; ++j) {
        const acc16 bias = load_s32(g.ep.bias + channel + 16 * j);
        NOTCH_UNROLL
        for (int i = 0; i < MR; ++i) {
            acc[0][i][j] = bias;
            NOTCH_UNROLL
            for (int u = 1; u < KU; ++u) acc[u][i][j] = set_s32(0);
        }
    }
    const index_t stride = g.panel_stride;
    const index_t lda = g.lda;
    for (index_t s = 0; s < g.segments; ++s) {
        // A base pointer every three rows: the others are reached by [p + lda] and [p + 2 * lda].
        const std::uint8_t* p[(MR + 2) / 3];
        NOTCH_UNROLL
        for (int i = 0; i < (MR + 2) / 3; ++i) p[i] = a + g.segment[s] + 3 * i * lda;
        index_t k = g.k4;
        for (; k >= KU; k -= KU) {
            NOTCH_UNROLL
            for (int u = 0; u < KU; ++u) {
                b_quad bq[NP];
                NOTCH_UNROLL
                for (int j = 0; j < NP; ++j) bq[j] = load_b<Safe>(b + j * stride + 64 * u);
                NOTCH_UNROLL
                for (int i = 0; i < MR; ++i) {
                    const a_quad aq = load_a<Safe>(p[i / 3] + i % 3 * lda + 4 * u);
                    NOTCH_UNROLL
                    for (int j = 0; j < NP; ++j) dot<Safe>(acc[u][i][j], aq, bq[j]);
                }
            }
            NOTCH_UNROLL
            for (int i = 0; i < (MR + 2) / 3; ++i) p[i] += 4 * KU;
            b += 64 * KU;
        }
        for (; k > 0; --k) {
            NOTCH_UNROLL
            for (int i = 0; i < MR; ++i) {
                const a_quad aq = load_a<Safe>(p[i / 3] + i % 3 * lda);
                NOTCH_UNROLL
                for (int j = 0; j < NP; ++j) dot<Safe>(acc[0][i][j], aq, load_b<Safe>(b + j * stride));
            }
            NOTCH_UNROLL
            for (int i = 0; i < (MR + 2) / 3; ++i) p[i] += 4;
            b += 64;
        }
        if (g.tail > 0) {
            NOTCH_UNROLL
            for (int i = 0; i < MR; ++i) {
                const a_quad aq = set_a<Safe>(load_partial(p[i / 3] + i % 3 * lda, g.tail));
                NOTCH_UNROLL
                for (int j = 0; j < NP; ++j) dot<Safe>(acc[0][i][j], aq, load_b<Safe>(b + j * stride));
            }
            b += 64;
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
    const bool codes = g.ep.store == store_kind::u8 || g.ep.store == store_kind::s8;
    if (codes && g.ep.bounded && g.ep.mode == requant_mode::float_scale) {
        store_codes<MR, NP>(g.ep, acc[0], channel, cols, c, ldc_bytes);
        return;
    }
    if (g.ep.store == store_kind::f32) {
        store_floats<MR, NP>(g.ep, acc[0], channel, cols, c, ldc_bytes);
        return;
    }
    // Through memory: a loop over acc itself would keep the accumulators out of the registers.
    alignas(64) std::int32_t lanes[MR * NP * 16];
    NOTCH_UNROLL
    for (int i = 0; i < MR; ++i) {
        NOTCH_UNROLL
        for (int j = 0; j < NP; ++j) store_s32(lanes + (i * NP + j) * 16, acc[0][i][j], 16);
    }
    store_tile(g.ep, lanes, MR, NP, channel, cols, c, ldc_bytes);
}

using gemm_tile_fn = void (*)(const gemm_args&, const std::uint8_t*, const std::int8_t*, index_t,
                              index_t, std::uint8_t*, index_t);

/// The number of accumulator chains for a tile: enough to hide the latency of the dot product
/// (chains_needed of the instruction set), not more: short K would pay for joining them.
template <int MR, int NP> constexpr int chains() {
    return MR * NP >= chains_needed      ? 1
           : 2 * MR * NP >= chains_needed ? 2
           : 4 * MR * NP >= chains_needed ? 4
                                          : 8;
}

/// The tiles that exist: full height, then halves. Fewer tiles mean shorter compile times.
template <int NP, bool Safe, int MR = tile_rows<NP>()>
static inline gemm_tile_fn pick_tile(index_t rows, index_t& taken) {
    if constexpr (MR > 1) {
        if (rows < MR) return pick_tile<NP, Safe, (MR > 8 ? 8 : MR > 4 ? 4 : MR / 2)>(rows, taken);
    }
    taken = MR;
    return gemm_tile<MR, NP, chains<MR, NP>(), Safe>;
}

/// All rows over NP panels.
template <int NP, bool Safe>
static void gemm_panels(const gemm_args& g, index_t column, index_t cols) {
    const index_t size = store_size(g.ep.store);
    const std::int8_t* b = g.b + column / 16 * g.panel_stride;
    for (index_t row = 0; row < g.m;) {
        index_t rows = 0;
        const gemm_tile_fn tile = pick_tile<NP, Safe>(g.m - row, rows);
        std::uint8_t* c = static_cast<std::uint8_t*>(g.c) + (row * g.ldc + column) * size;
        tile(g, g.a + row * g.lda, b, column, cols, c, g.ldc * size);
        if (g.ep.on_tile)
            g.ep.on_tile(g.ep.context, {c, g.row + row, g.col + column, rows, cols, g.ldc});
        row += rows;
    }
}

template <bool Safe> static void gemm_all(const gemm_args& g) {
    // Panels outside, rows inside: the weights come from the outer cache levels once.
    for (index_t column = 0; column < g.n;) {
        const index_t left = g.n - column;
        const index_t panels = (left + 15) / 16;
        if constexpr (max_panels == 4) {
            if (panels >= 4) {
                gemm_panels<4, Safe>(g, column, left < 64 ? left : 64);
                column += 64;
                continue;
            }
            if (panels == 3) {
                gemm_panels<3, Safe>(g, column, left);
                return;
            }
            if (panels == 2) {
                gemm_panels<2, Safe>(g, column, left);
                return;
            }
        }
        gemm_panels<1, Safe>(g, column, left < 16 ? left : 16);
        column += 16;
    }
}

static void gemm_u8s8(const gemm_args& g) {
    if (g.m <= 0 || g.n <= 0) return;
    if (use_pairs && g.pairs_safe)
        gemm_all<true && use_pairs>(g);
    else
        gemm_all<false>(g);
}

inline constexpr gemm_kernels gemm_table = {gemm_name, gemm_u8s8};
