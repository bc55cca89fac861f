// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/conv_tile.hpp: the product under a convolution: packed weights times the pixels of
// several image rows. Called by kernels/conv_band.hpp; kernels/conv.hpp is for users.
#pragma once

#include <notch/kernels/gemm.hpp>
#include <notch/kernels/table.hpp>

NOTCH_NAMESPACE_BEGIN

/// Outputs (y, x) .. (y + rows - 1, x + cols - 1), with the segments that they need.
struct conv_rect {
    index_t y = 0, rows = 0, x = 0, cols = 0;
    index_t segment = 0, segments = 0; ///< the first one, and how many
    index_t skip = 0;                  ///< bytes left out at the beginning of each
    index_t k4 = 0;                    ///< groups of four of each
    index_t rest = 0;                  ///< groups left out of each, in front or behind
    /// If not 0: whole image rows of a multiple of 7 outputs of a window three taps wide, a tap being so many groups.
    /// All rects of a call, or none.
    index_t tap = 0;
    bool left = false;  ///< with tap: the first tap of the first output of each row is left out
    bool right = false; ///< and the last tap of the last one
};

/// A product whose rows are pixels: row m of `product` is pixel m % run of image row m / run,
///     input   product.a + (m / run) * in_line + (m % run) * product.lda + product.segment[s]
///     output  product.c + (m / run) * out_line + (m % run) * product.ldc
struct conv_args {
    gemm_args product;
    index_t run = 1;                   ///< pixels of an image row
    index_t in_line = 0, out_line = 0; ///< bytes of input and elements of output from one row to the next
    /// Behind the segments, groups of four for each pixel m: ends[m * 4 * end_groups ...], the joined ends of the
    /// segments. 8 more pixels can be read.
    const std::uint8_t* ends = nullptr;
    index_t end_groups = 0;
    bool joins_ends = false; ///< the kernel joins them itself (conv_kernels::joins_ends), and ends is null
    /// Together all outputs. If there are several, there are no joined ends.
    const conv_rect* rects = nullptr;
    index_t rect_count = 0;
};
struct conv_kernels {
    void (*conv_u8s8)(const conv_args&) = nullptr;
    bool (*joins_ends)(const conv_args&, index_t n) = nullptr; ///< whether it can, if product.n is n
    index_t tile = 1, short_tile = 1; ///< outputs of a tile of the most panels, and of the last one of few
    bool lines = false;               ///< there are tiles for conv_rect::tap
};

NOTCH_NAMESPACE_END

#define NOTCH_BODY <notch/kernels/body/conv.inl>
#define NOTCH_BODY_DOT
#define NOTCH_BODY_AMX <notch/kernels/body/conv_amx.inl>
#include <notch/kernels/arch/for_each.inl>

NOTCH_KEYED_BEGIN
namespace detail {
NOTCH_KERNELS(conv_kernels, conv_tables[isa_count], NOTCH_KERNEL_TABLES_TILES(conv_table));
} // namespace detail
NOTCH_KEYED_END
