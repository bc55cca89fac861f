// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/body/gemm_tile.inl in the region of each instruction set with 32 vector registers and dot
// products of unsigned with signed bytes: products with a K so short that the weights of some panels stay in
// registers while all rows pass.
//
// The tiles of gemm_tile alternate between some 100 products and some 100 instructions of the output stage. Both
// could run at once, on different ports, but a burst of the latter fills the scheduler, and the products of
// the next tile wait. Here the turns are short (8 accumulators), and no weights are loaded.

/// Accumulators at a time: enough chains for the latency of the product.
inline constexpr int still_accumulators = 8;

/// The epilogues for which there are such tiles: all u8 codes are allowed, and nobody asks for tiles. The loop
/// then has no branches.
NOTCH_OP bool still_codes(const epilogue_args& ep) {
    return register_codes(ep) && ep.store == store_kind::u8 && ep.lo == 0 && ep.hi == 255 && !ep.on_tile;
}

/// The bytes behind the K quads of S <= 4 segments, as one quad.
template <int S, int K> NOTCH_OP std::uint32_t joined_ends(const std::uint8_t* const (&a)[S]) {
    std::uint32_t v = 0;
    NOTCH_UNROLL
    for (int s = 0; s < S; ++s) v |= static_cast<std::uint32_t>(a[s][4 * K]) << 8 * s;
    return v;
}

/// t.tiles times some rows of S segments of K quads. Joined: the byte behind each segment is a part of it, and they
/// meet the last quad of the panels together.
template <int NP, int S, int K, bool Joined> NOTCH_NOINLINE void still_tile(const tile_job& t) {
    constexpr int MR = still_accumulators / NP, quads = S * K + Joined;
    // Copies: stores of bytes may change what is only referred to, and it would be read again each time.
    const epilogue_args ep = *t.ep;
    const index_t lda = t.lda, ldc = t.ldc_bytes, channel = t.channel;
    const std::int32_t* const start = t.start;
    code_stage stage = make_stage(ep);
    stage.is_u8 = stage.full = true; // known to the compiler: still_codes
    b_quad w[NP][quads];
    NOTCH_UNROLL
    for (int j = 0; j < NP; ++j) {
        NOTCH_UNROLL
        for (int q = 0; q < quads; ++q) w[j][q] = load_b<operand_form::direct>(t.b + j * t.panel_stride + 64 * q);
    }
    const std::uint8_t* a[S];
    NOTCH_UNROLL
    for (int s = 0; s < S; ++s) a[s] = t.a + t.segment[s];
    std::uint8_t* c = t.c;
    for (index_t n = t.tiles; n > 0; --n, c += MR * ldc) {
        acc16 acc[MR][NP];
        NOTCH_UNROLL
        for (int i = 0; i < MR; ++i) {
            NOTCH_UNROLL
            for (int j = 0; j < NP; ++j) acc[i][j] = load_s32(start + 16 * j);
            NOTCH_UNROLL
            for (int q = 0; q < quads; ++q) {
                const a_quad v = q < S * K ? load_a<operand_form::direct>(a[q / K] + 4 * (q % K))
                                           : set_a<operand_form::direct>(joined_ends<S, K>(a));
                NOTCH_UNROLL
                for (int j = 0; j < NP; ++j) dot<operand_form::direct>(acc[i][j], v, w[j][q]);
            }
            NOTCH_UNROLL
            for (int s = 0; s < S; ++s) a[s] += lda;
        }
        store_codes<MR, NP>(ep, stage, acc, channel, 16 * NP, c, ldc);
    }
}
