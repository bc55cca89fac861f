// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/arch/<isa>.hpp inside its region: depthwise convolution over native vectors
// of bytes. For a block of byte_width channels, four taps are interleaved within 128-bit lanes to
// dwords [t0 t1 t2 t3] of one channel each; vector k of four then holds channels
//     16 * lane + 4 * k + 0..3
// the order of the packed weights and of the interleaved bias and multiplier; packing the four
// results back within lanes restores the natural order without a permute.
//
//   nvec          a native vector register of bytes or dwords
//   interleave    four vectors of bytes -> four vectors of dwords
//   ndot          nvec of int32 += four products a lane, exact
//   store_ncodes  the register path of the epilogue for a block

template <bool Full>
static void depthwise_block(const depthwise_args& d, index_t channel, index_t count) {
    const index_t groups = (d.taps + 3) / 4;
    const index_t block = channel / depthwise_width, part = channel % depthwise_width / 16;
    const std::int8_t* w = d.w + block * groups * 256 + part * 16;
    const std::int32_t* bias = d.bias_interleaved + block * depthwise_width + part * 4;
    const float* multiplier =
        d.multiplier_interleaved ? d.multiplier_interleaved + block * depthwise_width + part * 4 : nullptr;
    const bool codes = d.ep.store == store_kind::u8 || d.ep.store == store_kind::s8;
    const bool fast = codes && d.ep.bounded && d.ep.mode == requant_mode::float_scale;
    const index_t size = store_size(d.ep.store);
    for (index_t x = 0; x < d.pixels; ++x) {
        const std::uint8_t* in = d.in + x * d.pixel_stride + channel;
        nvec acc[4];
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) acc[k] = load_n32(bias + 16 * k);
        for (index_t g = 0; g < groups; ++g) {
            nvec t[4];
            NOTCH_UNROLL
            for (int i = 0; i < 4; ++i) {
                // Past the last tap the weights are zero, any readable byte will do.
                const index_t tap = 4 * g + i < d.taps ? 4 * g + i : d.taps - 1;
                t[i] = load_nbytes<Full>(in + d.tap[tap], count);
            }
            interleave(t);
            NOTCH_UNROLL
            for (int k = 0; k < 4; ++k) ndot(acc[k], t[k], w + g * 256 + 64 * k);
        }
        std::uint8_t* out = static_cast<std::uint8_t*>(d.out) + (x * d.ldc + channel) * size;
        if (fast) {
            store_ncodes<Full>(d.ep, acc, multiplier, out, count);
            continue;
        }
        // Back to natural order through memory, then 16 channels at a time.
        std::int32_t lanes[byte_width], natural[byte_width + 16] = {};
        NOTCH_UNROLL
        for (int k = 0; k < 4; ++k) store_n32(lanes + k * (byte_width / 4), acc[k]);
        for (int k = 0; k < 4; ++k)
            for (int l = 0; l < byte_width / 16; ++l)
                for (int i = 0; i < 4; ++i)
                    natural[16 * l + 4 * k + i] = lanes[k * (byte_width / 4) + 4 * l + i];
        for (index_t c = 0; c < count; c += 16)
            store_any(d.ep, load_s32(natural + c), channel + c, count - c < 16 ? count - c : 16,
                      out + c * size);
    }
}

static void depthwise_u8s8(const depthwise_args& d) {
    if (d.pixels <= 0) return;
    index_t channel = 0;
    for (; channel + byte_width <= d.channels; channel += byte_width)
        depthwise_block<true>(d, channel, byte_width);
    if (channel < d.channels) depthwise_block<false>(d, channel, d.channels - channel);
    if (d.ep.on_tile)
        d.ep.on_tile(d.ep.context, {d.out, d.row, 0, d.pixels, d.channels, d.ldc});
}
