// SPDX-License-Identifier: Apache-2.0
//
// Included by kernels/arch/neon.hpp, neondot.hpp and neoni8mm.hpp inside their regions: what the three have in
// common, everything but the products of bytes.

inline constexpr int max_panels = 1;
inline constexpr int byte_width = 16;
inline constexpr bool use_pairs = false; // all products here are exact

struct acc16 {
    int32x4_t v[4];
};
struct f32x16 {
    float32x4_t v[4];
};
/// 16 bytes or four int32, whatever an operation takes it for.
using nvec = int32x4_t;
using nfloat = float32x4_t;

#define NOTCH_EACH4(expression)                                                                                        \
    NOTCH_UNROLL                                                                                                       \
    for (int i = 0; i < 4; ++i) expression

// --- partly used vectors: through a copy, in pieces of 8, 4, 2 and 1 bytes ----------------------

/// 16 bytes of which the first n are read, the others 0.
NOTCH_OP uint8x16_t load_bytes16(const std::uint8_t* p, index_t n) {
    if (n >= 16) return vld1q_u8(p);
    alignas(16) std::uint8_t copy[16] = {};
    index_t at = 0;
    if (n & 8) __builtin_memcpy(copy, p, 8), at = 8;
    if (n & 4) __builtin_memcpy(copy + at, p + at, 4), at += 4;
    if (n & 2) __builtin_memcpy(copy + at, p + at, 2), at += 2;
    if (n & 1) copy[at] = p[at];
    return vld1q_u8(copy);
}
NOTCH_OP void store_bytes16(std::uint8_t* p, uint8x16_t v, index_t n) {
    if (n >= 16) {
        vst1q_u8(p, v);
        return;
    }
    alignas(16) std::uint8_t copy[16];
    vst1q_u8(copy, v);
    index_t at = 0;
    if (n & 8) __builtin_memcpy(p, copy, 8), at = 8;
    if (n & 4) __builtin_memcpy(p + at, copy + at, 4), at += 4;
    if (n & 2) __builtin_memcpy(p + at, copy + at, 2), at += 2;
    if (n & 1) p[at] = copy[at];
}

// --- 16 lanes of int32 and float -------------------------------------------------------------

