// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/embedding.hpp in the region of each instruction set: one row.

#define NOTCH_EMBEDDING_LANES                                                                                          \
    (NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512BW || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX512VNNI ||                           \
     NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVX2 || NOTCH_ARCH_LEVEL == NOTCH_ARCH_AVXVNNI)

#if NOTCH_EMBEDDING_LANES
NOTCH_OP vec32 rescaled_lanes(const std::uint8_t* x, const embedding_args& p, vec32 zero, vec32 y_zero) {
    return add_32(round_product(sub_32(load_lanes_s8(x, lane_count, p.x_flip), zero), p.multiplier), y_zero);
}
#endif

inline void rescale_row(const embedding_args& p) {
    index_t j = 0;
#if NOTCH_EMBEDDING_LANES
    const vec32 zero = set_lanes(static_cast<std::uint32_t>(p.zero_point)),
                y_zero = set_lanes(static_cast<std::uint32_t>(p.y_zero_point));
    const vec32 lo = set_bytes(p.range.lo), hi = set_bytes(p.range.hi);
    for (; j + 4 * lane_count <= p.cols; j += 4 * lane_count) {
        const std::uint8_t* x = p.x + j;
        const vec32 v[4] = {rescaled_lanes(x, p, zero, y_zero), rescaled_lanes(x + lane_count, p, zero, y_zero),
                            rescaled_lanes(x + 2 * lane_count, p, zero, y_zero),
                            rescaled_lanes(x + 3 * lane_count, p, zero, y_zero)};
        store_packed(p.y + j, v, p.y_signed, lo, hi);
    }
#endif
    for (; j < p.cols; ++j)
        p.y[j] = static_cast<std::uint8_t>(requantize_float(static_cast<std::int8_t>(p.x[j] ^ p.x_flip) - p.zero_point,
                                                            p.multiplier, p.y_zero_point, p.range));
}

inline constexpr embedding_kernels embedding_kernel_table = {rescale_row};

#undef NOTCH_EMBEDDING_LANES
