// SPDX-License-Identifier: Apache-2.0
//
// Block formats against a slow definition in double: exponents by frexp, codes by search, bits one by one.
#include "../catch.hpp"

#include <array>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include <notch/scheme/block_format.hpp>
#include <notch/scheme/half.hpp>

using namespace notch;
using bytes = std::vector<std::uint8_t>;

// The limits of the MX specification, and constexpr.
static_assert(mx_int8::encode(1.0f) == 64 && mx_int8::encode(-2.0f) == 0x81 && mx_int8::decode(0x80) == -2.0f);
static_assert(mx_int8::encode(0x1.8p-6f) == 2 && mx_int8::encode(0x1.4p-5f) == 2 && mx_int8::max() == 1.984375f);
static_assert(mxfp4::block == 32 && nvfp4::block == 16 && nf4_blocks<>::block == 64);
static_assert(block_count<mxfp4>(0) == 0 && block_count<mxfp4>(32) == 1 && block_count<mxfp4>(33) == 2);

namespace {

unsigned code_at(const bytes& packed, std::size_t i, int bits) {
    unsigned code = 0;
    for (int b = 0; b < bits; ++b) {
        const std::size_t k = i * static_cast<std::size_t>(bits) + static_cast<std::size_t>(b);
        code |= (packed[k / 8] >> k % 8 & 1u) << b;
    }
    return code;
}

/// The code whose value is nearest to x, among finite ones; halfway the even one, for NF4 the lower one.
template <class Element> unsigned nearest(double x) {
    unsigned best = 0;
    double distance = INFINITY;
    for (unsigned c = 0; c < 1u << Element::bits; ++c) {
        const double v = static_cast<double>(Element::decode(c));
        if (!std::isfinite(v) || (v == 0 && std::signbit(v))) continue;
        if (std::is_same_v<Element, mx_int8> && c == 128) continue; // left out, for symmetry
        const double d = std::fabs(v - x);
        const bool tie_up = d == distance && !std::is_same_v<Element, nf4> && c % 2 == 0;
        if (d < distance || tie_up) {
            best = c;
            distance = d;
        }
    }
    // Floats keep the sign of 0.
    constexpr bool is_float = !std::is_same_v<Element, mx_int8> && !std::is_same_v<Element, nf4>;
    return is_float && best == 0 && std::signbit(x) ? 1u << (Element::bits - 1) : best;
}

/// The largest finite magnitude of a block.
float amax_of(const std::vector<float>& x, std::size_t first, std::size_t end) {
    float amax = 0;
    for (std::size_t i = first; i < end; ++i)
        if (std::isfinite(x[i])) amax = std::max(amax, std::fabs(x[i]));
    return amax;
}

/// The code of 2^(floor(log2(amax)) - floor(log2(largest))).
std::uint8_t slow_scale(float amax, double largest) {
    int exponent = 0, top = 0;
    (void)std::frexp(static_cast<double>(amax), &exponent); // amax = m 2^exponent, m in [1/2, 1)
    (void)std::frexp(largest, &top);
    const int shared = amax == 0 ? -127 : std::max(-127, exponent - top);
    return static_cast<std::uint8_t>(shared + 127);
}

template <class Format> struct quantized {
    bytes codes;
    std::vector<typename Format::scale_type> scales;
    std::vector<float> values;
    explicit quantized(const std::vector<float>& x, float tensor_scale = 1.0f)
        : codes(static_cast<std::size_t>(packed_size<typename Format::element>(static_cast<index_t>(x.size()))), 0xaa),
          scales(static_cast<std::size_t>(block_count<Format>(static_cast<index_t>(x.size())))), values(x.size()) {
        quantize_blocks<Format>(x, codes, scales, tensor_scale);
        dequantize_blocks<Format>(codes, scales, values, tensor_scale);
    }
};

std::vector<float> random_values(std::mt19937& g, std::size_t n) {
    // Blocks of very different sizes, zeros, powers of two and ties among the values.
    std::vector<float> x(n);
    int exponent = 0;
    for (std::size_t i = 0; i < n; ++i) {
        if (i % 16 == 0) exponent = static_cast<int>(g() % 8 ? g() % 20 : g() % 275) - (g() % 8 ? 10 : 148);
        const int steps = static_cast<int>(g() % 513) - 256;
        x[i] = g() % 3 == 0 ? std::ldexp(static_cast<float>(steps), exponent - 8)
                            : std::ldexp(static_cast<float>(static_cast<int>(g() % 200001) - 100000), exponent - 17);
        if (g() % 20 == 0) x[i] = g() % 2 ? 0.0f : -0.0f;
        if (!std::isfinite(x[i])) x[i] = 1.0f;
    }
    return x;
}

/// MX: the power of two is exact, so the search in double needs no rounding before it.
template <class Format> void check_mx() {
    using element = typename Format::element;
    std::mt19937 g(7);
    index_t wrong = 0;
    for (std::size_t n = 0; n < 200; ++n) {
        const std::vector<float> x = random_values(g, n);
        const quantized<Format> q(x);
        for (std::size_t b = 0; b < q.scales.size(); ++b) {
            const std::size_t first = b * 32, end = std::min(n, first + 32);
            const std::uint8_t want = slow_scale(amax_of(x, first, end), static_cast<double>(element::max()));
            wrong += q.scales[b] != want;
            const double scale = std::ldexp(1.0, want - 127);
            for (std::size_t i = first; i < end; ++i) {
                const unsigned code = nearest<element>(static_cast<double>(x[i]) / scale);
                wrong += code_at(q.codes, i, element::bits) != code;
                wrong += static_cast<double>(q.values[i]) != static_cast<double>(element::decode(code)) * scale;
            }
        }
        // What was quantized once stays what it is.
        const quantized<Format> again(q.values);
        wrong += again.codes != q.codes || again.scales != q.scales;
    }
    CHECK(wrong == 0);
    // Every code under every scale: the largest element fixes the scale.
    for (unsigned s = 0; s <= 254u - static_cast<unsigned>(element::max_exponent); ++s) {
        const bytes scales(9, static_cast<std::uint8_t>(s));
        std::vector<unsigned> all;
        for (unsigned c = 0; c < 1u << element::bits; ++c) {
            if (all.size() % 32 == 0) all.push_back(nearest<element>(static_cast<double>(element::max())));
            if (std::isfinite(element::decode(c)) && !(std::is_same_v<element, mx_int8> && c == 128)) all.push_back(c);
        }
        bytes codes(static_cast<std::size_t>(packed_size<element>(static_cast<index_t>(all.size()))));
        for (std::size_t i = 0; i < all.size(); ++i)
            for (int k = 0; k < element::bits; ++k) {
                const std::size_t at = i * static_cast<std::size_t>(element::bits) + static_cast<std::size_t>(k);
                codes[at / 8] = static_cast<std::uint8_t>(codes[at / 8] | (all[i] >> k & 1u) << at % 8);
            }
        std::vector<float> values(all.size());
        const auto blocks = static_cast<std::size_t>(block_count<Format>(static_cast<index_t>(all.size())));
        dequantize_blocks<Format>(codes, std::span(scales).first(blocks), values);
        const quantized<Format> q(values);
        wrong += q.codes != codes || q.scales != bytes(blocks, static_cast<std::uint8_t>(s));
    }
    CHECK(wrong == 0);
}

} // namespace

