// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/multiply.hpp in the region of each instruction set.

#define NOTCH_MULTIPLY_LANES                                                                                           \
    (NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI ||                           \
     NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI)

// Codes are taken as s8 (u8 minus 128), and so are the zero points of the arguments.

#if NOTCH_MULTIPLY_LANES
NOTCH_OP vec32 product_lanes(const std::uint8_t* a, const std::uint8_t* b, index_t n, const multiply_args& p, vec32 za,
                             vec32 zb, vec32 zy) {
    const vec32 va = sub_32(load_lanes_s8(a, n, p.a_flip), za), vb = sub_32(load_lanes_s8(b, n, p.b_flip), zb);
    return add_32(round_product(mul_32(va, vb), p.multiplier), zy);
}
#endif

inline void multiply_rows(const multiply_args& p) {
    for (index_t i = 0; i < p.rows; ++i) {
        const std::uint8_t *a = p.a + i * p.lda, *b = p.b + i * p.ldb;
        std::uint8_t* y = p.y + i * p.ldy;
        index_t j = 0;
#if NOTCH_MULTIPLY_LANES
        const vec32 za = set_lanes(static_cast<std::uint32_t>(p.a_zero_point)),
                    zb = set_lanes(static_cast<std::uint32_t>(p.b_zero_point));
        const vec32 zy = set_lanes(static_cast<std::uint32_t>(p.y_zero_point));
        const vec32 lo = set_lanes(static_cast<std::uint32_t>(p.range.lo)),
                    hi = set_lanes(static_cast<std::uint32_t>(p.range.hi));
        const vec32 byte_lo = set_bytes(p.range.lo), byte_hi = set_bytes(p.range.hi);
        for (; j + 4 * lane_count <= p.cols; j += 4 * lane_count) {
            vec32 v[4];
            NOTCH_UNROLL
            for (int q = 0; q < 4; ++q)
                v[q] = product_lanes(a + j + q * lane_count, b + j + q * lane_count, lane_count, p, za, zb, zy);
            store_packed(y + j, v, p.y_signed, byte_lo, byte_hi);
        }
        for (; j < p.cols; j += lane_count) {
            const vec32 v = product_lanes(a + j, b + j, p.cols - j, p, za, zb, zy);
            store_lanes8(y + j, min_s32(max_s32(v, lo), hi), p.cols - j);
        }
#else
        for (; j < p.cols; ++j) {
            const std::int32_t va = static_cast<std::int8_t>(a[j] ^ p.a_flip),
                               vb = static_cast<std::int8_t>(b[j] ^ p.b_flip);
            y[j] = static_cast<std::uint8_t>(
                requantize_float((va - p.a_zero_point) * (vb - p.b_zero_point), p.multiplier, p.y_zero_point, p.range));
        }
#endif
    }
}

inline constexpr multiply_kernels multiply_kernel_table = {multiply_rows};

#undef NOTCH_MULTIPLY_LANES
