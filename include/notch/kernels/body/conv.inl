// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/conv_tile.hpp in the region of each instruction set: the product of kernels/body/gemm_tile.inl
// for the pixels of several image rows. A tile has a pointer for each of its pixels, so that it can
// begin in one image row and end in another; images narrower than a tile fill it all the same.

/// Rows of a tile: their pointers stay in registers.
template <int NP> constexpr int conv_rows() { return tile_rows<NP>() < 8 ? tile_rows<NP>() : 8; }

/// And of a last tile of few pixels.
template <int NP> constexpr int short_conv_rows() { return (conv_rows<NP>() + 2) / 3; }

/// Some tiles of MR pixels x NP panels, one behind the other in their image row and in the output. `rows` are the
/// pixels of the first, `panel` where the segments of r begin.
template <int MR, int NP, operand_form P>
NOTCH_NOINLINE void conv_tile(const conv_args& a, const conv_rect& r, const std::uint8_t* const* rows,
                              const std::uint8_t* ends, const std::int8_t* panel, index_t channel, index_t cols,
                              std::uint8_t* c, index_t ldc_bytes, index_t tiles) {
    const gemm_args& g = a.product;
    const epilogue_args& ep = g.ep;
    const bool codes = register_codes(ep);
    const code_stage stage = make_stage(ep);
    const raw_stage raw = make_raw_stage(ep, channel, true);
    const index_t stride = g.panel_stride;
    constexpr int KU = chains<MR, NP>();
    const std::uint8_t* p[MR];
    NOTCH_UNROLL
    for (int i = 0; i < MR; ++i) p[i] = rows[i];
    for (; tiles > 0; --tiles) {
        const std::int8_t* b = panel;
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
        for (index_t s = 0; s < r.segments; ++s) {
            // One offset for all pointers, which stay where they are. Opaque: the compiler would rather
            // advance MR pointers, and set them up for every segment.
            index_t at = g.segment[r.segment + s];
            for (index_t k = r.k4; k >= KU; k -= KU) {
                __asm__("" : "+r"(at));
                NOTCH_UNROLL
                for (int u = 0; u < KU; ++u) {
                    b_quad bq[NP];
                    NOTCH_UNROLL
                    for (int j = 0; j < NP; ++j) bq[j] = load_b<P>(b + j * stride + 64 * u);
                    NOTCH_UNROLL
                    for (int i = 0; i < MR; ++i) {
                        const a_quad aq = load_a<P>(p[i] + at + 4 * u);
                        NOTCH_UNROLL
                        for (int j = 0; j < NP; ++j) dot<P>(acc[u][i][j], aq, bq[j]);
                    }
                }
                at += 4 * KU;
                b += 64 * KU;
            }
            if constexpr (KU > 1) {
                for (index_t k = r.k4 % KU; k > 0; --k) {
                    NOTCH_UNROLL
                    for (int i = 0; i < MR; ++i) {
                        const a_quad aq = load_a<P>(p[i] + at);
                        NOTCH_UNROLL
                        for (int j = 0; j < NP; ++j) dot<P>(acc[0][i][j], aq, load_b<P>(b + j * stride));
                    }
                    at += 4;
                    b += 64;
                }
            }
            if (g.tail > 0) {
                NOTCH_UNROLL
                for (int i = 0; i < MR; ++i) {
                    const a_quad aq = set_a<P>(load_partial(p[i] + at, g.tail));
                    NOTCH_UNROLL
                    for (int j = 0; j < NP; ++j) dot<P>(acc[0][i][j], aq, load_b<P>(b + j * stride));
                }
                b += 64;
            }
            b += 64 * r.rest;
        }
        for (index_t e = 0; e < a.end_groups; ++e) {
            b_quad bq[NP];
            NOTCH_UNROLL
            for (int j = 0; j < NP; ++j) bq[j] = load_b<P>(b + j * stride);
            NOTCH_UNROLL
            for (int i = 0; i < MR; ++i) {
                const a_quad aq = load_a<P>(ends + (i * a.end_groups + e) * 4);
                NOTCH_UNROLL
                for (int j = 0; j < NP; ++j) dot<P>(acc[0][i][j], aq, bq[j]);
            }
            b += 64;
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
            store_codes<MR, NP>(ep, stage, acc[0], channel, cols, c, ldc_bytes);
        } else {
            alignas(64) std::int32_t apart[MR * NP * 16];
            store_raw<MR, NP>(ep, raw, acc[0], cols, c, ldc_bytes, apart);
            if (!raw.direct) {
                tile_job t = make_job(g, channel, cols);
                t.ldc_bytes = ldc_bytes;
                store_tile(t, apart, 0, MR, NP, c);
            }
        }
        NOTCH_UNROLL
        for (int i = 0; i < MR; ++i) p[i] += MR * g.lda;
        ends += MR * 4 * a.end_groups;
        c += MR * ldc_bytes;
    }
}

