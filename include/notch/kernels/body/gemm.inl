// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/gemm.hpp in the region of each instruction set: the integer matrix product over the tiles of
// kernels/body/gemm_tile.inl, for rows as they are, signed rows, and weights with zero points.

#include <notch/kernels/body/gemm_tile.inl>

/// The rows of g from `row` on, moved by `rows`.
inline gemm_args rows_from(const gemm_args& g, index_t row, index_t rows) {
    gemm_args part = g;
    part.a = g.a + row * g.lda;
    part.m = rows;
    part.row = g.row + row;
    part.c = static_cast<std::uint8_t*>(g.c) + row * g.ldc * store_size(g.ep.store);
    for (outer_product& o : part.outer)
        if (o.row) o.row += row;
    if (part.row_scale) part.row_scale += row;
    return part;
}

#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
/// All whole tiles of rows, with K quads a row; returns how many rows that were. A block of rows meets all panels
/// while it and its results are in the first cache.
template <int K> index_t still_rows(const gemm_args& g) {
    constexpr int widest = K <= 4 ? 4 : 2; // so many panels leave registers for the accumulators
    const index_t block = 24 * 1024 / (4 * K + g.n) / still_accumulators * still_accumulators + still_accumulators;
    const index_t whole = g.m / still_accumulators * still_accumulators;
    for (index_t row = 0; row < whole; row += block) {
        const index_t rows = whole - row < block ? whole - row : block;
        for (index_t column = 0; column < g.n;) {
            const index_t left = g.n - column;
            const auto panels = [&]<int NP>() {
                tile_job t = make_job(g, column, 16 * NP);
                t.a += row * g.lda;
                t.c += row * t.ldc_bytes;
                t.tiles = rows * NP / still_accumulators;
                still_tile<NP, 1, K, false>(t);
                column += 16 * NP;
            };
            if (widest == 4 && left >= 64)
                panels.template operator()<widest>();
            else if (left >= 32)
                panels.template operator()<2>();
            else
                panels.template operator()<1>();
        }
    }
    return whole;
}
/// The product of the first rows, if there are such tiles for it; returns how many rows are done.
inline index_t still_product(const gemm_args& g) {
    if (g.segments != 1 || g.tail != 0 || g.n % 16 != 0 || !is_plain(g) || !still_codes(g.ep)) return 0;
    return g.k4 == 4 ? still_rows<4>(g) : g.k4 == 6 ? still_rows<6>(g) : g.k4 == 8 ? still_rows<8>(g) : 0;
}
#endif

/// Rows as they are. Panels outside, rows inside: the weights come from the outer cache levels once.
template <operand_form P> void gemm_direct(const gemm_args& all) {
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
    const index_t done = still_product(all);
    if (done == all.m) return;
    const gemm_args g = rows_from(all, done, all.m - done);
#else
    const gemm_args& g = all;
#endif
    for_panels(g.n, [&]<int NP>(index_t column, index_t cols) {
        tile_job t = make_job(g, column, cols);
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_NEONDOT
        std::int32_t start[16 * NP] = {};
        if constexpr (P == operand_form::offset) {
            add_panel_sums(t.start, t.b, g.segments * (g.k4 + (g.tail > 0)), start);
            t.start = start;
        }
#endif
        run_tiles<NP, P>(g, t, 0, column, g.m, true);
    });
}

/// A run of quads and up to three bytes more, each byte plus 128; zeros fill the last quad.
inline void flip_quads(const std::uint8_t* from, index_t quads, index_t tail, std::uint8_t* to) {
    const index_t bytes = 4 * quads + tail;
    index_t i = 0;
    for (; i + byte_width <= bytes; i += byte_width)
        store_nbytes<true>(to + i, nflip(load_nbytes<true>(from + i, byte_width)), byte_width);
    if (i < bytes) store_nbytes<false>(to + i, nflip(load_nbytes<false>(from + i, bytes - i)), bytes - i);
    if (tail > 0)
        for (index_t k = tail; k < 4; ++k) to[4 * quads + k] = 0;
}
/// The sum of n bytes, as u8 codes.
inline std::int32_t sum_bytes(const std::uint8_t* p, index_t n, bool flip) {
    nvec sum = set_n32(0);
    index_t i = 0;
    for (; i + byte_width <= n; i += byte_width) {
        const nvec v = load_nbytes<true>(p + i, byte_width);
        sum = nsum_bytes(sum, flip ? nflip(v) : v);
    }
    std::int32_t rest = nsum_lanes(sum);
    for (; i < n; ++i) rest += flip ? p[i] ^ 0x80 : p[i];
    return rest;
}