NOTCH_OP acc16 set_s32(std::int32_t x) {
    const int32x4_t v = vdupq_n_s32(x);
    return {{v, v, v, v}};
}
NOTCH_OP f32x16 set_f32(float x) {
    const float32x4_t v = vdupq_n_f32(x);
    return {{v, v, v, v}};
}
NOTCH_OP acc16 load_s32(const std::int32_t* p) {
    return {{vld1q_s32(p), vld1q_s32(p + 4), vld1q_s32(p + 8), vld1q_s32(p + 12)}};
}
NOTCH_OP acc16 load_s32(const std::int32_t* p, index_t n) {
    if (n >= 16) return load_s32(p);
    alignas(16) std::int32_t copy[16] = {};
    for (index_t i = 0; i < n; ++i) copy[i] = p[i];
    return load_s32(copy);
}
NOTCH_OP f32x16 load_f32(const float* p) {
    return {{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}};
}
NOTCH_OP f32x16 load_f32(const float* p, index_t n) {
    if (n >= 16) return load_f32(p);
    alignas(16) float copy[16] = {};
    for (index_t i = 0; i < n; ++i) copy[i] = p[i];
    return load_f32(copy);
}
NOTCH_OP acc16 load_u8(const std::uint8_t* p, index_t n) {
    const uint8x16_t v = load_bytes16(p, n);
    const uint16x8_t lo = vmovl_u8(vget_low_u8(v)), hi = vmovl_high_u8(v);
    return {{vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(lo))), vreinterpretq_s32_u32(vmovl_high_u16(lo)),
             vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(hi))), vreinterpretq_s32_u32(vmovl_high_u16(hi))}};
}
NOTCH_OP acc16 load_s8(const std::uint8_t* p, index_t n) {
    const int8x16_t v = vreinterpretq_s8_u8(load_bytes16(p, n));
    const int16x8_t lo = vmovl_s8(vget_low_s8(v)), hi = vmovl_high_s8(v);
    return {{vmovl_s16(vget_low_s16(lo)), vmovl_high_s16(lo), vmovl_s16(vget_low_s16(hi)), vmovl_high_s16(hi)}};
}
NOTCH_OP void store_s32(std::int32_t* p, acc16 x, index_t n) {
    if (n >= 16) {
        NOTCH_EACH4(vst1q_s32(p + 4 * i, x.v[i]));
        return;
    }
    alignas(16) std::int32_t copy[16];
    NOTCH_EACH4(vst1q_s32(copy + 4 * i, x.v[i]));
    for (index_t i = 0; i < n; ++i) p[i] = copy[i];
}
/// The bits of the lanes, whatever type of four bytes stands at p.
NOTCH_OP void store_bits(void* p, acc16 x, index_t n) {
    if (n >= 16)
        __builtin_memcpy(p, x.v, 64);
    else
        __builtin_memcpy(p, x.v, static_cast<std::size_t>(4 * n));
}
NOTCH_OP void store_f32(float* p, f32x16 x, index_t n) {
    if (n >= 16) {
        NOTCH_EACH4(vst1q_f32(p + 4 * i, x.v[i]));
        return;
    }
    alignas(16) float copy[16];
    NOTCH_EACH4(vst1q_f32(copy + 4 * i, x.v[i]));
    for (index_t i = 0; i < n; ++i) p[i] = copy[i];
}
/// The low byte of each lane.
NOTCH_OP void store_bytes(std::uint8_t* p, acc16 x, index_t n) {
    const int16x8_t lo = vmovn_high_s32(vmovn_s32(x.v[0]), x.v[1]), hi = vmovn_high_s32(vmovn_s32(x.v[2]), x.v[3]);
    store_bytes16(p, vreinterpretq_u8_s8(vmovn_high_s16(vmovn_s16(lo), hi)), n);
}
/// The low half of each lane.
NOTCH_OP void store_words(std::uint16_t* p, acc16 x, index_t n) {
    const int16x8_t lo = vmovn_high_s32(vmovn_s32(x.v[0]), x.v[1]), hi = vmovn_high_s32(vmovn_s32(x.v[2]), x.v[3]);
    if (n >= 16) {
        vst1q_u16(p, vreinterpretq_u16_s16(lo));
        vst1q_u16(p + 8, vreinterpretq_u16_s16(hi));
        return;
    }
    alignas(16) std::uint16_t copy[16];
    vst1q_u16(copy, vreinterpretq_u16_s16(lo));
    vst1q_u16(copy + 8, vreinterpretq_u16_s16(hi));
    for (index_t i = 0; i < n; ++i) p[i] = copy[i];
}
NOTCH_OP f32x16 to_f32(acc16 x) {
    f32x16 r;
    NOTCH_EACH4(r.v[i] = vcvtq_f32_s32(x.v[i]));
    return r;
}
NOTCH_OP acc16 to_s32(f32x16 x) {
    acc16 r;
    NOTCH_EACH4(r.v[i] = vcvtnq_s32_f32(x.v[i]));
    return r;
}
NOTCH_OP f32x16 mul(f32x16 a, f32x16 b) {
    NOTCH_EACH4(a.v[i] = vmulq_f32(a.v[i], b.v[i]));
    return a;
}
NOTCH_OP f32x16 div(f32x16 a, f32x16 b) {
    NOTCH_EACH4(a.v[i] = vdivq_f32(a.v[i], b.v[i]));
    return a;
}
/// a < b ? a : b. Unlike fmin, the second operand where one is NaN and where both are zeros, as on
/// the other instruction sets.
NOTCH_OP f32x16 min(f32x16 a, f32x16 b) {
    NOTCH_EACH4(a.v[i] = vbslq_f32(vcltq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]));
    return a;
}
NOTCH_OP f32x16 max(f32x16 a, f32x16 b) {
    NOTCH_EACH4(a.v[i] = vbslq_f32(vcgtq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]));
    return a;
}
NOTCH_OP acc16 add(acc16 a, acc16 b) {
    NOTCH_EACH4(a.v[i] = vaddq_s32(a.v[i], b.v[i]));
    return a;
}
NOTCH_OP acc16 sub(acc16 a, acc16 b) {
    NOTCH_EACH4(a.v[i] = vsubq_s32(a.v[i], b.v[i]));
    return a;
}
/// Modulo 2^32.
NOTCH_OP acc16 mul_s32(acc16 a, acc16 b) {
    NOTCH_EACH4(a.v[i] = vmulq_s32(a.v[i], b.v[i]));
    return a;
}
NOTCH_OP acc16 and_s32(acc16 a, acc16 b) {
    NOTCH_EACH4(a.v[i] = vandq_s32(a.v[i], b.v[i]));
    return a;
}
NOTCH_OP acc16 high_half(acc16 a) {
    NOTCH_EACH4(a.v[i] = vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a.v[i]), 16)));
    return a;
}
NOTCH_OP acc16 bits_of(f32x16 x) {
    acc16 r;
    NOTCH_EACH4(r.v[i] = vreinterpretq_s32_f32(x.v[i]));
    return r;
}
/// a + b, where a is a product: the barrier keeps the compiler from contracting both to an FMA.
NOTCH_OP f32x16 add_rounded(f32x16 a, f32x16 b) {
    NOTCH_EACH4({
        __asm__("" : "+w"(a.v[i]));
        a.v[i] = vaddq_f32(a.v[i], b.v[i]);
    })
    return a;
}
NOTCH_OP f32x16 round(f32x16 x) {
    NOTCH_EACH4(x.v[i] = vrndnq_f32(x.v[i]));
    return x;
}
NOTCH_OP f32x16 nan_to_zero(f32x16 x) {
    NOTCH_EACH4(x.v[i] = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x.v[i]), vceqq_f32(x.v[i], x.v[i]))));
    return x;
}
/// x where it is finite, else otherwise.
NOTCH_OP f32x16 finite_or(f32x16 x, f32x16 otherwise) {
    NOTCH_EACH4(x.v[i] = vbslq_f32(vceqzq_f32(vsubq_f32(x.v[i], x.v[i])), x.v[i], otherwise.v[i]));
    return x;
}
/// 1 where lo <= y <= hi (and x > 0 instead of lo <= y, if positive), else 0.
NOTCH_OP acc16 in_range(f32x16 y, f32x16 lo, f32x16 hi, acc16 x, bool positive) {
    acc16 r;
    NOTCH_EACH4({
        const uint32x4_t low = positive ? vcgtzq_s32(x.v[i]) : vcgeq_f32(y.v[i], lo.v[i]);
        r.v[i] = vreinterpretq_s32_u32(vshrq_n_u32(vandq_u32(low, vcleq_f32(y.v[i], hi.v[i])), 31));
    })
    return r;
}
/// requantize_fixed_double of zero point 0: min(max(divide_by_pot(doubling_high_mul(x << left, mantissa), right), lo),
/// hi), left and right being the shift by its sign. vrshl rounds halves up; one less makes that away from 0 below 0.
NOTCH_OP acc16 fixed_steps(acc16 x, acc16 mantissa, acc16 shift, acc16 lo, acc16 hi) {
    const int32x4_t zero = vdupq_n_s32(0);
    NOTCH_EACH4({
        const int32x4_t right = vminq_s32(shift.v[i], zero); // negative: to the right
        const int32x4_t high = vqrdmulhq_s32(vshlq_s32(x.v[i], vmaxq_s32(shift.v[i], zero)), mantissa.v[i]);
        const int32x4_t y = vrshlq_s32(vqaddq_s32(high, vshrq_n_s32(vandq_s32(high, right), 31)), right);
        x.v[i] = vminq_s32(vmaxq_s32(y, lo.v[i]), hi.v[i]);
    })
    return x;
}
/// Without clamp, for |x| < 2^30 and shifts of -31..0 (epilogue_args::bounded).
struct round_factors {
    acc16 mantissa, shift;
};
NOTCH_OP round_factors make_factors(acc16 mantissa, acc16 shift) { return {mantissa, shift}; }
NOTCH_OP acc16 rounded_steps(acc16 x, const round_factors& f) {
    NOTCH_EACH4({
        const int32x4_t high = vqrdmulhq_s32(x.v[i], f.mantissa.v[i]);
        x.v[i] = vrshlq_s32(vaddq_s32(high, vshrq_n_s32(vandq_s32(high, f.shift.v[i]), 31)), f.shift.v[i]);
    })
    return x;
}
/// a * low half of w + b * high half of w; a, b in 0..255.
NOTCH_OP acc16 mul_pairs(acc16 a, acc16 b, acc16 w) {
    NOTCH_EACH4(a.v[i] = vmlaq_s32(vmulq_s32(a.v[i], vshrq_n_s32(vshlq_n_s32(w.v[i], 16), 16)), b.v[i],
                                   vshrq_n_s32(w.v[i], 16)));
    return a;
}