#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
/// Windows whose weights stay in registers: three segments of 9 bytes, the last of which the kernel joins itself
/// (a first layer of 3 x 3 with 3 channels, see joins_ends); and three segments of one group of four, most
/// often 3 x 3 with 1 channel.
inline bool has_three_groups(const conv_args& a, const conv_rect& r, index_t cols, int panels) {
    return r.segments == 3 && r.k4 == 1 && r.rest == 0 && a.end_groups == 0 && a.product.tail == 0 &&
           cols == 16 * panels && r.cols * panels >= still_accumulators && still_codes(a.product.ep);
}
/// The lines of a rectangle, of at least one tile each. A last tile ends with the line: it does some pixels again.
template <int NP, int K, bool Joined>
void still_lines(const conv_args& a, const conv_rect& r, tile_job t, const std::int8_t* b, const std::uint8_t* line,
                 std::uint8_t* c) {
    constexpr index_t width = still_accumulators / NP;
    t.segment += r.segment;
    t.b = b;
    for (index_t y = 0; y < r.rows; ++y, line += a.in_line, c += a.out_line) {
        t.a = line;
        t.c = c;
        t.tiles = r.cols / width;
        still_tile<NP, 3, K, Joined>(t);
        if (r.cols % width == 0) continue;
        t.a += (r.cols - width) * t.lda;
        t.c += (r.cols - width) * t.ldc_bytes;
        t.tiles = 1;
        still_tile<NP, 3, K, Joined>(t);
    }
}
#endif