/// Signed rows: copies of some rows at a time, each byte plus 128, a segment next to the other.
template <operand_form P> NOTCH_NOINLINE void gemm_flipped(const gemm_args& g) {
    const index_t quads = g.k4 + (g.tail > 0), bytes = 4 * g.segments * quads;
    // Rows a multiple of 4096 bytes apart would share cache lines' places.
    const index_t pitch = (bytes + 63) / 64 * 64 + (bytes % 4096 == 0 ? 64 : 0);
    constexpr index_t room = 68 * 1024;
    static_assert(room >= (detail::max_k + 3 + 63) / 64 * 64 + 64, "one row of the longest K has room");
    alignas(64) std::uint8_t copy[room];
    constexpr index_t height = 4 * tile_rows<max_panels>(); // and a multiple of the tiles of short K
    index_t block = room / (pitch > 0 ? pitch : 64);
    block = block >= height ? block / height * height : block;
    const index_t origin = 0;
    for (index_t row = 0; row < g.m; row += block) {
        const index_t rows = g.m - row < block ? g.m - row : block;
        for (index_t i = 0; i < rows; ++i) {
            const std::uint8_t* from = g.a + (row + i) * g.lda;
            for (index_t s = 0; s < g.segments; ++s)
                flip_quads(from + g.segment[s], g.k4, g.tail, copy + i * pitch + 4 * s * quads);
        }
        gemm_args part = rows_from(g, row, rows);
        part.a = copy;
        part.lda = pitch;
        part.segment = &origin;
        part.segments = 1;
        part.k4 = g.segments * quads;
        part.tail = 0;
        part.flip = false;
        gemm_direct<P>(part);
    }
}

#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW
#include <notch/kernels/body/gemm_wide.inl>
#endif

template <operand_form P> void gemm_rows(const gemm_args& g) {
    if (g.flip)
        gemm_flipped<P>(g);
    else
        gemm_direct<P>(g);
}

#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW
#include <notch/kernels/body/gemm_nibbles.inl>
#endif

inline void gemm_product(const gemm_args& g) {
    if (use_pairs && g.pairs_safe) {
        gemm_rows<use_pairs ? operand_form::pairs : operand_form::direct>(g);
        return;
    }
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW
    if (g.m >= wide_least_rows)
        gemm_wide(g);
    else if (g.segments == 1)
        gemm_few_rows(g);
    else
        gemm_rows<operand_form::direct>(g);
    return;
#endif
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_NEONDOT
    gemm_rows<operand_form::offset>(g);
#else
    gemm_rows<operand_form::direct>(g);
#endif
}

/// Weights with zero points: the sums of the rows are taken first, some rows at a time.
inline NOTCH_NOINLINE void gemm_with_row_sums(const gemm_args& g) {
    constexpr index_t block = 240;
    std::int32_t sums[block];
    for (index_t row = 0; row < g.m; row += block) {
        gemm_args part = rows_from(g, row, g.m - row < block ? g.m - row : block);
        for (index_t i = 0; i < part.m; ++i) {
            std::int32_t sum = 0;
            for (index_t s = 0; s < g.segments; ++s)
                sum += sum_bytes(part.a + i * g.lda + g.segment[s], g.segment_bytes, g.flip);
            sums[i] = sum;
        }
        part.outer[1] = {sums, g.w_zero_point};
        gemm_product(part);
    }
}

inline void gemm_u8s8(const gemm_args& g) {
    if (g.m <= 0 || g.n <= 0) return;
    if (g.w_zero_point)
        gemm_with_row_sums(g);
    else
        gemm_product(g);
}

inline constexpr gemm_kernels gemm_table = {gemm_name, gemm_u8s8};
