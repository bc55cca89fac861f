// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/arch/amx.hpp with NOTCH_AMX_EMULATED, outside of all regions: the tiles in plain C++,
// eight for each thread, after the pseudocode of Intel's manual. What the CPU answers with an exception (a
// tile that is not configured, or too large; shapes that do not fit together) ends the program.

#include <cstdio>
#include <cstdlib>
#include <cstring>

NOTCH_KEYED_BEGIN
namespace arch::amx {

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
