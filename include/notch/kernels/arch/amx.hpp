// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/arch/amx.hpp: the tiles of AMX-TILE and AMX-INT8 (Intel 64 and IA-32 Architectures Software
// Developer's Manual, volume 2, TDPBUSD and the instructions beside it). A CPU with them has AVX-512 VNNI,
// whose operations (kernels/arch/avx512vnni.hpp) do the rest: kernels/body/gemm_amx.inl.
//
// A tile is up to 16 rows of up to 64 bytes. The product of bytes takes
//
//     tile a     rows of x, 4 * quads bytes of each
//     tile b     quads rows of a panel: [quads][16 columns][4 k]
//     tile c     int32, rows of x times 16 columns:   c[m][n] += sum over k of a[m][k] * b[k/4][n][k%4]
//
// exactly, modulo 2^32. The shapes of all tiles are loaded together, before the first use, which sets the
// tiles to zero; release_tiles gives them back, or context switches of the thread stay expensive. The
// compiler knows nothing of the tiles: who calls other people's code in between releases them first.
//
// NOTCH_AMX_EMULATED replaces the instructions by plain C++ that checks how they are used, on any CPU with
// AVX-512 VNNI: for tests, slow.
#pragma once

#include <cstdint>
#if defined(NOTCH_AMX_EMULATED)
#include <cstdio>
#include <cstdlib>
#include <cstring>
#endif

#include <notch/core/config.hpp>
#include <notch/kernels/args.hpp>
#include <notch/simd/target.hpp>

#if NOTCH_X86_KERNELS

NOTCH_KEYED_BEGIN
namespace arch::amx {

/// What ldtilecfg reads.
struct alignas(64) tile_shapes {
    std::uint8_t palette, start_row, reserved[14];
    std::uint16_t row_bytes[16];
    std::uint8_t rows[16];
};
static_assert(sizeof(tile_shapes) == 64);

} // namespace arch::amx
NOTCH_KEYED_END

#if defined(NOTCH_AMX_EMULATED)

NOTCH_KEYED_BEGIN
namespace arch::amx {

/// The tiles of a thread, after the pseudocode of the manual. What the CPU answers with an exception (a tile that
/// is not configured or too large, shapes that do not fit together) ends the program.
struct emulated_tiles {
    bool configured = false;
    tile_shapes shapes{};
    std::uint8_t bytes[8][16][64] = {};
    long loads_of_shapes = 0, products = 0; ///< by this thread, since it began