/// clamp(float(v) * m + bias) as bits where the mask says so, else v.
using float_mask = uint32x4_t;
NOTCH_OP float_mask make_float_mask(bool floats) { return vdupq_n_u32(floats ? ~0u : 0u); }
NOTCH_OP acc16 floats_or_sums(acc16 v, const float* m, const float* bias, float lo, float hi, float_mask floats) {
    const acc16 y =
        bits_of(min(max(add_rounded(mul(to_f32(v), load_f32(m)), load_f32(bias)), set_f32(lo)), set_f32(hi)));
    NOTCH_EACH4(v.v[i] = vbslq_s32(floats, y.v[i], v.v[i]));
    return v;
}

// --- the register path of the epilogue ---------------------------------------------------------

struct code_stage {
    int16x8_t zero_point;
    uint8x16_t lo, hi;
    bool is_u8, full;
};
NOTCH_OP code_stage make_stage(const epilogue_args& ep) {
    code_stage s;
    s.zero_point = vdupq_n_s16(static_cast<std::int16_t>(ep.zero_point));
    s.lo = vdupq_n_u8(static_cast<std::uint8_t>(ep.lo));
    s.hi = vdupq_n_u8(static_cast<std::uint8_t>(ep.hi));
    s.is_u8 = ep.store == store_kind::u8;
    s.full = s.is_u8 ? ep.lo == 0 && ep.hi == 255 : ep.lo == -128 && ep.hi == 127;
    return s;
}
/// float(acc) * multiplier, rounded to even; the products are bounded (see epilogue_args).
NOTCH_OP int32x4_t scale_round(int32x4_t acc, float32x4_t multiplier) {
    return vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(acc), multiplier));
}
/// 16 steps -> 16 codes.
NOTCH_OP uint8x16_t pack_codes(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d, const code_stage& s) {
    const int16x8_t ab = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), s.zero_point);
    const int16x8_t cd = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(c), d), s.zero_point);
    if (s.is_u8) {
        const uint8x16_t v = vqmovun_high_s16(vqmovun_s16(ab), cd);
        return s.full ? v : vminq_u8(vmaxq_u8(v, s.lo), s.hi);
    }
    const int8x16_t v = vqmovn_high_s16(vqmovn_s16(ab), cd);
    return vreinterpretq_u8_s8(s.full ? v
                                      : vminq_s8(vmaxq_s8(v, vreinterpretq_s8_u8(s.lo)), vreinterpretq_s8_u8(s.hi)));
}
template <int MR, int NP>
NOTCH_OP void store_codes(const epilogue_args& ep, const code_stage& stage, acc16 (&acc)[MR][NP], index_t channel,
                          index_t cols, std::uint8_t* c, index_t ldc) {
    static_assert(NP == 1);
    const f32x16 m = load_f32(ep.multiplier + channel);
    NOTCH_UNROLL
    for (int i = 0; i < MR; ++i) {
        const acc16 v = acc[i][0];
        store_bytes16(c + i * ldc,
                      pack_codes(scale_round(v.v[0], m.v[0]), scale_round(v.v[1], m.v[1]), scale_round(v.v[2], m.v[2]),
                                 scale_round(v.v[3], m.v[3]), stage),
                      cols);
    }
}

