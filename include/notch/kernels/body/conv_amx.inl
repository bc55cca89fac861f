// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/conv_tile.hpp in the region of AMX: convolutions are products of body/gemm_amx.inl whose
// rows are pixels. The rectangles of conv_args go unused, they would leave tiles part empty: taps in a padding of
// zeros are multiplied as well, and add nothing.

inline void conv_u8s8(const conv_args& a) {
    if (!multiply_rows(a.product, {a.run, a.in_line, a.out_line, a.ends, a.end_groups})) avx512vnni::conv_u8s8(a);
}

inline bool joins_ends(const conv_args&, index_t) { return false; }

inline constexpr conv_kernels conv_table = {conv_u8s8, joins_ends, avx512vnni::conv_table.tile,
                                            avx512vnni::conv_table.short_tile, false};
