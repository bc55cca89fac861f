// SPDX-License-Identifier: Apache-2.0
//
// notch/kernels/arch/scalar.hpp: the same operations in portable C++, at the flags of the
// translation unit. The bodies of the vector kernels run over them, so that their logic can be
// tested anywhere; it is also the fallback of CPUs without kernels of their own.
#pragma once

#include <cmath>
#include <cstdint>

#include <notch/core/config.hpp>
#include <notch/kernels/args.hpp>
#include <notch/simd/target.hpp>

NOTCH_KEYED_BEGIN
namespace arch::scalar {

#define NOTCH_OP inline

inline constexpr const char* gemm_name = "gemm_u8s8_2x16c4__scalar";
inline constexpr int max_panels = 1;
inline constexpr bool use_pairs = false;
inline constexpr int byte_width = 16;
inline constexpr int chains_needed = 1;

struct acc16 {
    std::int32_t v[16];
};
struct f32x16 {
    float v[16];
};
/// 16 bytes, or four int32: a 128-bit lane.
struct nvec {
    std::uint8_t b[16];
    std::int32_t d[4];
};
struct nfloat {
    float v[4];
};
using nweights = const std::int8_t*;
struct a_quad {
    std::int32_t v[4];
};
struct b_quad {
    const std::int8_t* p;
};

template <int NP> constexpr int tile_rows() { return 2; }

#define NOTCH_EACH16(expression)                                                                                       \
    for (int i = 0; i < 16; ++i) expression

NOTCH_OP acc16 set_s32(std::int32_t x) {
    acc16 r;
    NOTCH_EACH16(r.v[i] = x);
    return r;
}
NOTCH_OP f32x16 set_f32(float x) {
    f32x16 r;
    NOTCH_EACH16(r.v[i] = x);
    return r;
}
NOTCH_OP acc16 load_s32(const std::int32_t* p, index_t n = 16) {
    acc16 r;
    NOTCH_EACH16(r.v[i] = i < n ? p[i] : 0);
    return r;
}
NOTCH_OP f32x16 load_f32(const float* p, index_t n = 16) {
    f32x16 r;
    NOTCH_EACH16(r.v[i] = i < n ? p[i] : 0.0f);
    return r;
}
NOTCH_OP acc16 load_u8(const std::uint8_t* p, index_t n) {
    acc16 r;
    NOTCH_EACH16(r.v[i] = i < n ? p[i] : 0);
    return r;
}
NOTCH_OP acc16 load_s8(const std::uint8_t* p, index_t n) {
    acc16 r;
    NOTCH_EACH16(r.v[i] = i < n ? static_cast<std::int8_t>(p[i]) : 0);
    return r;
}
NOTCH_OP void store_s32(std::int32_t* p, acc16 x, index_t n) {
    for (index_t i = 0; i < n; ++i) p[i] = x.v[i];
}
/// The bits of the lanes, whatever type of four bytes stands at p.
NOTCH_OP void store_bits(void* p, acc16 x, index_t n) { __builtin_memcpy(p, x.v, static_cast<std::size_t>(4 * n)); }
NOTCH_OP void store_f32(float* p, f32x16 x, index_t n) {
    for (index_t i = 0; i < n; ++i) p[i] = x.v[i];
}
NOTCH_OP void store_bytes(std::uint8_t* p, acc16 x, index_t n) {
    for (index_t i = 0; i < n; ++i) p[i] = static_cast<std::uint8_t>(x.v[i]);
}
NOTCH_OP void store_words(std::uint16_t* p, acc16 x, index_t n) {
    for (index_t i = 0; i < n; ++i) p[i] = static_cast<std::uint16_t>(x.v[i]);
}
NOTCH_OP f32x16 to_f32(acc16 x) {
    f32x16 r;
    NOTCH_EACH16(r.v[i] = static_cast<float>(x.v[i]));
    return r;
}
NOTCH_OP acc16 to_s32(f32x16 x) {
    acc16 r;
    NOTCH_EACH16(r.v[i] = static_cast<std::int32_t>(half_even::round(x.v[i])));
    return r;
}
NOTCH_OP f32x16 mul(f32x16 a, f32x16 b) {
    NOTCH_EACH16(a.v[i] *= b.v[i]);
    return a;
}
NOTCH_OP f32x16 div(f32x16 a, f32x16 b) {
    NOTCH_EACH16(a.v[i] /= b.v[i]);
    return a;
}
NOTCH_OP f32x16 min(f32x16 a, f32x16 b) {
    NOTCH_EACH16(a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i]);
    return a;
}
NOTCH_OP f32x16 max(f32x16 a, f32x16 b) {
    NOTCH_EACH16(a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i]);
    return a;
}
/// Modulo 2^32, like the vector instructions; packing proves that it does not wrap.
NOTCH_OP acc16 add(acc16 a, acc16 b) {
    NOTCH_EACH16(
        a.v[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(a.v[i]) + static_cast<std::uint32_t>(b.v[i])));
    return a;
}
NOTCH_OP acc16 sub(acc16 a, acc16 b) {
    NOTCH_EACH16(
        a.v[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(a.v[i]) - static_cast<std::uint32_t>(b.v[i])));
    return a;
}
NOTCH_OP acc16 mul_s32(acc16 a, acc16 b) {
    NOTCH_EACH16(
        a.v[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(a.v[i]) * static_cast<std::uint32_t>(b.v[i])));
    return a;
}
NOTCH_OP acc16 and_s32(acc16 a, acc16 b) {
    NOTCH_EACH16(a.v[i] &= b.v[i]);
    return a;
}
NOTCH_OP acc16 high_half(acc16 a) {
    NOTCH_EACH16(a.v[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(a.v[i]) >> 16));
    return a;
}
NOTCH_OP acc16 bits_of(f32x16 x) {
    acc16 r;
    __builtin_memcpy(&r, &x, sizeof r);
    return r;
}
NOTCH_OP f32x16 add_rounded(f32x16 a, f32x16 b) {
    NOTCH_EACH16(a.v[i] = rounded(a.v[i]) + b.v[i]);
    return a;
}
NOTCH_OP f32x16 round(f32x16 x) {
    NOTCH_EACH16(x.v[i] = half_even::round(x.v[i]));
    return x;
}
NOTCH_OP f32x16 nan_to_zero(f32x16 x) {
    NOTCH_EACH16(x.v[i] = x.v[i] == x.v[i] ? x.v[i] : 0.0f);
    return x;
}
NOTCH_OP f32x16 finite_or(f32x16 x, f32x16 otherwise) {
    NOTCH_EACH16(x.v[i] = x.v[i] - x.v[i] == 0.0f ? x.v[i] : otherwise.v[i]);
    return x;
}
NOTCH_OP acc16 in_range(f32x16 y, f32x16 lo, f32x16 hi, acc16 x, bool positive) {
    acc16 r;
    NOTCH_EACH16(r.v[i] = (positive ? x.v[i] > 0 : y.v[i] >= lo.v[i]) && y.v[i] <= hi.v[i] ? 1 : 0);
    return r;
}
NOTCH_OP acc16 fixed_steps(acc16 x, acc16 mantissa, acc16 shift, acc16 lo, acc16 hi) {
    NOTCH_EACH16(x.v[i] = requantize_fixed_double(x.v[i], {mantissa.v[i], shift.v[i]}, 0, {lo.v[i], hi.v[i]}));
    return x;
}
struct round_factors {
    acc16 mantissa, shift;
};
NOTCH_OP round_factors make_factors(acc16 mantissa, acc16 shift) { return {mantissa, shift}; }
NOTCH_OP acc16 rounded_steps(acc16 x, const round_factors& f) {
    constexpr code_range all{-2147483647 - 1, 2147483647};
    NOTCH_EACH16(x.v[i] = requantize_fixed_double(x.v[i], {f.mantissa.v[i], f.shift.v[i]}, 0, all));
    return x;
}
NOTCH_OP acc16 mul_pairs(acc16 a, acc16 b, acc16 w) {
    NOTCH_EACH16(a.v[i] = a.v[i] * static_cast<std::int16_t>(w.v[i] & 0xffff) + b.v[i] * (w.v[i] >> 16));
    return a;
}