TEST_CASE("the INT8 element of MX: every code, every float16, every rounding boundary") {
    index_t wrong = 0;
    for (int c = -127; c <= 127; ++c) {
        const auto code = static_cast<std::uint8_t>(c);
        wrong +=
            mx_int8::decode(code) != static_cast<float>(c) / 64.0f || mx_int8::encode(mx_int8::decode(code)) != code;
        const float middle = (static_cast<float>(c) + 0.5f) / 64.0f; // between c and c + 1
        const int up = c < 127 ? c + 1 : 127;
        wrong += mx_int8::encode(middle) != static_cast<std::uint8_t>(c % 2 ? up : c);
        wrong += mx_int8::encode(std::nextafter(middle, -9.0f)) != code;
        wrong += mx_int8::encode(std::nextafter(middle, 9.0f)) != static_cast<std::uint8_t>(up);
    }
    for (unsigned h = 0; h < 65536; ++h) {
        const float x = from_float16(static_cast<std::uint16_t>(h));
        const float steps = std::nearbyint(x * 64.0f);
        const float want = std::isnan(x) ? 0.0f : steps < -127 ? -127.0f : steps > 127 ? 127.0f : steps;
        wrong += mx_int8::encode(x) != static_cast<std::uint8_t>(static_cast<int>(want));
    }
    CHECK(wrong == 0);
}

