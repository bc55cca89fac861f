// SPDX-License-Identifier: Apache-2.0
//
// Compiled for each instruction set by kernels/lowbit.hpp: products of bits (binary and ternary codes)
// and of u8 codes with 2-bit weights. Outputs lie across the lanes of a register.

namespace few_bits {

NOTCH_OP index_t at_most_16(index_t n) { return n < 16 ? n : 16; }

/// Modes: binary x binary weights, binary x ternary weights, ternary x ternary weights.
enum bits_mode { binary_binary, binary_ternary, ternary_ternary };

/// Adds the words of one position for all rows and panels.
template <int MR, int NP, bits_mode Mode, bool Popcnt>
NOTCH_OP void bits_step(counts (&unequal)[MR][NP], counts (&some)[MR][NP], const std::uint32_t* x, index_t ldx,
                        index_t plane, std::uint32_t mask, const std::uint32_t* w, index_t panel_stride) {
    NOTCH_UNROLL
    for (int j = 0; j < NP; ++j) {
        const std::uint32_t* p = w + j * panel_stride;
        const bits16 first = load_bits(p), second = Mode == binary_binary ? first : load_bits(p + 16);
        NOTCH_UNROLL
        for (int i = 0; i < MR; ++i) {
            const bits16 a = set_bits(x[i * ldx] & mask);
            if constexpr (Mode == binary_binary) {
                add_counts<Popcnt>(unequal[i][j], bits_xor(a, first));
            } else if constexpr (Mode == binary_ternary) {
                // A bit of x means +1, one of the plane negative -1: the signs differ where the bits agree.
                add_counts<Popcnt>(unequal[i][j], bits_xnor_and(a, second, first));
            } else {
                const bits16 both = bits_and(a, first);
                add_counts<Popcnt>(some[i][j], both);
                add_counts<Popcnt>(unequal[i][j], bits_xor_and(set_bits(x[i * ldx + plane]), second, both));
            }
        }
    }
}

/// The sums of the weights of the taps outside the image.
inline NOTCH_NOINLINE void sum_outside_taps(const bits_args& g, index_t channel, std::int32_t (&sum)[16]) {
    for (std::int32_t& s : sum) s = 0;
    for (index_t ky = 0; ky < g.kernel_h; ++ky)
        for (index_t kx = 0; kx < g.kernel_w; ++kx) {
            const bool row = ky >= g.tap_row[0] && ky < g.tap_row[1], col = kx >= g.tap_col[0] && kx < g.tap_col[1];
            if (row && col) continue;
            const std::int32_t* tap = g.tap_sums + (ky * g.kernel_w + kx) * g.tap_stride + channel;
            for (int i = 0; i < 16; ++i) sum[i] += tap[i];
        }
}
NOTCH_OP acc16 outside_taps(const bits_args& g, index_t channel) {
    std::int32_t sum[16];
    sum_outside_taps(g, channel, sum);
    return load_s32(sum, 16);
}

template <int MR, int NP, bits_mode Mode, bool Popcnt>
NOTCH_NOINLINE void bits_tile(const bits_args& g, index_t row, index_t col) {
    constexpr index_t room = counts_room<Popcnt>;
    constexpr int planes = Mode == binary_binary ? 1 : 2;
    acc16 total[MR][NP], total_some[MR][NP];
    counts unequal[MR][NP], some[MR][NP];
    NOTCH_UNROLL
    for (int i = 0; i < MR; ++i) {
        NOTCH_UNROLL
        for (int j = 0; j < NP; ++j) {
            total[i][j] = total_some[i][j] = set_s32(0);
            unequal[i][j] = some[i][j] = no_counts();
        }
    }
    const std::uint32_t* w = g.w + col / 16 * g.panel_stride;
    index_t used = 0; // words counted since the counts were last emptied
    const auto flush = [&]() __attribute__((always_inline)) {
        NOTCH_UNROLL
        for (int i = 0; i < MR; ++i) {
            NOTCH_UNROLL
            for (int j = 0; j < NP; ++j) {
                total[i][j] = counts_total<Popcnt>(total[i][j], unequal[i][j]);
                unequal[i][j] = no_counts();
                if constexpr (Mode == ternary_ternary) {
                    total_some[i][j] = counts_total<Popcnt>(total_some[i][j], some[i][j]);
                    some[i][j] = no_counts();
                }
            }
        }
    };
    for (index_t s = 0; s < g.segments; ++s) {
        const std::uint32_t* x = g.x + row * g.ldx + g.segment[s];
        // The last word of a segment may hold bits that mean nothing.
        for (index_t left = g.words; left > 0;) {
            if (used == room) {
                flush();
                used = 0;
            }
            index_t count = left - 1 < room - used ? left - 1 : room - used;
            left -= count;
            used += count;
            for (; count > 0; --count, ++x, w += 16 * planes)
                bits_step<MR, NP, Mode, Popcnt>(unequal, some, x, g.ldx, g.words, ~0u, w, g.panel_stride);
            if (left == 1 && used < room) {
                bits_step<MR, NP, Mode, Popcnt>(unequal, some, x, g.ldx, g.words, g.last_mask, w, g.panel_stride);
                w += 16 * planes;
                left = 0;
                ++used;
            }
        }
    }
    flush();
    NOTCH_UNROLL
    for (int j = 0; j < NP; ++j) {
        const index_t channel = col + 16 * j;
        acc16 start = load_s32(g.ep.bias + channel, at_most_16(g.n - channel));
        if constexpr (Mode != ternary_ternary) start = add(start, load_s32(g.base + channel));
        if (g.tap_sums) start = add(start, outside_taps(g, channel));
        NOTCH_UNROLL
        for (int i = 0; i < MR; ++i) {
            acc16 v = minus_twice(start, total[i][j]);
            if constexpr (Mode == ternary_ternary) v = add(v, total_some[i][j]);
            store_any(g.ep, v, channel, at_most_16(g.n - channel),
                      static_cast<std::uint8_t*>(g.c) + ((row + i) * g.ldc + channel) * store_size(g.ep.store));
        }
    }
    if (g.ep.on_tile) {
        const index_t cols = g.n - col < 16 * NP ? g.n - col : 16 * NP;
        g.ep.on_tile(g.ep.context, {static_cast<std::uint8_t*>(g.c) + (row * g.ldc + col) * store_size(g.ep.store),
                                    g.row + row, col, MR, cols, g.ldc});
    }
}

template <int NP, bits_mode Mode, bool Popcnt> void bits_panels_of(const bits_args& g, index_t col) {
    index_t row = 0;
    if constexpr (bits_rows > 1)
        for (; row + bits_rows <= g.m; row += bits_rows) bits_tile<bits_rows, NP, Mode, Popcnt>(g, row, col);
    if constexpr (bits_rows > 2)
        for (; row + 2 <= g.m; row += 2) bits_tile<2, NP, Mode, Popcnt>(g, row, col);
    for (; row < g.m; ++row) bits_tile<1, NP, Mode, Popcnt>(g, row, col);
}
template <bits_mode Mode, bool Popcnt> void bits_all(const bits_args& g) {
    const index_t last = g.first_col + g.cols;
    index_t col = g.first_col;
    if constexpr (bits_panels > 1)
        for (; col + 16 * (bits_panels - 1) < last; col += 16 * bits_panels)
            bits_panels_of<bits_panels, Mode, Popcnt>(g, col);
    for (; col < last; col += 16) bits_panels_of<1, Mode, Popcnt>(g, col);
}
template <bool Popcnt> void bits_modes(const bits_args& g) {
    if (g.x_ternary)
        bits_all<ternary_ternary, Popcnt>(g);
    else if (g.w_ternary)
        bits_all<binary_ternary, Popcnt>(g);
    else
        bits_all<binary_binary, Popcnt>(g);
}
inline void gemm_bits(const bits_args& g) {
    if constexpr (counts_room<true> != counts_room<false>) {
        if (g.popcnt) {
            bits_modes<true>(g);
            return;
        }
    }
    bits_modes<false>(g);
}

// --- u8 codes and 2-bit weights ------------------------------------------------------------------

template <int MR, int NP> NOTCH_NOINLINE void int2_tile(const int2_args& g, index_t row, index_t col) {
    constexpr int chains = MR == 1 ? 2 : 1; // one row alone does not hide the latency of the products
    acc16 acc[chains][MR][NP];
    NOTCH_UNROLL
    for (int j = 0; j < NP; ++j) {
        const index_t channel = col + 16 * j;
        const acc16 bias = load_s32(g.ep.bias + channel, at_most_16(g.n - channel));
        NOTCH_UNROLL
        for (int i = 0; i < MR; ++i) {
            acc[0][i][j] = bias;
            if constexpr (chains == 2) acc[1][i][j] = set_s32(0);
        }
    }
    const std::uint8_t* w = g.w + col / 16 * g.panel_stride;
    for (index_t s = 0; s < g.segments; ++s) {
        const std::uint8_t* x = g.x + row * g.ldx + g.segment[s];
        for (index_t b = g.blocks; b > 0; --b, x += 16, w += 64) {
            int2_block v[NP];
            NOTCH_UNROLL
            for (int j = 0; j < NP; ++j) v[j] = load_int2(w + j * g.panel_stride);
            NOTCH_UNROLL
            for (int i = 0; i < MR; ++i) {
                NOTCH_UNROLL
                for (int j = 0; j < NP; ++j) dot_int2(acc[0][i][j], acc[chains - 1][i][j], v[j], x + i * g.ldx);
            }
        }
        if (g.tail > 0) { // fewer than 16 bytes, never read past them
            int2_block v[NP];
            NOTCH_UNROLL
            for (int j = 0; j < NP; ++j) v[j] = load_int2(w + j * g.panel_stride);
            NOTCH_UNROLL
            for (int i = 0; i < MR; ++i) {
                alignas(16) std::uint8_t copy[16] = {};
                for (index_t k = 0; k < g.tail; ++k) copy[k] = x[i * g.ldx + k];
                NOTCH_UNROLL
                for (int j = 0; j < NP; ++j) dot_int2(acc[0][i][j], acc[chains - 1][i][j], v[j], copy);
            }
            w += 64;
        }
    }
    NOTCH_UNROLL
    for (int j = 0; j < NP; ++j) {
        const index_t channel = col + 16 * j;
        NOTCH_UNROLL
        for (int i = 0; i < MR; ++i)
            store_any(g.ep, chains == 2 ? add(acc[0][i][j], acc[chains - 1][i][j]) : acc[0][i][j], channel,
                      at_most_16(g.n - channel),
                      static_cast<std::uint8_t*>(g.c) + ((row + i) * g.ldc + channel) * store_size(g.ep.store));
    }
    if (g.ep.on_tile) {
        const index_t cols = g.n - col < 16 * NP ? g.n - col : 16 * NP;
        g.ep.on_tile(g.ep.context, {static_cast<std::uint8_t*>(g.c) + (row * g.ldc + col) * store_size(g.ep.store),
                                    g.row + row, col, MR, cols, g.ldc});
    }
}
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI
/// One row x NP panels.
template <int NP> NOTCH_NOINLINE void int2_row_tile(const int2_args& g, index_t row, index_t col) {
    int2_row acc[NP];
    NOTCH_UNROLL
    for (int j = 0; j < NP; ++j) acc[j] = start_int2_row();
    __m128i x_sum = _mm_setzero_si128();
    const std::uint8_t* w = g.w + col / 16 * g.panel_stride;
    for (index_t s = 0; s < g.segments; ++s) {
        const std::uint8_t* x = g.x + row * g.ldx + g.segment[s];
        for (index_t b = g.blocks; b > 0; --b, x += 16, w += 64) {
            x_sum = add_x_sum(x_sum, x);
            NOTCH_UNROLL
            for (int j = 0; j < NP; ++j) dot_int2_row(acc[j], w + j * g.panel_stride, x);
        }
        if (g.tail > 0) {
            alignas(16) std::uint8_t copy[16] = {};
            for (index_t k = 0; k < g.tail; ++k) copy[k] = x[k];
            x_sum = add_x_sum(x_sum, copy);
            NOTCH_UNROLL
            for (int j = 0; j < NP; ++j) dot_int2_row(acc[j], w + j * g.panel_stride, copy);
            w += 64;
        }
    }
    NOTCH_UNROLL
    for (int j = 0; j < NP; ++j) {
        const index_t channel = col + 16 * j;
        const acc16 v = int2_row_total(acc[j], x_sum, load_s32(g.ep.bias + channel));
        store_any(g.ep, v, channel, at_most_16(g.n - channel),
                  static_cast<std::uint8_t*>(g.c) + (row * g.ldc + channel) * store_size(g.ep.store));
    }
    if (g.ep.on_tile) {
        const index_t cols = g.n - col < 16 * NP ? g.n - col : 16 * NP;
        g.ep.on_tile(g.ep.context, {static_cast<std::uint8_t*>(g.c) + (row * g.ldc + col) * store_size(g.ep.store),
                                    g.row + row, col, 1, cols, g.ldc});
    }
}
#else
template <int NP> void int2_row_tile(const int2_args& g, index_t row, index_t col) { int2_tile<1, NP>(g, row, col); }
#endif
template <int NP> void int2_panels_of(const int2_args& g, index_t col) {
    index_t row = 0;
    if constexpr (int2_rows > 1)
        for (; row + int2_rows <= g.m; row += int2_rows) int2_tile<int2_rows, NP>(g, row, col);
    if constexpr (int2_rows > 3)
        for (; row + 3 <= g.m; row += 3) int2_tile<3, NP>(g, row, col);
    for (; row < g.m; ++row) int2_row_tile<NP>(g, row, col);
}
inline void gemm_int2(const int2_args& g) {
    const index_t last = g.first_col + g.cols;
    index_t col = g.first_col;
    if constexpr (int2_panels > 1)
        if (g.m == 1)
            for (; col + 48 < last; col += 64) int2_row_tile<4>(g, 0, col);
    if constexpr (int2_panels > 1)
        for (; col + 16 * (int2_panels - 1) < last; col += 16 * int2_panels) int2_panels_of<int2_panels>(g, col);
    for (; col < last; col += 16) int2_panels_of<1>(g, col);
}

// --- real numbers to bits ------------------------------------------------------------------------

inline void sign_bits(const sign_args& a) {
    const index_t words = packed_bits_size(a.cols);
    for (index_t r = 0; r < a.rows; ++r) {
        const float* x = a.x + r * a.ldx;
        std::uint32_t* bits = a.bits + r * a.ldb;
        for (index_t w = 0; w < words; ++w) {
            const index_t n = a.cols - 32 * w < 32 ? a.cols - 32 * w : 32;
            if (!a.ternary) {
                bits[w] = word_of<0>(x + 32 * w, n, a.threshold);
                continue;
            }
            const std::uint32_t negative = word_of<2>(x + 32 * w, n, -a.threshold);
            bits[w] = negative | word_of<1>(x + 32 * w, n, a.threshold);
            bits[words + w] = negative;
        }
    }
}

} // namespace few_bits

inline constexpr lowbit_kernels lowbit_table = {few_bits::gemm_bits, few_bits::gemm_int2, few_bits::sign_bits};