// --- four bytes of a row -------------------------------------------------------------------------

/// p[0..3] in the first lane. A plain load into a vector register: vld1_dup and vld1_lane would need
/// the vector pipes as well.
using quad_of_bytes [[gnu::may_alias, gnu::aligned(1)]] = std::uint32_t;
NOTCH_OP uint8x8_t load_quad(const std::uint8_t* p) {
    uint8x8_t v;
    __asm__("ldr %s0, %1" : "=w"(v) : "m"(*reinterpret_cast<const quad_of_bytes*>(p)));
    return v;
}
NOTCH_OP uint8x8_t set_quad(std::uint32_t quad) { return vreinterpret_u8_u32(vdup_n_u32(quad)); }

// --- native vectors of bytes -------------------------------------------------------------------

template <bool Full> NOTCH_OP nvec load_nbytes(const std::uint8_t* p, index_t n) {
    return vreinterpretq_s32_u8(Full ? vld1q_u8(p) : load_bytes16(p, n));
}
template <bool Full> NOTCH_OP void store_nbytes(std::uint8_t* p, nvec v, index_t n) {
    store_bytes16(p, vreinterpretq_u8_s32(v), Full ? 16 : n);
}
/// Each byte plus 128: s8 codes become u8.
NOTCH_OP nvec nflip(nvec v) { return vreinterpretq_s32_u8(veorq_u8(vreinterpretq_u8_s32(v), vdupq_n_u8(0x80))); }
/// sum + the sum of the bytes, spread over the lanes.
NOTCH_OP nvec nsum_bytes(nvec sum, nvec v) {
    return vreinterpretq_s32_u32(vpadalq_u16(vreinterpretq_u32_s32(sum), vpaddlq_u8(vreinterpretq_u8_s32(v))));
}
NOTCH_OP std::int32_t nsum_lanes(nvec v) { return vaddvq_s32(v); }
NOTCH_OP nvec nmax_u8(nvec a, nvec b) {
    return vreinterpretq_s32_u8(vmaxq_u8(vreinterpretq_u8_s32(a), vreinterpretq_u8_s32(b)));
}
// A register has no room for the channels of two pixels: bodies do not use halves (byte_width > 16).
NOTCH_OP nvec load_halves(const std::uint8_t* p, const std::uint8_t*, index_t n) { return load_nbytes<false>(p, n); }
NOTCH_OP void store_halves(std::uint8_t* p, std::uint8_t*, nvec v, index_t n) { store_nbytes<false>(p, v, n); }
template <class V> NOTCH_OP V repeat_half(V v) { return v; }
NOTCH_OP nvec load_n32(const std::int32_t* p) { return vld1q_s32(p); }
NOTCH_OP nfloat load_n32(const float* p) { return vld1q_f32(p); }
NOTCH_OP void store_n32(std::int32_t* p, nvec v) { vst1q_s32(p, v); }
NOTCH_OP void interleave(nvec (&t)[4]) {
    const uint8x16_t t0 = vreinterpretq_u8_s32(t[0]), t1 = vreinterpretq_u8_s32(t[1]);
    const uint8x16_t t2 = vreinterpretq_u8_s32(t[2]), t3 = vreinterpretq_u8_s32(t[3]);
    const uint16x8_t l01 = vreinterpretq_u16_u8(vzip1q_u8(t0, t1)), h01 = vreinterpretq_u16_u8(vzip2q_u8(t0, t1));
    const uint16x8_t l23 = vreinterpretq_u16_u8(vzip1q_u8(t2, t3)), h23 = vreinterpretq_u16_u8(vzip2q_u8(t2, t3));
    t[0] = vreinterpretq_s32_u16(vzip1q_u16(l01, l23));
    t[1] = vreinterpretq_s32_u16(vzip2q_u16(l01, l23));
    t[2] = vreinterpretq_s32_u16(vzip1q_u16(h01, h23));
    t[3] = vreinterpretq_s32_u16(vzip2q_u16(h01, h23));
}
/// In each dword: byte 0 * low half of w + byte 2 * high half of w; bytes 1 and 3 are 0.
NOTCH_OP nvec nmul_pairs(nvec v, std::int32_t w) {
    const int16x8_t x = vreinterpretq_s16_s32(v), y = vreinterpretq_s16_s32(vdupq_n_s32(w));
    return vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y));
}
NOTCH_OP nvec set_n32(std::int32_t v) { return vdupq_n_s32(v); }
NOTCH_OP nfloat set_nfloat(float v) { return vdupq_n_f32(v); }
NOTCH_OP nvec nadd(nvec a, nvec b) { return vaddq_s32(a, b); }
NOTCH_OP nvec pack_ncodes(const epilogue_args& ep, const nvec (&acc)[4], const nfloat (&m)[4]) {
    return vreinterpretq_s32_u8(pack_codes(scale_round(acc[0], m[0]), scale_round(acc[1], m[1]),
                                           scale_round(acc[2], m[2]), scale_round(acc[3], m[3]), make_stage(ep)));
}

#undef NOTCH_EACH4