TEST_CASE("MXFP8 and MXINT8 are what the MX specification defines") {
    check_mx<mxfp8_e4m3>();
    check_mx<mxfp8_e5m2>();
    check_mx<mxint8>();
}

TEST_CASE("MXFP6 and MXFP4 are what the MX specification defines") {
    check_mx<mxfp6_e2m3>();
    check_mx<mxfp6_e3m2>();
    check_mx<mxfp4>();
}

TEST_CASE("MXFP4 by hand") {
    // amax = 7, floor(log2) = 2, emax = 2: scale 1. 7 saturates at 6; 2.5, 3.5 and 5 are ties.
    const quantized<mxfp4> q({7.0f, -7.0f, 2.5f, 3.5f, 5.0f, -0.25f, 0.3f});
    CHECK(q.scales == bytes{127});
    CHECK(q.values == std::vector<float>{6, -6, 2, 4, 4, -0.0f, 0.5f});
    CHECK(q.codes == bytes{0xf7, 0x64, 0x86, 0x01});
    CHECK(quantized<mxfp4>({8.0f, 1.0f}).scales == bytes{128});
    CHECK(quantized<mxfp4>({7.99f}).scales == bytes{127});
}

TEST_CASE("NVFP4: an E4M3 scale for 16 values and one float for all") {
    std::mt19937 g(9);
    index_t wrong = 0;
    for (std::size_t n = 0; n < 150; ++n) {
        const std::vector<float> x = random_values(g, n);
        const float t = nvfp4_tensor_scale(amax_of(x, 0, n));
        const quantized<nvfp4> q(x, t);
        for (std::size_t b = 0; b < q.scales.size(); ++b) {
            const std::size_t first = b * 16, end = std::min(n, first + 16);
            const float wanted = amax_of(x, first, end) / 6.0f / t;
            wrong += q.scales[b] != nearest<fp8_e4m3>(static_cast<double>(wanted));
            const float s = fp8_e4m3::decode(q.scales[b]) * t;
            for (std::size_t i = first; i < end; ++i) {
                const unsigned code = s > 0 ? nearest<fp4_e2m1>(static_cast<double>(x[i] / s)) : 0;
                wrong += code_at(q.codes, i, 4) != code || q.values[i] != fp4_e2m1::decode(code) * s;
            }
        }
    }
    CHECK(wrong == 0);
    // Every scale and code: given the scales, values come back as the codes they were.
    for (unsigned s = 1; s < 0x7f; ++s) {
        std::vector<float> x;
        for (unsigned c = 0; c < 16; ++c) x.push_back(fp4_e2m1::decode(c) * (fp8_e4m3::decode(s) * 0.3f));
        const quantized<nvfp4> q(x, 0.3f);
        wrong += q.scales[0] != s || q.values != x;
        for (unsigned c = 0; c < 16; ++c) wrong += code_at(q.codes, c, 4) != c;
    }
    CHECK(wrong == 0);
    // The largest value of a tensor is kept: 6 * 448 steps of the tensor's scale.
    CHECK(nvfp4_tensor_scale(2688.0f) == 1.0f);
    const quantized<nvfp4> q({2688.0f, -1344.0f}, 1.0f);
    CHECK(q.values == std::vector<float>{2688.0f, -1344.0f});
    CHECK(nvfp4_tensor_scale(0.0f) == 1.0f);
    CHECK(nvfp4_tensor_scale(1e-45f) * 0x1p-9f >= FLT_MIN);
    // A block far below the rest has no scale: zeros, not NaN.
    CHECK(quantized<nvfp4>({1e-6f, -1e-6f}, 1.0f).values == std::vector<float>{0, 0});
}