/// The pixels of a rectangle over NP panels.
template <int NP, operand_form P>
void conv_panels(const conv_args& a, const conv_rect& r, index_t column, index_t cols) {
    // Two heights: a last tile of few pixels is short, others repeat their last pixel.
    constexpr int MR = conv_rows<NP>(), Few = short_conv_rows<NP>();
    const gemm_args& g = a.product;
    const index_t size = store_size(g.ep.store), pixels = r.rows * r.cols;
    const std::int8_t* const b = g.b + column / 16 * g.panel_stride + 64 * (r.segment * (r.k4 + r.rest) + r.skip / 4);
    std::uint8_t* const base = static_cast<std::uint8_t*>(g.c) + (column + r.y * a.out_line + r.x * g.ldc) * size;
    const std::uint8_t* line = g.a + r.y * a.in_line + r.x * g.lda + r.skip;
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
    if constexpr (NP <= 2) {
        if (a.joins_ends) return still_lines<NP, 2, true>(a, r, make_job(g, column, cols), b, line, base);
        if (has_three_groups(a, r, cols, NP))
            return still_lines<NP, 1, false>(a, r, make_job(g, column, cols), b, line, base);
    }
#endif
    index_t row = g.row + r.y * a.run + r.x;                                 // of the line's first pixel
    if (a.end_groups == 0 && r.rest == 0 && r.cols % tile_rows<NP>() == 0) { // tiles of a matrix fill the lines exactly
        tile_job t = make_job(g, column, cols);
        t.segment += r.segment;
        t.segments = r.segments;
        std::uint8_t* c = base;
        for (index_t y = 0; y < r.rows; ++y, line += a.in_line, c += a.out_line * size, row += a.run) {
            t.a = line;
            t.b = b;
            t.c = c;
            run_tiles<NP, P>(g, t, row - g.row, column, r.cols, true);
        }
        return;
    }
    index_t x = 0, out_line = 0;
    for (index_t m = 0; m < pixels;) {
        const index_t left = pixels - m, height = left > 2 * Few || left >= MR ? MR : Few;
        const index_t taken = left < height ? left : height;
        const std::uint8_t* rows[MR];
        const std::uint8_t* last = line;
        index_t out[MR], number[MR];
        bool contiguous = taken == height;
        for (index_t i = 0; i < taken; ++i) {
            rows[i] = last = line + x * g.lda;
            out[i] = out_line + x * g.ldc;
            number[i] = row + x;
            contiguous = contiguous && out[i] == out[0] + i * g.ldc;
            if (++x == r.cols) {
                x = 0;
                line += a.in_line;
                out_line += a.out_line;
                row += a.run;
            }
        }
        for (index_t i = taken; i < height; ++i) rows[i] = last;
        alignas(64) std::uint8_t apart[MR * NP * 16 * 4];
        // Without a functor, all whole tiles of this image row at once.
        index_t tiles = 1;
        if (contiguous && !g.ep.on_tile && height == MR && x >= MR) {
            const index_t more = (r.cols - x) / MR, rest = (pixels - m) / MR - 1;
            tiles += more < rest ? more : rest;
        }
        std::uint8_t* const c = contiguous ? base + out[0] * size : apart;
        const index_t ldc_bytes = (contiguous ? g.ldc : 16 * NP) * size;
        const std::uint8_t* const ends = a.end_groups > 0 ? a.ends + m * 4 * a.end_groups : g.a;
        if (height == MR)
            conv_tile<MR, NP, P>(a, r, rows, ends, b, column, cols, c, ldc_bytes, tiles);
        else
            conv_tile<Few, NP, P>(a, r, rows, ends, b, column, cols, c, ldc_bytes, 1);
        if (!contiguous)
            for (index_t i = 0; i < taken; ++i)
                __builtin_memcpy(base + out[i] * size, apart + i * ldc_bytes, static_cast<std::size_t>(cols * size));
        if (g.ep.on_tile) { // contiguous pixels, one rectangle each
            for (index_t i = 0; i < taken;) {
                index_t rows_of = 1;
                while (i + rows_of < taken && out[i + rows_of] == out[i] + rows_of * g.ldc &&
                       number[i + rows_of] == number[i] + rows_of)
                    ++rows_of;
                g.ep.on_tile(g.ep.context, {base + out[i] * size, number[i], g.col + column, rows_of, cols, g.ldc});
                i += rows_of;
            }
        }
        m += taken + (tiles - 1) * MR;
        x += (tiles - 1) * MR;
        if (x == r.cols) {
            x = 0;
            line += a.in_line;
            out_line += a.out_line;
            row += a.run;
        }
    }
}

#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
#include <notch/kernels/body/conv_line.inl>
#endif

/// Panels outside, pixels inside: the weights come from the outer cache levels once.
template <operand_form P> void conv_all(const conv_args& a) {
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
    if (a.rects[0].tap > 0) return a.run % 14 == 0 ? conv_lines<14, 2>(a) : conv_lines<7, 3>(a);
#endif
    for_panels(a.product.n, [&]<int NP>(index_t column, index_t cols) {
        for (index_t i = 0; i < a.rect_count; ++i) conv_panels<NP, P>(a, a.rects[i], column, cols);
    });
}

inline void conv_u8s8(const conv_args& a) {
    if (a.product.m <= 0 || a.product.n <= 0) return;
    if (use_pairs && a.product.pairs_safe)
        conv_all<use_pairs ? operand_form::pairs : operand_form::direct>(a);
    else
        conv_all<operand_form::direct>(a);
}

/// Whether conv_u8s8 joins the ends of the segments itself, for n outputs.
inline bool joins_ends(const conv_args& a, index_t n) {
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
    const gemm_args& g = a.product;
    return g.segments == 3 && g.k4 == 2 && a.end_groups == 1 && (n == 16 || n == 32) &&
           a.run * n / 16 >= still_accumulators && still_codes(g.ep);
#else
    (void)a, (void)n;
    return false;
#endif
}

inline constexpr conv_kernels conv_table = {conv_u8s8, joins_ends, conv_rows<max_panels>(),
                                            short_conv_rows<max_panels>(), NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI};
