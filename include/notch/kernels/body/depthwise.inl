// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/depthwise.hpp in the region of each instruction set: depthwise convolution over native vectors
// of bytes. Four taps of a channel are interleaved within 128-bit lanes to a dword for each channel; vector k of four
// then holds channels 16 * lane + 4 * k + 0..3, the order of kernels/pack_depthwise.hpp, and packing the four results
// back within lanes restores the natural order without a permute.
//
// depthwise_3x3.inl has the rows of 3 x 3 kernels; row_any, here, makes up to four outputs of any kernel from the
// columns that any of them sees.
//
// A vector holds channels of one pixel, or of pixels in different strips of the row (see lanes).

#include <notch/kernels/arch/depthwise_ops.inl>
#include <notch/kernels/body/depthwise_block.inl>

#include <notch/kernels/body/depthwise_3x3.inl> // uses the block

// --- any kernel ----------------------------------------------------------------------------------------------------

/// C neighbouring outputs of row y from x on; each column is interleaved once for all of them. More
/// than one only without dilation.
template <lanes L, bool Words, int C> NOTCH_OP void tile_any(const depthwise_block& b, index_t y, index_t x) {
    const depthwise_args& d = b.d;
    const index_t columns = C == 1 ? d.kernel_w : (C - 1) * d.stride_w + d.kernel_w,
                  w_step = (d.kernel_h + 3) / 4 * 256;
    nvec acc[4][C];
    NOTCH_UNROLL
    for (int k = 0; k < 4; ++k) {
        const nvec bias = load_n32(b.bias + 16 * k);
        NOTCH_UNROLL
        for (int c = 0; c < C; ++c) acc[k][c] = bias;
    }
    for (index_t first = 0; first < d.kernel_h; first += 4) {
        // Below the last row the weights are zero.
        const tap_rows<4> rows = make_rows<L, 4>(b, y * d.stride_h - d.pad_top + first * d.dilation_h, d.dilation_h);
        const std::int8_t* w = b.w + first / 4 * 256;
        index_t ix = x * d.stride_w - d.pad_left;
        for (index_t column = 0; column < columns; ++column, ix += d.dilation_w) {
            nvec t[1][4];
            load_columns<L, 4>(b, rows, ix, t);
            flip_if(b, t[0]);
            interleave(t[0]);
            index_t j = column;
            NOTCH_UNROLL
            for (int c = 0; c < C; ++c, j -= d.stride_w) {
                if (j < 0 || j >= d.kernel_w) continue;
                NOTCH_UNROLL
                for (int k = 0; k < 4; ++k) ndot_from(acc[k][c], t[0][k], w + j * w_step + 64 * k);
            }
        }
    }
    tile_stage<C, L, Words> stage;
    NOTCH_UNROLL
    for (int k = 0; k < 4; ++k) stage.take(b, k, acc[k]);
    std::uint8_t* out = b.base + y * b.row_bytes + x * b.pixel_bytes;
    NOTCH_UNROLL
    for (int c = 0; c < C; ++c) stage.store(b, c, out + c * b.pixel_bytes);
}

template <lanes L, bool Words> NOTCH_NOINLINE void row_any(const depthwise_block& b, index_t y) {
    constexpr int wide = byte_width == 64 ? 4 : 2; // as many as there are registers for
    index_t x = 0;
    if (b.d.dilation_w == 1)
        for (; x + wide <= b.columns; x += wide) tile_any<L, Words, wide>(b, y, x);
    for (; x < b.columns; ++x) tile_any<L, Words, 1>(b, y, x);
}

// --- all channels of some rows -------------------------------------------------------------------------------------

template <lanes L, bool Words> void block_rows(const depthwise_block& b, index_t first, index_t last) {
    const depthwise_args& d = b.d;
    index_t y = first;
    if (!d.tile) {
        for (; y < last; ++y) row_any<L, Words>(b, y);
        return;
    }
#if NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW
    for (; y < last; ++y) {
        if (d.stride_w == 1)
            row_3x3_pairs<1, L, Words>(b, y);
        else
            row_3x3_pairs<2, L, Words>(b, y);
    }
#else
    if (d.stride_w == 1) {
        for (; y + 2 <= last; y += 2) rows_3x3_stride1<L, Words, 2>(b, y);
        if constexpr (L == lanes::full) { // else not worth another copy
            if (y < last) rows_3x3_stride1<L, Words, 1>(b, y);
        } else {
            if (y < last) row_any<L, Words>(b, y);
        }
    } else {
        for (; y < last; ++y) row_3x3_stride2<L, Words>(b, y);
    }
#endif
}

