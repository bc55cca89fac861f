// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/body/conv.inl in the region of each instruction set with 32 vector registers and dot
// products of unsigned with signed bytes: tiles of 7 or 14 outputs that fill the image rows of a window three taps
// wide. The first tap of the first output of a row, or the last tap of its last output, lie in the padding; where that
// is zero, they are left out. Rectangles (kernels/conv_rects.hpp) could leave them out as well, but tiles would not
// fill them.

/// Adds `count` quads to outputs First .. Last - 1, output i at p[i / 3] + i % 3 * lda.
template <int First, int Last, int MR, int NP>
NOTCH_OP void add_tap(acc16 (&acc)[MR][NP], const std::uint8_t* (&p)[(MR + 2) / 3], index_t lda, const std::int8_t*& b,
                      index_t stride, index_t count) {
    for (; count > 0; --count) {
        b_quad bq[NP];
        NOTCH_UNROLL
        for (int j = 0; j < NP; ++j) bq[j] = load_b<operand_form::direct>(b + j * stride);
        NOTCH_UNROLL
        for (int i = First; i < Last; ++i) {
            const a_quad aq = load_a<operand_form::direct>(p[i / 3] + i % 3 * lda);
            NOTCH_UNROLL
            for (int j = 0; j < NP; ++j) dot<operand_form::direct>(acc[i][j], aq, bq[j]);
        }
        NOTCH_UNROLL
        for (int i = 0; i < (MR + 2) / 3; ++i) p[i] += 4;
        b += 64;
    }
}

/// MR outputs of a row x NP panels: the first `head` quads of each segment without the first output, the last `end`
/// ones without the last output.
template <int MR, int NP> NOTCH_NOINLINE void line_tile(const tile_job& t, index_t head, index_t end) {
    const epilogue_args& ep = *t.ep;
    const index_t lda = t.lda, stride = t.panel_stride;
    acc16 acc[MR][NP];
    NOTCH_UNROLL
    for (int j = 0; j < NP; ++j) {
        const acc16 bias = load_s32(t.start + 16 * j);
        NOTCH_UNROLL
        for (int i = 0; i < MR; ++i) acc[i][j] = bias;
    }
    const std::int8_t* b = t.b;
    for (index_t s = 0; s < t.segments; ++s) {
        const std::uint8_t* p[(MR + 2) / 3];
        NOTCH_UNROLL
        for (int i = 0; i < (MR + 2) / 3; ++i) p[i] = t.a + t.segment[s] + 3 * i * lda;
        add_tap<1, MR>(acc, p, lda, b, stride, head);
        add_tap<0, MR>(acc, p, lda, b, stride, t.k4 - head - end);
        add_tap<0, MR - 1>(acc, p, lda, b, stride, end);
    }
    if (register_codes(ep)) {
        store_codes<MR, NP>(ep, make_stage(ep), acc, t.channel, t.cols, t.c, t.ldc_bytes);
        return;
    }
    const raw_stage raw = make_raw_stage(ep, t.channel, true);
    alignas(64) std::int32_t apart[MR * NP * 16];
    store_raw<MR, NP>(ep, raw, acc, t.cols, t.c, t.ldc_bytes, apart);
    if (!raw.direct) store_tile(t, apart, 0, MR, NP, t.c);
}

/// Panels outside, image rows inside.
template <int MR, int NP> void line_panels(const conv_args& a, index_t column, index_t cols) {
    const gemm_args& g = a.product;
    tile_job t = make_job(g, column, cols);
    const index_t size = store_size(g.ep.store);
    for (index_t i = 0; i < a.rect_count; ++i) {
        const conv_rect& r = a.rects[i];
        t.segment = g.segment + r.segment;
        t.segments = r.segments;
        t.b = g.b + column / 16 * g.panel_stride + 64 * r.segment * r.k4;
        for (index_t y = r.y; y < r.y + r.rows; ++y) {
            t.a = g.a + y * a.in_line;
            t.c = static_cast<std::uint8_t*>(g.c) + (column + y * a.out_line) * size;
            for (index_t x = 0; x < a.run; x += MR, t.a += MR * t.lda, t.c += MR * t.ldc_bytes) {
                line_tile<MR, NP>(t, r.left && x == 0 ? r.tap : 0, r.right && x + MR == a.run ? r.tap : 0);
                if (g.ep.on_tile)
                    g.ep.on_tile(g.ep.context, {t.c, g.row + y * a.run + x, g.col + column, MR, cols, g.ldc});
            }
        }
    }
}
template <int MR, int Most> void conv_lines(const conv_args& a) {
    for (index_t column = 0; column < a.product.n;) {
        const index_t left = a.product.n - column;
        if (left > 32 && Most == 3) {
            line_panels<MR, Most>(a, column, left < 48 ? left : 48);
            column += 48;
        } else if (left > 16) {
            line_panels<MR, 2>(a, column, left < 32 ? left : 32);
            column += 32;
        } else {
            line_panels<MR, 1>(a, column, left);
            column += 16;
        }
    }
}
