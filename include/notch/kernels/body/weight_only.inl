// SPDX-License-Identifier: Apache-2.0
//
// Compiled for each instruction set by kernels/weight_only.hpp: products with group-wise weights.
// Outputs lie across the lanes of a register and k runs in time, so that the order of the additions
// (ref/weight_only.hpp) is the same whatever the width of the registers.

namespace group_wise {

/// How far ahead each stream of codes is fetched where the weights do not fit the inner caches
/// (group_args::far). Inside them a prefetch only takes the place of a load.
inline constexpr index_t prefetch_bytes = 2560;

/// The same for a tile of NP panels whose next codes are at w: behind the end of its panels, those of the next tile.
template <int NP> NOTCH_OP index_t fetch_ahead(const group_args& a, index_t panel, const std::uint8_t* w) {
    const index_t left = a.w + (panel + 1) * a.panel_bytes - w;
    return prefetch_bytes + (left <= prefetch_bytes ? (NP - 1) * a.panel_bytes : 0);
}
/// The scales of the next tile: streams too short for the CPU to fetch them ahead by itself.
template <int NP> NOTCH_OP void fetch_scales(const group_args& a, index_t panel, index_t g) {
    const index_t size = a.format == scale_format::f32 ? 64 : 32;
    NOTCH_UNROLL
    for (int j = 0; j < NP; ++j)
        __builtin_prefetch(static_cast<const char*>(a.scales) + ((panel + NP + j) * a.groups + g) * size);
}

NOTCH_OP gfloat group_scale(const group_args& a, index_t panel, index_t g) {
    const index_t at = (panel * a.groups + g) * 16;
    const char* p = static_cast<const char*>(a.scales);
    if (a.format == scale_format::f32) return gload(reinterpret_cast<const float*>(p) + at);
    return a.format == scale_format::bf16 ? gload_bf16(p + 2 * at) : gload_f16(p + 2 * at);
}
NOTCH_OP void store_row(const group_args& a, gfloat v, index_t row, index_t col, index_t cols) {
    if (!a.y_bf16) {
        gstore(static_cast<float*>(a.y) + row * a.ldy + col, v, cols);
        return;
    }
    float lane[16];
    gstore(lane, v);
    std::uint16_t* y = static_cast<std::uint16_t*>(a.y) + row * a.ldy + col;
    for (index_t i = 0; i < cols; ++i) y[i] = to_bfloat16(lane[i]);
}

// --- real activations ----------------------------------------------------------------------------

template <int P, int Limit, int MR, int NP, int Bits>
NOTCH_OP void float_steps(gfloat (&dot)[MR][NP], const gcodes (&v)[NP], const float* const (&x)[MR], index_t k,
                          index_t limit) {
    if constexpr (P < Limit) {
        if (limit <= P) return;
        gfloat w[NP];
        NOTCH_UNROLL
        for (int j = 0; j < NP; ++j) w[j] = expand<Bits, P>(v[j]);
        NOTCH_UNROLL
        for (int i = 0; i < MR; ++i) {
            const gfloat a = gset(x[i][k + P]);
            NOTCH_UNROLL
            for (int j = 0; j < NP; ++j) dot[i][j] = gfma(a, w[j], dot[i][j]);
        }
        float_steps<P + 1, Limit, MR, NP, Bits>(dot, v, x, k, limit);
    }
}

/// MR rows x NP panels. dot stays in registers for a group, the totals are on the stack.
template <int MR, int NP, int Bits, bool Far>
NOTCH_NOINLINE void float_tile(const group_args& a, index_t row, index_t col) {
    constexpr int block = Bits == 4 ? 8 : 4;
    constexpr index_t chunk = 128; // of bfloat16 activations converted at a time
    alignas(64) float total[MR][NP][16];
    alignas(64) float converted[MR][chunk];
    const index_t panel = col / 16;
    NOTCH_UNROLL
    for (int j = 0; j < NP; ++j) {
        const index_t left = a.n - col - 16 * j;
        const gfloat b = a.bias ? gload(a.bias + col + 16 * j, left < 16 ? left : 16) : gset(0.0f);
        NOTCH_UNROLL
        for (int i = 0; i < MR; ++i) gstore(total[i][j], b);
    }
    const std::uint8_t* w = a.w + panel * a.panel_bytes;
    for (index_t g = 0; g < a.groups; ++g) {
        const index_t begin = g * a.group, end = begin + a.group < a.k ? begin + a.group : a.k;
        const index_t ahead = Far ? fetch_ahead<NP>(a, panel, w) : 0;
        if constexpr (Far) fetch_scales<NP>(a, panel, g);
        gfloat dot[MR][NP];
        float sum[MR];
        NOTCH_UNROLL
        for (int i = 0; i < MR; ++i) {
            sum[i] = 0.0f;
            NOTCH_UNROLL
            for (int j = 0; j < NP; ++j) dot[i][j] = gset(0.0f);
        }
        for (index_t first = begin; first < end; first += chunk) {
            const index_t count = end - first < chunk ? end - first : chunk;
            const float* x[MR];
            for (int i = 0; i < MR; ++i) {
                if (a.x_bf16) {
                    const std::uint16_t* half = static_cast<const std::uint16_t*>(a.x) + (row + i) * a.ldx + first;
                    for (index_t k = 0; k < count; ++k) converted[i][k] = from_bfloat16(half[k]);
                    x[i] = converted[i];
                } else {
                    x[i] = static_cast<const float*>(a.x) + (row + i) * a.ldx + first;
                }
            }
            if (a.zero)
                for (index_t k = 0; k < count; ++k)
                    for (int i = 0; i < MR; ++i) sum[i] += x[i][k];
            for (index_t k = 0; k < count; k += block) {
                gcodes v[NP];
                NOTCH_UNROLL
                for (int j = 0; j < NP; ++j) {
                    v[j] = gload_codes<Bits>(w + j * a.panel_bytes);
                    if constexpr (Far) __builtin_prefetch(w + j * a.panel_bytes + ahead);
                }
                if (count - k >= block)
                    float_steps<0, block, MR, NP, Bits>(dot, v, x, k, block);
                else
                    float_steps<0, block - 1, MR, NP, Bits>(dot, v, x, k, count - k);
                w += 64;
            }
        }
        NOTCH_UNROLL
        for (int j = 0; j < NP; ++j) {
            const gfloat scale = group_scale(a, panel + j, g);
            NOTCH_UNROLL
            for (int i = 0; i < MR; ++i) {
                if (a.zero) {
                    const gfloat z = gto_float(gload_s8(a.zero + ((panel + j) * a.groups + g) * 16));
                    dot[i][j] = gfma(z, gset(-sum[i]), dot[i][j]);
                }
                gstore(total[i][j], gfma(scale, dot[i][j], gload(total[i][j])));
            }
        }
    }
    for (int i = 0; i < MR; ++i)
        for (int j = 0; j < NP; ++j) {
            const index_t left = a.n - col - 16 * j;
            store_row(a, gload(total[i][j]), row + i, col + 16 * j, left < 16 ? left : 16);
        }
}

// --- 8-bit activations ---------------------------------------------------------------------------

template <int MR, int NP, int Bits, bool Far>
NOTCH_NOINLINE void code_tile(const group_args& a, index_t row, index_t col) {
    constexpr int block = Bits == 4 ? 8 : 4;
    // One row alone does not hide the latency of the products: two chains. With 4 bits the second
    // one is that of the high nibbles.
    constexpr int chains = MR == 1 ? 2 : 1;
    constexpr bool apart = MR == 1 && Bits == 4 && gapart;
    alignas(64) float total[MR][NP][16];
    NOTCH_UNROLL
    for (int i = 0; i < MR; ++i) {
        NOTCH_UNROLL
        for (int j = 0; j < NP; ++j) gstore(total[i][j], gset(0.0f));
    }
    const index_t panel = col / 16;
    const std::uint8_t* w = a.w + panel * a.panel_bytes;
    const std::int8_t* x = static_cast<const std::int8_t*>(a.x) + row * a.ldx;
    for (index_t g = 0; g < a.groups; ++g) {
        const index_t count = a.k - g * a.group < a.group ? a.k - g * a.group : a.group;
        const index_t ahead = Far ? fetch_ahead<NP>(a, panel, w) : 0;
        if constexpr (Far) fetch_scales<NP>(a, panel, g);
        gint acc[chains][MR][NP];
        NOTCH_UNROLL
        for (int i = 0; i < MR; ++i) {
            // sum of (u - offset) * x: the offset of the codes as the start.
            const gint start = giset(a.x_sums[(row + i) * a.groups + g] * (Bits == 4 ? -8 : -128));
            NOTCH_UNROLL
            for (int j = 0; j < NP; ++j) {
                acc[0][i][j] = start;
                if constexpr (chains == 2) acc[1][i][j] = giset(0);
            }
        }
        index_t blocks = (count + block - 1) / block; // the rows of x are padded with zeros
        for (; blocks >= chains; blocks -= chains) {
            NOTCH_UNROLL
            for (int u = 0; u < chains; ++u) {
                gbytes v[NP];
                NOTCH_UNROLL
                for (int j = 0; j < NP; ++j) {
                    v[j] = gsplit<Bits, apart>(w + j * a.panel_bytes + 64 * u);
                    if constexpr (Far) __builtin_prefetch(w + j * a.panel_bytes + 64 * u + ahead);
                }
                NOTCH_UNROLL
                for (int i = 0; i < MR; ++i) {
                    NOTCH_UNROLL
                    for (int j = 0; j < NP; ++j) {
                        constexpr int one = apart ? 0 : chains - 1;
                        gdot<Bits>(acc[one * u][i][j], acc[chains - 1 - one * u][i][j], v[j],
                                   x + i * a.ldx + block * u);
                    }
                }
            }
            x += block * chains;
            w += 64 * chains;
        }
        if constexpr (chains == 2) {
            if (blocks > 0) {
                NOTCH_UNROLL
                for (int j = 0; j < NP; ++j)
                    gdot<Bits>(acc[0][0][j], acc[1][0][j], gsplit<Bits, apart>(w + j * a.panel_bytes), x);
                x += block;
                w += 64;
            }
        }
        NOTCH_UNROLL
        for (int j = 0; j < NP; ++j) {
            const gfloat scale = group_scale(a, panel + j, g);
            NOTCH_UNROLL
            for (int i = 0; i < MR; ++i) {
                gint v = acc[0][i][j];
                if constexpr (chains == 2) v = giadd(v, apart ? gsixteenth(acc[1][i][j]) : acc[1][i][j]);
                if (a.zero) {
                    const gint z = gload_s8(a.zero + ((panel + j) * a.groups + g) * 16);
                    v = giadd(v, gimul(z, giset(-a.x_sums[(row + i) * a.groups + g])));
                }
                gstore(total[i][j], gfma(scale, gto_float(v), gload(total[i][j])));
            }
        }
    }
    for (int i = 0; i < MR; ++i)
        for (int j = 0; j < NP; ++j) {
            const index_t at = col + 16 * j, left = a.n - at < 16 ? a.n - at : 16;
            const gfloat b = a.bias ? gload(a.bias + at, left) : gset(0.0f);
            store_row(a, gfma(gload(total[i][j]), gset(a.x_scales[a.one_x_scale ? 0 : row + i]), b), row + i, at, left);
        }
}

// --- all tiles -----------------------------------------------------------------------------------

template <bool Float, int MR, int NP, int Bits, bool Far = false>
NOTCH_OP void group_tile(const group_args& a, index_t row, index_t col) {
    if constexpr (Float)
        float_tile<MR, NP, Bits, Far>(a, row, col);
    else
        code_tile<MR, NP, Bits, Far>(a, row, col);
}
/// All rows over NP panels.
template <bool Float, int NP, int Bits> void group_panels(const group_args& a, index_t col) {
    index_t row = 0;
    for (; row + wide_rows <= a.m; row += wide_rows) group_tile<Float, wide_rows, NP, Bits>(a, row, col);
    if constexpr (wide_rows > 2)
        for (; row + 2 <= a.m; row += 2) group_tile<Float, 2, NP, Bits>(a, row, col);
    for (; row < a.m; ++row) group_tile<Float, 1, NP, Bits>(a, row, col);
}
template <bool Float, int Bits> void group_all(const group_args& a) {
    const index_t last = a.first_col + a.cols;
    index_t col = a.first_col;
    if (a.m == 1)
        for (; col + 48 < last; col += 64) {
            if (a.far)
                group_tile<Float, 1, 4, Bits, true>(a, 0, col);
            else
                group_tile<Float, 1, 4, Bits>(a, 0, col);
        }
    if constexpr (wide_panels == 2)
        for (; col + 16 < last; col += 32) group_panels<Float, 2, Bits>(a, col);
    for (; col < last; col += 16) group_panels<Float, 1, Bits>(a, col);
}
inline void weight_only(const group_args& a) {
    if (a.bits == 4)
        group_all<true, 4>(a);
    else
        group_all<true, 8>(a);
}
inline void group_a8(const group_args& a) {
    if (a.bits == 4)
        group_all<false, 4>(a);
    else
        group_all<false, 8>(a);
}

/// The sums of the groups of rows of codes that are padded with zeros to a multiple of 64.
inline void group_sums(const std::int8_t* x, index_t ldx, index_t m, index_t k, index_t group, std::int32_t* sums) {
    for (index_t i = 0; i < m; ++i)
        for (index_t first = 0; first < k; first += group)
            *sums++ = gsum(x + i * ldx + first, k - first < group ? k - first : group);
}

} // namespace group_wise

inline constexpr group_kernels group_table = {group_wise::weight_only, group_wise::group_a8, group_wise::group_sums};