template <operand_form P> NOTCH_OP a_quad load_a(const std::uint8_t* p) { return {{p[0], p[1], p[2], p[3]}}; }
template <operand_form P> NOTCH_OP a_quad set_a(std::uint32_t q) {
    return {{static_cast<std::int32_t>(q & 255), static_cast<std::int32_t>(q >> 8 & 255),
             static_cast<std::int32_t>(q >> 16 & 255), static_cast<std::int32_t>(q >> 24)}};
}
template <operand_form P> NOTCH_OP b_quad load_b(const std::int8_t* p) { return {p}; }
template <operand_form P> NOTCH_OP void dot(acc16& acc, a_quad a, b_quad b) {
    acc16 sum;
    NOTCH_EACH16(sum.v[i] =
                     a.v[0] * b.p[4 * i] + a.v[1] * b.p[4 * i + 1] + a.v[2] * b.p[4 * i + 2] + a.v[3] * b.p[4 * i + 3]);
    acc = add(acc, sum);
}
/// clamp(float(v) * m + bias) as bits where the mask says so, else v.
using float_mask = bool;
NOTCH_OP float_mask make_float_mask(bool floats) { return floats; }
NOTCH_OP acc16 floats_or_sums(acc16 v, const float* m, const float* bias, float lo, float hi, float_mask floats) {
    return floats
               ? bits_of(min(max(add_rounded(mul(to_f32(v), load_f32(m)), load_f32(bias)), set_f32(lo)), set_f32(hi)))
               : v;
}
struct code_stage {};
NOTCH_OP code_stage make_stage(const epilogue_args&) { return {}; }
template <int MR, int NP>
NOTCH_OP void store_codes(const epilogue_args& ep, const code_stage&, acc16 (&acc)[MR][NP], index_t channel,
                          index_t cols, std::uint8_t* c, index_t ldc) {
    for (int i = 0; i < MR; ++i)
        for (index_t j = 0; j < cols; ++j)
            c[i * ldc + j] = static_cast<std::uint8_t>(
                requantize_float(acc[i][0].v[j], ep.multiplier[channel + j], ep.zero_point, {ep.lo, ep.hi}));
}