template <lanes L>
void block_channels(const depthwise_args& d, const word_stage& stage, index_t channel, index_t count, index_t first,
                    index_t last) {
    const index_t block = channel / depthwise_width, lane = channel % depthwise_width / 16;
    const index_t at = block * depthwise_width + lane * 4;
    const index_t size = store_size(d.ep.store);
    // The strips of a row begin at multiples of distance and reach to its end; they may overlap.
    const index_t distance = d.out_w / strips<L>();
    const depthwise_block b{d,
                            channel,
                            count,
                            d.out_w - (strips<L>() - 1) * distance,
                            distance,
                            d.w + block * d.kernel_w * ((d.kernel_h + 3) / 4) * 256 + lane * 16,
                            d.tile + (d.tile ? block * 6 * 256 + lane * 16 : 0),
                            d.pairs + (d.pairs ? block * 7 * 128 + lane * 8 : 0),
                            d.bias_interleaved + at,
                            d.multiplier_interleaved + (d.multiplier_interleaved ? at : 0),
                            d.multiplier_words + (d.multiplier_words ? at : 0),
                            register_codes(d.ep),
                            static_cast<std::uint8_t*>(d.out) + channel * size,
                            d.out_row * size,
                            d.ldc * size,
                            distance * d.ldc * size,
                            make_masks(count),
                            stage,
                            of_steps(d.ep)};
    if constexpr (has_words) {
        if (d.ep.words) {
            block_rows<L, true>(b, first, last);
            return;
        }
    }
    if constexpr (strips<L>() == 1 || L == lanes::halves) block_rows<L, false>(b, first, last);
}

inline void depthwise_u8s8(const depthwise_args& d) {
    word_stage stage{};
    if constexpr (has_words) stage = make_words(d.ep);
    // Bands of rows whose inputs stay in the first cache while all blocks of channels pass over them.
    const index_t row_bytes = d.in_w * d.channels * d.stride_h;
    index_t band = 32768 / (row_bytes + 1) / 2 * 2;
    if (band < 2) band = 2;
    for (index_t first = d.first_row; first < d.last_row; first += band) {
        const index_t last = first + band < d.last_row ? first + band : d.last_row;
        index_t channel = 0;
        for (; channel + byte_width <= d.channels; channel += byte_width)
            block_channels<lanes::full>(d, stage, channel, byte_width, first, last);
        const index_t left = d.channels - channel;
        if (left > 0 && !(has_words && d.ep.words)) { // two strips, or none: fewer variants
            if (has_words && 2 * left == byte_width)
                block_channels<has_words ? lanes::halves : lanes::part>(d, stage, channel, left, first, last);
            else
                block_channels<lanes::part>(d, stage, channel, left, first, last);
        } else if constexpr (byte_width == 64) {
            if (left > 32)
                block_channels<lanes::part>(d, stage, channel, left, first, last);
            else if (left == 32)
                block_channels<lanes::halves>(d, stage, channel, left, first, last);
            else if (left > 16)
                block_channels<lanes::part_halves>(d, stage, channel, left, first, last);
            else if (left == 16)
                block_channels<lanes::quarters>(d, stage, channel, left, first, last);
            else if (left > 0)
                block_channels<lanes::part_quarters>(d, stage, channel, left, first, last);
        } else if constexpr (byte_width == 32) {
            if (left > 16)
                block_channels<lanes::part>(d, stage, channel, left, first, last);
            else if (left == 16)
                block_channels<lanes::halves>(d, stage, channel, left, first, last);
            else if (left > 0)
                block_channels<lanes::part_halves>(d, stage, channel, left, first, last);
        }
        if (d.ep.on_tile)
            for (index_t y = first; y < last; ++y)
                d.ep.on_tile(d.ep.context, {static_cast<std::uint8_t*>(d.out) + y * d.out_row * store_size(d.ep.store),
                                            d.row + y * d.out_w, 0, d.out_w, d.channels, d.ldc});
    }
}

inline void expand(const expand_args& a) {
    std::uint8_t* out = a.out;
    for (index_t p = 0; p < a.pixels; ++p) {
        const std::uint8_t* in = a.in + p * a.in_pixel;
        for (index_t c = 0; c < a.channels; ++c, out += a.multiplier) {
            const std::uint64_t v = in[c] * std::uint64_t{0x0101010101010101};
            for (index_t i = 0; i < a.multiplier; i += 8) __builtin_memcpy(out + i, &v, 8);
        }
    }
}

inline constexpr depthwise_kernels depthwise_table = {depthwise_u8s8, expand};
