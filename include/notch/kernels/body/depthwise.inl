// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/depthwise.hpp in the region of each instruction set: depthwise convolution over native vectors
// of bytes. Four rows of one kernel column are interleaved within 128-bit lanes to dwords
// [r0 r1 r2 r3] of one channel each; vector k of four then holds channels
//     16 * lane + 4 * k + 0..3
// the order of the packed weights and of the interleaved bias and multiplier; packing the four
// results back within lanes restores the natural order without a permute. Neighbouring outputs
// share the interleaved columns.
//
//   nvec             a native vector register of bytes or dwords
//   nweights         a vector of weights, ready to multiply
//   interleave       four vectors of bytes -> four vectors of dwords
//   ndot             nvec of int32 += four products a lane, exact
//   pack_ncodes      the register path of the epilogue for a block

/// Which channels a vector holds: byte_width of one pixel; fewer, the rest zero; or, for at most
/// byte_width / 2 channels, those of two pixels, one in each half.
enum class lanes { full, partial, halves };

template <lanes L> NOTCH_OP nvec load_channels(const std::uint8_t* p, index_t second, index_t count) {
    if constexpr (L == lanes::full) return load_nbytes<true>(p, count);
    else if constexpr (L == lanes::partial) return load_nbytes<false>(p, count);
    else return load_halves(p, p + second, count);
}
template <lanes L, class T> NOTCH_OP auto load_dwords(const T* p) {
    const auto v = load_n32(p);
    if constexpr (L == lanes::halves) return repeat_half(v);
    else return v;
}

/// One block of channels of one row of outputs.
struct depthwise_block {
    const depthwise_args& d;
    index_t channel, count;         ///< first channel, how many
    index_t pixels, second;         ///< outputs to compute; with halves: how far the second half is ahead
    const std::int8_t* w;           ///< [kernel_w][groups of rows][4 k][64]
    const std::int32_t* bias;
    const float* multiplier;
    bool fast;                      ///< the register path of the epilogue applies
};

/// Results of one pixel that the register path does not cover: back to natural order through
/// memory, then 16 channels at a time.
template <lanes L> static NOTCH_NOINLINE void store_block(const depthwise_block& b, const std::int32_t* lane, std::uint8_t* out) {
    const index_t size = store_size(b.d.ep.store);
    std::int32_t natural[byte_width + 16] = {};
    for (int k = 0; k < 4; ++k)
        for (int l = 0; l < byte_width / 16; ++l)
            for (int i = 0; i < 4; ++i) natural[16 * l + 4 * k + i] = lane[k * (byte_width / 4) + 4 * l + i];
    for (int half = 0; half < (L == lanes::halves ? 2 : 1); ++half)
        for (index_t c = 0; c < b.count; c += 16)
            store_any(b.d.ep, load_s32(natural + half * (byte_width / 2) + c), b.channel + c,
                      b.count - c < 16 ? b.count - c : 16, out + (half * b.second * b.d.ldc + c) * size);
}

template <lanes L> NOTCH_OP void store_pixel(const depthwise_block& b, nvec (&acc)[4], index_t x) {
    std::uint8_t* out = static_cast<std::uint8_t*>(b.d.out) + (x * b.d.ldc + b.channel) * store_size(b.d.ep.store);
    if (b.fast) {
        nfloat m[4];
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) m[k] = load_dwords<L>(b.multiplier + 16 * k);
        const nvec codes = pack_ncodes(b.d.ep, acc, m);
        if constexpr (L == lanes::full) store_nbytes<true>(out, codes, b.count);
        else if constexpr (L == lanes::partial) store_nbytes<false>(out, codes, b.count);
        else store_halves(out, out + b.second * b.d.ldc, codes, b.count);
        return;
    }
    std::int32_t lane[byte_width];
    NOTCH_UNROLL
    for (int k = 0; k < 4; ++k) store_n32(lane + k * (byte_width / 4), acc[k]);
    store_block<L>(b, lane, out);
}

