// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/gemm_batched.hpp in the region of each instruction set: activations into
// panels [N/16][K/4][16][4] at run time, with the sums of the columns.

/// Rows of the operand are columns of the product: dwords move as they are.
inline void pack_panel_rows(const pack_args& p, index_t first, std::int8_t* to) {
    const index_t cols = p.n - first < 16 ? p.n - first : 16, quads = p.k / 4, tail = p.k % 4;
    const std::uint32_t flip = p.flip ? 0x80808080u : 0;
    for (index_t c = 0; c < 16; ++c) {
        std::uint8_t* out = reinterpret_cast<std::uint8_t*>(to) + 4 * c;
        if (c >= cols) {
            for (index_t q = 0; q < (p.k + 3) / 4; ++q) __builtin_memset(out + 64 * q, 0, 4);
            continue;
        }
        const std::uint8_t* from = p.b + (first + c) * p.ldb;
        for (index_t q = 0; q < quads; ++q) {
            std::uint32_t v;
            __builtin_memcpy(&v, from + 4 * q, 4);
            v ^= flip;
            __builtin_memcpy(out + 64 * q, &v, 4);
        }
        for (index_t i = 0; tail > 0 && i < 4; ++i)
            out[64 * quads + i] = i < tail ? static_cast<std::uint8_t>(from[4 * quads + i] ^ (flip & 0xff)) : 0;
    }
}

/// The operand lies as K x N: four of its rows are interleaved, byte_width columns at a time.
inline void pack_panels_columns(const pack_args& p) {
    const index_t quads = (p.k + 3) / 4, panel = 64 * quads;
    const nvec zero = set_n32(0);
    for (index_t q = 0; q < quads; ++q)
        for (index_t first = 0; first < p.n; first += byte_width) {
            const index_t cols = p.n - first < byte_width ? p.n - first : byte_width;
            nvec t[4];
            for (index_t i = 0; i < 4; ++i) {
                t[i] = zero;
                if (4 * q + i >= p.k) continue;
                const std::uint8_t* from = p.b + (4 * q + i) * p.ldb + first;
                t[i] = cols == byte_width ? load_nbytes<true>(from, cols) : load_nbytes<false>(from, cols);
                if (p.flip) t[i] = nflip(t[i]);
            }
            interleave(t);
            alignas(64) std::uint8_t lane[4][byte_width];
            for (int k = 0; k < 4; ++k) store_nbytes<true>(lane[k], t[k], byte_width);
            for (index_t l = 0; 16 * l < cols; ++l) {
                std::int8_t* out = p.panels + ((first + 16 * l) / 16) * panel + 64 * q;
                const index_t last = cols - 16 * l; // columns past the end are zero
                for (int k = 0; k < 4; ++k) {
                    alignas(16) std::int32_t four[4];
                    __builtin_memcpy(four, lane[k] + 16 * l, 16);
                    for (index_t i = 0; i < 4; ++i)
                        if (4 * k + i >= last) four[i] = 0;
                    __builtin_memcpy(out + 16 * k, four, 16);
                }
            }
        }
}

inline void pack_operand(const pack_args& p) {
    const index_t quads = (p.k + 3) / 4, panel = 64 * quads;
    if (!p.rows_are_columns) pack_panels_columns(p);
    for (index_t first = 0; first < p.n; first += 16) {
        std::int8_t* to = p.panels + first / 16 * panel;
        if (p.rows_are_columns) pack_panel_rows(p, first, to);
        // sums[c] += 1 * b, four at a time
        acc16 sum = set_s32(0);
        const a_quad ones = set_a<operand_form::direct>(0x01010101u);
        for (index_t q = 0; q < quads; ++q)
            dot<operand_form::direct>(sum, ones, load_b<operand_form::direct>(to + 64 * q));
        store_s32(p.sums + first, sum, 16);
    }
}

inline constexpr pack_kernels pack_table = {pack_operand};
