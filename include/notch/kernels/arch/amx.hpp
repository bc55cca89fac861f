// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/arch/amx.hpp: the tiles of AMX-TILE and AMX-INT8 (Intel 64 and IA-32 Architectures Software
// Developer's Manual, volume 2, TDPBUSD and the instructions beside it). A CPU with them has AVX-512 VNNI,
// whose operations do the rest: kernels/body/gemm_amx.inl.
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

#include <notch/core/config.hpp>
#include <notch/kernels/arch/avx512vnni.hpp>
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
#include <notch/kernels/arch/amx_emulated.inl>
#else

NOTCH_TARGET_BEGIN_AMX
NOTCH_KEYED_BEGIN
namespace arch::amx {

#define NOTCH_OP static inline __attribute__((always_inline))

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
#endif
#endif