/// 3 x 3 without gaps between the columns, stride S: two outputs at a time share the columns that
/// both see. pixels >= 2.
template <int S, lanes L> static NOTCH_NOINLINE void depthwise_3x3(const depthwise_block& b) {
    const depthwise_args& d = b.d;
    const std::uint8_t* row[3];
    for (int i = 0; i < 3; ++i) row[i] = d.in + d.line[i] + b.channel;
    const index_t second = b.second * d.pixel_stride;
    nweights w[3][4];
    NOTCH_UNROLL
    for (int i = 0; i < 3; ++i) {
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) w[i][k] = load_nweights<L == lanes::halves>(b.w + (4 * i + k) * 64);
    }
    for (index_t x = 0; x < b.pixels; x += 2) {
        if (x + 2 > b.pixels) x = b.pixels - 2; // once more is as good
        nvec acc[2][4];
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) acc[0][k] = acc[1][k] = load_dwords<L>(b.bias + 16 * k);
        index_t at = x * d.pixel_stride;
        NOTCH_UNROLL
        for (int column = 0; column < S + 3; ++column, at += d.step) {
            nvec t[4];
            NOTCH_UNROLL
            for (int i = 0; i < 3; ++i) t[i] = load_channels<L>(row[i] + at, second, b.count);
            t[3] = t[2]; // its weights are zero
            interleave(t);
            NOTCH_UNROLL
            for (int k = 0; k < 4; ++k) {
                if (column < 3) ndot(acc[0][k], t[k], w[column < 3 ? column : 0][k]);
                if (column >= S) ndot(acc[1][k], t[k], w[column >= S ? column - S : 0][k]);
            }
        }
        store_pixel<L>(b, acc[0], x);
        store_pixel<L>(b, acc[1], x + 1);
    }
}

/// Any kernel.
template <lanes L> static NOTCH_NOINLINE void depthwise_any(const depthwise_block& b) {
    const depthwise_args& d = b.d;
    for (index_t x = 0; x < b.pixels; ++x) {
        nvec acc[4];
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) acc[k] = load_dwords<L>(b.bias + 16 * k);
        const std::int8_t* w = b.w;
        const std::uint8_t* in = d.in + x * d.pixel_stride + b.channel;
        for (index_t column = 0; column < d.kernel_w; ++column, in += d.step)
            for (index_t first = 0; first < d.kernel_h; first += 4, w += 256) {
                nvec t[4];
                NOTCH_UNROLL
                for (int i = 0; i < 4; ++i) {
                    // Below the last row the weights are zero, any readable byte will do.
                    const index_t line = d.line[first + i < d.kernel_h ? first + i : d.kernel_h - 1];
                    t[i] = load_channels<L>(in + line, b.second * d.pixel_stride, b.count);
                }
                interleave(t);
                NOTCH_UNROLL
                for (int k = 0; k < 4; ++k) ndot(acc[k], t[k], load_nweights<L == lanes::halves>(w + 64 * k));
            }
        store_pixel<L>(b, acc, x);
    }
}

template <lanes L> static void depthwise_channels(const depthwise_args& d, index_t channel, index_t count) {
    const index_t block = channel / depthwise_width, lane = channel % depthwise_width / 16;
    const index_t at = block * depthwise_width + lane * 4;
    const bool codes = d.ep.store == store_kind::u8 || d.ep.store == store_kind::s8;
    // With halves the vector covers outputs x and x + second; they overlap if the number is odd.
    const index_t pixels = L == lanes::halves ? (d.pixels + 1) / 2 : d.pixels;
    const depthwise_block b{d,
                            channel,
                            count,
                            pixels,
                            d.pixels - pixels,
                            d.w + block * d.kernel_w * ((d.kernel_h + 3) / 4) * 256 + lane * 16,
                            d.bias_interleaved + at,
                            d.multiplier_interleaved ? d.multiplier_interleaved + at : nullptr,
                            codes && d.ep.bounded && d.ep.mode == requant_mode::float_scale};
    const bool square = d.kernel_h == 3 && d.kernel_w == 3 && pixels >= 2;
    if (square && d.pixel_stride == d.step) depthwise_3x3<1, L>(b);
    else if (square && d.pixel_stride == 2 * d.step) depthwise_3x3<2, L>(b);
    else depthwise_any<L>(b);
}

static void depthwise_u8s8(const depthwise_args& d) {
    if (d.pixels <= 0) return;
    index_t channel = 0;
    for (; channel + byte_width <= d.channels; channel += byte_width)
        depthwise_channels<lanes::full>(d, channel, byte_width);
    const index_t left = d.channels - channel;
    if (left > 0) {
        if (byte_width > 16 && left <= byte_width / 2 && d.pixels > 1) depthwise_channels<lanes::halves>(d, channel, left);
        else depthwise_channels<lanes::partial>(d, channel, left);
    }
    if (d.ep.on_tile)
        d.ep.on_tile(d.ep.context, {d.out, d.row, 0, d.pixels, d.channels, d.ldc});
}

inline constexpr depthwise_kernels depthwise_table = {depthwise_u8s8};