    void require(bool legal, const char* what) const {
        if (legal) return;
        std::fprintf(stderr, "emulated AMX: %s\n", what);
        std::abort();
    }
    void require_tile(int t) const {
        require(configured, "a tile is used before its shape is loaded, or after the release");
        require(shapes.rows[t] > 0 && shapes.row_bytes[t] > 0, "a tile without a shape is used");
    }
};

/// The tiles of the calling thread.
inline emulated_tiles& emulated() {
    static thread_local emulated_tiles tiles;
    return tiles;
}

inline void load_shapes(const tile_shapes& shapes) {
    emulated_tiles& e = emulated();
    e.require(shapes.palette == 1 && shapes.start_row == 0, "another palette than 1, or a first row");
    for (std::uint8_t r : shapes.reserved) e.require(r == 0, "a reserved byte of the shapes is not 0");
    for (int t = 0; t < 16; ++t) {
        e.require(shapes.rows[t] <= 16 && shapes.row_bytes[t] <= 64, "a tile is larger than 16 rows of 64 bytes");
        e.require((shapes.rows[t] == 0) == (shapes.row_bytes[t] == 0), "a tile has rows without bytes");
        e.require(t < 8 || shapes.rows[t] == 0, "there are eight tiles");
    }
    std::memset(e.bytes, 0, sizeof e.bytes);
    e.shapes = shapes;
    e.configured = true;
    ++e.loads_of_shapes;
}
inline void release_tiles() {
    emulated_tiles& e = emulated();
    e.configured = false;
    e.shapes = {};
    std::memset(e.bytes, 0, sizeof e.bytes);
}
template <int Tile> void load_tile(const void* from, index_t stride) {
    emulated_tiles& e = emulated();
    e.require_tile(Tile);
    std::memset(e.bytes[Tile], 0, sizeof e.bytes[Tile]);
    for (int r = 0; r < e.shapes.rows[Tile]; ++r)
        std::memcpy(e.bytes[Tile][r], static_cast<const std::uint8_t*>(from) + r * stride, e.shapes.row_bytes[Tile]);
}
template <int Tile> void store_tile_rows(void* to, index_t stride) {
    emulated_tiles& e = emulated();
    e.require_tile(Tile);
    for (int r = 0; r < e.shapes.rows[Tile]; ++r)
        std::memcpy(static_cast<std::uint8_t*>(to) + r * stride, e.bytes[Tile][r], e.shapes.row_bytes[Tile]);
}
template <int C, int A, int B> void dot_tiles(bool a_signed) {
    static_assert(C != A && C != B && A != B);
    emulated_tiles& e = emulated();
    for (int t : {C, A, B}) e.require_tile(t);
    const tile_shapes& s = e.shapes;
    e.require(s.rows[C] == s.rows[A], "tiles C and A have different numbers of rows");
    e.require(s.row_bytes[C] == s.row_bytes[B], "tiles C and B have different numbers of columns");
    e.require(s.row_bytes[A] == 4 * s.rows[B], "the K of tiles A and B differs");
    e.require(s.row_bytes[A] % 4 == 0 && s.row_bytes[C] % 4 == 0, "a row is not made of dwords");
    for (int m = 0; m < s.rows[C]; ++m) {
        std::uint32_t sum[16];
        std::memcpy(sum, e.bytes[C][m], 64);
        for (int k = 0; k < s.row_bytes[A]; ++k) {
            const std::uint8_t byte = e.bytes[A][m][k];
            const int a = a_signed ? static_cast<std::int8_t>(byte) : byte;
            const std::uint8_t* b = e.bytes[B][k / 4] + k % 4;
            for (int n = 0; n < s.row_bytes[C] / 4; ++n)
                sum[n] += static_cast<std::uint32_t>(a * static_cast<std::int8_t>(b[4 * n]));
        }
        std::memcpy(e.bytes[C][m], sum, 64);
    }
    ++e.products;
}

} // namespace arch::amx
NOTCH_KEYED_END

#else

NOTCH_TARGET_BEGIN_AMX
NOTCH_KEYED_BEGIN
namespace arch::amx {

#define NOTCH_OP inline __attribute__((always_inline))

// asm: g++ 12 and clang 14 have intrinsics, but those of g++ hide from the compiler what a tile load reads.

NOTCH_OP void load_shapes(const tile_shapes& shapes) { __asm__ volatile("ldtilecfg %0" : : "m"(shapes)); }
NOTCH_OP void release_tiles() { __asm__ volatile("tilerelease"); }
/// The rows of a tile from memory, stride bytes apart; 0 repeats one row.
template <int Tile> NOTCH_OP void load_tile(const void* from, index_t stride) {
    __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(Tile), "r"(from), "r"(stride) : "memory");
}
template <int Tile> NOTCH_OP void store_tile_rows(void* to, index_t stride) {
    __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(Tile), "r"(to), "r"(stride) : "memory");
}
/// Tile C += A times B; the bytes of A are u8, or s8 if a_signed.
template <int C, int A, int B> NOTCH_OP void dot_tiles(bool a_signed) {
    if (a_signed)
        __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
    else
        __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}

#undef NOTCH_OP
} // namespace arch::amx
NOTCH_KEYED_END
NOTCH_TARGET_END

#endif // NOTCH_AMX_EMULATED
#endif // NOTCH_X86_KERNELS