TEST_CASE("NF4 blocks: the largest magnitude, and the nearest of the sixteen values") {
    std::mt19937 g(11);
    index_t wrong = 0;
    for (std::size_t n = 0; n < 200; ++n) {
        const std::vector<float> x = random_values(g, n);
        const quantized<nf4_blocks<>> q(x);
        for (std::size_t b = 0; b < q.scales.size(); ++b) {
            const std::size_t first = b * 64, end = std::min(n, first + 64);
            const float s = amax_of(x, first, end);
            wrong += q.scales[b] != s;
            for (std::size_t i = first; i < end; ++i) {
                const unsigned code = s > 0 ? nearest<nf4>(static_cast<double>(x[i] / s)) : 7;
                wrong += code_at(q.codes, i, 4) != code || q.values[i] != nf4::decode(code) * s;
            }
        }
        const quantized<nf4_blocks<>> again(q.values);
        // A tiny scale may leave too few bits for sixteen values.
        bool tiny = false;
        for (float s : q.scales) tiny = tiny || s < 0x1p-120f;
        if (!tiny) wrong += again.codes != q.codes || again.scales != q.scales;
    }
    CHECK(wrong == 0);
    // Blocks whose length is no multiple of 8 codes.
    std::vector<float> x(31);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 5) - 2.0f;
    const quantized<nf4_blocks<5>> q(x);
    CHECK(q.scales == std::vector<float>{2, 2, 2, 2, 2, 2, 2});
    for (std::size_t i = 0; i < 30; ++i) CHECK(code_at(q.codes, i, 4) == (std::array{0u, 2u, 7u, 12u, 15u})[i % 5]);
}

TEST_CASE("values that are not finite: infinities saturate, NaN stays in its block") {
    std::vector<float> x(40, 1.0f);
    x[3] = INFINITY;
    x[4] = -INFINITY;
    x[33] = NAN;
    const quantized<mxfp8_e4m3> fp8(x);
    CHECK(fp8.scales == bytes{119, 119}); // of the finite values
    CHECK(fp8.values[3] == 448.0f / 256.0f);
    CHECK(fp8.values[4] == -448.0f / 256.0f);
    CHECK(fp8.values[0] == 1.0f);
    CHECK(std::isnan(fp8.values[33]));
    CHECK(fp8.values[34] == 1.0f);
    const quantized<mxfp4> fp4(x);
    CHECK(fp4.scales == bytes{125, 255});
    CHECK(fp4.values[3] == 1.5f);
    CHECK(fp4.values[0] == 1.0f);
    for (std::size_t i = 32; i < 40; ++i) CHECK(std::isnan(fp4.values[i]));
    CHECK(std::isnan(quantized<mxint8>({1.0f, NAN}).values[0]));
    const quantized<nvfp4> nv(x, 0.01f);
    CHECK(nv.scales[2] == 0x7f);
    CHECK(std::isnan(nv.values[39]));
    CHECK(nv.values[16] == Approx(1.0f).epsilon(0.07));
    const quantized<nf4_blocks<32>> nf(x);
    CHECK(nf.values[3] == 1.0f);
    CHECK(std::isnan(nf.scales[1]));
    CHECK(std::isnan(nf.values[32]));
    // Nothing but zeros.
    CHECK(quantized<mxfp4>({0.0f, -0.0f}).scales == bytes{0});
    CHECK(quantized<nf4_blocks<>>({0.0f}).values == std::vector<float>{0.0f});
    CHECK(quantized<nvfp4>({0.0f}).scales == bytes{0});
}

TEST_CASE("block formats refuse wrong sizes and scales") {
    const std::vector<float> x(33);
    bytes codes(17), scales(2);
    std::vector<float> y(33);
    const std::span<std::uint8_t> c(codes), s(scales);
    CHECK_THROWS_WITH(quantize_blocks<mxfp4>(x, c.first(16), s), contains_text("the size of codes is 16, expected 17"));
    CHECK_THROWS_WITH(quantize_blocks<mxfp4>(x, c, s.first(1)), contains_text("the number of scales is 1, expected 2"));
    CHECK_THROWS_WITH(quantize_blocks<mxfp4>(x, c, s, 2.0f), contains_text("this format has none"));
    CHECK_THROWS_WITH(dequantize_blocks<mxfp6_e3m2>(c, s, y),
                      contains_text("dequantize_blocks: the size of codes is 17, expected 25"));
    bytes three(3);
    for (float bad : {0.0f, -1.0f, INFINITY, NAN})
        CHECK_THROWS_WITH(quantize_blocks<nvfp4>(x, c, three, bad), contains_text("tensor_scale"));
    for (float bad : {-1.0f, INFINITY, NAN}) CHECK_THROWS_AS(nvfp4_tensor_scale(bad), error);
}