template <bool Full> NOTCH_OP nvec load_nbytes(const std::uint8_t* p, index_t n) {
    nvec r{};
    for (index_t i = 0; i < 16 && i < n; ++i) r.b[i] = p[i];
    return r;
}
template <bool Full> NOTCH_OP void store_nbytes(std::uint8_t* p, nvec x, index_t n) {
    for (index_t i = 0; i < n; ++i) p[i] = x.b[i];
}
NOTCH_OP nvec nflip(nvec v) {
    NOTCH_EACH16(v.b[i] ^= 0x80);
    return v;
}
NOTCH_OP nvec nsum_bytes(nvec sum, nvec v) {
    NOTCH_EACH16(sum.d[i % 4] += v.b[i]);
    return sum;
}
NOTCH_OP std::int32_t nsum_lanes(nvec v) { return v.d[0] + v.d[1] + v.d[2] + v.d[3]; }
NOTCH_OP nvec nmax_u8(nvec a, nvec b) {
    NOTCH_EACH16(a.b[i] = a.b[i] > b.b[i] ? a.b[i] : b.b[i]);
    return a;
}
NOTCH_OP nvec load_halves(const std::uint8_t* p, const std::uint8_t*, index_t n) { return load_nbytes<false>(p, n); }
NOTCH_OP void store_halves(std::uint8_t* p, std::uint8_t*, nvec x, index_t n) { store_nbytes<false>(p, x, n); }
NOTCH_OP nvec load_n32(const std::int32_t* p) { return {{}, {p[0], p[1], p[2], p[3]}}; }
NOTCH_OP nfloat load_n32(const float* p) { return {p[0], p[1], p[2], p[3]}; }
template <class V> NOTCH_OP V repeat_half(V v) { return v; }
NOTCH_OP void store_n32(std::int32_t* p, nvec x) {
    for (int i = 0; i < 4; ++i) p[i] = x.d[i];
}
NOTCH_OP void interleave(nvec (&t)[4]) {
    nvec r[4] = {};
    for (int c = 0; c < 16; ++c)
        for (int i = 0; i < 4; ++i) r[c / 4].b[4 * (c % 4) + i] = t[i].b[c];
    for (int i = 0; i < 4; ++i) t[i] = r[i];
}
template <bool Halves> NOTCH_OP nweights load_nweights(const std::int8_t* w) { return w; }
NOTCH_OP void ndot(nvec& acc, nvec a, nweights w) {
    for (int c = 0; c < 4; ++c) {
        std::int32_t sum = 0;
        for (int i = 0; i < 4; ++i) sum += a.b[4 * c + i] * w[4 * c + i];
        acc.d[c] = static_cast<std::int32_t>(static_cast<std::uint32_t>(acc.d[c]) + static_cast<std::uint32_t>(sum));
    }
}
/// In each dword: byte 0 * low half of w + byte 2 * high half of w; bytes 1 and 3 are 0.
NOTCH_OP nvec nmul_pairs(nvec v, std::int32_t w) {
    for (int i = 0; i < 4; ++i)
        v.d[i] =
            v.b[4 * i] * static_cast<std::int16_t>(w & 0xffff) + v.b[4 * i + 2] * static_cast<std::int16_t>(w >> 16);
    return v;
}
NOTCH_OP nvec set_n32(std::int32_t v) { return {{}, {v, v, v, v}}; }
NOTCH_OP nfloat set_nfloat(float v) { return {{v, v, v, v}}; }
NOTCH_OP nvec nadd(nvec a, nvec b) {
    for (int i = 0; i < 4; ++i) a.d[i] += b.d[i];
    return a;
}
NOTCH_OP nvec pack_ncodes(const epilogue_args& ep, const nvec (&acc)[4], const nfloat (&m)[4]) {
    nvec r{};
    NOTCH_EACH16(r.b[i] = static_cast<std::uint8_t>(
                     requantize_float(acc[i / 4].d[i % 4], m[i / 4].v[i % 4], ep.zero_point, {ep.lo, ep.hi})));
    return r;
}

#undef NOTCH_EACH16
#undef NOTCH_OP
} // namespace arch::scalar
NOTCH_KEYED_END
