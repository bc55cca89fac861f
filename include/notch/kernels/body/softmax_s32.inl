// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/body/softmax.inl: softmax of int32 accumulators.
//
// The maximum; the exponentials, kept in a block on the stack, and their sum; the outputs. Rows longer
// than the block compute their exponentials twice, so that no scratch memory is needed.

#if NOTCH_SOFTMAX_512 || NOTCH_SOFTMAX_256

/// detail::softmax_exponential for each lane.
struct softmax_scaling {
    vec32 multiplier, half, furthest;
    int shift;
};
NOTCH_OP vec32 exponentials(vec32 d, const softmax_scaling& s) {
    const vec32 near = min_u32(d, s.furthest);
    const vec32 even = right_64(add_64(mul_even(near, s.multiplier), s.half), s.shift);
    const vec32 odd = right_64(add_64(mul_even(odd_down(near), s.multiplier), s.half), s.shift);
    const vec32 t = min_u32(or_bits(even, odd_up(odd)), set_lanes(31u << 15));
    const vec32 f = and_bits(t, set_lanes(32767));
    vec32 v = set_lanes(3596);
    v = add_32(set_lanes(static_cast<std::uint32_t>(-27834)), right_32<15>(mul_16(v, f)));
    v = add_32(set_lanes(31359), right_32<17>(mul_16(v, f)));
    v = add_32(set_lanes(static_cast<std::uint32_t>(-22708)), right_32<17>(mul_16(v, f)));
    return right_each(add_32(set_lanes(1u << 30), mul_16(v, f)), right_32<15>(t));
}

NOTCH_OP softmax_scaling make_scaling(const softmax_s32_params& p) {
    return {set_lanes64(p.multiplier), set_lanes64(std::uint64_t{1} << (p.shift - 1)), set_lanes(p.furthest), p.shift};
}
NOTCH_OP std::int32_t softmax_top(const std::int32_t* x, index_t n) {
    const vec32 least = set_lanes(0x80000000u);
    vec32 top = least;
    index_t j = 0;
    for (; j + lane_count <= n; j += lane_count) top = max_s32(top, load_lanes(x + j));
    if (j < n) top = max_s32(top, load_lanes(x + j, n - j, least));
    return max_of_lanes(top);
}
/// The exponentials of n elements into e, up to a multiple of lane_count; returns their sum.
NOTCH_OP std::uint64_t softmax_exponentials(const std::int32_t* x, index_t n, std::int32_t top,
                                            const softmax_s32_params& p, std::uint32_t* e) {
    const softmax_scaling s = make_scaling(p);
    const vec32 from = set_lanes(static_cast<std::uint32_t>(top)), low = set_lanes64(0xffffffffu);
    vec32 even = set_lanes(0), odd = even;
    const auto sum = [&](vec32 v) {
        even = add_64(even, and_bits(v, low));
        odd = add_64(odd, odd_down(v));
    };
    index_t j = 0;
    for (; j + 4 * lane_count <= n; j += 4 * lane_count) {
        vec32 v[4];
        NOTCH_UNROLL
        for (index_t k = 0; k < 4; ++k) {
            v[k] = exponentials(sub_32(from, load_lanes(x + j + k * lane_count)), s);
            store_lanes(e + j + k * lane_count, v[k]);
        }
        sum(add_32(v[0], v[1])); // at most 2^30 each: two fit 32 bits, four do not
        sum(add_32(v[2], v[3]));
    }
    for (; j < n; j += lane_count) {
        const vec32 v = exponentials(sub_32(from, load_lanes(x + j, n - j, from)), s);
        store_lanes(e + j, v);
        sum(keep_lanes(v, n - j));
    }
    return sum_lanes64(add_64(even, odd));
}
NOTCH_OP void softmax_write(const std::uint32_t* e, index_t n, detail::softmax_divisor divisor, std::uint8_t* y,
                            std::uint8_t y_flip) {
    if (divisor.shift == 0) return softmax_nothing(y, n, y_flip);
    const softmax_output o = make_output(divisor);
    index_t j = 0;
    for (; j + 4 * lane_count <= n; j += 4 * lane_count) {
        vec32 codes[4];
        NOTCH_UNROLL
        for (index_t k = 0; k < 4; ++k) codes[k] = output_codes(load_lanes(e + j + k * lane_count), o);
        store_packed(y + j, codes, y_flip);
    }
    for (; j < n; j += lane_count) store_codes(y + j, output_codes(load_lanes(e + j), o), y_flip, n - j);
}

#else

NOTCH_OP std::int32_t softmax_top(const std::int32_t* x, index_t n) {
    std::int32_t top = x[0];
    for (index_t j = 1; j < n; ++j) top = x[j] > top ? x[j] : top;
    return top;
}
NOTCH_OP std::uint64_t softmax_exponentials(const std::int32_t* x, index_t n, std::int32_t top,
                                            const softmax_s32_params& p, std::uint32_t* e) {
    std::uint64_t sum = 0;
    for (index_t j = 0; j < n; ++j) {
        e[j] = detail::softmax_exponential(static_cast<std::uint32_t>(top) - static_cast<std::uint32_t>(x[j]), p);
        sum += e[j];
    }
    return sum;
}
NOTCH_OP void softmax_write(const std::uint32_t* e, index_t n, detail::softmax_divisor divisor, std::uint8_t* y,
                            std::uint8_t y_flip) {
    for (index_t j = 0; j < n; ++j) y[j] = static_cast<std::uint8_t>(detail::softmax_code(e[j], divisor) ^ y_flip);
}

#endif

inline void softmax_s32(const softmax_args& p) {
    constexpr index_t block = 1024, most = 8;
    alignas(64) std::uint32_t e[block];
    const auto* x = static_cast<const std::int32_t*>(p.x);
    if (p.cols <= block) { // several rows at once, so that one need not wait for the sums across the lanes of another
        const index_t each = (p.cols + 15) / 16 * 16, fit = block / each, together = fit < most ? fit : most;
        std::int32_t top[most];
        detail::softmax_divisor divisor[most];
        for (index_t i = 0; i < p.rows; i += together) {
            const index_t n = p.rows - i < together ? p.rows - i : together;
            for (index_t r = 0; r < n; ++r) top[r] = softmax_top(x + (i + r) * p.ldx, p.cols);
            for (index_t r = 0; r < n; ++r)
                divisor[r] = detail::make_softmax_divisor(
                    softmax_exponentials(x + (i + r) * p.ldx, p.cols, top[r], p.scaling, e + r * each));
            for (index_t r = 0; r < n; ++r)
                softmax_write(e + r * each, p.cols, divisor[r], p.y + (i + r) * p.ldy, p.y_flip);
        }
        return;
    }
    const auto part = [&](index_t at) { return p.cols - at < block ? p.cols - at : block; };
    for (index_t i = 0; i < p.rows; ++i) {
        const std::int32_t* row = x + i * p.ldx;
        const std::int32_t top = softmax_top(row, p.cols);
        std::uint64_t sum = 0;
        for (index_t at = 0; at < p.cols; at += block)
            sum += softmax_exponentials(row + at, part(at), top, p.scaling, e);
        const detail::softmax_divisor divisor = detail::make_softmax_divisor(sum);
        for (index_t at = 0; at < p.cols; at += block) {
            (void)softmax_exponentials(row + at, part(at), top, p.scaling, e);
            softmax_write(e, part(at), divisor, p.y + i * p.ldy + at, p.y_flip);
        }
    }
}
